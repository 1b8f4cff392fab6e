"""`angara change`: who changed what, and when. Must not know: which commands there are."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import NOTHING, Column, exact, moment, show

app = typer.Typer(no_args_is_help=True)

CHANGES: Final = (
    Column("number", "id", right=True),
    Column("time", "changed_at", moment),
    Column("by", "changed_by"),
    Column("from", "source", lambda source: source or NOTHING),
    Column("command", "command"),
    Column("subject", "subject"),
    Column("change", "difference"),
)


@app.command("list")
@with_options
def list_changes(
    books: Books,
    form: ListForm,
    subject: Annotated[
        str | None,
        typer.Argument(help="Only of this one: tenant, tenant.container, tenant.container.unit, or a name."),
    ] = None,
    before: Annotated[
        int | None, typer.Option(min=1, help="Older ones than the change of this number.")
    ] = None,
) -> None:
    """The latest thousand changes that were made by commands, the newest last."""
    rows = books.ask("change.list", subject=subject, before=before)
    show([row | _in_words(exact(row)) for row in rows], CHANGES, form)


def _in_words(row: Mapping[str, Any]) -> dict[str, str]:
    if row["unreadable"] is not None:
        return {"difference": f"CANNOT BE READ: {row['unreadable']}, run `angara ledger verify`"}
    return {"difference": _difference(row["was"], row["became"])}


def _difference(was: Mapping[str, Any] | None, became: Mapping[str, Any] | None) -> str:
    if became is None:
        return "gone"
    if was is None:
        return ", ".join(f"{key} {_word(value)}" for key, value in became.items() if value is not None)
    return ", ".join(f"{key} {_word(was.get(key))} -> {_word(value)}" for key, value in became.items()) or "-"


def _word(value: object) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
