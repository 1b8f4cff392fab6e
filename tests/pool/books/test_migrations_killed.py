"""Old books with money, machines and shares in them: an upgrade is taken whole or not at all.

A book of schema 0008 has tenants, machines with work and a payout that is final. Its
upgrade is killed before each statement and before the commit, on SQLite and PostgreSQL.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, insert, inspect, select, text
from sqlalchemy.exc import DatabaseError

import pool.books.store
from payouts.batches.batch import State, load
from payouts.schemas.book import book
from payouts.schemas.money import containers, tally_minutes, workers
from payouts.tallies import ACCEPTED
from pool.books.audit.verify import verify
from pool.books.store import Store, open_store, upgrade
from pool.fleet.rows import remove_container, remove_worker
from tests.fixtures.databases import Crash, Databases, crash_at
from tests.stages.batches import Treasury
from tests.stages.payouts import NOW_S, register

BEFORE = "0008"
LATE_MINUTE = NOW_S // 60 + 60
CONTAINER, WORKERS = 9, (100, 101)
Rows = dict[str, list[tuple[Any, ...]]]


def as_before(url: str) -> Rows:
    """Make the database as that version left it: what is in it."""
    config = Config()
    config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
    with closing(Store(pool.books.store.open_engine(url))) as store:
        with store.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, BEFORE)
        register(store)
        with patch("payouts.batches.plan.held_for_energy", lambda *_: {}):  # that version knew of no energy
            Treasury(store).bring_to(State.FINAL)
        with store.write() as connection:
            add_machines(connection)
        with store.read() as connection:
            return rows(connection)


def add_machines(connection: Connection) -> None:
    named = {"id": CONTAINER, "tenant_id": 1, "name": "c09", "created_at_s": 0}
    connection.execute(insert(containers).values(named))
    machine = {"tenant_id": 1, "container_id": CONTAINER, "first_seen_at_s": 0, "last_seen_at_s": 0}
    connection.execute(insert(workers), [machine | {"id": it, "unit": f"u{it}"} for it in WORKERS])
    share = {"rate_id": 0, "difficulty_log2": 0, "verdict": ACCEPTED + 1, "shares": 7}
    connection.execute(
        insert(tally_minutes), [share | {"worker_id": it, "minute": LATE_MINUTE} for it in WORKERS]
    )


def rows(connection: Connection) -> Rows:
    """All that is in the database, by table."""
    found = {}
    for name in inspect(connection).get_table_names():
        table = connection.execute(text(f"SELECT * FROM {name}"))  # noqa: S608 - a table of ours
        found[name] = sorted((tuple(row) for row in table), key=str)
    return found


@contextmanager
def old_book(databases: Databases) -> Iterator[tuple[str, Rows]]:
    with databases.fresh_url(upgraded=False) as url:
        yield url, as_before(url)


def statements(url: str) -> int:
    """How many an upgrade has: it is done, and killed before its commit."""
    executed = 0

    def count(*_: object) -> None:
        nonlocal executed
        executed += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        with pytest.raises(Crash), crash_at(1_000):
            upgrade(url)
    finally:
        event.remove(Engine, "before_cursor_execute", count)
    return executed


def assert_is_as_before(url: str, before: Rows) -> None:
    with closing(Store(pool.books.store.open_engine(url))) as store, store.read() as connection:
        assert rows(connection) == before
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == BEFORE


def killed_at(url: str, before: Rows, points: range) -> None:
    for point in points:
        with pytest.raises(Crash), crash_at(point):
            upgrade(url)
        assert_is_as_before(url, before)


def assert_is_whole(url: str, before: Rows) -> None:
    """Everything of before is there, can be proven, and new steps can be taken on it."""
    upgrade(url)
    with closing(open_store(url)) as store:
        with store.read() as connection:
            after = rows(connection)
            for name in before.keys() - {"book", "alembic_version", "ledger_accounts", "journal_batches"}:
                width = len(before[name][0]) if before[name] else 0
                assert [row[:width] for row in after[name]] == before[name], name
            assert set(before["ledger_accounts"]) < set(after["ledger_accounts"])
            assert connection.scalar(select(book.c.latest_s)) == LATE_MINUTE * 60
            assert connection.scalar(select(book.c.ordered_from_s)) == LATE_MINUTE * 60
            assert load(connection, 1).state is State.FINAL
            assert verify(connection).wrong is None
        for change in ("UPDATE payout_items SET amount_sat = 1", "DELETE FROM payout_inputs"):
            with pytest.raises(DatabaseError, match="append-only"), store.write() as connection:
                connection.execute(text(change))
        with store.write() as connection:
            assert remove_worker(connection, "acme", "c09", "u100", now_s=NOW_S) == 100
            assert remove_container(connection, "acme", "c09", now_s=NOW_S) == (CONTAINER, (101,))
        with store.read() as connection:
            gone = select(workers.c.removed_at_s, containers.c.removed_at_s).join(containers)
            gone = gone.where(containers.c.id == CONTAINER)
            assert {at_s for row in connection.execute(gone) for at_s in row} == {NOW_S}
            assert rows(connection)["tally_minutes"] == before["tally_minutes"]


def test_an_upgrade_of_an_old_book_that_is_killed_leaves_the_book_of_before(databases: Databases) -> None:
    with old_book(databases) as (url, before):
        count = statements(url)
        assert_is_as_before(url, before)
        killed_at(url, before, range(count - 1, 0, -47))
        assert_is_whole(url, before)


@pytest.mark.soak
def test_an_upgrade_of_an_old_book_is_killed_before_each_statement(databases: Databases) -> None:
    with old_book(databases) as (url, before):
        killed_at(url, before, range(statements(url)))
        assert_is_whole(url, before)
