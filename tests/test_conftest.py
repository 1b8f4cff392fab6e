"""No virtual clock runs on while a thread works, what tests share is no state, marks do what they say."""

import ast
import gc
import os
import shutil
import signal
import ssl
import threading
from collections.abc import Sequence
from contextlib import closing
from math import inf
from pathlib import Path
from typing import Any

import certifi
import httpx
import pytest
import trio
import trio.testing
from sqlalchemy import Connection, Row, func, insert, select, update

from payouts.schemas.book import book
from payouts.schemas.money import sites, tenants
from pool.books.store import open_store
from pool.journal.frames import Place
from pool.journal.inbox import Inbox
from pool.journal.log import JournalLog, writer_directories
from pool.journal.segments import segment_path
from tests.conftest import long_first
from tests.fixtures import programs
from tests.fixtures.databases import Databases, PostgresDatabases, SqliteDatabases, add_tenant, fresh_store
from tests.fixtures.journals import OpenedJournals
from tests.fixtures.programs import AngaraProcess
from tests.fixtures.stacks import tasks
from tests.fixtures.tables import every_table
from tests.stages.waiting import until

Clock = trio.testing.MockClock
A_LONG_TIME_S = 3600.0
PATIENCE_S = 20.0  # for a test that failed; nothing is measured with it


async def test_no_time_passes_while_a_thread_works(autojump_clock: Clock) -> None:
    began_s = trio.current_time()
    with trio.move_on_after(A_LONG_TIME_S):
        await trio.to_thread.run_sync(threading.Event().wait, 0.05)
        assert trio.current_time() == began_s
    await trio.sleep(A_LONG_TIME_S)
    assert trio.current_time() == began_s + A_LONG_TIME_S


async def test_it_goes_on_after_the_last_of_several_threads(autojump_clock: Clock) -> None:
    """Whichever that is, and whether it was waited for or given up."""
    first, second = threading.Event(), threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, first.wait, PATIENCE_S)
        nursery.start_soon(trio.to_thread.run_sync, second.wait, PATIENCE_S)
        await trio.testing.wait_all_tasks_blocked()
        first.set()
        with trio.move_on_after(A_LONG_TIME_S) as scope:
            await trio.to_thread.run_sync(first.wait, PATIENCE_S)
            assert autojump_clock.autojump_threshold == inf
            scope.cancel()
            await trio.to_thread.run_sync(second.wait, PATIENCE_S, abandon_on_cancel=True)
        assert autojump_clock.autojump_threshold == inf
        second.set()
    assert autojump_clock.autojump_threshold == 0


async def test_a_thread_under_an_ordinary_clock_is_left_alone() -> None:
    assert await trio.to_thread.run_sync(threading.get_ident) != threading.get_ident()


async def test_where_tasks_wait_is_told_while_they_do(nursery: trio.Nursery) -> None:
    nursery.start_soon(trio.Event().wait)
    await trio.testing.wait_all_tasks_blocked()
    told = tasks()
    nursery.cancel_scope.cancel()
    assert "task trio.Event.wait" in told
    assert "test_where_tasks_wait_is_told_while_they_do" in told


async def test_a_process_that_does_not_end_says_what_it_waits_for_and_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "ENDS_S_MAX", 0.0)
    words = ["regtest", "--listen", "127.0.0.1:0", "--data-dir", str(tmp_path)]
    process = AngaraProcess(words, tmp_path, log := tmp_path / "log")
    await until(lambda: log.exists() and "regtest_started" in log.read_text())
    with pytest.raises(AssertionError, match=r"(?s)it does not end.*task .*stop_on_signal.*Current thread"):
        process.wait()
    await until(lambda: process.poll() == -signal.SIGKILL)


def test_databases_of_a_kind_compile_a_statement_once_and_share_no_row(
    sqlite_databases: SqliteDatabases,
) -> None:
    newest = select(func.max(tenants.c.id).label("of_nobody_else"))
    with fresh_store(sqlite_databases) as first, fresh_store(sqlite_databases) as second:
        with first.write() as connection:
            add_tenant(connection, 7, "acme")
            assert connection.scalar(newest) == 7
        compiled = first.engine.get_execution_options()["compiled_cache"]
        once = len(compiled)
        with second.read() as connection:
            assert connection.scalar(newest) is None
        assert second.engine.get_execution_options()["compiled_cache"] is compiled
        assert len(compiled) == once


