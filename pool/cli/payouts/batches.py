"""`angara payout` as far as it is about batches in the books: drafted, approved by a second person, called
off, and shown.

Must not know: transactions, and the chain.
"""

from typing import Annotated

import typer

from pool.cli.books import Books
from pool.cli.operator import person
from pool.cli.options import AsOption, ListForm, ShowForm, with_options
from pool.cli.output import Form, say, tell

app = typer.Typer()

BatchArgument = Annotated[int, typer.Argument(min=1, help="Number of the batch.")]


@app.command("preview")
@with_options
def preview(books: Books, form: ShowForm) -> None:
    """Who would be paid now, and who is held back and why. Changes nothing."""
    from pool.cli.payouts.opened_paymaster import planned
    from pool.cli.payouts.tables import show_plan

    show_plan(planned(books), form)


@app.command("create")
@with_options
def create(books: Books, form: ShowForm, by: AsOption = None) -> None:
    """Draft a batch of what is payable. The balances are held until it is paid or cancelled."""
    from pool.cli.payouts.opened_paymaster import on_paymaster
    from pool.cli.payouts.tables import show_batch

    batch = on_paymaster(books, lambda it: it.create(person(by)))
    show_batch(batch, form)
    if form is Form.TEXT:
        say(f"Next: somebody else runs `angara payout approve {batch.id} --digest {batch.digest} ...`")


@app.command("approve")
@with_options
def approve(
    books: Books,
    form: ShowForm,
    batch_id: BatchArgument,
    digest: Annotated[str, typer.Option(help="The digest of the outputs that are approved, from `show`.")],
    fee_cap_sat: Annotated[int, typer.Option(help="Most that the network may be paid, in satoshi.")],
    by: AsOption = None,
) -> None:
    """Approve a batch that somebody else drafted, or a higher fee cap for it."""
    from pool.cli.payouts.opened_paymaster import on_paymaster
    from pool.cli.payouts.tables import batch_row, btc_and_sat

    approver = person(by)
    batch = on_paymaster(books, lambda it: it.approve(batch_id, digest.lower(), fee_cap_sat, approver))
    words = f"batch {batch.id} is {batch.state}, approved by {approver}, fee cap {btc_and_sat(fee_cap_sat)}"
    tell(words, batch_row(batch), form)


@app.command("cancel")
@with_options
def cancel(books: Books, form: ShowForm, batch_id: BatchArgument, by: AsOption = None) -> None:
    """Call off a batch that no signer ever had. Its balances are payable again."""
    from pool.cli.payouts.opened_paymaster import on_paymaster
    from pool.cli.payouts.tables import batch_row, btc_and_sat

    batch = on_paymaster(books, lambda it: it.cancel(batch_id, person(by)))
    words = f"batch {batch.id} is {batch.state}: {btc_and_sat(batch.total_sat)} are payable again"
    tell(words, batch_row(batch), form)


@app.command("show")
@with_options
def show_one_batch(books: Books, form: ShowForm, batch_id: BatchArgument) -> None:
    """One batch: outputs and digest, approvals, transactions."""
    from payouts.batches.batch import load
    from pool.cli.opened_books import opened_to_read
    from pool.cli.payouts.tables import show_batch

    with opened_to_read(books) as store, store.read() as connection:
        batch = load(connection, batch_id)
    show_batch(batch, form)


@app.command("list")
@with_options
def list_batches(books: Books, form: ListForm) -> None:
    """All batches, the newest last."""
    from payouts.batches.batch import batches_in
    from pool.cli.opened_books import opened_to_read
    from pool.cli.payouts.tables import show_batches

    with opened_to_read(books) as store, store.read() as connection:
        batches = batches_in(connection)
    show_batches(batches, form)
