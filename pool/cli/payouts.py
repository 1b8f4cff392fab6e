"""`angara payout`: batches from the draft to the sixth confirmation, and agreement with the chain.

    preview, create           who would be paid, and a draft of it
    approve                   by somebody else, for the digest that `show` prints, with a cap for the fee
    export, import            a PSBT for the signer, and what it returned
    broadcast, follow, bump   send it, look after it, pay more
    cancel                    before a signer has it
    reconcile                 after a backup was restored, or coins were moved
    disown                    what was booked as a payout, and spends no coin of ours

A command that was cut off is given again. Mistakes are answered in words and exit code 2; what needs
somebody to look at it (quarantine, a chain that the books do not explain) with exit code 1.

Must not know: how any of it is done.
"""

import base64
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import trio
import typer

from payouts.batches.batch import batches_in, load
from payouts.batches.plan import ScriptOf, plan
from payouts.batches.psbt import TEXT_BYTES_MAX
from pool.chain.addresses import script_for
from pool.chain.nodes import Node
from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.opened_books import opened_to_read, opened_to_write, settings_of
from pool.cli.operator import operator
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Form, print_json, say
from pool.cli.payout_tables import amount, attempt_row, batch_row, show_batch, show_batches, show_plan
from pool.cli.whole_file import write_whole
from pool.settings_file import BadConfig
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import Answer, PayoutNodes
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import MINIMUM_SAT_DEFAULT
from pool.treasury.wallet import PayoutWallet

FOLLOW_EVERY_S: Final = 30.0

app = typer.Typer(no_args_is_help=True)

BatchArgument = Annotated[int, typer.Argument(min=1, help="Number of the batch.")]
AsOption = Annotated[str | None, typer.Option("--as", help="Who does this; the system's user by default.")]
RateOption = Annotated[
    int | None, typer.Option("--fee-rate", help="Fee in sat/vB, in place of the settings.")
]

_Result = TypeVar("_Result")


@app.command("preview")
@with_options
def preview(books: Books, form: ShowForm) -> None:
    """Who would be paid now, and who is held back and why. Changes nothing."""
    with opened_to_write(books) as (store, bound):
        network = bound or ""  # a book without one has no payouts
        minimum_sat = MINIMUM_SAT_DEFAULT
        script_of: ScriptOf = partial(script_for, network=network)
        settings = None if books.config is None else settings_of(books).payouts
        if settings is not None:
            minimum_sat = settings.minimum_sat
            script_of = PayoutWallet(settings, network).script_of_others(script_of)
        with store.read() as connection:
            planned = plan(connection, int(time.time()), script_of, minimum_sat)
        show_plan(planned, form)


@app.command("create")
@with_options
def create(books: Books, form: ShowForm, by: AsOption = None) -> None:
    """Draft a batch of what is payable. The balances are held until it is paid or cancelled."""
    batch = _on_paymaster(books, lambda it: it.create(_person(by)))
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
    person = _person(by)
    batch = _on_paymaster(books, lambda it: it.approve(batch_id, digest.lower(), fee_cap_sat, person))
    words = f"batch {batch.id} is {batch.state}, approved by {person}, fee cap {amount(fee_cap_sat)}"
    _tell(form, words, batch_row(batch))


@app.command("cancel")
@with_options
def cancel(books: Books, form: ShowForm, batch_id: BatchArgument, by: AsOption = None) -> None:
    """Call off a batch that no signer ever had. Its balances are payable again."""
    batch = _on_paymaster(books, lambda it: it.cancel(batch_id, _person(by)))
    words = f"batch {batch.id} is {batch.state}: {amount(batch.total_sat)} are payable again"
    _tell(form, words, batch_row(batch))


@app.command("export")
@with_options
def export(
    books: Books,
    batch_id: BatchArgument,
    out: Annotated[Path | None, typer.Option(help="File for the PSBT; standard output without.")] = None,
    fee_rate: RateOption = None,
    by: AsOption = None,
) -> None:
    """Write the PSBT for the signer (base64). From now on only the chain can end the batch."""
    found = _on_paymaster(books, lambda it: it.export(batch_id, _person(by), fee_rate))
    text = base64.b64encode(found.psbt).decode() + "\n"
    words = f"batch {batch_id}, attempt {found.attempt}: txid {found.txid}, fee {amount(found.fee_sat)}"
    if out is None:
        sys.stdout.write(text)
    else:
        write_whole(out, text.encode())
        words += f", written to {out}"
    say(words, err=True)


@app.command("import")
@with_options
def import_signed(
    books: Books,
    form: ShowForm,
    batch_id: BatchArgument,
    file: Annotated[Path, typer.Argument(help="The signed PSBT or transaction: binary, base64 or hex.")],
    by: AsOption = None,
) -> None:
    """Take back what was signed. Whatever is not exactly what was exported is quarantined."""
    with file.open("rb") as source:
        data = source.read(TEXT_BYTES_MAX + 1)
    found = _on_paymaster(books, lambda it: it.receive(batch_id, data, _person(by)))
    news = "is signed" if found.fresh else "was signed before, nothing is changed"
    if found.replaced:
        news = "is signed anew: no node would ever have taken the signatures of before"
    row = {"batch": batch_id, "attempt": found.attempt, "txid": found.txid, "fresh": found.fresh}
    _tell(form, f"batch {batch_id}, attempt {found.attempt}: {found.txid} {news}", row)
    if found.warning is not None:
        say(f"the node would not take it now: {found.warning}", err=True)


