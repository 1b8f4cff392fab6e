"""The audit of sums: what is kept by machine and day, and by container and hour, is what tallies add up to.

A container at a time, so that what the database sorts is of one. Minutes of uptime are compared where all of
a day is in hours: of a day that grew old there are only counts of them.

Invariants: reads only. Must not know: what sums are for.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Select, bindparam, func, select, union_all

from payouts.audit.filled import filled
from payouts.audit.finding import Found
from payouts.schemas.money import container_hours, containers, tally_days, tally_hours, worker_days, workers
from payouts.sums import ACCEPTED

ROWS_AT_ONCE = 10_000  # what a walk holds in memory
ANOTHER = "it is not what the tallies add up to"
NO_HOUR = (-1, -1, 0)  # behind the last


def check_sums(connection: Connection, from_day: int = 0) -> None:
    """Of all days from that one on. Raises Found for the first row that is wrong."""
    if not filled(connection, tally_hours, tally_days, worker_days, container_hours):
        return
    for container in connection.scalars(select(containers.c.id).order_by(containers.c.id)).all():
        where = {"container": container, "from_day": from_day, "from_hour": from_day * 24}
        _none(connection, _HOURS, where, container_hours.name)
        _none(connection, _DAYS, where, worker_days.name)
        _check_minutes(connection, where)


# Built once: a building has hundreds of containers, and each asks the same.
_CONTAINER = bindparam("container", type_=containers.c.id.type)
_FROM_DAY = bindparam("from_day", type_=worker_days.c.day.type)
_FROM_HOUR = bindparam("from_hour", type_=tally_hours.c.hour.type)
_MACHINES = select(workers.c.id).where(workers.c.container_id == _CONTAINER)


def _hours() -> Select[Any]:
    """Hours of a container that are another number of shares: the first."""
    of, box = tally_hours.c, container_hours.c
    both = union_all(
        select(of.hour, of.difficulty_log2, of.verdict, of.shares).where(
            of.worker_id.in_(_MACHINES), of.hour >= _FROM_HOUR
        ),
        select(box.hour, box.difficulty_log2, box.verdict, -box.shares).where(
            box.container_id == _CONTAINER, box.hour >= _FROM_HOUR
        ),
    ).subquery()
    key = (both.c.hour, both.c.difficulty_log2, both.c.verdict)
    return select(*key).group_by(*key).having(func.sum(both.c.shares) != 0).order_by(*key).limit(1)


def _days() -> Select[Any]:
    """Days of its machines that are another number of shares: the first."""
    hour, old, day = tally_hours.c, tally_days.c, worker_days.c
    both = union_all(
        select(
            hour.worker_id, (hour.hour // 24).label("day"), hour.difficulty_log2, hour.verdict, hour.shares
        ).where(hour.worker_id.in_(_MACHINES), hour.hour >= _FROM_HOUR),
        select(old.worker_id, old.day, old.difficulty_log2, old.verdict, old.shares).where(
            old.worker_id.in_(_MACHINES), old.day >= _FROM_DAY
        ),
        select(day.worker_id, day.day, day.difficulty_log2, day.verdict, -day.shares).where(
            day.worker_id.in_(_MACHINES), day.day >= _FROM_DAY
        ),
    ).subquery()
    key = (both.c.worker_id, both.c.day, both.c.difficulty_log2, both.c.verdict)
    return select(*key).group_by(*key).having(func.sum(both.c.shares) != 0).order_by(*key).limit(1)


def _minutes() -> Select[Any]:
    """Minutes of uptime by machine and day, of days that are in hours."""
    day, old = worker_days.c, tally_days.c
    return (
        select(day.worker_id, day.day, func.sum(day.minutes).label("minutes"))
        .where(
            day.worker_id.in_(_MACHINES),
            day.day >= _FROM_DAY,
            day.verdict == ACCEPTED,
            ~select(old.day).where(old.worker_id == day.worker_id, old.day == day.day).exists(),
        )
        .group_by(day.worker_id, day.day)
    )


def _masks() -> Select[Any]:
    """Which minutes those are, by machine and hour."""
    of = tally_hours.c
    return (
        select(of.worker_id, of.hour, of.minutes)
        .where(of.worker_id.in_(_MACHINES), of.hour >= _FROM_HOUR, of.verdict == ACCEPTED)
        .order_by(of.worker_id, of.hour)
        .execution_options(yield_per=ROWS_AT_ONCE)
    )


_HOURS: Final = _hours()
_DAYS: Final = _days()
_MINUTES: Final = _minutes()
_MASKS: Final = _masks()


def _check_minutes(connection: Connection, where: dict[str, int]) -> None:
    """Each minute of a machine with accepted shares is counted once."""
    summed = connection.execute(_MINUTES, where)
    counted = {(row.worker_id, row.day): int(row.minutes) for row in summed}
    begun: list[tuple[int, ...]] = []  # of the hour that a piece ends in, others of it may be in the next
    with connection.execute(_MASKS, where) as rows:
        for piece in rows.partitions(ROWS_AT_ONCE):
            begun = _uncount(counted, [*begun, *piece])
    _uncount(counted, [*begun, NO_HOUR])
    wrong = min((key for key, minutes in counted.items() if minutes), default=None)
    if wrong is not None:
        raise Found(worker_days.name, "{}, {}".format(*wrong), "its minutes are not those of its hours")


def _uncount(counted: dict[tuple[int, int], int], rows: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Take the minutes of all hours but the last from those that are summed: what that one has so far."""
    worker, hour, minutes = np.fromiter(chain.from_iterable(rows), np.int64, 3 * len(rows)).reshape(-1, 3).T
    begins = _begins(worker, hour)
    worker, hour, union = worker[begins], hour[begins], np.bitwise_or.reduceat(minutes, begins)
    bits = np.unpackbits(union[:-1].view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1, dtype=np.int64)
    machine, day = worker[:-1], hour[:-1] // 24
    if bits.size:
        days = _begins(machine, day)
        summed = zip(machine[days].tolist(), day[days].tolist(), np.add.reduceat(bits, days), strict=True)
        for number, of, taken in summed:
            if (number, of) in counted:
                counted[number, of] -= int(taken)
    return [(int(worker[-1]), int(hour[-1]), int(union[-1]))]


def _begins(*keys: Any) -> Any:
    """Where in rows that are in the order of these each begins."""
    changes = np.ones(len(keys[0]), dtype=bool)
    changes[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(changes)


def _none(connection: Connection, query: Select[Any], where: dict[str, int], table: str) -> None:
    row = connection.execute(query, where).first()
    if row is not None:
        raise Found.of(table, row, ANOTHER)
