"""What a statement says of energy: what a tenant's machines drew, its carbon, what was charged for it and is
due, and the curtailments that they took part in.

All of it counts by the time it was booked: the last hours of a period are in the next statement, and energy
that was read late is in the statement of the day on which it was, more or less. So a statement of days that
are over never changes. Carbon is what was known of it by the period's end.

Invariants: due before + charged - collected = due after. Exact integers. Reads only. Must not know: how it is
shown.
"""

from collections import defaultdict
from fractions import Fraction
from typing import Any

import msgspec
from sqlalchemy import Connection, and_, func, select

from payouts.energy.carbon import Carbon, Method, carbon_of
from payouts.energy.tariffs import HOUR_S
from payouts.rates import PSAT_PER_SAT, ph_days
from payouts.schemas.energy import (
    booked_energy,
    booked_event_parts,
    booked_events,
    energy_charges,
    energy_dues,
    grid_payment_parts,
    grid_payments,
    hosting_terms,
    power_tariffs,
)
from payouts.schemas.money import containers
from payouts.statements.period import Period, utc
from payouts.statements.work import natural

DECIMALS = 6  # of PH-days, which are told as text


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """Of a container, or of all: by a meter, and beyond that as estimated; off by `error_j` both ways."""

    container: str
    metered_j: int
    estimated_j: int
    error_j: int


class ChargeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What was charged by one tariff, or by the tenant's own fee."""

    tariff: str  # its name, or "fee"
    currency: str
    source: str
    hours: int
    joules: int
    cost_sat: int
    cost_psat: int


class Curtailment(msgspec.Struct, frozen=True, kw_only=True):
    """What the tenant's machines did in one; `error_sat` bounds what was forgone, both ways."""

    event: int
    site: str
    reference: str
    asked_by: str
    from_utc: str
    ended_utc: str
    machines: int
    machines_off: int
    watts_shed: int
    joules_shed: int
    ph_days: str  # not mined
    forgone_sat: int
    error_sat: int


