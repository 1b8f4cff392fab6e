"""A real PostgreSQL that is killed, ends its sessions, is locked, or is away: nothing acknowledged is lost.

And nobody has to do anything when it is there again. Whole pools are in `make soak`.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
import structlog
import trio
import trio.lowlevel
from sqlalchemy import select
from trio.testing import MockClock

from payouts.schemas.money import tally_minutes
from pool.books import database_waits
from pool.books import store as pool_store
from pool.books.audit.verify import verify
from pool.books.journal import folding
from pool.books.store import WRITER_LOCK, open_store
from pool.fleet.rows import add_tenant
from stratum.tallies import Verdict
from tests.fixtures.databases import PostgresDatabases
from tests.fixtures.postgres_server import PostgresServer
from tests.stages.journal import JournalOnStore, tally
from tests.stages.two_pools import TERMS, Side, a_fleet, a_node, at_rest, running

MACHINES = 4
SHARES = 20
AWAY_S = 3600


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be killed: nobody else's."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def its_databases(server: PostgresServer) -> PostgresDatabases:
    return PostgresDatabases(server.home)


def waited(logs: list[structlog.typing.EventDict]) -> list[str]:
    return [it["event"] for it in logs if it["event"].startswith("database_")]


async def test_a_server_that_was_killed_takes_afterwards_what_was_acknowledged_meanwhile(
    server: PostgresServer,
    its_databases: PostgresDatabases,
    mock_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For an hour, by the clock: each commit is acknowledged, and the lag is told."""
    for module, name in ((folding, "STEP_PAUSE_S"), (database_waits, "PAUSE_S")):
        monkeypatch.setattr(module, name, 0.0)
    with its_databases.fresh_url() as url:
        store = open_store(url)
        booked = JournalOnStore(store)
        worker = booked.worker("acme.c01.u1")
        for _ in range(3):
            await booked.journal.commit(tally(worker, booked.epoch))
        server.kill()
        with structlog.testing.capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(booked.folding.fold)
                while not waited(logs):
                    await trio.lowlevel.checkpoint()
                new = booked.worker("acme.c02.u9")
                for _ in range(AWAY_S // 60):
                    mock_clock.jump(60)
                    booked.clock.now_s += 60
                    await booked.journal.commit(tally(worker, booked.epoch) + tally(new, booked.epoch))
                assert booked.journal.unfolded == 3 + AWAY_S // 60
                since_s = booked.journal.unfolded_since_s
                assert since_s is not None
                assert trio.current_time() - since_s >= AWAY_S
                server.start()
        assert waited(logs) == ["database_waited_for", "database_answers"]
        await booked.folding.fold()
        assert (booked.waiting(), booked.journal.unfolded) == ([], 0)
        counted = {(worker, Verdict.ACCEPTED): 3 + AWAY_S // 60, (new, Verdict.ACCEPTED): AWAY_S // 60}
        assert booked.shares() == counted
        with store.read() as connection:
            assert verify(connection).wrong is None
            minutes = connection.scalars(select(tally_minutes.c.minute).distinct()).all()
        assert len(minutes) == AWAY_S // 60 + 1, "each in the minute in which it was acknowledged"
        store.close()


# Whole pools


class Outage:
    """What happens to the database, and its end."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.server = server
        self._url = url
        self._lock: psycopg.Connection | None = None

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(self._url, autocommit=True)

    def terminate(self) -> None:
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )

    def lock(self) -> None:
        self._lock = self.connect()
        self._lock.execute(f"SELECT pg_advisory_lock({WRITER_LOCK})")

    def unlock(self) -> None:
        assert self._lock is not None
        self._lock.close()


OUTAGES: dict[str, tuple[Callable[[Outage], None], Callable[[Outage], None] | None]] = {
    "killed": (lambda it: it.server.kill(), lambda it: it.server.start()),
    "stopped": (lambda it: it.server.stop(), lambda it: it.server.start()),
    "terminated": (lambda it: it.terminate(), None),
    "locked": (lambda it: it.lock(), lambda it: it.unlock()),
}


@asynccontextmanager
async def a_pool(directory: Path, url: str) -> AsyncIterator[Side]:
    side = Side.__new__(Side)
    side.directory, side.blocks, side.store = directory, [], open_store(url)
    with side.store.write() as connection:
        add_tenant(connection, "acme", TERMS, by="test", now_s=0)
    async with a_node(directory) as node, running(side, node, database_url=url):
        yield side


@pytest.mark.soak
@pytest.mark.parametrize("outage", OUTAGES)
@pytest.mark.parametrize("away_s", [1.0, 30.0])
async def test_a_whole_pool_goes_on_by_itself_and_every_acknowledged_share_is_in_the_books_once(
    server: PostgresServer,
    its_databases: PostgresDatabases,
    tmp_path: Path,
    outage: str,
    away_s: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool_store, "BOUNDS_MS", {"lock_timeout": 500})
    begin, end = OUTAGES[outage]
    with its_databases.fresh_url() as url:
        it = Outage(server, url)
        async with (
            a_pool(tmp_path, url) as side,
            a_fleet(side.port, {"acme": MACHINES}, interval_s=max(0.1, away_s / 30)) as fleet,
        ):
            await fleet.mined(SHARES)
            begin(it)
            if end is not None:
                before = fleet.acknowledged.total()
                await trio.sleep(away_s)
                print(
                    f"{outage} for {away_s:g} s: {fleet.acknowledged.total() - before} acknowledged meanwhile"
                )
                end(it)
            await fleet.mined(SHARES)
            await at_rest(side, fleet)
        acknowledged: Counter[bytes] = fleet.acknowledged
        side.store = open_store(url)
        booked = side.shares(Verdict.ACCEPTED, "acme")
        print(f"{acknowledged.total()} acknowledged, {fleet.lost} unanswered, {booked} booked")
        assert max(acknowledged.values()) == 1
        assert acknowledged.total() <= booked <= acknowledged.total() + fleet.lost
