"""`angara user`: who may ask the pool for something, and in what role."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, show, show_one

app = typer.Typer(no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Name of the user.")]
ROLE_HELP: Final = "viewer, operator, payer, admin, or tenant."
TENANT_HELP: Final = "Whose figures a user of the role tenant sees."

USERS: Final = (
    Column("name", "name"),
    Column("role", "role"),
    Column("tenant", "tenant"),
    Column("account", "account"),
    Column("status", "status"),
    Column("added", "created_at", moment),
    Column("by", "created_by"),
)


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    role: Annotated[str, typer.Option(help=ROLE_HELP)],
    tenant: Annotated[str | None, typer.Option(help=TENANT_HELP)] = None,
    account: Annotated[
        str | None, typer.Option(help="Account of the operating system that is this user's, on this host.")
    ] = None,
) -> None:
    """Add a user. A name is one person's for ever: there is no removing it, only suspending."""
    show_one(books.ask("user.add", name=name, role=role, tenant=tenant, account=account), USERS, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """All users. The account that runs the pool, and root, need none."""
    show(books.ask("user.list"), USERS, form)


@app.command("show")
@with_options
def show_user(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One user."""
    show_one(books.ask("user.show", name=name), USERS, form)


@app.command("set-role")
@with_options
def set_role(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    role: Annotated[str, typer.Argument(help=ROLE_HELP)],
    tenant: Annotated[str | None, typer.Option(help=TENANT_HELP)] = None,
) -> None:
    """Give a user another role, from the next command on."""
    show_one(books.ask("user.set-role", name=name, role=role, tenant=tenant), USERS, form)


@app.command("suspend")
@with_options
def suspend(books: Books, form: ShowForm, name: NameArgument) -> None:
    """Refuse whatever the user asks for, from the next command on."""
    show_one(_set_status(books, name, active=False), USERS, form)


@app.command("resume")
@with_options
def resume(books: GuardedBooks, form: ShowForm, name: NameArgument) -> None:
    """Let a suspended user ask again."""
    show_one(_set_status(books, name, active=True), USERS, form)


def _set_status(books: Books, name: str, *, active: bool) -> Any:
    return books.ask("user.set-status", name=name, active=active)
