"""`angara power model`: which machine is which model, from when on; nothing is guessed."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import GuardedBooks, ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, print_json, say, show, show_one
from pool.cli.pieces import ask_in_pieces
from pool.cli.power.figures import joules_per_th, scaled, terahashes, time_of, watts_of, within
from pool.cli.whole_help import WholeHelp
from pool.power.figures import MJ_PER_TH_MAX
from pool.settings_file import BadConfig

app = typer.Typer(cls=WholeHelp, no_args_is_help=True)

LINES_AT_ONCE: Final = 250  # of a table: a command has 64 KiB

PlaceArgument = Annotated[str, typer.Argument(help="TENANT.CONTAINER, all units of which it is.")]

PLATE: Final = (
    Column("hashrate", "hashrate_ghs", terahashes, right=True),
    Column("draws", "watts", watts_of, right=True),
    Column("paused", "idle_watts", watts_of, right=True),
    Column("efficiency", "mj_per_th", joules_per_th, right=True),
    Column("within", "error_bps", within, right=True),
)
KNOWN: Final = (
    Column("model", "model"),
    *PLATE,
    Column("source", "source"),
    Column("read on", "read_on"),
)
NAMEPLATES: Final = (
    Column("container", "place"),
    Column("unit", "which"),
    Column("model", "model"),
    *PLATE,
    Column("from", "from", moment),
    Column("source", "source"),
    Column("by", "set_by"),
)


@app.command("list")
@with_options
def list_all(
    books: Books,
    form: ListForm,
    known: Annotated[bool, typer.Option("--known", help="The models there are, with sources.")] = False,
    container: Annotated[str | None, typer.Option(help="Only of TENANT.CONTAINER.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what was in force before.")] = False,
) -> None:
    """Which container and unit is which model; or all models whose nameplates are known."""
    if known:
        show(books.ask("model.known"), KNOWN, form)
    else:
        rows = books.ask("model.list", container=container, everything=everything)
        show(map(_placed, rows), NAMEPLATES, form)


@app.command("set")
@with_options
def set_one(
    books: GuardedBooks,
    form: ShowForm,
    container: PlaceArgument,
    unit: Annotated[str | None, typer.Option(help="Of one unit alone.")] = None,
    model: Annotated[str | None, typer.Option(help="One of `angara power model list --known`.")] = None,
    ths: Annotated[
        str | None, typer.Option(help="TH/s of one machine: its own, or over the model's.")
    ] = None,
    watts: Annotated[int | None, typer.Option(help="W at the wall; likewise.")] = None,
    idle_watts: Annotated[int | None, typer.Option(help="W while it is paused; likewise.")] = None,
    per_th: Annotated[
        str | None,
        typer.Option("--joules-per-th", help="J/TH as it was measured, over what W and TH/s come to."),
    ] = None,
    error: Annotated[str | None, typer.Option(help="How far off J/TH may be, in percent.")] = None,
    from_time: Annotated[
        str, typer.Option("--from", help="From which hour on; the present one without.")
    ] = "now",
) -> None:
    """Say which model machines are. With neither a model nor figures: nobody knows any more."""
    it = books.ask(
        "model.set",
        container=container,
        unit=unit,
        model=model,
        hashrate_ghs=scaled(ths, 1000, "--ths", "TH/s, down to 0.001"),
        watts=watts,
        idle_watts=idle_watts,
        mj_per_th=scaled(per_th, 1000, "--joules-per-th", "J/TH, down to 0.001", most=MJ_PER_TH_MAX),
        error_bps=scaled(error, 100, "--error", "percent, down to 0.01"),
        from_s=time_of(from_time, "--from"),
    )
    show_one(_placed(it), NAMEPLATES, form)


@app.command("import")
@with_options
def import_table(
    books: GuardedBooks,
    form: ShowForm,
    file: Annotated[Path, typer.Argument(help="The table, as a spreadsheet saves it: CSV.")],
    from_time: Annotated[
        str, typer.Option("--from", help="From which hour on; the present one without.")
    ] = "now",
) -> None:
    """Set the models in a table: tenant, container, unit, model, ths, watts, idle_watts, joules_per_th,
    error_percent.

    A line without a unit is of all units of the container. All lines are looked at before one is set."""
    from pool.fleet.nameplates import decoded  # a third of a second, of who imports
    from pool.power.energy.tables import model_lines

    try:
        lines = model_lines(decoded(file.read_bytes()))
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from None
    from_s = time_of(from_time, "--from")
    hint = "A line without a unit is of all units of its container. "
    answers = ask_in_pieces(
        books, "model.import", "nameplates", lines, LINES_AT_ONCE, hint=hint, from_s=from_s
    )
    done = sum(it["nameplates"] for it in answers)
    if form is Form.JSON:
        print_json({"nameplates": done})
    else:
        say(f"{done} nameplates are set")


def _placed(it: dict[str, Any]) -> dict[str, Any]:
    which = "all" if it["unit"] is None else it["unit"]
    return it | {"place": f"{it['tenant']}.{it['container']}", "which": which}
