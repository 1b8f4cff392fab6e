"""Which endpoint of an upstream serves: failing over, coming back, and where it may send us."""

import itertools

import pytest
import structlog
import trio
from trio.testing import MockClock

from stratum.upstream.endpoint_state import PlaceState
from stratum.upstream.shares import NotSent
from tests.fakes.upstreams import (
    BlackHole,
    HonestUpstream,
    UpstreamThatFailsAtOnce,
    UpstreamThatIsSlow,
    UpstreamThatReconnects,
)
from tests.stages.upstream_clients import ACCEPTED, mining

# Which one serves


async def test_a_black_hole_costs_a_moment_and_not_its_time_out(autojump_clock: MockClock) -> None:
    async with mining(a=BlackHole(), b=BlackHole(), c=HonestUpstream()) as client:
        assert client.owner.all("up") == ["c.pool.example"]
        assert client.now_s < 4


async def test_a_black_hole_alone_is_tried_again_and_again(autojump_clock: MockClock) -> None:
    async with mining(a=BlackHole(), up=False) as client:
        await trio.sleep(5.1)
        assert client.upstream.status[0].state is PlaceState.DOWN
        assert client.upstream.status[0].reason == "no connection within 5 s"
        await trio.sleep(300)
        assert 6 <= len(client.network.dialled) <= 12


async def test_a_slow_first_serves_after_its_trial_and_holds_one_connection(
    autojump_clock: MockClock,
) -> None:
    slow = UpstreamThatIsSlow()
    async with mining(a=slow, b=HonestUpstream()) as client:
        assert client.owner.all("up") == ["b.pool.example"]
        await client.owner.until_up(2)
        assert client.owner.all("up")[1] == "a.pool.example"
        assert 60 <= client.now_s <= 70
        assert (slow.open, len(slow.calls)) == (1, 2)


async def test_all_are_away_and_come_back(autojump_clock: MockClock) -> None:
    """Outcome: attempts become rarer, up to one a minute, are never regular, and go on for ever."""
    pool = HonestUpstream()
    pool.up = False
    async with mining(a=pool, up=False) as client:
        await trio.sleep(1_800)
        times = client.network.dialled_at("a.pool.example")
        pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert pauses[0] <= 1
        assert max(pauses) <= 60
        assert min(pauses[8:]) >= 30
        assert len({round(pause, 3) for pause in pauses[8:]}) > 10
        pool.up = True
        await client.owner.until_up()


async def test_who_was_there_for_a_while_is_tried_at_once_and_often(autojump_clock: MockClock) -> None:
    """Outcome: a pool that restarts has us back as soon as it is there, however long it was away before."""
    pool = HonestUpstream()
    pool.up = False
    async with mining(a=pool, up=False) as client:
        await trio.sleep(600)
        pool.up = True
        await client.owner.until_up()
        await trio.sleep(100)
        pool.up = False
        await pool.call.stream.aclose()
        lost_at_s = trio.current_time()
        await trio.sleep(2)
        first, second, *_ = [
            at_s for at_s in client.network.dialled_at("a.pool.example") if at_s >= lost_at_s
        ]
        assert first == lost_at_s
        assert second <= lost_at_s + 1


async def test_back_to_the_first_when_it_has_been_healthy_for_a_while(autojump_clock: MockClock) -> None:
    """Outcome: no gap; shares on the job of the one before are still answered by it."""
    first, second = HonestUpstream(), HonestUpstream()
    first.up = False
    async with mining(a=first, b=second) as client:
        await trio.sleep(100)
        first.up = True
        up_at_s = client.now_s
        await first.until_called()
        await trio.sleep(1)
        await first.call.notify()
        await trio.sleep(1)
        assert len(client.owner.works) == 1, "jobs of one on trial are nobody's business"
        late = client.share(1)
        await client.owner.until_up(2)
        assert client.owner.all("up") == ["b.pool.example", "a.pool.example"]
        assert 60 <= client.now_s - up_at_s <= 125
        assert client.owner.all("lost") == []
        assert client.send(late) is None
        assert client.submit(2) is None
        await client.answers(2)
        assert set(client.owner.verdicts.values()) == {ACCEPTED}
        assert (len(first.shares), len(second.shares)) == (1, 1)
        await trio.sleep(10)
        assert client.send(late) is NotSent.NOT_CONNECTED
        assert [status.state for status in client.upstream.status] == [PlaceState.UP, PlaceState.IDLE]


