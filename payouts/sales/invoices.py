"""Invoices: the charges of a day, a week or a month, as a document with a number and a date that it is due.

An order has one when its period is over, or the order is, and all that the books have of it is settled and
charged. What is charged later is in the next. A period whose charges come to less than a satoshi, or to less
than nothing, has none: they are in the next. Numbers are the pool's, without gaps.

Invariants: a charge is in one invoice; an invoice is the sum of what its charges posted, and never changes,
so the same number has the same bytes and the same hash. Must not know: whether it is paid, and how it is
shown.
"""

from fractions import Fraction
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, Row, func, insert, select

from payouts.book_time import book_time
from payouts.ledger import canonical_hash
from payouts.proof.angara_verify import tagged
from payouts.proof.key import ProofKey
from payouts.rates import PSAT_PER_SAT
from payouts.sales.charges import CORRECTED_H, HOUR_S
from payouts.sales.open_charges import open_charges, orders_with_open_charges
from payouts.sales.terms import DAY_S, BillingTerms, billing_of, ends_s, period_start_s
from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import order_terms, orders
from payouts.schemas.receipts import order_receipts
from payouts.schemas.sales import (
    order_addresses,
    order_charge_shares,
    order_charges,
    order_invoice_lines,
    order_invoices,
)
from payouts.statements.period import utc, work_text

TAG: Final = "angara/invoice"
VERSION: Final = 1


class UnknownInvoice(ValueError):
    """There is no invoice of this number."""


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """A charge. `carry_in_psat`: what charges before it had left; what it posts is whole satoshi of both."""

    hour_utc: str
    kind: str
    part: int
    work: str  # the exact sum of difficulties; of what is no work nothing
    amount_psat: int
    carry_in_psat: int
    posted_sat: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the buyer is told."""

    number: int
    order: str
    buyer: str
    sat_per_ph_day: int
    billing: str
    from_utc: str
    to_utc: str
    issued_utc: str
    due_utc: str
    lines: tuple[InvoiceLine, ...]
    amount_sat: int
    address: str | UnsetType = UNSET  # the order's own, where it had one when this was made

    @property
    def content_hash(self) -> str:
        """SHA-256 of the content as canonical JSON (sorted keys, no spaces, ASCII), in hex."""
        return canonical_hash(msgspec.to_builtins(self))


class InvoiceProof(msgspec.Struct, frozen=True, kw_only=True):
    """Who signed the content hash: BIP340, over the tagged hash `angara/invoice` of it."""

    version: int
    key: str
    signature: str


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that is to be made."""

    order_id: int
    from_s: int
    to_s: int
    amount_sat: int
    charges: tuple[int, ...]


def proof_of(invoice: Invoice, key: ProofKey) -> InvoiceProof:
    """The same for the same content, whenever it is asked for."""
    signature = key.sign(tagged(TAG, bytes.fromhex(invoice.content_hash)))
    return InvoiceProof(version=VERSION, key=key.public.hex(), signature=signature.hex())


def due_invoices(connection: Connection, until_s: int) -> tuple[Due, ...]:
    """What is to be invoiced where the books have everything up to a moment. Reads only, and of orders that
    have no open charge nothing."""
    terms = billing_of(connection)
    found = (_due(connection, it, terms[it], until_s) for it in orders_with_open_charges(connection))
    return tuple(it for it in found if it is not None)


def issue(connection: Connection, order_id: int, until_s: int, now_s: int) -> int | None:
    """Make an order's invoice, where one is due; its number."""
    terms = billing_of(connection)[order_id]
    due = _due(connection, order_id, terms, until_s)
    if due is None:
        return None
    at_s = book_time(connection, now_s)
    made = insert(order_invoices).values(
        order_id=order_id,
        from_s=due.from_s,
        to_s=due.to_s,
        amount_sat=due.amount_sat,
        issued_at_s=at_s,
        due_at_s=at_s + terms.due_days * DAY_S,
        address=connection.scalar(
            select(order_addresses.c.address).where(order_addresses.c.order_id == order_id)
        ),
    )
    number: int = connection.execute(made.returning(order_invoices.c.number)).scalar_one()
    connection.execute(
        insert(order_invoice_lines), [{"charge_seq": it, "invoice": number} for it in due.charges]
    )
    return number


