"""Who mines what: the order before the tenant before the pool, moves and their bounds, and who is sent where.

Routes are the real ones, time is virtual, upstreams are up or lost when the test says so.
"""

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import pool.routing.placement
from pool.routing.admission import HINT_S
from pool.routing.placement import ON_THEIR_WAY_S
from pool.routing.routes import RETURN_S
from stratum.miners.channel import Moved
from stratum.miners.contracts import Refusal
from stratum.miners.mining_session import State
from tests.fakes.owners import ConnectionFrom
from tests.stages.routing import (
    MOVE_INTERVAL_S,
    NORTH,
    OTHER_SHAPE,
    OUTAGE_S,
    SOUTH,
    PlacementDesk,
    is_on,
    order,
    routing,
    upstream,
)
from tests.stages.sessions import Miner, make_work

ROUND = 1.1  # the next round of placement is over
NO_NODE = "the pool has no node"


async def rounds(count: int = 1) -> None:
    await trio.sleep(count * ROUND)


# Where a worker belongs


async def test_the_order_goes_before_the_tenant_and_the_tenant_before_the_pool(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7),))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(), desk.order(7))
        sold, proxied, own = (desk.miner(name) for name in ("acme.c01.u1", "acme.c01.u2", "zinc.c01.u1"))
        assert is_on(sold, desk.north())
        await desk.assign(**{"acme.c01.u1": 7})
        await rounds()
        assert is_on(sold, desk.order(7))
        assert is_on(proxied, desk.north())
        assert own.channel is desk.own
        assert desk.placement.moved == {Moved.JOB: 1}
        late = desk.miner("acme.c01.u1")
        assert is_on(late, desk.order(7)), "at once, where it is known already"


async def test_a_solo_tenants_machines_are_home_whenever_no_order_has_them(autojump_clock: MockClock) -> None:
    """Home is the tenant's own channel, also when an order's upstream is gone and has no fallback."""
    desk = PlacementDesk()
    home = desk.make_solo("acme")
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7),))
        desk.up(desk.order(7))
        miner, other = desk.miner("acme.c01.u1"), desk.miner("zinc.c01.u1")
        assert (miner.channel, other.channel) == (home, desk.own)
        await desk.assign(**{"acme.c01.u1": 7})
        await rounds()
        assert is_on(miner, desk.order(7))
        desk.lost(desk.order(7))
        await trio.sleep(OUTAGE_S + 2 * ROUND)
        assert miner.channel is home
        assert desk.miner("acme.c01.u1").channel is home
        assert desk.placement.moved == {Moved.JOB: 2}


async def test_moves_between_our_own_channels_wait_for_nothing(autojump_clock: MockClock) -> None:
    """Who is no solo tenant any more is so with the next job, and back, however lately its machines moved."""
    desk = PlacementDesk()
    home = desk.make_solo("acme")
    async with routing(desk):
        miner = desk.miner("acme.c01.u1")
        solo: Any = desk.admission.solo
        for tenant, channel in ((None, desk.own), ("acme", home), (None, desk.own)):
            solo.tenant = tenant
            desk.placement.reconsider()
            await rounds()
            assert miner.channel is channel
        desk.admission.own_closed = NO_NODE
        solo.tenant = "acme"
        desk.placement.reconsider()
        await rounds()
        assert desk.board.dropped == [("acme.c01.u1", NO_NODE)]
        assert desk.miner("acme.c01.u1").session.state is not State.MINING


async def test_a_connection_is_one_tenants(autojump_clock: MockClock) -> None:
    """Else the pool would credit one tenant for work that another one's upstream pays for."""
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = desk.miner("acme.c01.u1")
        (welcome,) = miner.ask("mining.authorize", "acme.c01.u2", "x")
        (refused,) = miner.ask("mining.authorize", "zinc.c01.u1", "x")
        assert welcome["result"] is True
        assert refused["error"] == [24, "Workers of one connection belong to one tenant", None]
        assert [desk.registry.name_of(it) for it in miner.assignment.workers] == [
            "acme.c01.u1",
            "acme.c01.u2",
        ]


