"""`angara power signals`: who may ask for curtailment beside persons."""

from typing import Final

from pool.cli.books import Books
from pool.cli.options import ListForm, with_options
from pool.cli.output import NOTHING, Column, moment, show
from pool.reports.figures import grouped

SIGNALS: Final = (
    Column("signal", "source"),
    Column("where", "where"),
    Column("state", "state"),
    Column("heard", "heard_at", moment),
    Column("asked", "asked_at", moment),
    Column("calls", "asked", grouped, right=True),
    Column("refused", "refused_at", moment),
    Column("why", "words", lambda words: words or NOTHING),
)


@with_options
def signals(books: Books, form: ListForm) -> None:
    """Signals: when each was last heard of, and what it was refused last."""
    show(books.ask("power.signals"), SIGNALS, form)
