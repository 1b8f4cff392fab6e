"""`angara worker`: machines as the pool knows them, and what one of them and the pool say to each other."""

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import ACCEPTED, ALL, FIVE_MINUTES, LOW, STALE
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, say, show, show_one, yes_or_no
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
TRACE_INTERVAL_S: Final = 0.5  # between two looks at what has passed
WAYS: Final = {"in": ">", "out": "<", "note": "*"}


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    container: Annotated[str | None, typer.Option(help="Only of TENANT.CONTAINER.")] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Only those without shares for 5 minutes.")
    ] = False,
) -> None:
    """Machines, by the order in which they were first seen."""
    if container is not None and tenant is None and "." in container:
        tenant, _, container = container.partition(".")  # a tenant's name has no dot

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


@app.command("trace")
@with_options
def trace(
    books: Books,
    form: ShowForm,
    name: Annotated[str | None, typer.Argument(help="tenant.container.unit")] = None,
    address: Annotated[
        str | None, typer.Option(help="All that come from this address, in place of a machine.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, max=3600, help="How long to look.")] = 600,
) -> None:
    """The lines between a machine and the pool as they pass, in words too: > from the machine, < to it.

    Who looked is recorded.
    """
    started = books.ask("trace.start", name=name, address=address, seconds=seconds)
    after = 0
    while True:  # until it is over, or Ctrl-C
        seen = books.ask("trace.show", trace=started["trace"], after=after)
        if seen["missed"]:
            say(f"* {seen['missed']} lines had to leave before they were read", err=True)
        for line in seen["lines"]:
            _tell(line, form)
            after = line["number"]
        sys.stdout.flush()
        if seen["over"]:
            return
        time.sleep(TRACE_INTERVAL_S)


def _tell(line: dict[str, Any], form: Form) -> None:
    if form is Form.JSON:
        typer.echo(json.dumps(line))
        return
    at = datetime.fromtimestamp(line["at_ms"] / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
    say(f"{at} {line['address']} #{line['connection']} {WAYS[line['way']]} {line['text']}")
    if line["words"]:
        say(f"{'':12} {line['words']}")
