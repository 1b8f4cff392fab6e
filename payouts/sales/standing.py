"""Where invoices stand: open, due, overdue, stopped, paid or written off, and which orders stop for it.

What a buyer paid goes to the oldest invoice first, whatever it was meant for; what is written off belongs to
its own. What is left of a few satoshi is no reason to dun: an order whose overdue rest is DUST_SAT at most is
not overdue, and that rest is all that a buyer who always pays too little ever gains.

Invariants: derived from what is booked, so a payment that is taken back has the invoice overdue again. Reads
only. Must not know: what stops an order, and who is told.
"""

from collections import defaultdict
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, case, func, select, true

from payouts.sales.open_charges import open_sat
from payouts.sales.terms import DAY_S, BillingTerms, billing_of, ends_s
from payouts.schemas.money import ledger_transactions
from payouts.schemas.orders import orders
from payouts.schemas.sales import order_charges, order_deposits, order_invoices, order_payments

# What an output of a transaction has to be worth to be relayed (Bitcoin Core, dust at 3 sat/vB of P2PKH).
DUST_SAT: Final = 546


class InvoiceState(StrEnum):
    """How far an invoice is."""

    OPEN = "open"  # not due yet
    DUE = "due"  # since less than a day; or what is left of it is dust
    OVERDUE = "overdue"
    STOPPED = "stopped"  # for so long that its order stops, where that is not over
    PAID = "paid"
    WRITTEN_OFF = "written off"


class InvoiceStanding(msgspec.Struct, frozen=True, kw_only=True):
    """One invoice as of now."""

    number: int
    order_id: int
    from_s: int
    to_s: int
    amount_sat: int
    issued_at_s: int
    due_at_s: int
    paid_sat: int
    written_off_sat: int
    state: InvoiceState

    @property
    def unpaid_sat(self) -> int:
        return self.amount_sat - self.paid_sat - self.written_off_sat


class OrderStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What an order's buyer owes. `owed_sat` below zero is owed to the buyer."""

    order_id: int
    terms: BillingTerms
    charged_sat: int
    carry_psat: int  # what is charged and below one satoshi
    charged_until_s: int | None  # the end of the newest hour that is charged
    paid_sat: int
    written_off_sat: int
    refunded_sat: int
    invoices: tuple[InvoiceStanding, ...]

    @property
    def owed_sat(self) -> int:
        return self.charged_sat + self.refunded_sat - self.paid_sat - self.written_off_sat

    @property
    def invoiced_sat(self) -> int:
        return sum(it.amount_sat for it in self.invoices)

    @property
    def overdue(self) -> tuple[InvoiceStanding, ...]:
        late = (InvoiceState.OVERDUE, InvoiceState.STOPPED)
        return tuple(it for it in self.invoices if it.state in late)

    @property
    def stopped(self) -> bool:
        return any(it.state is InvoiceState.STOPPED for it in self.invoices)


def standing(connection: Connection, order_id: int, now_s: int) -> OrderStanding | None:
    """None: the order is not billed."""
    terms = billing_of(connection).get(order_id)
    return None if terms is None else _standing(connection, order_id, terms, now_s)


def standings(connection: Connection, now_s: int) -> tuple[OrderStanding, ...]:
    """Of all orders that are billed, by number."""
    return tuple(
        _standing(connection, order_id, terms, now_s) for order_id, terms in billing_of(connection).items()
    )


def overdue_standings(connection: Connection, now_s: int) -> tuple[OrderStanding, ...]:
    """Of the orders that have overdue invoices; of those that paid all of theirs the sums are read alone."""
    terms = billing_of(connection)
    found = (_standing(connection, it, terms[it], now_s) for it in _not_all_paid(connection))
    return tuple(it for it in found if it.overdue)


def stopped_orders(connection: Connection, now_s: int) -> frozenset[int]:
    """Whose invoices were overdue for so long that nothing is delivered until they are paid: of orders that
    are not over, so that it does not take longer with every one that was ever sold."""
    of = orders.c
    going = set(connection.scalars(select(of.id).where(of.ended_at_s.is_(None), of.until_s > now_s)))
    stops = {
        it: terms
        for it, terms in billing_of(connection).items()
        if terms.stop_days is not None and it in going
    }
    return frozenset(it for it, terms in stops.items() if _standing(connection, it, terms, now_s).stopped)


def payments_in_force(connection: Connection, order_id: int) -> list[Row[Any]]:
    """Of an order, what was not taken back."""
    of = order_payments.c
    query = select(order_payments).where(of.order_id == order_id, of.transaction_seq.not_in(_taken_back()))
    return list(connection.execute(query.order_by(of.id)))


def _taken_back() -> Select[tuple[int | None]]:
    """Transactions."""
    return select(ledger_transactions.c.reverses_seq).where(ledger_transactions.c.reverses_seq.is_not(None))


