"""`angara power meter`: meters before sites and containers, and what they read."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, duration, iso_time, moment, print_json, say, show, show_one
from pool.cli.power.figures import kilowatts, scaled, within
from pool.cli.whole_help import WholeHelp
from pool.reports.figures import grouped
from pool.settings_file import BadConfig

app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

READINGS_AT_ONCE: Final = 400  # of a table: a command has 64 KiB

NameArgument = Annotated[str, typer.Argument(help="Name of the meter.")]

METERS: Final = (
    Column("name", "name"),
    Column("read by", "kind"),
    Column("before", "before"),
    Column("class", "error_bps", within, right=True),
    Column("measures to", "max_watts", kilowatts, right=True),
    Column("reads", "last_watts", kilowatts, right=True),
    Column("counter", "last_counter_wh", lambda wh: f"{grouped(wh)} Wh", right=True),
    Column("at", "last_at", moment),
)
METER: Final = (
    *METERS,
    Column("counter begins anew at", "rolls_at_wh", lambda wh: f"{grouped(wh)} Wh"),
    Column("address", "address"),
    Column("registers", "registers"),
    Column("pushed by", "pusher"),
    Column("measured in 24 h", "joules_day", lambda joules: f"{grouped(joules // 3_600_000)} kWh"),
    Column("of the time", "covered_s", duration),
    Column("nothing is known of", "missing"),
    Column("removed", "removed_at", moment),
)


@app.command("add")
@with_options
def add(
    books: GuardedBooks,
    form: ShowForm,
    name: NameArgument,
    kind: Annotated[str, typer.Option(help="How it is read: csv, modbus, push.")],
    max_kw: Annotated[int, typer.Option(help="More than that it cannot measure: such a reading is none.")],
    error: Annotated[str, typer.Option(help="Its class, in percent: 0.5.")],
    site: Annotated[str | None, typer.Option(help="The site that it stands before.")] = None,
    container: Annotated[
        list[str] | None, typer.Option(help="TENANT.CONTAINER that it stands before; once for each.")
    ] = None,
    rolls_at_kwh: Annotated[
        int | None, typer.Option(help="Where its counter begins at 0 again: 1000000.")
    ] = None,
    address: Annotated[str | None, typer.Option(help="Modbus TCP: HOST:PORT/UNIT.")] = None,
    registers: Annotated[
        str | None, typer.Option(help="Modbus TCP: watts=input:52:s32,counter_wh=holding:72:u32:x100.")
    ] = None,
    pusher: Annotated[str | None, typer.Option(help="The user that may push for it.")] = None,
) -> None:
    """A meter that is there from now on. What it reads counts before what work says."""
    it = books.ask(
        "meter.add",
        name=name,
        kind=kind,
        site=site,
        containers=container or [],
        error_bps=scaled(error, 100, "--error", "percent, down to 0.01"),
        max_kw=max_kw,
        rolls_at_kwh=rolls_at_kwh,
        address=address,
        registers=registers,
        pusher=pusher,
    )
    show_one(_in_words(it), METER, form)


@app.command("list")
@with_options
def list_all(books: Books, form: ListForm) -> None:
    """Meters, each with its newest reading."""
    show(map(_in_words, books.ask("meter.list")), METERS, form)


@app.command("show")
@with_options
def show_meter(books: Books, form: ShowForm, name: NameArgument) -> None:
    """One meter, what it measured within a day, and when it did not."""
    it = books.ask("meter.show", name=name)
    if form is Form.JSON:
        print_json(it)
    else:
        show_one(_in_words(it), METER)


@app.command("remove")
@with_options
def remove(books: GuardedBooks, form: ShowForm, name: NameArgument) -> None:
    """A meter that stands there no longer. What it read stays."""
    show_one(_in_words(books.ask("meter.remove", name=name)), METER, form)


@app.command("import")
@with_options
def import_readings(
    books: Books,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="The table, as a spreadsheet saves it: CSV.")],
) -> None:
    """Take readings of a table: meter, at, watts, counter_kwh. The same one again is no other."""
    from pool.fleet.nameplates import decoded  # a third of a second, of who imports
    from pool.power.energy.tables import reading_lines

    try:
        lines = reading_lines(decoded(file.read_bytes()))
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None
    if not lines:
        raise BadConfig(f"{file}: there are no readings in it")
    taken = []
    for meter, readings in lines.items():
        done = 0
        for at in range(0, len(readings), READINGS_AT_ONCE):
            part = readings[at : at + READINGS_AT_ONCE]
            done += books.ask("meter.import", name=meter, readings=part)["taken"]
        taken.append({"meter": meter, "taken": done, "there": len(readings) - done})
    if form is Form.JSON:
        print_json(taken)
    else:
        for it in taken:
            say(f"{it['meter']}: {it['taken']} readings taken, {it['there']} were there")


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    gaps = it.get("gaps") or []
    missing = [f"{_moment(gap['from_s'])} to {_moment(gap['until_s'])} ({gap['why']})" for gap in gaps[:10]]
    more = [f"and {len(gaps) - 10} spans more"] if len(gaps) > 10 else []
    return it | {"before": ", ".join(it["places"]), "missing": "; ".join(missing + more) or None}


def _moment(at_s: int) -> str:
    return moment(iso_time(at_s))