def test_a_database_of_the_server_that_was_written_to_is_as_new_for_the_next_test(
    postgres_databases: PostgresDatabases,
) -> None:
    """And one whose schema was changed is no test's any more."""

    def rows(connection: Connection) -> dict[str, Sequence[Row[Any]]]:
        return {it.name: connection.execute(select(it)).all() for it in every_table().sorted_tables}

    def new_site(connection: Connection) -> Any:
        return connection.scalar(insert(sites).values(name="Bratsk", created_at_s=0).returning(sites.c.id))

    with (
        postgres_databases.fresh_url() as first,
        closing(open_store(first)) as store,
        store.write() as connection,
    ):
        before = rows(connection)
        add_tenant(connection, 7, "acme")
        number = new_site(connection)
        connection.execute(update(book).values(lease_epoch=77))
    with (
        postgres_databases.fresh_url() as again,
        closing(open_store(again)) as store,
        store.write() as connection,
    ):
        assert again == first
        assert rows(connection) == before
        assert new_site(connection) == number
        connection.exec_driver_sql("ALTER TABLE blocks DISABLE TRIGGER ALL")
    with postgres_databases.fresh_url() as other:
        assert other != first


@pytest.mark.parametrize("named", [False, True])
def test_clients_of_http_trust_the_same_and_nobody_else_is_given_that(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the environment names a file of authorities."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    if named:
        monkeypatch.setenv("SSL_CERT_FILE", str(shutil.copy(certifi.where(), tmp_path)))
    assert httpx.create_ssl_context() is httpx.create_ssl_context()
    assert ssl.create_default_context() is not ssl.create_default_context()


def test_journals_that_a_test_leaves_open_are_closed_behind_it(tmp_path: Path) -> None:
    gc.collect()  # what other tests have left is closed here, and not in the middle
    before = set(os.listdir("/dev/fd"))
    with OpenedJournals().watched() as opened:
        log = JournalLog(writer_directories(tmp_path, 1)[0], "book")
        log.begin(Place(), 5, 0)
        copy = Inbox(tmp_path / "inbox" / log.writer, Place(), free_bytes_min=0)
        copy.receive(segment_path(log.directory, 1).read_bytes())
        assert len(os.listdir("/dev/fd")) == len(before) + 3, "a lock and two files"
        del log, copy
        opened.close()
        assert set(os.listdir("/dev/fd")) == before


def test_every_client_of_http_is_told_how_long_it_waits() -> None:
    """Where it is not, httpx gives a busy machine five seconds for each answer."""
    of_httpx = [
        (path.name, call)
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "httpx.AsyncClient"
    ]
    assert of_httpx
    assert [name for name, call in of_httpx if "timeout" not in {it.arg for it in call.keywords}] == []


@pytest.mark.sqlite_suffices
def test_what_sqlite_suffices_for_is_asked_of_nothing_else(databases: Databases) -> None:
    assert isinstance(databases, SqliteDatabases)


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("shorts", [0, 1, 40, 41])
@pytest.mark.parametrize("longs", [0, 1, 4, 7])
def test_each_worker_begins_with_its_share_of_what_takes_longest(
    longs: int, shorts: int, workers: int
) -> None:
    long, short = [f"long {it}" for it in range(longs)], [f"short {it}" for it in range(shorts)]
    dealt = long_first(long, short, workers)
    assert sorted(dealt) == sorted(long + short)
    if longs + shorts < workers * (longs // workers + 1):
        return  # more long ones than are dealt to somebody
    rest = dealt
    for worker in range(workers):  # as pytest-xdist parts them
        part, rest = rest[: len(rest) // (workers - worker)], rest[len(rest) // (workers - worker) :]
        mine = long[worker::workers]
        assert part[: len(mine)] == mine
        assert not any(it in long for it in part[len(mine) :])