def deposits_in_force(connection: Connection, order_id: int) -> list[Row[Any]]:
    """What the chain has of payments to the order's address."""
    of = order_deposits.c
    query = select(order_deposits).where(of.order_id == order_id, of.transaction_seq.not_in(_taken_back()))
    return list(connection.execute(query.order_by(of.id)))


def _not_all_paid(connection: Connection) -> list[int]:
    """The orders whose invoices come to more than what was paid and written off, by number."""
    payments, deposits, back = order_payments.c, order_deposits.c, _taken_back()
    paid_sat = case((payments.kind == "refund", -payments.amount_sat), else_=payments.amount_sat)
    unpaid: dict[int, int] = defaultdict(int)
    for sign, order_id, amount_sat, counts in (
        (1, order_invoices.c.order_id, order_invoices.c.amount_sat, true()),
        (-1, payments.order_id, paid_sat, payments.transaction_seq.not_in(back)),
        (-1, deposits.order_id, deposits.amount_sat, deposits.transaction_seq.not_in(back)),
    ):
        query = select(order_id, func.sum(amount_sat)).where(counts).group_by(order_id)
        for order, sat in connection.execute(query):
            unpaid[order] += sign * int(sat)
    return sorted(order for order, sat in unpaid.items() if sat > 0)


def _charged_until_s(connection: Connection, order_id: int) -> int | None:
    of = order_charges.c
    last: int | None = connection.scalar(select(func.max(of.hour)).where(of.order_id == order_id))
    return None if last is None else (last + 1) * 3600


def _standing(connection: Connection, order_id: int, billed: BillingTerms, now_s: int) -> OrderStanding:
    sums: dict[str, int] = defaultdict(int)
    written: dict[int, int] = defaultdict(int)
    for row in payments_in_force(connection, order_id):
        sums[row.kind] += row.amount_sat
        if row.invoice is not None:
            written[row.invoice] += row.amount_sat
    sums["payment"] += sum(it.amount_sat for it in deposits_in_force(connection, order_id))
    of = order_charges.c
    carry = select(of.carry_out_psat).where(of.order_id == order_id).order_by(of.seq.desc()).limit(1)
    order = connection.execute(select(orders).where(orders.c.id == order_id)).one()
    terms = billed
    if ends_s(order) <= now_s:  # nothing is left to stop
        terms = msgspec.structs.replace(billed, stop_days=None)
    rows = connection.execute(
        select(order_invoices).where(order_invoices.c.order_id == order_id).order_by(order_invoices.c.number)
    ).all()
    invoiced_until_s = max((it.to_s for it in rows), default=None)
    uninvoiced_sat = open_sat(connection, order_id, invoiced_until_s)
    # What was made good after the last invoice, and is in none, covers those that are open.
    covered_sat = sums["payment"] - sums["refund"] + max(-uninvoiced_sat, 0)
    return OrderStanding(
        order_id=order_id,
        terms=billed,
        # An invoice is the sum of its charges: of those only what is in none is read.
        charged_sat=sum(it.amount_sat for it in rows) + uninvoiced_sat,
        carry_psat=connection.scalar(carry) or 0,
        charged_until_s=_charged_until_s(connection, order_id),
        paid_sat=sums["payment"],
        written_off_sat=sums["write_off"],
        refunded_sat=sums["refund"],
        invoices=_invoices(rows, written, max(covered_sat, 0), terms, now_s),
    )


def _invoices(
    rows: Iterable[Row[Any]], written: dict[int, int], paid_sat: int, terms: BillingTerms, now_s: int
) -> tuple[InvoiceStanding, ...]:
    """The oldest first, until what was paid is used up."""
    found: list[InvoiceStanding] = []
    for row in rows:
        covered = min(paid_sat, row.amount_sat - written[row.number])
        paid_sat -= covered
        found.append(
            InvoiceStanding(
                number=row.number,
                order_id=row.order_id,
                from_s=row.from_s,
                to_s=row.to_s,
                amount_sat=row.amount_sat,
                issued_at_s=row.issued_at_s,
                due_at_s=row.due_at_s,
                paid_sat=covered,
                written_off_sat=written[row.number],
                state=InvoiceState.OPEN,
            )
        )
    late_sat = sum(it.unpaid_sat for it in found if it.due_at_s <= now_s)
    return tuple(
        msgspec.structs.replace(it, state=_state(it, terms, now_s, dust=late_sat <= DUST_SAT)) for it in found
    )


def _state(it: InvoiceStanding, terms: BillingTerms, now_s: int, *, dust: bool) -> InvoiceState:
    if not it.unpaid_sat:
        return InvoiceState.WRITTEN_OFF if it.written_off_sat else InvoiceState.PAID
    if now_s < it.due_at_s:
        return InvoiceState.OPEN
    if dust or now_s < it.due_at_s + DAY_S:
        return InvoiceState.DUE
    stops = terms.stop_days is not None and now_s >= it.due_at_s + max(terms.stop_days, 1) * DAY_S
    return InvoiceState.STOPPED if stops else InvoiceState.OVERDUE
