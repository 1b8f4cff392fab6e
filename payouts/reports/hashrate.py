"""The hashrate report: tenants, containers or machines by hour or day, against their nameplates.

The last hours are read from minutes; what is older from the sums of machines by day, and of containers by
hour (`payouts.sums`). Invariants: exact. By hour only as far back as hours are kept; a longer look back is by
day. A span in which nothing was sent has a row of zeros, so that a gap can be seen. Reads only. Must not
know: the time, so the last span of today is divided by its whole length.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, Table, exists, func, select

from payouts.rates import HPS_PER_THS
from payouts.reports.choices import Grain, Step
from payouts.schemas.money import (
    container_hours,
    containers,
    tally_days,
    tally_hours,
    tally_minutes,
    tenants,
    worker_days,
    workers,
)
from payouts.statements.period import BadPeriod, Period, hashrate_hps, utc
from payouts.statements.work import SPANS, Count, natural

ROWS_MAX = 200_000  # 400 machines by the hour for three weeks; nobody reads more, and it is all in memory


NOTHING = Count()


class HashrateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant, container or machine in one hour or day."""

    tenant: str
    container: str | None
    unit: str | None
    from_utc: str
    accepted: int
    rejected: int
    hashrate_hps: int
    nameplate_hps: int | None  # a machine's is its container's by the number of units
    of_nameplate_bps: int | None


class HashrateReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by tenant, container, unit and time."""

    from_day: str
    to_day: str
    step: str
    grain: str
    rows: tuple[HashrateRow, ...]


def hashrate_report(
    connection: Connection, period: Period, step: Step, grain: Grain, tenant_id: int | None = None
) -> HashrateReport:
    """Of one tenant, or of all. Raises BadPeriod where it is too long, or too long ago for hours."""
    seconds = SPANS[step]
    members = _members(connection, grain, tenant_id)
    spans = range(period.from_s // seconds, period.to_s // seconds)
    if len(members) * len(spans) > ROWS_MAX:
        raise BadPeriod(
            f"a report of {len(members)} {grain}s by the {step} over {period.days} days is more than"
            f" {ROWS_MAX} rows: ask for fewer days, or for one tenant, or by day"
        )
    if step is Step.HOUR:
        _check_hours_are_kept(connection, period)
    counts = _counts(connection, period, step, grain, tenant_id)
    from_utc = {at: utc(at * seconds) for at in spans}
    rows = []
    for member in members:
        nameplate_hps = None if member.nameplate_ths is None else int(member.nameplate_ths) * HPS_PER_THS
        for at in spans:
            count = counts.get((member.id, at), NOTHING)
            average_hps = hashrate_hps(count.work, seconds)
            rows.append(
                HashrateRow(
                    tenant=member.tenant,
                    container=member.container,
                    unit=member.unit,
                    from_utc=from_utc[at],
                    accepted=count.accepted,
                    rejected=sum(count.rejected.values()),
                    hashrate_hps=average_hps,
                    nameplate_hps=nameplate_hps,
                    of_nameplate_bps=average_hps * 10_000 // nameplate_hps if nameplate_hps else None,
                )
            )
    return HashrateReport(
        from_day=str(period.from_day),
        to_day=str(period.to_day),
        step=step.value,
        grain=grain.value,
        rows=tuple(rows),
    )


class _Member(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    tenant: str
    container: str | None
    unit: str | None
    nameplate_ths: int | None


def _members(connection: Connection, grain: Grain, tenant_id: int | None) -> list[_Member]:
    """Whom the rows are of, in their order."""
    found = [_member(row, grain) for row in _registered(connection, grain, tenant_id)]
    if grain is Grain.TENANT:
        found = [_sum_of(connection, member) for member in found]
    return sorted(
        found, key=lambda it: tuple(natural(name or "") for name in (it.tenant, it.container, it.unit))
    )


def _registered(connection: Connection, grain: Grain, tenant_id: int | None) -> Sequence[Row[Any]]:
    query: Any = select(tenants.c.id, tenants.c.name.label("tenant")).select_from(tenants)
    if grain is not Grain.TENANT:
        query = query.join(containers, containers.c.tenant_id == tenants.c.id).add_columns(
            containers.c.id.label("container_id"),
            containers.c.name.label("container"),
            containers.c.nameplate_ths,
            containers.c.nameplate_units,
        )
    if grain is Grain.WORKER:
        query = query.join(workers, workers.c.container_id == containers.c.id).add_columns(
            workers.c.id.label("worker_id"), workers.c.unit
        )
    if tenant_id is not None:
        query = query.where(tenants.c.id == tenant_id)
    rows: Sequence[Row[Any]] = connection.execute(query).all()
    return rows


def _member(row: Row[Any], grain: Grain) -> _Member:
    if grain is Grain.TENANT:
        return _Member(id=row.id, tenant=row.tenant, container=None, unit=None, nameplate_ths=None)
    if grain is Grain.CONTAINER:
        return _Member(
            id=row.container_id,
            tenant=row.tenant,
            container=row.container,
            unit=None,
            nameplate_ths=row.nameplate_ths,
        )
    each = row.nameplate_ths // row.nameplate_units if row.nameplate_ths and row.nameplate_units else None
    return _Member(
        id=row.worker_id, tenant=row.tenant, container=row.container, unit=row.unit, nameplate_ths=each
    )


def _sum_of(connection: Connection, tenant: _Member) -> _Member:
    """The tenant with the nameplates of all its containers; without one where a container has none."""
    nameplates_ths = connection.scalars(
        select(containers.c.nameplate_ths).where(
            containers.c.tenant_id == tenant.id, containers.c.removed_at_s.is_(None)
        )
    ).all()
    if not nameplates_ths or None in nameplates_ths:
        return tenant
    return msgspec.structs.replace(tenant, nameplate_ths=sum(nameplates_ths))


def _check_hours_are_kept(connection: Connection, period: Period) -> None:
    rolled_up = exists().where(
        tally_days.c.day >= period.from_s // 86_400, tally_days.c.day < period.to_s // 86_400
    )
    if connection.scalar(select(rolled_up)):
        raise BadPeriod(f"of {period.from_day} only days are kept: ask by day")


def _counts(
    connection: Connection, period: Period, step: Step, grain: Grain, tenant_id: int | None
) -> dict[tuple[int, int], Count]:
    """By member's number and span."""
    counts: dict[tuple[int, int], Count] = {}
    for table, at, unit_s in _spans(step, grain):
        for member, span, difficulty_log2, verdict, shares in connection.execute(
            _summed(table, at, unit_s, period, SPANS[step], grain, tenant_id)
        ):
            counts.setdefault((member, span), Count()).add(verdict, difficulty_log2, int(shares))
    return counts


