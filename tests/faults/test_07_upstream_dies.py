"""What becomes of shares that are under way when an upstream dies, goes silent, or changes its mind.

After each fault: every share that a miner had acknowledged is in the proxy's books once, and what is accepted
there is what the upstreams said that they accepted.
"""

from pathlib import Path
from typing import Any

import pytest
import trio

from pool.upstreams import channel as upstream_channel
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from tests.fakes.proxy_upstreams import (
    DIFF1,
    MASK,
    UpstreamThatChanges,
    UpstreamThatDies,
    UpstreamThatIsDeaf,
    a_wire,
    hosting,
)
from tests.fakes.upstreams import USER, HonestUpstream, UpstreamThatRejectsEverything
from tests.stages.two_pools import (
    Fleet,
    Side,
    a_node,
    a_proxy,
    a_side,
    add_route,
    at_rest,
    check_shares,
    facing,
    hurry,
    mine_on,
    running,
)
from tests.stages.waiting import PATIENCE_S, until

ACCEPTED, UNDELIVERED, REJECTED = Verdict.ACCEPTED, Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED
SHARES = 40  # before a fault, and after it
# What the machines are given where an upstream changes its difficulty, and what it changes to.
USUAL_LOG2, ABOVE_LOG2, BELOW_LOG2 = -28, -26, -30


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
def upstream(tmp_path: Path) -> Side:
    """A real pool, where the operator of the proxy has an account."""
    return a_side(tmp_path / "upstream", USER.partition(".")[0])


# It dies


@pytest.mark.parametrize("counts", [True, False])
async def test_an_upstream_that_dies_in_mid_job(tmp_path: Path, counts: bool) -> None:
    """Outcome: the next one serves; what the first never answered is undelivered, even if it had it."""
    first, second = UpstreamThatDies(SHARES, counts=counts), HonestUpstream()
    async with facing(tmp_path, first, second) as (proxy, fleet, _):
        await more_counted(second)
    good = check_shares(proxy, fleet)
    assert good[UNDELIVERED] >= 1
    # What had been answered by then may have died with the connection.
    assert len(second.counted) <= good[ACCEPTED] <= SHARES + len(second.counted)
    assert len(first.counted) == SHARES + counts
    assert first.counted | second.counted <= fleet.found
    assert not first.counted & second.counted
    assert proxy.events() == ["served", "lost", "served"]
    (words,) = proxy.event_words("lost")
    assert words.startswith("closed by the upstream while mining; ")
    assert fleet.connections == len(fleet.names)  # no miner noticed


