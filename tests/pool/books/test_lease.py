"""One writer: whoever holds the lease on a book is the only one that writes to it, on both databases.

Others are refused in words that say who it is. A lock that is lost unnoticed lets nobody write beside others.
"""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import psycopg
import pytest
import trio
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, NullPool, create_engine, insert, select, text
from sqlalchemy.exc import OperationalError

import pool.books.lease
import pool.books.lease_watch
import pool.books.store
import pool.main
from payouts.schemas.book import book
from payouts.schemas.money import containers, journal_writers, workers
from pool.admin.client import lent_epoch
from pool.admin.desk import Desk
from pool.admin.fleet.tenants import TenantAdd, TenantList
from pool.admin.server import serve_admin
from pool.books.journal.journal import JournalFailed
from pool.books.lease import (
    KEEPALIVE,
    LEASE_LOCK,
    FileLock,
    Kept,
    Lease,
    LeaseHeld,
    LeaseLost,
    Lock,
    ServerLock,
)
from pool.books.migrations.revisions import NEWEST
from pool.books.standby import await_lease
from pool.books.store import Store, StoreError, open_engine, open_store, upgrade
from pool.chain.nodes import NodeConfig
from pool.data_dir import admin_socket, database_url
from pool.fleet.registry import ContainerRecord, NewRows, WorkerRecord
from pool.fleet.rows import NumberTaken, insert_new
from tests.fixtures.databases import Databases, PostgresDatabases, SqliteDatabases, add_tenant
from tests.stages.command_line import ask_books
from tests.stages.two_pools import settings
from tests.stages.waiting import until

PROCESS_S_MAX = 120  # a safety net
BEFORE = f"{int(NEWEST) - 1:04}"  # a schema
NODE = NodeConfig(name="nowhere", url="http://127.0.0.1:1", user="u", password="p")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.books.lease, "TAKE_WAIT_S", 0.0)


@contextmanager
def two_stores(databases: Databases) -> Iterator[tuple[Store, Store, str]]:
    """The same book, opened twice as two processes would, and its URL."""
    with databases.fresh_url() as url, closing(open_store(url)) as one, closing(open_store(url)) as other:
        yield one, other, url


def lock_of(url: str) -> Lock:
    """As a process that opens the book has it."""
    if url.startswith("sqlite:///"):
        return FileLock(Path(url.removeprefix("sqlite:///")))
    return ServerLock(
        create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)
    )


def write(store: Store, writer: str) -> None:
    with store.write() as connection:
        connection.execute(insert(journal_writers).values(writer=writer, batch=1))


def writers(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.scalars(select(journal_writers.c.writer).order_by(journal_writers.c.writer)))


def cut_off(databases: Databases, url: str) -> None:
    """What takes a lock from its holder without its noticing."""
    if isinstance(databases, SqliteDatabases):
        Path(f"{url.removeprefix('sqlite:///')}.lock").unlink()
        return
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            (LEASE_LOCK & 0xFFFFFFFF,),
        )


def test_a_second_writer_is_refused_and_told_who_the_first_is(databases: Databases) -> None:
    with two_stores(databases) as (one, other, url):
        one.acquire_lease()
        words = r"the pool that is process \d+ on \S+ writes to the database"
        with pytest.raises(LeaseHeld, match=words):
            other.acquire_lease()
        with pytest.raises(LeaseHeld, match=words):
            write(other, "other")
        with pytest.raises(LeaseHeld, match="stop it, then it can be upgraded"):
            upgrade(url)
        write(one, "one")
        assert writers(other) == ["one"], "who reads is in nobody's way"
        one.release_lease()
        other.acquire_lease()
        write(other, "other")
        with pytest.raises(LeaseHeld):
            write(one, "late")
        assert writers(one) == ["one", "other"]


