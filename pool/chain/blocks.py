"""Found blocks: assembled, made durable, submitted to every node until each has given its verdict.

What has no lasting result is submitted again at the next start, from its file (`block_files`).

Invariants: a block is in its file, whole, before a node gets the end of it, so that no kill loses it, and is
synced while it is sent: what a power cut in those milliseconds takes, the network may have. A disk that fails
or hangs is an alarm and no reason to lose the block, nor a whole file of it. Transport errors are retried
until the block is stale, verdicts never. No node is asked to prefer a block of ours to another one of ours.

Must not know: sessions, tenants, what a block pays to whom.
"""

import contextlib
import enum
import struct
from binascii import hexlify
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec
import structlog
import trio

from pool.chain.block_files import (
    PARENT,
    SIBLING,
    block_and_note,
    blocks_directory,
    count_by_parent,
    has_sibling,
    hashes_stored,
    packed_note,
    pending_path,
    without_result,
    write_durably,
)
from pool.chain.coinbase import compact_size, with_witness
from pool.chain.rpc import NodeError, RpcError
from pool.chain.templates import Template, merkle_root, sha256d
from stratum.job import Solution

log = structlog.get_logger()

# A disk that hangs must not cost the block: one second of delay orphans about one block in 600. So long it is
# waited for to take the block; and then, while the block is at the nodes, to sync it.
DISK_TIMEOUT_S: Final = 1.0
FILES_AT_ONCE: Final = 40  # written: a disk that hangs keeps a thread for each
RETRY_MIN_S: Final = 0.05  # a node that restarts is worth a few quick tries
RETRY_MAX_S: Final = 5.0
# With another chain this far ahead the block will not become part of the best one.
STALE_BLOCKS: Final = 6
# Without templates nobody tells us the tip; six blocks take an hour.
RETRY_TOTAL_S: Final = 3600.0
# Once one node has the block its peers do; the others are asked a little longer, for the record.
RETRY_AFTER_SUCCESS_S: Final = 10.0
# Parents of which the first block of ours is remembered: some hours of a real chain, minutes of a test chain.
PARENTS_MAX: Final = 100

TOLD_AFTER_S: Final = 0.01  # for other sites' nodes, which have it over the network too


class SubmitState(enum.Enum):
    """What one node, or all of them together, made of a block. From the best to the worst."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"  # the node had it already: from us, or from a peer
    INCONCLUSIVE = "inconclusive"  # valid as far as it was checked, not on the node's best chain
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


_TAKEN: Final = frozenset({SubmitState.ACCEPTED, SubmitState.DUPLICATE})
KEPT: Final = frozenset({SubmitState.ACCEPTED, SubmitState.DUPLICATE, SubmitState.INCONCLUSIVE})
_ORDER: Final = tuple(SubmitState)
_VERDICTS: Final = {
    None: SubmitState.ACCEPTED,
    "duplicate": SubmitState.DUPLICATE,
    "inconclusive": SubmitState.INCONCLUSIVE,
    "duplicate-inconclusive": SubmitState.INCONCLUSIVE,
}


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """The last word of one node about a block."""

    node: str
    state: SubmitState
    reason: str  # why it was refused or not reached, else empty
    attempts: int


class BlockResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a block. `state` is the best that any node said."""

    height: int
    hash_hex: str
    state: SubmitState
    stored: bool  # whether its file is synced
    nodes: tuple[NodeResult, ...]

    @property
    def taken_everywhere(self) -> bool:
        """Whether every node has it: then no other block on its parent can become one of ours."""
        return bool(self.nodes) and all(node.state in _TAKEN for node in self.nodes)


class BlockNode(Protocol):
    """What a block needs of a node."""

    name: str

    async def submit_block(
        self, digits: Sequence[bytes], *, ends_after: trio.Event | None = None
    ) -> str | None:
        """Hex, in pieces, of which the node has all `ends_after` that. None for accepted, else the reason in
        BIP-22's words. Raises NodeError."""

    async def precious_block(self, hash_hex: str) -> None:
        """Prefer this block to others of the same work. Raises NodeError."""


