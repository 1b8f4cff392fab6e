"""Blocks of ours on their way to the nodes: the newest parent first, and one on a parent at a time.

Only one block can follow another. While one of ours is on its way, others on its parent wait, a few; once
every node has taken it, they are siblings: worth nothing, counted and forgotten. So a miner that finds blocks
at will (on a test chain) costs an entry in a dictionary, and never the block on the newest parent its turn.

    solution --put--> waiting --get--> on its way --done--> taken, or the turn of the next on its parent
                \\-- one too many, or taken --> a sibling

Invariants: what is held is bounded by parents and by the blocks of each. A block is given out once.
Must not know: nodes, what a block is made of, what is written about it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
import trio

from payouts.siblings import SiblingKey
from stratum.job import Solution

# On one parent: nodes that do not take three different blocks do not take a fourth.
SUBMITTED_MAX: Final = 3
# Of which something is known. Without nodes there are no new parents, so that real networks fill one or two;
# and a block that is a hundred behind will not be in the chain.
PARENTS_MAX: Final = 100
# Counts that wait to be written down, half a minute's; when there are more, finders are not told apart.
SIBLING_KEYS_MAX: Final = 10_000


class _Parent(msgspec.Struct, kw_only=True):
    """What there is of ours on one block."""

    height: int  # of the blocks that follow it
    order: int  # in which parents came
    waiting: deque[Solution]
    submitted: int = 0
    on_its_way: bool = False
    taken: bool = False  # every node has taken one of ours

    @property
    def rank(self) -> tuple[int, int]:
        """The newest has the highest."""
        return self.height, self.order


class BlockQueue:
    """`pays_pool`: whether a block's coinbase pays the pool. Who gets a block tells when it is `done`."""

    def __init__(self, pays_pool: Callable[[Solution], bool]) -> None:
        self._pays_pool = pays_pool
        self._parents: dict[bytes, _Parent] = {}
        self._came = 0
        self._ready = trio.Event()
        self._siblings: dict[SiblingKey, int] = {}

    def __len__(self) -> int:
        """Blocks that wait."""
        return sum(len(parent.waiting) for parent in self._parents.values())

    def put(self, solution: Solution) -> bool:
        """Whether the block has its turn now or later; else it was counted as a sibling."""
        parent = self._parents.get(solution.job.work.prevhash_internal) or self._came_up(solution)
        if parent is None or parent.taken or parent.submitted + len(parent.waiting) >= SUBMITTED_MAX:
            self._count(solution)
            return False
        parent.waiting.append(solution)
        self._ready.set()
        return True

    async def get(self) -> Solution:
        """The next block to submit."""
        while True:
            ready = [it for it in self._parents.values() if it.waiting and not it.on_its_way]
            if ready:
                break
            if self._ready.is_set():  # a new one each time would leave all who wait but the last behind
                self._ready = trio.Event()
            await self._ready.wait()
        parent = max(ready, key=lambda it: it.rank)
        parent.on_its_way = True
        parent.submitted += 1
        return parent.waiting.popleft()

    def done(self, solution: Solution, *, taken_everywhere: bool) -> None:
        """The nodes have spoken about a block. Those that waited for that may be siblings now."""
        parent = self._parents.get(solution.job.work.prevhash_internal)
        if parent is None:
            return  # it was forgotten for others
        parent.on_its_way = False
        if taken_everywhere:
            parent.taken = True
            self._give_up(parent)
        elif parent.waiting:
            self._ready.set()

    def drain(self) -> list[Solution]:
        """All that wait, out of their turn: the newest parent first."""
        parents = sorted(self._parents.values(), key=lambda it: it.rank, reverse=True)
        waiting = [solution for parent in parents for solution in parent.waiting]
        for parent in parents:
            parent.waiting.clear()
        return waiting

    def collect_siblings(self) -> dict[SiblingKey, int]:
        """What was counted since the last call."""
        taken, self._siblings = self._siblings, {}
        return taken

    def _came_up(self, solution: Solution) -> _Parent | None:
        """A place for the parent that a block is the first on; None for one older than all, with no room."""
        self._came += 1
        work = solution.job.work
        parent = _Parent(height=work.height, order=self._came, waiting=deque())
        if len(self._parents) >= PARENTS_MAX:
            oldest = min(self._parents, key=lambda it: self._parents[it].rank)
            if parent.rank < self._parents[oldest].rank:
                return None
            self._give_up(self._parents.pop(oldest))
        self._parents[work.prevhash_internal] = parent
        return parent

    def _give_up(self, parent: _Parent) -> None:
        while parent.waiting:
            self._count(parent.waiting.popleft())

    def _count(self, solution: Solution) -> None:
        work = solution.job.work
        crowded = len(self._siblings) >= SIBLING_KEYS_MAX
        key = SiblingKey(
            parent_hash=work.prevhash_internal[::-1].hex(),
            height=work.height,
            worker_id=0 if crowded else solution.worker,
            pays_pool=self._pays_pool(solution),
        )
        self._siblings[key] = self._siblings.get(key, 0) + 1
