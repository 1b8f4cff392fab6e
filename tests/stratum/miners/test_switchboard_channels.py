"""Several channels on one switchboard, over real sockets: who is told what and when, moves, and their end."""

import pytest
import trio
import trio.testing

from stratum.miners.channel import Channel, Moved
from stratum.miners.distribution import ANEW_INTERVAL_S, JOB_INTERVAL_S
from stratum.miners.switchboard import BoardLimits
from stratum.tallies import Verdict
from tests.stages.sockets import (
    ALWAYS_A_BLOCK,
    LoopbackServer,
    MemoryJournal,
    Miner,
    accepted,
    make_work,
    pass_in_silence,
    serving,
    virtual_clock,
)
from tests.stages.waiting import until

SPREAD_S = 4.0


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


async def mining_on(
    server: LoopbackServer, channel: Channel, worker: str, *, subscribed: bool = False
) -> Miner:
    """A miner whose place that is, with a job of it."""
    server.admission.channels[worker] = channel
    miner = await server.connect(worker)
    if subscribed:
        await miner.call("mining.extranonce.subscribe")
    return await miner.start()


def a_twin(server: LoopbackServer, number: int = 2) -> Channel:
    """Another channel, with work, where miners come with the extranonces that they have."""
    channel = server.add_channel(number, like=server.channel)
    server.publish(make_work(number * 100), channel)
    return channel


# Jobs


