"""Charges: energy that was drawn becomes what tenants owe for it, hour by hour, where their terms say so.

A charge is the energy of one tenant at one site in one hour: one exact cost, floored to psat, added to what
the tenant's last charge carried; whole satoshi are due and the rest, below one satoshi, is carried forward.
Energy that is known better later, more or less, is charged as the hour's next part, at the price of its
first: what a currency is worth since is nobody's gain. What is due to be charged is what was drawn and is not
charged, never what lies after some moment.

An hour without a tariff, or in a currency that nobody has said the worth of, is not charged: it is told, and
charged when there is a price, by the rate of that hour.

Invariants: a charge, its posting and the count of what is charged are one transaction, the caller's, which
must be the only writer. A statement that was made does not change: what comes late is booked now. Must not
know: the time, and who measured.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, insert, select, tuple_, update

from payouts.book_time import book_time
from payouts.energy.dues import charged, note_charge
from payouts.energy.exchange import Exchange, exchange_at, exchange_in
from payouts.energy.tariffs import HOUR_S, MICRO, Tariff, month_of, tariff_at, tariff_in
from payouts.energy.terms import Charge, TermsOf, terms_of
from payouts.ledger import Transaction
from payouts.rates import PSAT_PER_SAT
from payouts.schemas.energy import (
    energy_charges,
    energy_to_charge,
    hosting_terms,
    power_exchange,
    power_tariffs,
)

LOOKED_MAX: Final = 20  # hours in one transaction: 20 ms during which the journal waits for its turn

Place = tuple[int, int, int]  # hour, tenant, site
FIRST: Final[Place] = (-1, 0, 0)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What energy costs, and what that follows from; `month_j` is of a tariff with tiers."""

    sat: Fraction
    tariff_id: int | None
    exchange_id: int | None
    month_j: int | None


class EnergyCharge(msgspec.Struct, frozen=True, kw_only=True):
    """One hour of a tenant at a site, or a later part of it, with all that its posting follows from."""

    tenant_id: int
    site_id: int
    hour: int
    part: int
    terms_id: int
    joules: int
    cost: Cost
    amount_psat: int  # floored, below zero where energy is taken back or its price is
    carry_in_psat: int

    @property
    def posted_sat(self) -> int:
        return (self.amount_psat + self.carry_in_psat) // PSAT_PER_SAT

    @property
    def carry_out_psat(self) -> int:
        return (self.amount_psat + self.carry_in_psat) % PSAT_PER_SAT

    @property
    def transaction(self) -> Transaction | None:
        """What is booked; None where there is no whole satoshi."""
        if not self.posted_sat:
            return None
        hour = datetime.fromtimestamp(self.hour * HOUR_S, UTC)
        return charged(
            key=f"energy:{self.tenant_id}:{self.site_id}:{self.hour}:{self.part}",
            memo=f"energy of tenant {self.tenant_id}, {hour:%Y-%m-%dT%H}Z, part {self.part}",
            posted_sat=self.posted_sat,
        )


class Unpriced(msgspec.Struct, frozen=True, kw_only=True):
    """An hour that cannot be charged yet, and why, in words."""

    tenant_id: int
    site_id: int
    hour: int
    joules: int
    why: str


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """What one step would do: how many hours have a price, and those that have none."""

    priced: int
    unpriced: tuple[Unpriced, ...]
    after: Place | None


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What one step did, and where the next one begins; None: nothing is left to look at."""

    charged: tuple[EnergyCharge, ...]
    unpriced: tuple[Unpriced, ...]
    after: Place | None


def derive(
    tenant_id: int,
    site_id: int,
    hour: int,
    part: int,
    terms_id: int,
    joules: int,
    cost: Cost,
    carry_in_psat: int,
) -> EnergyCharge:
    """The charge of so much energy: pure, so that it can be checked."""
    exact = cost.sat * PSAT_PER_SAT
    return EnergyCharge(
        tenant_id=tenant_id,
        site_id=site_id,
        hour=hour,
        part=part,
        terms_id=terms_id,
        joules=joules,
        cost=cost,
        amount_psat=exact.numerator // exact.denominator,
        carry_in_psat=carry_in_psat,
    )


def charge(connection: Connection, now_s: int, after: Place = FIRST) -> Looked:
    """Charge what is due, of at most LOOKED_MAX hours behind a place."""
    rows, last = _due(connection, after)
    looked = [_charge(connection, row, now_s) for row in rows]
    return Looked(
        charged=tuple(it for it in looked if isinstance(it, EnergyCharge)),
        unpriced=tuple(it for it in looked if isinstance(it, Unpriced)),
        after=last,
    )


def due(connection: Connection, after: Place = FIRST) -> Due:
    """What `charge` would find there. Reads only: an idle book is not to be written for it."""
    rows, last = _due(connection, after)
    costs = [(row, _cost(connection, row).cost) for row in rows]
    unpriced = tuple(_unpriced(row, cost) for row, cost in costs if isinstance(cost, str))
    return Due(priced=len(rows) - len(unpriced), unpriced=unpriced, after=last)


def newest_prices(connection: Connection) -> tuple[int, int]:
    """Of tariffs and of rates, which never change: while these are the same nothing gets a price by them."""
    tariff, rate = (
        connection.scalar(select(func.max(it.c.id))) or 0 for it in (power_tariffs, power_exchange)
    )
    return tariff, rate


def _due(connection: Connection, after: Place) -> tuple[Sequence[Row[Any]], Place | None]:
    of = energy_to_charge.c
    place = (of.hour, of.tenant_id, of.site_id)
    rows = connection.execute(
        select(energy_to_charge)
        .where(of.terms_id.is_not(None), of.charged_j != of.joules, tuple_(*place) > tuple_(*after))
        .order_by(*place)
        .limit(LOOKED_MAX)
    ).all()
    last = (rows[-1].hour, rows[-1].tenant_id, rows[-1].site_id) if len(rows) == LOOKED_MAX else None
    return rows, last


def cost_of(
    connection: Connection, terms: TermsOf, site_id: int, hour: int, joules: int, tenant_id: int, part: int
) -> Cost | str:
    """What so much energy costs, or why nobody can tell: at the price of the first part, where there is
    one."""
    if part:
        first = connection.execute(
            select(energy_charges).where(
                energy_charges.c.tenant_id == tenant_id,
                energy_charges.c.site_id == site_id,
                energy_charges.c.hour == hour,
                energy_charges.c.part == 0,
            )
        ).one()
        tariff = by_terms(terms) if first.tariff_id is None else tariff_in(connection, first.tariff_id, hour)
        exchange: Exchange | None = exchange_in(connection, first.exchange_id)
    else:
        found = (
            by_terms(terms) if terms.charge is Charge.FEE else tariff_at(connection, site_id or None, hour)
        )
        if found is None:
            return "its site has no tariff"
        tariff, exchange = found, exchange_at(connection, found.currency, hour * HOUR_S)
    if exchange is None:
        return f"nobody has said what a {tariff.currency} was worth"
    month_j = month_before_j(connection, tariff.id, tenant_id, site_id, hour) if tariff.tiers else None
    return price(tariff, exchange, joules, month_j)


def price(tariff: Tariff, exchange: Exchange, joules: int, month_j: int | None) -> Cost:
    """What so much energy costs by a tariff at a rate."""
    return Cost(
        sat=tariff.cost(joules, month_j or 0) * exchange.sat / MICRO,
        tariff_id=tariff.id,
        exchange_id=exchange.id,
        month_j=month_j,
    )


def by_terms(terms: TermsOf) -> Tariff:
    """A tenant's own fee as a tariff."""
    assert terms.currency is not None
    return Tariff(id=None, currency=terms.currency, price_micro=terms.fee_micro)


