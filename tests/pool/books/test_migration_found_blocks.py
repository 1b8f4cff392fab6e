"""From the schema before blocks were found first: those that were booked are kept as they were."""

from contextlib import closing
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.exc import DatabaseError

import pool.books.store
from payouts.audit.verify import audit
from payouts.income import Block, Status, booking, mark, record_block
from payouts.ledger import PoolAccount, balance_sat, post
from payouts.siblings import SiblingKey, count_siblings, siblings_between
from pool.books.migrations.versions import found_blocks
from pool.books.store import Store, open_store, upgrade
from tests.fixtures.databases import Crash, Databases, crash_at

NOW_S = 1_700_000_000
SUBSIDY_SAT = 50 * 10**8
OLD, NEW = "ab" * 32, "cd" * 32
BEFORE = str(found_blocks.down_revision)
STATEMENTS = (0, 2, 4, 6, 8, 1000)  # the last: before the commit


def as_before(url: str) -> list[tuple[Any, ...]]:
    """Make the database as the version before left it, with a block that began as pending; its events."""
    config = Config()
    config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
    with closing(Store(pool.books.store.open_engine(url))) as store, store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
        insert = "INSERT INTO blocks (hash, height, income_sat, found_at_s) VALUES (:hash, 9, :sat, 0)"
        connection.execute(text(insert), {"hash": OLD, "sat": SUBSIDY_SAT})
        _pending_as_before(connection)
        return events(connection)


def _pending_as_before(connection: Connection) -> None:
    booked = booking(OLD, SUBSIDY_SAT, None, Status.PENDING, 0)
    assert booked is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("payouts.ledger.book_time", lambda _, now_s: now_s)  # there was no such table
        seq = post(connection, booked, NOW_S).seq
    event = "INSERT INTO block_events VALUES (:hash, 0, 'pending', :now, :seq)"
    connection.execute(text(event), {"hash": OLD, "now": NOW_S, "seq": seq})


def events(connection: Connection) -> list[tuple[Any, ...]]:
    rows = connection.execute(text("SELECT * FROM block_events ORDER BY block_hash, position"))
    return [tuple(row) for row in rows]


def test_old_blocks_keep_their_events_and_new_ones_begin_as_found(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        before = as_before(url)
        upgrade(url)
        with closing(open_store(url)) as store, store.write() as connection:
            assert events(connection) == before
            block = Block(hash=NEW, height=10, income_sat=SUBSIDY_SAT, worker_id=None, found_at_s=NOW_S)
            record_block(connection, block, NOW_S)
            assert mark(connection, OLD, Status.ORPHANED, NOW_S), "a sibling of before is corrected"
            assert balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value) == 0
            assert mark(connection, NEW, Status.PENDING, NOW_S)
            assert [event[2] for event in events(connection)] == ["pending", "orphaned", "found", "pending"]
            assert audit(connection).wrong is None


def test_siblings_are_counted_where_the_pool_would_have_been_paid(databases: Databases) -> None:
    with databases.fresh_url() as url, closing(open_store(url)) as store, store.write() as connection:
        for _ in range(2):
            for worker, pays_pool in ((0, True), (7, True), (7, False)):
                count_siblings(connection, {SiblingKey(OLD, 9, worker, pays_pool): 5}, NOW_S)
        assert siblings_between(connection, NOW_S, NOW_S + 1) == 20
        assert siblings_between(connection, 0, NOW_S) == 0


def test_what_must_not_change_still_does_not(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        as_before(url)
        upgrade(url)
        with closing(open_store(url)) as store:
            with store.write() as connection:
                count_siblings(connection, {SiblingKey(OLD, 9, 0, True): 5}, NOW_S)
            for change, words in (
                ("UPDATE block_events SET at_s = 1", "append-only"),
                ("DELETE FROM block_events", "append-only"),
                ("INSERT INTO block_events SELECT hash, 1, 'sunk', 0, NULL FROM blocks", "(?i)check"),
                ("DELETE FROM sibling_blocks", "only grows"),
                ("UPDATE sibling_blocks SET blocks = blocks - 1", "only grows"),
            ):
                with pytest.raises(DatabaseError, match=words), store.write() as connection:
                    connection.execute(text(change))


def test_an_upgrade_that_is_killed_anywhere_leaves_the_database_of_before(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        before = as_before(url)
        for statement in STATEMENTS:
            with pytest.raises(Crash), crash_at(statement):
                upgrade(url)
            with closing(Store(pool.books.store.open_engine(url))) as store, store.read() as connection:
                assert events(connection) == before
                assert connection.scalar(text("SELECT version_num FROM alembic_version")) == BEFORE
        upgrade(url)
        open_store(url).close()
