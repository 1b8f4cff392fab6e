"""The hours of journals against those that money is computed from: as many accepted shares, of the same
difficulties, and none booked before it was made.

A share is booked in the hour that its record says, or in a later one where it came late. So up to the end of
any hour the hours of rates have no more shares of a difficulty than the journals, and at the end as many: but
for those that another writer had credited (`refused`), for those that no hour of a journal has, which were
booked before hours were noted, and for those of records that are taken in part just now. What is made of the
hours of rates, `angara ledger verify` proves.

Only reads, in the caller's transaction. Must not know: files.
"""

from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, literal, select, union_all

from payouts.audit.finding import Found, Wrong
from payouts.schemas.money import rate_hours
from pool.books.audit.journal import check_positions
from pool.books.journal.hour_rows import BEFORE
from pool.books.journal.positions import accepted_in_hours, positions
from pool.books.journal.schema import journal_hour_shares, journal_hours
from stratum.tallies import Verdict

ROWS_AT_ONCE: Final = 1_000  # of the database in memory: an hour has one for each difficulty


class WrongHour(msgspec.Struct, frozen=True):
    """The first hour up to which more is booked than was made."""

    hour: int
    words: str


class HoursOfMoney(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted shares: `made` as the hours of journals have them, `booked` as those of rates have. Of the
    booked ones `before` are of no hour of a journal, and `under_way` of records that are taken in part; of
    those made `refused` were another writer's, and `late` are booked in a later hour. `wrong` is what
    contradicts in their sums."""

    made: int
    booked: int
    before: int
    under_way: int
    refused: int
    late: int
    difference: WrongHour | None
    wrong: Wrong | None


def hours_of_money(connection: Connection) -> HoursOfMoney:
    """Of one moment of the books."""
    there, booked = positions(connection), accepted_in_hours(connection)
    noted, untold = _noted(connection), _noted(connection, of_no_hour=True)
    before = (there[0].before if there else booked) + untold
    under_way = sum(it.accepted for it in there) - noted
    refused = sum(it.refused for it in there)
    difference, late = _compared(connection, before + under_way)
    return HoursOfMoney(
        made=noted - untold,
        booked=booked,
        before=before,
        under_way=under_way,
        refused=refused,
        late=max(0, late - refused),
        difference=difference,
        wrong=_wrong(connection),
    )


def _compared(connection: Connection, of_none: int) -> tuple[WrongHour | None, int]:
    """The first hour with too much, and how many shares are booked in a later hour, or in none; `of_none` are
    in the hours of rates, and in no journal's."""
    first = connection.scalar(select(func.min(journal_hours.c.hour)).where(journal_hours.c.hour > BEFORE))
    booked, made = defaultdict[int, int](int), defaultdict[int, int](int)
    behind = late = 0  # now, and all that ever were
    for hour, rows in groupby(_rows(connection), key=lambda it: it.hour):
        for row in rows:
            if first is None or hour < first:
                of_none -= int(row.booked)
            else:
                booked[row.difficulty_log2] += int(row.booked)
                made[row.difficulty_log2] += int(row.made)
        if of_none < 0:
            words = f"{-of_none} accepted shares more are booked up to it than there were before journals"
            return WrongHour(hour, words), late
        ahead = {log2: booked[log2] - made[log2] for log2 in booked}
        if sum(it for it in ahead.values() if it > 0) > of_none:
            log2 = max(ahead, key=lambda it: ahead[it])
            words = (
                f"up to its end {booked[log2]} accepted shares of difficulty 2^{log2} are booked, and"
                f" {made[log2]} are in the journals"
            )
            return WrongHour(hour, words), late
        lag = -sum(it for it in ahead.values() if it < 0)
        late += max(0, lag - behind)
        behind = lag
    return None, late


def _rows(connection: Connection) -> Iterator[Any]:
    """By hour and difficulty: booked, and made."""
    money, theirs = rate_hours.c, journal_hour_shares.c
    both = union_all(
        select(
            money.hour,
            money.difficulty_log2,
            (money.shares - money.undelivered).label("booked"),
            literal(0).label("made"),
        ),
        select(theirs.hour, theirs.difficulty_log2, literal(0), theirs.shares).where(
            theirs.verdict == int(Verdict.ACCEPTED), theirs.hour > BEFORE
        ),
    ).subquery()
    key = both.c.hour, both.c.difficulty_log2
    sums = func.sum(both.c.booked).label("booked"), func.sum(both.c.made).label("made")
    query = select(*key, *sums).group_by(*key).order_by(*key)
    with connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
        yield from rows


def _noted(connection: Connection, *, of_no_hour: bool = False) -> int:
    """Accepted shares in the hours of journals; or only those that were booked before hours were noted."""
    theirs = journal_hour_shares.c
    query = select(func.sum(theirs.shares)).where(theirs.verdict == int(Verdict.ACCEPTED))
    return int(connection.scalar(query.where(theirs.hour == BEFORE) if of_no_hour else query) or 0)


def _wrong(connection: Connection) -> Wrong | None:
    try:
        check_positions(connection)
    except Found as found:
        return found.wrong
    return None
