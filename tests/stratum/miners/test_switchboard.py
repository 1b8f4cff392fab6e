"""The switchboard over real sockets: what leaves when, what is counted, who is dropped, and who is not.

Time is virtual where a test needs it to pass; the sockets, the engine and the pump are the real ones.
"""

import errno
import gc
import os
from collections.abc import Callable
from functools import partial

import pytest
import trio
import trio.testing

import stratum.miners.group_commit
import stratum.miners.switchboard
from stratum._engine import Engine
from stratum.job import Solution
from stratum.miners.distribution import ANEW_INTERVAL_S
from stratum.miners.liveness import SessionLimits
from stratum.miners.owner import Owner
from stratum.miners.poller import Poller, SelectorPoller, new_poller
from stratum.miners.switchboard import BoardLimits
from stratum.tallies import Verdict
from tests.fakes.work_sources import SourceThatKeeps, SourceThatTells
from tests.stages.sockets import (
    ALWAYS_A_BLOCK,
    JournalThatFails,
    JournalThatIsSlow,
    MemoryJournal,
    Miner,
    accepted,
    all_of,
    connect,
    encode,
    make_work,
    serving,
    virtual_clock,
)
from tests.stages.waiting import PATIENCE_S, until

SMALL_BUFFER = 4_096  # of a miner's socket, so that little is needed to fill it


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


# Shares and their replies


async def test_reply_leaves_after_the_commit_that_holds_the_share() -> None:
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        share = await miner.submit()
        await until(lambda: journal.started == 1)
        assert await miner.hears_nothing()
        journal.may_pass.release()
        assert accepted(await miner.answer(share))
        assert journal.counted() == 1


async def test_shares_that_come_during_a_commit_are_in_the_next_one_together() -> None:
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(3)]
        first = await miners[0].submit()
        await until(lambda: journal.started == 1)
        later = [(miner, await miner.submit()) for miner in miners for _ in range(5)]
        await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == 16)
        journal.may_pass.release()
        assert accepted(await miners[0].answer(first))
        assert [await miner.hears_nothing() for miner in miners] == [True] * 3, "the second is under way"
        journal.may_pass.release()
        for miner, share in later:
            assert accepted(await miner.answer(share))
        assert [sum(tally.count for tally in commit) for commit in journal.commits] == [1, 15]
        assert len(journal.commits[1]) == 3, "one tally a worker"


async def test_failing_commit_answers_nobody_and_ends_the_board() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="No space left"), flatten_subgroups=True):
        async with serving(journal=JournalThatFails()) as server:
            miner = await (await connect(server.port)).start()
            await miner.submit()
            await trio.sleep_forever()
    assert await miner.line() == b"", "closed, and no word of the share"
    assert not server.board.connections
    await miner.close()


async def test_rejected_share_is_answered_with_its_reason_and_counted() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        assert accepted(await miner.call("mining.submit", *miner.share(7)))
        duplicate = await miner.call("mining.submit", *miner.share(7))
        assert duplicate["error"][0] == 22
        assert (journal.counted(), journal.counted(Verdict.DUPLICATE)) == (1, 1)


async def test_garbage_that_no_worker_is_charged_with_is_no_reason_to_commit() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        stranger = await server.connect()
        await stranger.say(encode(1, "mining.submit", "acme.c01.u1", "1", "00" * 8, "00000000", "00000000"))
        assert (await stranger.answer(1))["error"][0] == 25
        assert journal.commits == []


async def test_solution_leaves_before_the_commit_and_the_reply() -> None:
    order: list[str] = []

    class JournalThatTells(MemoryJournal):
        async def commit(self, tallies: bytes) -> None:
            order.append("commit")
            await super().commit(tallies)

    def tell(solution: Solution) -> None:
        order.append(f"block {solution.job.work.height}")

    work = make_work(7, network_target=ALWAYS_A_BLOCK)
    source = SourceThatTells(tell, SourceThatKeeps())
    async with serving(work, journal=JournalThatTells(), source=source) as server:
        miner = await server.mining()
        assert accepted(await miner.mine())
    assert order == ["block 7", "commit"]


async def test_pump_does_not_read_on_while_too_much_waits_for_a_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stratum.miners.group_commit, "UNCOMMITTED_BYTES_MAX", 2_000)
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        first = await miner.submit()
        await until(lambda: journal.started == 1)
        shares = b"".join(encode(1000 + n, "mining.submit", *miner.share(1000 + n)) for n in range(400))
        await miner.say(shares)
        await trio.testing.wait_all_tasks_blocked(0.05)
        judged = server.engine.totals()[Verdict.ACCEPTED]
        assert judged < 400
        for _ in range(400):
            journal.may_pass.release()
        assert accepted(await miner.answer(first))
        for n in range(400):
            assert accepted(await miner.answer(1000 + n))
        assert journal.counted() == 401


