"""`angara ledger`: the double-entry book, what proves it, and how a mistake in it is taken back."""

import time
from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.operator import operator
from pool.cli.options import ShowForm, SignedBooks, with_options
from pool.cli.output import Column, Form, iso_time, moment, print_json, say, show, tell
from pool.cli.progress import progress
from pool.reports.figures import amount
from pool.settings_file import BadConfig

app = typer.Typer(no_args_is_help=True)

BALANCES: Final = (
    Column("account", "account"),
    Column("balance", "balance_sat", amount, right=True),
)


@app.command("verify")
@with_options
def ledger_verify(
    books: Books,
    form: ShowForm,
    full: Annotated[bool, typer.Option("--full", help="From the first row on, past any checkpoint.")] = False,
) -> None:
    """Walk the hash chain, recompute every balance, derive every settlement again from the journal.

    Exit code 1 and the first wrong row if anything was touched. From the newest checkpoint on, where there
    is one: what is before it is taken as it was verified then. Note both heads elsewhere now and then:
    whoever rewrites the books as a whole cannot make the same ones again.
    """
    from payouts.audit.verify import rows_to_walk
    from pool.books.audit.checkpoints import DAYS_MAX, newest_checkpoint
    from pool.books.audit.verify import verify
    from pool.cli.opened_books import opened_to_read, place_of, proof_key_of

    with (
        opened_to_read(books) as store,
        store.read() as connection,
        progress("verifying the books", rows_to_walk(connection)) as told,
    ):
        since = None if full else newest_checkpoint(connection)
        found = verify(
            connection,
            told=told,
            data_dir=place_of(books).data_dir,
            since=None if since is None else since.checkpoint,
            proof=proof_key_of(books),
        )
    wrong = found.wrong
    if form is Form.JSON:
        print_json(
            {
                "ok": wrong is None,
                "wrong": wrong and {"table": wrong.table, "row": str(wrong.row), "reason": wrong.reason},
                "transactions": found.head.seq,
                "settlements": found.settlements,
                "head": found.head.hash,
                "changes": found.last_change.id,
                "changes_head": found.last_change.hash,
                "journal_waiting": found.waiting,
                "since_change": None if since is None else since.change,
                "balances_sat": found.balances_sat,
            }
        )
    elif wrong is not None:
        say(f"WRONG {wrong.table} {wrong.row}: {wrong.reason}")
    else:
        say(f"ok: {found.head.seq} transactions, {found.settlements} settlements, head {found.head.hash}")
        say(f"{found.last_change.id} changes in the record, head {found.last_change.hash}")
        if found.waiting is not None:
            say(f"{found.waiting} batches of the journal wait for the books")
        if since is not None:
            noted = f"{moment(iso_time(since.at_s))} by {since.by}"
            say(f"from the checkpoint in change {since.change} on, {noted}: --full begins at the first row")
        elif not full:
            say(f"from the first row on: `angara ledger checkpoint` noted none in the last {DAYS_MAX} days")
        balances = found.balances_sat.items()
        show([{"account": account, "balance_sat": sat} for account, sat in balances], BALANCES)
    if wrong is not None:
        raise typer.Exit(EXIT_WRONG)


@app.command("checkpoint")
@with_options
def ledger_checkpoint(books: Books, form: ShowForm) -> None:
    """Verify everything, and note that in the record of changes: `ledger verify` begins there from now on."""
    from msgspec.structs import asdict

    from payouts.audit.checkpoint import checkpoint
    from payouts.audit.verify import rows_to_walk
    from pool.books.audit.checkpoints import note_checkpoint
    from pool.books.audit.verify import verify
    from pool.cli.opened_books import opened_to_write, place_of

    with opened_to_write(books) as (store, _):
        with store.read() as connection, progress("verifying", rows_to_walk(connection)) as told:
            found = verify(connection, told=told, data_dir=place_of(books).data_dir)
            wrong, made = found.wrong, checkpoint(connection)
        if wrong is not None:
            say(f"WRONG {wrong.table} {wrong.row}: {wrong.reason}")
            raise typer.Exit(EXIT_WRONG)
        with store.write() as connection:
            change = note_checkpoint(connection, operator(), made, int(time.time()))
    tell(
        f"all is well up to transaction {made.transactions}: noted as change {change}",
        {"change": change} | asdict(made),
        form,
    )


@app.command("reverse")
@with_options
def ledger_reverse(
    books: SignedBooks,
    form: ShowForm,
    seq: Annotated[int, typer.Argument(min=1, metavar="TX", help="Number of the transaction.")],
    why: Annotated[str | None, typer.Option(help="Propose it: the reason, for the books.")] = None,
    confirm: Annotated[
        int | None, typer.Option(min=1, help="Confirm somebody else's proposal of this number.")
    ] = None,
) -> None:
    """Take a transaction back by booking its opposite: one person proposes it, another confirms it.

    Without --why and --confirm: shows the transaction, and what is proposed.
    """
    if why is not None and confirm is not None:
        raise BadConfig("give --why to propose, or --confirm to confirm what somebody else proposed")
    from pool.cli.bookkeeping import reversals

    if why is not None:
        reversals.propose(books, seq, why, form)
    elif confirm is not None:
        reversals.confirm(books, seq, confirm, form)
    else:
        reversals.show_reversible(books, seq, form)
