"""What becomes of shares and miners when another pool dies, or lives and is of no use.

Time is virtual; each fake is named after its fault.
"""

from collections import Counter

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from stratum.upstream.connection import MESSAGES_LOGGED_MAX, NOTICES_MAX
from stratum.upstream.endpoint_state import PlaceState
from stratum.upstream.probe import UnusableUpstream, probe_upstream
from stratum.upstream.shares import NotSent, RejectReason, SubmitVerdict
from tests.fakes.upstreams import (
    HalfOpenUpstream,
    HonestUpstream,
    UpstreamThatCannotResume,
    UpstreamThatDiesMidJob,
    UpstreamThatForgetsOneShare,
    UpstreamThatGoesSilent,
    UpstreamThatIgnoresPings,
    UpstreamThatNeverAnswersShares,
    UpstreamThatRejectsEverything,
    UpstreamThatRejectsMost,
    UpstreamThatTalksNonsense,
)
from tests.stages.upstream_clients import ACCEPTED, SETTINGS, UNANSWERED, OwnerThatRaises, endpoint, mining

# The upstream dies


@pytest.mark.parametrize("counts", [True, False])
async def test_an_upstream_that_dies_in_mid_job(autojump_clock: MockClock, counts: bool) -> None:
    """Outcome: the next one serves within 5 s; the share is unanswered, and never sent to the other."""
    first, second = UpstreamThatDiesMidJob(counts=counts), HonestUpstream()
    async with mining(a=first, b=second) as client:
        died_at_s = client.now_s
        assert client.submit(1) is None
        first.up = False
        await client.owner.until_up(2)
        assert client.owner.all("up") == ["a.pool.example", "b.pool.example"]
        assert client.now_s - died_at_s < 5
        assert client.owner.all("lost") == [("closed by the upstream while mining", (b"1",))]
        assert client.owner.verdicts == {b"1": UNANSWERED}
        assert second.shares == []
        assert client.submit(2) is None
        await client.answers(2)
        assert client.owner.verdicts[b"2"] == ACCEPTED


@pytest.mark.parametrize("counts", [True, False])
async def test_a_resumed_connection_gets_the_unanswered_share_again_once(
    autojump_clock: MockClock, counts: bool
) -> None:
    """Outcome: accepted, also where the pool had it and says "duplicate"; counted once, there and here."""
    pool = UpstreamThatDiesMidJob(counts=counts)
    async with mining(a=pool) as client:
        share = client.share(1)
        assert client.send(share) is None
        await client.answers(1)
        assert client.owner.verdicts == {b"1": ACCEPTED}
        assert len(pool.shares) == 2
        assert pool.counted == {share.hash_internal}
        assert pool.call.asked("mining.subscribe")[0]["params"][1] == "session-1"


async def test_a_share_on_a_job_from_before_a_resumed_connection_is_still_good(
    autojump_clock: MockClock,
) -> None:
    pool = UpstreamThatDiesMidJob(counts=True)
    async with mining(a=pool) as client:
        late = client.share(2)
        client.submit(1)
        await client.owner.until_up(2)
        assert client.send(late) is None
        await client.answers(2)
        assert set(client.owner.verdicts.values()) == {ACCEPTED}


async def test_with_another_extranonce1_nothing_is_sent_again(autojump_clock: MockClock) -> None:
    pool = UpstreamThatDiesMidJob(counts=False, changes_extranonce=True)
    async with mining(a=pool) as client:
        late = client.share(2)
        client.submit(1)
        await client.owner.until_up(2)
        assert client.owner.verdicts == {b"1": UNANSWERED}
        assert len(pool.shares) == 1
        assert client.send(late) is NotSent.NOT_CONNECTED


async def test_the_same_pool_under_another_account_is_another_upstream(autojump_clock: MockClock) -> None:
    pool = UpstreamThatDiesMidJob(counts=False)
    ours = endpoint("a.pool.example")
    other = msgspec.structs.replace(ours, user="somebody.else")
    async with mining(endpoints=[ours, other], a=pool) as client:
        client.submit(1)
        await client.owner.until_up(2)
        assert pool.call.asked("mining.authorize")[0]["params"][0] == "somebody.else"
        assert client.owner.verdicts == {b"1": UNANSWERED}
        assert len(pool.shares) == 1


async def test_a_pool_that_cannot_resume_is_asked_once(autojump_clock: MockClock) -> None:
    pool = UpstreamThatCannotResume()
    async with mining(a=pool) as client:
        await pool.call.stream.aclose()
        await client.owner.until_up(2)
        assert [len(call.asked("mining.subscribe")[0]["params"]) for call in pool.calls] == [1, 2, 1]


async def test_a_share_that_gets_no_answer_twice_is_unanswered(autojump_clock: MockClock) -> None:
    pool = HalfOpenUpstream()
    async with mining(a=pool) as client:
        pool.silent = True
        client.submit(1)
        await trio.sleep(2)
        await pool.call.stream.aclose()
        pool.silent = False
        await client.owner.until_up(2)
        pool.silent = True
        await client.owner.wait_for(lambda: len(client.owner.all("lost")) == 2)
        assert client.owner.verdicts == {b"1": UNANSWERED}
        pool.silent = False
        await client.owner.until_up(3)
        await trio.sleep(100)
        assert len(pool.shares) == 2, "a third time would be one too many"


