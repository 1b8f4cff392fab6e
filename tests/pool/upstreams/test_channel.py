"""A channel on an upstream: what is published, when and at whose price, and what its miners are told."""

from itertools import pairwise

import msgspec
import pytest
import structlog
import trio
from trio.testing import MockClock

from pool.upstreams.channel import (
    CLEAN_GAP_S,
    LINGER_S,
    MASK_GAP_S,
    PRICE_CHECK_S,
    REFRESH_GAP_S,
    REPRICE_S,
)
from stratum.difficulty import DIFF1, target_from_difficulty_log2
from stratum.miners.channel import Moved
from stratum.tallies import Verdict
from stratum.upstream.extranonce_split import ExtranonceNeed, split_extranonce2
from tests.stages.routing import NORTH
from tests.stages.sessions import LEAST_LOG2, MOST_LOG2, words
from tests.stages.upstream_channel import (
    EVERY_HASH,
    ORDER_NUMBER,
    OTHER,
    OUR_HEIGHT,
    OUR_PRICE,
    SAME,
    ChannelDesk,
    holding,
    work_on,
)


def heights(desk: ChannelDesk) -> list[int]:
    return [it.work.height for it in desk.published]


# What is published, and when


async def test_work_is_published_when_it_has_a_price(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.price = None
        desk.upstream.serve(work_on(1))
        await trio.sleep(60)
        assert (desk.published, desk.it.ready, desk.it.channel.paused) == ([], False, True)
        desk.price = OUR_PRICE, OUR_HEIGHT
        await trio.sleep(2 * PRICE_CHECK_S)
        (published,) = desk.published
        assert published.channel is desk.it.channel
        assert desk.changes == 1, "there is work again: who was waiting for it may come"
        assert (published.rate, published.forward_target) == (1, EVERY_HASH)
        assert desk.it.ready
        assert desk.events == [("served", "north.test:3333")]


async def test_the_price_is_our_nodes_in_the_name_of_upstream_and_order(autojump_clock: MockClock) -> None:
    """Whatever the upstream says of its block."""
    async with holding() as desk:
        desk.upstream.serve(work_on(5, nbits=0x207FFFFF))
        await desk.settled()
        named = msgspec.structs.replace(OUR_PRICE, upstream_id=NORTH, order_id=ORDER_NUMBER)
        assert desk.priced == [(named, OUR_HEIGHT)]


async def test_only_the_newest_work_is_published_and_is_as_clean_as_what_it_overtook(
    autojump_clock: MockClock,
) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(1))
        await desk.settled()
        desk.price = None
        for height, clean in ((2, True), (3, False), (4, False)):
            await trio.sleep(2 * REFRESH_GAP_S)
            desk.upstream.owner.on_work(work_on(height), clean)
        await trio.sleep(2 * REFRESH_GAP_S)
        assert heights(desk) == [1]
        desk.price = OUR_PRICE, OUR_HEIGHT
        await trio.sleep(2 * PRICE_CHECK_S)
        desk.upstream.owner.on_work(work_on(5), False)
        await trio.sleep(2 * REFRESH_GAP_S)
        assert heights(desk) == [1, 4, 5]
        assert [(it.clean, it.outdates) for it in desk.published[1:]] == [(True, True), (False, False)]


