"""Checks on the switchboard: hardly of those who mine as they did before, and of all others in time.

The connections are in memory, and time is virtual; engine, sessions, turns and commits are the real ones.
"""

import pytest
import trio
import trio.testing

from stratum.miners.liveness import SessionLimits
from stratum.miners.session import MinerSession
from stratum.miners.switchboard import REST_S, SHARELESS_S
from stratum.miners.turns.connection_limits import Standing
from stratum.miners.vardiff import STEADY_AIMS
from tests.stages.memory_connections import CHECK_S, PING, MemoryConnection, mining, running, standing_of
from tests.stages.sockets import LoopbackServer
from tests.stages.waiting import until

AIM_S = 6.0
CHECKED_S = CHECK_S + 0.75  # within this, and not at the moment of a check: who is first then is chance


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)  # there is nothing to wait for but time


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a session was."""
    at_s: list[float] = []
    tick = MinerSession.tick

    def noted(session: MinerSession, now_s: float, heard_s: float | None = None) -> bytes:
        at_s.append(now_s)
        return tick(session, now_s, heard_s)

    monkeypatch.setattr(MinerSession, "tick", noted)
    return at_s


async def shares(miner: MemoryConnection, first: int, seconds: float) -> None:
    """One as often as is aimed at."""
    for number in range(round(seconds / AIM_S)):
        miner.say(miner.share(first + number))
        await trio.sleep(AIM_S)


async def steady(server: LoopbackServer) -> MemoryConnection:
    """Vardiff has what it wants of this miner."""
    miner = await mining(server, "192.0.2.1", [])
    await shares(miner, 100, (STEADY_AIMS + 2) * AIM_S)
    return miner


async def just_checked(checked: list[float]) -> None:
    """Whoever mines rests from now on."""
    checked.clear()
    await until(lambda: bool(checked))
    checked.clear()


async def test_who_mines_on_as_it_did_is_looked_at_twice_a_minute(
    clock: trio.testing.MockClock, checked: list[float]
) -> None:
    async with running(aim_s=AIM_S) as server:
        miner = await steady(server)
        checked.clear()
        await shares(miner, 200, 10 * REST_S)
        assert 8 <= len(checked) <= 10
        assert miner.trusted


async def test_who_is_silent_rests_until_it_is_asked_whether_it_lives(
    clock: trio.testing.MockClock, checked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.switchboard.REST_S", 10 * SHARELESS_S)
    limits = SessionLimits(idle_s=400.0, ping_answer_s=1000.0)
    async with running(session_limits=limits, aim_s=AIM_S) as server:
        miner = await steady(server)
        heard, last_s = len(miner.heard), trio.current_time() - AIM_S
        checked.clear()
        await trio.sleep_until(last_s + limits.idle_s - CHECKED_S)
        assert len(checked) <= 2
        assert b"get_version" not in miner.heard[heard:]
        await trio.sleep_until(last_s + limits.idle_s + CHECKED_S)
        assert b"get_version" in miner.heard[heard:]


async def test_who_finds_nothing_for_long_is_told_from_who_mines_in_time(
    clock: trio.testing.MockClock, checked: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratum.miners.switchboard.REST_S", 10 * SHARELESS_S)
    limits = SessionLimits(idle_s=10 * SHARELESS_S)
    async with running(session_limits=limits, aim_s=AIM_S) as server:
        miner = await steady(server)
        last_s = trio.current_time() - AIM_S
        checked.clear()
        await trio.sleep_until(last_s + SHARELESS_S - 0.25)
        assert len(checked) <= 2
        assert standing_of(miner) is Standing.MINING
        await trio.sleep(CHECKED_S)
        assert standing_of(miner) is Standing.IDLE


async def test_whose_share_is_rejected_is_looked_at_with_the_next_check(
    clock: trio.testing.MockClock, checked: list[float]
) -> None:
    async with running(aim_s=AIM_S) as server:
        miner = await steady(server)
        await just_checked(checked)
        miner.say(miner.share(1, job="ffff"))
        await trio.sleep(CHECKED_S)
        assert len(checked) == 1


async def test_who_says_something_is_looked_at_until_it_has_all_its_lines_again(
    clock: trio.testing.MockClock, checked: list[float]
) -> None:
    async with running(aim_s=AIM_S) as server:
        miner = await steady(server)
        lines_left = miner.lines_left
        await just_checked(checked)
        miner.say(PING)
        await trio.sleep(CHECKED_S)
        assert len(checked) == 1
        assert miner.lines_left == lines_left


async def test_who_was_asked_to_go_while_it_rested_goes_in_time(clock: trio.testing.MockClock) -> None:
    limits = SessionLimits(leave_s=7.0)
    async with running(session_limits=limits, aim_s=AIM_S) as server:
        miner = await steady(server)
        server.board.let_go(miner, "drained")
        await trio.sleep(limits.leave_s + CHECKED_S)
        assert server.board.dropped == {"moved": 1}
