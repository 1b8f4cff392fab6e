"""The books that a report is made from.

Must not know: reports.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from pool.cli.books import Books
from pool.cli.opened_books import opened_to_read
from pool.cli.progress import progress


@contextmanager
def books_read(books: Books) -> Iterator[Connection]:
    """They as they are at one moment; a terminal sees that this takes its time."""
    with opened_to_read(books) as store, store.read() as connection, progress("reading the books"):
        yield connection