class Block(msgspec.Struct, frozen=True, gc=False):
    """A full serialisation, in two pieces: it may have megabytes, which are not copied on their way. The
    second one, which is a template's, is in hex digits too."""

    head: bytes
    rest: bytes = b""
    rest_hex: bytes = b""

    @property
    def header(self) -> bytes:
        """Its 80 bytes."""
        return self.head[:80]

    @property
    def parent(self) -> bytes:
        """The hash of the block before it, in internal order."""
        return self.head[PARENT]

    @property
    def whole(self) -> bytes:
        """As it is on the wire between nodes."""
        return self.head + self.rest

    @property
    def hex_pieces(self) -> tuple[bytes, bytes]:
        """As a node is told it."""
        return hexlify(self.head), self.rest_hex


def log_found(solution: Solution, finder: str | None, *, forwarded: bool = False, solo: bool = False) -> None:
    """A line about a block. `forwarded`: to the upstream whose work it is; `solo`: it pays a tenant."""
    log.info(
        "block_found",
        height=solution.job.work.height,
        hash=solution.hash_internal[::-1].hex(),
        worker=finder,
        forwarded=forwarded,
        solo=solo,
    )


def assemble_block(solution: Solution, template: Template) -> Block:
    """The block that `solution` found on `template`."""
    work, coinbase = solution.job.work, solution.coinbase
    header = struct.pack(
        "<I32s32sIII",
        solution.version,
        work.prevhash_internal,
        merkle_root(coinbase, work.branch),
        solution.ntime,
        work.nbits,
        solution.nonce,
    )
    transactions = template.transactions
    count = compact_size(1 + len(transactions))
    first = coinbase if template.witness_commitment is None else with_witness(coinbase)
    return Block(header + count + first, transactions.data, transactions.data_hex)


