"""A database that is busy, cut off or away: nothing is lost, doubled or acknowledged too early."""

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest
import trio
from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree
from structlog.testing import capture_logs
from trio.testing import MockClock

from payouts.schemas.money import workers
from pool.books import database_waits
from pool.books import store as pool_store
from pool.books.audit.verify import verify
from pool.books.bookkeeper import Bookkeeper, BooksFailed, BookTimes
from pool.books.database_waits import passes, when_it_answers
from pool.books.journal import folding, taker
from pool.books.lease import LeaseLost
from pool.books.store import WRITER_LOCK, Store, open_store
from pool.chain.node_set import NodeSet
from stratum.tallies import Verdict
from tests.fakes.bitcoinds import FakeBitcoind
from tests.fixtures.databases import PostgresDatabases, SqliteDatabases, fresh_store
from tests.stages.journal import JournalOnStore, tally


def cut_off() -> DBAPIError:
    return OperationalError("COMMIT", None, psycopg.OperationalError("the connection is lost"))


def sqlite_error(code: int) -> DBAPIError:
    said = sqlite3.OperationalError("as SQLite says it")
    said.sqlite_errorcode = code
    return OperationalError("COMMIT", None, said)


class StoreThatIsCutOff(Store):
    """Breaks writing transactions as `faults` says: before them, in them, or behind their commit."""

    def __init__(self, whole: Store) -> None:
        super().__init__(whole.engine)
        self.faults: list[str] = []
        self.transactions = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self.transactions += 1
        fault = self.faults.pop(0) if self.faults else ""
        if fault == "before":
            raise cut_off()
        with super().write() as connection:
            yield connection
            if fault == "within":
                raise cut_off()
        if fault == "behind":
            raise cut_off()


@pytest.fixture
def booked(sqlite_databases: SqliteDatabases, monkeypatch: pytest.MonkeyPatch) -> Iterator[JournalOnStore]:
    monkeypatch.setattr(database_waits, "PAUSE_S", 0.0)
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    with fresh_store(sqlite_databases) as whole:
        yield JournalOnStore(StoreThatIsCutOff(whole))


def faulty(booked: JournalOnStore) -> StoreThatIsCutOff:
    return cast(StoreThatIsCutOff, booked.store)


async def test_a_commit_asks_no_database(booked: JournalOnStore) -> None:
    worker, before = booked.worker("acme.c01.u1"), faulty(booked).transactions
    faulty(booked).faults = ["before"] * 100
    for _ in range(10):
        await booked.journal.commit(tally(worker, booked.epoch))
    assert faulty(booked).transactions == before
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 10}


@pytest.mark.parametrize("where", ["before", "within", "behind"])
@pytest.mark.parametrize("rows_max", [1_000, 2])
async def test_a_fold_that_was_cut_off_anywhere_counts_every_share_once(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch, where: str, rows_max: int
) -> None:
    monkeypatch.setattr(taker, "ROWS_MAX", rows_max)
    expected = {}
    for number in range(4):
        worker = booked.worker(f"acme.c01.u{number}")
        await booked.journal.commit(tally(worker, booked.epoch, count=number + 1))
        expected[worker, Verdict.ACCEPTED] = number + 1
    faulty(booked).faults = [where, ""] * 30  # every other transaction
    await booked.folding.fold()
    faulty(booked).faults = []
    assert booked.waiting() == []
    assert booked.shares() == expected
    with booked.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 4
        assert verify(connection).wrong is None


async def test_a_stop_leaves_to_the_next_start_what_the_books_do_not_take(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STOP_WAIT_S", 0.0)
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    faulty(booked).faults = ["before"] * 100
    with capture_logs() as logs:
        await booked.folding.stop()
    (left,) = (it for it in logs if it["event"] == "journal_left_to_the_next_start")
    assert left["reason"] == "the connection is lost"
    faulty(booked).faults = []
    booked.restart()
    assert booked.waiting() == []
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}


@pytest.mark.parametrize(
    "error", [sqlite_error(sqlite3.SQLITE_FULL), OSError(errno.EMFILE, "Too many open files")]
)
async def test_books_on_a_full_disk_are_tried_again_while_miners_are_served(
    booked: JournalOnStore, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What does not pass by itself is said, again and again; nobody is sent away, and nothing is lost. The
    same of a journal that cannot be read, where no descriptor is left."""
    full, worker = [True], booked.worker("acme.c01.u1")

    def take(*args: object) -> None:
        if full[0]:
            raise error

    monkeypatch.setattr(folding, "when_it_answers", answering_at_once(take))
    with capture_logs() as logs:
        for _ in range(3):
            await booked.journal.commit(tally(worker, booked.epoch))
            await booked.folding._kept_folding()
    assert [it["event"] for it in logs] == ["journal_not_taken"] * 3
    assert booked.journal.unfolded == 3
    full[0] = False
    await booked.folding._kept_folding()
    assert booked.journal.unfolded == 0
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 3}


def answering_at_once(before: Callable[..., None]) -> Callable[..., Awaitable[Any]]:
    """No thread, so that a clock which jumps waits for it."""

    async def work(doing: str, work: Callable[..., Any], *args: object, **bounds: object) -> Any:
        before()
        return work(*args)

    return work


async def test_a_lease_that_was_lost_ends_the_taking_at_once(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the book now makes machines and prices of its own: ours wait in our journal."""
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))

    def lost(*args: object) -> None:
        raise LeaseLost("process 7 has written to the database meanwhile")

    monkeypatch.setattr(folding, "when_it_answers", answering_at_once(lost))
    with pytest.raises(LeaseLost):
        await booked.folding._kept_folding()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT])
