"""Sums of tallies by machine and day, and by container and hour, kept as tallies grow old.

What leaves the minutes is added, in the transaction that moves it. `worker_days` stays; from
`container_hours` is taken what leaves the hours, so it is the sum of those at every moment. A row of the sums
stands for 24 of a machine, or for the hundreds of a container, whatever prices there were: a statement of a
month, or a report of all containers, reads these and the minutes of the last hours.

Invariants: done in the caller's transaction, which must be the only writer, before the hours are written.
Must not know: the time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, select, update

from payouts.schemas.money import container_hours, tally_hours, worker_days, workers
from payouts.schemas.upsert import Insert, upserts

ACCEPTED = 0  # the verdict's number in the journal
Hours = Mapping[tuple[int, ...], tuple[int, int]]  # rows of tally_hours: their key, and shares and minutes


def add_hours(connection: Connection, hours: Hours) -> None:
    """Of tallies that are about to be added to tally_hours."""
    container_of = _containers(connection, {key[0] for key in hours})
    counted = _minutes_counted(connection, hours)
    days: dict[tuple[int, ...], tuple[int, int]] = {}
    boxes: dict[tuple[int, ...], int] = defaultdict(int)
    for (worker, hour, _, log2, verdict), (shares, minutes) in sorted(hours.items()):
        fresh = 0
        if verdict == ACCEPTED:
            fresh = minutes & ~counted.get((worker, hour), 0)
            counted[worker, hour] = counted.get((worker, hour), 0) | minutes
        known = days.get((worker, hour // 24, log2, verdict), (0, 0))
        days[worker, hour // 24, log2, verdict] = known[0] + shares, known[1] + fresh.bit_count()
        boxes[container_of[worker], hour, log2, verdict] += shares
    _add(connection, worker_days, [(*key, *counts) for key, counts in sorted(days.items())])
    _add(connection, container_hours, [(*key, shares) for key, shares in sorted(boxes.items())])


def take_hours(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    """Rows of tally_hours that are about to leave it."""
    container_of = _containers(connection, {row.worker_id for row in rows})
    boxes: dict[tuple[int, ...], int] = defaultdict(int)
    for row in rows:
        boxes[container_of[row.worker_id], row.hour, row.difficulty_log2, row.verdict] += row.shares
    if boxes:
        names = ("of_container", "of_hour", "of_log2", "of_verdict", "less")
        taken = [dict(zip(names, (*key, shares), strict=True)) for key, shares in sorted(boxes.items())]
        connection.execute(_TAKE, taken)
        connection.execute(_DROP_EMPTY, taken)


def _containers(connection: Connection, ids: set[int]) -> dict[int, int]:
    """Which container each worker is in; a machine stays in its."""
    rows = connection.execute(select(workers.c.id, workers.c.container_id).where(workers.c.id.in_(ids)))
    return {row.id: row.container_id for row in rows}


def _minutes_counted(connection: Connection, hours: Hours) -> dict[tuple[int, int], int]:
    """By worker and hour: the minutes with accepted shares that are in tally_hours already."""
    of = tally_hours.c
    counted: dict[tuple[int, int], int] = {}
    for row in connection.execute(
        select(of.worker_id, of.hour, of.minutes).where(
            of.worker_id.in_({key[0] for key in hours}),
            of.hour.in_({key[1] for key in hours}),
            of.verdict == ACCEPTED,
        )
    ):
        counted[row.worker_id, row.hour] = counted.get((row.worker_id, row.hour), 0) | row.minutes
    return counted


def _add(connection: Connection, table: Table, rows: Sequence[tuple[int, ...]]) -> None:
    if rows:
        names = [column.name for column in table.columns]
        added = [dict(zip(names, row, strict=True)) for row in rows]
        connection.execute(_ADD[connection.dialect.name][table.name], added)


def _adding(table: Table, new: Insert) -> Insert:
    """Insert a row, or add its counts to the one that is there."""
    counts = [name for name in ("shares", "minutes") if name in table.c]
    sums = {name: table.c[name] + new.excluded[name] for name in counts}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=sums)


_ADD = upserts(worker_days, container_hours, on=_adding)
_BOX = (
    (container_hours.c.container_id == bindparam("of_container"))
    & (container_hours.c.hour == bindparam("of_hour"))
    & (container_hours.c.difficulty_log2 == bindparam("of_log2"))
    & (container_hours.c.verdict == bindparam("of_verdict"))
)
_TAKE = update(container_hours).where(_BOX).values(shares=container_hours.c.shares - bindparam("less"))
_DROP_EMPTY = delete(container_hours).where(_BOX, container_hours.c.shares == 0)
