"""What machines drew by what they did: accepted shares, as hashes, times the energy of a hash.

A share of difficulty 2^d stands for 2^(32+d) hashes, a whole number for every d there is. Counted is what a
machine did as it should, whether or not an upstream took it. Joules are floored once for each machine and
span, and are exact before. What a machine draws without having work to show is not in here: booting, paused,
work that was stale or rejected; a meter has it.

Done in the caller's transaction. Must not know: meters.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.many import among
from payouts.schemas.money import tally_hours, tally_minutes, workers
from pool.power.energy.bounds import shares_error_bps, together_bps
from pool.power.figures import Efficiency
from stratum.tallies import MINED

HASHES_LOG2: Final = 32  # of a share of difficulty 1
MJ_HASHES_PER_J_TH: Final = 10**15  # mJ/TH times hashes, in joules
WORKERS_AT_ONCE: Final = 2_000  # that rows are asked for: an index entry each
MINED_VERDICTS: Final = tuple(int(it) for it in MINED)


class Work(msgspec.Struct):
    """Of a machine, or of some: hashes, and the sum of the squares of what each share stood for."""

    hashes: int = 0
    squares: int = 0

    def add(self, shares: int, log2: int) -> None:
        each = 1 << (HASHES_LOG2 + log2)
        self.hashes += shares * each
        self.squares += shares * each * each

    @property
    def error_bps(self) -> int:
        return spread_bps(self.hashes, self.squares)


def spread_bps(total: int, squares: int) -> int:
    """Of a sum of shares of any worth: as of so many equal ones."""
    return shares_error_bps(total * total // squares if squares else 0)


def joules_of(hashes: int, mj_per_th: int) -> int:
    return hashes * mj_per_th // MJ_HASHES_PER_J_TH


def estimate_error_bps(work: Work, efficiency: Efficiency) -> int:
    return together_bps(work.error_bps, efficiency.error_bps)


def work_of_hour(connection: Connection, hour: int) -> dict[int, Work]:
    """By worker, of everybody who had a share that counts: of rows that are hours already, and of minutes
    that are not."""
    found: defaultdict[int, Work] = defaultdict(Work)
    _add(found, _minutes(connection, hour * 60, hour * 60 + 60))
    it = tally_hours.c
    for ids in _ids(connection):
        query = select(it.worker_id, it.difficulty_log2, it.shares).where(
            among(connection, it.worker_id, ids), it.hour == hour, it.verdict.in_(MINED_VERDICTS)
        )
        _add(found, (tuple(row) for row in connection.execute(query)))
    return found


def work_of_minutes(
    connection: Connection, from_minute: int, until_minute: int, boxes: Collection[int] | None = None
) -> dict[int, Work]:
    """The same of minutes (since 1970), half-open: while there are any, which is for an hour or two. Of all
    machines, or those of some containers."""
    found: defaultdict[int, Work] = defaultdict(Work)
    _add(found, _minutes(connection, from_minute, until_minute, boxes))
    return found


def work_of_span(
    connection: Connection, ids: Sequence[int], from_minute: int, until_minute: int
) -> dict[int, Work]:
    """The same of these workers, whether the minutes are hours by now or not."""
    found: defaultdict[int, Work] = defaultdict(Work)
    wanted = set(ids)
    _add(found, (it for it in _minutes(connection, from_minute, until_minute) if it[0] in wanted))
    _add(found, old_minutes(connection, ids, from_minute, until_minute, MINED_VERDICTS))
    return dict(found)


def old_minutes(
    connection: Connection, ids: Sequence[int], from_minute: int, until_minute: int, verdicts: Sequence[int]
) -> Iterator[tuple[int, int, int]]:
    """Workers, difficulties and shares of minutes that are hours by now. Of an hour it is known which minutes
    had shares, and not how many each: each that had some has the same part, rounded down."""
    it = tally_hours.c
    hours = range(from_minute // 60, (until_minute - 1) // 60 + 1)
    query = select(it.worker_id, it.hour, it.difficulty_log2, it.shares, it.minutes)
    for at in range(0, len(ids), WORKERS_AT_ONCE):
        these = among(connection, it.worker_id, ids[at : at + WORKERS_AT_ONCE])
        theirs = query.where(these, it.hour.in_(hours), it.verdict.in_(verdicts))
        for row in connection.execute(theirs):
            minutes = [row.hour * 60 + bit for bit in range(60) if row.minutes >> bit & 1]
            inside = sum(from_minute <= minute < until_minute for minute in minutes)
            if shares := int(row.shares) * inside // max(len(minutes), 1):
                yield row.worker_id, row.difficulty_log2, shares


def _add(found: defaultdict[int, Work], rows: Iterable[tuple[int, ...]]) -> None:
    for worker, log2, shares in rows:
        found[worker].add(int(shares), log2)


def _minutes(
    connection: Connection, from_minute: int, until_minute: int, boxes: Collection[int] | None = None
) -> Iterator[tuple[int, ...]]:
    it = tally_minutes.c
    query = (
        select(it.worker_id, it.difficulty_log2, func.sum(it.shares))
        .where(it.minute >= from_minute, it.minute < until_minute, it.verdict.in_(MINED_VERDICTS))
        .group_by(it.worker_id, it.difficulty_log2)
    )
    if boxes is not None:
        theirs = select(workers.c.id).where(among(connection, workers.c.container_id, boxes))
        query = query.where(it.worker_id.in_(theirs))
    for row in connection.execute(query):
        yield tuple(row)


def _ids(connection: Connection) -> Iterator[list[int]]:
    last = 0
    while True:
        query = select(workers.c.id).where(workers.c.id > last).order_by(workers.c.id).limit(WORKERS_AT_ONCE)
        ids = list(connection.scalars(query))
        if not ids:
            return
        yield ids
        last = ids[-1]
