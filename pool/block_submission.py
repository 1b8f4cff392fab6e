"""The way of a block: from whoever found it to the nodes, and into the books.

Invariants: what a session found is taken at once and never waits for a node, a disk or the database; its way
to the nodes never waits for the database, however long that is away; a stop leaves every block that had its
turn, or waited for it, on disk. Log lines are bounded by parents, not by blocks: the first few of each are
told, the rest are a count. A kill loses the counts of half a minute, which only reports of luck look at.

Must not know: sessions, channels, how a node is asked.
"""

import secrets
from collections.abc import Callable
from typing import Final

import structlog
import trio

from payouts.divisions import Header
from payouts.rates import Scheme
from pool.books.found_blocks import BlockNote, packed_note, unpacked_note
from pool.chain.block_files import noted
from pool.chain.block_queue import BlockQueue
from pool.chain.blocks import BlockResult, BlockSubmitter, assemble_block, log_found
from pool.chain.templates import Template
from pool.hub import FoundBlock, Hub
from pool.journal.records import Machine
from pool.routing.solo import payout_of
from stratum.job import Solution

log = structlog.get_logger()

BLOCK_SUBMITTERS: Final = (
    8  # at once, each on a parent of its own: a slow node must not hold up the next block
)
SIBLINGS_S: Final = 30.0  # between two looks at what was counted: a line and a write each
# For the files of blocks, before shares are acknowledged: a disk that hangs is given up before that.
STORED_S: Final = 1.5
# That wait to be booked while the database is away: days of a real chain, minutes of a test chain. More than
# that are booked from their files at the next start.
BOOKINGS_MAX: Final = 1_000
STORE_S: Final = 1.0  # of a stop, which takes two seconds at most


