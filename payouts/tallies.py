"""Tallies on disk: the journal's rows, what they add up to by hour and rate, and how they grow old.

A batch is recorded in one transaction, once: its writer numbers them from 1, and the number of the last
one is in the same transaction. The accepted shares are added a second time in `rate_hours`, by rate
and hour for ever, which is what settlements are made from; an audit compares the two.

Growing old: minutes become hours when their hour is over for an hour, hours become days after 400 days. A
row is moved, in one transaction: added to the coarser span and deleted from the finer. So a share is in
exactly one span whatever the clock does, and rows that come late are moved late. Which minutes there were an
hour still says; how many shares each of them had, nobody asks (docs/decisions/010-minutes-for-an-hour.md).

Invariants: nothing is counted twice or lost by a retry, a crash or a step of the clock. Everything is
done in the caller's transaction, which must be the only writer. Must not know: who counted.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, Row, Table, bindparam, delete, insert, select, update

from payouts.schemas.money import journal_writers, tally_days, tally_hours, tally_minutes, workers
from payouts.schemas.upsert import Insert, upserts
from payouts.sums import ACCEPTED as ACCEPTED
from payouts.sums import add_hours, take_hours
from payouts.tally_rows import Rows, add

# An hour is moved when it is over for so long: most that comes late is there, and minutes are many rows.
MINUTES_KEPT_H = 1
HOURS_KEPT_D = 400
# Rows moved in one transaction: 15 to 20 ms (SQLite) during which the journal waits for its turn.
ROWS_MOVED_MAX = 500
WORKERS_HOURS_MAX = 8  # an hour of each, by the minute, is about as many rows
WORKERS_MOVED_MAX = 20  # a day of each is about as many rows


class JournalGap(Exception):
    """A writer's batch came without the one before it: a bug, and shares would be missing."""


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of one worker at one price and difficulty with one verdict in one minute (since 1970).

    Whoever has thousands of them has rows of these values, in this order (`payouts.tally_rows`).
    """

    worker_id: int
    rate_id: int  # 0 where the job was unknown
    minute: int
    difficulty_log2: int
    verdict: int
    shares: int
    undelivered: bool = False  # accepted at the pool's risk: no upstream took them


def record(connection: Connection, writer: str, batch: int, tallies: Sequence[Tally] | Rows) -> bool:
    """Record a writer's batch. False when it was recorded before, and nothing is done.

    Raises JournalGap when the writer's previous batch is missing.
    """
    if not _note_batch(connection, writer, batch):
        return False
    if len(tallies):
        add(connection, tallies if isinstance(tallies, np.ndarray) else _rows(tallies))
    return True


def roll_up_minutes(connection: Connection, now_s: int) -> int:
    """Move old minutes into hours, at most ROWS_MOVED_MAX; how many were moved, 0 when none is old."""
    before = (now_s // 3600 - MINUTES_KEPT_H) * 60
    at, who = tally_minutes.c.minute, tally_minutes.c.worker_id
    oldest = connection.execute(select(at, who).order_by(at, who).limit(1)).one_or_none()
    if oldest is None or oldest.minute >= before:
        return 0
    # Of the oldest hour the next machines, each with all its minutes: what they become is written once.
    ids = connection.scalars(
        select(workers.c.id)
        .where(workers.c.id >= oldest.worker_id)
        .order_by(workers.c.id)
        .limit(WORKERS_HOURS_MAX)
    ).all()
    rows = connection.execute(
        select(tally_minutes)
        .where(
            at.in_(range(oldest.minute, oldest.minute // 60 * 60 + 60)),
            who.between(oldest.worker_id, ids[-1]),
        )
        .order_by(who, at)
        .limit(ROWS_MOVED_MAX)
    ).all()
    sums: dict[tuple[int, ...], tuple[int, int]] = {}
    for row in rows:
        key = (row.worker_id, row.minute // 60, row.rate_id, row.difficulty_log2, row.verdict)
        shares, minutes = sums.get(key, (0, 0))
        sums[key] = (shares + row.shares, minutes | 1 << row.minute % 60)
    add_hours(connection, sums)
    _move(connection, tally_minutes, rows, tally_hours, sums)
    return len(rows)


def roll_up_hours(connection: Connection, now_s: int, from_worker_id: int = 0) -> int | None:
    """Move old hours of the next workers into days, at most ROWS_MOVED_MAX.

    Returns the worker to go on from, None after the last one.
    """
    before = (now_s // 86400 - HOURS_KEPT_D) * 24
    ids = connection.scalars(
        select(workers.c.id)
        .where(workers.c.id >= from_worker_id)
        .order_by(workers.c.id)
        .limit(WORKERS_MOVED_MAX)
    ).all()
    rows = connection.execute(
        select(tally_hours)
        .where(tally_hours.c.worker_id.in_(ids), tally_hours.c.hour < before)
        .order_by(tally_hours.c.worker_id, tally_hours.c.hour)
        .limit(ROWS_MOVED_MAX)
    ).all()
    full = len(rows) == ROWS_MOVED_MAX
    if full:  # an hour is moved as a whole: its minutes are told apart only while it is together
        last = (rows[-1].worker_id, rows[-1].hour)
        # An hour that fills a step by itself is moved in parts, or it would never be.
        rows = [row for row in rows if (row.worker_id, row.hour) != last] or rows
    sums: dict[tuple[int, ...], tuple[int, int]] = {}
    counted: dict[tuple[int, int, bool], int] = {}
    for row in rows:
        # A minute of several prices or difficulties is counted with the first of them: the days' sum is
        # the uptime.
        of = (row.worker_id, row.hour, row.verdict == ACCEPTED)
        fresh = row.minutes & ~counted.get(of, 0)
        counted[of] = counted.get(of, 0) | row.minutes
        key = (row.worker_id, row.hour // 24, row.rate_id, row.difficulty_log2, row.verdict)
        shares, minutes = sums.get(key, (0, 0))
        sums[key] = (shares + row.shares, minutes + fresh.bit_count())
    take_hours(connection, rows)
    _move(connection, tally_hours, rows, tally_days, sums)
    if full:
        return int(ids[0])
    return int(ids[-1]) + 1 if len(ids) == WORKERS_MOVED_MAX else None


def _rows(tallies: Sequence[Tally]) -> Rows:
    return np.array([msgspec.structs.astuple(it) for it in tallies], dtype=np.int64)


def _note_batch(connection: Connection, writer: str, batch: int) -> bool:
    """Note that this is the writer's last batch; False when it, or a later one, is noted already."""
    if batch == 1:
        noted = connection.scalar(select(journal_writers.c.batch).where(journal_writers.c.writer == writer))
        if noted is None:
            connection.execute(insert(journal_writers).values(writer=writer, batch=1))
        return noted is None
    mine = journal_writers.c.writer == writer
    follows = update(journal_writers).where(mine, journal_writers.c.batch == batch - 1).values(batch=batch)
    if connection.execute(follows).rowcount == 1:
        return True
    noted = connection.scalar(select(journal_writers.c.batch).where(mine))
    if noted is None or noted < batch:
        raise JournalGap(f"batch {batch} of journal writer {writer} came after batch {noted}")
    return False


def _move(
    connection: Connection,
    fine: Table,
    rows: Sequence[Row[Any]],
    coarse: Table,
    sums: dict[tuple[int, ...], tuple[int, int]],
) -> None:
    if not rows:
        return
    names = [column.name for column in coarse.columns]
    added = [dict(zip(names, (*key, *counts), strict=True)) for key, counts in sums.items()]
    connection.execute(_ADD[connection.dialect.name][coarse.name], added)
    keys = [column.name for column in fine.primary_key]
    gone = delete(fine).where(*(fine.c[name] == bindparam(f"old_{name}") for name in keys))
    connection.execute(gone, [{f"old_{name}": row._mapping[name] for name in keys} for row in rows])


def _adding(table: Table, new: Insert) -> Insert:
    """Insert a row, or add its counts to the one that is there."""
    sums = {"shares": table.c.shares + new.excluded.shares}
    if table is tally_hours:
        sums["minutes"] = table.c.minutes.bitwise_or(new.excluded.minutes)
    if table is tally_days:
        sums["minutes"] = table.c.minutes + new.excluded.minutes
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)


_ADD = upserts(tally_hours, tally_days, on=_adding)
