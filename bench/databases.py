"""The databases that books are kept in, as something is measured on them: a SQLite file, a PostgreSQL server.

Must not know: what is measured.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import msgspec
import psycopg
from sqlalchemy import text

from pool.books.store import Store, upgrade
from pool.data_dir import database_url
from tests.fixtures.postgres_server import PostgresServer, binary

_ROWS: Final = "SELECT * FROM tally_minutes WHERE minute > :after"
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Database(msgspec.Struct, frozen=True):
    """An empty book at `url`. What a server has used so far, where there is one: of processors, of its log.

    `plainly` gives what writes the minutes after one once more, into a table of the same shape.
    """

    name: str
    url: str
    server_s: Callable[[], float]
    log_bytes: Callable[[Store], int]
    plainly: Callable[[Store, int], Callable[[], None]]


def databases() -> list[Callable[[], AbstractContextManager[Database]]]:
    """Those that there are here."""
    return [_sqlite, _postgresql] if binary("postgres") else [_sqlite]


@contextmanager
def _sqlite() -> Iterator[Database]:
    with tempfile.TemporaryDirectory(prefix="angara-bench-") as at:
        yield Database("SQLite", database_url(Path(at)), lambda: 0.0, lambda _: 0, _inserted)


@contextmanager
def _postgresql() -> Iterator[Database]:
    server = PostgresServer()
    try:
        server.start()
        home = server.home
        with psycopg.connect(host=str(home), user="angara", dbname="postgres", autocommit=True) as admin:
            admin.execute("CREATE DATABASE books TEMPLATE template0")
        url = f"postgresql://angara@/books?host={home}"
        upgrade(url)
        yield Database("PostgreSQL", url, lambda: _server_s(home), _log_bytes, _copied)
    finally:
        server.remove()


def _server_s(home: Path) -> float:
    """Of the server's processes, with those that have ended."""
    parent = int((home / "data" / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has just ended
        if stat.parent.name == str(parent):
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == parent:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_S


def _log_bytes(store: Store) -> int:
    with store.read() as connection:
        return int(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())


def _inserted(store: Store, after: int) -> Callable[[], None]:
    with store.read() as connection:
        made = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'tally_minutes'"))
        shape = str(made.scalar_one()).replace("CREATE TABLE tally_minutes", "CREATE TABLE plain")
    with store.write() as connection:
        connection.execute(text(shape))

    def write() -> None:
        with store.write() as connection:
            connection.execute(text(f"INSERT INTO plain {_ROWS}"), {"after": after})

    return write


def _copied(store: Store, after: int) -> Callable[[], None]:
    with store.write() as connection:
        connection.execute(text("CREATE TABLE plain (LIKE tally_minutes INCLUDING ALL)"))
    some = _ROWS.replace(":after", str(after))
    with _session(store) as cursor, cursor.copy(f"COPY ({some}) TO STDOUT (FORMAT binary)".encode()) as out:
        rows = b"".join(out)

    def write() -> None:
        with _session(store) as cursor, cursor.copy(b"COPY plain FROM STDIN (FORMAT binary)") as into:
            into.write(rows)

    return write


@contextmanager
def _session(store: Store) -> Iterator[psycopg.Cursor]:
    with store.write() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with driver.cursor() as cursor:
            yield cursor