async def test_who_comes_back_for_extranonces_is_the_tenant_that_had_them(
    autojump_clock: MockClock,
) -> None:
    """Else who has two names, one paid by PPS and one alone in a scheme that divides blocks, sends his
    shares as the first, and comes back as the other for each that is a block: it pays the other's window once
    more, and he has all his blocks beside PPS. Of a tenth of a percent of Bitcoin that is 0.45 BTC a day."""
    desk = PlacementDesk()
    async with routing(desk):
        for first in ("mining.subscribe", "mining.authorize"):
            miner = desk.miner("acme.c01.u1")
            found, extranonce1 = miner.share(), miner.extranonce1
            miner.leave()
            again = desk.stage.connect("zinc.c01.u1")
            asked = {
                "mining.subscribe": ("test/1", extranonce1.hex()),
                "mining.authorize": ("zinc.c01.u1", "x"),
            }
            heard = [again.ask(it, *asked[it]) for it in sorted(asked, key=lambda it: it != first)]
            if first == "mining.subscribe":
                assert heard[1][0]["error"] == [24, "Workers of one connection belong to one tenant", None]
            assert (again.extranonce1 == extranonce1) is (first == "mining.subscribe")
            assert again.submit("zinc.c01.u1", *found[1:])["result"] is not True
            again.leave()
        honest = desk.stage.connect("zinc.c01.u1")  # one that was given another name: at its second try
        honest.ask("mining.subscribe", "test/1", extranonce1.hex())
        honest.ask("mining.authorize", "zinc.c01.u1", "x")
        honest.leave()
        honest = desk.stage.connect("zinc.c01.u1")
        honest.ask("mining.subscribe", "test/1", extranonce1.hex())
        assert honest.extranonce1 != extranonce1
        assert honest.ask("mining.authorize", "zinc.c01.u1", "x")[0]["result"] is True


@pytest.mark.parametrize("way", ["says it last", "left and came back", "foresees its extranonces"])
async def test_who_has_hashes_by_then_does_not_choose_by_them_who_he_is(
    autojump_clock: MockClock, way: str
) -> None:
    """All have the same jobs but for their extranonces, so he hashes what another connection of his hears,
    with extranonces that he has without a name or that are next, and then says the name that PPS pays; or
    the other one, alone in a scheme that divides blocks, where a hash is a block. Of a tenth of a percent of
    Bitcoin that is 0.45 BTC a day beside PPS."""
    taken = {}
    for tenant in ("acme", "zinc"):
        desk = PlacementDesk()
        desk.divides("zinc")
        name, subscribe = f"{tenant}.c01.u1", ("mining.subscribe", "test/1")
        async with routing(desk):
            listener = desk.miner("acme.c01.u9")
            thief = desk.stage.connect(name)
            if way == "foresees its extranonces":
                extranonce1 = (int.from_bytes(listener.extranonce1, "big") + 1).to_bytes(4, "big")
            else:
                thief.ask(*subscribe)
                extranonce1 = thief.extranonce1
            found = listener.share(extranonce1=extranonce1)
            if way == "left and came back":
                thief.leave()
                thief = desk.stage.connect(name)
                thief.ask(*subscribe, extranonce1.hex())
            thief.ask("mining.authorize", name, "x")
            if way == "foresees its extranonces":
                thief.ask(*subscribe)
            assert thief.extranonce1 == extranonce1
            taken[tenant] = thief.submit(name, *found[1:])["result"]
            desk.stage.serve_waiting()
            thief.hear()
            assert thief.mine(extranonce2=2)["result"] is True, "work that was made anew is his"
            before = thief.share(extranonce2=3)
            thief.leave()
            again = desk.stage.connect(name)
            again.ask(*subscribe, extranonce1.hex())
            again.ask("mining.authorize", name, "x")
            assert again.submit(name, *before[1:])["result"] is True, "who resumes loses nothing"
    assert taken == {"acme": True, "zinc": None}


