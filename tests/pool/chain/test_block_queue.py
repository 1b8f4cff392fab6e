"""Whose turn it is: the newest parent's, one of ours at a time; what is only counted, and the bounds."""

import msgspec
import pytest
import trio
import trio.testing

from payouts.siblings import SiblingKey
from pool.chain.block_queue import PARENTS_MAX, SIBLING_KEYS_MAX, SUBMITTED_MAX, BlockQueue
from stratum.job import Solution
from tests.histories.solving import a_solution

BLOCK = a_solution()


def block(parent: int, number: int = 0, *, height: int | None = None, worker: int = 7) -> Solution:
    """A block of ours on a parent; the queue reads neither its nonce nor its hash."""
    work = msgspec.structs.replace(
        BLOCK.job.work,
        prevhash_internal=parent.to_bytes(32, "little"),
        height=parent if height is None else height,
    )
    job = msgspec.structs.replace(BLOCK.job, work=work)
    return msgspec.structs.replace(BLOCK, job=job, nonce=number, worker=worker)


def queue() -> BlockQueue:
    return BlockQueue(lambda solution: True)


def key(parent: int, worker: int = 7) -> SiblingKey:
    return SiblingKey(f"{parent:064x}", parent, worker, True)


async def next_of(it: BlockQueue) -> Solution | None:
    """Whose turn it is now; None when everybody must wait."""
    with trio.move_on_after(0):
        return await it.get()
    return None


async def test_a_block_on_the_newest_parent_goes_before_thousands_of_older_ones() -> None:
    it = queue()
    for number in range(15_751):
        it.put(block(100 + number % 50, number))
    newest = block(150)
    assert it.put(newest)
    assert await next_of(it) is newest
    assert len(it) <= 50 * SUBMITTED_MAX
    heights = []
    while (solution := await next_of(it)) is not None:
        heights.append(solution.job.work.height)
    assert heights == list(range(149, 99, -1)), "one of each parent, the newest first"


async def test_once_every_node_has_one_of_ours_all_others_on_its_parent_are_a_count() -> None:
    it = queue()
    assert it.put(block(100))
    first = await it.get()
    assert it.put(block(100, 1, worker=8)), "the nodes have not spoken yet"
    assert await next_of(it) is None, "one at a time"
    it.done(first, taken_everywhere=True)
    for number in range(11_700):
        assert not it.put(block(100, 2 + number))
    assert await next_of(it) is None
    assert len(it) == 0
    assert it.collect_siblings() == {key(100, 8): 1, key(100): 11_700}
    assert it.collect_siblings() == {}


async def test_nodes_that_do_not_take_it_get_a_few_others_and_no_more() -> None:
    """As a node under somebody's control does, which calls every block of ours inconclusive."""
    it = queue()
    submitted = 0
    for number in range(100):
        it.put(block(100, number))
        if (solution := await next_of(it)) is not None:
            submitted += 1
            it.done(solution, taken_everywhere=False)
    assert submitted == SUBMITTED_MAX
    assert it.collect_siblings() == {key(100): 100 - SUBMITTED_MAX}


async def test_the_next_on_a_parent_has_its_turn_when_the_nodes_did_not_all_take_the_first() -> None:
    it = queue()
    first, second = block(100), block(100, 1)
    it.put(first)
    assert await it.get() is first
    it.put(second)
    got = []

    async def wait() -> None:
        got.append(await it.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        it.done(first, taken_everywhere=False)
    assert got == [second]


async def test_a_wait_that_is_cancelled_loses_no_block() -> None:
    it = queue()
    assert await next_of(it) is None
    it.put(block(100))
    assert await next_of(it) is not None


async def test_whoever_waits_gets_a_block_on_a_parent_of_its_own() -> None:
    """All but the last who had asked waited for ever: one slow node held up every block behind its first."""
    it, got = queue(), list[int]()

    async def take() -> None:
        got.append((await it.get()).job.work.height)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(take)
        for height in (100, 101, 102):
            await trio.testing.wait_all_tasks_blocked()
            it.put(block(height))
        await trio.testing.wait_all_tasks_blocked()
        assert got == [100, 101, 102], "nobody has told that one of them is done"
        nursery.cancel_scope.cancel()


async def test_parents_are_bounded_and_the_newest_are_kept() -> None:
    it = queue()
    for parent in range(1, 2 * PARENTS_MAX + 1):
        assert it.put(block(parent))
    assert len(it) == PARENTS_MAX
    assert not it.put(block(1)), "older than all that are known"
    assert sum(it.collect_siblings().values()) == PARENTS_MAX + 1
    solution = await it.get()
    assert solution.job.work.height == 2 * PARENTS_MAX
    for parent in range(2 * PARENTS_MAX + 1, 4 * PARENTS_MAX):
        it.put(block(parent))
    it.done(solution, taken_everywhere=True)  # it was forgotten, which is no mistake


async def test_two_parents_of_one_height_are_two() -> None:
    it = queue()
    first, second = block(100, height=100), block(101, height=100)
    it.put(first)
    it.put(second)
    assert [await it.get(), await it.get()] == [second, first]


async def test_counts_are_bounded_by_telling_finders_apart_no_more() -> None:
    it = queue()
    it.put(block(100))
    it.done(await it.get(), taken_everywhere=True)
    for worker in range(1, SIBLING_KEYS_MAX + 101):
        it.put(block(100, worker=worker))
    counts = it.collect_siblings()
    assert len(counts) <= SIBLING_KEYS_MAX + 1
    assert sum(counts.values()) == SIBLING_KEYS_MAX + 100


@pytest.mark.parametrize("given", [0, 1])
async def test_a_stop_takes_all_that_wait_the_newest_first(given: int) -> None:
    it = queue()
    blocks = [block(100, 0), block(100, 1), block(101), block(102)]
    for one in blocks:
        it.put(one)
    for _ in range(given):
        assert await it.get() is blocks.pop()
    assert [one.job.work.height for one in it.drain()] == [102, 101, 100, 100][given:]
    assert len(it) == 0