async def test_nothing_is_published_after_the_upstream_is_lost(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.price = None
        desk.upstream.serve(work_on(1))
        await desk.settled()
        desk.upstream.lose()
        desk.price = OUR_PRICE, OUR_HEIGHT
        await trio.sleep(60)
        assert (desk.published, desk.it.channel.paused) == ([], True)
        desk.upstream.serve(work_on(2, connection=2))
        await desk.settled()
        assert heights(desk) == [2]
        desk.upstream.owner.on_work(work_on(3, connection=2), False)
        desk.upstream.lose()
        await trio.sleep(60)
        assert heights(desk) == [2], "it was waiting for its turn"
        assert not desk.it.ready


@pytest.mark.parametrize(("clean", "gap_s"), [(True, CLEAN_GAP_S), (False, REFRESH_GAP_S)])
async def test_a_flood_of_jobs_is_thinned_out(clean: bool, gap_s: float, autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(0))
        await desk.settled()
        for number in range(1, 1_001):
            desk.upstream.owner.on_work(work_on(number), clean)
            await trio.sleep(gap_s / 100)
        await trio.sleep(gap_s)
        assert len(desk.published) == pytest.approx(11, abs=1)
        assert heights(desk)[-1] == 1_000
        times = [it.at_s for it in desk.published]
        assert min(after - before for before, after in pairwise(times)) >= gap_s - 1e-9


async def test_a_clean_job_does_not_wait_behind_a_refresh(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(1))
        await desk.settled()
        desk.upstream.owner.on_work(work_on(1, refresh=1), False)
        await trio.sleep(2 * CLEAN_GAP_S)
        assert heights(desk) == [1]
        desk.upstream.owner.on_work(work_on(2), True)
        await desk.settled()
        assert heights(desk) == [1, 2]
        await trio.sleep(60)
        assert heights(desk) == [1, 2]


async def test_work_waits_for_a_price_and_is_published_then(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.price = None
        with structlog.testing.capture_logs() as logs:
            desk.upstream.serve(work_on(1))
            await trio.sleep(600)
        assert [it["event"] for it in logs] == ["upstream_work_waits"], "once"
        assert not desk.it.ready
        desk.upstream.owner.on_work(work_on(2), False)
        desk.price = OUR_PRICE, OUR_HEIGHT
        await trio.sleep(2 * PRICE_CHECK_S)
        assert heights(desk) == [2]
        assert desk.it.ready


async def test_what_waited_for_a_price_and_was_lost_meanwhile_is_forgotten(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.price = None
        desk.upstream.serve(work_on(1))
        await trio.sleep(10)
        desk.upstream.lose()
        desk.price = OUR_PRICE, OUR_HEIGHT
        await trio.sleep(10)
        assert (desk.published, desk.priced) == ([], [])


@pytest.mark.parametrize(
    ("claimed", "target", "network_target"),
    [(1 << 200, 1 << 220, 1 << 200), (1 << 240, 1 << 220, 1 << 220), (EVERY_HASH, 1 << 180, 1 << 180)],
)
async def test_only_what_is_a_share_to_the_upstream_is_looked_at_as_a_block(
    claimed: int, target: int, network_target: int, autojump_clock: MockClock
) -> None:
    """A job that claims the easiest nBits must not have every share handed out."""
    async with holding() as desk:
        desk.upstream.serve(work_on(1, target=target, network_target=claimed))
        await desk.settled()
        assert desk.published[0].work.network_target == network_target
        assert desk.published[0].forward_target == target


async def test_only_clean_work_of_the_same_connection_outdates_what_was_before(
    autojump_clock: MockClock,
) -> None:
    """Shares of another connection's work may still find their way: the upstream is asked."""
    async with holding() as desk:
        desk.upstream.serve(work_on(1, connection=1))
        await trio.sleep(2)
        for height, connection, clean in ((2, 1, False), (3, 1, True), (4, 2, False), (5, 2, True)):
            desk.upstream.owner.on_work(work_on(height, connection=connection), clean)
            await trio.sleep(2)
        assert desk.changes == 1
        assert [(it.work.height, it.clean, it.outdates) for it in desk.published] == [
            (1, True, False),
            (2, False, False),
            (3, True, True),
            (4, True, False),
            (5, True, True),
        ]


# What miners are told of it


@pytest.mark.parametrize(
    ("target", "most_log2"),
    [
        (target_from_difficulty_log2(-20), -20),
        (target_from_difficulty_log2(-20) - 1, -20),  # a little harder than that
        (target_from_difficulty_log2(-20) + 1, -21),
        (EVERY_HASH, LEAST_LOG2),
        (DIFF1, MOST_LOG2),
        (1, MOST_LOG2),
        (0, MOST_LOG2),
    ],
)
async def test_no_miner_has_a_higher_difficulty_than_the_upstream(
    target: int, most_log2: int, autojump_clock: MockClock
) -> None:
    async with holding() as desk:
        desk.upstream.owner.on_target(target)
        policy = desk.it.channel.vardiff
        assert policy is not None
        assert (policy.difficulty_log2_min, policy.difficulty_log2_max) == (LEAST_LOG2, most_log2)


async def test_it_is_never_below_our_own_least(autojump_clock: MockClock) -> None:
    """An upstream that asks for every hash must not have us drown in shares."""
    async with holding(least_log2=-24) as desk:
        desk.upstream.owner.on_target(EVERY_HASH)
        assert desk.it.channel.vardiff is not None
        assert desk.it.channel.vardiff.difficulty_log2_max == -24


async def test_who_mines_has_the_new_difficulty_with_the_next_job(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(1, target=target_from_difficulty_log2(-28)))
        await desk.settled()
        miner = desk.miner()
        assert miner.difficulty == 2.0**-28
        miner.hear()
        desk.upstream.owner.on_target(target_from_difficulty_log2(-30))
        assert miner.hear() == []
        await trio.sleep(REFRESH_GAP_S)
        desk.upstream.owner.on_work(work_on(2, target=target_from_difficulty_log2(-30)), True)
        await desk.settled()
        assert words(miner.hear()) == "set_difficulty notify"
        assert miner.difficulty == 2.0**-30


async def test_work_on_a_block_that_is_forgotten_is_refused(autojump_clock: MockClock) -> None:
    """What was credited on it could be sent, and credited, once more."""
    async with holding() as desk:
        desk.upstream.serve(work_on(5))
        for height in (6, 7):
            await trio.sleep(60)
            desk.it.on_work(work_on(height), True)
        await trio.sleep(60)
        with structlog.testing.capture_logs() as logs:
            desk.it.on_work(work_on(5), True)
            await trio.sleep(60)
        assert heights(desk) == [5, 6, 7]
        assert [it["event"] for it in logs].count("upstream_work_refused") == 1
        desk.it.on_work(work_on(6), True)  # the one before: it is still known what was credited on it
        desk.it.on_work(work_on(8), True)
        await trio.sleep(60)
        assert heights(desk) == [5, 6, 7, 8]


async def test_another_mask_holds_at_once(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        rolling, plain = desk.miner(1, rolling=True), desk.miner(2)
        rolling.hear(), plain.hear()
        desk.upstream.owner.on_mask(0x0000E000)
        await desk.settled()
        assert [it["params"] for it in rolling.hear()] == [["0000e000"]]
        assert plain.hear() == []
        assert desk.it.channel.version_mask == 0x0000E000


async def test_masks_that_change_without_end_are_told_once_in_a_while(autojump_clock: MockClock) -> None:
    """Each is a line to every miner, and all of our time where there are many. The last one holds."""
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        rolling = desk.miner(1, rolling=True)
        rolling.hear()
        for number in range(1000):
            desk.upstream.owner.on_mask(0xE000 if number % 2 else 0x6000)
            await desk.settled()
        assert [it["params"] for it in rolling.hear()] == [["00006000"]]
        await trio.sleep(2 * MASK_GAP_S)
        assert [it["params"] for it in rolling.hear()] == [["0000e000"]]


# The price


async def test_an_upstream_that_sends_no_other_job_does_not_keep_an_old_price(
    autojump_clock: MockClock,
) -> None:
    """It may belong to who is paid by it, and a halving halves what a share is worth."""
    async with holding() as desk:
        desk.upstream.serve(work_on(11))
        await trio.sleep(10 * REPRICE_S)
        assert [it.rate for it in desk.published] == [1]
        miner = desk.miner()
        miner.hear()
        old = miner.job
        halved = msgspec.structs.replace(OUR_PRICE, subsidy_sat=OUR_PRICE.subsidy_sat // 2)
        desk.price = (halved, OUR_HEIGHT + 1)
        await trio.sleep(2 * REPRICE_S)
        before, after = desk.published
        assert (after.rate, after.outdates) == (2, True)
        assert desk.priced[-1][0].subsidy_sat == halved.subsidy_sat
        assert after.work.ntime > before.work.ntime, "nobody finds the same shares again"
        assert msgspec.structs.replace(after.work, ntime=before.work.ntime) == before.work
        miner.hear()
        miner.ask("mining.submit", *miner.share(job=old))
        desk.board.judge()
        assert desk.stage.engine.totals()[Verdict.STALE] == 1


async def test_a_new_price_does_not_wake_an_upstream_that_is_gone(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(11))
        await desk.settled()
        desk.upstream.lose()
        desk.price = (msgspec.structs.replace(OUR_PRICE, subsidy_sat=1), OUR_HEIGHT + 1)
        await trio.sleep(2 * REPRICE_S)
        assert (len(desk.published), desk.it.channel.paused) == (1, True)


# Another split of extranonces


async def test_another_split_is_another_channel_and_sessions_can_come_there(
    autojump_clock: MockClock,
) -> None:
    async with holding() as desk:
        desk.upstream.serve(work_on(1, target=target_from_difficulty_log2(-28)))
        await trio.sleep(1)
        before, miner = desk.it.channel, desk.miner(subscribed=True)
        desk.upstream.owner.on_mask(0xE000)
        desk.upstream.go_on(work_on(2), split=OTHER)
        after = desk.it.channel
        assert (desk.changes, desk.it.channels) == (2, (after, before))
        assert (before.paused, after.paused, desk.it.ready) == (True, True, False)
        await desk.settled()
        assert (desk.it.ready, before.paused) == (True, True)
        assert desk.changes == 3
        assert desk.published[-1].channel is after
        assert (after.extranonces.size, after.extranonce2_size) == (2, 4)
        assert (after.version_mask, after.vardiff) == (0xE000, before.vardiff)
        assert desk.board.distribution.move(miner.assignment, after) is Moved.EXTRANONCE


async def test_a_channel_that_was_replaced_is_closed_when_everybody_has_left_it(
    autojump_clock: MockClock,
) -> None:
    """And not before late shares are in."""
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        before, miner = desk.it.channel, desk.miner(subscribed=True)
        desk.upstream.go_on(work_on(2), split=OTHER)
        await trio.sleep(2 * LINGER_S)
        desk.it.forget_the_old()
        assert before in desk.board.distribution.channels
        desk.board.distribution.move(miner.assignment, desk.it.channel)
        desk.it.forget_the_old()
        assert before not in desk.board.distribution.channels
        assert desk.it.channels == (desk.it.channel,)
        miner.leave()
        desk.upstream.go_on(work_on(3), split=SAME)
        await trio.sleep(LINGER_S - 1)
        desk.it.forget_the_old()
        assert len(desk.it.channels) == 2
        await trio.sleep(1)
        desk.it.forget_the_old()
        assert len(desk.it.channels) == 1


async def test_a_split_that_comes_back_is_the_same_channel(autojump_clock: MockClock) -> None:
    """One that goes to and fro without end must not use up the engine's channels, which others need."""
    splits = [split_extranonce2(size, ExtranonceNeed(miner_bytes_wanted=8)) for size in range(4, 33)]
    async with holding() as desk:
        desk.upstream.serve()
        await desk.settled()
        first = desk.it.channel
        for number in range(5_000):
            desk.upstream.go_on(work_on(number), split=splits[number % len(splits)])
        shapes = {(split.prefix_bytes, split.miner_bytes) for split in splits}
        assert len(desk.it.channels) == len(desk.board.distribution.channels) - 1 == len(shapes) < 10
        assert first in desk.it.channels
        desk.upstream.go_on(work_on(5_000), split=SAME)
        assert desk.it.channel is first
        assert not desk.it.ready, "its work was other work"
        await trio.sleep(2 * CLEAN_GAP_S)
        assert desk.it.ready
        assert [it.paused for it in desk.it.channels] == [False] + [True] * (len(shapes) - 1)


async def test_close_takes_all_its_channels_away(autojump_clock: MockClock) -> None:
    async with holding() as desk:
        desk.upstream.serve()
        desk.upstream.go_on(work_on(2), split=OTHER)
    desk.it.close()
    assert desk.board.distribution.channels == (desk.stage.channel,)
