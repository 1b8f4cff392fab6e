"""`angara order` as far as it is about money: what buyers owe, invoices, and what two persons say of
payments.

The first person's word is a proposal; the second gives the same command, and it is booked. Must not know:
what is owed, and who is who.
"""

from typing import Annotated, Any, Final

import typer

from payouts.sales.ways import Way
from pool.cli.books import Books
from pool.cli.options import ListForm, ShowForm, SignedBooks, with_options
from pool.cli.output import Column, Form, moment, show, tell
from pool.reports.figures import amount, grouped

app = typer.Typer()

OptionalName = Annotated[str | None, typer.Argument(help="Name of an order; all of them without.")]
NameArgument = Annotated[str, typer.Argument(help="Name of the order.")]
SatOption = Annotated[int, typer.Option(min=1, help="How much, in satoshi.")]
WhyOption = Annotated[str, typer.Option(help="The reason, for the books.")]

OWED: Final = (
    Column("order", "name"),
    Column("buyer", "buyer"),
    Column("invoices", "billing"),
    Column("charged until", "charged_until", moment),
    Column("charged", "charged_sat", amount, right=True),
    Column("invoiced", "invoiced_sat", amount, right=True),
    Column("paid", "paid_sat", amount, right=True),
    Column("written off", "written_off_sat", amount, right=True),
    Column("given back", "refunded_sat", amount, right=True),
    Column("owed", "owed_sat", amount, right=True),
    Column("overdue", "overdue_sat", amount, right=True),
)
INVOICES: Final = (
    Column("invoice", "number", grouped, right=True),
    Column("order", "name"),
    Column("buyer", "buyer"),
    Column("from", "from", moment),
    Column("to", "until", moment),
    Column("amount", "amount_sat", amount, right=True),
    Column("unpaid", "unpaid_sat", amount, right=True),
    Column("due", "due_at", moment),
    Column("state", "state"),
)


@app.command("owed")
@with_options
def owed(books: Books, form: ListForm, name: OptionalName = None) -> None:
    """What buyers owe: charged work less what was paid, of orders that are billed."""
    show(books.ask("order.owed", name=name), OWED, form)


@app.command("invoices")
@with_options
def invoices(books: Books, form: ListForm, name: OptionalName = None) -> None:
    """Invoices, and whether they are paid. `angara report invoice NUMBER` writes one."""
    show(books.ask("order.invoices", name=name), INVOICES, form)


@app.command("payment")
@with_options
def payment(
    books: SignedBooks,
    form: ShowForm,
    name: NameArgument,
    sat: SatOption,
    reference: Annotated[str, typer.Option(help="The payer's own reference; it is booked once.")],
    why: WhyOption = "received",
    by: Annotated[
        Way | None, typer.Option(help="What way it came, if not to the address that the order has.")
    ] = None,
) -> None:
    """Say that a buyer has paid. It is booked when another person gives the same command."""
    _tell(
        books.ask("order.payment", name=name, sat=sat, reference=reference, why=why, by=by),
        f"that {grouped(sat)} sat were paid for order {name}, {reference}",
        form,
    )


@app.command("deposit-address")
@with_options
def deposit_address(books: SignedBooks, form: ShowForm, name: NameArgument) -> None:
    """The address that is this order's alone: what is paid there on the chain is booked as paid for it."""
    row = books.ask("order.address", name=name)
    tell(row["address"], row, form)


@app.command("write-off")
@with_options
def write_off(
    books: SignedBooks,
    form: ShowForm,
    invoice: Annotated[int, typer.Argument(min=1, help="Number of the invoice.")],
    why: WhyOption,
) -> None:
    """Say that the rest of an invoice will not be paid. It is booked when another person says so too."""
    said = books.ask("order.write-off", invoice=invoice, why=why)
    _tell(said, f"that {grouped(said['amount_sat'])} sat of invoice {invoice} are written off", form)


@app.command("refund")
@with_options
def refund(
    books: SignedBooks,
    form: ShowForm,
    name: NameArgument,
    sat: SatOption,
    tenant: Annotated[str, typer.Option(help="To whom it becomes payable: a payout batch pays it.")],
    why: WhyOption,
) -> None:
    """Give back what was paid too much. It is booked when another person gives the same command."""
    _tell(
        books.ask("order.refund", name=name, sat=sat, tenant=tenant, why=why),
        f"that {grouped(sat)} sat of order {name} become payable to {tenant}",
        form,
    )


def _tell(said: dict[str, Any], what: str, form: Form) -> None:
    if said["entry"] is not None:
        words = f"booked as transaction {said['transaction']}: {said['proposed_by']} said the same before"
    else:
        words = (
            f"proposal {said['proposal']}: {said['proposed_by']} says {what}. "
            "Next: somebody else gives the same command"
        )
    tell(words, said, form)
