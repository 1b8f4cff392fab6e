"""Upstreams with short extranonces: what is said, who is served, connections opened as they are needed."""

from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from pool.cli.routing.upstream_trials import print_trial
from pool.hub import Plan
from pool.routing.routes import CONNECTIONS_PER_ROUTE_MAX, ROOM_MIN, SPARE_S, UPSTREAM, Route
from pool.upstreams.prefix_spaces import PrefixSpaces
from pool.upstreams.trial import try_endpoints
from stratum.miners.extranonce import ExtranonceSpace
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.extranonce_split import ExtranonceNeed, split_extranonce2
from tests.fakes.upstreams import PASSWORD, USER, HonestUpstream, Network
from tests.pool.routing.test_routes import Proxied
from tests.stages.routing import NORTH, PlacementDesk, UpstreamThatTheTestSteers, routing, upstream
from tests.stages.sessions import Miner
from tests.stages.upstream_clients import SETTINGS, endpoint

A_MOMENT = 1.1  # the next look has been taken
SHORT = (1, 3)  # of an upstream with 4 bytes


# What is said


@pytest.mark.parametrize("wanted", [None, 4, 5, 8])
def test_every_miner_has_4_to_8_bytes_but_for_an_upstream_with_4(wanted: int | None) -> None:
    for size in range(4, 33):
        split = split_extranonce2(size, ExtranonceNeed(miner_bytes_wanted=wanted))
        assert split.upstream_bytes == size
        assert 4 <= split.miner_bytes <= 8 or (size, split.miner_bytes, split.prefix_bytes) == (4, 3, 1)
        assert split.sessions == 256**split.prefix_bytes
        assert ("rentals" in split.limits) == (split.miner_bytes < 4)
        assert ("256 sessions a connection" in split.limits) == (split.prefix_bytes == 1)


