"""Tallies as rows of numbers: added up, and added to the minutes and to the hours of rates.

Each table is one statement for all its rows, which the database takes apart (an array a column on PostgreSQL,
JSON on SQLite): ten thousands of them, one after the other, would keep the interpreter from the miners.

Everything is done in the caller's transaction, which must be the only writer. Must not know: who counted, and
whether it is in the books already.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from sqlalchemy import Connection, TextClause, text

from payouts.sums import ACCEPTED

# A row a tally: its worker, rate, minute, log2 of its difficulty, verdict, shares, and 1 where it is accepted
# at the pool's risk.
Rows = np.ndarray[Any, np.dtype[np.int64]]
WORKER, RATE, MINUTE, LOG2, VERDICT, SHARES, UNDELIVERED = range(7)
NO_ROWS: Final[Rows] = np.zeros((0, 7), dtype=np.int64)
MINUTES_KEY: Final = [MINUTE, WORKER, RATE, LOG2, VERDICT]


def add(connection: Connection, rows: Rows) -> None:
    """To tally_minutes all of them, to rate_hours those that are accepted."""
    minutes = _added_up(rows[:, MINUTES_KEY], rows[:, [SHARES]])
    good = rows[rows[:, VERDICT] == ACCEPTED]
    counts = np.column_stack([good[:, SHARES], good[:, SHARES] * good[:, UNDELIVERED]])
    hours = _added_up(np.column_stack([good[:, RATE], good[:, MINUTE] // 60, good[:, LOG2]]), counts)
    values, statements = _WRITTEN[connection.dialect.name]
    for statement, added in zip(statements, (minutes, hours), strict=True):
        if len(added):
            connection.execute(statement, values(added))


def _added_up(keys: Rows, counts: Rows) -> Rows:
    """A row each key, in their order, with the sums of its counts."""
    order = np.lexsort(keys.T[::-1])
    keys, counts = keys[order], counts[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    sums = np.add.reduceat(counts, np.flatnonzero(first)) if len(keys) else counts
    return np.column_stack([keys[first], sums])


def _as_json(rows: Rows) -> dict[str, str]:
    return {"rows": msgspec.json.encode(rows.tolist()).decode()}


def _as_arrays(rows: Rows) -> dict[str, str]:
    """As PostgreSQL writes arrays: JSON's in other brackets."""
    columns = (msgspec.json.encode(it).decode() for it in rows.T.tolist())
    return {f"column_{at}": f"{{{it[1:-1]}}}" for at, it in enumerate(columns)}


def _adding(from_rows: Callable[[int], str]) -> tuple[TextClause, TextClause]:
    """Add rows to the minutes, and to the hours of rates. `from_rows` selects so many columns of them."""
    minutes = f"""
        INSERT INTO tally_minutes (minute, worker_id, rate_id, difficulty_log2, verdict, shares)
        {from_rows(6)}
        ON CONFLICT (minute, worker_id, rate_id, difficulty_log2, verdict)
        DO UPDATE SET shares = tally_minutes.shares + excluded.shares"""
    hours = f"""
        INSERT INTO rate_hours (rate_id, hour, difficulty_log2, shares, undelivered, settled)
        {from_rows(5).replace(" FROM", ", 0 FROM")}
        ON CONFLICT (rate_id, hour, difficulty_log2)
        DO UPDATE SET shares = rate_hours.shares + excluded.shares,
        undelivered = rate_hours.undelivered + excluded.undelivered"""
    return text(minutes), text(hours)


def _of_json(columns: int) -> str:
    values = ", ".join(f"json_extract(it.value, '$[{at}]')" for at in range(columns))
    return f"SELECT {values} FROM json_each(:rows) AS it WHERE true"  # noqa: S608 - names of ours


def _of_arrays(columns: int) -> str:
    arrays = ", ".join(f"CAST(:column_{at} AS bigint[])" for at in range(columns))
    return f"SELECT it.* FROM unnest({arrays}) AS it"  # noqa: S608 - names of ours


_WRITTEN: Final[dict[str, tuple[Callable[[Rows], dict[str, str]], Sequence[TextClause]]]] = {
    "sqlite": (_as_json, _adding(_of_json)),
    "postgresql": (_as_arrays, _adding(_of_arrays)),
}