def test_a_writer_of_books_that_were_put_back_has_an_epoch_that_nobody_had(databases: Databases) -> None:
    """Edges believe no hub of before one that they have heard of: the books knew it, and do not any more."""
    with two_stores(databases) as (one, other, _):
        began_s = int(time.time())
        one.acquire_lease()
        first = one.lease_epoch
        one.release_lease()
        other.acquire_lease()
        assert first is not None
        assert other.lease_epoch is not None
        assert began_s <= first < other.lease_epoch


def test_visitors_take_turns_where_nobody_holds_the_lease(databases: Databases) -> None:
    with two_stores(databases) as (one, other, _):
        for number in range(3):
            write(one, f"a{number}")
            write(other, f"b{number}")
        assert writers(one) == ["a0", "a1", "a2", "b0", "b1", "b2"]


def test_a_visitor_has_nothing_but_its_turn(databases: Databases) -> None:
    """A commit lets go of what it has in no promised order: the next one might find the lease held."""
    with two_stores(databases) as (one, other, url):
        lock = lock_of(url)
        with one.write():
            assert lock.acquire()
            lock.release()
        write(other, "next")


def test_a_guest_writes_beside_the_pool_that_told_it_its_epoch_and_beside_no_other(
    databases: Databases,
) -> None:
    with two_stores(databases) as (one, other, _):
        one.acquire_lease()
        assert one.lease_epoch is not None
        other.borrow_lease(one.lease_epoch)
        write(other, "guest")
        write(one, "pool")
        one.release_lease()
        one.acquire_lease()  # as its next start does
        with pytest.raises(LeaseLost, match="has written to the database meanwhile"):
            write(other, "late")
        assert writers(one) == ["guest", "pool"]


def test_a_lease_that_was_lost_is_taken_back_where_nobody_has_written_since(databases: Databases) -> None:
    with two_stores(databases) as (one, other, url):
        one.acquire_lease()
        assert one.keep_lease() is Kept.HELD
        cut_off(databases, url)
        assert one.keep_lease() is Kept.TAKEN_BACK
        assert one.keep_lease() is Kept.HELD
        write(one, "one")
        with pytest.raises(LeaseHeld):
            write(other, "other")


@contextmanager
def book_of_before(databases: Databases) -> Iterator[str]:
    """That the next upgrade changes."""
    with databases.fresh_url(upgraded=False) as url:
        config = Config()
        config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
        with closing(Store(open_engine(url))) as store, store.write() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, BEFORE)
        yield url


