"""The hours of journals as the books have them: what `angara reconcile` compares with files.

Written in the transaction that makes the records booked. Must not know: files.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, func, select

from payouts.schemas.upsert import Insert, upserts
from pool.books.journal.hours import Hour, Shares
from pool.books.journal.schema import journal_hour_shares, journal_hours
from pool.journal.frames import Place
from stratum.tallies import Verdict

BEFORE: Final = 0  # the hour of what was booked before there were these sums, or is missing since


def note_hours(connection: Connection, writer: str, hours: Iterable[Hour]) -> None:
    """They are booked, all of them behind what was noted before."""
    for it in hours:
        row = {
            "writer": writer,
            "hour": it.hour,
            "number": it.last.number,
            "digest": it.last.digest.hex(),
            "records": it.records,
        }
        connection.execute(_ADD[connection.dialect.name][journal_hours.name], row)
        rows = [
            {"writer": writer, "hour": it.hour, "difficulty_log2": log2, "verdict": verdict, "shares": shares}
            for (log2, verdict), shares in sorted(it.shares.items())
        ]
        if rows:
            connection.execute(_ADD[connection.dialect.name][journal_hour_shares.name], rows)


def note_missing(connection: Connection, writer: str, last: Place, *, records: int, accepted: int) -> None:
    """So many are not in these books, and never will be: the next is behind `last`."""
    shares = {(0, int(Verdict.ACCEPTED)): accepted} if accepted else {}
    note_hours(connection, writer, [Hour(hour=BEFORE, last=last, records=records, shares=shares)])


def noted_hours(connection: Connection, writer: str, since: int = 0) -> list[Hour]:
    """What the books have of a journal, oldest first: of hours that end with that record or a later one."""
    shares: dict[int, Shares] = defaultdict(dict)
    hours, theirs = journal_hours.c, journal_hour_shares.c
    wanted = (hours.writer == writer) & (hours.number >= since)
    query = select(journal_hour_shares).where(
        theirs.writer == writer, theirs.hour.in_(select(hours.hour).where(wanted))
    )
    for row in connection.execute(query):
        shares[row.hour][row.difficulty_log2, row.verdict] = row.shares
    rows = connection.execute(select(journal_hours).where(wanted).order_by(hours.hour))
    return [_hour(row, shares[row.hour]) for row in rows]


def accepted_noted(connection: Connection, writer: str) -> int:
    """Accepted shares in all hours of a journal."""
    theirs = journal_hour_shares.c
    query = select(func.sum(theirs.shares)).where(
        theirs.writer == writer, theirs.verdict == int(Verdict.ACCEPTED)
    )
    return int(connection.scalar(query) or 0)


def _hour(row: Row[Any], shares: Shares) -> Hour:
    last = Place(row.number, bytes.fromhex(row.digest))
    return Hour(hour=row.hour, last=last, records=row.records, shares=shares)


def _adding(table: Table, new: Insert) -> Insert:
    """Insert a row, or add it to the one that is there."""
    if table is journal_hour_shares:
        sums = {"shares": table.c.shares + new.excluded.shares}
    else:
        sums = {
            "records": table.c.records + new.excluded.records,
            "number": new.excluded.number,
            "digest": new.excluded.digest,
        }
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)


_ADD: Final = upserts(journal_hours, journal_hour_shares, on=_adding)