async def test_a_trial_says_in_words_who_will_not_mine_there(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with trio.open_nursery() as nursery:
        pools = {"short": HonestUpstream(extranonce2_bytes=4), "long": HonestUpstream()}
        network = Network(nursery, pools)
        places = [(1, endpoint("short")), (2, endpoint("long"))]
        for trial in await try_endpoints(SETTINGS, places, connect=network.connect):
            print_trial(trial)
        nursery.cancel_scope.cancel()
    short, long = capsys.readouterr().out.split("2  long")
    assert "1 ours (256 sessions), 3 the miner's" in short
    assert "BUT: 3 bytes of extranonce2 for the miner: rentals ask for 4 and will not mine on it" in short
    assert "256 sessions a connection: more connections are opened as needed" in short
    assert "BUT" not in long


# Connections as needed


def _route(desk: PlacementDesk) -> Route:
    route = desk.routes.get((UPSTREAM, NORTH))
    assert route is not None
    return route


def _its(desk: PlacementDesk) -> list[UpstreamThatTheTestSteers]:
    its: list[Any] = list(_route(desk).channels)
    return its


def _fill(desk: PlacementDesk, count: int) -> list[Miner]:
    """So many more machines that can be told of other extranonces, and are where they belong."""
    first = len(desk.stage.miners)
    return [desk.miner(f"acme.c01.u{first + number}", subscribed=True) for number in range(count)]


async def _serve(desk: PlacementDesk) -> None:
    """Every connection that is there comes up, and those who wait are moved."""
    desk.up(*(it for it in _its(desk) if not it.ready))
    await trio.sleep(5 * A_MOMENT)
    desk.jobs()


async def test_connections_are_opened_as_machines_need_prefixes_and_closed_when_nobody_does(
    autojump_clock: MockClock,
) -> None:
    desk = PlacementDesk(SHORT)
    async with routing(desk):
        desk.follow(upstream(NORTH))
        desk.mines_on("acme", NORTH)
        await _serve(desk)
        _fill(desk, 256 - ROOM_MIN)
        await trio.sleep(A_MOMENT)
        assert len(_its(desk)) == 1
        _fill(desk, 1)
        await trio.sleep(10 * A_MOMENT)
        assert len(_its(desk)) == 2, "another one, and no more before it serves"
        await _serve(desk)
        _fill(desk, 400)
        for _ in range(4):
            await _serve(desk)
        miners = [miner for miner in desk.stage.miners if miner.open]
        assert len(miners) == 593
        places = {(miner.channel, miner.assignment.extranonce1) for miner in miners}
        assert len(places) == len(miners), "nobody does the work of somebody else"
        assert desk.own not in {channel for channel, _ in places}
        counts = [len(it.channel.sessions) for it in _its(desk)]
        assert max(counts) <= 256
        opened = _its(desk)
        assert 3 <= len(opened) <= 5
        for miner in miners:
            miner.leave()
        for it in opened:
            desk.stage.publish(desk.stage.channel.current.work, it.channel)  # type: ignore[union-attr]
            it.channel.forget_work()  # long ago: prefixes have rested
        for _ in opened:
            await trio.sleep(SPARE_S + 3 * A_MOMENT)
        assert len(_its(desk)) == 1
        assert [it.closed for it in opened] == [False] + [True] * (len(opened) - 1)


async def test_connections_are_bounded_and_it_is_said_once(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.routing.routes.ROOM_MIN", 257)  # more than any connection has
    desk = PlacementDesk(SHORT)
    with structlog.testing.capture_logs() as logs:
        async with routing(desk):
            desk.follow(upstream(NORTH))
            desk.mines_on("acme", NORTH)
            for _ in range(40):
                await trio.sleep(A_MOMENT)
                desk.up(*(it for it in _its(desk) if not it.ready))
            assert len(_its(desk)) == CONNECTIONS_PER_ROUTE_MAX
    assert [it["connections"] for it in logs if it["event"] == "upstream_has_no_room"] == [
        CONNECTIONS_PER_ROUTE_MAX
    ]


# The same extranonce1 on several connections


async def test_connections_with_the_same_extranonce1_never_share_a_prefix(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = 0.02  # a thread reads CA files
    pool = HonestUpstream(extranonce2_bytes=4)  # gives every connection the same
    with structlog.testing.capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            proxied = Proxied(nursery, {"a.pool.example": pool})
            await nursery.start(proxied.routes.run, proxied.open_channel)
            place = UpstreamEndpoint(host="a.pool.example", port=3333, user=USER, password=PASSWORD)
            proxied.needed.add(NORTH)
            proxied.routes.follow(Plan({NORTH: upstream(NORTH, endpoints=(place,), connections=2)}, {}))
            route = proxied.routes.get((UPSTREAM, NORTH))
            assert route is not None
            with trio.fail_after(60):
                while not all(it.ready for it in route.channels):  # noqa: ASYNC110
                    await trio.sleep(0.1)
            first, second = (it.channel for it in route.channels)
            assert first is not second
            prefixes = [channel.lease(None, 0.0)[0] for channel in (first, second) * 128]
            assert len(set(prefixes)) == 256
            assert first.extranonces.full(0.0)
            assert second.extranonces.full(0.0)
            proxied.routes.mind()
            assert len(route.channels) == 2, "one more would have no more prefixes"
            nursery.cancel_scope.cancel()
    (told,) = [it for it in logs if it["event"] == "upstream_has_no_room"]
    assert told["reason"] == "it gives connections the same extranonce1"


def test_who_leaves_an_extranonce1_has_a_space_of_its_own_again() -> None:
    spaces, one, other = PrefixSpaces(), ExtranonceSpace(1), ExtranonceSpace(1)
    spaces.enter("a", b"x", one)
    assert spaces.beside("a", b"x", 1) is None
    assert spaces.beside("b", b"x", 1) is one
    assert spaces.beside("b", b"x", 2) is spaces.beside("b", b"y", 1) is None
    spaces.enter("b", b"x", one)
    assert spaces.is_shared("a", one)
    spaces.enter("b", b"y", other)
    assert not spaces.is_shared("a", one)
    spaces.leave("a")
    assert spaces.beside("b", b"x", 1) is None