async def test_a_job_is_for_the_miners_of_its_channel(clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        twin = a_twin(server)
        own, other = await server.mining(), await mining_on(server, twin, "acme.c01.u2")
        server.publish(make_work(201), twin)
        assert (await other.notified("mining.notify"))[8] is True
        assert await own.hears_nothing()
        server.publish(make_work(2))
        assert (await own.notified("mining.notify"))[8] is True
        assert await other.hears_nothing()


async def test_routine_refreshes_of_channels_do_not_wait_for_each_other(
    clock: trio.testing.MockClock,
) -> None:
    async with serving(board_limits=BoardLimits(refresh_spread_s=SPREAD_S)) as server:
        twins = [a_twin(server, number) for number in (2, 3)]
        own = await server.mining()
        others = [await mining_on(server, it, f"acme.c01.u{it.number}") for it in twins]
        for channel, height in zip((server.channel, *twins), (1, 200, 300), strict=True):
            server.publish(make_work(height, refresh=1), channel)
        with trio.fail_after(2 * SPREAD_S):
            jobs = [await miner.notified("mining.notify") for miner in (own, *others)]
        assert [job[8] for job in jobs] == [False] * 3
        assert [it.current is not None and it.current.job_id for it in (server.channel, *twins)] == [
            job[0] for job in jobs
        ]


async def test_each_channel_repeats_its_own_job_to_who_would_give_up(clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        twin = a_twin(server)
        other = await mining_on(server, twin, "acme.c01.u2")
        first = other.job
        await pass_in_silence(clock, JOB_INTERVAL_S - 5)
        server.publish(make_work(2))
        with trio.fail_after(20):
            repeated = await other.notified("mining.notify")
        assert [repeated[1], *repeated[3:5]] == [first[1], *first[3:5]]
        assert int(repeated[0], 16) > int(first[0], 16)


async def test_a_paused_channel_has_no_aliases_and_tells_nobody_anything(
    clock: trio.testing.MockClock,
) -> None:
    async with serving() as server:
        twin = a_twin(server)
        other = await mining_on(server, twin, "acme.c01.u2")
        before = twin.current
        twin.paused = True
        (session,) = twin.sessions
        session.bounds_changed()
        twin.waiting.add(session)
        await pass_in_silence(clock, 3 * JOB_INTERVAL_S)
        assert twin.current is before
        assert await other.hears_nothing()
        twin.paused = False
        server.publish(make_work(201), twin)
        await other.notified("mining.notify")


async def test_a_refresh_that_is_under_way_stops_when_its_channel_is_paused(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.distribution.PACE_CHUNK", 1)
    async with serving(board_limits=BoardLimits(refresh_spread_s=SPREAD_S)) as server:
        twin = a_twin(server)
        miners = [await mining_on(server, twin, f"acme.c01.u{number}") for number in range(4)]
        server.publish(make_work(200, refresh=1), twin)
        await trio.sleep(SPREAD_S / 2 - 0.5)
        twin.paused = True
        await trio.sleep(2 * SPREAD_S)
        assert sorted([await miner.hears_nothing() for miner in miners]) == [False, False, True, True]


# Moves


async def test_a_move_between_twins_is_a_clean_job_within_seconds(clock: trio.testing.MockClock) -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        twin = a_twin(server)
        miner = await server.mining()
        late = miner.share()
        (session,) = server.channel.sessions
        assert server.board.distribution.move(session, twin) is Moved.JOB
        with trio.fail_after(2 * ANEW_INTERVAL_S):
            job = await miner.notified("mining.notify")
        assert job[8] is True
        assert miner.notices[-2]["method"] == "mining.set_difficulty"
        assert accepted(await miner.call("mining.submit", *late))
        assert accepted(await miner.mine())
        assert (await miner.call("mining.submit", *late))["error"][0] == 22
        assert server.board.distribution.moved == {Moved.JOB: 1}
        rates = sorted((it.rate, it.verdict) for commit in journal.commits for it in commit)
        assert rates == [(1, Verdict.ACCEPTED), (1, Verdict.DUPLICATE), (2, Verdict.ACCEPTED)]


async def test_a_move_in_the_middle_of_a_refresh_is_not_lost(
    clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former channel's refresh does not reach it any more, and its next job is the new channel's."""
    monkeypatch.setattr("stratum.miners.distribution.PACE_CHUNK", 1)
    async with serving(board_limits=BoardLimits(refresh_spread_s=SPREAD_S)) as server:
        twin = a_twin(server)
        miners = {f"acme.c01.u{number}": await server.mining(f"acme.c01.u{number}") for number in range(4)}
        server.publish(make_work(1, refresh=1))
        await trio.sleep(SPREAD_S / 4 + 0.5)
        current = server.channel.current
        assert current is not None
        late = [session for session in server.channel.sessions if session.sent_seq < current.seq]
        assert late
        for session in late:
            server.board.distribution.move(session, twin)
        await trio.sleep(2 * SPREAD_S)
        names = {number: name for name, number in server.admission.numbers.items()}
        for session in late:
            miner = miners[names[session.workers[0]]]
            job = await miner.notified("mining.notify")
            assert twin.current is not None
            assert (job[0], job[8]) == (twin.current.job_id, True)
            assert await miner.hears_nothing()


async def test_who_cannot_be_told_is_sent_away_counted_and_dropped(clock: trio.testing.MockClock) -> None:
    async with serving() as server:
        other = server.add_channel(2, 2, 4)
        server.publish(make_work(200), other)
        miner = await server.mining()
        (session,) = server.channel.sessions
        assert server.board.distribution.move(session, other) is Moved.RECONNECT
        assert await miner.notified("client.reconnect") == []
        assert accepted(await miner.mine())
        await trio.sleep(server.services.limits.leave_s + 6.0)
        assert await miner.line() == b""
        assert server.board.dropped["moved"] == 1
        assert server.board.distribution.moved == {Moved.RECONNECT: 1}
        assert (len(server.channel.extranonces), len(other.extranonces)) == (0, 0)


async def test_a_move_to_where_there_is_no_room_is_none() -> None:
    async with serving() as server:
        other = server.add_channel(2, 2, 4)
        other.extranonces.capacity = 0
        await mining_on(server, server.channel, "acme.c01.u1", subscribed=True)
        (session,) = server.channel.sessions
        assert server.board.distribution.move(session, other) is None
        assert session.channel is server.channel
        assert not server.board.distribution.moved


# The end of a channel


async def test_who_mines_a_channel_is_dropped_and_nobody_else() -> None:
    async with serving() as server:
        twin = a_twin(server)
        own, other = await server.mining(), await mining_on(server, twin, "acme.c01.u2")
        server.board.drop_channel(twin, "sold out")
        assert await other.line() == b""
        assert accepted(await own.mine())
        assert server.board.dropped == {"sold out": 1}
        assert (len(twin.sessions), len(server.channel.sessions)) == (0, 1)


async def test_shares_of_a_channel_that_is_gone_are_of_unknown_jobs() -> None:
    async with serving() as server:
        twin = a_twin(server)
        miner = await mining_on(server, twin, "acme.c01.u1")
        late = miner.share()
        (session,) = twin.sessions
        server.board.distribution.move(session, server.channel)
        await miner.notified("mining.notify")
        server.board.remove_channel(twin)
        assert (await miner.call("mining.submit", *late))["error"][0] == 21
        assert accepted(await miner.mine())
        assert server.board.distribution.channels == (server.channel,)
        assert twin not in server.channel.extranonces.sharers


async def test_who_is_still_shaking_hands_does_not_come_to_a_channel_that_is_gone() -> None:
    """It has been given extranonces there, and would wait for a job for ever."""
    async with serving() as server:
        twin = a_twin(server)
        miner, other = await server.connect(), await mining_on(server, twin, "acme.c01.u2")
        assert (await miner.call("mining.subscribe", "test/1"))["error"] is None
        server.board.remove_channel(server.channel)
        assert await miner.line() == b""
        assert accepted(await other.mine())
        assert server.board.dropped == {"its work is over": 1}


async def test_who_has_said_a_name_and_no_more_does_not_come_to_a_channel_that_is_gone() -> None:
    """It was to be given extranonces there. Whoever mines elsewhere by now, and was to at first, stays."""
    async with serving() as server:
        twin = a_twin(server)
        server.admission.channels["acme.c01.u1"] = twin
        miner, other = await server.connect(), await mining_on(server, twin, "acme.c01.u2")
        assert (await miner.call("mining.authorize", "acme.c01.u1", "x"))["result"] is True
        (session,) = twin.sessions
        server.board.distribution.move(session, server.channel)
        await other.notified("mining.notify")
        server.board.remove_channel(twin)
        assert await miner.line() == b""
        assert accepted(await other.mine())
        assert server.board.dropped == {"its work is over": 1}


async def test_a_solution_finds_the_work_of_its_channel() -> None:
    async with serving() as server:
        twin = server.add_channel(2, like=server.channel)
        server.publish(make_work(200, network_target=ALWAYS_A_BLOCK), twin)
        miner = await mining_on(server, twin, "acme.c01.u1")
        share = miner.share()
        (session,) = twin.sessions
        server.board.distribution.move(session, server.channel)
        await miner.notified("mining.notify")
        assert accepted(await miner.call("mining.submit", *share))
        (solution,) = server.solutions
        assert (solution.job.channel, solution.job.work.height) == (2, 200)


# Version masks


async def test_a_mask_is_told_to_the_miners_of_its_channel() -> None:
    async with serving() as server:
        twin = a_twin(server)
        miners = []
        for channel in (server.channel, twin):
            worker = f"acme.c01.u{channel.number}"
            server.admission.channels[worker] = channel
            miner = await server.connect(worker)
            await miner.call("mining.configure", ["version-rolling"], {"version-rolling.mask": "1fffe000"})
            miners.append(await miner.start())
        twin.version_mask = 0x00C00000
        server.board.distribution.mask_changed(twin)
        assert await miners[1].notified("mining.set_version_mask") == ["00c00000"]
        assert await miners[0].hears_nothing()


# The journal


async def test_the_journal_is_asked_to_commit_without_a_share() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal) as server:
        server.board.commits.soon()
        await until(lambda: len(journal.commits) == 1)
        assert journal.commits == [[]]
        await trio.testing.wait_all_tasks_blocked()
        assert len(journal.commits) == 1, "once"


async def test_what_is_owed_during_a_commit_is_in_the_next_one() -> None:
    class JournalThatOwesMore(MemoryJournal):
        async def commit(self, tallies: bytes) -> None:
            if not self.commits:
                server.board.commits.soon()
            await super().commit(tallies)

    journal = JournalThatOwesMore()
    async with serving(journal=journal) as server:
        server.board.commits.soon()
        await until(lambda: len(journal.commits) == 2)


async def test_what_is_owed_at_the_end_is_committed() -> None:
    journal = MemoryJournal()
    async with serving(journal=journal, board_limits=BoardLimits(commit_interval_s=3600.0)) as server:
        server.board.commits.soon()
        await until(lambda: len(journal.commits) == 1)
        server.board.commits.soon()
    assert len(journal.commits) == 2