async def test_whose_blocks_are_divided_comes_back_from_an_order_to_work_that_was_made_anew(
    autojump_clock: MockClock,
) -> None:
    """With extranonces that he may have foreseen, while the order's work is his until then."""
    desk = PlacementDesk(OTHER_SHAPE)
    desk.divides("zinc")
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("zinc", NORTH)
        desk.up(desk.north())
        listener = desk.miner("acme.c01.u9")
        miner = desk.miner("zinc.c01.u1", subscribed=True)
        assert is_on(miner, desk.north())
        desk.stage.serve_waiting()
        miner.hear()
        assert miner.mine()["result"] is True
        desk.stage.publish(make_work(900))
        listener.hear()
        desk.mines_on("zinc", None)
        await rounds()
        foreseen = miner.assignment.extranonce1
        assert miner.channel is desk.own
        assert foreseen != miner.extranonce1
        assert miner.mine()["result"] is True
        found = listener.share(extranonce1=foreseen)
        miner.assignment.want_difficulty(desk.stage.services.start_difficulty_log2)  # that all begin with
        desk.stage.distribution.send_current(desk.own, [miner.assignment])
        desk.stage.serve_waiting()
        miner.hear()
        assert miner.extranonce1 == foreseen
        assert miner.submit("zinc.c01.u1", *found[1:])["result"] is None
        assert miner.mine()["result"] is True


async def test_an_order_that_does_not_run_leaves_its_machines_to_their_tenant(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        await desk.assign(**{"acme.c01.u1": 7})
        miner = desk.miner()
        assert miner.channel is desk.own
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        await rounds()
        assert is_on(miner, desk.north())


async def test_other_terms_move_who_mines_already(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        miner = desk.miner()
        desk.mines_on("acme", NORTH)
        await rounds(2)
        assert miner.channel is desk.own, "there is nothing to mine there yet"
        assert miner.mine()["result"] is True
        desk.up(desk.north())
        await rounds()
        north = desk.north()
        assert is_on(miner, north)
        desk.jobs()
        assert desk.said(miner) == "set_difficulty notify"
        desk.mines_on("acme", None)
        await rounds()
        assert miner.channel is desk.own, "although it has moved a moment ago"


async def test_nobody_is_paid_twice_after_a_change_of_terms(autojump_clock: MockClock) -> None:
    """What an upstream pays the tenant is not the pool's to pay: one round is all that is done there yet,
    of ten minutes of the work of a site."""
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, fallback_id=SOUTH), upstream(SOUTH, "south"))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(), desk.south())
        miner = desk.miner()
        for number in (SOUTH, NORTH, None):
            before = miner.channel
            desk.mines_on("acme", number)
            desk.stage.tallies()
            seconds_there = 0
            for _ in range(int(MOVE_INTERVAL_S)):
                await trio.sleep(1)
                desk.jobs()
                miner.hear()
                seconds_there += miner.channel is before
            assert seconds_there <= (MOVE_INTERVAL_S if number == NORTH else 1), (
                "south may stand in for north"
            )
        assert miner.channel is desk.own


async def test_the_interval_holds_on_the_fallback_of_an_order(autojump_clock: MockClock) -> None:
    """The terms do not lead there, but the order does: its upstream comes and goes, the machine does not."""
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, fallback_id=SOUTH), upstream(SOUTH, "south"), orders=(order(7),))
        await desk.assign(**{"acme.c01.u1": 7})
        desk.up(desk.order(7), desk.south())
        miner = desk.miner()
        assert is_on(miner, desk.order(7))
        desk.lost(desk.order(7))
        await trio.sleep(OUTAGE_S + 2 * ROUND)
        assert is_on(miner, desk.south())
        desk.up(desk.order(7))
        await trio.sleep(MOVE_INTERVAL_S / 2)
        assert is_on(miner, desk.south()), "it has moved a moment ago"
        await desk.assign()
        await rounds()
        assert miner.channel is desk.own