async def test_without_any_upstream_a_share_is_given_up_after_a_bound(autojump_clock: MockClock) -> None:
    pool = UpstreamThatDiesMidJob(counts=True)
    async with mining(a=pool) as client:
        client.submit(1)
        pool.up = False
        await client.owner.wait_for(lambda: bool(client.owner.answers))
        assert client.owner.verdicts == {b"1": UNANSWERED}
        assert 55 < client.now_s < 65
        assert client.submit(2) is NotSent.NOT_CONNECTED
        pool.up = True
        await client.owner.until_up(2)


async def test_a_stop_resolves_what_is_under_way(autojump_clock: MockClock) -> None:
    pool = UpstreamThatNeverAnswersShares()
    async with mining(a=pool) as client:
        client.submit(1)
        await trio.sleep(1)
        client.scope.cancel()
        await trio.sleep(1)
        assert client.owner.verdicts == {b"1": UNANSWERED}


# The upstream is there, and is of no use


async def test_a_half_open_connection_is_noticed_by_its_unanswered_shares(autojump_clock: MockClock) -> None:
    """Outcome: the next one serves within 5 s of the share that nobody answered."""
    first, second = HalfOpenUpstream(), HonestUpstream()
    async with mining(a=first, b=second) as client:
        await trio.sleep(100)
        first.silent = True
        sent_at_s = client.now_s
        client.submit(1)
        await client.owner.until_up(2)
        assert client.owner.all("up")[1] == "b.pool.example"
        assert 4 <= client.now_s - sent_at_s < 5
        assert client.owner.all("lost")[0][0] == "nothing heard for 4 s, with shares unanswered"
        assert client.owner.verdicts == {b"1": UNANSWERED}


async def test_an_upstream_that_goes_silent_is_pinged_before_it_is_dropped(autojump_clock: MockClock) -> None:
    """Outcome: after two minutes without a job a ping, ten seconds later the next one serves."""
    first, second = UpstreamThatGoesSilent(), HonestUpstream()
    async with mining(a=first, b=second) as client:
        await trio.sleep(1)
        first.silent = True
        await client.owner.until_up(2)
        assert 130 <= client.now_s < 135
        assert client.owner.all("lost")[0][0] == "no job for 120 s and no answer to a ping"
        assert len(first.calls[0].asked("mining.extranonce.subscribe")) == 2


@pytest.mark.parametrize("pool", [HonestUpstream(), UpstreamThatIgnoresPings()])
async def test_a_quiet_upstream_that_answers_pings_is_kept(
    autojump_clock: MockClock, pool: HonestUpstream
) -> None:
    async with mining(a=pool, b=HonestUpstream()) as client:
        await trio.sleep(1_260)
        assert client.owner.all("up") == ["a.pool.example"]
        pings = len(pool.call.asked("mining.ping")) + len(pool.call.asked("mining.extranonce.subscribe")) - 1
        assert pings == 10


