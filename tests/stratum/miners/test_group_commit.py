"""When a commit begins: how many answers it waits for, and how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from stratum._engine import Engine
from stratum.miners.group_commit import COMMIT_REPLIES, GroupCommit
from stratum.miners.owner import Owner
from tests.stages.sockets import MemoryJournal, virtual_clock

INTERVAL_S = 0.02


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return virtual_clock()


class Pool:
    """A group commit to which answers are given as to that of a pool."""

    def __init__(self) -> None:
        self.answered: list[tuple[int, float]] = []  # how many, and when
        self.commits = GroupCommit(
            Engine(),
            MemoryJournal(),
            judge=lambda: None,
            write_all=self._write_all,
            on_uncharged=lambda _: None,
            interval_s=INTERVAL_S,
        )

    def _write_all(self, replies: list[tuple[Owner, bytes]]) -> None:
        if replies:
            self.answered.append((len(replies), trio.current_time()))

    async def judged(self, shares: int) -> None:
        """So many more wait, and whatever begins for them has begun."""
        self.commits.soon()
        self.commits.add([(object(), b"{}")] * shares)  # type: ignore[list-item]
        await trio.testing.wait_all_tasks_blocked()


@asynccontextmanager
async def a_pool() -> AsyncIterator[Pool]:
    """Its first commit was long ago."""
    async with trio.open_nursery() as nursery:
        pool = Pool()
        nursery.start_soon(pool.commits.run)
        await trio.sleep(1.0)
        yield pool
        nursery.cancel_scope.cancel()


async def test_an_idle_pool_answers_at_once(clock: trio.testing.MockClock) -> None:
    async with a_pool() as pool:
        now_s = trio.current_time()
        await pool.judged(1)
        assert pool.answered == [(1, now_s)]


async def test_shares_wait_until_there_are_enough(clock: trio.testing.MockClock) -> None:
    async with a_pool() as pool:
        now_s = trio.current_time()
        await pool.judged(1)
        await pool.judged(COMMIT_REPLIES - 1)
        assert pool.answered == [(1, now_s)]
        await pool.judged(1)
        assert pool.answered == [(1, now_s), (COMMIT_REPLIES, now_s)]


async def test_shares_wait_no_longer_than_an_interval_behind_the_commit_before(
    clock: trio.testing.MockClock,
) -> None:
    async with a_pool() as pool:
        now_s = trio.current_time()
        await pool.judged(1)
        await trio.sleep(INTERVAL_S / 2)
        await pool.judged(COMMIT_REPLIES - 1)
        await trio.sleep(INTERVAL_S)
        assert pool.answered == [(1, now_s), (COMMIT_REPLIES - 1, pytest.approx(now_s + INTERVAL_S))]
