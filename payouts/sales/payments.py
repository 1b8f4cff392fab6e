"""What buyers paid, what of their invoices is written off, and what they paid too much and get back.

Each is said by two persons: the first proposes it, and it is booked when another one says the same. So nobody
alone frees a friend of his debt, neither by writing it off nor by saying that it was paid. A payment is known
by the payer's reference, which is booked once, whichever order it is for; of an order with an address, with
the way that it came (`doubles`). What is paid beyond what is owed
stays in the order's account, for its next invoices; where it is given back it becomes payable to a tenant,
and is paid by a payout batch like any tenant's: to its address, with that address' 72 hours, an approval and
a fee cap.

Invariants: every row is one transaction of the ledger, under the proposal's two names; what is taken back is
taken back by a reversal, and no reference is free again; no more is written off than is unpaid, and no more
given back than was paid beyond what is owed. Must not know: whether the money is really there: that is what
the two persons say.
"""

import re
from enum import StrEnum
from typing import Final

import msgspec
from sqlalchemy import Connection, func, insert, select

from payouts.batches.proposals import (
    Proposal,
    ProposalKind,
    confirm,
    confirmable,
    is_open,
    open_proposals,
    propose,
)
from payouts.batches.rows import Act
from payouts.book_time import book_time, latest_s
from payouts.ledger import (
    AMOUNT_SAT_MAX,
    Kind,
    LedgerError,
    PoolAccount,
    Transaction,
    Transfer,
    open_accounts,
    open_receivable,
    payable,
    post,
    receivable,
)
from payouts.sales.charges import owed_sat
from payouts.sales.doubles import (
    check_given_back,
    check_not_on_chain,
    check_said,
    reference_of,
    references_alike,
)
from payouts.sales.prepaid import uncharged
from payouts.sales.standing import InvoiceStanding, standing
from payouts.sales.terms import billing_of, ends_s
from payouts.sales.ways import Way
from payouts.schemas.orders import orders
from payouts.schemas.proposals import confirmations, proposals
from payouts.schemas.sales import order_addresses, order_billing, order_invoices, order_payments

REFERENCE_CHARACTERS_MAX: Final = 80
# After its end an order's last hour is settled, and what a site brings that was late.
CHARGED_S: Final = 2 * 3_600
TRANSACTION_ID: Final = re.compile(r"[0-9A-Fa-f]{64}")


class PaymentKind(StrEnum):
    """What it is."""

    PAYMENT = "payment"
    WRITE_OFF = "write_off"
    REFUND = "refund"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is said, and of which order; `reference` is the payer's, of a payment."""

    kind: PaymentKind
    order_id: int
    amount_sat: int
    reference: str = ""
    invoice: int | None = None
    tenant_id: int | None = None

    @property
    def subject(self) -> str:
        """What a proposal of it is about: two persons say the same only where this is the same."""
        match self.kind:
            case PaymentKind.PAYMENT:
                return f"{self.order_id}:{self.amount_sat}:{self.reference}"
            case PaymentKind.WRITE_OFF:
                return f"{self.invoice}:{self.amount_sat}"
        return f"{self.order_id}:{self.amount_sat}:{self.tenant_id}"

    def transaction(self, number: int, memo: str) -> Transaction:
        """What is booked for it, as entry `number`."""
        mine = receivable(self.order_id)
        match self.kind:
            case PaymentKind.PAYMENT:
                ways = (PoolAccount.ORDER_RECEIVED.value, mine)
            case PaymentKind.WRITE_OFF:
                ways = (PoolAccount.ORDER_WRITTEN_OFF.value, mine)
            case PaymentKind.REFUND:
                assert self.tenant_id is not None
                ways = (mine, payable(self.tenant_id))
        return Transaction(
            key=f"sale-payment:{number}",
            kind=Kind.SALE_PAYMENT,
            memo=memo,
            transfers=(Transfer(*ways, self.amount_sat),),
        )


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one person's word: a proposal that waits for another, or what is booked."""

    proposal: int
    proposed_by: str
    amount_sat: int
    entry: int | None = None  # what is booked, by its number and its transaction's
    transaction: int | None = None