async def test_a_path_that_breaks_costs_no_share_that_was_sent(
    tmp_path: Path, upstream: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome: the extranonce1 is resumed; what was unanswered is sent again, and counted once."""
    hurry(monkeypatch, resubmit_s=60.0, silence_s=60.0)  # however long the machine takes for the way back
    async with (
        a_node(tmp_path) as node,
        running(upstream, node),
        a_wire(upstream.port) as wire,
        a_proxy(tmp_path, node, wire.port, machines=20) as (proxy, fleet),
    ):
        for times in range(1, 4):
            await fleet.mined(SHARES)
            await until(lambda: proxy.unanswered > 0)
            await wire.cut(lambda: not upstream.board.connections)
            await until(lambda times=times: wire.carried > times and serving(proxy) is not None)  # type: ignore[misc]
        await fleet.mined(SHARES)
    good = check_shares(proxy, fleet)
    assert upstream.good() == {ACCEPTED: good[ACCEPTED]}
    assert proxy.upstream_says() == {"accepted": good[ACCEPTED]}
    assert REJECTED not in good


async def test_a_half_open_connection(
    tmp_path: Path, upstream: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome: noticed by the shares that nobody answers; they are undelivered, the next endpoint serves."""
    hurry(monkeypatch, silence_s=3.0)
    async with (
        a_node(tmp_path) as node,
        running(upstream, node),
        a_wire(upstream.port) as wire,
        a_proxy(tmp_path, node, wire.port, upstream.port) as (proxy, fleet),
    ):
        await fleet.mined(SHARES)
        wire.swallows = True
        await until(lambda: serving(proxy) == f"127.0.0.1:{upstream.port}")
        await fleet.mined(SHARES)
    good, said = check_shares(proxy, fleet), proxy.upstream_says()
    assert said["unanswered"] >= 1
    # An answer may have been on its way when the path began to swallow.
    assert 0 <= upstream.good()[ACCEPTED] - good[ACCEPTED] <= said["unanswered"]
    assert proxy.events()[:3] == ["served", "lost", "served"]
    assert proxy.event_words("lost")[0].startswith("nothing heard for 3 s, with shares unanswered; ")


async def test_the_first_endpoint_serves_again_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcome: failover and return, in this order; on the way back not one share is lost."""
    hurry(monkeypatch, return_after_s=0.5)
    first, second = HonestUpstream(), HonestUpstream(extranonce1="01020304")
    async with facing(tmp_path, first, second) as (proxy, fleet, (host, other)):
        await more_counted(first)
        await at_rest(proxy, fleet)
        await host.down()
        fleet.go_on()
        await more_counted(second)
        await at_rest(proxy, fleet)
        undelivered = fleet.acknowledged.total() - len(first.counted) - len(second.counted)
        await host.up()
        fleet.go_on()
        await more_counted(first)
    good = check_shares(proxy, fleet)
    assert good[ACCEPTED] == len(first.counted) + len(second.counted)
    assert first.counted | second.counted <= fleet.found
    assert good.get(UNDELIVERED, 0) == undelivered
    assert proxy.events() == ["served", "lost", "served", "served"]
    addresses = [f"127.0.0.1:{it.port}" for it in (host, other, host)]
    assert proxy.event_words("served") == addresses
    assert fleet.connections == len(fleet.names)


# It lives, and is of no use


async def test_a_silent_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcome: left after its bound; all that it was sent is undelivered, the next endpoint serves."""
    hurry(monkeypatch, answer_s=1.0)
    first, second = UpstreamThatIsDeaf(), HonestUpstream()
    async with facing(tmp_path, first, second) as (proxy, fleet, _):
        await until(lambda: len(second.counted) >= SHARES)
    good = check_shares(proxy, fleet)
    assert len(first.shares) <= proxy.upstream_says()["unanswered"] <= good[UNDELIVERED]
    assert good[ACCEPTED] == len(second.counted)
    assert proxy.events()[:3] == ["served", "lost", "served"]
    assert proxy.event_words("lost")[0].startswith("no share answered for 1 s; ")


async def test_an_upstream_that_rejects_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcome: left after its bound, for ten minutes; what it rejected is told; the next one serves."""
    hurry(monkeypatch, rejects_s=0.5, rejects_min=20)
    first, second = UpstreamThatRejectsEverything(), HonestUpstream()
    async with facing(tmp_path, first, second) as (proxy, fleet, _):
        await until(lambda: len(second.counted) >= SHARES)
        assert len(first.calls) == 1
    good, said = check_shares(proxy, fleet), proxy.upstream_says()
    assert good[REJECTED] >= 20
    assert said["rejected"] + said.get("unanswered", 0) >= len(first.shares)
    assert good[ACCEPTED] == len(second.counted)
    assert proxy.events() == ["served", "lost", "served"]
    assert proxy.event_words("lost")[0].startswith("rejected ")


@pytest.mark.parametrize("deaf", [False, True])
async def test_a_stop_while_shares_are_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    """Outcome: answers are waited for, for a moment; what then has none is undelivered."""
    upstream = UpstreamThatIsDeaf() if deaf else HonestUpstream()
    monkeypatch.setattr(upstream_channel, "ANSWERS_S", 0.5 if deaf else PATIENCE_S)
    proxy = a_side(tmp_path / "proxy", "acme")
    async with a_node(tmp_path) as node, hosting(upstream) as (host,), trio.open_nursery() as nursery:
        add_route(proxy, "north", host.port)
        mine_on(proxy, "acme", "north")
        async with running(proxy, node):
            fleet = Fleet(proxy.port, (f"acme.c01.u{unit}" for unit in range(10)), interval_s=0.02)
            nursery.start_soon(fleet.run)
            await fleet.mined(5 * SHARES)
        await fleet.rest()
        nursery.cancel_scope.cancel()
    good = check_shares(proxy, fleet)
    assert set(good) == ({UNDELIVERED} if deaf else {ACCEPTED})
    assert upstream.counted <= fleet.found


# It changes its mind


async def test_another_extranonce1(tmp_path: Path) -> None:
    """Outcome: miners hear of other jobs and of nothing else; late shares are stale, or rejected."""
    upstream = UpstreamThatChanges(mask=MASK)
    async with facing(tmp_path, upstream) as (proxy, fleet, _):
        for number in range(3):
            await more_counted(upstream)
            await upstream.change_extranonce(f"{number:08x}", 8)
        await more_counted(upstream)
    good = check_shares(proxy, fleet)
    assert good[ACCEPTED] == len(upstream.counted)
    assert upstream.counted <= fleet.found
    assert good.get(REJECTED, 0) == len(upstream.said_no)
    assert UNDELIVERED not in good
    assert set(upstream.said_no) <= {"Job not found"}
    assert set(fleet.refused) <= {"Stale share"}
    assert fleet.heard["mining.set_extranonce"] == fleet.heard["client.reconnect"] == 0
    assert (fleet.connections, proxy.events()) == (len(fleet.names), ["served"])


@pytest.mark.parametrize("takes_extranonces", [True, False])
async def test_another_size_of_extranonce2(tmp_path: Path, takes_extranonces: bool) -> None:
    """Outcome: miners that asked for it are told of new extranonces, the others connect again; all mine."""
    upstream = UpstreamThatChanges(mask=MASK)
    async with facing(tmp_path, upstream, takes_extranonces=takes_extranonces) as (proxy, fleet, _):
        for prefix_bytes, extranonce2_bytes in ((1, 4), (4, 8), (3, 7)):
            await more_counted(upstream)
            await upstream.change_extranonce(f"{extranonce2_bytes:08x}", extranonce2_bytes)
            await until(lambda size=prefix_bytes: fleet.prefix_sizes == {size})  # type: ignore[misc]
        await more_counted(upstream)
        assert fleet.mining == len(fleet.names)
    good = check_shares(proxy, fleet)
    assert good[ACCEPTED] == len(upstream.counted)
    assert upstream.counted <= fleet.found
    assert good.get(REJECTED, 0) == len(upstream.said_no)
    assert set(upstream.said_no) <= {"Job not found"}
    told, sent_away = fleet.heard["mining.set_extranonce"], fleet.heard["client.reconnect"]
    moves = 3 * len(fleet.names)
    assert (told, sent_away) == ((moves, 0) if takes_extranonces else (0, moves))


async def test_a_difficulty_that_goes_up_and_down(tmp_path: Path) -> None:
    """Outcome: what is a share to the upstream is one to us: miners' difficulties go down with its own."""
    upstream = UpstreamThatChanges(mask=MASK)
    upstream.difficulty = 2.0**ABOVE_LOG2
    # They find so many that they are given the most that they may be given.
    policy = VardiffPolicy(difficulty_log2_min=BELOW_LOG2, difficulty_log2_max=USUAL_LOG2)
    usual: dict[str, Any] = {"start_difficulty_log2": USUAL_LOG2, "vardiff": policy}
    async with facing(tmp_path, upstream, **usual) as (proxy, fleet, _):
        for log2, given_log2 in ((BELOW_LOG2, BELOW_LOG2), (ABOVE_LOG2, USUAL_LOG2), (BELOW_LOG2,) * 2):
            await fleet.mined(SHARES)
            await upstream.change_difficulty(2.0**log2)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send_other_work, upstream)  # what vardiff finds waits for that
                await until(lambda log2=given_log2: fleet.targets == {DIFF1 << -log2})  # type: ignore[misc]
                nursery.cancel_scope.cancel()
        await at_rest(proxy, fleet)
        before = len(upstream.counted), fleet.acknowledged.total()
        fleet.go_on()
        await fleet.mined(SHARES)
        await at_rest(proxy, fleet)
        after = len(upstream.counted), fleet.acknowledged.total()
    assert after[0] - before[0] == after[1] - before[1] >= SHARES
    assert proxy.good() == {ACCEPTED: fleet.acknowledged.total()}
    assert proxy.upstream_says() == {"accepted": len(upstream.counted)}
    assert upstream.counted <= set(fleet.acknowledged)
    assert (upstream.said_no, fleet.refused.total()) == ([], 0)


