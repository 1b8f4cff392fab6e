"""Many rows or numbers as one value, which a statement takes apart: it is the same statement however many.

Thousands of values of their own cost more to write down than to look up, and SQLite has a limit to them.
Must not know: what the tables are for.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    Select,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

ROWS: Final = "rows"  # what the statement calls them


def selected(table: Table, names: Sequence[str]) -> dict[str, Select[Any]]:
    """Columns of a table out of such rows, by the dialect's name."""
    columns = [table.c[name] for name in names]
    each = func.json_each(bindparam(ROWS)).table_valued("value")
    taken = [func.json_extract(each.c.value, f"$.{name}") for name in names]
    typed = [column(it.name, BigInteger if isinstance(it.type, Integer) else it.type) for it in columns]
    records = func.json_to_recordset(cast(bindparam(ROWS, type_=Text), JSON))
    found = records.table_valued(*typed).render_derived(with_types=True)
    return {
        # Without a condition SQLite takes ON CONFLICT for one of a join.
        "sqlite": select(*taken).where(true()),
        "postgresql": select(*(found.c[name] for name in names)),
    }


def bound(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Such rows for such a statement."""
    return {ROWS: msgspec.json.encode(rows).decode()}


def among(connection: Connection, of: ColumnElement[int], numbers: Collection[int]) -> ColumnElement[bool]:
    """Whether it is one of these."""
    if connection.dialect.name == "postgresql":
        return of == any_(literal(list(numbers), ARRAY(BigInteger)))
    each = func.json_each(literal(msgspec.json.encode(list(numbers)).decode())).table_valued("value")
    return of.in_(select(each.c.value))