@app.command("broadcast")
@with_options
def broadcast(books: Books, form: ShowForm, batch_id: BatchArgument, by: AsOption = None) -> None:
    """Send the signed transaction to every node; again, as often as is wanted."""
    answers = _on_paymaster(books, lambda it: it.broadcast(batch_id, _person(by)))
    if form is Form.JSON:
        print_json([{"node": it.node, "answer": it.answer.value, "words": it.words} for it in answers])
    else:
        for it in answers:
            say(f"node {it.node}: {it.answer} {it.words}".rstrip())
    if all(it.answer is Answer.UNKNOWN for it in answers):
        say(
            "no node answered: it may be on its way all the same, `angara payout follow` sends it again",
            err=True,
        )
    if all(it.answer is Answer.REFUSED for it in answers):
        say(
            "no node takes it. Wrong signatures: have it signed again and import that. "
            f"Too low a fee: `angara payout bump {batch_id}`",
            err=True,
        )


@app.command("bump")
@with_options
def bump(
    books: Books, form: ShowForm, batch_id: BatchArgument, fee_rate: RateOption = None, by: AsOption = None
) -> None:
    """Make a transaction that replaces the last one and pays more; then export, import, broadcast it."""
    made = _on_paymaster(books, lambda it: it.bump(batch_id, _person(by), fee_rate))
    words = f"batch {batch_id}, attempt {made.attempt}: txid {made.txid}, fee {amount(made.fee_sat)}"
    _tell(form, words, attempt_row(made))
    if form is Form.TEXT:
        say(f"Next: `angara payout export {batch_id}`")


@app.command("show")
@with_options
def show_one_batch(books: Books, form: ShowForm, batch_id: BatchArgument) -> None:
    """One batch: outputs and digest, approvals, transactions."""
    with opened_to_read(books) as store, store.read() as connection:
        batch = load(connection, batch_id)
    show_batch(batch, form)


@app.command("list")
@with_options
def list_batches(books: Books, form: ListForm) -> None:
    """All batches, the newest last."""
    with opened_to_read(books) as store, store.read() as connection:
        batches = batches_in(connection)
    show_batches(batches, form)


@app.command("follow")
@with_options
def follow(
    books: Books,
    once: Annotated[bool, typer.Option("--once", help="One look, in place of until all are final.")] = False,
) -> None:
    """Look after the batches that are sent: send them again, book what the chain says."""

    async def look(paymaster: Paymaster) -> None:
        while True:
            survey = await paymaster.follower.survey()
            for news in survey.news:
                say(news)
            for trouble in survey.trouble_words:
                say(trouble, err=True)
            if once or not await paymaster.under_way():
                return
            await trio.sleep(FOLLOW_EVERY_S)

    _on_paymaster(books, look)


@app.command("reconcile")
@with_options
def reconcile(
    books: Books,
    form: ShowForm,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="A transaction that you looked at, and know whom it pays; several times for several. "
            "Somebody else has to say so too."
        ),
    ] = None,
    by: AsOption = None,
) -> None:
    """Make the books agree with the chain, after a backup was restored or coins were moved."""
    done, open_questions = _on_paymaster(books, lambda it: it.reconciler.run(_person(by), accept or ()))
    if form is Form.JSON:
        print_json({"done": done, "open_questions": open_questions})
    else:
        for words in done:
            say(words)
        for words in open_questions:
            say(words, err=True)
    if open_questions:
        raise typer.Exit(EXIT_WRONG)
    if form is Form.TEXT:
        say("the books agree with the chain")


@app.command("disown")
@with_options
def disown(books: Books, form: ShowForm, batch_id: BatchArgument, by: AsOption = None) -> None:
    """Say that a batch was never paid by the transaction in its place: that spends no coin of the wallet.

    It takes two persons; where the wallet was another one at that time, it is no mistake. What `reconcile`
    booked in earlier versions may be one.
    """
    person = _person(by)
    batch = _on_paymaster(books, lambda it: it.disown(batch_id, person))
    if batch is None:
        words = f"{person} says so. Next: somebody else runs `angara payout disown {batch_id}`"
        _tell(form, words, {"batch": batch_id, "proposed_by": person})
    else:
        words = f"batch {batch_id} is {batch.state}: {amount(batch.total_sat)} are payable again"
        _tell(form, words, batch_row(batch))


def _on_paymaster(books: Books, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
    """What a command on a paymaster answers; it needs the settings, for the nodes and the descriptors."""
    settings = settings_of(books)
    payouts = settings.payouts
    if payouts is None:
        raise BadConfig("the settings have no [payouts]: descriptor and change_descriptor are needed")
    wallet = PayoutWallet(payouts, settings.network)
    with opened_to_write(books) as (store, bound):
        network = bound or ""  # a book without one has no payouts

        async def run() -> _Result:
            nodes = [Node(it) for it in settings.nodes]
            try:
                return await job(
                    Paymaster(
                        PayoutBooks(store, lambda: int(time.time())),
                        PayoutNodes(nodes, network),
                        wallet,
                        payouts,
                        lambda address: script_for(address, network),
                    )
                )
            finally:
                with trio.CancelScope(shield=True):
                    for node in nodes:
                        await node.aclose()

        return trio.run(run)


def _person(by: str | None) -> str:
    """Who does it: whoever runs this, where nobody is named."""
    return by if by is not None else operator()


def _tell(form: Form, words: str, row: dict[str, Any]) -> None:
    """What was done."""
    if form is Form.JSON:
        print_json(row)
    else:
        say(words)