async def test_an_upstream_that_sends_jobs_is_not_pinged(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    async with mining(a=pool) as client:
        for _ in range(20):
            await trio.sleep(60)
            await pool.call.notify()
        await client.owner.wait_for(lambda: len(client.owner.works) == 21)
        assert len(pool.call.asked("mining.extranonce.subscribe")) == 1


async def test_an_upstream_that_never_answers_shares_is_left_after_a_minute(
    autojump_clock: MockClock,
) -> None:
    first, second = UpstreamThatNeverAnswersShares(), HonestUpstream()
    async with mining(a=first, b=second) as client:
        client.submit(1)
        await client.owner.until_up(2)
        assert 60 <= client.now_s <= 61
        assert len(client.owner.works) > 25
        assert client.owner.all("lost")[0][0] == "no share answered for 60 s"


async def test_an_upstream_that_forgets_one_share_is_kept(autojump_clock: MockClock) -> None:
    """Outcome: that share is unanswered after a minute, the others are counted."""
    pool = UpstreamThatForgetsOneShare()
    async with mining(a=pool) as client:
        for nonce in range(1, 41):
            client.submit(nonce)
            await trio.sleep(2)
        assert client.owner.verdicts[b"1"] == UNANSWERED
        assert set(list(client.owner.verdicts.values())[1:]) <= {ACCEPTED, UNANSWERED}
        assert Counter(client.owner.verdicts.values()) == {ACCEPTED: 39, UNANSWERED: 1}
        assert client.owner.all("lost") == []


async def test_an_upstream_that_rejects_everything(autojump_clock: MockClock) -> None:
    """Outcome: shares are resolved by its reason; after a minute the next one serves, for ten at least."""
    first, second = UpstreamThatRejectsEverything(), HonestUpstream()
    async with mining(a=first, b=second) as client:
        nonce = 0
        while len(client.owner.all("up")) < 2:
            nonce += 1
            client.submit(nonce)
            await trio.sleep(1)
        left_at_s = client.now_s
        assert 60 <= left_at_s <= 63
        rejected = (SubmitVerdict.REJECTED, RejectReason.LOW_DIFFICULTY)
        assert Counter(client.owner.verdicts.values())[rejected] == len(first.shares)
        assert client.owner.answers[0].words == "Low difficulty share"
        await trio.sleep(590)
        assert len(first.calls) == 1
        await trio.sleep(30)
        assert len(first.calls) == 2


async def test_an_upstream_that_rejects_most_is_kept(autojump_clock: MockClock) -> None:
    """It is for the reports, and for the operator, to say how many are too many."""
    pool = UpstreamThatRejectsMost()
    async with mining(a=pool) as client:
        for nonce in range(1, 401):
            client.submit(nonce)
            await trio.sleep(2)
        assert client.owner.all("lost") == []
        assert len(pool.counted) == 10


async def test_an_upstream_with_too_little_extranonce_says_how_much_it_takes(
    autojump_clock: MockClock,
) -> None:
    first, second = HonestUpstream(extranonce2_bytes=3), HonestUpstream(extranonce2_bytes=4)
    async with mining(a=first, b=second) as client:
        assert client.owner.all("up") == ["b.pool.example"]
        assert client.owner.split is not None
        assert (client.owner.split.prefix_bytes, client.owner.split.miner_bytes) == (1, 3)
        assert client.upstream.status[0].reason == (
            "the upstream leaves 3 bytes of extranonce2, and 4 are needed: 1 for our prefix (256 sessions) "
            "and 3 for the miner"
        )
        with pytest.raises(UnusableUpstream, match=r"a\.pool\.example:3333: .*3 bytes of extranonce2, and 4"):
            await probe_upstream(endpoint("a.pool.example"), SETTINGS, connect=client.network.connect)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "a line of 25 bytes that is no message"),
        (b'{"id":2,"result":[[],"zz",8]}\n', "mining.subscribe: extranonce1 is not hex"),
        (b"[" * 100_000 + b"\n", "that is no message"),
        (b"x" * 300_000, "a line of more than 262144 bytes"),
    ],
)
async def test_an_upstream_that_talks_nonsense(autojump_clock: MockClock, line: bytes, reason: str) -> None:
    """Outcome: the next one serves, and the status says why."""
    async with mining(a=UpstreamThatTalksNonsense(line), b=HonestUpstream()) as client:
        assert client.owner.all("up") == ["b.pool.example"]
        assert reason in client.upstream.status[0].reason
        assert client.upstream.status[0].state is PlaceState.DOWN


@pytest.mark.parametrize("bad", [0, 1])
async def test_a_job_that_our_side_cannot_take(autojump_clock: MockClock, bad: int) -> None:
    """Outcome: the connection that it came from is over, with a trace in the log; the next one serves."""
    first = HonestUpstream()
    with structlog.testing.capture_logs() as logs:
        async with mining(a=first, b=HonestUpstream(), owner=OwnerThatRaises(bad), up=False) as client:
            await client.owner.wait_for(lambda: len(client.owner.works) == 1)
            client.submit(1)
            await trio.sleep(1)
            if bad:
                await first.call.notify()
            await client.owner.wait_for(lambda: "b.pool.example" in client.owner.all("up"))
            assert [reason for reason, _ in client.owner.all("lost")] == ["internal error"]
    assert [entry["log_level"] for entry in logs].count("error") == 1


async def test_an_upstream_that_chatters_fills_no_log(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    with structlog.testing.capture_logs() as logs:
        async with mining(a=pool):
            for number in range(100):
                await pool.call.tell("client.show_message", f"message {number}")
            await trio.sleep(1)
    assert [entry["event"] for entry in logs].count("upstream_message") == MESSAGES_LOGGED_MAX


async def test_redirections_to_elsewhere_fill_no_log(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    with structlog.testing.capture_logs() as logs:
        async with mining(a=pool):
            for _ in range(100):
                await pool.call.tell("client.reconnect", "elsewhere.test", 3333)
            await trio.sleep(1)
    assert [entry["event"] for entry in logs].count("upstream_reconnect_refused") == MESSAGES_LOGGED_MAX


async def test_an_upstream_that_speaks_without_end_is_left(autojump_clock: MockClock) -> None:
    """Outcome: it is broken, and the next one serves; what it said costs nobody else anything."""
    first, second = HonestUpstream(), HonestUpstream()
    async with mining(a=first, b=second) as client:
        masks = [["1fffe000"], ["0000e000"]] * NOTICES_MAX
        await first.call.say(*({"method": "mining.set_version_mask", "params": mask} for mask in masks))
        await client.owner.wait_for(lambda: "b.pool.example" in client.owner.all("up"))
        ((reason, _),) = client.owner.all("lost")
        assert reason == "says more than 20 things a second that nobody asked for"


async def test_an_upstream_may_say_much_for_long(autojump_clock: MockClock) -> None:
    pool = HonestUpstream()
    async with mining(a=pool) as client:
        for _ in range(600):
            await pool.call.notify()
            await trio.sleep(0.1)
        assert client.owner.all("lost") == []
