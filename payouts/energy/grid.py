"""What the grid paid for a curtailment, divided among the tenants whose machines were off, and the operator.

A payment is divided by the revenue that each tenant forgoes, or by the energy that its machines did not draw:
floors, and a satoshi more for the largest remainders until all of it is given. Of a tenant's part the
operator keeps what the tenant's hosting terms say that held when the event began.

Invariants: the parts are the payment, to the satoshi; a payment is booked once, by the payer's own reference.
Must not know: which grid, and how it paid.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, insert, select

from payouts.book_time import book_time
from payouts.energy.exchange import exchange_at
from payouts.energy.tariffs import MICRO, BadTariff, check_currency
from payouts.energy.terms import terms_at
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, open_accounts, payable, post
from payouts.rates import BPS, MAX_MONEY_SAT, PSAT_PER_SAT
from payouts.schemas.energy import booked_event_parts, booked_events, grid_payment_parts, grid_payments

REFERENCE_MAX: Final = 100  # leaves room for the rest of a ledger's key


class Basis(StrEnum):
    """By what a payment is divided."""

    FORGONE = "forgone"
    SHED = "shed"


class NewPayment(msgspec.Struct, frozen=True, kw_only=True):
    """`amount_micro` in micro-units of the currency."""

    event_id: int
    reference: str
    currency: str
    amount_micro: int
    basis: Basis = Basis.FORGONE

    def __post_init__(self) -> None:
        check_currency(self.currency)
        if not 0 < len(self.reference) <= REFERENCE_MAX or not self.reference.isprintable():
            raise BadTariff(f"a reference is 1 to {REFERENCE_MAX} printable characters")
        if not 0 < self.amount_micro <= 2**63 - 1:
            raise BadTariff("a payment is more than nothing")


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's part, and what of it is the operator's."""

    tenant_id: int
    operator_bps: int
    operator_sat: int
    tenant_sat: int


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment as it is booked."""

    id: int
    event_id: int
    reference: str
    currency: str
    amount_micro: int
    amount_sat: int
    basis: Basis
    booked_at_s: int
    booked_by: str
    parts: tuple[Part, ...]


def divided(amount: int, weights: Mapping[int, int]) -> dict[int, int]:
    """The amount by these weights, exactly: largest remainders, of equal ones the lowest number's first.

    Raises BadTariff where nobody has a weight.
    """
    total = sum(weights.values())
    if total <= 0:
        raise BadTariff("no machine was off in this event: there is nobody to divide a payment among")
    parts = {key: amount * weight // total for key, weight in weights.items()}
    left = amount - sum(parts.values())
    ranked = sorted(weights, key=lambda key: (-(amount * weights[key] % total), key))
    for key in ranked[:left]:
        parts[key] += 1
    return parts


def parts_of(
    amount_sat: int, weights: Mapping[int, int], operator_bps: Mapping[int, int]
) -> tuple[Part, ...]:
    """The tenants' parts, the operator's taken off each, rounded down. Pure, so that it can be checked."""
    return tuple(
        Part(
            tenant_id=tenant_id,
            operator_bps=operator_bps[tenant_id],
            operator_sat=sat * operator_bps[tenant_id] // BPS,
            tenant_sat=sat - sat * operator_bps[tenant_id] // BPS,
        )
        for tenant_id, sat in sorted(divided(amount_sat, weights).items())
    )


def transaction(event_id: int, reference: str, at_s: int, parts: tuple[Part, ...]) -> Transaction:
    """What is booked for a payment."""
    received, operator = PoolAccount.GRID_RECEIVED.value, PoolAccount.GRID_INCOME.value
    pairs = [(payable(it.tenant_id), it.tenant_sat) for it in parts]
    pairs.append((operator, sum(it.operator_sat for it in parts)))
    day = datetime.fromtimestamp(at_s, UTC)
    return Transaction(
        key=f"grid:{event_id}:{reference}",
        kind=Kind.GRID,
        memo=f"paid by the grid for event {event_id} of {day:%Y-%m-%d}, {reference}",
        transfers=tuple(Transfer(received, account, sat) for account, sat in pairs if sat),
    )


def weights_of(connection: Connection, event_id: int, basis: Basis) -> dict[int, int]:
    """By tenant, what a payment for the event is divided by."""
    rows = connection.execute(
        select(booked_event_parts).where(booked_event_parts.c.event_id == event_id)
    ).all()
    if basis is Basis.SHED:
        return {row.tenant_id: row.joules_shed for row in rows}
    return {row.tenant_id: row.forgone_sat * PSAT_PER_SAT + row.forgone_psat for row in rows}


def add_payment(connection: Connection, new: NewPayment, *, by: str, now_s: int) -> Payment:
    """Book it. The same one again is found, not booked. Raises BadTariff."""
    event = connection.execute(
        select(booked_events).where(booked_events.c.event_id == new.event_id)
    ).one_or_none()
    if event is None:
        raise BadTariff(f"event {new.event_id} is not in the books: it is 15 minutes after its end")
    known = _known(connection, new.event_id, new.reference)
    if known is not None:
        if (known.currency, known.amount_micro, known.basis) != (new.currency, new.amount_micro, new.basis):
            raise BadTariff(f"{new.reference!r} is booked already, of another amount")
        return known
    now_s = book_time(connection, now_s)
    exchange = exchange_at(connection, new.currency, now_s)
    if exchange is None:
        raise BadTariff(f"nobody has said what a {new.currency} is worth now: angara power price set")
    amount_sat = int(exchange.sat * new.amount_micro / MICRO)
    if not 0 < amount_sat <= MAX_MONEY_SAT:
        raise BadTariff(f"a payment of {amount_sat} satoshi cannot be booked")
    weights = weights_of(connection, new.event_id, new.basis)
    terms = {it: terms_at(connection, it, event.from_s) for it in weights}
    bps = {it: 0 if of is None else of.grid_operator_bps for it, of in terms.items()}
    parts = parts_of(amount_sat, weights, bps)
    for it in parts:
        open_accounts(connection, it.tenant_id)
    posted = post(connection, transaction(new.event_id, new.reference, event.from_s, parts), now_s)
    payment = insert(grid_payments).values(
        event_id=new.event_id,
        reference=new.reference,
        currency=new.currency,
        amount_micro=new.amount_micro,
        exchange_id=exchange.id,
        amount_sat=amount_sat,
        basis=new.basis.value,
        transaction_seq=posted.seq,
        booked_at_s=now_s,
        booked_by=by,
    )
    number = connection.execute(payment.returning(grid_payments.c.id)).scalar_one()
    rows = [msgspec.structs.asdict(it) | {"payment_id": number} for it in parts]
    connection.execute(insert(grid_payment_parts), rows)
    booked = _known(connection, new.event_id, new.reference)
    assert booked is not None
    return booked


def payments_of(connection: Connection, event_id: int) -> tuple[Payment, ...]:
    """What was paid for an event."""
    references = connection.scalars(
        select(grid_payments.c.reference)
        .where(grid_payments.c.event_id == event_id)
        .order_by(grid_payments.c.id)
    ).all()
    found = (_known(connection, event_id, it) for it in references)
    return tuple(it for it in found if it is not None)


def _known(connection: Connection, event_id: int, reference: str) -> Payment | None:
    row = connection.execute(
        select(grid_payments).where(
            grid_payments.c.event_id == event_id, grid_payments.c.reference == reference
        )
    ).one_or_none()
    if row is None:
        return None
    of = grid_payment_parts.c
    parts = connection.execute(
        select(grid_payment_parts).where(of.payment_id == row.id).order_by(of.tenant_id)
    )
    return Payment(
        id=row.id,
        event_id=row.event_id,
        reference=row.reference,
        currency=row.currency,
        amount_micro=row.amount_micro,
        amount_sat=row.amount_sat,
        basis=Basis(row.basis),
        booked_at_s=row.booked_at_s,
        booked_by=row.booked_by,
        parts=tuple(
            Part(
                tenant_id=it.tenant_id,
                operator_bps=it.operator_bps,
                operator_sat=it.operator_sat,
                tenant_sat=it.tenant_sat,
            )
            for it in parts
        ),
    )
