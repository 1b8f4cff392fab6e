"""`angara power address`: where machines are on their own network, and what they run."""

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, print_json, say, show, show_one
from pool.cli.pieces import ask_in_pieces
from pool.cli.whole_help import WholeHelp
from pool.settings_file import BadConfig
from pool.whole_file import write_whole

app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

LINES_AT_ONCE: Final = 250  # of a table: a command has 64 KiB

ADDRESSES: Final = (
    Column("tenant", "tenant"),
    Column("container", "container"),
    Column("unit", "unit"),
    Column("address", "address", lambda it: it or "where it mines from"),
    Column("port", "port"),
    Column("firmware", "firmware", lambda it: it or "what it says"),
)


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
) -> None:
    """What was said of machines; others are where they mine from, if an address is one machine's alone."""
    show(books.ask("address.list", tenant=tenant), ADDRESSES, form)


@app.command("set")
@with_options
def set_one(
    books: GuardedBooks,
    form: ShowForm,
    machine: Annotated[str, typer.Argument(help="TENANT.CONTAINER.UNIT.")],
    address: Annotated[str, typer.Option(help="As numbers; without, it is where it mines from.")] = "",
    port: Annotated[str, typer.Option(help="Where it is not its firmware's own.")] = "",
    firmware: Annotated[str, typer.Option(help="Without, it is what the machine says.")] = "",
) -> None:
    """Say where a machine is, or what it runs. With neither: nothing is said any more."""
    it = books.ask("address.set", machine=machine, address=address, port=port, firmware=firmware)
    show_one(it, ADDRESSES, form)


@app.command("export")
@with_options
def export(
    books: Books,
    form: ShowForm,
    file: Annotated[Path | None, typer.Argument(help="Where to write it; the terminal without.")] = None,
) -> None:
    """All of it as a CSV table, which a spreadsheet opens and `import` takes."""
    rows = books.ask("address.list")
    if file is None and form is Form.JSON:
        print_json(rows)
        return
    import msgspec

    from pool.power.control.rows import MachineAddress
    from pool.power.control.tables import written

    table = written(msgspec.convert(rows, list[MachineAddress]))
    if file is None:
        sys.stdout.write(table)
        return
    try:
        write_whole(file, table.encode("utf-8-sig"))  # so that Excel knows
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None


@app.command("import")
@with_options
def import_table(
    books: GuardedBooks,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="The table, as a spreadsheet saves it: CSV.")],
) -> None:
    """Set what is in a table: tenant, container, unit, address, port, firmware.

    All lines are looked at before one is set."""
    from pool.fleet.nameplates import decoded  # a third of a second, of who imports
    from pool.power.control.tables import cells, read

    try:
        rows = read(decoded(file.read_bytes()))
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None
    lines = [cells(it) for it in rows]
    answers = ask_in_pieces(books, "address.import", "addresses", lines, LINES_AT_ONCE)
    done = sum(it["addresses"] for it in answers)
    if form is Form.JSON:
        print_json({"addresses": done})
    else:
        say(f"{done} of {len(rows)} addresses are others now")
