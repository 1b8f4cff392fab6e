"""`angara worker`: machines as the pool knows them."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import ACCEPTED, ALL, FIVE_MINUTES, LOW, STALE
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, show, show_one, yes_or_no
from pool.reports.figures import difficulty

app = typer.Typer(no_args_is_help=True)

WorkerArgument = Annotated[str, typer.Argument(help="tenant.container.unit")]

WORKERS: Final = (
    Column("name", "name"),
    Column("firmware", "agent"),
    Column("new", "new", yes_or_no, live=True),
    Column("difficulty", "difficulty", difficulty, right=True),
    Column("last seen", "last_seen_at", moment),
    ACCEPTED,
    STALE,
    LOW,
    FIVE_MINUTES,
)
WORKER: Final = (
    *WORKERS[:4],
    Column("first seen", "first_seen_at", moment),
    WORKERS[4],
    Column("removed", "removed_at", moment),
    Column("offline", "offline", yes_or_no),
    *ALL,
)
REMOVED: Final = (Column("removed", "removed"),)


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    container: Annotated[str | None, typer.Option(help="Only this container's.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only those without shares for 5 minutes.")
    ] = False,
) -> None:
    """Machines, by the order in which they were first seen."""

    def machines() -> Iterator[dict[str, Any]]:
        after = 0
        while True:  # bounded by the machines there are
            page = books.ask(
                "worker.list", tenant=tenant, container=container, offline_only=offline, after=after
            )
            if not page:
                return
            yield from page
            after = page[-1]["id"]

    show(machines(), WORKERS, form)


@app.command("show")
@with_options
def show_worker(books: Books, form: ShowForm, name: WorkerArgument) -> None:
    """One machine."""
    show_one(books.ask("worker.show", name=name), WORKER, form)


@app.command("remove")
@with_options
def remove(books: Books, form: ShowForm, name: WorkerArgument) -> None:
    """Take a machine that is gone out of lists and quotas. What it did stays, and mining brings it back."""
    show_one(books.ask("worker.remove", name=name), REMOVED, form)