def _spans(step: Step, grain: Grain) -> Sequence[tuple[Table, Any, int]]:
    """The tables that have all shares once, each with its column of time and what that counts, in seconds."""
    minutes = tally_minutes, tally_minutes.c.minute, 60
    if grain is Grain.WORKER:
        if step is Step.DAY:
            return minutes, (worker_days, worker_days.c.day, 86_400)
        return minutes, (tally_hours, tally_hours.c.hour, 3600)
    return minutes, (container_hours, container_hours.c.hour, 3600), (tally_days, tally_days.c.day, 86_400)


def _summed(
    table: Table, at: Any, unit_s: int, period: Period, seconds: int, grain: Grain, tenant_id: int | None
) -> Any:
    """By member, span, difficulty and verdict."""
    first, last = period.from_s // unit_s, period.to_s // unit_s
    source: Any = containers if table is container_hours else workers
    number = table.c.container_id if table is container_hours else table.c.worker_id
    who = {
        Grain.TENANT: source.c.tenant_id,
        Grain.CONTAINER: containers.c.id if source is containers else workers.c.container_id,
        Grain.WORKER: number,
    }[grain]
    key = (who, (at // max(seconds // unit_s, 1)).label("span"), table.c.difficulty_log2, table.c.verdict)
    query = select(*key, func.sum(table.c.shares)).where(at >= first, at < last).group_by(*key)
    if grain is Grain.WORKER:  # whose rows are by machine first: each is looked up, not all walked through
        every = select(workers.c.id)
        mine = every if tenant_id is None else every.where(workers.c.tenant_id == tenant_id)
        return query.where(number.in_(mine))
    query = query.join(source, source.c.id == number)
    return query if tenant_id is None else query.where(source.c.tenant_id == tenant_id)
