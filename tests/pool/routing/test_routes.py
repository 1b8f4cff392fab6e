"""Which upstreams and orders run and when, when their miners fall back and return, and where that ends."""

import random
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from pool.books.journal.forwarded_shares import ForwardedShares
from pool.books.journal.rate_epochs import WorkPrice
from pool.hub import Plan
from pool.orders.rows import OrderRecord
from pool.routing.routes import (
    DRAIN_S,
    EARLY_S,
    FALLBACKS_MAX,
    ORDER,
    RETURN_S,
    UPSTREAM,
    RouteKey,
    Routes,
)
from pool.upstreams.channel import ChannelServices, UpstreamChannel
from pool.upstreams.past_tips import PastTips
from stratum.miners.channel import Channel, Moved, WorkSource
from stratum.miners.extranonce import ExtranonceSpace
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.upstreams import PASSWORD, USER, HonestUpstream, Network
from tests.stages.routing import (
    NORTH,
    OTHER_SHAPE,
    OUTAGE_S,
    SAME_SHAPE,
    SOUTH,
    PlacementDesk,
    is_on,
    order,
    routing,
    upstream,
)
from tests.stages.sockets import LoopbackServer

A_MOMENT = 1.1  # the next look has been taken


def running(desk: PlacementDesk) -> set[RouteKey]:
    return {route.key for route in desk.routes if not route.ending}


# What runs


async def test_an_upstream_runs_while_somebody_needs_it(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(
            upstream(NORTH, "north", fallback_id=SOUTH), upstream(SOUTH, "south"), upstream(3, "west")
        )
        assert running(desk) == set()
        desk.mines_on("acme", NORTH)
        assert running(desk) == {(UPSTREAM, NORTH), (UPSTREAM, SOUTH)}, "the fallback is ready too"
        desk.mines_on("acme", 3)
        assert running(desk) == {(UPSTREAM, 3)}
        desk.mines_on("acme", None)
        assert running(desk) == set()


async def test_each_connection_has_a_channel(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, connections=3))
        desk.mines_on("acme", NORTH)
        await trio.sleep(A_MOMENT)
        its = [desk.north(number) for number in range(3)]
        assert len({it.channel for it in its}) == 3
        assert all(it.running for it in its)


