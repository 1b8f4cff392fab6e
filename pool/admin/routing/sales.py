"""The operator's commands for what buyers of orders owe: what is owed, invoices, and what two persons say of
payments. Whoever gives one is the person of it.

Invariants: what a command books and the record of who gave it are one transaction. Must not know: sockets,
terminals.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import msgspec
from sqlalchemy import Connection, select

from payouts.batches.rows import Act
from payouts.sales.billing import Billing
from payouts.sales.deposits import (
    FORGOTTEN_MAX,
    DepositAddress,
    address_of,
    give_address,
    newest_given_s,
)
from payouts.sales.payments import Said, say_payment, say_refund, say_write_off, waiting_of
from payouts.sales.standing import InvoiceState, OrderStanding, standing, standings
from payouts.sales.ways import Way
from payouts.schemas.orders import orders
from payouts.schemas.sales import order_invoices
from pool.admin.command import Change, Commands, Question
from pool.admin.desk import Desk, OperatorDesk, routes_changed, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.admin.payouts.commands import act_of, in_words
from pool.books.changes.changes import State
from pool.books.copies.restores import restored_since
from pool.fleet.rows import RegistryError, find_tenant
from pool.orders.rows import all_stopped, find_order
from pool.orders.untold import check_told
from pool.people.roles import Role

SUBJECT: Final = "order/"  # then its name
Satoshis = Annotated[int, msgspec.Meta(ge=1)]


class OrderOwed(Paged, frozen=True, forbid_unknown_fields=True):
    """`name` None: of all orders that are billed."""

    name: str | None = None


class OrderInvoices(Paged, frozen=True, forbid_unknown_fields=True):
    """`name` None: of all orders."""

    name: str | None = None


class OrderPayment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`reference`: the payer's own, which is booked once. `by`: what way it came, of an order that has an
    address."""

    name: str
    sat: Satoshis
    reference: str
    why: str
    by: Way | None = None


class OrderWriteOff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is left of the invoice of that number."""

    invoice: Annotated[int, msgspec.Meta(ge=1)]
    why: str


class OrderRefund(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`tenant`: to whom it becomes payable."""

    name: str
    sat: Satoshis
    tenant: str
    why: str


class OrderAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class AddressRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where the order's buyer pays, of the settings' deposit_descriptor: the address of that number."""

    name: str
    position: int
    address: str
    given_at_s: int
    given_by: str


class OwedRow(msgspec.Struct, frozen=True, kw_only=True):
    """`owed_sat` below zero is owed to the buyer; `carry_psat` is charged, and below one satoshi."""

    id: int
    name: str
    buyer: str
    billing: Billing
    charged_until_at_s: int | None
    charged_sat: int
    carry_psat: int
    invoiced_sat: int
    paid_sat: int
    written_off_sat: int
    refunded_sat: int
    owed_sat: int
    overdue_sat: int
    stopped: bool


class InvoiceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One invoice, and how far it is."""

    number: int
    name: str
    buyer: str
    from_s: int
    until_s: int
    amount_sat: int
    paid_sat: int
    written_off_sat: int
    unpaid_sat: int
    issued_at_s: int
    due_at_s: int
    state: InvoiceState


class OrderEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What one person said: a proposal, or what it booked as the second one's word."""

    name: str
    amount_sat: int
    proposal: int
    proposed_by: str
    entry: int | None
    transaction: int | None


def order_owed(desk: Desk, it: OrderOwed) -> Page[OwedRow]:
    """What buyers owe, by order: charged work, less what was paid."""

    def read(connection: Connection) -> list[OwedRow]:
        named = _named(connection)
        stopped = all_stopped(connection, wall_s())
        return [_owed(found, *named[found.order_id], stopped) for found in _standings(connection, it.name)]

    return page_of(it, desk.read(read), lambda row: (row.id,))


def order_invoices_of(desk: Desk, it: OrderInvoices) -> Page[InvoiceRow]:
    """Invoices, the newest last, and whether they are paid."""

    def read(connection: Connection) -> list[InvoiceRow]:
        named = _named(connection)
        rows = [
            InvoiceRow(
                number=invoice.number,
                name=named[invoice.order_id][0],
                buyer=named[invoice.order_id][1],
                from_s=invoice.from_s,
                until_s=invoice.to_s,
                amount_sat=invoice.amount_sat,
                paid_sat=invoice.paid_sat,
                written_off_sat=invoice.written_off_sat,
                unpaid_sat=invoice.unpaid_sat,
                issued_at_s=invoice.issued_at_s,
                due_at_s=invoice.due_at_s,
                state=invoice.state,
            )
            for found in _standings(connection, it.name)
            for invoice in found.invoices
        ]
        return sorted(rows, key=lambda row: row.number)

    return page_of(it, desk.read(read), lambda row: (row.number,))


def order_payment(desk: OperatorDesk, it: OrderPayment) -> OrderEntry:
    """Say that a buyer has paid so much for an order. It is booked when another person says the same."""

    def say(connection: Connection, act: Act) -> Said:
        order_id = find_order(connection, it.name).id
        return say_payment(connection, order_id, it.sat, it.reference, it.why, act, way=it.by)

    return _said(desk, it.name, say)


def order_write_off(desk: OperatorDesk, it: OrderWriteOff) -> OrderEntry:
    """Say that what is left of an invoice will not be paid. It is booked when another person says so too."""

    def say(connection: Connection, act: Act) -> Said:
        return say_write_off(connection, it.invoice, it.why, act)

    return _said(desk, desk.read(lambda connection: _order_of(connection, it.invoice)), say)