class BlockSubmission:
    """The work source of all our own work: takes what was found on it; `run` does the rest.

    `finder` and `found_by` say whose a worker number is, None for 0; `paid_by` how a tenant's shares of a
    rate number are paid, None where that is not known any more; `on_block` is told of every block's result.
    """

    def __init__(
        self,
        submitter: BlockSubmitter,
        hub: Hub,
        *,
        finder: Callable[[int], str | None],
        found_by: Callable[[int], Machine | None],
        paid_by: Callable[[int, str], Scheme | None],
        on_block: Callable[[BlockResult], None],
        process: int = 1,
    ) -> None:
        self._submitter = submitter
        self._hub = hub
        self._finder, self._found_by, self._paid_by = finder, found_by, paid_by
        self._on_block = on_block
        self._process = process
        self._storing: dict[bytes, trio.Event] = {}  # by parent: the block that has its turn there at once
        self._queue = BlockQueue(lambda solution: payout_of(solution) is None)
        self._to_book, self._submitted = trio.open_memory_channel[tuple[Solution, BlockResult]](BOOKINGS_MAX)

    def on_solution(self, solution: Solution) -> None:
        """Submit a block, unless enough of ours follow its parent already."""
        taken = self._queue.put(solution)
        finder = self._finder(solution.worker)
        parent = solution.job.work.prevhash_internal
        if taken and parent not in self._storing and len(self._storing) < BLOCK_SUBMITTERS:
            self._storing[parent] = trio.Event()
        if taken:
            log_found(solution, finder, solo=payout_of(solution) is not None)

    async def stored(self) -> None:
        """What was found by now is on disk, or the disk has failed: its share may be acknowledged.

        Not what waits for another block on its parent, which is a sibling as soon as nodes have that.
        """
        with trio.move_on_after(STORED_S):
            for event in list(self._storing.values()):
                await event.wait()
            return
        for event in self._storing.values():
            event.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then `store` what nobody has taken yet."""
        try:
            earlier = await self._submitter.stored()
            async with trio.open_nursery() as nursery:
                for _ in range(BLOCK_SUBMITTERS):
                    nursery.start_soon(self._submit)
                nursery.start_soon(self._book)
                nursery.start_soon(self._submit_earlier, earlier)
                nursery.start_soon(self._tell_siblings)
                task_status.started()
        finally:
            await self._store()

    async def _submit(self) -> None:
        while True:
            solution = await self._queue.get()
            result = await self._submit_one(solution)
            self._queue.done(solution, taken_everywhere=result.taken_everywhere)
            self._storing.pop(solution.job.work.prevhash_internal, None)
            try:
                self._to_book.send_nowait((solution, result))
            except trio.WouldBlock:
                log.error("block_booked_at_next_start", height=result.height, hash=result.hash_hex)

    async def _submit_one(self, solution: Solution) -> BlockResult:
        def stored() -> None:
            if (event := self._storing.get(solution.job.work.prevhash_internal)) is not None:
                event.set()

        return await self._submitter.submit(solution, self._note(solution), stored)

    async def _book(self) -> None:
        async for solution, result in self._submitted:
            finder = self._found_by(solution.worker)
            await self._hub.record_block(
                FoundBlock(
                    result=result,
                    income_sat=income_sat(solution),
                    finder=finder,
                    solo=payout_of(solution),
                    scheme=self._scheme(solution, finder),
                    header=Header(solution.job.work.nbits, solution.ntime),
                    content=self._content(solution),
                )
            )
            self._on_block(result)

    def _content(self, solution: Solution) -> bytes:
        template = solution.job.work.origin
        assert isinstance(template, Template)
        return noted(assemble_block(solution, template).whole, self._note(solution))

    def _note(self, solution: Solution) -> bytes:
        finder = self._found_by(solution.worker)
        return packed_note(BlockNote(self._process, finder, self._scheme(solution, finder)))

    def _scheme(self, solution: Solution, finder: Machine | None) -> Scheme | None:
        """How the shares of its job are paid."""
        return None if finder is None else self._paid_by(solution.job.rate, finder.tenant)

    async def _submit_earlier(self, earlier: frozenset[str]) -> None:
        """Blocks of an earlier run: submit those without a result, book those that are not in the books."""
        await self._submitter.resubmit_pending(earlier)
        await self._hub.book_found_blocks(earlier)

    async def _tell_siblings(self) -> None:
        while True:
            await trio.sleep(SIBLINGS_S)
            await self._count_siblings()

    async def _count_siblings(self) -> None:
        counts = self._queue.collect_siblings()
        if not counts:
            return
        log.warning(
            "siblings_not_submitted",
            blocks=sum(counts.values()),
            parents=len({key.parent_hash for key in counts}),
            height=max(key.height for key in counts),
        )
        await self._hub.count_siblings(
            secrets.token_hex(16),
            [(key, self._found_by(key.worker_id), count) for key, count in counts.items()],
        )

    async def _store(self) -> None:
        """A stop must not lose blocks that nobody has taken yet: the next start submits what is on disk."""
        give_up_s = trio.current_time() + STORE_S
        for solution in self._queue.drain():
            if trio.current_time() >= give_up_s:
                break
            # `submit` stores a block before it notices that it is cancelled.
            with trio.CancelScope(shield=True) as stop:
                stop.cancel()
                await self._submit_one(solution)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STORE_S):
            await self._count_siblings()  # a count: no reason to wait for a database that is away


def owned_by(process: int, of: int) -> Callable[[bytes], bool]:
    """Whether a block of an earlier run is this process's to submit, by its note: the first has those of
    processes that there are not any more, and of before."""

    def mine(packed: bytes) -> bool:
        note = unpacked_note(packed)
        owner = 0 if note is None else note.process
        return owner == process or (process == 1 and not 1 <= owner <= of)

    return mine


def income_sat(solution: Solution) -> int:
    """What the coinbase of our own work pays the pool: everything, or a solo tenant's fee."""
    template, payout = solution.job.work.origin, payout_of(solution)
    assert isinstance(template, Template)
    return template.coinbase_value_sat if payout is None else payout.fee_sat
