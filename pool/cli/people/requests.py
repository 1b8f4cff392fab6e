"""`angara request`: changes that wait for a second person, or for their time."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, ShowForm, SignedBooks, with_options
from pool.cli.output import NOTHING, Column, Form, exact, moment, print_json, say, show, show_one

app = typer.Typer(no_args_is_help=True)

NumberArgument = Annotated[int, typer.Argument(min=1, help="Number of the request.")]

REQUESTS: Final = (
    Column("number", "id", right=True),
    Column("state", "state", lambda state: state.replace("_", " ")),
    Column("command", "command"),
    Column("subject", "subject"),
    Column("asked by", "asked_by"),
    Column("asked", "asked_at", moment),
    Column("not before", "earliest_at", moment),
    Column("ends", "expires_at", moment),
    Column("approved by", "approved_by"),
)
REQUEST: Final = (
    *REQUESTS[:6],
    Column("from", "asked_from"),
    *REQUESTS[6:],
    Column("approved", "approved_at", moment),
    Column("from", "approved_from"),
    Column("over", "ended_at", moment),
    Column("by", "ended_by"),
    Column("because", "why"),
)
DIFFERENCE: Final = (
    Column("what", "what"),
    Column("before", "was"),
    Column("after", "became"),
)


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    everything: Annotated[bool, typer.Option("--all", help="Those that are over too.")] = False,
    before: Annotated[
        int | None, typer.Option(min=1, help="With --all: older than the one of this number.")
    ] = None,
) -> None:
    """What waits; the newest last."""
    show(books.ask("request.list", all=everything, before=before), REQUESTS, form)


@app.command("show")
@with_options
def show_request(books: Books, form: ShowForm, number: NumberArgument) -> None:
    """One: who asked for it, and what is before and after it."""
    _show(books.ask("request.show", number=number), form)


@app.command("approve")
@with_options
def approve(books: SignedBooks, form: ShowForm, number: NumberArgument) -> None:
    """Agree to it, as a second person. It is carried out, or waits for its time."""
    _show(books.ask("request.approve", number=number), form)


@app.command("withdraw")
@with_options
def withdraw(
    books: SignedBooks,
    form: ShowForm,
    number: NumberArgument,
    why: Annotated[str, typer.Option(help="A line for who asked for it.")] = "",
) -> None:
    """End it: your own, or one that you could agree to."""
    _show(books.ask("request.withdraw", number=number, why=why), form)


@app.command("carry-out")
@with_options
def carry_out(books: SignedBooks, form: ShowForm, number: NumberArgument) -> None:
    """Make the change that was agreed to, where no pool runs; a new token is for who asked for it."""
    done = books.ask("request.carry-out", number=number)
    result = done["result"]
    token = result.get("token") if isinstance(result, dict) else None
    _show(done, form)
    if token is not None and form is Form.TEXT:
        say(f"The token, which nobody can tell again: {token}")


def _show(request: Mapping[str, Any], form: Form) -> None:
    if form is Form.JSON:
        print_json(request)
        return
    show_one(dict(request), REQUEST)
    show(_difference(exact(request["was"]), exact(request["became"])), DIFFERENCE)


def _difference(was: Mapping[str, Any] | None, became: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    before, after = was or {}, became or {}
    return [
        {"what": name, "was": _word(before.get(name)), "became": _word(after.get(name))}
        for name in (*before, *(it for it in after if it not in before))
        if before.get(name) != after.get(name)
    ]


def _word(value: object) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else json.dumps(value)