def test_a_pool_of_the_version_of_before_that_lost_its_lease_never_writes_to_an_upgraded_book(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could stop it: its line to the database was cut."""
    with book_of_before(databases) as url:
        monkeypatch.setattr(pool.books.store, "NEWEST", BEFORE)
        engine = open_engine(url)
        with closing(Store(engine, Lease(lock_of(url)))) as former:
            former.acquire_lease()
            write(former, "former")
            cut_off(databases, url)
            monkeypatch.undo()
            upgrade(url)
            with pytest.raises(LeaseLost, match="an upgrade by process"):
                former.keep_lease()
            with pytest.raises(LeaseLost):
                write(former, "late")
            assert writers(former) == ["former"]


async def test_a_hub_of_the_version_of_before_that_waits_does_not_begin_with_an_upgraded_book(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    with book_of_before(databases) as url:
        monkeypatch.setattr(pool.books.store, "NEWEST", BEFORE)
        engine = open_engine(url)
        with closing(Store(engine, Lease(lock_of(url)))) as standby:
            monkeypatch.undo()
            upgrade(url)
            monkeypatch.setattr(pool.books.store, "NEWEST", BEFORE)
            with pytest.raises(StoreError, match="the database has schema"):
                await await_lease(standby)
            monkeypatch.undo()
            with closing(open_store(url)) as of_now:
                of_now.acquire_lease()


def test_a_lock_that_our_own_cut_session_still_has_is_waited_for(
    postgres_databases: PostgresDatabases,
) -> None:
    """A network that went away leaves the server with a session that it takes for alive for half a minute."""
    with two_stores(postgres_databases) as (one, other, url):
        one.acquire_lease()
        cut_off(postgres_databases, url)
        with psycopg.connect(url, autocommit=True) as half_open:
            half_open.execute("SELECT pg_advisory_lock(%s)", (LEASE_LOCK,))
            assert one.keep_lease() is Kept.AWAITED
            write(one, "one")
            with pytest.raises(LeaseHeld):
                write(other, "other")
            # What the server does at the end of a session, a moment after whoever ended it has gone on.
            half_open.execute("SELECT pg_advisory_unlock(%s)", (LEASE_LOCK,))
        assert one.keep_lease() is Kept.TAKEN_BACK
        assert writers(one) == ["one"]


@pytest.mark.parametrize("successor", ["another pool", "a visitor"])
def test_whoever_lost_the_lease_never_writes_beside_its_successor(
    databases: Databases, successor: str
) -> None:
    with two_stores(databases) as (one, other, url):
        one.acquire_lease()
        cut_off(databases, url)
        if successor == "another pool":
            other.acquire_lease()
        write(other, "other")
        with pytest.raises(LeaseLost):
            write(one, "one")
        with pytest.raises(LeaseLost):
            one.keep_lease()
        write(other, "again")
        assert writers(other) == ["again", "other"]


HOLDER = """
import sys
import time
from pool.books.store import open_store

store = open_store(sys.argv[1])
store.acquire_lease()
print("taken", flush=True)
sys.stdin.read()
"""


def test_a_lease_ends_with_the_process_that_holds_it(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.books.lease, "TAKE_WAIT_S", 10.0)  # PostgreSQL notices a moment later
    with databases.fresh_url() as url, closing(open_store(url)) as store:
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "taken\n"
            with pytest.raises(LeaseHeld, match=f"process {holder.pid} on"):
                write(store, "beside")
            holder.kill()
            holder.wait(PROCESS_S_MAX)
        store.acquire_lease()
        write(store, "after")
        assert writers(store) == ["after"]


async def test_a_second_pool_on_one_book_does_not_start(tmp_path: Path) -> None:
    """With a data directory of its own, as on another host."""
    url = database_url(tmp_path)
    with closing(open_store(url)) as one, closing(open_store(url)) as other:
        pool.main.Pool(settings(tmp_path, NODE), one)
        with pytest.raises(LeaseHeld, match="the pool that is process"):
            pool.main.Pool(settings(tmp_path / "other", NODE), other)


async def test_the_pool_ends_in_words_when_another_has_written_to_its_book(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.books.lease_watch, "LEASE_CHECK_S", 0.01)
    with two_stores(databases) as (one, other, url):
        running = pool.main.Pool(settings(tmp_path, NODE), one)
        cut_off(databases, url)
        write(other, "other")
        with trio.fail_after(PROCESS_S_MAX), pytest.raises(ExceptionGroup) as ended:
            await running.run()
        assert ended.group_contains((LeaseLost, JournalFailed), match=rf"process {os.getpid()} on")


async def test_a_command_beside_a_pool_on_another_host_is_refused_in_words(
    databases: Databases, tmp_path: Path
) -> None:
    """It finds no socket in its data directory: only the book knows that there is a pool."""
    with two_stores(databases) as (one, _, url):
        one.acquire_lease()
        add = TenantAdd("acme")
        with pytest.raises(LeaseHeld, match="give the command where it runs"):
            await trio.to_thread.run_sync(ask_books, tmp_path, url, None, "tenant.add", add, "ann")
        listed = await trio.to_thread.run_sync(
            ask_books, tmp_path, url, None, "tenant.list", TenantList(), "ann"
        )
        assert listed == [], "what only reads is answered"


async def test_a_payout_command_writes_as_the_guest_of_the_pool_on_its_host(tmp_path: Path) -> None:
    url = database_url(tmp_path)
    with closing(open_store(url)) as one, closing(open_store(url)) as other:
        one.acquire_lease()
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(one, "regtest"), admin_socket(tmp_path))
            epoch = await trio.to_thread.run_sync(lent_epoch, tmp_path)
            assert epoch is not None
            other.borrow_lease(epoch)
            nursery.cancel_scope.cancel()
        write(other, "guest")
        assert writers(one) == ["guest"]


# Numbers that are handed out in memory


def new_rows(unit: str, name: str = "c02") -> NewRows:
    container = ContainerRecord(id=7, tenant_id=1, name=name)
    worker = WorkerRecord(id=9, tenant_id=1, container_id=7, unit=unit, agent="cgminer", difficulty_log2=None)
    return NewRows((container,), (worker,))


def machines(connection: Connection) -> list[tuple[int, str, int, str]]:
    rows = connection.execute(
        select(containers.c.id, containers.c.name, workers.c.id, workers.c.unit)
        .join(workers, workers.c.container_id == containers.c.id)
        .where(containers.c.id == 7)
    )
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("other", [new_rows("u2"), new_rows("u1", "c03")], ids=["worker", "container"])
def test_a_number_that_is_somebody_elses_already_is_never_ignored(store: Store, other: NewRows) -> None:
    """Or the shares of one machine were booked to another."""
    with store.write() as connection:
        add_tenant(connection, 1, "acme")
        insert_new(connection, new_rows("u1"), 0)
        insert_new(connection, new_rows("u1"), 5)  # the same rows again are nothing new
    with pytest.raises(NumberTaken), store.write() as connection:
        insert_new(connection, other, 9)
    with store.read() as connection:
        assert machines(connection) == [(7, "c02", 9, "u1")]


def test_the_books_own_row_is_one_and_its_epoch_never_goes_back(store: Store) -> None:
    for change in (
        "UPDATE book SET lease_epoch = lease_epoch - 1",
        "UPDATE book SET latest_s = latest_s - 1",
        "DELETE FROM book",
        "INSERT INTO book (id, latest_s, ordered_from_seq, lease_epoch) VALUES (2, 0, 1, 0)",
    ):
        with store.write() as connection:
            connection.execute(text("UPDATE book SET latest_s = 5"))
        with pytest.raises(Exception, match=r"only grows|id"), store.write() as connection:
            connection.execute(text(change))
    with store.read() as connection:
        assert len(connection.execute(select(book)).all()) == 1


def test_a_pools_host_that_dies_does_not_keep_its_lease(postgres_databases: PostgresDatabases) -> None:
    """TCP alone would let it keep it for two hours."""
    with postgres_databases.fresh_url() as url, closing(open_store(url)) as store:
        store.acquire_lease()
        assert store._lease is not None
        session = store._lease._lock._session  # type: ignore[attr-defined]
        found = {name: session.exec_driver_sql(f"SHOW {name}").scalar() for name in KEEPALIVE}
        assert found == dict.fromkeys(KEEPALIVE, "0"), "taken; but a Unix socket, as here, has none"


class StoreThatCannotLook:
    """pool.books.store.Store, of a lease that nobody can look at for once."""

    def __init__(self, error: Exception) -> None:
        self.looks: list[Exception | None] = [error, None]

    def keep_lease(self) -> Kept:
        if self.looks and (error := self.looks.pop(0)) is not None:
            raise error
        return Kept.HELD


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "Permission denied"), OperationalError("", None, Exception("cut off"))],
)
async def test_a_lease_that_cannot_be_looked_at_is_not_lost(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor its pool, whose miners are served: it is looked at again."""
    monkeypatch.setattr(pool.books.lease_watch, "LEASE_CHECK_S", 0.0)
    watch = pool.books.lease_watch.LeaseWatch(cast(Store, StoreThatCannotLook(error)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await until(lambda: watch.books_away, look_s=0.0)
        await until(lambda: not watch.books_away)
        nursery.cancel_scope.cancel()