class BlockSubmitter:
    """Takes solutions to the nodes. `tip_height` is the height of the best block that we know of; `mine`
    says by its note whether a block of an earlier run is ours to submit: others may write there too. `tell`
    gets each block, raw, that is on its way to our nodes: for others' nodes."""

    def __init__(
        self,
        nodes: Sequence[BlockNode],
        data_dir: Path,
        *,
        tip_height: Callable[[], int],
        mine: Callable[[bytes], bool] = lambda note: True,
        tell: Callable[[bytes], None] | None = None,
    ) -> None:
        self._nodes = tuple(nodes)
        self._tell = tell
        self.directory = blocks_directory(data_dir)
        self._tip_height = tip_height
        self._mine = mine
        # Of its own: all others may wait for a database, or for a name server.
        self._threads = trio.CapacityLimiter(FILES_AT_ONCE)
        self._first: dict[bytes, str] = {}  # by parent: the block of ours that nodes may prefer

    async def submit(
        self, solution: Solution, note: bytes = b"", on_stored: Callable[[], None] = lambda: None
    ) -> BlockResult:
        """Assemble, store and submit; returns when every node has answered or is given up.

        `solution.job.work.origin` must be the Template. Cancelled, it leaves a pending file. `on_stored` is
        called when it is on disk, with the note, or the disk has failed.
        """
        template = solution.job.work.origin
        if not isinstance(template, Template):
            raise TypeError("the work was not made from a template")
        block = assemble_block(solution, template)
        hash_internal = sha256d(block.header)
        hash_hex = hash_internal[::-1].hex()
        if hash_internal != solution.hash_internal:
            # Ours is the one that counts to a node. Let the nodes say what it is worth.
            log.error("block_hash_differs", assembled=hash_hex, found=solution.hash_internal[::-1].hex())
        async with trio.open_nursery() as nursery:
            content = block.head, block.rest, packed_note(note)
            file = await nursery.start(self._store, content, template.height, hash_hex, on_stored)
            return await self._submit(block, template.height, hash_hex, file)

    async def stored(self) -> frozenset[str]:
        """The hashes of all our blocks on disk. Before the first is submitted: those of earlier runs."""
        return await trio.to_thread.run_sync(hashes_stored, self.directory, self._mine)

    async def resubmit_pending(self, earlier: frozenset[str]) -> tuple[BlockResult, ...]:
        """Submit what an earlier run left without a result, the lowest block first.

        Of several on one parent that is the first that nodes have in their chain. They may have got one of
        them already, and not have been heard: none of the others is to be preferred to it.
        """
        results, taken, siblings = [], set[bytes](), 0
        pending = await trio.to_thread.run_sync(without_result, self.directory, earlier)
        of_parent = await trio.to_thread.run_sync(count_by_parent, [path for _, _, path in pending])
        for height, hash_hex, path in pending:
            try:
                data, _ = block_and_note(await trio.to_thread.run_sync(path.read_bytes))
                block = Block(data)
                if block.parent in taken or await trio.to_thread.run_sync(has_sibling, path, block.parent):
                    await trio.to_thread.run_sync(path.rename, path.with_suffix(SIBLING))
                    siblings += 1
                    continue
            except OSError as error:
                log.error("block_not_read", height=height, hash=hash_hex, reason=str(error))
                continue
            log.warning("block_resubmitted", height=height, hash=hash_hex)
            alone = of_parent[block.parent] == 1
            results.append(await self._submit(block, height, hash_hex, _File.of_earlier_run(), alone=alone))
            if results[-1].state in _TAKEN:
                taken.add(block.parent)
        if siblings:
            log.warning("siblings_not_submitted", blocks=siblings)
        return tuple(results)

    async def _store(
        self,
        content: Sequence[bytes],
        height: int,
        hash_hex: str,
        on_stored: Callable[[], None],
        *,
        task_status: trio.TaskStatus["_File"],
    ) -> None:
        file, token = _File(), trio.lowlevel.current_trio_token()
        task_status.started(file)

        def written() -> None:
            with contextlib.suppress(trio.RunFinishedError):  # a disk that hung for longer than the pool ran
                token.run_sync_soon(file.written.set)

        failure = "the disk hangs"
        # Shielded: a stop in this very moment must not lose the block, only delay the stop a little.
        with trio.CancelScope(deadline=trio.current_time() + DISK_TIMEOUT_S, shield=True):
            try:
                await trio.to_thread.run_sync(
                    write_durably,
                    pending_path(self.directory, height, hash_hex),
                    content,
                    written,
                    abandon_on_cancel=True,
                    limiter=self._threads,
                )
            except (OSError, RuntimeError) as error:  # the latter where the system has no thread left
                failure = str(error)
            else:
                file.synced = True
        if not file.synced:
            log.error("block_not_stored", height=height, hash=hash_hex, reason=failure)
        file.written.set()
        file.over.set()
        on_stored()

    async def _submit(
        self, block: Block, height: int, hash_hex: str, file: "_File", *, alone: bool = True
    ) -> BlockResult:
        parent = block.parent
        if len(self._first) >= PARENTS_MAX and parent not in self._first:
            del self._first[next(iter(self._first))]
        preferred = self._first.setdefault(parent, hash_hex) == hash_hex and alone
        attempt = _Attempt(
            block.hex_pieces, height, hash_hex, self._tip_height, file.written, preferred=preferred
        )
        size = len(block.head) + len(block.rest)
        log.info("block_submitted", height=height, hash=hash_hex, bytes=size, nodes=len(self._nodes))
        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(attempt.to_node, node)
            if self._tell is not None:
                nursery.start_soon(_tell_later, self._tell, block)
        results = tuple(attempt.results[node.name] for node in self._nodes)
        state = min((result.state for result in results), key=_ORDER.index)
        if preferred and state not in KEPT:
            self._first.pop(parent, None)  # no node has it: another may take its place
        await file.over.wait()
        if file.synced:
            await self._record(height, hash_hex, results, state)
        return BlockResult(height=height, hash_hex=hash_hex, state=state, stored=file.synced, nodes=results)

    async def _record(
        self, height: int, hash_hex: str, results: Sequence[NodeResult], state: SubmitState
    ) -> None:
        """Rename the file, unless a node that never answered may still take the block."""
        if state not in KEPT and any(result.state is SubmitState.UNREACHABLE for result in results):
            return
        path = pending_path(self.directory, height, hash_hex)
        suffix = SubmitState.ACCEPTED.value if state is SubmitState.DUPLICATE else state.value
        try:
            await trio.to_thread.run_sync(path.rename, path.with_suffix(f".{suffix}"), limiter=self._threads)
        except OSError as error:
            log.error("block_result_not_stored", height=height, hash=hash_hex, reason=str(error))


