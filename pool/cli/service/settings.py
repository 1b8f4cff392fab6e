"""`angara config`: the settings as the pool takes them."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from pool.cli.books import DEFAULT_CONFIG
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, show

app = typer.Typer(no_args_is_help=True)

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="Settings file (TOML).")]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()  # as the file has it
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


SETTINGS: Final = (
    Column("setting", "setting"),
    Column("value", "value", _value),
    Column("unit", "unit"),
    Column("from", "from"),
)


@app.command("show")
@with_options
def show_settings(form: ListForm, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Every setting with its value, and whether the file says it or it is the default. Secrets are not shown.

    What each is for is in docs/configuration.md.
    """
    from pool.cli.service.shown_settings import shown_settings

    show(shown_settings(config), SETTINGS, form)