def order_refund(desk: OperatorDesk, it: OrderRefund) -> OrderEntry:
    """Say that what was paid too much for an order becomes payable to a tenant. It is booked when another
    person says the same, and paid by a payout batch."""
    edges = {} if desk.live is None else {edge.edge: edge for edge in desk.live.edge_standing()}

    def say(connection: Connection, act: Act) -> Said:
        order_id, tenant_id = find_order(connection, it.name).id, find_tenant(connection, it.tenant).id
        said = say_refund(connection, order_id, it.sat, tenant_id, it.why, act)
        check_told(connection, order_id, edges, act.at_s)
        return said

    return _said(desk, it.name, say)


def order_address(desk: OperatorDesk, it: OrderAddress) -> AddressRow:
    """The address on the chain that is the order's alone: what is paid there is booked as paid for it."""
    paying = desk.paying
    if paying is None:
        raise RegistryError(
            "there is no [payouts] here: it takes the settings, with a deposit_descriptor (where no pool"
            " runs, give --config)"
        )
    with in_words():
        paying.deposit_address(0)  # seconds, for the first: not while nobody else can write

        def give(connection: Connection) -> DepositAddress:
            order_id = find_order(connection, it.name).id
            # A buyer has what a forgotten order was given, and pays there.
            forgotten = FORGOTTEN_MAX if restored_since(connection, newest_given_s(connection)) else 0
            return give_address(
                connection,
                order_id,
                paying.deposit_address,
                by=desk.by,
                now_s=wall_s(),
                forgotten=forgotten,
            )

        given = desk.write(give)
        if given.address != paying.deposit_address(given.position)[0]:
            raise RegistryError(
                f"{given.address} of order {it.name} is not of the deposit_descriptor that the settings have:"
                " it was given by another one, or somebody has written to the database. Have nobody pay there"
                " before you know which"
            )
    return AddressRow(
        name=it.name,
        position=given.position,
        address=given.address,
        given_at_s=given.given_at_s,
        given_by=given.given_by,
    )


def address_state(connection: Connection, subject: str) -> State:
    found = address_of(connection, find_order(connection, subject.removeprefix(SUBJECT)).id)
    return None if found is None else {"position": found.position, "address": found.address}


def order_of(it: OrderPayment | OrderRefund | OrderAddress) -> str:
    return f"{SUBJECT}{it.name}"


def invoice_of(it: OrderWriteOff) -> str:
    return f"invoice/{it.invoice}"


def owed_state(connection: Connection, subject: str) -> State:
    """What persons change of what is owed."""
    what, _, name = subject.partition("/")
    order = _order_of(connection, int(name)) if what == "invoice" else name
    order_id = find_order(connection, order).id
    found = standing(connection, order_id, wall_s())
    if found is None:
        return {}
    return {
        "proposals": list(waiting_of(connection, order_id)),
        "paid_sat": found.paid_sat,
        "written_off_sat": found.written_off_sat,
        "refunded_sat": found.refunded_sat,
    }


def _said(desk: OperatorDesk, name: str, say: Callable[[Connection, Act], Said]) -> OrderEntry:
    with in_words():
        said = desk.write(lambda connection: say(connection, act_of(desk, connection)))
    if said.entry is not None:
        routes_changed(desk)  # an order that had stopped goes on
    return OrderEntry(
        name=name,
        amount_sat=said.amount_sat,
        proposal=said.proposal,
        proposed_by=said.proposed_by,
        entry=said.entry,
        transaction=said.transaction,
    )


def _order_of(connection: Connection, invoice: int) -> str:
    """Raises RegistryError."""
    name = connection.scalar(
        select(orders.c.name)
        .join(order_invoices, order_invoices.c.order_id == orders.c.id)
        .where(order_invoices.c.number == invoice)
    )
    if name is None:
        raise RegistryError(f"there is no invoice {invoice}")
    return str(name)


def _named(connection: Connection) -> Mapping[int, tuple[str, str]]:
    """Orders' names and buyers by number."""
    rows = connection.execute(select(orders.c.id, orders.c.name, orders.c.buyer))
    return {row.id: (row.name, row.buyer) for row in rows}


def _standings(connection: Connection, name: str | None) -> tuple[OrderStanding, ...]:
    if name is None:
        return standings(connection, wall_s())
    found = standing(connection, find_order(connection, name).id, wall_s())
    if found is None:
        raise RegistryError(
            f"nothing is booked of what the buyer of {name!r:.80} owes: it was sold without --billing."
            " What was delivered for it is in `angara report order`"
        )
    return (found,)


def _owed(found: OrderStanding, name: str, buyer: str, stopped: frozenset[int]) -> OwedRow:
    return OwedRow(
        id=found.order_id,
        name=name,
        buyer=buyer,
        billing=found.terms.billing,
        charged_until_at_s=found.charged_until_s,
        charged_sat=found.charged_sat,
        carry_psat=found.carry_psat,
        invoiced_sat=found.invoiced_sat,
        paid_sat=found.paid_sat,
        written_off_sat=found.written_off_sat,
        refunded_sat=found.refunded_sat,
        owed_sat=found.owed_sat,
        overdue_sat=sum(it.unpaid_sat for it in found.overdue),
        stopped=found.stopped or found.order_id in stopped,
    )


COMMANDS: Final[Commands] = {
    "order.owed": Question(OrderOwed, order_owed),
    "order.invoices": Question(OrderInvoices, order_invoices_of),
    "order.payment": Change(OrderPayment, order_payment, order_of, owed_state, Role.PAYER, makes_books=False),
    "order.write-off": Change(
        OrderWriteOff, order_write_off, invoice_of, owed_state, Role.PAYER, makes_books=False
    ),
    "order.address": Change(
        OrderAddress, order_address, order_of, address_state, Role.PAYER, makes_books=False
    ),
    "order.refund": Change(OrderRefund, order_refund, order_of, owed_state, Role.PAYER, makes_books=False),
}
