"""Which tables have rows. Of one that has none an audit need not ask what is wrong with them: a book where
nobody sells, buys energy or divides blocks has dozens of those, and hundreds of such questions.

Must not know: what is asked of the others.
"""

from functools import cache

from sqlalchemy import Connection, Select, Table, literal_column, select, union_all
from sqlalchemy.sql.selectable import CompoundSelect


def filled(connection: Connection, *tables: Table) -> frozenset[Table]:
    """Those of them that have rows."""
    return frozenset(tables[at] for at in connection.scalars(_asked(tables)))


@cache
def _asked(tables: tuple[Table, ...]) -> CompoundSelect[int]:
    return union_all(*(_place(at, table) for at, table in enumerate(tables)))


def _place(at: int, table: Table) -> Select[int]:
    return select(literal_column(str(at))).where(select(literal_column("1")).select_from(table).exists())
