"""A data directory and a PostgreSQL that an earlier Angara wrote: they are opened, and all is there.

`tests/vectors/book_0013` has such a book, as that code wrote it, and the statements that it gave. Two batches
were committed in it and not booked, as after a kill: its own version has to book them before an upgrade.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import inspect, text

from payouts.statements.statement import statement
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.audit.verify import verify
from pool.books.changes.changes import newest_changes
from pool.books.migrations.revisions import NEWEST
from pool.books.opening import look
from pool.books.store import Store, StoreError, open_engine, open_store, upgrade
from pool.people.roles import host_account
from tests.fixtures.databases import Databases, PostgresDatabases
from tests.fixtures.tables import every_table
from tests.stages.command_line import angara

BOOK = Path(__file__).parents[2] / "vectors" / "book_0013"
DAY = date(2026, 9, 1)
WAITING = 2  # batches
ALL_OF = "SELECT * FROM "
Rows = dict[str, list[tuple[Any, ...]]]


def restore(url: str) -> Rows:
    """The book of before; all that is in it, by table."""
    if url.startswith("sqlite:"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            file.executescript((BOOK / "sqlite.sql").read_text())
            names = file.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            return {name: rows_of(file.execute(ALL_OF + name).fetchall()) for (name,) in names}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((BOOK / "postgresql.sql").read_text().encode())
        named = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        every = {name: connection.execute((ALL_OF + name).encode()).fetchall() for (name,) in named}
        return {name: rows_of(rows) for name, rows in every.items()}


def rows_of(rows: Any) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=str)


@pytest.fixture
def old_book(databases: Databases) -> Iterator[tuple[str, Rows]]:
    with databases.fresh_url(upgraded=False) as url:
        before = restore(url)
        book_what_waits(url)
        if isinstance(databases, PostgresDatabases):
            upgrade(url)  # a SQLite is brought to the present when it is opened
        yield url, before


def book_what_waits(url: str) -> None:
    """As its version leaves it when it is stopped: with no batch."""
    with closing(Store(open_engine(url))) as store, store.write() as connection:
        assert connection.execute(text("DELETE FROM journal_batches")).rowcount == WAITING


def all_rows(url: str) -> Rows:
    with closing(Store(open_engine(url))) as store, store.read() as connection:
        names = inspect(connection).get_table_names()
        return {name: rows_of(connection.execute(text(ALL_OF + name))) for name in names}


def statements(store: Store) -> bytes:
    with store.read() as connection:
        made = [
            statement(connection, tenant, DAY, DAY + timedelta(days))
            for tenant in ("acme", "borealis")
            for days in (1, 2)
        ]
    return msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n"


def test_shares_that_its_version_has_not_booked_are_neither_dropped_nor_priced_by_another(
    databases: Databases,
) -> None:
    """It is refused in words, by `angara check` before the start, and stays a book that its version can open
    and book them in."""
    with databases.fresh_url(upgraded=False) as url:
        before = restore(url)
        for refused in (upgrade, lambda it: look(it, "main"), upgrade):
            with pytest.raises(StoreError, match=f"{WAITING} rows of shares .* start that version, stop it"):
                refused(url)
            assert all_rows(url) == before
        book_what_waits(url)
        assert upgrade(url) == NEWEST


def test_a_book_of_before_is_whole_proven_and_says_of_everybody_what_it_said(
    old_book: tuple[str, Rows],
) -> None:
    url, before = old_book
    with closing(open_store(url)) as store:
        with store.read() as connection:
            assert verify(connection).wrong is None
            now = set(inspect(connection).get_table_names())
            for name in before.keys() - {"alembic_version", "journal_batches"}:
                width = len(before[name][0]) if before[name] else 0
                now_there = rows_of(row[:width] for row in connection.execute(text(ALL_OF + name)))
                if name == "ledger_accounts":  # the pool has opened more
                    now_there = [it for it in now_there if it in before[name]]
                if name == "book":  # whoever wrote to it before is its writer no more
                    names = [it["name"] for it in inspect(connection).get_columns(name)]
                    (row,), (row_before,) = now_there, before[name]
                    epoch, holder = names.index("lease_epoch"), names.index("lease_holder")
                    assert row[epoch] == row_before[epoch] + 1
                    assert row[holder].startswith("an upgrade by process")
                    kept = set(range(width)) - {epoch, holder}
                    assert [row[it] for it in kept] == [row_before[it] for it in kept]
                    continue
                assert now_there == before[name], name
        requests = {"requests", "request_events", "request_secrets"}
        sums = {"worker_days", "container_hours", "journal_hours", "journal_hour_shares"}
        edges = {"edges", "edge_places", "edge_writers", "edge_copies"}
        edges |= {"refused_credits", "refused_shares", "sibling_reports"}
        people = {"changes", "change_keys", "users", "tokens", "journal_positions"}
        power = now - before.keys() - (people | requests | sums | edges)
        assert power <= set(every_table().tables)
        assert people | requests | sums | edges <= now - before.keys()
        assert sum(map(len, before.values())) > 200
        assert statements(store) == (BOOK / "statements.json").read_bytes()


def test_the_pool_goes_on_with_a_book_of_before(old_book: tuple[str, Rows]) -> None:
    """Commands are taken, and written down."""
    url, _ = old_book
    with closing(open_store(url)) as store:
        body = b'{"name":"acme","active":false}'
        execute(Desk(store, "main"), "tenant.set-status", body, host_account("ann", ALONE))
        with store.read() as connection:
            assert verify(connection).wrong is None
            (change,) = newest_changes(connection, None, None)
        assert (change.changed_by, change.source) == ("ann", ALONE)
        assert change.became == {"status": "suspended"}


def test_commands_work_on_a_data_directory_of_before(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/angara.db"
    restore(url)
    refused = angara(tmp_path, "ledger", "verify")
    assert (refused.exit_code, "start that version" in refused.output) == (2, True)
    book_what_waits(url)
    listed = angara(tmp_path, "upstream", "show", "north")
    assert (listed.exit_code, "a.example:3333" in listed.output) == (0, True)
    assert angara(tmp_path, "ledger", "verify").output.startswith("ok:")
    assert angara(tmp_path, "change", "list").exit_code == 0


def test_a_book_of_before_moves_when_it_is_upgraded(
    tmp_path: Path, postgres_databases: PostgresDatabases
) -> None:
    here = f"sqlite:///{tmp_path}/angara.db"
    before = restore(here)
    with postgres_databases.fresh_url() as url:
        refused = angara(tmp_path, "db", "move", "--to", url)
        assert refused.exit_code == 2
        assert f"has schema 0013, this Angara needs {NEWEST}: run `angara db upgrade`" in refused.output
        assert all_rows(here) == before
        book_what_waits(here)
        assert angara(tmp_path, "db", "upgrade").exit_code == 0
        assert angara(tmp_path, "db", "move", "--to", url).exit_code == 0