def say_payment(
    connection: Connection,
    order_id: int,
    amount_sat: int,
    reference: str,
    why: str,
    act: Act,
    *,
    way: Way | None = None,
) -> Said:
    """A buyer has paid so much; `way`: by what, where the order has an address. Raises LedgerError, and
    ProposalError for who cannot say so."""
    if not 0 < amount_sat <= AMOUNT_SAT_MAX:
        raise LedgerError(f"{amount_sat} satoshi is no payment")
    if not 1 <= len(reference) <= REFERENCE_CHARACTERS_MAX or not reference.isprintable():
        raise LedgerError(f"a reference is 1 to {REFERENCE_CHARACTERS_MAX} printable characters")
    _check_billed(connection, order_id)
    _check_not_on_chain(connection, order_id, reference)
    check_not_on_chain(connection, TRANSACTION_ID.findall(reference))
    reference = reference_of(connection, order_id, reference, way)
    of = order_payments.c
    mine = (of.kind == PaymentKind.PAYMENT.value) & of.reference.in_(references_alike(reference))
    known = connection.execute(select(of.id, of.order_id).where(mine)).first()
    if known is not None:
        raise LedgerError(
            f"{reference!r} is booked already, as entry {known.id} of order {known.order_id}: a payment is"
            " booked once, and no reference is used again"
        )
    check_said(connection, order_id, amount_sat, why, act.at_s)
    entry = Entry(kind=PaymentKind.PAYMENT, order_id=order_id, amount_sat=amount_sat, reference=reference)
    return _say(connection, entry, why, act)


def say_write_off(connection: Connection, invoice: int, why: str, act: Act) -> Said:
    """Nobody hopes for what is left of an invoice. Raises as `say_payment`."""
    of = order_invoices.c
    order_id = connection.scalar(select(of.order_id).where(of.number == invoice))
    if order_id is None:
        raise LedgerError(f"there is no invoice {invoice}")
    unpaid_sat = _standing_of(connection, order_id, invoice, act).unpaid_sat
    if not unpaid_sat:
        raise LedgerError(f"nothing of invoice {invoice} is left to write off")
    entry = Entry(kind=PaymentKind.WRITE_OFF, order_id=order_id, amount_sat=unpaid_sat, invoice=invoice)
    return _say(connection, entry, why, act)


def say_refund(
    connection: Connection, order_id: int, amount_sat: int, tenant_id: int, why: str, act: Act
) -> Said:
    """So much of what a buyer paid too much becomes payable to a tenant. Raises as `say_payment`."""
    _check_billed(connection, order_id)
    credit_sat = -owed_sat(connection, order_id)
    if not 0 < amount_sat <= credit_sat:
        raise LedgerError(
            f"order {order_id} was paid {max(credit_sat, 0)} satoshi more than is owed for it,"
            f" {amount_sat} cannot be given back"
        )
    _check_not_running(connection, order_id, act.at_s)
    check_given_back(connection, order_id, why)
    entry = Entry(kind=PaymentKind.REFUND, order_id=order_id, amount_sat=amount_sat, tenant_id=tenant_id)
    return _say(connection, entry, why, act)


def waiting_of(connection: Connection, order_id: int) -> tuple[int, ...]:
    """The proposals about an order that wait for a second person, by number."""
    mine = select(order_invoices.c.number).where(order_invoices.c.order_id == order_id)
    about = {PaymentKind.WRITE_OFF.value: {str(it) for it in connection.scalars(mine)}}
    kinds = [it.value for it in PaymentKind]
    rows = connection.execute(
        select(proposals.c.id, proposals.c.kind, proposals.c.subject)
        .outerjoin(confirmations, confirmations.c.proposal_id == proposals.c.id)
        .where(proposals.c.kind.in_(kinds), is_open(latest_s(connection)))
        .order_by(proposals.c.id)
    )
    own = {str(order_id)}
    return tuple(row.id for row in rows if row.subject.partition(":")[0] in about.get(row.kind, own))


