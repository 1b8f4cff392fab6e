"""The proxy's wiring: routes to upstreams, who mines on them, orders and their router, forwarded shares.

Everything that a pool with upstreams has beside its own work. Without an upstream it costs a look a second.

Must not know: templates, blocks of our own, the command line.
"""

import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import structlog
import trio

from pool.books.credit_book import CreditBook
from pool.books.forwarded_shares import ForwardedShares
from pool.books.rate_epochs import WorkPrice
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.config import PoolConfig
from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.orders.allocator import OrderRouter
from pool.orders.rows import load_orders, note_event
from pool.routing.placement import Placement
from pool.routing.routes import ORDER, Plan, Routes
from pool.routing.solo import SoloChannels
from pool.routing.status import RouteStatus
from pool.upstreams.channel import ChannelServices, UpstreamChannel
from pool.upstreams.past_tips import FormerTips
from pool.upstreams.rows import load_upstreams
from stratum._engine import Engine
from stratum.miners.channel import Channel, JobIds, WorkSource
from stratum.miners.extranonce import ExtranonceSpace
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()

# Waiting for the database. An upstream that comes and goes makes two a second at the very most.
EVENTS_WAITING_MAX: Final = 1_000
RELOAD_S: Final = 60.0  # orders that were over are forgotten, and what a command could not tell is seen

Event = tuple[int, int, int | None, str, str, int]


