"""The proxy while its database says no: routes go on as they are, and what is not noted is logged."""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import trio
from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError

from payouts.schemas.orders import channel_events
from pool.books.journal.credit_book import CreditBook
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.store import Store, StoreError
from pool.chain.nodes import NodeConfig
from pool.fleet.registry import Registry
from pool.fleet.rows import load
from pool.keeping import Keeping
from pool.routing import proxy
from pool.routing.admission import Admission
from pool.routing.channels import Channels
from pool.routing.events import EVENTS_WAITING_MAX
from pool.routing.placement import Placement
from pool.routing.proxy import Proxy
from pool.routing.routes import UPSTREAM
from pool.upstreams.rows import remove_upstream
from tests.stages.prices import prices_of
from tests.stages.sockets import LoopbackServer as LoopbackServer
from tests.stages.two_pools import Side, a_side, add_route, mine_on, settings
from tests.stages.waiting import until

NORTH = 1
ERRORS = [
    OperationalError("SELECT ...", {}, Exception("database is locked")),
    StoreError("SQLite does not take synchronous = 2 here"),
]


class StoreThatIsLocked:
    """A store that can neither be read nor written while `error` is set."""

    def __init__(self, store: Store) -> None:
        self.error: Exception | None = None
        self.refused = 0
        self._store = store

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._refuse()
        with self._store.read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._refuse()
        with self._store.write() as connection:
            yield connection

    def _refuse(self) -> None:
        if self.error is not None:
            self.refused += 1
            raise self.error


class Wired:
    """A proxy with the tenant acme, and with an upstream that nobody mines on."""

    def __init__(self, directory: Path) -> None:
        self.side = a_side(directory / "proxy", "acme")
        add_route(self.side, "north", 9)
        self.store = StoreThatIsLocked(self.side.store)
        server = LoopbackServer()
        with self.side.store.read() as connection:
            self.registry = registry = Registry(load(connection))
            credits = CreditBook(server.engine, CreditRows(connection).tips)
            prices = prices_of(connection, registry)
        node = NodeConfig(name="none", url="http://127.0.0.1:9", cookie_file=directory / "cookie")
        store: Any = self.store
        admission = Admission(registry, server.channel)
        placement = Placement(admission, server.board, registry, move_interval_s=0.0)
        there_is_no_work: Any = SimpleNamespace(price=None)
        config = settings(self.side.directory, node)
        self.proxy = Proxy(
            config,
            Keeping(config, store, there_is_no_work, registry.renumbered),
            registry,
            admission=admission,
            placement=placement,
            board=server.board,
            channels=Channels(
                server.channel,
                engine=server.engine,
                job_ids=server.job_ids,
                distribution=server.board.distribution,
            ),
            own_work=there_is_no_work,
            prices=prices,
            submits=ForwardedShares(),
            credits=credits,
            engine=server.engine,
        )
        admission.use(self.proxy.routes)

    def happens(self, event: str) -> None:
        """To the channel of north."""
        self.proxy.events.tell(NORTH, None, event, "a.test:3333", 7)

    @property
    def known(self) -> set[str]:
        """The upstreams that the proxy knows of."""
        return {it.name for it in self.proxy.routes.upstreams}

    def noted(self) -> list[str]:
        with self.side.store.read() as connection:
            return list(connection.scalars(select(channel_events.c.event).order_by(channel_events.c.id)))


@asynccontextmanager
async def wired(directory: Path) -> AsyncIterator[Wired]:
    desk = Wired(directory)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.proxy.run)
        yield desk
        nursery.cancel_scope.cancel()
    desk.side.store.close()


def remove_north(side: Side) -> None:
    with side.store.write() as connection:
        remove_upstream(connection, "north", now_s=int(time.time()))


@pytest.mark.parametrize("error", ERRORS)
async def test_routes_that_cannot_be_read_stay_as_they_are_until_they_can(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy, "RELOAD_S", 0.05)
    async with wired(tmp_path) as desk:
        assert desk.known == {"north"}
        with structlog.testing.capture_logs() as logs:
            desk.store.error = error
            desk.proxy.changed()
            await until(lambda: desk.store.refused > 1)
        assert logs[0] == {
            "event": "routes_not_read",
            "log_level": "error",
            "reason": str(getattr(error, "orig", error)),
        }
        assert desk.known == {"north"}
        remove_north(desk.side)
        desk.store.error = None
        await until(lambda: desk.known == set())


@pytest.mark.parametrize("error", ERRORS)
async def test_an_event_that_cannot_be_noted_is_in_the_log_and_the_next_one_is_noted(
    error: Exception, tmp_path: Path
) -> None:
    async with wired(tmp_path) as desk:
        with structlog.testing.capture_logs() as logs:
            desk.store.error = error
            desk.happens("served")
            await until(lambda: bool(logs))
        assert logs == [
            {
                "event": "route_event_not_noted",
                "log_level": "error",
                "reason": str(getattr(error, "orig", error)),
                "upstream": NORTH,
                "order": None,
                "route_event": "served",
                "words": "a.test:3333",
                "sessions": 7,
            }
        ]
        desk.store.error = None
        desk.happens("lost")
        await until(lambda: desk.noted() == ["lost"])


async def test_events_that_wait_are_bounded(tmp_path: Path) -> None:
    desk = Wired(tmp_path)
    with structlog.testing.capture_logs() as logs:
        for _ in range(EVENTS_WAITING_MAX + 2):
            desk.happens("served")
    assert [(it["event"], it["reason"]) for it in logs] == [("route_event_not_noted", "too many wait")] * 2
    desk.side.store.close()


async def test_an_upstream_runs_from_the_start_where_a_tenant_mines_on_it(tmp_path: Path) -> None:
    """And costs nothing where nobody does."""
    async with wired(tmp_path) as desk:
        assert (bool(len(desk.proxy.routes)), desk.proxy.routes.status()) == (False, ())
        mine_on(desk.side, "acme", "north")
        with desk.side.store.read() as connection:
            for tenant in load(connection).tenants:
                desk.registry.put_tenant(tenant)
        desk.proxy.changed()
        await until(lambda: bool(len(desk.proxy.routes)))
        (status,) = desk.proxy.routes.status()
        assert (status.upstream_id, status.order_id, status.serving) == (NORTH, None, None)
        assert desk.proxy.routes.get((UPSTREAM, NORTH)) is not None
