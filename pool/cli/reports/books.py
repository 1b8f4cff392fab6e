"""The books that a report is made from, and how far they go.

Must not know: reports.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, func, select

from payouts.book_time import latest_s
from pool.books.journal.schema import journal_batches
from pool.cli.books import Books
from pool.cli.opened_books import opened_to_read
from pool.cli.progress import progress


@contextmanager
def books_read(books: Books) -> Iterator[Connection]:
    """They as they are at one moment; a terminal sees that this takes its time."""
    with opened_to_read(books) as store, store.read() as connection, progress("reading the books"):
        yield connection


def booked_until_s(connection: Connection) -> int:
    """The moment before which nothing is booked any more."""
    waiting = connection.scalar(select(func.min(journal_batches.c.minute)))
    latest = latest_s(connection)
    return latest if waiting is None else min(latest, int(waiting) * 60)
