"""`angara site`: places where containers stand."""

from typing import Final

import typer

from pool.cli.books import Books
from pool.cli.fleet.containers import FIGURES
from pool.cli.options import ListForm, with_options
from pool.cli.output import NOTHING, Column, show
from pool.reports.figures import grouped

app = typer.Typer(no_args_is_help=True)

SITES: Final = (
    Column("site", "name", lambda name: name or NOTHING),
    Column("containers", "containers", grouped, right=True),
    *FIGURES,
)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """Sites: what stands there and what it does; without a name is what nobody has placed."""
    show(books.ask("site.list"), SITES, form)