def invoice(connection: Connection, number: int) -> Invoice:
    """Raises UnknownInvoice."""
    row = connection.execute(
        select(order_invoices, orders.c.name, orders.c.buyer, orders.c.sat_per_ph_day)
        .join(orders, orders.c.id == order_invoices.c.order_id)
        .where(order_invoices.c.number == number)
    ).one_or_none()
    if row is None:
        raise UnknownInvoice(f"there is no invoice {number}")
    return Invoice(
        number=row.number,
        order=row.name,
        buyer=row.buyer,
        sat_per_ph_day=row.sat_per_ph_day,
        billing=billing_of(connection)[row.order_id].billing.value,
        from_utc=utc(row.from_s),
        to_utc=utc(row.to_s),
        issued_utc=utc(row.issued_at_s),
        due_utc=utc(row.due_at_s),
        lines=_lines(connection, number),
        amount_sat=row.amount_sat,
        address=row.address or UNSET,
    )


def _due(connection: Connection, order_id: int, terms: BillingTerms, until_s: int) -> Due | None:
    order = connection.execute(select(orders).where(orders.c.id == order_id)).one()
    last = connection.scalar(
        select(func.max(order_invoices.c.to_s)).where(order_invoices.c.order_id == order_id)
    )
    from_s = order.from_s // HOUR_S * HOUR_S if last is None else last
    over_s = -(-ends_s(order) // HOUR_S) * HOUR_S
    to_s = period_start_s(terms.billing, until_s)
    if over_s <= until_s:
        to_s = max(over_s, to_s)  # and all that comes after it
    to_s = max(to_s, from_s)
    charges = open_charges(connection, order_id, last, to_s // HOUR_S)
    amount_sat = sum(it.posted_sat for it in charges)
    if amount_sat <= 0 or _unsettled(connection, order_id, to_s):
        return None
    if _unclosed(connection, order, max(it.hour for it in charges), to_s, until_s):
        return None
    if over_s <= until_s:
        to_s = max(from_s, over_s, *((it.hour + 1) * HOUR_S for it in charges))
    seqs = tuple(it.seq for it in charges)
    return Due(order_id=order_id, from_s=from_s, to_s=to_s, amount_sat=amount_sat, charges=seqs)


def _unsettled(connection: Connection, order_id: int, to_s: int) -> bool:
    """Whether something of it is in the books, and not charged yet."""
    waiting = (
        select(rate_hours.c.hour)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(
            rates.c.order_id == order_id,
            rate_hours.c.hour < to_s // HOUR_S,
            rate_hours.c.settled < rate_hours.c.shares,
        )
        .limit(1)
    )
    return connection.scalar(waiting) is not None


def _unclosed(connection: Connection, order: Row[Any], newest_hour: int, to_s: int, until_s: int) -> bool:
    """Whether an hour of an order that makes good what is missing has no receipt yet, be it one of after its
    end: what that changes is of the same invoice."""
    of = order_terms.c
    terms = connection.execute(select(of.extension_h).where(of.order_id == order.id)).one_or_none()
    if terms is None:
        return False
    ends = -(-ends_s(order) // HOUR_S)
    last = min(-(-to_s // HOUR_S), ends) - 1
    # What is charged later than there are receipts for it is not waited for.
    if until_s // HOUR_S < ends + (terms.extension_h or 0) + CORRECTED_H:
        last = max(last, newest_hour)
    newest = connection.scalar(
        select(func.max(order_receipts.c.hour)).where(order_receipts.c.order_id == order.id)
    )
    return newest is None or newest < last


def _lines(connection: Connection, number: int) -> tuple[InvoiceLine, ...]:
    mine = select(order_invoice_lines.c.charge_seq).where(order_invoice_lines.c.invoice == number)
    work: dict[int, Fraction] = {}
    for row in connection.execute(
        select(order_charge_shares).where(order_charge_shares.c.charge_seq.in_(mine))
    ):
        done = Fraction(2) ** row.difficulty_log2 * row.shares
        work[row.charge_seq] = work.get(row.charge_seq, Fraction(0)) + done
    of = order_charges.c
    return tuple(
        InvoiceLine(
            hour_utc=utc(row.hour * HOUR_S),
            kind=row.kind,
            part=row.part,
            work=work_text(work.get(row.seq, Fraction(0))),
            amount_psat=row.amount_sat * PSAT_PER_SAT + row.amount_psat,
            carry_in_psat=row.carry_in_psat,
            posted_sat=row.posted_sat,
        )
        for row in connection.execute(select(order_charges).where(of.seq.in_(mine)).order_by(of.seq))
    )