async def test_a_machine_is_on_one_of_several_connections_and_stays_there(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, connections=2))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(0), desk.north(1))
        miners = [desk.miner(f"acme.c01.u{number}") for number in range(10)]
        where = [miner.channel for miner in miners]
        assert where.count(desk.north(0).channel) == where.count(desk.north(1).channel) == 5
        desk.placement.reconsider()
        await rounds()
        assert [miner.channel for miner in miners] == where


# Fallback and return


async def test_fallback_along_the_chain_and_return(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH, "north", fallback_id=SOUTH), upstream(SOUTH, "south"))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(), desk.south())
        miner = desk.miner()
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S - 2 * ROUND)
        assert is_on(miner, desk.north()), "within the bound it waits"
        await rounds(4)
        assert is_on(miner, desk.south()), "whenever it moved last: there is no work where it is"
        desk.lost(desk.south())
        await trio.sleep(OUTAGE_S)
        await rounds(2)
        assert miner.channel is desk.own
        desk.up(desk.north())
        await trio.sleep(RETURN_S + MOVE_INTERVAL_S)
        await rounds(8)
        assert is_on(miner, desk.north())
        events = [(number, event) for number, _, event, *_ in desk.told]
        assert events == [(NORTH, "fell_back"), (SOUTH, "fell_back"), (NORTH, "returned")]


async def test_the_interval_holds_where_there_is_work(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = desk.miner()
        moves = []
        for _ in range(40):  # it comes and goes, a minute each
            desk.lost(desk.north())
            await trio.sleep(60)
            moves.append(desk.placement.moved.total())
            desk.up(desk.north())
            await trio.sleep(60)
        returns = sum(later > earlier for earlier, later in pairwise(moves))
        assert miner.open
        assert returns <= 40 * 120 / MOVE_INTERVAL_S + 1
        assert desk.placement.moved[Moved.JOB] <= 2 * returns + 2


# Bounds


async def test_the_interval_does_not_hold_at_an_orders_end(autojump_clock: MockClock) -> None:
    """What is delivered after it was sold to nobody, and would be in the buyer's bill."""
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(5, until_s=1_000_100),))
        blue = desk.order(5)
        desk.up(blue)
        miner = desk.miner()
        await desk.assign(**{"acme.c01.u1": 5})
        await rounds(2)
        assert is_on(miner, blue)
        desk.wall_s = 1_000_100.0
        await rounds(3)
        assert miner.channel is desk.own


async def test_moves_of_a_round_are_bounded_and_the_next_round_goes_on(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.routing.placement, "MOVES_PER_ROUND_MAX", 10)
    desk = PlacementDesk()
    async with routing(desk, rounds=False):
        desk.follow(upstream(NORTH))
        miners = [desk.miner(f"acme.c01.u{number}") for number in range(25)]
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.placement.run)
            moved = []
            for _ in range(4):
                await trio.sleep(1.0)
                await trio.testing.wait_all_tasks_blocked()
                moved.append(desk.placement.moved.total())
            nursery.cancel_scope.cancel()
        assert moved == [10, 20, 25, 25]
        assert all(is_on(miner, desk.north()) for miner in miners)


@pytest.mark.parametrize("subscribed", [False, True])
async def test_who_finds_no_room_waits_and_is_moved_when_there_is(
    subscribed: bool, autojump_clock: MockClock
) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        miner = desk.miner(subscribed=subscribed)
        desk.mines_on("acme", NORTH)
        desk.north().channel.extranonces.capacity = 0
        desk.up(desk.north())
        await rounds(20)
        assert miner.channel is desk.own
        assert desk.placement.moved.total() == 0, "what did not happen is not counted"
        desk.north().channel.extranonces.capacity = 10
        await rounds(6)
        if subscribed:
            assert is_on(miner, desk.north())
        else:
            assert miner.assignment.leaving


