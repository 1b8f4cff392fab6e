"""The report of power: what sites, containers or tenants drew in a period, its carbon and what it cost, and
the curtailments of the period with what each forwent.

Energy counts by the hour in which it was drawn, as it is known now; a statement counts by when it was booked.
Invariants: exact integers; the rows add up to the total. Reads only. Must not know: how it is shown.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, func, select

from payouts.energy.carbon import Carbon, Energy, Method, any_between, carbon_of
from payouts.energy.dues import dues_sat
from payouts.energy.grid import payments_of
from payouts.energy.tariffs import HOUR_S
from payouts.rates import PSAT_PER_SAT
from payouts.reports.choices import Place
from payouts.schemas.energy import (
    booked_energy,
    booked_event_parts,
    booked_events,
    energy_charges,
    energy_to_charge,
)
from payouts.schemas.money import containers, sites, tenants
from payouts.statements.energy import ph_days_text
from payouts.statements.period import Period, utc
from payouts.statements.work import natural

EVER_S = 2**62  # after whatever was said of carbon
NOWHERE = ""  # of containers that nobody has placed


class PowerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One site, container or tenant. What containers cost is not told apart: a charge is of a tenant at a
    site. `watts` is the average over the whole period."""

    name: str
    metered_j: int
    estimated_j: int
    error_j: int
    watts: int
    location_mg: int
    location_known_j: int
    market_mg: int
    market_known_j: int
    cost_sat: int | None
    waiting_j: int | None  # drawn, and to be charged when there is a price
    due_sat: int | None  # of a tenant, now


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's part in one curtailment."""

    event: int
    site: str
    reference: str
    asked_by: str
    from_utc: str
    ended_utc: str
    watts_asked: int | None
    watts_metered: int | None
    tenant: str
    machines: int
    machines_off: int
    watts_shed: int
    joules_shed: int
    ph_days: str
    forgone_sat: int
    error_sat: int
    paid_sat: int  # by the grid, the operator's part with it


class PowerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by name, their sum, and the curtailments that ended in the period."""

    from_day: str
    to_day: str
    place: str
    rows: tuple[PowerRow, ...]
    total: PowerRow
    sources: tuple[str, ...]  # of carbon
    events: tuple[EventRow, ...]


class _Sum:
    """A group while it is read."""

    def __init__(self) -> None:
        self.metered_j = self.estimated_j = self.error_j = 0
        self.energy: dict[tuple[int | None, int], int] = defaultdict(int)
        self.psat = self.waiting_j = 0

    def add(self, row: Any) -> None:
        self.metered_j += int(row.metered_j)
        self.estimated_j += int(row.estimated_j)
        self.error_j += int(row.error_j)


def power_report(
    connection: Connection, period: Period, place: Place, tenant_id: int | None = None
) -> PowerReport:
    """Of one tenant, or of all."""
    groups: dict[str, _Sum] = defaultdict(_Sum)
    total = _Sum()
    names = _Names(connection)
    of = booked_energy.c
    sums = [func.sum(of[name]).label(name) for name in ("metered_j", "estimated_j", "error_j")]
    key = (of.tenant_id, of.container_id, of.site_id)
    drawn = select(*key, *sums).where(*_hours(of, period), *_of(of, tenant_id)).group_by(*key)
    for row in connection.execute(drawn):
        groups[names.of(place, row.tenant_id, row.container_id, row.site_id)].add(row)
        total.add(row)
    for tenant, container, site, hour, joules in _drawn_by_hour(connection, period, place, tenant_id):
        for it in (groups[names.of(place, tenant, container, site)], total):
            it.energy[site, hour] += joules
    if place is not Place.CONTAINER:
        for tenant, site, psat, waiting_j in _costs(connection, period, tenant_id):
            group = groups[names.of(place, tenant, None, site or None)]
            for it in (group, total):
                it.psat += psat
                it.waiting_j += waiting_j
    dues = dues_sat(connection) if place is Place.TENANT else {}
    due = {names.tenants[number]: sat for number, sat in dues.items() if tenant_id in (None, number)}
    for name in due:
        groups[name]  # one that owes and drew nothing has a row too
    found = [_row(connection, name, groups[name], period, place, due) for name in sorted(groups, key=natural)]
    whole = _row(connection, "total", total, period, place, {"total": sum(due.values())})
    return PowerReport(
        from_day=str(period.from_day),
        to_day=str(period.to_day),
        place=place.value,
        rows=tuple(it for it, _ in found),
        total=whole[0],
        sources=tuple(sorted({source for carbon in whole[1] for source in carbon.sources})),
        events=_events(connection, period, tenant_id, names.tenants),
    )


class _Names:
    def __init__(self, connection: Connection) -> None:
        named = select(tenants.c.id, tenants.c.name)
        self.tenants: dict[int, str] = {row.id: row.name for row in connection.execute(named)}
        self.sites: dict[int, str] = {
            row.id: row.name for row in connection.execute(select(sites.c.id, sites.c.name))
        }
        self.boxes: dict[int, str] = {
            row.id: row.name for row in connection.execute(select(containers.c.id, containers.c.name))
        }

    def of(self, place: Place, tenant_id: int, container_id: int | None, site_id: int | None) -> str:
        if place is Place.TENANT:
            return self.tenants[tenant_id]
        if place is Place.SITE or container_id is None:
            return NOWHERE if site_id is None else self.sites[site_id]
        return f"{self.tenants[tenant_id]}.{self.boxes[container_id]}"


def _drawn_by_hour(
    connection: Connection, period: Period, place: Place, tenant_id: int | None
) -> Iterator[tuple[int, int | None, int | None, int, int]]:
    """Tenant, container, site, hour, and joules: what carbon is reckoned of, where anybody has said some. Not
    told apart by more than the rows are: a year of 56 containers has half a million hours."""
    if not any_between(connection, period.from_s // HOUR_S, period.to_s // HOUR_S):
        return
    of = booked_energy.c
    apart = {Place.SITE: (), Place.TENANT: (of.tenant_id,), Place.CONTAINER: (of.tenant_id, of.container_id)}
    key = (*apart[place], of.site_id, of.hour)
    joules = func.sum(of.metered_j + of.estimated_j).label("joules")
    query = select(*key, joules).where(*_hours(of, period), *_of(of, tenant_id)).group_by(*key)
    for row in connection.execute(query):
        tenant, container = (*row[: len(key) - 2], None, None)[:2]
        yield tenant or 0, container, row.site_id, row.hour, int(row.joules)


def _hours(of: Any, period: Period) -> tuple[Any, Any]:
    return of.hour >= period.from_s // HOUR_S, of.hour < period.to_s // HOUR_S


def _of(of: Any, tenant_id: int | None) -> tuple[Any, ...]:
    return () if tenant_id is None else (of.tenant_id == tenant_id,)


def _costs(connection: Connection, period: Period, tenant_id: int | None) -> list[tuple[int, int, int, int]]:
    """By tenant and site (0: none): what its energy of the period cost, in psat, and what waits."""
    of, waits = energy_charges.c, energy_to_charge.c
    charged = connection.execute(
        select(of.tenant_id, of.site_id, func.sum(of.amount_sat), func.sum(of.amount_psat))
        .where(*_hours(of, period), *_of(of, tenant_id))
        .group_by(of.tenant_id, of.site_id)
    )
    found = [(row[0], row[1], int(row[2]) * PSAT_PER_SAT + int(row[3]), 0) for row in charged]
    open_ = connection.execute(
        select(waits.tenant_id, waits.site_id, func.sum(waits.joules - waits.charged_j))
        .where(waits.terms_id.is_not(None), *_hours(waits, period), *_of(waits, tenant_id))
        .group_by(waits.tenant_id, waits.site_id)
    )
    return found + [(row[0], row[1], 0, int(row[2])) for row in open_]


def _row(
    connection: Connection, name: str, it: _Sum, period: Period, place: Place, due: Mapping[str, int]
) -> tuple[PowerRow, tuple[Carbon, Carbon]]:
    energy: Energy = it.energy
    location = carbon_of(connection, energy, Method.LOCATION, EVER_S)
    market = carbon_of(connection, energy, Method.MARKET, EVER_S)
    costs = place is not Place.CONTAINER
    row = PowerRow(
        name=name,
        metered_j=it.metered_j,
        estimated_j=it.estimated_j,
        error_j=it.error_j,
        watts=(it.metered_j + it.estimated_j) // (period.to_s - period.from_s),
        location_mg=location.mg,
        location_known_j=location.known_j,
        market_mg=market.mg,
        market_known_j=market.known_j,
        cost_sat=it.psat // PSAT_PER_SAT if costs else None,
        waiting_j=it.waiting_j if costs else None,
        due_sat=due.get(name, 0) if place is Place.TENANT else None,
    )
    return row, (location, market)


def _events(
    connection: Connection, period: Period, tenant_id: int | None, names: Mapping[int, str]
) -> tuple[EventRow, ...]:
    event, part = booked_events.c, booked_event_parts.c
    rows = connection.execute(
        select(booked_events, booked_event_parts)
        .join(booked_event_parts, part.event_id == event.event_id)
        .where(event.ended_at_s >= period.from_s, event.ended_at_s < period.to_s, *_of(part, tenant_id))
        .order_by(event.event_id, part.tenant_id)
    ).all()
    paid: dict[tuple[int, int], int] = defaultdict(int)
    for number in {row.event_id for row in rows}:
        for payment in payments_of(connection, number):
            for it in payment.parts:
                paid[number, it.tenant_id] += it.tenant_sat + it.operator_sat
    return tuple(
        EventRow(
            event=row.event_id,
            site=row.site,
            reference=row.reference,
            asked_by=row.asked_by,
            from_utc=utc(row.from_s),
            ended_utc=utc(row.ended_at_s),
            watts_asked=row.watts_asked,
            watts_metered=row.watts_metered,
            tenant=names[row.tenant_id],
            machines=row.machines,
            machines_off=row.machines_off,
            watts_shed=row.watts_shed,
            joules_shed=row.joules_shed,
            ph_days=ph_days_text(row.difficulty),
            forgone_sat=row.forgone_sat,
            error_sat=row.error_sat,
            paid_sat=paid[row.event_id, row.tenant_id],
        )
        for row in rows
    )
