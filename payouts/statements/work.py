"""What a statement says of work: shares, hashrate and uptime of every machine, container and span of time.

Young tallies are minutes; what is older is summed by machine and day (`payouts.sums`), a share in exactly one
of the two, so growing old changes nothing. Uptime is the minutes with an accepted share, each counted once
however many prices and difficulties it had; of days that had grown old before there were those sums it can be
a little high, but never above the day.

Invariants: work is exact. What may be edited later (nameplate, site, agent, last seen) is not in here.
Must not know: money, and what a share was rejected for beyond the name of its verdict.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import groupby
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Connection, Integer, Select, case, cast, func, literal, select

from payouts.schemas.money import (
    containers,
    rate_hours,
    rates,
    tally_hours,
    tally_minutes,
    worker_days,
    workers,
)
from payouts.statements.period import Period, hashrate_hps, work_text
from payouts.tallies import ACCEPTED

# The verdicts by their number in the journal; their order is history and only grows.
VERDICTS = (
    "accepted",
    "malformed",
    "not subscribed",
    "unauthorised",
    "job unknown",
    "stale",
    "ntime out of range",
    "version outside mask",
    "low difficulty",
    "duplicate",
    "filter full",
    "undelivered",
    "upstream rejected",
)
MINUTES_OF_DAY = 1440
UNIT_LOG2 = -32  # the smallest difficulty that tallies may have
SPANS = {"hour": 3600, "day": 86_400}
HOURLY_DAYS_MAX = 3  # 72 columns; a longer series is by day


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted work of an hour or a day."""

    accepted: int
    work: Fraction


class WorkRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine, a container or a tenant did in the period."""

    accepted: int
    rejected: dict[str, int]  # by reason
    work: str  # the sum of d of what was accepted
    hashrate_hps: int  # average over the whole period
    uptime_bps: int  # of the machine's minutes in the period; of a group: of all its machines' minutes
    uptime_minutes: int
    machines: int  # that sent anything, accepted or not


class WorkerRow(WorkRow, frozen=True, kw_only=True):
    """One machine that sent anything in the period."""

    container: str
    unit: str


class ContainerRow(WorkRow, frozen=True, kw_only=True):
    """One container; `silent` are the machines known by the period's end that sent nothing in it."""

    container: str
    silent: tuple[str, ...]


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """All work of a tenant in a period."""

    total: WorkRow
    containers: tuple[ContainerRow, ...]
    workers: tuple[WorkerRow, ...]


class Count:
    """Sums while the rows are read."""

    def __init__(self) -> None:
        self.accepted = 0
        self.rejected: dict[int, int] = {}
        self.units = 0  # of accepted work: difficulty 2^UNIT_LOG2, the smallest that there is
        self.minutes = 0
        self.machines = 0

    @property
    def work(self) -> Fraction:
        """The sum of d of what was accepted."""
        return Fraction(self.units, 1 << -UNIT_LOG2)

    def add(self, verdict: int, difficulty_log2: int, shares: int) -> None:
        if verdict == ACCEPTED:
            self.accepted += shares
            self.units += shares << (difficulty_log2 - UNIT_LOG2)
        else:
            self.rejected[verdict] = self.rejected.get(verdict, 0) + shares

    def merge(self, other: "Count") -> None:
        self.accepted += other.accepted
        self.units += other.units
        self.minutes += other.minutes
        self.machines += other.machines
        for verdict, shares in other.rejected.items():
            self.rejected[verdict] = self.rejected.get(verdict, 0) + shares

    def fields(self, period: Period) -> dict[str, Any]:
        """The fields of a WorkRow."""
        available, work = max(self.machines, 1) * period.minutes, self.work
        return {
            "accepted": self.accepted,
            "rejected": {verdict_name(it): shares for it, shares in sorted(self.rejected.items())},
            "work": work_text(work),
            "hashrate_hps": hashrate_hps(work, period.days * 86_400),
            "uptime_bps": self.minutes * 10_000 // available,
            "uptime_minutes": self.minutes,
            "machines": self.machines,
        }


def verdict_name(verdict: int) -> str:
    """A word for the verdict's number."""
    return VERDICTS[verdict] if verdict < len(VERDICTS) else f"verdict {verdict}"


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts r2 before r10."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)


def work_of(connection: Connection, tenant_id: int, period: Period) -> Work:
    """Every machine of the tenant that sent anything, its containers, and their sum."""
    counts = counts_of(connection, tenant_id, period)
    for worker_id, minutes in _uptime_minutes(connection, tenant_id, period).items():
        counts[worker_id].minutes = minutes
    registered = connection.execute(
        select(workers.c.id, workers.c.first_seen_at_s, workers.c.unit, containers.c.name.label("container"))
        .join(containers, containers.c.id == workers.c.container_id)
        .where(workers.c.tenant_id == tenant_id)
    )
    # A machine is written down a moment after its first share: that may be after the period's end.
    known = [row for row in registered if row.id in counts or row.first_seen_at_s < period.to_s]
    machines = sorted(known, key=lambda row: (natural(row.container), natural(row.unit)))
    rows: list[WorkerRow] = []
    boxes: list[ContainerRow] = []
    total = Count()
    for container, members in groupby(machines, key=lambda row: row.container):
        box, silent = Count(), []
        for machine in members:
            count = counts.get(machine.id)
            if count is None:
                silent.append(machine.unit)
                continue
            box.merge(count)
            rows.append(WorkerRow(container=container, unit=machine.unit, **count.fields(period)))
        boxes.append(ContainerRow(container=container, silent=tuple(silent), **box.fields(period)))
        total.merge(box)
    return Work(total=WorkRow(**total.fields(period)), containers=tuple(boxes), workers=tuple(rows))


