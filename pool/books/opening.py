"""What a start would find in the database, in words. Nothing is written, and nothing is made.

Must not know: settings, nodes.
"""

from pathlib import Path

from pool.books.book import network_to_read
from pool.books.migrations.revisions import NEWEST
from pool.books.migrations.unbooked import words_of_unbooked
from pool.books.store import check_revision, open_engine, revision_of, translated
from pool.database_url import read_url
from pool.store_error import StoreError

NEW = "a new book, made at the start"


def look(url: str, network: str) -> str:
    """What a pool of that network would begin with. Raises StoreError where it would not."""
    if (file := _file(url)) is not None and not file.exists():
        return NEW
    engine = open_engine(url, new=False)
    try:
        with translated(), engine.connect() as connection, connection.begin():
            found = revision_of(connection)
            if file is not None and found is None:
                return NEW
            if found != NEWEST and (unbooked := words_of_unbooked(connection)):
                raise StoreError(unbooked)
            if file is not None and found != NEWEST:
                return f"a book of schema {found}, which the start brings to {NEWEST}"
            check_revision(found)
            bound = network_to_read(connection, network)
    finally:
        engine.dispose()
    return f"a book of {bound}, schema {found}"


def _file(url: str) -> Path | None:
    """Of a book in SQLite."""
    try:
        parsed = read_url(url)
    except ValueError:
        return None  # said in words by who opens it
    return Path(parsed.database) if parsed.drivername == "sqlite" and parsed.database else None
