"""`angara ledger`: the double-entry book, what proves it, and how a mistake in it is taken back."""

import time
from typing import Annotated, Final

import msgspec
import typer

from payouts.audit.verify import rows_to_walk
from payouts.batches.rows import act_of_person
from payouts.reversals import Reversible, confirm_reversal, propose_reversal, reversible
from pool.books.store import Store
from pool.books.verify import verify
from pool.cli.books import Books
from pool.cli.mistakes import EXIT_WRONG
from pool.cli.opened_books import opened_to_read, opened_to_write
from pool.cli.operator import operator
from pool.cli.options import ShowForm, with_options
from pool.cli.output import Column, Form, iso_time, moment, print_json, say, show
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
def ledger_verify(books: Books, form: ShowForm) -> None:
    """Walk the hash chain, recompute every balance, derive every settlement again from the journal.

    Exit code 1 and the first wrong row if anything was touched.
    """
    with (
        opened_to_read(books) as store,
        store.read() as connection,
        progress("verifying the books", rows_to_walk(connection)) as told,
    ):
        found = verify(connection, told=told)
    wrong = found.wrong
    if form is Form.JSON:
        print_json(
            {
                "ok": wrong is None,
                "wrong": wrong and {"table": wrong.table, "row": str(wrong.row), "reason": wrong.reason},
                "transactions": found.head.seq,
                "settlements": found.settlements,
                "head": found.head.hash,
                "balances_sat": found.balances_sat,
            }
        )
    elif wrong is not None:
        say(f"WRONG {wrong.table} {wrong.row}: {wrong.reason}")
    else:
        say(f"ok: {found.head.seq} transactions, {found.settlements} settlements, head {found.head.hash}")
        balances = found.balances_sat.items()
        show([{"account": account, "balance_sat": sat} for account, sat in balances], BALANCES)
    if wrong is not None:
        raise typer.Exit(EXIT_WRONG)


@app.command("reverse")
@with_options
def ledger_reverse(
    books: Books,
    form: ShowForm,
    seq: Annotated[int, typer.Argument(min=1, metavar="TX", help="Number of the transaction.")],
    why: Annotated[str | None, typer.Option(help="Propose it: the reason, for the books.")] = None,
    confirm: Annotated[
        int | None, typer.Option(min=1, help="Confirm somebody else's proposal of this number.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--as", help="Who does this; the system's user by default.")
    ] = None,
) -> None:
    """Take a transaction back by booking its opposite: one person proposes it, another confirms it.

    Without --why and --confirm: shows the transaction, and what is proposed.
    """
    if why is not None and confirm is not None:
        raise BadConfig("give --why to propose, or --confirm to confirm what somebody else proposed")
    person = by if by is not None else operator()
    with opened_to_write(books) as (store, _):
        if why is not None:
            _propose(store, seq, why, person, form)
        elif confirm is not None:
            _confirm(store, seq, confirm, person, form)
        else:
            with store.read() as connection:
                _show(reversible(connection, seq), form)


def _propose(store: Store, seq: int, why: str, person: str, form: Form) -> None:
    with store.write() as connection:
        proposal = propose_reversal(connection, seq, why, act_of_person(person, int(time.time())))
    if form is Form.JSON:
        print_json({"proposal": proposal.id, "transaction": seq, "proposed_by": person, "why": why})
    else:
        say(
            f"proposal {proposal.id}: {person} wants transaction {seq} reversed. "
            f"Next: somebody else runs `angara ledger reverse {seq} --confirm {proposal.id}`"
        )


def _confirm(store: Store, seq: int, number: int, person: str, form: Form) -> None:
    with store.write() as connection:
        posted = confirm_reversal(connection, seq, number, act_of_person(person, int(time.time())))
    if form is Form.JSON:
        print_json({"transaction": posted.seq, "reverses": seq, "confirmed_by": person})
    else:
        say(f"transaction {posted.seq} reverses transaction {seq}")


def _show(it: Reversible, form: Form) -> None:
    if form is Form.JSON:
        print_json(msgspec.to_builtins(it))
        return
    say(f"transaction {it.seq}, {it.kind}, {moment(iso_time(it.booked_at_s))}: {it.memo}")
    for transfer in it.transfers:
        say(f"  {amount(transfer.amount_sat):>24} from {transfer.from_account} to {transfer.to_account}")
    if it.refused is not None:
        say(f"it cannot be reversed: {it.refused}")
    for proposal in it.proposals:
        proposed = moment(iso_time(proposal.proposed_at_s))
        say(f"proposal {proposal.id}, {proposed}, by {proposal.proposed_by}: {proposal.why}")
