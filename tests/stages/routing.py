"""Placement and routes as in production, on sessions without sockets, over upstreams that the test steers.

What an upstream says and how it is spoken to is tested elsewhere: here it is up or lost when the test says
so.
"""

from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from typing import Any, cast

import msgspec
import trio

from payouts.rates import Scheme
from pool.fleet.registry import Registry, Snapshot, TenantRecord, parse_worker_name
from pool.hub import Plan
from pool.orders.mining import Assigned, OrderMachines
from pool.orders.rows import OrderRecord
from pool.routing.admission import Admission
from pool.routing.placement import Placement
from pool.routing.routes import ORDER, UPSTREAM, RouteKey, Routes
from pool.routing.solo import SoloChannels
from pool.upstreams.channel import UpstreamChannel
from pool.upstreams.rows import UpstreamRecord
from stratum.miners.channel import Channel
from stratum.miners.switchboard import Switchboard
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.stages.sessions import Miner, SessionStage, make_work, words

NORTH, SOUTH = 1, 2
MOVE_INTERVAL_S = 600.0
OUTAGE_S = 30
SAME_SHAPE = (4, 8)
OTHER_SHAPE = (2, 4)  # no session comes there with the extranonces that it has


def upstream(number: int, name: str = "north", **changes: Any) -> UpstreamRecord:
    values: dict[str, Any] = {
        "id": number,
        "name": name,
        "fallback_id": None,
        "outage_s": OUTAGE_S,
        "connections": 1,
        "suggest_difficulty": None,
        "endpoints": (UpstreamEndpoint(host=f"{name}.test", port=3333, user="acme"),),
        "created_at_s": 0,
        "created_by": "test",
    }
    return UpstreamRecord(**values | changes)


def order(number: int, upstream_id: int = NORTH, *, from_s: int = 0, until_s: int = 1 << 40) -> OrderRecord:
    return OrderRecord(
        id=number,
        name=f"order{number}",
        upstream_id=upstream_id,
        hashrate_hps=10**15,
        tolerance_bps=200,
        from_s=from_s,
        until_s=until_s,
        priority=1,
        sat_per_ph_day=1,
        suppliers=((1, 0),),
    )


class UpstreamThatTheTestSteers:
    """In the place of pool.upstreams.channel.UpstreamChannel."""

    def __init__(self, desk: "PlacementDesk", record: UpstreamRecord, order_id: int | None) -> None:
        self.record = record
        self.order_id = order_id
        self.channel = desk.new_channel()
        self.channel.paused = True
        self.serving = False
        self.since_s = self.out_since_s = trio.current_time()
        self.running = self.closed = False
        self.records = [record]

    @property
    def ready(self) -> bool:
        return self.serving

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self.channel,)

    async def run(self) -> None:
        self.running = True
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):  # as one that waits for answers
                await trio.sleep(0.5)
            assert not self.closed, "its channel is gone under its hands"
            self.running = False

    def follow(self, record: UpstreamRecord) -> None:
        if record != self.records[-1]:
            self.records.append(record)

    def forget_the_old(self) -> None:
        pass

    def close(self) -> None:
        assert not self.channel.sessions
        self.closed = True

    def up(self) -> None:
        self.serving, self.since_s = True, trio.current_time()
        self.channel.paused = False

    def lost(self) -> None:
        self.serving, self.since_s = False, trio.current_time()
        self.out_since_s = self.since_s
        self.channel.paused = True


class SoloChannelThatTheTestMade:
    """In the place of pool.routing.solo.SoloChannels. `tenant` may be changed, as terms are."""

    def __init__(self, tenant: str, channel: Channel) -> None:
        self.tenant: str | None = tenant
        self.channels = (channel,)

    def channel_of(self, tenant: TenantRecord) -> Channel | None:
        return self.channels[0] if tenant.name == self.tenant else None

    def refusal(self, tenant: TenantRecord) -> str | None:
        return None


class BoardOfAStage:
    """What placement needs of a switchboard."""

    def __init__(self, stage: SessionStage) -> None:
        self.distribution = stage.distribution
        self.dropped: list[tuple[str, str]] = []
        self.closed: str | None = None
        self._stage = stage

    def drop_workers(self, workers: Container[int], reason: str) -> None:
        for miner in self._stage.miners:
            if miner.open and any(worker in workers for worker in miner.assignment.workers):
                self.dropped.append((miner.worker, reason))
                miner.leave()

    def close_door(self, reason: str) -> None:
        self.closed = reason
        for miner in self._stage.miners:
            if miner.open:
                miner.leave()

    def open_door(self) -> None:
        self.closed = None


