"""What holds for every test, and the databases, chains and data directories that tests ask for by name.

Files of tests are in memory, and no virtual clock runs on while a thread works.

A clock that jumps when all tasks wait cannot know that one of them waits for a thread, and a thread (a
database, a disk, a node's chain) takes as long as the machine happens to need: time limits would pass in the
middle of its work, on a slow day and on no other.

What only some tests need is imported by the fixture that they ask for; `tests/without_processes.py` reads
there which of them start processes.
"""

import gc
import os
import resource
import shutil
import signal
import ssl
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from functools import lru_cache, wraps
from math import inf
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import certifi
import pytest
import structlog
import trio
import trio.testing
from sqlalchemy import create_engine

from payouts.proof import angara_verify
from pool.books import store as books_of_the_pool
from pool.books.store import Store
from pool.short_start import YOUNG_OBJECTS_MAX
from tests.fixtures.databases import Databases, PostgresDatabases, SqliteDatabases, fresh_store
from tests.fixtures.engines import compiling_once
from tests.fixtures.in_memory import move_there
from tests.fixtures.journals import OpenedJournals
from tests.fixtures.stacks import tasks

T = TypeVar("T")
Working = WeakKeyDictionary[trio.testing.MockClock, tuple[int, float]]


STDERR = pytest.StashKey[int]()
BEFORE_IT_IS_GIVEN_UP_S = 10.0
DESCRIPTORS = 4096  # a test with 1,300 connections has both ends of each
SUMS_KEPT = 4096  # of signatures: half a KiB each, and many times what one test makes


def pytest_configure(config: pytest.Config) -> None:
    config.stash[STDERR] = os.dup(2)  # nothing is captured yet
    move_there()
    allow_descriptors()
    gc.disable()  # until all tests are collected, which make millions of objects and hardly any garbage


def allow_descriptors() -> None:
    """As many as one test needs, if a process may have them: usually it may have 1,024 until it asks."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Half as many more than there are processors: a fifth of the time tests wait, for processes, sockets and
    servers."""
    processors = os.cpu_count() or 1
    return processors + (processors + 1) // 2


def pytest_collection_finish() -> None:
    """What was collected stays to the end: nobody looks through it for garbage again. What tests make is
    looked through more rarely than by Python's rule, which takes a twelfth of the time of tests of books."""
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """One that does not end is given up with the stacks of all threads (pyproject.toml); before that it says
    where its tasks are, which are in no thread's stack while they wait."""
    wait_s = float(item.config.getini("faulthandler_timeout")) - BEFORE_IT_IS_GIVEN_UP_S
    stderr = item.config.stash[STDERR]
    signal.signal(signal.SIGALRM, lambda *_: os.write(stderr, f"{item.nodeid}\n{tasks()}\n".encode()))
    signal.setitimer(signal.ITIMER_REAL, max(0.0, wait_s))
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)


@pytest.hookimpl(trylast=True)  # when marks have taken out what does not run
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What SQLite suffices for has no double. What takes longest begins first: nobody waits for it."""
    items[:] = [item for item in items if not _is_needless_double(item)]
    long = [item for item in items if item.get_closest_marker("long") is not None]
    short = [item for item in items if item.get_closest_marker("long") is None]
    items[:] = long_first(long, short, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


def long_first(long: Sequence[T], short: Sequence[T], workers: int) -> list[T]:
    """So that each worker, which is given an equal part of them in a row, begins with its share of the long
    ones. One that had them all would be at them when the others have nothing left to do."""
    dealt: list[T] = []
    for worker in range(workers):
        mine = long[worker::workers]
        left = len(long) + len(short) - len(dealt)
        begin = len(dealt) - sum(len(long[it::workers]) for it in range(worker))
        dealt += [*mine, *short[begin : begin + max(0, left // (workers - worker) - len(mine))]]
    return dealt


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test that passed has printed and logged is no part of what workers tell, three times each."""
    report = yield
    if report.passed:
        report.sections.clear()
    return report


def _is_needless_double(item: pytest.Item) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    of_postgresql = parameters.get("databases") == "postgresql"
    return of_postgresql and item.get_closest_marker("sqlite_suffices") is not None


