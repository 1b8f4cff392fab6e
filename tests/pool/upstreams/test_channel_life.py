"""An upstream channel's shares and its life: forwarded and counted once, connected anew, lost, stopped."""

from typing import Any

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from pool.books.journal.forwarded_shares import Forwarded
from pool.upstreams.channel import ANSWERS_S, CLEAN_GAP_S, LINGER_S, STEADY_S, UpstreamChannel
from stratum.difficulty import target_from_difficulty_log2
from stratum.tallies import Verdict, unpack_tallies
from stratum.upstream.endpoint import UpstreamEndpoint
from stratum.upstream.shares import UNRESOLVED_MAX, NotSent, RejectReason, SubmitVerdict
from tests.stages.routing import NORTH, upstream
from tests.stages.sessions import LEAST_LOG2, MOST_LOG2
from tests.stages.upstream_channel import EVERY_HASH, ORDER_NUMBER, OTHER, ChannelDesk, holding, work_on
from tests.stages.waiting import until_a_thread_has

A_MOMENT = 1e-3


def counted(tallies: bytes) -> dict[Verdict, int]:
    return {it.verdict: it.count for it in unpack_tallies(tallies)}


# Shares


async def test_a_share_is_forwarded_and_counted_when_it_is_answered(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        miner = desk.miner()
        desk.mine(miner)
        (solution,) = desk.solutions
        key = solution.hash_internal + b"\x00"
        noted = Forwarded(
            key=key, worker=1, epoch=1, difficulty_log2=LEAST_LOG2, counted=False, target=EVERY_HASH
        )
        assert desk.submits.collect().noted == (noted,)
        assert desk.stage.tallies() == [], "not in the engine's tallies"
        desk.upstream.answer(SubmitVerdict.REJECTED, RejectReason.STALE)
        changes = desk.submits.collect()
        assert changes.resolved == (key,)
        assert counted(changes.tallies) == {Verdict.UPSTREAM_REJECTED: 1}


@pytest.mark.parametrize("refusal", list(NotSent))
async def test_a_share_that_cannot_be_sent_is_undelivered_once(
    refusal: NotSent, autojump_clock: MockClock
) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        desk.upstream.refuses = refusal
        desk.mine(desk.miner())
        changes = desk.submits.collect()
        assert counted(changes.tallies) == {Verdict.UNDELIVERED: 1}
        assert (changes.noted, changes.upstream) == ((), b"")


async def test_a_share_while_there_is_no_upstream_at_all_is_undelivered(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        desk.mine(desk.miner())
    desk.submits.collect()
    with structlog.testing.capture_logs() as logs:
        desk.it.on_solution(msgspec.structs.replace(desk.solutions[0], hash_internal=bytes(32)))
    assert counted(desk.submits.collect().tallies) == {Verdict.UNDELIVERED: 1}
    (told,) = [it for it in logs if it["event"] == "upstream_block_not_sent"]
    assert told["reason"] == "not_connected"


async def test_a_share_that_the_book_has_no_room_for_is_not_sent(autojump_clock: MockClock) -> None:
    """The next pool could not count it."""
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        miner = desk.miner()
        for number in range(UNRESOLVED_MAX):
            desk.submits.note(
                Forwarded(
                    key=b"%d" % number, worker=1, epoch=1, difficulty_log2=0, counted=False, target=EVERY_HASH
                )
            )
        desk.submits.collect()
        desk.mine(miner)
        assert desk.upstream.sent == []
        changes = desk.submits.collect()
        assert (changes.noted, counted(changes.tallies)) == ((), {Verdict.UNDELIVERED: 1})


async def test_a_share_that_nobody_had_judged_when_the_channel_was_closed_is_undelivered(
    autojump_clock: MockClock,
) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        miner = desk.miner()
        miner.ask("mining.submit", *miner.share())
        miner.leave()
    desk.it.close()
    assert len(desk.solutions) == 1
    assert counted(desk.submits.collect().tallies) == {Verdict.UNDELIVERED: 1}


async def test_a_block_is_told_with_its_finder_when_it_is_on_its_way(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(7, network_target=EVERY_HASH))
        await desk.settled()
        with structlog.testing.capture_logs() as logs:
            desk.mine(desk.miner())
        (told,) = [it for it in logs if it["event"] == "block_found"]
        assert (told["height"], told["worker"], told["forwarded"]) == (7, "worker 1", True)
        assert len(desk.upstream.sent) == 1


async def test_the_same_share_again_is_neither_counted_nor_fatal(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        desk.mine(desk.miner())
        with structlog.testing.capture_logs() as logs:
            desk.it.on_solution(desk.solutions[0])
        assert [it["event"] for it in logs] == ["share_forwarded_already"]
        assert (len(desk.upstream.sent), len(desk.submits)) == (1, 1)
        assert counted(desk.submits.collect().tallies) == {}


async def test_a_block_that_was_late_may_come_again_as_a_good_share(autojump_clock: MockClock) -> None:
    """The engine has counted it as late: of that only the upstream's word is to come."""
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        desk.mine(desk.miner())
        (good,) = desk.solutions
        desk.it.on_solution(msgspec.structs.replace(good, tallied=True))
        assert [key[-1] for key in desk.upstream.sent] == [0, 1]
        desk.submits.collect()
        for _ in range(2):
            desk.upstream.answer(SubmitVerdict.ACCEPTED)
        assert counted(desk.submits.collect().tallies) == {Verdict.ACCEPTED: 1}


async def test_good_shares_of_all_that_was_published_are_undelivered_from_a_loss_on(
    autojump_clock: MockClock,
) -> None:
    """Also those of a channel that was replaced; and not those of what comes afterwards."""
    hard = target_from_difficulty_log2(MOST_LOG2)  # all these shares are for our books alone
    async with holding() as desk:
        desk.upstream.serve(work_on(1, target=hard))
        await trio.sleep(1)
        old = desk.miner(1)
        desk.upstream.go_on(work_on(2, target=hard), split=OTHER)
        await trio.sleep(1)
        new = desk.miner(2)
        desk.upstream.lose(b"1", b"2")
        assert desk.events[-1] == ("lost", "closed by the upstream; 2 shares unanswered")
        desk.mine(old)
        desk.mine(new)
        undelivered = [(1, Verdict.UNDELIVERED), (2, Verdict.UNDELIVERED)]
        assert sorted((it.worker, it.verdict) for it in desk.stage.tallies()) == undelivered
        desk.upstream.serve(work_on(3, connection=2, target=hard), split=OTHER)
        await trio.sleep(1)
        desk.mine(new)
        assert [(it.worker, it.verdict) for it in desk.stage.tallies()] == [(2, Verdict.ACCEPTED)]
        assert desk.solutions == []


# Its life


async def answer(desk: ChannelDesk, after_s: float | None) -> None:
    if after_s is not None:
        upstream_then = desk.upstream
        await trio.sleep(after_s)
        upstream_then.unanswered = 0


WAITS = [(None, ANSWERS_S), (0.3, 0.3), (0.0, 0.0)]


@pytest.mark.parametrize(("answered_s", "stopped_s"), WAITS)
async def test_a_stop_waits_a_moment_for_answers(
    answered_s: float | None,
    stopped_s: float,
    autojump_clock: MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        async with holding() as desk:
            desk.upstream.serve()
            await desk.settled()
            desk.upstream.unanswered = 1
            began_s = trio.current_time()
            nursery.start_soon(answer, desk, answered_s)
        assert trio.current_time() - began_s == pytest.approx(stopped_s, abs=0.02)
    assert desk.events[-1] == ("lost", "disconnected by us")
    assert (desk.it.serving, desk.it.channel.paused) == (False, True)


@pytest.mark.parametrize(("answered_s", "left_s"), WAITS)
async def test_so_does_leaving_for_another_endpoint(
    answered_s: float | None, left_s: float, autojump_clock: MockClock
) -> None:
    async with holding() as desk, trio.open_nursery() as nursery:
        desk.upstream.serve()
        await desk.settled()
        desk.upstream.unanswered = 1
        nursery.start_soon(answer, desk, answered_s)
        desk.follow(upstream(NORTH, suggest_difficulty=1))
        began_s = trio.current_time()
        while desk.it.serving:  # noqa: ASYNC110 - of virtual time
            await trio.sleep(0.005)
        assert trio.current_time() - began_s == pytest.approx(left_s, abs=0.03)
        (await desk.connected(2)).serve(work_on(2, connection=2))
        await trio.sleep(2 * CLEAN_GAP_S)
        assert desk.it.ready


@pytest.mark.parametrize(
    ("change", "connections"),
    [
        ({}, 1),
        ({"fallback_id": 3, "outage_s": 99, "created_by": "ann"}, 1),
        ({"suggest_difficulty": 4096}, 2),
        ({"endpoints": (UpstreamEndpoint(host="b.test", port=3333, user="acme"),)}, 2),
        ({"endpoints": (UpstreamEndpoint(host="north.test", port=3333, user="acme", password="y"),)}, 2),
    ],
)
async def test_it_connects_anew_only_where_it_is_reached_in_another_way(
    change: dict[str, Any],
    connections: int,
    autojump_clock: MockClock,
) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        channel, miner = desk.it.channel, desk.miner()
        desk.follow(upstream(NORTH, **change))
        upstream_now = await desk.connected(connections)
        await desk.settled()
        assert len(desk.upstreams) == connections
        assert upstream_now.settings.suggest_difficulty == change.get("suggest_difficulty")
        assert upstream_now.endpoints == desk.it.record.endpoints
        assert desk.it.serving == (connections == 1)
        upstream_now.serve(work_on(2, connection=2))
        await trio.sleep(1)
        assert desk.it.channel is channel is miner.channel
        assert desk.it.ready


async def test_an_upstream_that_cannot_be_used_waits_until_it_is_another(autojump_clock: MockClock) -> None:
    bad = UpstreamEndpoint(host="a.test", port=3333, user="acme", tls=True, ca_file="/none.pem")
    with structlog.testing.capture_logs() as logs:
        async with holding(endpoints=(bad,)) as desk:
            await until_a_thread_has(lambda: bool(logs))
            assert logs[0]["event"] == "upstream_unusable"
            assert desk.it.status(diverted=False).serving is None
            desk.follow(upstream(NORTH))
            (await desk.connected()).serve()
            await desk.settled()
            assert desk.it.ready


def out_s(it: UpstreamChannel) -> float:
    """For how long it is as good as gone."""
    return trio.current_time() - it.out_since_s


async def test_one_that_comes_and_goes_is_as_good_as_gone(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await trio.sleep(STEADY_S + A_MOMENT)
        desk.upstream.lose()
        assert out_s(desk.it) == 0
        for number in range(2, 6):
            await trio.sleep(1)
            desk.upstream.serve(work_on(number, connection=number))
            await trio.sleep(STEADY_S - 1)
            desk.upstream.lose()
        assert out_s(desk.it) == pytest.approx(4 * STEADY_S)
        await trio.sleep(60)
        desk.upstream.serve(work_on(9, connection=9))
        await trio.sleep(STEADY_S)
        desk.upstream.lose()
        assert out_s(desk.it) == 0


async def test_one_whose_better_endpoint_took_over_a_moment_ago_has_been_up_all_the_time(
    autojump_clock: MockClock,
) -> None:
    """If that is lost at once, its miners wait for the other as long as after any loss."""
    async with holding() as desk:
        desk.upstream.serve()
        await trio.sleep(3600)
        desk.upstream.serve(work_on(2, connection=2))
        assert desk.it.status(diverted=False).since_s == 3600
        await trio.sleep(STEADY_S / 2)
        desk.upstream.lose()
        assert out_s(desk.it) == 0


async def test_one_with_another_split_has_been_up_until_then(autojump_clock: MockClock) -> None:
    """For as long as there is no work for the new channel nobody is sent to the fallback."""
    async with holding() as desk:
        desk.upstream.serve()
        await trio.sleep(3600)
        desk.price = None
        desk.upstream.go_on(work_on(2), split=OTHER)
        assert (desk.it.ready, out_s(desk.it)) == (False, 0)


async def test_work_that_nobody_can_use_any_more_is_forgotten(autojump_clock: MockClock) -> None:
    """Else prefixes that were used on it rest for as long as the upstream is gone."""
    async with holding() as desk:
        desk.upstream.serve()
        await trio.sleep(2 * LINGER_S)
        desk.it.forget_the_old()
        assert desk.it.channel.current is not None, "it serves"
        miner = desk.miner()
        desk.upstream.lose()
        await trio.sleep(LINGER_S + 1)
        desk.it.forget_the_old()
        assert desk.it.channel.current is not None, "somebody may go on from there"
        miner.leave()
        desk.it.forget_the_old()
        assert desk.it.channel.current is None
        desk.upstream.serve(work_on(2, connection=2))
        await desk.settled()
        assert desk.it.ready


async def test_its_status(autojump_clock: MockClock) -> None:
    """With the sessions that are still on a channel that was replaced."""
    async with holding() as desk:
        await trio.sleep(5)
        waiting = desk.it.status(diverted=True)
        assert (waiting.serving, waiting.since_s, waiting.diverted) == (None, 5, True)
        desk.upstream.serve()
        await trio.sleep(7)
        desk.miner(1)
        desk.upstream.go_on(work_on(2), split=OTHER)
        await trio.sleep(1)
        desk.miner(2)
        desk.upstream.unanswered = 3
        status = desk.it.status(diverted=False)
        assert (status.upstream_id, status.order_id) == (NORTH, ORDER_NUMBER)
        assert status.number == desk.it.channel.number
        assert (status.serving, status.since_s) == ("north.test:3333", 8)
        assert (status.sessions, status.unanswered, status.diverted) == (2, 3, False)
