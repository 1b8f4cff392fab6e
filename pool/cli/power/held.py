"""`angara power held` and `forget`: which machines are off because they were told so, and who is gone."""

from typing import Annotated, Any, Final

import typer

from pool.cli.books import Books
from pool.cli.live_columns import of_hps
from pool.cli.options import ListForm, ShowForm, with_options
from pool.cli.output import Column, Form, moment, print_json, show, show_one
from pool.reports.figures import grouped

HELD: Final = (
    Column("machine", "name"),
    Column("address", "address"),
    Column("told to", "told"),
    Column("at", "since_at", moment),
    Column("ends by itself", "until_at", moment),
    Column("told to resume since", "released_at", moment),
    Column("times", "tries", grouped, right=True),
    Column("given up", "given_up_at", moment),
    Column("did before", "before_words"),
    Column("does now", "now_hps", of_hps, right=True),
    Column("by its work", "proof"),
)


@with_options
def held(books: Books, form: ListForm) -> None:
    """Machines that are held off or limited, and who was told to resume and has no accepted share yet."""
    show([it | _held_words(it) for it in books.ask("held.list")], HELD, form)


FORGOTTEN: Final = (
    Column("machine", "name"),
    Column("did not come back from", "event_words"),
    Column("whoever held it off", "holder_words"),
)
HOLDERS: Final = {
    "told": "knows it",
    "away": "does not answer: say it again when it does",
    "not running": "does not run: say it again when it does",
}


@with_options
def forget(
    books: Books,
    form: ShowForm,
    machine: Annotated[str, typer.Argument(help="TENANT.CONTAINER.UNIT.")],
    reason: Annotated[str, typer.Option(help="What became of it: it stays in the event's steps.")],
) -> None:
    """A machine is gone for good: it is asked no more, and is not told of as lost. For an admin."""
    it = books.ask("held.forget", machine=machine, reason=reason)
    if form is Form.JSON:
        print_json(it)
    else:
        show_one(_in_words(it), FORGOTTEN)


def _held_words(it: dict[str, Any]) -> dict[str, Any]:
    limited = it["action"] == "limit"
    return {
        "name": _name(it["machine"]),
        "told": f"limit to {it['percent']} %" if limited else it["action"],
        "before_words": of_hps(it["before_hps"]) if limited and it["before_hps"] else None,
    }


def _in_words(it: dict[str, Any]) -> dict[str, Any]:
    events = ", ".join(f"event {number}" for number in it["lost_in"])
    return it | {
        "name": _name(it["machine"]),
        "event_words": events or None,
        "holder_words": HOLDERS[it["holders"]],
    }


def _name(it: dict[str, str]) -> str:
    return ".".join(part for part in (it["tenant"], it["container"], it["unit"]) if part)
