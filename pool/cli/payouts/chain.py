"""`angara payout` as far as it is about the chain: what became of what was sent, and whether the books agree.

Must not know: how a transaction is made.
"""

import json
import time
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.options import ShowForm, SignedBooks, with_options
from pool.cli.output import Form, iso_time, print_json, say, tell
from pool.cli.payouts.batches import BatchArgument
from pool.settings_file import BadConfig

FOLLOW_EVERY_S: Final = 30.0

app = typer.Typer()


@app.command("follow")
@with_options
def follow(
    books: Books,
    form: ShowForm,
    once: Annotated[bool, typer.Option("--once", help="One look, in place of until all are final.")] = False,
) -> None:
    """Look after the batches that are sent: send them again, book what the chain says. JSON is an object a
    line."""
    import trio

    from pool.cli.opened_paymaster import on_paymaster
    from pool.treasury.paymaster import Paymaster

    async def follow_until_final(paymaster: Paymaster, _: str) -> None:
        while True:
            survey = await paymaster.follower.survey()
            for batch_id, words in survey.news:
                _tell_news(words, {"batch": batch_id, "news": words}, form)
            for batch_id, words in zip(survey.trouble, survey.trouble_words, strict=True):
                _tell_news(words, {"batch": batch_id, "trouble": words}, form, err=True)
            under_way = await paymaster.under_way()
            if not under_way and form is Form.TEXT:
                say("no batch is under way")
            if once or not under_way:
                return
            await trio.sleep(FOLLOW_EVERY_S)

    on_paymaster(books, follow_until_final)


@app.command("reconcile")
@with_options
def reconcile(
    books: SignedBooks,
    form: ShowForm,
    accept: Annotated[
        list[str] | None,
        typer.Option(
            help="A transaction that you looked at, and know whom it pays; several times for several. "
            "Somebody else has to say so too."
        ),
    ] = None,
) -> None:
    """Make the books agree with the chain, after a backup was restored or coins were moved."""
    from pool.cli.opened_paymaster import on_paymaster

    if accept and (words := _waiting(books)):
        raise BadConfig(words)
    done, open_questions = on_paymaster(
        books, lambda it, by: it.reconciler.run(by, accept or ()), says=bool(accept)
    )
    if form is Form.JSON:
        print_json({"done": done, "open_questions": open_questions})
    else:
        for words in done:
            say(words)
        for words in open_questions:
            say(words, err=True)
        if open_questions and (words := _waiting(books)):
            say(words, err=True)
    if open_questions:
        raise typer.Exit(EXIT_WRONG)
    if form is Form.TEXT:
        say("the books agree with the chain")


def _waiting(books: Books) -> str:
    """What a start of the pool takes from journals first, in words: it is credited, and so owed besides
    whatever persons say of a payout before it. Nothing while a pool runs. Raises BadConfig."""
    from payouts.audit.finding import Found
    from pool.books.audit.log import check_logs
    from pool.cli.opened_books import opened_to_read, place_of
    from pool.data_dir import is_held

    data_dir = place_of(books).data_dir
    if data_dir is None or is_held(data_dir):
        return ""
    try:
        with opened_to_read(books) as store, store.read() as connection:
            waiting = check_logs(connection, data_dir)
    except Found as found:
        wrong = found.wrong
        raise BadConfig(f"{wrong.table} {wrong.row}: {wrong.reason}; see `angara ledger verify`") from None
    if not waiting:
        return ""
    return (
        f"{waiting} batches of the journal wait for the books, and a start of the pool takes them: start it"
        ", and a minute later run `angara payout reconcile` again: what is too much may be for that work"
    )


@app.command("accept")
@with_options
def accept(
    books: SignedBooks,
    form: ShowForm,
    txid: Annotated[str, typer.Argument(help="A transaction that somebody else accepted by `reconcile`.")],
) -> None:
    """Say, as the second person, that you know whom a transaction pays; `reconcile` books it then."""
    said = books.ask("payout.accept", txid=txid)
    words = f"{txid} is accepted by two persons. Next: `angara payout reconcile` books it"
    tell(words, said, form)


@app.command("disown")
@with_options
def disown(books: SignedBooks, form: ShowForm, batch_id: BatchArgument) -> None:
    """Say that a batch was never paid by the transaction in its place: that spends no coin of the wallet.

    It takes two persons; where the wallet was another one at that time, it is no mistake. What `reconcile`
    booked in earlier versions may be one.
    """
    from pool.cli.payouts.tables import payable_again

    batch = books.ask("payout.disown", batch=batch_id)
    if "proposed_by" in batch:
        by = batch["proposed_by"]
        words = f"{by} says so. Next: somebody else runs `angara payout disown {batch_id}`"
        tell(words, {"batch": batch_id, "proposed_by": by}, form)
    else:
        tell(payable_again(batch), batch, form)


def _tell_news(words: str, row: dict[str, Any], form: Form, *, err: bool = False) -> None:
    """At once, a line each: whoever reads them waits for the next."""
    if form is Form.JSON:
        typer.echo(json.dumps({"at": iso_time(int(time.time()))} | row))
    else:
        say(words, err=err)
