"""`angara rate`, `angara ledger` and `angara db`: prices, the book's proof, the database's schema."""

import time
from fractions import Fraction
from typing import Annotated

import typer

from payouts.batches.batch import SettlementError
from payouts.batches.proposals import ProposalError
from payouts.batches.rows import act_of_person
from payouts.ledger import LedgerError
from payouts.rates import BadRate, quote
from payouts.reversals import Reversible, confirm_reversal, look_at, propose_reversal
from pool.admin.client import borrow_lease
from pool.books.store import Store, open_store, upgrade
from pool.books.verify import verify
from pool.cli.command_line import moment, operator, say
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption, books_of
from pool.config import BadConfig
from pool.reports.figures import visible

EXIT_MISTAKE = 2

rate_app = typer.Typer(help="The price of work.", no_args_is_help=True)
ledger_app = typer.Typer(help="The double-entry book.", no_args_is_help=True)
db_app = typer.Typer(help="The database.", no_args_is_help=True)


@rate_app.callback()
def _rate() -> None:
    """The price of work."""


@rate_app.command("quote")
def rate_quote(
    nbits: Annotated[str, typer.Option(help="nBits of the job, in hex.")],
    height: Annotated[int, typer.Option(help="Height of the job.")],
    difficulty: Annotated[str, typer.Option(help="Assigned share difficulty: 65536, 0.5 or 1/4294967296.")],
    shares: Annotated[int, typer.Option(help="How many shares.")],
    fee_bps: Annotated[int, typer.Option(help="Fee of the pool in basis points.")],
    block_fees_sat: Annotated[int, typer.Option(help="Usual fees of a block, for FPPS.")] = 0,
) -> None:
    """What shares are worth, exactly: SAT CARRY_PSAT, whole satoshi and the rest in 10^-12 satoshi."""
    try:
        amount = quote(
            nbits=int(nbits, 16),
            height=height,
            difficulty=Fraction(difficulty),
            shares=shares,
            fee_bps=fee_bps,
            block_fees_sat=block_fees_sat,
        )
    except (BadRate, ValueError, ZeroDivisionError) as error:
        raise BadConfig(f"there is no such price: {error}") from None
    typer.echo(f"{amount.sat} {amount.carry_psat}")


@ledger_app.callback()
def _ledger() -> None:
    """The double-entry book."""


@ledger_app.command("verify")
def ledger_verify(
    config: ConfigOption = None, data_dir: DataDirOption = None, database: DatabaseOption = None
) -> None:
    """Walk the hash chain, recompute every balance, derive every settlement again from the journal.

    Exit code 1 and the first wrong row if anything was touched.
    """
    store = open_store(books_of(config, data_dir, database).database_url)
    try:
        with store.read() as connection:
            found = verify(connection)
    finally:
        store.close()
    if found.wrong is not None:
        say(f"WRONG {found.wrong.table} {found.wrong.row}: {found.wrong.reason}")
        raise typer.Exit(1)
    typer.echo(f"ok: {found.head.seq} transactions, {found.settlements} settlements, head {found.head.hash}")
    for account, balance_sat in found.balances_sat.items():
        typer.echo(f"{account:32} {balance_sat:>20,} sat")


@ledger_app.command("reverse")
def ledger_reverse(
    seq: Annotated[int, typer.Argument(min=1, metavar="TX", help="Number of the transaction.")],
    why: Annotated[str | None, typer.Option(help="Propose it: the reason, for the books.")] = None,
    confirm: Annotated[
        int | None, typer.Option(min=1, help="Confirm somebody else's proposal of this number.")
    ] = None,
    by: Annotated[
        str | None, typer.Option("--as", help="Who does this; the system's user by default.")
    ] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
) -> None:
    """Take a transaction back by booking its opposite: one person proposes it, another confirms it.

    Without --why and --confirm: shows the transaction, and what is proposed.
    """
    if why is not None and confirm is not None:
        raise BadConfig("give --why to propose, or --confirm to confirm what somebody else proposed")
    books = books_of(config, data_dir, database)
    store = open_store(books.database_url)
    try:
        borrow_lease(store, books.data_dir)
        typer.echo(_reverse(store, seq, why, confirm, by if by is not None else operator()))
    except (LedgerError, ProposalError, SettlementError) as mistake:
        say(f"angara: {mistake}", err=True)
        raise typer.Exit(EXIT_MISTAKE) from None
    finally:
        store.close()


def _reverse(store: Store, seq: int, why: str | None, number: int | None, by: str) -> str:
    """What was done, or what there is to do, in words."""
    if why is not None:
        with store.write() as connection:
            proposal = propose_reversal(connection, seq, why, act_of_person(by, int(time.time())))
        return (
            f"proposal {proposal.id}: {by} wants transaction {seq} reversed. "
            f"Next: somebody else runs `angara ledger reverse {seq} --confirm {proposal.id}`"
        )
    if number is not None:
        with store.write() as connection:
            posted = confirm_reversal(connection, seq, number, act_of_person(by, int(time.time())))
        return f"transaction {posted.seq} reverses transaction {seq}"
    with store.read() as connection:
        return _in_words(look_at(connection, seq))


def _in_words(it: Reversible) -> str:
    lines = [f"transaction {it.seq}, {it.kind}, {moment(it.booked_at_s)}: {visible(it.memo)}"]
    lines += [f"  {t.amount_sat:>20,} sat from {t.from_account} to {t.to_account}" for t in it.transfers]
    if it.refused is not None:
        lines.append(f"it cannot be reversed: {it.refused}")
    lines += [
        f"proposal {p.id}, {moment(p.proposed_at_s)}, by {visible(p.proposed_by)}: {visible(p.why)}"
        for p in it.proposals
    ]
    return "\n".join(lines)


@db_app.callback()
def _db() -> None:
    """The database."""


@db_app.command("upgrade")
def db_upgrade(
    config: ConfigOption = None, data_dir: DataDirOption = None, database: DatabaseOption = None
) -> None:
    """Bring the schema to the present version; the embedded default does it by itself."""
    upgrade(books_of(config, data_dir, database).database_url)
    typer.echo("the database has the present schema")