def standing_still(run_sync: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """`trio.to_thread.run_sync`, during which a virtual clock only moves when a test moves it."""
    working: Working = WeakKeyDictionary()  # threads, and the threshold from before the first of them

    @wraps(run_sync)
    async def run(*args: Any, **options: Any) -> Any:
        clock = trio.lowlevel.current_clock()
        if not isinstance(clock, trio.testing.MockClock):
            return await run_sync(*args, **options)
        threads, threshold_s = working.get(clock, (0, clock.autojump_threshold))
        working[clock] = threads + 1, threshold_s
        clock.autojump_threshold = inf
        try:
            return await run_sync(*args, **options)
        finally:
            threads, threshold_s = working.pop(clock)
            if threads > 1:
                working[clock] = threads - 1, threshold_s
            else:
                clock.autojump_threshold = threshold_s

    return run


@pytest.fixture(scope="session", autouse=True)
def _clocks_wait_for_threads() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", standing_still(trio.to_thread.run_sync))
        yield


def authorities_read_once(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
    """`ssl.create_default_context`, where all clients of HTTP have one: each would read 140 certificates,
    even to speak without TLS. Which file has them may be said by the environment."""
    kept: dict[str, ssl.SSLContext] = {}

    @wraps(create)
    def of_httpx_or_created(*args: Any, **options: Any) -> ssl.SSLContext:
        authorities = (certifi.where(), os.environ.get("SSL_CERT_FILE"))
        file: Any = options.get("cafile")
        if args or len(options) != 1 or file not in authorities:
            return create(*args, **options)
        if file not in kept:
            kept[file] = create(**options)
        return kept[file]

    return of_httpx_or_created


@pytest.fixture(scope="session", autouse=True)
def _done_once_in_a_process() -> Iterator[None]:
    """What takes longer than most tests, and comes out the same for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", authorities_read_once(ssl.create_default_context))
        patch.setattr(books_of_the_pool, "create_engine", compiling_once(create_engine))
        # A signature is verified when it is made and at every audit: the sum of its two points is the same.
        patch.setattr(angara_verify, "combined", lru_cache(SUMS_KEPT)(angara_verify.combined))
        yield


@pytest.fixture(autouse=True)
def _no_logs_left_configured() -> Iterator[None]:
    """A command configures them for its standard error, which is closed when its test is over. And a
    traceback is one alone: with the values of all variables in it, as structlog has it, it takes seconds."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.get_config()["processors"][-1] = plain  # and not configured: a command looks whether it is
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def _opened_journals() -> Iterator[OpenedJournals]:
    with OpenedJournals().watched() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_journals_left_open(_opened_journals: OpenedJournals) -> Iterator[None]:
    _opened_journals.forget()
    yield
    _opened_journals.close()


# Databases


@pytest.fixture(scope="session")
def sqlite_databases(tmp_path_factory: pytest.TempPathFactory) -> SqliteDatabases:
    return SqliteDatabases(tmp_path_factory.mktemp("sqlite"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Path]:
    """A running server: the directory of its socket."""
    from tests.fixtures.postgres_server import PostgresServer

    server = PostgresServer()
    try:
        server.start()
        yield server.home
    finally:
        server.remove()


@pytest.fixture(scope="session")
def postgres_databases(postgres_server: Path) -> PostgresDatabases:
    return PostgresDatabases(postgres_server)


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest) -> Databases:
    """Where fresh databases come from: SQLite, then PostgreSQL."""
    kind = "sqlite_databases" if request.param == "sqlite" else "postgres_databases"
    found: Databases = request.getfixturevalue(kind)
    return found


@pytest.fixture
def store(databases: Databases) -> Iterator[Store]:
    """A fresh, open database, on SQLite and then on PostgreSQL."""
    with fresh_store(databases) as opened:
        yield opened


@pytest.fixture
def books(sqlite_databases: SqliteDatabases) -> Iterator[Store]:
    """A fresh, open database on SQLite alone, for what need not run on both."""
    with fresh_store(sqlite_databases) as opened:
        yield opened


# NATS


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A running server that knows a hub and edges: a tests.fixtures.nats_servers.NatsServer."""
    from tests.fixtures.nats_servers import Keys, NatsServer

    home = tmp_path_factory.mktemp("nats")
    server = NatsServer(home, Keys(home, ("oslo", "bergen")))
    try:
        server.start()
        yield server
    finally:
        server.remove()


# Chains


@pytest.fixture(scope="session")
def regtest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A chain for all payout tests: a tests.stages.payouts.Regtest."""
    from tests.stages.payouts import Regtest

    chain = Regtest(tmp_path_factory.mktemp("chain"))
    yield chain
    chain.close()


# Data directories


@pytest.fixture(scope="session")
def directory_of_acme(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pool.admin.fleet.machines import ContainerSet
    from pool.admin.fleet.tenants import TenantAdd
    from pool.data_dir import database_url
    from tests.stages.command_line import PASSWORD, ask_books

    home = tmp_path_factory.mktemp("acme")
    for command, params in (
        ("tenant.add", TenantAdd("acme")),
        ("container.set", ContainerSet("acme", "c01")),
    ):
        ask_books(home, database_url(home), "regtest", command, params, "ann")
    (home / "password").write_text(f"{PASSWORD}\n")
    return home


@pytest.fixture
def data_dir(tmp_path: Path, directory_of_acme: Path) -> Path:
    """Of a pool that is not running: a tenant acme with a container c01, and a password in a file."""
    return shutil.copytree(directory_of_acme, tmp_path, dirs_exist_ok=True)
