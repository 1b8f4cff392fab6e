"""The proxy's wiring: routes to upstreams, who mines on them, forwarded shares.

Everything that a pool with upstreams has beside its own work. Without an upstream it costs a look a second.

Must not know: templates, blocks of our own, the command line.
"""

import random
import time
from functools import partial
from typing import Final

import structlog
import trio

from pool.books.journal.credit_book import CreditBook
from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.prices import Prices, Sold
from pool.config import PoolConfig
from pool.fleet.registry import Registry
from pool.hub import Hub, HubAway, Plan
from pool.routing.admission import Admission
from pool.routing.channels import Channels
from pool.routing.events import RouteEvents
from pool.routing.own_work import OwnWork
from pool.routing.placement import Placement
from pool.routing.routes import ORDER, Routes
from pool.upstreams.channel import ChannelServices, UpstreamChannel
from pool.upstreams.past_tips import PastTips
from stratum._engine import Engine
from stratum.miners.switchboard import Switchboard

log = structlog.get_logger()

RELOAD_S: Final = 60.0  # orders that were over are forgotten, and what a command could not tell is seen


class Proxy:
    """Work of upstreams has the price of `own_work`; shares that are forwarded are in `submits`."""

    def __init__(
        self,
        config: PoolConfig,
        hub: Hub,
        registry: Registry,
        *,
        admission: Admission,
        placement: Placement,
        board: Switchboard,
        channels: Channels,
        own_work: OwnWork,
        prices: Prices,
        submits: ForwardedShares,
        credits: CreditBook,
        engine: Engine,
    ) -> None:
        self.events = RouteEvents(hub)
        self.routes = Routes(
            needed=registry.upstreams,
            on_change=placement.reconsider,
            tell=self.events.tell,
            wall_clock=time.time,
        )
        self._config = config
        self._hub = hub
        self._registry = registry
        self._admission = admission
        self._placement = placement
        self._board = board
        self._channels = channels
        self._own_work = own_work
        self._prices = prices
        self._submits = submits
        self._credits = credits
        self._engine = engine
        self._stale = trio.Event()  # the database may say something else than we know

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        await self._credits.load(self._hub.credits)
        services = ChannelServices(
            board=self._board,
            submits=self._submits,
            new_channel=self._channels.new,
            finder=self._registry.finder,
            price=lambda: self._own_work.price,
            epoch=self._prices.epoch,
            on_event=self._on_channel,
            on_change=self._placement.reconsider,
            vardiff=self._config.vardiff,
            tips=PastTips(self._engine.remembers, self._credits.tips),
            miner_bytes=self._config.extranonce2_bytes,
            settings=self._config.upstreams,
            rng=random.Random(),  # noqa: S311 - of pauses between attempts
        )
        self._use(await self._hub.plan())
        async with trio.open_nursery() as nursery:
            await nursery.start(self.routes.run, partial(UpstreamChannel, services))
            nursery.start_soon(self._follow)
            nursery.start_soon(self.events.run)
            nursery.start_soon(self._placement.run)
            task_status.started()

    def changed(self) -> None:
        """Upstreams, orders or tenants' terms are others than before."""
        self._stale.set()
        self._placement.reconsider()

    def misplaced(self) -> dict[int, int]:
        """How many machines of an order mine somewhere else."""
        found: dict[int, int] = {}
        assigned = self._admission.assignments.orders
        for session in self._placement.sessions() if assigned else ():
            order = assigned.get(session.workers[0])
            route = None if order is None else self.routes.get((ORDER, order))
            if order is not None and route is not None and session.channel not in route.mined:
                found[order] = found.get(order, 0) + 1
        return found

    def _on_channel(self, it: UpstreamChannel, event: str, words: str, sessions: int) -> None:
        self.events.tell(it.record.id, it.order_id, event, words, sessions)
        self._placement.reconsider()

    async def _follow(self) -> None:
        while True:
            with trio.move_on_after(RELOAD_S):
                await self._stale.wait()
            self._stale = trio.Event()
            try:
                plan = await self._hub.plan()
            except HubAway as error:  # whether the pool may go on is for its journal to say
                log.error("routes_not_read", reason=str(error))
            else:
                self._use(plan)

    def _use(self, plan: Plan) -> None:
        self._prices.note_sources(
            {it.id: it.name for it in plan.upstreams.values()},
            {it.id: Sold(it.name, it.sat_per_ph_day) for it in plan.orders.values()},
        )
        self.routes.follow(plan)