class GridPayment(msgspec.Struct, frozen=True, kw_only=True):
    """The tenant's part of what the grid paid."""

    event: int
    reference: str
    booked_at_utc: str
    operator_sat: int
    tenant_sat: int


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about energy in a period."""

    first_hour_utc: str | None
    last_hour_utc: str | None
    total: Drawn
    containers: tuple[Drawn, ...]
    carbon: tuple[Carbon, ...]
    charges: tuple[ChargeRow, ...]
    carry_in_psat: int
    carry_out_psat: int
    due_before_sat: int
    charged_sat: int
    collected_sat: int
    due_after_sat: int
    curtailments: tuple[Curtailment, ...]
    payments: tuple[GridPayment, ...]


def energy_of(connection: Connection, tenant_id: int, period: Period) -> Energy | None:
    """None where there was nothing at all."""
    drawn = _drawn(connection, tenant_id, period)
    before, charged, collected = _dues(connection, tenant_id, period)
    charges = _charges(connection, tenant_id, period)
    curtailments = _curtailments(connection, tenant_id, period)
    payments = _payments(connection, tenant_id, period)
    if not (drawn or charges or before or charged or collected or curtailments or payments):
        return None
    total = Drawn(
        container="",
        metered_j=sum(it.metered_j for it in drawn),
        estimated_j=sum(it.estimated_j for it in drawn),
        error_j=sum(it.error_j for it in drawn),
    )
    by_hour = _by_hour(connection, tenant_id, period)
    hours = [hour for _, hour in by_hour]
    return Energy(
        first_hour_utc=utc(min(hours) * HOUR_S) if hours else None,
        last_hour_utc=utc(max(hours) * HOUR_S) if hours else None,
        total=total,
        containers=drawn,
        carbon=tuple(carbon_of(connection, by_hour, method, period.to_s) for method in Method),
        charges=charges,
        carry_in_psat=_carry_psat(connection, tenant_id, period.from_s),
        carry_out_psat=_carry_psat(connection, tenant_id, period.to_s),
        due_before_sat=before,
        charged_sat=charged,
        collected_sat=collected,
        due_after_sat=before + charged - collected,
        curtailments=curtailments,
        payments=payments,
    )


def ph_days_text(difficulty: int) -> str:
    """Work in PH/s for a day, rounded down."""
    scaled = int(ph_days(Fraction(difficulty), 1) * 10**DECIMALS) if difficulty else 0
    return f"{scaled // 10**DECIMALS}.{scaled % 10**DECIMALS:0{DECIMALS}d}"


def _taken(tenant_id: int, period: Period) -> Any:
    of = booked_energy.c
    return and_(of.tenant_id == tenant_id, of.taken_at_s >= period.from_s, of.taken_at_s < period.to_s)


def _drawn(connection: Connection, tenant_id: int, period: Period) -> tuple[Drawn, ...]:
    of = booked_energy.c
    sums = [func.sum(of[name]).label(name) for name in ("metered_j", "estimated_j", "error_j")]
    rows = connection.execute(
        select(containers.c.name, *sums)
        .join(booked_energy, of.container_id == containers.c.id)
        .where(_taken(tenant_id, period))
        .group_by(containers.c.name)
    ).all()
    return tuple(
        Drawn(
            container=row.name,
            metered_j=int(row.metered_j),
            estimated_j=int(row.estimated_j),
            error_j=int(row.error_j),
        )
        for row in sorted(rows, key=lambda row: natural(row.name))
    )


def _by_hour(connection: Connection, tenant_id: int, period: Period) -> dict[tuple[int | None, int], int]:
    of = booked_energy.c
    rows = connection.execute(
        select(of.site_id, of.hour, func.sum(of.metered_j + of.estimated_j))
        .where(_taken(tenant_id, period))
        .group_by(of.site_id, of.hour)
    )
    return {(site, hour): int(joules) for site, hour, joules in rows}


def _charges(connection: Connection, tenant_id: int, period: Period) -> tuple[ChargeRow, ...]:
    of, at_s = energy_charges.c, energy_charges.c.charged_at_s
    rows = connection.execute(
        select(
            power_tariffs.c.name,
            power_tariffs.c.currency,
            power_tariffs.c.source,
            hosting_terms.c.currency.label("fee_currency"),
            hosting_terms.c.changed_by,
            of.hour,
            of.joules,
            of.amount_sat,
            of.amount_psat,
        )
        .join(hosting_terms, hosting_terms.c.id == of.terms_id)
        .outerjoin(power_tariffs, power_tariffs.c.id == of.tariff_id)
        .where(of.tenant_id == tenant_id, at_s >= period.from_s, at_s < period.to_s)
        .order_by(of.seq)
    )
    hours: dict[tuple[str, str, str], set[int]] = defaultdict(set)
    joules: dict[tuple[str, str, str], int] = defaultdict(int)
    psat: dict[tuple[str, str, str], int] = defaultdict(int)
    for row in rows:
        fee = ("fee", row.fee_currency, f"terms set by {row.changed_by}")
        key = fee if row.name is None else (row.name, row.currency, row.source)
        hours[key].add(row.hour)
        joules[key] += row.joules
        psat[key] += row.amount_sat * PSAT_PER_SAT + row.amount_psat
    return tuple(
        ChargeRow(
            tariff=key[0],
            currency=key[1],
            source=key[2],
            hours=len(hours[key]),
            joules=joules[key],
            cost_sat=psat[key] // PSAT_PER_SAT,
            cost_psat=psat[key] % PSAT_PER_SAT,
        )
        for key in sorted(hours)
    )


def _carry_psat(connection: Connection, tenant_id: int, before_s: int) -> int:
    of = energy_charges.c
    last = select(of.carry_out_psat).where(of.tenant_id == tenant_id, of.charged_at_s < before_s)
    return connection.scalar(last.order_by(of.seq.desc()).limit(1)) or 0


def _dues(connection: Connection, tenant_id: int, period: Period) -> tuple[int, int, int]:
    """What was due before, what was charged in whole satoshi, and what was collected of it."""
    of = energy_dues.c
    earlier = select(of.due_sat).where(of.tenant_id == tenant_id, of.booked_at_s < period.from_s)
    before = connection.scalar(earlier.order_by(of.seq.desc()).limit(1)) or 0
    within = (of.tenant_id == tenant_id, of.booked_at_s >= period.from_s, of.booked_at_s < period.to_s)
    sums = [
        connection.scalar(select(func.sum(of.change_sat)).where(*within, is_charge)) or 0
        for is_charge in (of.charge_seq.is_not(None), of.charge_seq.is_(None))
    ]
    return before, int(sums[0]), -int(sums[1])


def _curtailments(connection: Connection, tenant_id: int, period: Period) -> tuple[Curtailment, ...]:
    event, part = booked_events.c, booked_event_parts.c
    rows = connection.execute(
        select(booked_events, booked_event_parts)
        .join(booked_event_parts, part.event_id == event.event_id)
        .where(
            part.tenant_id == tenant_id,
            event.booked_at_s >= period.from_s,
            event.booked_at_s < period.to_s,
        )
        .order_by(event.event_id)
    )
    return tuple(
        Curtailment(
            event=row.event_id,
            site=row.site,
            reference=row.reference,
            asked_by=row.asked_by,
            from_utc=utc(row.from_s),
            ended_utc=utc(row.ended_at_s),
            machines=row.machines,
            machines_off=row.machines_off,
            watts_shed=row.watts_shed,
            joules_shed=row.joules_shed,
            ph_days=ph_days_text(row.difficulty),
            forgone_sat=row.forgone_sat,
            error_sat=row.error_sat,
        )
        for row in rows
    )


def _payments(connection: Connection, tenant_id: int, period: Period) -> tuple[GridPayment, ...]:
    of, part = grid_payments.c, grid_payment_parts.c
    rows = connection.execute(
        select(of.event_id, of.reference, of.booked_at_s, part.operator_sat, part.tenant_sat)
        .join(grid_payment_parts, part.payment_id == of.id)
        .where(part.tenant_id == tenant_id, of.booked_at_s >= period.from_s, of.booked_at_s < period.to_s)
        .order_by(of.id)
    )
    return tuple(
        GridPayment(
            event=row.event_id,
            reference=row.reference,
            booked_at_utc=utc(row.booked_at_s),
            operator_sat=row.operator_sat,
            tenant_sat=row.tenant_sat,
        )
        for row in rows
    )