async def test_who_finds_no_room_after_a_change_of_terms_waits_on_own_work(
    autojump_clock: MockClock,
) -> None:
    """Where it was pays the tenant by now, and so does the pool: for as long as there was no room."""
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH), upstream(SOUTH, "south"))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = desk.miner(subscribed=True)
        assert is_on(miner, desk.north())
        desk.mines_on("acme", SOUTH)
        desk.south().channel.extranonces.capacity = 0
        desk.up(desk.south())
        await rounds()
        assert miner.channel is desk.own
        desk.jobs()
        desk.south().channel.extranonces.capacity = 10
        await rounds(int(MOVE_INTERVAL_S) + 6)
        assert is_on(miner, desk.south())


async def test_who_finds_no_room_after_an_order_waits_on_own_work(autojump_clock: MockClock) -> None:
    """What it did where it was the buyer had for nothing."""
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7),))
        desk.mines_on("acme", NORTH)
        await desk.assign(**{"acme.c01.u1": 7})
        desk.up(desk.order(7))
        miner = desk.miner(subscribed=True)
        assert is_on(miner, desk.order(7))
        desk.north().channel.extranonces.capacity = 0
        desk.up(desk.north())
        desk.follow(upstream(NORTH))
        await rounds()
        assert miner.channel is desk.own


# Who cannot be told


def come_back(desk: PlacementDesk, miner: Miner) -> Miner:
    """It connects again, until it is not sent away: the pool must not let that go on."""
    for _ in range(4):
        if not desk.go_if_sent_away(miner):
            return miner
        miner = desk.miner(miner.worker, address=miner.address)
    raise AssertionError("sent away for ever")


async def test_at_first_contact_it_comes_back_once_and_is_guessed(autojump_clock: MockClock) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        first = desk.miner()
        assert not first.open
        second = desk.miner()
        assert is_on(second, desk.north())
        assert desk.placement.moved == {Moved.RECONNECT: 1}
        assert is_on(desk.miner("acme.c01.u2"), desk.north()), "its neighbour needs no second connection"
        assert not desk.miner("acme.c01.u3", address="10.0.0.2").open, "another address is another guess"
        await trio.sleep(HINT_S + 1)
        assert not desk.miner("acme.c01.u4").open, "a hint does not last for ever"


async def test_with_several_connections_it_is_as_well_on_the_one_as_on_the_other(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH, connections=3))
        desk.mines_on("acme", NORTH)
        desk.up(*(desk.north(number) for number in range(3)))
        miners = [come_back(desk, desk.miner(f"acme.c01.u{number}")) for number in range(12)]
        assert desk.placement.moved == {Moved.RECONNECT: 1}
        where = [miner.channel for miner in miners]
        assert [where.count(desk.north(number).channel) for number in range(3)] == [4, 4, 4]
        # One that subscribed before others took the connection that had the fewest.
        slow = desk.stage.connect("acme.c01.u99")
        slow.ask("mining.subscribe", "test/1")
        here = slow.channel
        here.sessions.update(miner.assignment for miner in miners)
        slow.ask("mining.authorize", slow.worker, "x")
        assert not slow.assignment.leaving
        here.sessions.difference_update(miner.session for miner in miners if miner.channel is not here)


async def test_miners_of_several_kinds_at_one_address_end_on_the_pools_own_work(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk, rounds=False):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        acme = come_back(desk, desk.miner("acme.c01.u1"))
        assert is_on(acme, desk.north())
        zinc = come_back(desk, desk.miner("zinc.c01.u1"))
        assert zinc.channel is desk.own
        acme.leave()
        again = come_back(desk, desk.miner("acme.c01.u1"))
        assert again.channel is desk.own
        assert again.mine()["result"] is True
        assert desk.placement.moved == {Moved.RECONNECT: 2}