async def test_a_version_mask_that_is_narrowed_and_widened(tmp_path: Path) -> None:
    """Outcome: miners roll what the upstream takes; a share that no submit can express is undelivered."""
    upstream = UpstreamThatChanges(mask=MASK)
    async with facing(tmp_path, upstream) as (proxy, fleet, _):
        for mask in (0x00FFE000, MASK, 0, 0x1000E000):
            await more_counted(upstream)
            await upstream.change_mask(mask)
            await until(lambda mask=mask: fleet.masks == {mask})  # type: ignore[misc]
        await more_counted(upstream)
    good = check_shares(proxy, fleet)
    assert good[ACCEPTED] == len(upstream.counted)
    assert upstream.counted <= fleet.found
    assert good.get(REJECTED, 0) == len(upstream.said_no)
    assert set(upstream.said_no) <= {"Version bits outside the mask"}
    assert set(fleet.refused) <= {"Version bits outside the mask"}
    assert fleet.heard["mining.set_version_mask"] == 5 * len(fleet.names)
    assert proxy.events() == ["served"]


async def send_other_work(upstream: HonestUpstream) -> None:
    """A job a second on the same block."""
    while True:
        await trio.sleep(1.0)
        await upstream.call.notify(other_block=False, clean=False)


async def more_counted(upstream: HonestUpstream) -> None:
    """Return when the upstream has counted a few shares more."""
    wanted = len(upstream.counted) + SHARES
    await until(lambda: len(upstream.counted) >= wanted)


def serving(proxy: Side) -> str | None:
    """The address that the proxy mines on."""
    (channel,) = proxy.status.upstreams
    return channel.serving