def memo_of(proposed_by: str, confirmed_by: str, why: str) -> str:
    """What the ledger says of two persons' word."""
    return f"proposed by {proposed_by}, confirmed by {confirmed_by}: {why}"


def _say(connection: Connection, entry: Entry, why: str, act: Act) -> Said:
    kind = ProposalKind(entry.kind.value)
    book_time(connection, act.at_s)
    for proposal in open_proposals(connection, kind, entry.subject):
        if not act.is_alone_beside(proposal.proposed_by):
            return _book(connection, entry, confirmable(connection, proposal.id, act), act)
    made = propose(connection, kind, entry.subject, why, act)
    return Said(proposal=made.id, proposed_by=made.proposed_by, amount_sat=entry.amount_sat)


def _book(connection: Connection, entry: Entry, proposal: Proposal, act: Act) -> Said:
    number = (connection.scalar(select(func.max(order_payments.c.id))) or 0) + 1
    open_receivable(connection, entry.order_id)
    if entry.tenant_id is not None:
        open_accounts(connection, entry.tenant_id)
    memo = memo_of(proposal.proposed_by, act.by, proposal.why)
    posted = post(connection, entry.transaction(number, memo), act.at_s)
    connection.execute(
        insert(order_payments).values(
            id=number,
            order_id=entry.order_id,
            kind=entry.kind.value,
            reference=entry.reference or f"proposal {proposal.id}",
            amount_sat=entry.amount_sat,
            invoice=entry.invoice,
            tenant_id=entry.tenant_id,
            proposal_id=proposal.id,
            transaction_seq=posted.seq,
            booked_at_s=book_time(connection, act.at_s),
        )
    )
    confirm(connection, proposal, act, posted.seq)
    return Said(
        proposal=proposal.id,
        proposed_by=proposal.proposed_by,
        amount_sat=entry.amount_sat,
        entry=number,
        transaction=posted.seq,
    )


def _standing_of(connection: Connection, order_id: int, invoice: int, act: Act) -> InvoiceStanding:
    found = standing(connection, order_id, act.at_s)
    assert found is not None, "who has an invoice is billed"
    return next(it for it in found.invoices if it.number == invoice)


def _check_not_on_chain(connection: Connection, order_id: int, reference: str) -> None:
    """What is paid to the order's address is booked from the chain: said by persons too, it were twice."""
    has_address = connection.scalar(
        select(order_addresses.c.order_id).where(order_addresses.c.order_id == order_id)
    )
    if has_address is not None and TRANSACTION_ID.search(reference):
        raise LedgerError(
            f"{reference!r} names a transaction: what it pays to the order's address is booked from the chain"
            " by itself, when it is deep enough"
        )


def _check_not_running(connection: Connection, order_id: int, now_s: int) -> None:
    """What a prepaid order is paid by is not given back while it runs, nor before all of it is charged."""
    if not billing_of(connection)[order_id].prepaid:
        return
    order = connection.execute(select(orders).where(orders.c.id == order_id)).one()
    if now_s < ends_s(order) + CHARGED_S or uncharged(connection, order_id):
        raise LedgerError(
            f"order {order_id} is prepaid: what is left is given back {CHARGED_S // 3600} hours after its"
            " end, when all of its work is charged (end it with `angara order end`)"
        )


def _check_billed(connection: Connection, order_id: int) -> None:
    of = order_billing.c
    if connection.scalar(select(of.order_id).where(of.order_id == order_id)) is None:
        raise LedgerError("nothing is booked of what this order's buyer owes: it was sold without --billing")