async def test_an_order_runs_from_a_moment_before_its_time_to_a_moment_after(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        now_s = int(desk.wall_s)
        desk.follow(upstream(NORTH), orders=(order(7, from_s=now_s + 3600, until_s=now_s + 7200),))
        await trio.sleep(A_MOMENT)
        assert running(desk) == set()
        desk.wall_s = now_s + 3600 - EARLY_S
        await trio.sleep(A_MOMENT)
        assert running(desk) == {(ORDER, 7)}, "not its upstream: nobody else mines there"
        assert not desk.routes.orders
        desk.wall_s = now_s + 3600
        assert [it.id for it in desk.routes.orders] == [7]
        its = desk.order(7)
        desk.up(its)
        assert desk.routes.order_serves(7)
        desk.wall_s = now_s + 7200
        await trio.sleep(A_MOMENT)
        assert running(desk) == set()
        assert not desk.routes.order_serves(7)
        assert its.running, "shares may be on their way"
        await trio.sleep(DRAIN_S + A_MOMENT)
        assert (its.running, its.closed, len(desk.routes)) == (False, True, 0)


async def test_what_is_over_ends_when_its_sessions_have_gone(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk, rounds=False):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        its = desk.north()
        desk.up(its)
        miner = desk.miner()
        desk.mines_on("acme", None)
        await trio.sleep(10 * DRAIN_S)
        assert its.running
        assert is_on(miner, its)
        assert desk.board.distribution.move(miner.assignment, desk.own) is Moved.JOB
        await trio.sleep(DRAIN_S - A_MOMENT)
        assert its.running
        await trio.sleep(3 * A_MOMENT)
        assert its.closed


@pytest.mark.parametrize("shape", [SAME_SHAPE, OTHER_SHAPE])
@pytest.mark.parametrize("late_s", [1.0, DRAIN_S - 0.5, DRAIN_S + A_MOMENT])
async def test_who_was_let_in_before_an_order_ended_and_subscribes_after_that_ends_nothing(
    shape: tuple[int, int], late_s: float, autojump_clock: MockClock
) -> None:
    """A name, and ten seconds until it says the rest: anybody could end the pool with an order."""
    desk = PlacementDesk(shape)
    async with routing(desk):
        until_s = int(desk.wall_s) + 100
        desk.follow(upstream(NORTH), orders=(order(7, until_s=until_s),))
        its = desk.order(7)
        desk.up(its)
        await desk.assign(**{"acme.c01.u1": 7})
        late = desk.stage.connect("acme.c01.u1")
        late.ask("mining.authorize", "acme.c01.u1", "x")
        desk.wall_s = until_s
        await trio.sleep(late_s)
        late.ask("mining.subscribe", "test/1")
        assert is_on(late, its)
        await trio.sleep(DRAIN_S + 3 * A_MOMENT)
        assert late.channel is desk.own or desk.go_if_sent_away(late)
        await trio.sleep(2 * DRAIN_S)
        assert its.closed


async def test_what_is_needed_again_while_it_ends_starts_anew_afterwards(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        first = desk.north()
        desk.mines_on("acme", None)
        desk.mines_on("acme", NORTH)
        assert desk.miner().channel is desk.own
        await trio.sleep(DRAIN_S + 3 * A_MOMENT)
        assert first.closed
        second = desk.north()
        assert second is not first
        assert second.running


async def test_other_endpoints_are_for_all_that_mine_on_them(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        west = upstream(3, "west")
        desk.follow(upstream(NORTH), west, orders=(order(7),))
        desk.mines_on("acme", NORTH)
        desk.mines_on("zinc", 3)
        desk.follow(upstream(NORTH), west, orders=(order(7),))
        moved = upstream(NORTH, endpoints=(UpstreamEndpoint(host="b.test", port=3333, user="acme"),))
        desk.follow(moved, west, orders=(order(7),))
        assert [len(it.records) for it in (desk.north(), desk.order(7), desk.steer((UPSTREAM, 3)))] == [
            2,
            2,
            1,
        ]
        assert desk.north().records[-1] is moved


# Falling back


async def test_an_outage_is_longer_than_its_bound_or_it_is_none(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        desk.miner()
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S - A_MOMENT)
        desk.up(desk.north())
        await trio.sleep(A_MOMENT)
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S - A_MOMENT)
        assert desk.told == []
        await trio.sleep(2 * A_MOMENT)
        assert desk.told == [(NORTH, None, "fell_back", "fallback pool", 1)]


async def test_one_connection_that_serves_is_enough(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, connections=2))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(1))
        await trio.sleep(3 * OUTAGE_S)
        assert desk.told == []
        assert is_on(desk.miner(), desk.north(1))


async def test_an_upstream_that_never_answers_is_an_outage_from_the_start(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, "north", fallback_id=SOUTH), upstream(SOUTH, "south"))
        desk.mines_on("acme", NORTH)
        desk.up(desk.south())
        await trio.sleep(OUTAGE_S + A_MOMENT)
        assert desk.told == [(NORTH, None, "fell_back", "fallback south", 0)]
        assert is_on(desk.miner(), desk.south())


async def test_miners_return_when_it_has_served_for_a_while(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        await trio.sleep(OUTAGE_S + A_MOMENT)
        desk.up(desk.north())
        await trio.sleep(RETURN_S - A_MOMENT)
        desk.lost(desk.north())
        desk.up(desk.north())
        await trio.sleep(RETURN_S - A_MOMENT)
        assert [event for _, _, event, *_ in desk.told] == ["fell_back"], "one that comes and goes has not"
        await trio.sleep(2 * A_MOMENT)
        assert [event for _, _, event, *_ in desk.told] == ["fell_back", "returned"]


async def test_an_order_falls_back_by_itself(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7),))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        await trio.sleep(OUTAGE_S + A_MOMENT)
        assert desk.told == [(NORTH, 7, "fell_back", "fallback pool", 0)]
        assert not desk.routes.order_serves(7)
        assert is_on(desk.miner(), desk.north())


