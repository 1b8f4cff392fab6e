"""`angara payout` as far as it is about batches in the books: drafted, approved by a second person, called
off, and shown.

Must not know: transactions, and the chain.
"""

from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, ShowForm, SignedBooks, with_options
from pool.cli.output import Column, Form, moment, say, show, tell

app = typer.Typer()

BatchArgument = Annotated[int, typer.Argument(min=1, help="Number of the batch.")]
PROPOSALS: Final = (
    Column("proposal", "id", right=True),
    Column("kind", "kind"),
    Column("of", "subject"),
    Column("time", "proposed_at", moment),
    Column("by", "proposed_by"),
    Column("why", "why"),
)


@app.command("preview")
@with_options
def preview(books: Books, form: ShowForm) -> None:
    """Who would be paid now, and who is held back and why. Changes nothing."""
    from pool.cli.payouts.tables import show_plan

    show_plan(books.ask("payout.preview"), form)


@app.command("create")
@with_options
def create(books: SignedBooks, form: ShowForm) -> None:
    """Draft a batch of what is payable. The balances are held until it is paid or cancelled."""
    from pool.cli.payouts.tables import show_batch

    batch = books.ask("payout.create")
    show_batch(batch, form)
    if form is Form.TEXT:
        number, digest = batch["batch"], batch["digest"]
        say(f"Next: somebody else runs `angara payout approve {number} --digest {digest} ...`")


@app.command("approve")
@with_options
def approve(
    books: SignedBooks,
    form: ShowForm,
    batch_id: BatchArgument,
    digest: Annotated[str, typer.Option(help="The digest of the outputs that are approved, from `show`.")],
    fee_cap_sat: Annotated[int, typer.Option(help="Most that the network may be paid, in satoshi.")],
) -> None:
    """Approve a batch that somebody else drafted, or a higher fee cap for it."""
    from pool.cli.payouts.tables import btc_and_sat

    batch = books.ask("payout.approve", batch=batch_id, digest=digest, fee_cap_sat=fee_cap_sat)
    approver, cap = batch["approvals"][-1]["approved_by"], btc_and_sat(fee_cap_sat)
    tell(f"batch {batch_id} is {batch['state']}, approved by {approver}, fee cap {cap}", batch, form)


@app.command("cancel")
@with_options
def cancel(books: SignedBooks, form: ShowForm, batch_id: BatchArgument) -> None:
    """Call off a batch that no signer ever had. Its balances are payable again."""
    from pool.cli.payouts.tables import payable_again

    batch = books.ask("payout.cancel", batch=batch_id)
    tell(payable_again(batch), batch, form)


@app.command("show")
@with_options
def show_one_batch(books: Books, form: ShowForm, batch_id: BatchArgument) -> None:
    """One batch: outputs and digest, approvals, transactions."""
    from pool.cli.payouts.tables import show_batch

    show_batch(books.ask("payout.show", batch=batch_id), form)


@app.command("list")
@with_options
def list_batches(books: Books, form: ListForm) -> None:
    """All batches, the newest last."""
    from pool.cli.payouts.tables import show_batches

    show_batches(books.ask("payout.list"), form)


@app.command("proposals")
@with_options
def list_proposals(books: Books, form: ShowForm) -> None:
    """What one person said of a transaction, of the ledger or of the chain, and waits for a second one."""
    show(books.ask("proposal.list"), PROPOSALS, form)