async def test_no_machine_that_the_pool_pays_mines_for_an_account_that_its_address_hints_at(
    autojump_clock: MockClock,
) -> None:
    """The upstream pays acme. One operator under two names lets a machine of acme be sent there; at the same
    address connections subscribe, and authorise as zinc when the first of them was sent to the pool."""
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        come_back(desk, desk.miner("acme.c01.u1"))
        thieves = [desk.stage.connect(f"zinc.c01.u{number}") for number in range(5)]
        for thief in thieves:
            thief.ask("mining.subscribe", "test/1")
            assert thief.channel is desk.north().channel
        for thief in thieves:
            thief.ask("mining.authorize", thief.worker, "x")
            if thief.session.closing is not None:
                thief.leave()
        paid_twice_s = 0
        for _ in range(120):
            paid_twice_s += sum(thief.open and is_on(thief, desk.north()) for thief in thieves)
            await trio.sleep(1)
        print(f"paid by both: {paid_twice_s} machine-seconds of {len(thieves)} connections")
        assert paid_twice_s == 0
        back = [come_back(desk, desk.miner(thief.worker)) for thief in thieves]
        assert [it.channel is desk.own for it in back] == [True] * 5


async def test_those_of_one_address_are_moved_one_route_after_the_other(autojump_clock: MockClock) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH), orders=(order(7), order(8)))
        workers = [f"acme.c01.u{number}" for number in range(9)]
        miners = [desk.miner(worker) for worker in workers]
        await desk.assign(**{name: 7 + number % 2 for number, name in enumerate(workers, start=1)})
        desk.up(desk.order(7), desk.order(8))
        seconds = 0
        while any(miner.channel is desk.own for miner in miners):
            await rounds()
            miners = [come_back(desk, miner) for miner in miners]
            seconds += 1
            assert seconds < 3 * ON_THEIR_WAY_S
        assert [is_on(miner, desk.order(7 + (at + 1) % 2)) for at, miner in enumerate(miners)] == [True] * 9
        assert desk.placement.moved == {Moved.RECONNECT: 9}, "nobody was sent away in vain"


async def test_who_was_sent_away_and_is_slow_to_go_is_sent_once(autojump_clock: MockClock) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = come_back(desk, desk.miner())
        before = desk.placement.moved
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S)
        for _ in range(10):
            desk.placement.reconsider()
            await rounds(2)
        assert miner.assignment.leaving
        assert desk.placement.moved - before == {Moved.RECONNECT: 1}


@pytest.mark.parametrize("has_work", [True, False])
async def test_who_has_nothing_to_do_until_it_goes_goes_at_once(
    has_work: bool, autojump_clock: MockClock
) -> None:
    """Firmware that does not know client.reconnect goes on until it is dropped, where there is work."""
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = come_back(desk, desk.miner())
        assert is_on(miner, desk.north())
        await trio.sleep(ON_THEIR_WAY_S + ROUND)
        if has_work:
            desk.mines_on("acme", None)
        else:
            desk.lost(desk.north())
            await trio.sleep(OUTAGE_S)
        await rounds(2)
        assert miner.assignment.leaving
        miner.session.tick(desk.stage.now_s)
        assert miner.session.closing == (None if has_work else "moved")


async def test_a_hint_follows_its_route_to_the_fallback(autojump_clock: MockClock) -> None:
    desk = PlacementDesk(OTHER_SHAPE)
    async with routing(desk):
        desk.follow(upstream(NORTH, "north", fallback_id=SOUTH), upstream(SOUTH, "south"))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north(), desk.south())
        come_back(desk, desk.miner()).leave()
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S)
        await rounds(2)
        assert is_on(desk.miner(), desk.south())
        assert desk.placement.moved == {Moved.RECONNECT: 1}


# The pool's own work


