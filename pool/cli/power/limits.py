"""`angara power limit`: what a site or a container may draw at most, from when until when, and why."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, show, show_one
from pool.cli.power.figures import kilowatts, time_of
from pool.cli.whole_help import WholeHelp

app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

LIMITS: Final = (
    Column("number", "id", right=True),
    Column("state", "state"),
    Column("place", "place"),
    Column("at most", "watts", kilowatts, right=True),
    Column("from", "from", moment),
    Column("until", "until", moment),
    Column("why", "reason"),
    Column("by", "set_by"),
    Column("lifted", "lifted_at", moment),
)


@app.command("set")
@with_options
def set_one(
    books: Books,
    form: ShowForm,
    kw: Annotated[int, typer.Argument(help="At most so many kW.")],
    reason: Annotated[str, typer.Option(help="Why: the grid's call, a transformer, a contract.")],
    site: Annotated[str | None, typer.Option(help="Of a site.")] = None,
    container: Annotated[str | None, typer.Option(help="Of a container: TENANT.CONTAINER.")] = None,
    from_time: Annotated[
        str, typer.Option("--from", help="When it begins: 2026-11-22T00:00Z, or now.")
    ] = "now",
    until: Annotated[str | None, typer.Option(help="When it ends; until it is removed without.")] = None,
) -> None:
    """Set a limit. Of several at one place the lowest counts, so this only ever lowers it."""
    it = books.ask(
        "limit.set",
        kw=kw,
        reason=reason,
        site=site,
        container=container,
        from_s=time_of(from_time, "--from"),
        until_s=time_of(until, "--until"),
    )
    show_one(_placed(it), LIMITS, form)


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
) -> None:
    """Limits that are in force, or to come."""
    show(map(_placed, books.ask("limit.list", everything=everything)), LIMITS, form)


@app.command("remove")
@with_options
def remove(
    books: GuardedBooks,
    form: ShowForm,
    number: Annotated[int, typer.Argument(help="Its number in the list.")],
) -> None:
    """Lift a limit now. What it was stays in the list of all."""
    show_one(_placed(books.ask("limit.remove", limit=number)), LIMITS, form)


def _placed(it: dict[str, Any]) -> dict[str, Any]:
    box = it["container"] is not None
    return it | {"place": f"{it['tenant']}.{it['container']}" if box else it["site"]}
