"""The audit of energy: what is charged follows from what was drawn, at a price that held then; what is due
from what was charged and collected; and each payment of the grid is divided as its event says.

A charge is derived again from its own energy, terms, tariff and exchange rate; that these were the ones to
take is asked as well: of all that were known at the time, none counts before them. Since a checkpoint only
charges and dues of the days from it on are looked at, and what they carry begins with the row before.

Invariants: reads only. Must not know: who measured, and how to mend anything.
"""

from collections.abc import Iterator
from fractions import Fraction
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, func, or_, select

from payouts.audit.filled import filled
from payouts.audit.finding import Found
from payouts.energy.charges import EnergyCharge, by_terms, derive, month_before_j, price
from payouts.energy.dues import collected
from payouts.energy.exchange import HOLDS_S, IN_SATOSHI, SATOSHI, Exchange, holding
from payouts.energy.grid import Basis, parts_of, transaction, weights_of
from payouts.energy.tariffs import HOUR_S, MICRO, Kind, Tariff, in_force, month_of, tiers_of
from payouts.energy.terms import Charge, TermsOf, held_at, history_of, terms_at
from payouts.ledger import PoolAccount, balance_sat
from payouts.rates import PSAT_PER_SAT
from payouts.schemas.energy import (
    booked_energy,
    booked_events,
    energy_charges,
    energy_dues,
    energy_to_charge,
    grid_payment_parts,
    grid_payments,
    power_exchange,
    power_tariff_hours,
    power_tariffs,
)
from payouts.schemas.money import ledger_transactions

ROWS_AT_ONCE: Final = 1_000  # what a walk holds in memory
KEPT_MAX: Final = 10_000  # prices of hours that are remembered: a year of hours at a site


def check_energy(connection: Connection, from_s: int = 0) -> None:
    """Of all that was booked from that moment on. Raises Found for the first row that is wrong."""
    _Energy(connection, from_s).check()


