"""`angara power held`: which machines are off because they were told so, and when that ends."""

from typing import Final

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import Column, moment, show
from pool.reports.figures import grouped

HELD: Final = (
    Column("machine", "name"),
    Column("address", "address"),
    Column("told to", "action"),
    Column("at", "since_at", moment),
    Column("ends by itself", "until_at", moment),
    Column("told to resume since", "released_at", moment),
    Column("times", "tries", grouped, right=True),
    Column("given up", "given_up_at", moment),
)


@with_options
def held(books: Books, form: ListForm) -> None:
    """Machines that are held off, and those that were told to resume and have no accepted share yet."""
    rows = books.ask("held.list")
    show([it | {"name": _name(it["machine"])} for it in rows], HELD, form)


def _name(it: dict[str, str]) -> str:
    return ".".join(part for part in (it["tenant"], it["container"], it["unit"]) if part)