async def test_a_full_or_broken_disk_is_never_asked_twice(booked: JournalOnStore, code: int) -> None:
    attempts = 0

    def commit() -> None:
        nonlocal attempts
        attempts += 1
        raise sqlite_error(code)

    with pytest.raises(OperationalError):
        await when_it_answers("commit", commit)
    assert attempts == 1


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), True),
        (sqlite_error(sqlite3.SQLITE_BUSY_RECOVERY), True),
        (sqlite_error(sqlite3.SQLITE_READONLY), False),
        (cut_off(), True),
        (OperationalError("x", None, psycopg.errors.LockNotAvailable()), True),
        (OperationalError("x", None, psycopg.errors.AdminShutdown()), True),
        (OperationalError("x", None, psycopg.errors.CannotConnectNow()), True),
        (OperationalError("x", None, psycopg.errors.TooManyConnections()), True),
        (OperationalError("x", None, psycopg.errors.DiskFull()), False),
        (IntegrityError("x", None, psycopg.errors.UniqueViolation()), False),
        (NoConnectionFree(), True),
        (ValueError("a mistake of ours"), False),
    ],
)
def test_what_passes_by_itself_is_told_from_what_does_not(error: BaseException, passing: bool) -> None:
    if isinstance(error, DBAPIError) and isinstance(error.orig, psycopg.errors.Error):
        assert error.orig.sqlstate or error.orig.args
    assert passes(error) is passing


async def test_a_postgresql_that_cuts_everybody_off_or_is_locked_is_waited_for(
    postgres_databases: PostgresDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_waits, "PAUSE_S", 0.0)
    monkeypatch.setattr(pool_store, "BOUNDS_MS", {"lock_timeout": 100})
    with postgres_databases.fresh_url() as url:
        store = open_store(url)
        booked = JournalOnStore(store)
        worker = booked.worker("acme.c01.u1")
        await booked.journal.commit(tally(worker, booked.epoch))
        cut = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                   " AND datname = current_database()")  # fmt: skip
        with store.read() as connection:
            connection.execute(cut)
        await booked.folding.fold()
        assert booked.waiting() == []
        locked = psycopg.connect(url.replace("postgresql://angara@/", "postgresql://angara@/"))
        locked.execute(f"SELECT pg_advisory_lock({WRITER_LOCK})")
        await booked.journal.commit(tally(worker, booked.epoch))
        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(booked.folding.fold)
                while not logs:  # noqa: ASYNC110 - the first attempt is in another thread
                    await trio.sleep(0.01)
                await booked.journal.commit(tally(worker, booked.epoch))
                locked.close()
        assert [it["event"] for it in logs] == ["database_waited_for", "database_answers"]
        await booked.folding.fold()
        assert booked.waiting() == []
        assert booked.shares() == {(worker, Verdict.ACCEPTED): 3}
        store.close()


def keeper(booked: JournalOnStore) -> Bookkeeper:
    node = FakeBitcoind()
    nodes = NodeSet([node.config], chain="regtest", transport=lambda it: node)
    return Bookkeeper(booked.store, nodes, times=BookTimes())


async def test_the_books_wait_and_go_on_where_a_database_error_does_not_pass(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.books.database_waits.AGAIN_S", 0.0)
    attempts = trio.Event()
    count = 0

    async def settle() -> None:
        nonlocal count
        count += 1
        if count == 3:
            attempts.set()
            await trio.sleep_forever()
        raise sqlite_error(sqlite3.SQLITE_FULL)

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeper(booked)._kept, "settle", settle)
            await attempts.wait()
            nursery.cancel_scope.cancel()
    assert [(it["event"], it["doing"]) for it in logs] == [("books_not_kept", "settle")] * 2


async def test_books_that_do_not_go_together_end_the_pool_in_words(booked: JournalOnStore) -> None:
    async def settle() -> None:
        raise ValueError("an overdrawn account")

    with (
        capture_logs(),
        pytest.raises(BooksFailed, match=r"cannot settle: an overdrawn account.*ledger verify"),
    ):
        await keeper(booked)._kept("settle", settle)


def test_a_start_on_a_full_disk_is_answered_in_words_and_exit_code_2(tmp_path: Path) -> None:
    """The disk takes 16 KiB of any file, which is less than the database needs."""
    password = tmp_path / "password"
    password.write_text("x")
    config = tmp_path / "angara.toml"
    config.write_text(
        f"""
        [pool]
        network = "regtest"
        data_dir = "{tmp_path}/data"
        payout_address = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
        [[node]]
        name = "first"
        url = "http://127.0.0.1:1"
        user = "x"
        password_file = "{password}"
        """
    )
    # In the program itself: what Python does between a fork and a program may wait for ever, where another
    # thread of the tests had a lock just then.
    small_disk = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (16384, 16384))"
    program = f"{small_disk}; from pool.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "-c", str(config)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "angara: the database" in done.stderr
