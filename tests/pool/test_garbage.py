"""Full collections of garbage, which stop everybody: not by Python's rule, and never left out for good."""

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing

from pool.garbage import EVERY_S, GROWTH_BYTES_MAX, LOOK_S, NEVER, collect_rarely, resident_bytes


@pytest.fixture
def clock() -> trio.testing.MockClock:
    return trio.testing.MockClock(autojump_threshold=0)  # no thread works meanwhile


class Process:
    """Grows when it is told to, and notes when it was looked through."""

    def __init__(self) -> None:
        self.size_bytes = 300 << 20
        self.collected_s: list[float] = []

    def collect(self) -> None:
        self.collected_s.append(trio.current_time())


@asynccontextmanager
async def looked_after() -> AsyncIterator[Process]:
    process = Process()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            partial(collect_rarely, resident=lambda: process.size_bytes, collect=process.collect)
        )
        await trio.testing.wait_all_tasks_blocked()
        yield process
        nursery.cancel_scope.cancel()


async def test_old_objects_are_not_looked_through_whenever_there_are_more(
    clock: trio.testing.MockClock,
) -> None:
    before = gc.get_threshold()
    async with looked_after() as process:
        assert gc.get_threshold() == (*before[:2], NEVER)
        for _ in range(10):  # a site arrives
            process.size_bytes += GROWTH_BYTES_MAX // 10
            await trio.sleep(LOOK_S)
        assert not process.collected_s
    assert gc.get_threshold() == before


async def test_a_process_that_has_grown_is_looked_through_once_for_each_step(
    clock: trio.testing.MockClock,
) -> None:
    async with looked_after() as process:
        for step in range(1, 4):  # whatever it is that grows
            process.size_bytes += GROWTH_BYTES_MAX + 1
            await trio.sleep(10 * LOOK_S)
            assert len(process.collected_s) == step


async def test_it_is_looked_through_every_few_hours_all_the_same(clock: trio.testing.MockClock) -> None:
    async with looked_after() as process:
        since_s = trio.current_time()
        await trio.sleep(3 * EVERY_S + 4 * LOOK_S)
        assert [round((at - since_s) / EVERY_S) for at in process.collected_s] == [1, 2, 3]


def test_the_size_of_a_process_is_what_it_holds() -> None:
    before = resident_bytes()
    held = bytearray(64 << 20)
    assert resident_bytes() - before > len(held) // 2
