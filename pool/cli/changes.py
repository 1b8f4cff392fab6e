"""`angara change`: who changed what, and when. Must not know: which commands there are."""

from typing import Annotated, Any

import msgspec
import typer

from pool.admin.changes import ChangeList
from pool.cli.command_line import JsonOption, ask_pool, moment, print_json, print_lines
from pool.cli.options import ConfigOption, DatabaseOption, DataDirOption

app = typer.Typer(help="Who changed what.", no_args_is_help=True)


@app.callback()
def _change() -> None:
    """Who changed what."""


@app.command("list")
def list_changes(
    subject: Annotated[
        str | None,
        typer.Argument(help="Only of this one: tenant, tenant.container, tenant.container.unit, or a name."),
    ] = None,
    before: Annotated[int | None, typer.Option(help="Older ones than the change of this number.")] = None,
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest thousand changes that were made by commands, the newest last."""
    rows = ask_pool("change.list", ChangeList(subject, before), config, data_dir, database)
    if as_json:
        print_json(rows)
        return
    columns = ("number>", "time", "by", "command", "subject", "change")
    print_lines(
        columns,
        [
            (
                str(row["id"]),
                moment(row["changed_at_s"]),
                *(row[key] for key in ("changed_by", "command", "subject")),
                _difference(row["was"], row["became"]),
            )
            for row in rows
        ],
    )


def _difference(was: dict[str, Any] | None, became: dict[str, Any] | None) -> str:
    if became is None:
        return "gone"
    if was is None:
        return ", ".join(f"{key} {_word(value)}" for key, value in became.items() if value is not None)
    return ", ".join(f"{key} {_word(was.get(key))} -> {_word(value)}" for key, value in became.items()) or "-"


def _word(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