async def test_without_own_work_only_those_of_upstreams_are_admitted(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        desk.admission.own_closed = NO_NODE
        assert is_on(desk.miner(), desk.north())
        refused = desk.stage.connect("zinc.c01.u1")
        refused.ask("mining.subscribe", "test/1")
        (answer,) = refused.ask("mining.authorize", "zinc.c01.u1", "x")
        assert answer["error"] == [24, NO_NODE, None]
        again = desk.admission.admit("zinc.c01.u1", "", ConnectionFrom())
        assert again == Refusal(NO_NODE, passes=True)
        desk.admission.own_closed = None
        assert desk.miner("zinc.c01.u1").channel is desk.own


async def test_who_would_fall_back_to_own_work_that_is_not_there_is_let_go(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        miner = desk.miner()
        desk.admission.own_closed = NO_NODE
        desk.lost(desk.north())
        await trio.sleep(OUTAGE_S)
        await rounds(2)
        assert not miner.open
        assert desk.board.dropped == [("acme.c01.u1", NO_NODE)]
        assert desk.placement.moved.total() == 0


async def test_an_order_that_begins_without_a_node_gets_its_machines(autojump_clock: MockClock) -> None:
    """Nobody is let in while there is nothing to mine: that is over with the first other work."""
    desk = PlacementDesk()
    async with routing(desk):
        miner = desk.miner()
        desk.placement.let_go(NO_NODE)
        assert not miner.open
        await rounds(10)
        assert desk.board.closed == NO_NODE
        desk.follow(upstream(NORTH), orders=(order(7),))
        await desk.assign(**{"acme.c01.u1": 7})
        desk.up(desk.order(7))
        await rounds(1)
        assert desk.board.closed is None
        assert is_on(desk.miner(), desk.order(7))
        assert desk.admission.admit("zinc.c01.u1", "", ConnectionFrom()) == Refusal(NO_NODE, passes=True)


async def test_what_the_router_asks(autojump_clock: MockClock) -> None:
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        miner, other = desk.miner(), desk.miner("zinc.c01.u1")
        half_way = desk.stage.connect("acme.c01.u9")
        half_way.ask("mining.subscribe", "test/1")
        assert {it.workers[0] for it in desk.placement.sessions()} == {1, 2}
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        await rounds()
        now_s = trio.current_time()
        assert (desk.placement.movable(1, now_s), desk.placement.movable(2, now_s)) == (False, True)
        assert desk.placement.movable(1, now_s + MOVE_INTERVAL_S)
        miner.leave()
        assert [it.workers[0] for it in desk.placement.sessions()] == [2]
        assert other.open


# Names without a share


async def test_a_connection_holds_what_it_was_admitted_as_until_it_leaves() -> None:
    """Sixteen names, the next one is refused in words; of who left nothing is left but its share."""
    desk = PlacementDesk()
    strangers = [desk.stage.connect(f"acme.x{number}.u0") for number in range(20)]
    for number, stranger in enumerate(strangers):
        stranger.ask("mining.subscribe", "test/1")
        answers = [stranger.ask("mining.authorize", f"acme.x{number}.u{unit}", "x")[0] for unit in range(17)]
        assert [answer["result"] for answer in answers] == [True] * 16 + [None]
        assert "without an accepted share" in answers[-1]["error"][1]
    newcomers = desk.registry.newcomers
    assert len(newcomers) == 20 * 16
    assert not desk.registry.workers
    machine = strangers[0].assignment.workers[0]
    desk.registry.prove(machine)
    for stranger in strangers:
        stranger.leave()
    newcomers.forget(newcomers.gone)  # as the journal does behind its commit
    assert len(newcomers) == 0
    assert list(desk.registry.workers) == [machine]
    assert desk.registry.name_of(machine) == "acme.x0.u0"


async def test_a_machine_with_a_number_of_before_is_not_taken_for_who_had_it(
    autojump_clock: MockClock,
) -> None:
    """Numbers of names without a share are used again: what a stranger did is not the machine's doing."""
    desk = PlacementDesk()
    async with routing(desk):
        desk.follow(upstream(NORTH))
        stranger = desk.miner("acme.c01.stranger")
        desk.mines_on("acme", NORTH)
        desk.up(desk.north())
        await rounds()
        number = stranger.assignment.workers[0]
        assert not desk.placement.movable(number, trio.current_time())
        stranger.leave()
        desk.registry.newcomers.forget(desk.registry.newcomers.gone)
        machine = desk.miner("acme.c01.machine")
        assert machine.assignment.workers == (number,)
        assert desk.placement.movable(number, trio.current_time())
