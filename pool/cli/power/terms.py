"""`angara power terms` and `exempt`: what tenants agreed to, and machines that no event asks."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, moment, show, show_one
from pool.cli.power.figures import BPS_PER_PERCENT, scaled
from pool.cli.whole_help import WholeHelp
from pool.reports.figures import percent

terms_app = typer.Typer(cls=WholeHelp, no_args_is_help=True)
exempt_app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

TERMS: Final = (
    Column("tenant", "tenant"),
    Column("priority", "priority", right=True),
    Column("of its power", "curtailable_bps", percent, right=True),
    Column("since", "changed_at", moment),
    Column("by", "changed_by"),
)
EXEMPTIONS: Final = (
    Column("machines", "name"),
    Column("why", "reason"),
    Column("since", "made_at", moment),
    Column("by", "made_by"),
)
MachinesArgument = Annotated[
    str, typer.Argument(metavar="TENANT.CONTAINER[.UNIT]", help="A container, or one machine.")
]


@terms_app.command("list")
@with_options
def list_terms(books: Books, form: ListForm) -> None:
    """What each tenant may be asked for."""
    show(books.ask("power.terms"), TERMS, form)


@terms_app.command("set")
@with_options
def set_one(
    books: GuardedBooks,
    form: ShowForm,
    tenant: Annotated[str, typer.Argument(help="Name of the tenant.")],
    priority: Annotated[int, typer.Option(help="1 is asked first, 100 last.")] = 50,
    share: Annotated[str, typer.Option(help="Of its power at most so many percent in an event.")] = "100",
) -> None:
    """When a tenant's machines are asked, and for how much of their power."""
    it = books.ask(
        "power.set-terms",
        tenant=tenant,
        priority=priority,
        curtailable_bps=scaled(share, BPS_PER_PERCENT, "--share", "percent"),
    )
    show_one(it, TERMS, form)


@exempt_app.command("add")
@with_options
def add(
    books: Books,
    form: ShowForm,
    machines: MachinesArgument,
    reason: Annotated[str, typer.Option(help="Why.")],
) -> None:
    """Let no event ask a machine, or any of a container."""
    show_one(_named(books.ask("power.exempt", machines=machines, reason=reason)), EXEMPTIONS, form)


@exempt_app.command("remove")
@with_options
def remove(books: Books, form: ShowForm, machines: MachinesArgument) -> None:
    """Have them asked like others again."""
    show_one(_named(books.ask("power.unexempt", machines=machines)), EXEMPTIONS, form)


@exempt_app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """Machines that no event asks."""
    show(map(_named, books.ask("power.exemptions")), EXEMPTIONS, form)


def _named(it: dict[str, Any]) -> dict[str, Any]:
    parts = (it["tenant"], it["container"], it["unit"])
    return it | {"name": ".".join(part for part in parts if part)}