class _File:
    """How far that of a block is: `written`, which outlives us, and then synced, or the disk is given up."""

    def __init__(self) -> None:
        self.written, self.over, self.synced = trio.Event(), trio.Event(), False

    @classmethod
    def of_earlier_run(cls) -> Self:
        file = cls()
        file.written.set()
        file.over.set()
        file.synced = True
        return file


class _Attempt:
    """One block on its way to all nodes."""

    def __init__(
        self,
        digits: Sequence[bytes],
        height: int,
        hash_hex: str,
        tip_height: Callable[[], int],
        written: trio.Event,
        *,
        preferred: bool,
    ) -> None:
        self.results: dict[str, NodeResult] = {}
        self._preferred = preferred
        self._digits = digits
        self._height = height
        self._hash_hex = hash_hex
        self._tip_height = tip_height
        self._written = written  # its file, or the disk is given up
        self._give_up_s = trio.current_time() + RETRY_TOTAL_S

    async def to_node(self, node: BlockNode) -> None:
        attempts, wait_s = 0, RETRY_MIN_S
        while True:
            attempts += 1
            try:
                verdict = await node.submit_block(self._digits, ends_after=self._written)
            except RpcError as error:
                self._finish(node, SubmitState.REFUSED, str(error), attempts)
                return
            except NodeError as error:
                if attempts == 1:
                    log.warning("block_retried", node=node.name, hash=self._hash_hex, reason=str(error))
                if self._is_over(wait_s):
                    self._finish(node, SubmitState.UNREACHABLE, str(error), attempts)
                    return
                await trio.sleep(wait_s)
                wait_s = min(2 * wait_s, RETRY_MAX_S)
            else:
                break
        state = _VERDICTS.get(verdict, SubmitState.REFUSED)
        self._finish(node, state, verdict if verdict and state is SubmitState.REFUSED else "", attempts)
        if state in KEPT and self._preferred:
            await self._prefer(node)

    async def _prefer(self, node: BlockNode) -> None:
        """Of two blocks at one height a node mines on the one it saw first: have it mine on ours.

        That matters most where submitblock was inconclusive because somebody else's had arrived before. Where
        that one is ours it would turn the node off the block that the network has.
        """
        try:
            await node.precious_block(self._hash_hex)
        except NodeError as error:
            log.warning("block_not_preferred", node=node.name, hash=self._hash_hex, reason=str(error))

    def _is_over(self, wait_s: float) -> bool:
        stale = self._tip_height() - self._height >= STALE_BLOCKS
        return stale or trio.current_time() + wait_s > self._give_up_s

    def _finish(self, node: BlockNode, state: SubmitState, reason: str, attempts: int) -> None:
        self.results[node.name] = NodeResult(node=node.name, state=state, reason=reason, attempts=attempts)
        keys = {"node": node.name, "height": self._height, "hash": self._hash_hex, "attempts": attempts}
        if state in KEPT:
            event = "block_inconclusive" if state is SubmitState.INCONCLUSIVE else "block_accepted"
            log.info(event, state=state.value, **keys)
            self._give_up_s = min(self._give_up_s, trio.current_time() + RETRY_AFTER_SUCCESS_S)
        elif state is SubmitState.REFUSED:
            log.error("block_refused", reason=reason, **keys)
        else:
            log.error("block_unreachable", reason=reason, **keys)


async def _tell_later(tell: Callable[[bytes], None], block: Block) -> None:
    """For others all of it is put together and hashed, which takes 5 ms: our nodes have its first bytes by
    then. A stop waits for it."""
    with trio.CancelScope(shield=True):
        await trio.sleep(TOLD_AFTER_S)
    tell(block.whole)
