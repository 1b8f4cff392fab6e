"""What blocks paid in fees, as our own nodes have it: to hold a list of recent blocks against that somebody
else's node gave.

As `pool.chain.difficulties` it is looked into from threads, and asked for later. A list is of the blocks up
to one (`top`), so it is known by that height. Where one of its blocks was replaced since it is another one of
ours: what they come to is compared, not which they are.

Invariants: bounded; a block is asked for once when it is six deep. Must not know: who gave the list.
"""

import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from payouts.rates import FEE_BASIS_BLOCKS, BadRate, BlockFees, fee_basis_sat
from pool.chain.difficulties import SETTLED_BLOCKS, WANTED_MAX, put
from pool.chain.fee_watch import check_blocks, fees_at
from pool.chain.nodes import Node
from pool.chain.rpc import NodeSpokeNonsense, RpcError

FEES_MAX: Final = 2 * 4_032  # blocks of which they are known: a site that was alone for a month, and another
LISTS_MAX: Final = 1_024
# One stale block of 130 may have had none, or twice as much: more than that is another list.
APART_PERCENT: Final = 3


class Paid(msgspec.Struct, frozen=True, kw_only=True):
    """What a list up to a block comes to, and when that block was made, by itself."""

    fees_sat: int
    at_s: int
    settled: bool  # no block of it is about to be replaced

    def is_like(self, fees_sat: int) -> bool:
        """Whether another list of the same heights says the same, but for a block or so."""
        return abs(fees_sat - self.fees_sat) * 100 <= APART_PERCENT * self.fees_sat


class PaidFees:
    """Of one chain."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fees: dict[int, BlockFees] = {}  # by height, of blocks that are deep
        self._lists: dict[int, Paid] = {}
        self._wanted: dict[int, None] = {}

    @property
    def wanted(self) -> bool:
        """Whether something is to be asked for."""
        return bool(self._wanted)

    def up_to(self, top: int, *, again: bool = False) -> Paid | None:
        """None where our nodes have not said it yet; `again`: not since then either, but for settled ones."""
        with self._lock:
            paid = self._lists.get(top)
            if paid is not None and (paid.settled or not again):
                return paid
            put(self._wanted, top, None, WANTED_MAX)
            return None

    async def ask(self, nodes: Sequence[Node]) -> None:
        """For what is wanted, the first that has it. Raises NodeError."""
        with self._lock:
            wanted = list(self._wanted)
        for top in wanted:
            paid = await self._asked(nodes, top)
            with self._lock:
                self._wanted.pop(top, None)
                if paid is not None:
                    put(self._lists, top, paid, LISTS_MAX)

    async def _asked(self, nodes: Sequence[Node], top: int) -> Paid | None:
        for node in nodes:
            try:
                return await self.list_of(node, top)
            except RpcError:
                continue  # it has no blocks any more that are so old
        return None

    async def list_of(self, node: Node, top: int) -> Paid | None:
        """As that node has it; None above its tip. Raises NodeError."""
        tip = await node.tip_height()
        if top > tip:
            return None
        found = []
        for height in heights_of(top):
            known = self._fees.get(height)
            if known is None:
                known = await fees_at(node, height)
                if height <= tip - SETTLED_BLOCKS:
                    with self._lock:
                        put(self._fees, height, known, FEES_MAX)
            found.append(known)
        try:
            check_blocks(found)
        except NodeSpokeNonsense:
            with self._lock:
                for it in found:  # which of them are right nobody knows
                    self._fees.pop(it.height, None)
            raise
        header = await node.header(found[-1].hash)
        at_s = int.from_bytes(header[68:72], "little")
        return Paid(fees_sat=fee_basis_sat(found), at_s=at_s, settled=top <= tip - SETTLED_BLOCKS)


def heights_of(top: int) -> range:
    """Of the blocks in a list of recent ones up to that."""
    return range(max(top - FEE_BASIS_BLOCKS + 1, 1), top + 1) if top else range(1)


def misshapen(fees: Sequence[BlockFees]) -> str:
    """Why it is no list of blocks one after the other, as many as there are; empty where it is."""
    heights = sorted(it.height for it in fees)
    if not heights or heights != list(heights_of(heights[-1])):
        return f"it is not of the last {FEE_BASIS_BLOCKS} blocks before one"
    try:
        fee_basis_sat(fees)
    except BadRate as error:
        return str(error)
    return ""