def month_before_j(
    connection: Connection,
    tariff_id: int | None,
    tenant_id: int,
    site_id: int,
    hour: int,
    before_seq: int | None = None,
) -> int:
    """What the tenant's tiers of a tariff were given of the hour's month, by charges before that one."""
    of, (first, after) = energy_charges.c, month_of(hour)
    given = select(func.sum(of.joules)).where(
        of.tenant_id == tenant_id,
        of.site_id == site_id,
        of.hour >= first,
        of.hour < after,
        of.tariff_id == tariff_id,
    )
    if before_seq is not None:
        given = given.where(of.seq < before_seq)
    return int(connection.scalar(given) or 0)


def carry_psat(connection: Connection, tenant_id: int) -> int:
    """What the tenant's last charge carried forward."""
    of = energy_charges.c
    last = select(of.carry_out_psat).where(of.tenant_id == tenant_id).order_by(of.seq.desc()).limit(1)
    return connection.scalar(last) or 0


class _Costs(msgspec.Struct, frozen=True):
    """Of what is not charged of an hour: by which terms, as which part, and what it costs, or why not."""

    terms: TermsOf
    part: int
    joules: int
    cost: Cost | str


def _cost(connection: Connection, row: Row[Any]) -> _Costs:
    terms = terms_of(
        connection.execute(select(hosting_terms).where(hosting_terms.c.id == row.terms_id)).one()
    )
    of, joules = energy_charges.c, row.joules - row.charged_j
    counted = select(func.count()).where(
        of.tenant_id == row.tenant_id, of.site_id == row.site_id, of.hour == row.hour
    )
    part = connection.scalar(counted) or 0
    cost = cost_of(connection, terms, row.site_id, row.hour, joules, row.tenant_id, part)
    return _Costs(terms, part, joules, cost)


def _unpriced(row: Row[Any], why: str) -> Unpriced:
    joules = row.joules - row.charged_j
    return Unpriced(tenant_id=row.tenant_id, site_id=row.site_id, hour=row.hour, joules=joules, why=why)


def _charge(connection: Connection, row: Row[Any], now_s: int) -> EnergyCharge | Unpriced:
    it = _cost(connection, row)
    if isinstance(it.cost, str):
        return _unpriced(row, it.cost)
    carried = carry_psat(connection, row.tenant_id)
    made = derive(row.tenant_id, row.site_id, row.hour, it.part, it.terms.id, it.joules, it.cost, carried)
    _book(connection, made, now_s)
    return made


def _book(connection: Connection, it: EnergyCharge, now_s: int) -> None:
    amount_sat, amount_psat = divmod(it.amount_psat, PSAT_PER_SAT)
    seq = connection.execute(
        insert(energy_charges)
        .values(
            tenant_id=it.tenant_id,
            site_id=it.site_id,
            hour=it.hour,
            part=it.part,
            terms_id=it.terms_id,
            tariff_id=it.cost.tariff_id,
            exchange_id=it.cost.exchange_id,
            joules=it.joules,
            month_j=it.cost.month_j,
            amount_sat=amount_sat,
            amount_psat=amount_psat,
            carry_in_psat=it.carry_in_psat,
            posted_sat=it.posted_sat,
            carry_out_psat=it.carry_out_psat,
            charged_at_s=book_time(connection, now_s),
        )
        .returning(energy_charges.c.seq)
    ).scalar_one()
    if it.transaction is not None:
        note_charge(connection, it.tenant_id, seq, it.transaction, it.posted_sat, now_s)
    of = energy_to_charge.c
    connection.execute(
        update(energy_to_charge)
        .where(of.tenant_id == it.tenant_id, of.site_id == it.site_id, of.hour == it.hour)
        .values(charged_j=of.charged_j + it.joules)
    )