async def test_the_first_does_not_serve_again_while_it_comes_and_goes(autojump_clock: MockClock) -> None:
    first = UpstreamThatFailsAtOnce()
    async with mining(a=first, b=HonestUpstream()) as client:
        await trio.sleep(1_200)
        assert client.owner.all("up")[-1] == "b.pool.example"
        assert client.owner.all("up").count("b.pool.example") == 1
        assert len(first.calls) < 1_200 / 30 + 10


async def test_when_the_second_dies_too_the_first_on_trial_serves_at_once(autojump_clock: MockClock) -> None:
    first, second = HonestUpstream(), HonestUpstream()
    first.up = False
    async with mining(a=first, b=second) as client:
        first.up = True
        await first.until_called()
        await trio.sleep(1)
        second.up = False
        await second.call.stream.aclose()
        lost_at_s = client.now_s
        await client.owner.until_up(2)
        assert client.owner.all("up")[1] == "a.pool.example"
        assert client.now_s == lost_at_s
        assert len(first.calls) == 1


# client.reconnect


@pytest.mark.parametrize("elsewhere", ["evil.example", "pool.example.evil.org", "10.0.0.1", "pool", "a b"])
async def test_an_upstream_that_reconnects_elsewhere(autojump_clock: MockClock, elsewhere: str) -> None:
    """Outcome: refused and logged; we go on mining where we are."""
    pool = UpstreamThatReconnects([elsewhere, 3333])
    with structlog.testing.capture_logs() as logs:
        async with mining(a=pool) as client:
            await trio.sleep(10)
            assert [host for _, host, _ in client.network.dialled] == ["a.pool.example"]
            client.submit(1)
            await client.answers(1)
    assert [entry["event"] for entry in logs].count("upstream_reconnect_refused") == 1


async def test_an_upstream_that_reconnects_within_its_domain(autojump_clock: MockClock) -> None:
    """Outcome: followed once, after the wait; when that ends we start from the configured address again."""
    pool = UpstreamThatReconnects(["B.pool.example.", "4444", 2])
    network_pool = HonestUpstream()
    async with mining(a=pool) as client:
        client.network.pools["b.pool.example"] = network_pool
        await client.owner.until_up(2)
        assert [(host, port) for _, host, port in client.network.dialled] == [
            ("a.pool.example", 3333),
            ("b.pool.example", 4444),
        ]
        assert 2 <= client.now_s < 3
        await network_pool.call.stream.aclose()
        await client.owner.until_up(3)
        assert client.network.dialled[-1][1:] == ("a.pool.example", 3333)


async def test_for_a_short_wait_nobody_is_moved(autojump_clock: MockClock) -> None:
    async with mining(a=UpstreamThatReconnects(["", 0, 2]), b=HonestUpstream()) as client:
        await client.owner.until_up(2)
        assert client.owner.all("up") == ["a.pool.example", "a.pool.example"]
        assert 2 <= client.now_s < 3


async def test_a_redirection_into_nothing_costs_one_attempt(autojump_clock: MockClock) -> None:
    pool = UpstreamThatReconnects(["gone.pool.example", 1])
    async with mining(a=pool) as client:
        await client.owner.until_up(2)
        assert [host for _, host, _ in client.network.dialled] == [
            "a.pool.example",
            "gone.pool.example",
            "a.pool.example",
        ]


async def test_a_long_wait_is_spent_with_the_next_upstream_and_is_bounded(autojump_clock: MockClock) -> None:
    first = UpstreamThatReconnects(["", 0, 86_400])
    async with mining(a=first, b=HonestUpstream()) as client:
        await client.owner.until_up(2)
        assert client.owner.all("up")[1] == "b.pool.example"
        assert client.now_s < 5
        await client.owner.until_up(3)
        assert 120 <= client.now_s <= 130, "a minute of waiting, a minute on trial"


async def test_an_upstream_that_reconnects_for_ever_is_left(autojump_clock: MockClock) -> None:
    first = UpstreamThatReconnects(*([[]] * 10_000))
    async with mining(a=first, b=HonestUpstream()) as client:
        await client.owner.wait_for(lambda: "b.pool.example" in client.owner.all("up"))
        await trio.sleep(1_200)
        assert client.owner.all("up")[-1] == "b.pool.example"
        assert len(first.calls) < 1_200 / 30 + 10