class _Energy:
    def __init__(self, connection: Connection, from_s: int) -> None:
        self._connection = connection
        self._from_s = from_s
        self._histories: dict[int, tuple[TermsOf, ...]] = {}
        self._carries: dict[int, int] = {}
        self._months: dict[tuple[int | None, int, int, int], int] = {}
        self._tiers: dict[int, tuple[tuple[int, int], ...]] = {}
        self._tariffs: dict[tuple[int, int], list[Row[Any]]] = {}
        self._exchanges: dict[tuple[str, int], list[Row[Any]]] = {}

    def check(self) -> None:
        if filled(self._connection, booked_energy, energy_to_charge, energy_charges):
            self._check_drawn()
            self._check_charges()
        self._check_dues()
        self._check_payments()

    # What was drawn

    def _check_drawn(self) -> None:
        of, sums, charges = booked_energy.c, energy_to_charge.c, energy_charges.c
        first = self._from_s // HOUR_S
        parts = (
            select(of.container_id, of.hour)
            .where(of.hour >= first)
            .group_by(of.container_id, of.hour)
            .having(
                or_(
                    func.max(of.part) + 1 != func.count(),
                    func.sum(of.metered_j) < 0,
                    func.sum(of.estimated_j) < 0,
                    func.min(of.tenant_id) != func.max(of.tenant_id),
                )
            )
        )
        self._none(parts, "booked_energy", "a part of this hour is missing, or it is less than nothing")
        site = func.coalesce(of.site_id, 0)
        drawn = (
            select(
                of.tenant_id,
                site.label("site_id"),
                of.hour,
                func.sum(of.metered_j + of.estimated_j).label("j"),
            )
            .where(of.hour >= first)
            .group_by(of.tenant_id, site, of.hour)
            .subquery()
        )
        key = (sums.tenant_id, sums.site_id, sums.hour)
        same = and_(*(drawn.c[it.name] == it for it in key))
        counted = (
            select(*key)
            .outerjoin(drawn, same)
            .where(sums.hour >= first, func.coalesce(drawn.c.j, 0) != sums.joules)
        )
        self._none(counted, "energy_to_charge", "it is not what its containers drew")
        missing = (
            select(drawn.c.tenant_id, drawn.c.site_id, drawn.c.hour)
            .outerjoin(energy_to_charge, same)
            .where(sums.hour.is_(None), drawn.c.j != 0)
        )
        self._none(missing, "energy_to_charge", "energy was drawn, and is not there to charge")
        charged = (
            select(charges.tenant_id, charges.site_id, charges.hour, func.sum(charges.joules).label("j"))
            .where(charges.hour >= first)
            .group_by(charges.tenant_id, charges.site_id, charges.hour)
            .subquery()
        )
        of_it = and_(*(charged.c[it.name] == it for it in key))
        wrong = (
            select(*key)
            .outerjoin(charged, of_it)
            .where(sums.hour >= first, func.coalesce(charged.c.j, 0) != sums.charged_j)
        )
        self._none(wrong, "energy_to_charge", "its charges are of other energy")
        of_nobody = (
            select(charges.seq)
            .outerjoin(energy_to_charge, and_(*(charges[it.name] == it for it in key)))
            .where(charges.hour >= first, sums.hour.is_(None))
        )
        self._none(of_nobody, "energy_charges", "nobody drew its energy")
        for row in self._walk(select(energy_to_charge).where(sums.hour >= first).order_by(*key)):
            terms = self._held(row.tenant_id, row.hour)
            charged_by = None if terms is None or terms.charge is Charge.NONE else terms.id
            if row.terms_id != charged_by:
                place = (row.tenant_id, row.site_id, row.hour)
                raise Found.of("energy_to_charge", place, "it is by other terms than held in that hour")

    # What was charged

    def _check_charges(self) -> None:
        query = (
            select(
                energy_charges,
                power_tariffs.c.kind,
                power_tariffs.c.currency,
                power_tariffs.c.price_micro,
                power_tariff_hours.c.price_micro.label("hour_micro"),
                power_exchange.c.sat_numerator,
                power_exchange.c.sat_denominator,
                energy_dues.c.change_sat,
                ledger_transactions.c.idempotency_key,
                ledger_transactions.c.payload_hash,
            )
            .outerjoin(power_tariffs, power_tariffs.c.id == energy_charges.c.tariff_id)
            .outerjoin(
                power_tariff_hours,
                and_(
                    power_tariff_hours.c.tariff_id == energy_charges.c.tariff_id,
                    power_tariff_hours.c.hour == energy_charges.c.hour,
                ),
            )
            .outerjoin(power_exchange, power_exchange.c.id == energy_charges.c.exchange_id)
            .outerjoin(energy_dues, energy_dues.c.charge_seq == energy_charges.c.seq)
            .outerjoin(ledger_transactions, ledger_transactions.c.seq == energy_dues.c.transaction_seq)
            .where(energy_charges.c.charged_at_s >= self._from_s)
            .order_by(energy_charges.c.seq)
        )
        for row in self._walk(query):
            reason = self._why_not(row)
            if reason is not None:
                raise Found("energy_charges", row.seq, reason)
        gaps = select(func.count(), func.coalesce(func.max(energy_charges.c.seq), 0))
        count, last = self._connection.execute(gaps).one()
        if count != last:
            raise Found("energy_charges", f"up to {last}", "one is missing")
        of = energy_charges.c
        parts = (
            select(of.tenant_id, of.site_id, of.hour)
            .group_by(of.tenant_id, of.site_id, of.hour)
            .having(func.max(of.part) + 1 != func.count())
        )
        self._none(parts, "energy_charges", "a part of this hour is missing")

    def _why_not(self, row: Row[Any]) -> str | None:
        terms = self._terms(row)
        if terms is None:
            return "its terms are not those of its hour"
        tariff = self._tariff(row, terms)
        if tariff is None or (row.exchange_id is None) != (tariff.currency == SATOSHI):
            return "there is no such price"
        month_j = self._month_before_j(row) if tariff.tiers else None
        cost = price(tariff, _exchange(row), row.joules, month_j)
        expected = derive(
            row.tenant_id,
            row.site_id,
            row.hour,
            row.part,
            row.terms_id,
            row.joules,
            cost,
            self._carry_psat(row),
        )
        self._carries[row.tenant_id] = expected.carry_out_psat
        if not _same(row, expected):
            return "it does not follow from its energy and its price"
        booked = expected.transaction
        found = (row.change_sat, row.idempotency_key, row.payload_hash)
        if found != (
            (None,) * 3 if booked is None else (expected.posted_sat, booked.key, booked.payload_hash)
        ):
            return "the ledger, or what is due, has something else"
        return self._why_not_that_price(row, terms, tariff)

    def _why_not_that_price(self, row: Row[Any], terms: TermsOf, tariff: Tariff) -> str | None:
        """Later parts are at the price of the first; that is the one that held, of all that were known."""
        if row.part:
            of = energy_charges.c
            first = self._connection.execute(
                select(of.tariff_id, of.exchange_id, of.terms_id).where(
                    of.tenant_id == row.tenant_id,
                    of.site_id == row.site_id,
                    of.hour == row.hour,
                    of.part == 0,
                )
            ).one_or_none()
            same = first is not None and tuple(first) == (row.tariff_id, row.exchange_id, row.terms_id)
            return None if same else "it is not at the price of the hour's first part"
        if terms.charge is Charge.TARIFF:
            known = self._kept(
                self._tariffs, (row.site_id, row.hour), in_force(row.site_id or None, row.hour)
            )
            if not _counts(known, row.tariff_id, row.charged_at_s):
                return "another tariff held in that hour"
        if row.exchange_id is not None:
            at = (tariff.currency, row.hour)
            rows = self._kept(self._exchanges, at, holding(tariff.currency, row.hour * HOUR_S))
            if not _counts(rows, row.exchange_id, row.charged_at_s):
                return f"another exchange rate held in that hour, or none within {HOLDS_S} s"
        return None

    def _terms(self, row: Row[Any]) -> TermsOf | None:
        held = self._held(row.tenant_id, row.hour)
        return held if held is not None and held.id == row.terms_id else None

    def _held(self, tenant_id: int, hour: int) -> TermsOf | None:
        if tenant_id not in self._histories:
            self._histories[tenant_id] = history_of(self._connection, tenant_id)
        return held_at(self._histories[tenant_id], hour * HOUR_S)

    def _tariff(self, row: Row[Any], terms: TermsOf) -> Tariff | None:
        if terms.charge is Charge.FEE:
            return by_terms(terms) if row.tariff_id is None else None
        if terms.charge is Charge.NONE or row.kind is None:
            return None
        if row.kind == Kind.TIERED:
            if row.tariff_id not in self._tiers:
                self._tiers[row.tariff_id] = tiers_of(self._connection, row.tariff_id)
            tiers = self._tiers[row.tariff_id]
            return Tariff(id=row.tariff_id, currency=row.currency, price_micro=None, tiers=tiers)
        micro = row.hour_micro if row.kind == Kind.HOURLY else row.price_micro
        if micro is None:
            return None
        return Tariff(id=row.tariff_id, currency=row.currency, price_micro=micro)

    def _month_before_j(self, row: Row[Any]) -> int:
        key = (row.tariff_id, row.tenant_id, row.site_id, month_of(row.hour)[0])
        if key not in self._months:
            self._months[key] = month_before_j(self._connection, *key[:3], row.hour, before_seq=row.seq)
        before_j = self._months[key]
        self._months[key] += row.joules
        return before_j

    def _carry_psat(self, row: Row[Any]) -> int:
        if row.tenant_id not in self._carries:
            of = energy_charges.c
            before = select(of.carry_out_psat).where(of.tenant_id == row.tenant_id, of.seq < row.seq)
            self._carries[row.tenant_id] = (
                self._connection.scalar(before.order_by(of.seq.desc()).limit(1)) or 0
            )
        return self._carries[row.tenant_id]

    def _kept(self, kept: dict[Any, list[Row[Any]]], key: Any, query: Any) -> list[Row[Any]]:
        if key not in kept:
            if len(kept) >= KEPT_MAX:
                kept.clear()
            kept[key] = list(self._connection.execute(query))
        return kept[key]

    # What is due

    def _check_dues(self) -> None:
        of = energy_dues.c
        before: dict[int, int] = {}
        query = (
            select(
                energy_dues,
                ledger_transactions.c.idempotency_key,
                ledger_transactions.c.payload_hash,
            )
            .outerjoin(ledger_transactions, ledger_transactions.c.seq == of.transaction_seq)
            .where(of.booked_at_s >= self._from_s)
            .order_by(of.seq)
        )
        for row in self._walk(query):
            if row.tenant_id not in before:
                mine = select(of.due_sat).where(of.tenant_id == row.tenant_id, of.seq < row.seq)
                before[row.tenant_id] = self._connection.scalar(mine.order_by(of.seq.desc()).limit(1)) or 0
            if before[row.tenant_id] + row.change_sat != row.due_sat:
                raise Found("energy_dues", row.seq, "it does not go on from what was due before")
            if row.charge_seq is None:
                booked = collected(row.tenant_id, row.seq, -row.change_sat)
                if (row.idempotency_key, row.payload_hash) != (booked.key, booked.payload_hash):
                    raise Found("energy_dues", row.seq, "the ledger has something else")
                if row.due_sat < 0 or (row.change_sat > 0) != (before[row.tenant_id] < 0):
                    raise Found("energy_dues", row.seq, "more was collected than was due")
            before[row.tenant_id] = row.due_sat
        count, last = self._connection.execute(
            select(func.count(), func.coalesce(func.max(of.seq), 0)).select_from(energy_dues)
        ).one()
        if count != last:
            raise Found("energy_dues", f"up to {last}", "one is missing")
        total = self._connection.scalar(select(func.sum(of.change_sat))) or 0
        if total != -balance_sat(self._connection, PoolAccount.ENERGY_DUE.value):
            raise Found("energy_dues", f"up to {last}", "they are not what the ledger has as due")

    # What the grid paid

    def _check_payments(self) -> None:
        query = (
            select(
                grid_payments,
                booked_events.c.from_s,
                power_exchange.c.sat_numerator,
                power_exchange.c.sat_denominator,
                ledger_transactions.c.idempotency_key,
                ledger_transactions.c.payload_hash,
                grid_payment_parts.c.tenant_id,
                grid_payment_parts.c.operator_bps,
                grid_payment_parts.c.operator_sat,
                grid_payment_parts.c.tenant_sat,
            )
            .join(booked_events, booked_events.c.event_id == grid_payments.c.event_id)
            .outerjoin(grid_payment_parts, grid_payment_parts.c.payment_id == grid_payments.c.id)
            .outerjoin(power_exchange, power_exchange.c.id == grid_payments.c.exchange_id)
            .outerjoin(ledger_transactions, ledger_transactions.c.seq == grid_payments.c.transaction_seq)
            .where(grid_payments.c.booked_at_s >= self._from_s)
            .order_by(grid_payments.c.id, grid_payment_parts.c.tenant_id)
        )
        for number, group in groupby(self._walk(query), key=lambda row: row.id):
            reason = self._why_not_divided(list(group))
            if reason is not None:
                raise Found("grid_payments", number, reason)

    def _why_not_divided(self, rows: list[Row[Any]]) -> str | None:
        row = rows[0]
        if int(_exchange(row).sat * row.amount_micro / MICRO) != row.amount_sat:
            return "its amount is not what the currency was worth"
        weights = weights_of(self._connection, row.event_id, Basis(row.basis))
        bps = {it.tenant_id: it.operator_bps for it in rows}
        for tenant_id in weights:
            terms = terms_at(self._connection, tenant_id, row.from_s)
            if bps.get(tenant_id) != (0 if terms is None else terms.grid_operator_bps):
                return f"the operator's part of tenant {tenant_id} is not that of its terms"
        expected = parts_of(row.amount_sat, weights, bps) if sum(weights.values()) else ()
        found = tuple((it.tenant_id, it.operator_sat, it.tenant_sat) for it in rows)
        if found != tuple((it.tenant_id, it.operator_sat, it.tenant_sat) for it in expected):
            return "it is not divided as its event says"
        booked = transaction(row.event_id, row.reference, row.from_s, expected)
        if (row.idempotency_key, row.payload_hash) != (booked.key, booked.payload_hash):
            return "the ledger has something else"
        return None

    def _none(self, query: Select[Any], table: str, reason: str) -> None:
        row = self._connection.execute(query.limit(1)).first()
        if row is not None:
            raise Found.of(table, row, reason)

    def _walk(self, query: Any) -> Iterator[Row[Any]]:
        with self._connection.execute(query.execution_options(yield_per=ROWS_AT_ONCE)) as rows:
            for part in rows.partitions():
                yield from part


def _exchange(row: Row[Any]) -> Exchange:
    """Of a row that has the fraction of its exchange rate beside it."""
    if row.exchange_id is None:
        return IN_SATOSHI
    return Exchange(id=row.exchange_id, sat=Fraction(row.sat_numerator, row.sat_denominator))


def _same(row: Row[Any], it: EnergyCharge) -> bool:
    amount = divmod(it.amount_psat, PSAT_PER_SAT)
    return (row.amount_sat, row.amount_psat, row.carry_in_psat) == (*amount, it.carry_in_psat) and (
        row.posted_sat,
        row.carry_out_psat,
        row.month_j,
    ) == (it.posted_sat, it.carry_out_psat, it.cost.month_j)


def _counts(rows: list[Row[Any]], number: int, at_s: int) -> bool:
    """Whether that one counts, of those that were known: of what was said in that very second either may."""
    for row in rows:
        if row.id == number:
            return True
        if row.added_at_s < at_s:
            return False
    return False
