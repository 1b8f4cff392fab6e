"""`angara block`: which blocks were found, and what became of them."""

from typing import Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, moment, show
from pool.reports.figures import btc, grouped

app = typer.Typer(no_args_is_help=True)

BLOCKS: Final = (
    Column("height", "height", grouped, right=True),
    Column("found", "found_at", moment),
    Column("status", "status"),
    Column("by", "worker"),
    Column("income BTC", "income_sat", btc, right=True),
    Column("pays", "solo_tenant"),
    Column("pays it BTC", "solo_sat", btc, right=True),
    Column("divided by", "divided_by"),
    Column("to them BTC", "divided_sat", btc, right=True),
    Column("hash", "hash"),
)


@app.callback()
def blocks() -> None:
    """Which blocks were found, and what became of them."""


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """The newest 200 blocks; `angara report pool` has those of a month, and luck."""
    show(books.ask("block.list"), BLOCKS, form)