class PlacementDesk:
    """Tenants acme and zinc, who mine for the pool unless `mines_on` says otherwise, routes, and miners."""

    def __init__(self, shape: tuple[int, int] = SAME_SHAPE) -> None:
        self.stage = SessionStage()
        self.own = self.stage.channel
        self.board = BoardOfAStage(self.stage)
        self.shape = shape
        self.told: list[tuple[int, int | None, str, str, int]] = []
        self.wall_s = 1_000_000.0
        self.plan = Plan({}, {})
        self.solo: SoloChannels | None = None
        tenants = tuple(
            TenantRecord(id=number, name=name, active=True, scheme=Scheme.PPS, fee_bps=0)
            for number, name in ((1, "acme"), (2, "zinc"))
        )
        self.registry = Registry(Snapshot(tenants, (), ()))
        board = cast(Switchboard, self.board)
        self.admission = Admission(self.registry, self.own)
        self.placement = Placement(self.admission, board, self.registry, move_interval_s=MOVE_INTERVAL_S)
        self.stage.services = msgspec.structs.replace(
            self.stage.services, admission=self.admission, placement_guess=self.admission
        )
        self.routes = Routes(
            needed=self.registry.upstreams,
            on_change=self.placement.reconsider,
            tell=lambda *event: self.told.append(event),
            wall_clock=lambda: self.wall_s,
        )

    def open_channel(self, record: UpstreamRecord, order_id: int | None) -> UpstreamChannel:
        return cast(UpstreamChannel, UpstreamThatTheTestSteers(self, record, order_id))

    def new_channel(self) -> Channel:
        """As the upstreams of this stage share out their extranonces."""
        if self.shape == SAME_SHAPE:
            return self.stage.add_channel(like=self.own)
        return self.stage.add_channel(*self.shape)

    def make_solo(self, tenant: str) -> Channel:
        """A channel of its own with work, where blocks pay the tenant."""
        channel = self.stage.add_channel(like=self.own)
        self.stage.publish(make_work(channel.number * 1000), channel, rate=channel.number)
        self.solo = cast(SoloChannels, SoloChannelThatTheTestMade(tenant, channel))
        self.admission.use(self.routes, self.solo)
        return channel

    def divides(self, tenant: str) -> None:
        """Its terms: blocks that its machines find are divided over its work."""
        terms = msgspec.structs.replace(self.registry.tenants[tenant], scheme=Scheme.PPLNS1)
        self.registry.put_tenant(terms)

    def mines_on(self, tenant: str, number: int | None) -> None:
        """The terms of a tenant."""
        self.registry.put_tenant(msgspec.structs.replace(self.registry.tenants[tenant], upstream_id=number))
        self.routes.follow(self.plan)
        self.placement.reconsider()

    def follow(self, *upstreams: UpstreamRecord, orders: tuple[OrderRecord, ...] = ()) -> None:
        """What the database says."""
        self.plan = Plan({it.id: it for it in upstreams}, {it.id: it for it in orders})
        self.routes.follow(self.plan)

    async def assign(self, **orders: int) -> None:
        """Machines to orders, by their names: all of them."""
        names = ((order, *parse_worker_name(name)) for name, order in orders.items())
        machines = tuple(
            OrderMachines(order=order, tenant=tenant, container=container, units=(unit,))
            for order, tenant, container, unit in names
        )
        version = self.admission.assignments.version + 1
        await self.admission.assignments.tell(Assigned(version=version, machines=machines))
        self.placement.reconsider()

    def steer(self, key: RouteKey, connection: int = 0) -> UpstreamThatTheTestSteers:
        route = self.routes.get(key)
        assert route is not None
        return cast(UpstreamThatTheTestSteers, route.channels[connection])

    def north(self, connection: int = 0) -> UpstreamThatTheTestSteers:
        return self.steer((UPSTREAM, NORTH), connection)

    def south(self) -> UpstreamThatTheTestSteers:
        return self.steer((UPSTREAM, SOUTH))

    def order(self, number: int) -> UpstreamThatTheTestSteers:
        return self.steer((ORDER, number))

    def up(self, *upstreams: UpstreamThatTheTestSteers) -> None:
        """They serve, and there is work."""
        for it in upstreams:
            it.up()
            self.stage.publish(make_work(it.channel.number * 1000), it.channel, rate=it.channel.number)
        self.placement.reconsider()

    def lost(self, *upstreams: UpstreamThatTheTestSteers) -> None:
        for it in upstreams:
            it.lost()
        self.placement.reconsider()

    def miner(
        self, worker: str = "acme.c01.u1", *, subscribed: bool = False, address: str = "10.0.0.1"
    ) -> Miner:
        """One that connects; sent away it is gone."""
        miner = self.stage.connect(worker)
        miner.address = address
        if subscribed:
            miner.ask("mining.configure", ["subscribe-extranonce"], {})
        miner.ask("mining.subscribe", "test/1")
        miner.ask("mining.authorize", worker, "x")
        self.go_if_sent_away(miner)
        return miner

    def go_if_sent_away(self, miner: Miner) -> bool:
        if miner.assignment.leaving and miner.open:
            miner.leave()
        return not miner.open

    def jobs(self) -> None:
        """Everybody who waits has a job."""
        self.stage.serve_waiting()

    def said(self, miner: Miner) -> str:
        return words(miner.hear())


def is_on(miner: Miner, upstream: UpstreamThatTheTestSteers) -> bool:
    return miner.channel is upstream.channel


@asynccontextmanager
async def routing(desk: PlacementDesk, *, rounds: bool = True) -> AsyncIterator[None]:
    """Routes run, and rounds of placement where the test wants them."""
    desk.admission.use(desk.routes, desk.solo)
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.routes.run, desk.open_channel)
        if rounds:
            nursery.start_soon(desk.placement.run)
        yield
        nursery.cancel_scope.cancel()
