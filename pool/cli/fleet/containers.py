"""`angara container`: what is meant to stand in a container, and what it does."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import FIVE_MINUTES, HOUR, MACHINES, OFFLINE, of_ths
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, print_json, show, show_one
from pool.reports.figures import grouped
from pool.whole_file import write_whole

app = typer.Typer(no_args_is_help=True)

TenantArgument = Annotated[str, typer.Argument(help="Name of the tenant.")]

# What it is meant to do, and what it does; of a site, of all of its containers.
FIGURES: Final = (
    Column("places", "units", grouped, right=True),
    Column("nameplate", "ths", of_ths, right=True),
    Column("power", "kw", lambda kw: f"{grouped(kw)} kW", right=True),
    MACHINES,
    OFFLINE,
    FIVE_MINUTES,
    HOUR,
)
CONTAINERS: Final = (
    Column("tenant", "tenant"),
    Column("container", "name"),
    Column("site", "site"),
    *FIGURES,
)
CHANGES: Final = (Column("tenant", "tenant"), Column("container", "name"), Column("change", "change"))
REMOVED: Final = (Column("removed", "removed"), Column("machines", "workers", grouped))


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
) -> None:
    """Containers, what they are meant to do and what they do."""
    show(books.ask("container.list", tenant=tenant), CONTAINERS, form)


@app.command("set")
@with_options
def set_nameplate(
    books: Books,
    form: ShowForm,
    tenant: TenantArgument,
    name: Annotated[str, typer.Argument(help="Name of the container; made where it is new.")],
    site: Annotated[str | None, typer.Option(help="Where it stands.")] = None,
    units: Annotated[int | None, typer.Option(help="Machines in it.")] = None,
    ths: Annotated[int | None, typer.Option(help="Hashrate of all of them, TH/s.")] = None,
    kw: Annotated[int | None, typer.Option(help="Power of all of them, kW.")] = None,
) -> None:
    """Set a container's site and nameplate."""
    changed = books.ask("container.set", tenant=tenant, name=name, site=site, units=units, ths=ths, kw=kw)
    show_one(changed, CONTAINERS, form)


@app.command("export")
@with_options
def export(
    books: Books,
    form: ShowForm,
    file: Annotated[Path | None, typer.Argument(help="Where to write it; the terminal without.")] = None,
) -> None:
    """All nameplates as a CSV table, which a spreadsheet opens and `import` takes."""
    exported = books.ask("container.export")
    table = exported["table"]
    if file is None:
        if form is Form.JSON:
            print_json(exported)
        else:
            sys.stdout.write(table)
        return
    try:
        write_whole(file, table.encode("utf-8-sig"))  # so that Excel knows
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None


@app.command("import")
@with_options
def import_table(
    books: Books,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="The table, as a spreadsheet saves it: CSV.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
) -> None:
    """Set the nameplates in a table: tenant, container, site, units, ths, kw; all of them or none."""
    from pool.fleet.nameplates import decoded  # a third of a second, of who imports

    try:
        table = decoded(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}") from None
    asked = "container.compare" if dry_run else "container.import"
    show(books.ask(asked, table=table), CHANGES, form)


@app.command("remove")
@with_options
def remove(
    books: Books,
    form: ShowForm,
    tenant: TenantArgument,
    name: Annotated[str, typer.Argument(help="Name of the container.")],
) -> None:
    """Take a container that is gone, with its machines, out of lists and quotas. What they did stays."""
    removed = books.ask("container.remove", tenant=tenant, name=name)
    show_one(removed, REMOVED, form)