def counts_of(connection: Connection, tenant_id: int, period: Period) -> dict[int, Count]:
    """Shares by worker number, of all who sent any."""
    counts: dict[int, Count] = {}
    for table, at, unit_s in (
        (tally_minutes, tally_minutes.c.minute, 60),
        (worker_days, worker_days.c.day, 86_400),
    ):
        first, last = period.from_s // unit_s, period.to_s // unit_s
        key = (table.c.worker_id, table.c.difficulty_log2, table.c.verdict)
        summed = (
            select(*key, func.sum(table.c.shares))
            .join(workers, workers.c.id == table.c.worker_id)
            .where(workers.c.tenant_id == tenant_id, at >= first, at < last)
            .group_by(*key)
        )
        for worker_id, difficulty_log2, verdict, shares in connection.execute(summed):
            count = counts.get(worker_id)
            if count is None:
                count = counts[worker_id] = Count()
                count.machines = 1
            count.add(verdict, difficulty_log2, int(shares))
    return counts


def spans_of(connection: Connection, tenant_id: int, period: Period, seconds: int) -> dict[int, Span]:
    """Accepted work by hours or days since 1970; kept by the hour for ever, whatever the tallies' age."""
    span = (rate_hours.c.hour // (seconds // 3600)).label("span")
    rows = connection.execute(
        select(span, rate_hours.c.difficulty_log2, func.sum(rate_hours.c.shares))
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(
            rates.c.tenant_id == tenant_id,
            rate_hours.c.hour >= period.from_s // 3600,
            rate_hours.c.hour < period.to_s // 3600,
        )
        .group_by(span, rate_hours.c.difficulty_log2)
    )
    accepted: dict[int, int] = defaultdict(int)
    work: dict[int, Fraction] = defaultdict(Fraction)
    for at, difficulty_log2, shares in rows:
        accepted[at] += int(shares)
        work[at] += int(shares) * Fraction(2) ** difficulty_log2
    return {at: Span(accepted=accepted[at], work=work[at]) for at in sorted(accepted)}


def _uptime_minutes(connection: Connection, tenant_id: int, period: Period) -> dict[int, int]:
    """Minutes with an accepted share by worker number."""
    by_day = _counted_days(tenant_id, range(period.from_s // 86_400, period.to_s // 86_400)).subquery()
    of_day = case((by_day.c.minutes > MINUTES_OF_DAY, MINUTES_OF_DAY), else_=by_day.c.minutes)
    summed = select(by_day.c.worker_id, func.sum(of_day)).group_by(by_day.c.worker_id)
    uptime = {worker_id: int(minutes) for worker_id, minutes in connection.execute(summed)}
    young = _young_hours(connection, tenant_id, period)
    if not young:
        return uptime
    hours = sorted({hour for _, hour in young})
    counted = _counted_hours(connection, tenant_id, hours)
    fresh: dict[tuple[int, int], int] = defaultdict(int)
    for (worker_id, hour), mask in young.items():
        fresh[worker_id, hour // 24] += (mask & ~counted.get((worker_id, hour), 0)).bit_count()
    days = range(hours[0] // 24, hours[-1] // 24 + 1)
    rows = connection.execute(_counted_days(tenant_id, days))
    known = {(worker_id, day): int(minutes) for worker_id, day, minutes in rows}
    for (worker_id, day), minutes in fresh.items():
        room = MINUTES_OF_DAY - known.get((worker_id, day), 0)
        uptime[worker_id] = uptime.get(worker_id, 0) + min(minutes, max(room, 0))
    return uptime


def _counted_days(tenant_id: int, days: range) -> Select[Any]:
    """By worker and day: the minutes in the sums, whose order that is: SQLite sorts rows that are joined."""
    of, theirs = worker_days.c, select(workers.c.id).where(workers.c.tenant_id == tenant_id)
    return (
        select(of.worker_id, of.day, func.sum(of.minutes).label("minutes"))
        .where(of.worker_id.in_(theirs), of.verdict == ACCEPTED, of.day.between(days[0], days[-1]))
        .group_by(of.worker_id, of.day)
    )


def _young_hours(connection: Connection, tenant_id: int, period: Period) -> dict[tuple[int, int], int]:
    """By worker and hour, bit i for minute i: a sum of distinct bits is their union."""
    minute = tally_minutes.c.minute
    hour = (minute // 60).label("hour")
    bit = cast(literal(1), BigInteger().with_variant(Integer(), "sqlite")).bitwise_lshift(
        cast(minute % 60, Integer)
    )
    rows = connection.execute(
        select(tally_minutes.c.worker_id, hour, func.sum(bit.distinct()))
        .join(workers, workers.c.id == tally_minutes.c.worker_id)
        .where(
            workers.c.tenant_id == tenant_id,
            tally_minutes.c.verdict == ACCEPTED,
            minute >= period.from_s // 60,
            minute < period.to_s // 60,
        )
        .group_by(tally_minutes.c.worker_id, hour)
    )
    return {(worker_id, at): int(mask) for worker_id, at, mask in rows}


def _counted_hours(
    connection: Connection, tenant_id: int, hours: Sequence[int]
) -> dict[tuple[int, int], int]:
    """By worker and hour, of those that young shares are of: the minutes that are in the sums already."""
    of = tally_hours.c
    rows = connection.execute(
        select(of.worker_id, of.hour, of.minutes)
        .join(workers, workers.c.id == of.worker_id)
        .where(workers.c.tenant_id == tenant_id, of.verdict == ACCEPTED, of.hour.in_(hours))
    )
    counted: dict[tuple[int, int], int] = defaultdict(int)
    for worker_id, hour, mask in rows:
        counted[worker_id, hour] |= mask
    return counted
