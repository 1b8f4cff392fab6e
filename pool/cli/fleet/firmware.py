"""`angara firmware`: what each firmware was seen to do, by what really happened."""

from typing import Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import NOTHING, Column, show
from pool.reports.figures import grouped

app = typer.Typer(no_args_is_help=True)

FIRMWARE: Final = (
    Column("firmware", "name"),
    Column("here", "here", grouped, right=True),
    Column("sessions", "sessions", grouped, right=True),
    Column("mined", "mined", grouped, right=True),
    Column("accepted", "accepted", grouped, right=True),
    Column("rejected", "rejected", grouped, right=True),
    Column("first requests", "order"),
    Column("mask asked", "mask"),
    Column("rolled", "rolled", lambda bits: f"{bits:08x}"),
    Column("other extranonces", "extranonce", grouped, right=True),
    Column("suggests", "suggested", grouped, right=True),
    Column("reconnects", "reconnects", grouped, right=True),
    Column("obeyed", "obeyed", grouped, right=True),
    Column("pings", "pings", grouped, right=True),
    Column("answers", "answers", grouped, right=True),
    Column("refused", "refused", grouped, right=True),
    Column("unreadable", "unreadable", grouped, right=True),
)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """Firmware by version, with what its sessions did since the pool was started; most of it here first."""
    rows = books.ask("firmware.list")
    usual = [{"order": _usual(row["orders"]), "mask": _usual(row["masks"])} for row in rows]
    show([row | it for row, it in zip(rows, usual, strict=True)], FIRMWARE, form)


def _usual(counts: dict[str, Any]) -> str:
    """What most of them did, and how many did otherwise."""
    if not counts:
        return NOTHING
    usual = max(counts, key=lambda what: counts[what])
    others = sum(counts.values()) - counts[usual]
    return f"{usual} (others: {others})" if others else usual