class Proxy:
    """`placement` is the pool's admission; `submits` goes to its journal. `price` is that of our own work."""

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        registry: Registry,
        hashrates: HashrateBook,
        *,
        own: Channel,
        engine: Engine,
        job_ids: JobIds,
        price: Callable[[], tuple[WorkPrice, int] | None],
        epoch: Callable[[WorkPrice, int], Awaitable[int]],
        submits: ForwardedShares,
        credits: CreditBook,
        board: Callable[[], Switchboard],
        solo: SoloChannels | None = None,
    ) -> None:
        self._config = config
        self._store = store
        self._registry = registry
        self._own = own
        self._engine = engine
        self._job_ids = job_ids
        self._price = price
        self._epoch = epoch
        self._board = board
        self._submits = submits
        self._credits = credits
        self._numbers = own.number
        self._stale = trio.Event()  # the database may say something else than we know
        self._events, self._told = trio.open_memory_channel[Event](EVENTS_WAITING_MAX)
        self.placement = Placement(registry, own, board, move_interval_s=config.move_interval_s, solo=solo)
        self._routes: Routes | None = None
        self._router = OrderRouter(
            store,
            registry,
            hashrates,
            config.data_dir,
            assignments=self.placement.assignments,
            orders=lambda: () if self._routes is None else self._routes.orders,
            serves=lambda order: self._routes is not None and self._routes.order_serves(order),
            connected=self._connected,
            on_change=self.placement.look_again,
            aim_s=config.vardiff.aim_s,
            wall_clock=time.time,
        )

    @property
    def in_use(self) -> bool:
        """Whether there is anything but our own work."""
        return self._routes is not None and len(self._routes) > 0

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        await self._credits.load(self._store)
        board = self._board()
        routes = Routes(
            ChannelServices(
                board=board,
                submits=self._submits,
                new_channel=self.new_channel,
                price=self._price,
                epoch=self._epoch,
                on_event=self._on_channel,
                finder=self._registry.finder,
                on_change=self.placement.look_again,
                vardiff=self._config.vardiff,
                tips=FormerTips(self._engine.remembers, self._credits.tips),
                miner_bytes=self._config.extranonce2_bytes,
                rng=random.Random(),  # noqa: S311 - of pauses between attempts
            ),
            needed=self._needed,
            on_change=self.placement.look_again,
            tell=self._tell,
            wall_clock=time.time,
        )
        routes.follow(await self._load())
        self._routes = routes
        self.placement.use(routes)
        async with trio.open_nursery() as nursery:
            await nursery.start(routes.run)
            nursery.start_soon(self._follow)
            nursery.start_soon(self._write_events)
            nursery.start_soon(self.placement.run)
            nursery.start_soon(self._router.run)
            task_status.started()

    def changed(self) -> None:
        """Upstreams, orders or tenants' terms are others than before."""
        self._stale.set()
        self.placement.look_again()

    def status(self) -> RouteStatus:
        """As of now."""
        if self._routes is None:
            return RouteStatus()
        misplaced: dict[int, int] = {}
        for session in self.placement.sessions():
            order = self.placement.assignments.get(session.workers[0])
            route = None if order is None else self._routes.get((ORDER, order))
            if order is not None and route is not None and session.channel not in route.mined:
                misplaced[order] = misplaced.get(order, 0) + 1
        return RouteStatus(upstreams=self._routes.status(), orders=self._router.status(misplaced))

    def new_channel(
        self,
        source: WorkSource,
        prefix_bytes: int,
        miner_bytes: int,
        space: ExtranonceSpace | None = None,
    ) -> Channel:
        """A channel of a shape. With the own channel's, it shares its extranonces: sessions move freely."""
        self._numbers += 1
        own = self._own
        if (prefix_bytes, miner_bytes) == (own.extranonces.size, own.extranonce2_size):
            space = own.extranonces
        elif space is None:
            # Not from 0 at every start: an upstream may give us the extranonce1 that it gave us before.
            space = ExtranonceSpace(prefix_bytes, first=random.getrandbits(8 * prefix_bytes))
        channel = Channel(
            self._numbers,
            source,
            engine=self._engine,
            job_ids=self._job_ids,
            extranonces=space,
            extranonce2_size=miner_bytes,
        )
        self._board().distribution.add_channel(channel)
        return channel

    # What the parts ask for

    def _needed(self) -> set[int]:
        return {it.upstream_id for it in self._registry.tenants.values() if it.upstream_id is not None}

    def _connected(self) -> dict[int, bool]:
        now_s = trio.current_time()
        return {
            session.workers[0]: not session.leaving and self.placement.movable(session.workers[0], now_s)
            for session in self.placement.sessions()
        }

    # The database

    async def _follow(self) -> None:
        while True:
            with trio.move_on_after(RELOAD_S):
                await self._stale.wait()
            self._stale = trio.Event()
            assert self._routes is not None
            try:
                plan = await self._load()
            except DATABASE_ERRORS as error:  # whether the pool may go on is for its journal to say
                log.error("routes_not_read", reason=words_of(error))
            else:
                self._routes.follow(plan)

    async def _load(self) -> Plan:
        return await trio.to_thread.run_sync(self._read)

    def _read(self) -> Plan:
        with self._store.read() as connection:
            return Plan(
                {it.id: it for it in load_upstreams(connection)},
                {it.id: it for it in load_orders(connection, int(time.time()))},
            )

    def _on_channel(self, it: UpstreamChannel, event: str, words: str, sessions: int) -> None:
        self._tell(it.record.id, it.order_id, event, words, sessions)
        self.placement.look_again()

    def _tell(self, upstream_id: int, order_id: int | None, event: str, words: str, sessions: int) -> None:
        try:
            self._events.send_nowait((int(time.time()), upstream_id, order_id, event, words, sessions))
        except trio.WouldBlock:
            log.error(
                "route_event_not_noted", reason="too many wait", upstream=upstream_id, route_event=event
            )

    async def _write_events(self) -> None:
        async for event in self._told:
            try:
                await trio.to_thread.run_sync(partial(self._write_event, event))
            except DATABASE_ERRORS as error:
                _, upstream, order, name, words, sessions = event
                log.error(
                    "route_event_not_noted",
                    reason=words_of(error),
                    upstream=upstream,
                    order=order,
                    route_event=name,
                    words=words,
                    sessions=sessions,
                )

    def _write_event(self, event: Event) -> None:
        with self._store.write() as connection:
            note_event(connection, *event)