async def test_nothing_is_read_from_when_a_commit_is_durable_until_it_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stratum.miners.group_commit, "HEARS_IN_ROUNDS", 1_000_000)
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miner, other = await server.mining("acme.c01.u1"), await server.mining("acme.c01.u2")
        first = await miner.submit()
        await until(lambda: journal.started == 1)
        journal.durable = True
        second = await other.submit()
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        read = server.engine.totals()[Verdict.ACCEPTED]
        journal.durable = False
        journal.may_pass.release()
        journal.may_pass.release()
        assert accepted(await miner.answer(first))
        assert accepted(await other.answer(second))
        assert read == 1


async def test_a_commit_that_never_hears_that_it_is_durable_keeps_nobody_from_being_read() -> None:
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        first = await miner.submit()
        await until(lambda: journal.started == 1)
        journal.durable = True
        second = await miner.submit()
        await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == 2)
        journal.may_pass.release()
        journal.may_pass.release()
        assert accepted(await miner.answer(first))
        assert accepted(await miner.answer(second))


async def test_what_is_committed_is_answered_before_the_pump_reads_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else as much is read meanwhile, and every commit is as large as the one before it."""
    monkeypatch.setattr(stratum.miners.group_commit, "REPLIES_PER_ROUND", 1)
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server, trio.open_nursery() as nursery:
        miner, other = await server.mining("acme.c01.u1"), await server.mining("acme.c01.u2")
        shares = [await miner.submit()]
        await until(lambda: journal.started == 1)
        shares += [await miner.submit() for _ in range(20)]
        await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == 21)
        journal.may_pass.release()
        await until(lambda: journal.started == 2)
        judged, write_all = list[int](), server.board.commits._write_all

        def noting(replies: list[tuple[Owner, bytes]]) -> None:
            if not judged:
                nursery.start_soon(other.submit)
            judged.append(server.engine.totals()[Verdict.ACCEPTED])
            write_all(replies)

        monkeypatch.setattr(server.board.commits, "_write_all", noting)
        journal.may_pass.release()
        for share in shares:
            assert accepted(await miner.answer(share))
        assert len(judged) > 1, "in as many goes as it had read what it answers"
        assert set(judged) == {21}
        journal.may_pass.release()
        await until(lambda: journal.counted() == 22)


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_shares_sent_just_before_leaving_are_counted(leave: str) -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        miner = await server.mining()
        await miner.submit()
        if leave == "close":
            await miner.close()
            await until(lambda: journal.counted() == 1)
        else:
            await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == 1)
            miner.reset()
        await until(lambda: not server.board.connections)
        assert journal.counted() == 1
        assert server.board.dropped["left"] == 1


async def test_shares_in_front_of_an_offence_are_counted() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal, session_limits=SessionLimits(bad_lines_max=1)) as server:
        miner = await server.mining()
        await miner.say(encode(7, "mining.submit", *miner.share()) + b"nonsense\n")
        await until(lambda: journal.counted() == 1)
        assert server.board.dropped["malformed lines"] == 1


# Jobs


async def test_new_block_reaches_everybody_at_once_with_clean_jobs(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.distribution.PACE_CHUNK", 1)
    async with serving(board_limits=BoardLimits(refresh_spread_s=6.0)) as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(3)]
        first = miners[0].job
        server.publish(make_work(1, refresh=1))  # is on its way to one of them when the block comes
        await trio.testing.wait_all_tasks_blocked()
        published_s = trio.current_time()
        server.publish(make_work(2))
        ids = set()
        for miner in miners:
            while miner.job[1] == first[1]:
                await miner.notified("mining.notify")
            assert miner.job[8] is True
            ids.add(miner.job[0])
        assert trio.current_time() == published_s
        assert len(ids) == 1, "one job for all"
        await trio.sleep(10)
        assert [await miner.hears_nothing() for miner in miners] == [True] * 3, "the refresh is forgotten"


async def test_routine_refresh_is_spread_and_leaves_jobs_valid(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.distribution.PACE_CHUNK", 2)
    async with serving(board_limits=BoardLimits(refresh_spread_s=6.0)) as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(6)]
        shares = [miner.share() for miner in miners]
        published_s = trio.current_time()
        arrivals: list[float] = []

        async def hear(miner: Miner) -> None:
            assert (await miner.notified("mining.notify"))[8] is False
            arrivals.append(round(trio.current_time() - published_s, 3))

        server.publish(make_work(1, refresh=1))
        await all_of([partial(hear, miner) for miner in miners])
        assert arrivals == [0, 0, 2, 2, 4, 4]
        for miner, share in zip(miners, shares, strict=True):
            assert accepted(await miner.call("mining.submit", *share))


async def test_refreshes_in_quick_succession_reach_everybody(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.distribution.PACE_CHUNK", 1)
    async with serving(board_limits=BoardLimits(refresh_spread_s=6.0)) as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(6)]
        for refresh in range(1, 12):  # every second, six times as often as all are served
            server.publish(make_work(1, refresh=refresh))
            await trio.sleep(1)
        await trio.sleep(12)
        newest = server.channel.current
        assert newest is not None
        for miner in miners:
            while miner.job[0] != newest.job_id:
                await miner.notified("mining.notify")


async def test_retarget_is_a_difficulty_and_other_work_on_the_same_block(
    clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        miner = await server.mining()
        other = await server.mining("acme.c01.u2")
        before = miner.job
        old_share = miner.share()
        asked_s = trio.current_time()
        await miner.call("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**-20})
        assert await miner.notified("mining.set_difficulty") == [2.0**-20]
        other_work = await miner.notified("mining.notify")
        assert trio.current_time() - asked_s <= ANEW_INTERVAL_S
        assert other_work[0] != before[0]
        assert other_work[2] != before[2], "a hash of the one is no hash of the other"
        assert [*other_work[1:2], *other_work[3:7]] == [*before[1:2], *before[3:7]]
        assert other_work[8] is False
        assert accepted(await miner.call("mining.submit", *old_share)), "at the difficulty of its own job"
        assert (await miner.mine())["error"][0] == 23
        await trio.sleep(3 * ANEW_INTERVAL_S)
        assert await miner.hears_nothing(), "once is enough"
        assert await other.hears_nothing(), "it concerns nobody else"


async def test_retarget_that_meets_a_new_block_needs_no_other_work(clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        miner = await server.mining()
        await miner.call("mining.configure", ["minimum-difficulty"], {"minimum-difficulty.value": 2.0**-20})
        server.publish(make_work(2))
        assert await miner.notified("mining.set_difficulty") == [2.0**-20]
        assert (await miner.notified("mining.notify"))[8] is True
        await trio.sleep(2 * ANEW_INTERVAL_S)
        assert await miner.hears_nothing()


# The end


async def test_stop_closes_everything_and_keeps_what_was_read() -> None:
    gc.collect()  # what other tests have left open is closed here, and not in the middle
    before = set(os.listdir("/dev/fd"))
    journal = JournalThatIsSlow()
    async with serving(journal=journal) as server:
        miners = [await (await connect(server.port, f"acme.c01.u{n}")).start() for n in range(5)]
        await miners[0].submit()
        await until(lambda: journal.started == 1)
        for miner in miners[1:]:
            await miner.submit()
        await until(lambda: server.engine.totals()[Verdict.ACCEPTED] == 5)
        for _ in range(2):
            journal.may_pass.release()
    assert [sum(tally.count for tally in commit) for commit in journal.commits] == [1, 4]
    assert not server.board.connections
    assert (server.connection_limits.sessions, server.engine.queued()) == (0, 0)
    for miner in miners:
        while await miner.line():
            pass
        await miner.close()
    assert set(os.listdir("/dev/fd")) == before


async def test_connection_that_comes_during_the_stop_is_refused() -> None:
    async with serving() as server:
        miner = await connect(server.port)
        await until(lambda: len(server.board.connections) == 1)
    assert await miner.line() == b""
    await miner.close()
    assert server.connection_limits.enter("192.0.2.1") == "the pool is shutting down"


async def test_kernel_that_cannot_watch_another_socket_costs_that_connection_only() -> None:
    async with serving() as server:
        good = await server.mining("acme.c01.good")
        register = server.board.poller.register

        def refuse(descriptor: int, data: object) -> None:
            raise OSError(errno.ENOSPC, "fs.epoll.max_user_watches")

        server.board.poller.register = refuse  # type: ignore[method-assign]
        refused = await server.connect()
        assert await refused.line() == b""
        server.board.poller.register = register  # type: ignore[method-assign]
        assert server.connection_limits.sessions == 1
        assert accepted(await good.mine())


@pytest.mark.parametrize("poller", [new_poller, lambda engine: SelectorPoller()])
async def test_every_kind_of_poller_serves(
    poller: Callable[[Engine], Poller], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stratum.miners.switchboard, "new_poller", poller)
    async with serving() as server:
        miners = [await server.mining(f"acme.c01.u{n}") for n in range(20)]
        for miner in miners:
            assert accepted(await miner.mine())
        miners[0].reset()
        hesitant = await server.mining("acme.x.y", receive_buffer=SMALL_BUFFER)
        await hesitant.say(b"".join(encode(n, "mining.submit", *hesitant.share(n)) for n in range(3_000)))
        with trio.fail_after(PATIENCE_S):
            for n in range(3_000):
                assert accepted(await hesitant.answer(n))
        assert len(server.board.connections) == 20
