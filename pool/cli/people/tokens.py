"""`angara token`: what programs show to be let in as a user."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, say, show, show_one
from pool.settings_file import BadConfig
from pool.whole_file import whole_file

app = typer.Typer(no_args_is_help=True)

UserOption = Annotated[str | None, typer.Option(help="Whose: your own where nobody is named.")]

TOKENS: Final = (
    Column("number", "id", right=True),
    Column("user", "user"),
    Column("label", "label"),
    Column("scope", "scope"),
    Column("made", "created_at", moment),
    Column("by", "created_by"),
    Column("ends", "expires_at", moment),
    Column("last used", "last_used_at", moment),
    Column("revoked", "revoked_at", moment),
)
NEW: Final = (*TOKENS, Column("token", "token"))


@app.command("create")
@with_options
def create(
    books: GuardedBooks,
    form: ShowForm,
    label: Annotated[str, typer.Argument(help="What it is for, such as grafana.")],
    user: UserOption = None,
    scope: Annotated[
        str | None,
        typer.Option(help="The most that it may: metrics, or a role up to the user's, which is the default."),
    ] = None,
    days: Annotated[int, typer.Option(help="When it ends; 366 at most.")] = 90,
    out: Annotated[
        Path | None, typer.Option(help="New file that it is written to, 0600, and not shown.")
    ] = None,
) -> None:
    """Make a token and show it, this once."""

    def make() -> dict[str, Any]:
        made: dict[str, Any] = books.ask("token.create", label=label, user=user, scope=scope, days=days)
        return made

    if out is not None:
        if out.exists():
            raise BadConfig(f"--out: there is {out} already")
        with whole_file(out) as draft:  # first the file, then the token that would be lost without it
            made = make()
            draft.write_text(f"{made.pop('token')}\n")
        show_one(made, TOKENS, form)
        return
    show_one(make(), NEW, form)
    if form is Form.TEXT:
        say("Keep it now: the pool has its hash alone, and nobody can tell it again.", err=True)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm, user: UserOption = None) -> None:
    """Your tokens, or everybody's for an admin; those that have ended too."""
    show(books.ask("token.list", user=user), TOKENS, form)


@app.command("revoke")
@with_options
def revoke(
    books: Books,
    form: ShowForm,
    number: Annotated[int, typer.Argument(min=1, help="Number of the token.")],
    user: UserOption = None,
) -> None:
    """End a token. It lets nobody in from the next request on."""
    show_one(books.ask("token.revoke", number=number, user=user), TOKENS, form)
