"""`angara rate`, `angara ledger` and `angara db`: prices, the book's proof, the database's schema."""

from fractions import Fraction
from typing import Annotated

import typer

from payouts.audit import audit
from payouts.rates import BadRate, quote
from pool.books_options import ConfigOption, DatabaseOption, DataDirOption, books_of
from pool.config import BadConfig
from pool.store import open_store, upgrade

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
            found = audit(connection)
    finally:
        store.close()
    if found.wrong is not None:
        typer.echo(f"WRONG {found.wrong.table} {found.wrong.row}: {found.wrong.reason}")
        raise typer.Exit(1)
    typer.echo(f"ok: {found.head.seq} transactions, {found.settlements} settlements, head {found.head.hash}")
    for account, balance_sat in found.balances_sat.items():
        typer.echo(f"{account:32} {balance_sat:>20,} sat")


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