@pytest.mark.parametrize("length", [1, 2, 3, FALLBACKS_MAX, FALLBACKS_MAX + 3])
async def test_fallbacks_in_a_ring_end_at_the_own_pool(length: int, autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        ring = [upstream(at + 1, f"ring{at}", fallback_id=(at + 1) % length + 1) for at in range(length)]
        desk.follow(*ring)
        desk.mines_on("acme", 1)
        assert len(desk.routes) == length
        await trio.sleep(OUTAGE_S + A_MOMENT)
        assert desk.routes.lead((UPSTREAM, 1), desk.own) is None
        assert desk.miner().channel is desk.own


async def test_a_fallback_that_was_removed_is_the_own_pool(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, fallback_id=SOUTH))
        desk.mines_on("acme", NORTH)
        await trio.sleep(OUTAGE_S + A_MOMENT)
        assert desk.miner().channel is desk.own
        assert desk.routes.lead(None, desk.own) is None


async def test_a_channel_has_the_name_of_its_route(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7),))
        desk.mines_on("acme", NORTH)
        assert desk.routes.key_of(desk.north().channel) == (UPSTREAM, NORTH)
        assert desk.routes.key_of(desk.order(7).channel) == (ORDER, 7)
        assert desk.routes.key_of(desk.own) is None


# With connections, in the place of steered upstreams


class Proxied:
    """Routes over the real upstream channels, to pools in memory."""

    def __init__(self, nursery: trio.Nursery, pools: dict[str, HonestUpstream]) -> None:
        self.server = LoopbackServer()
        self.told: list[str] = []
        self.wall_s = 1_000_000.0
        self.numbers = 1
        self.needed: set[int] = set()
        price = WorkPrice(nbits=0x1D00FFFF, subsidy_sat=312_500_000)

        services = ChannelServices(
            board=self.server.board,
            submits=ForwardedShares(),
            new_channel=self.new_channel,
            price=lambda: (price, 1),
            epoch=lambda price, height: 5,
            on_change=lambda: None,
            finder=lambda number: None,
            on_event=lambda it, event, words, sessions: self.told.append(event),
            vardiff=self.server.services.vardiff,
            tips=PastTips(self.server.engine.remembers),
            miner_bytes=8,
            rng=random.Random(1),
            connect=Network(nursery, pools).connect,
        )
        self.open_channel = partial(UpstreamChannel, services)
        self.routes = Routes(
            needed=lambda: self.needed,
            on_change=lambda: None,
            tell=lambda *event: self.told.append(event[2]),
            wall_clock=lambda: self.wall_s,
        )

    def new_channel(
        self, source: WorkSource, prefix_bytes: int, miner_bytes: int, space: ExtranonceSpace | None
    ) -> Channel:
        self.numbers += 1
        return self.server.add_channel(self.numbers, prefix_bytes, miner_bytes, space=space, source=source)


async def test_an_order_that_ends_while_its_upstream_serves_takes_nobody_with_it(
    autojump_clock: MockClock,
) -> None:
    """Its connection is closed before its channel."""
    autojump_clock.autojump_threshold = 0.02  # a thread reads CA files
    pool = HonestUpstream(extranonce2_bytes=12)
    async with trio.open_nursery() as nursery:
        proxied = Proxied(nursery, {"a.pool.example": pool})
        until_s = int(proxied.wall_s) + 100
        await nursery.start(proxied.routes.run, proxied.open_channel)
        place = UpstreamEndpoint(host="a.pool.example", port=3333, user=USER, password=PASSWORD)
        sold: OrderRecord = order(7, until_s=until_s)
        proxied.routes.follow(Plan({NORTH: upstream(NORTH, endpoints=(place,))}, {7: sold}))
        with trio.fail_after(60):
            while not proxied.routes.order_serves(7):  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert len(proxied.server.board.distribution.channels) == 2
        proxied.wall_s = until_s
        proxied.routes.mind()
        await trio.sleep(DRAIN_S + 5.0)
        assert len(proxied.routes) == 0
        assert [it.number for it in proxied.server.board.distribution.channels] == [1]
        assert (proxied.told, pool.open) == (["served", "lost"], 0)
        nursery.cancel_scope.cancel()
