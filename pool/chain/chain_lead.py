"""Whether the chain of one node is ahead of another's, by work that anybody can check.

A node may say any height of itself. So its lead is followed header by header from the last block that both
have: each must hash to what its target asks for and name the one before it. The work of a lead of n blocks
may be a quarter of that of n blocks like the last common one, no less: so much may difficulty fall at once.

Invariants: a bounded number of questions, to the two nodes alone. Must not know: which node is mined on.
"""

import struct
from typing import Final

from pool.chain.nodes import Node
from pool.chain.rpc import NodeSpokeNonsense
from pool.chain.templates import sha256d
from stratum.difficulty import BadTarget, target_from_nbits

# A reorganisation deeper than a coinbase's maturity is for a person to judge.
FORK_DEPTH_MAX: Final = 100
RETARGET_MAX: Final = 4  # consensus: how much easier blocks may become from one to the next
HEADER_BYTES: Final = 80


class ClaimIsFalse(NodeSpokeNonsense):
    """A node says that it has blocks, and does not show them."""


async def leads(ahead: Node, behind: Node, blocks: int, *, claimed: int) -> bool:
    """Whether `ahead` has so many blocks more than `behind`, and the work for them; it says its height.

    Raises ClaimIsFalse when it does not even have what it says, NodeError for everything else.
    """
    if await ahead.hash_at(claimed) is None:
        raise ClaimIsFalse(f"it says height {claimed} and has no block there")
    tip = await behind.tip_height()
    common = await _common(ahead, behind, tip)
    if common is None or await ahead.hash_at(tip + blocks) is None:
        return False
    height, block_hash = common
    try:
        lead = await _work(ahead, block_hash, height, tip + blocks)
    except NodeSpokeNonsense as error:
        raise ClaimIsFalse(str(error)) from None
    lead -= await _work(behind, block_hash, height, tip)
    one = _work_of(await behind.header(block_hash))
    return lead * RETARGET_MAX >= blocks * one


async def _common(one: Node, other: Node, tip: int) -> tuple[int, str] | None:
    """The highest block that both chains have, from a height downwards."""
    for height in range(tip, max(-1, tip - FORK_DEPTH_MAX - 1), -1):
        there = await one.hash_at(height)
        if there is None:
            return None  # it is not even that high
        if there == await other.hash_at(height):
            return height, there
    return None


async def _work(node: Node, from_hash: str, from_height: int, to_height: int) -> int:
    """The work of the blocks after one of the node's chain, up to a height, each checked."""
    wanted, work = await node.hash_at(to_height), 0
    for _ in range(to_height - from_height):
        header = await node.header(wanted or from_hash)  # None: the chain became shorter meanwhile
        if sha256d(header)[::-1].hex() != wanted:
            raise NodeSpokeNonsense(f"getblockheader answered another block than {wanted}")
        work += _work_of(header)
        wanted = header[4:36][::-1].hex()
    if wanted != from_hash:
        raise NodeSpokeNonsense("getblockhash and getblockheader answered two chains")
    return work


def _work_of(header: bytes) -> int:
    """How many hashes a header takes on average. Raises NodeSpokeNonsense where it misses its target."""
    (nbits,) = struct.unpack_from("<I", header, 72)
    try:
        target = target_from_nbits(nbits)
    except BadTarget as error:
        raise NodeSpokeNonsense(f"getblockheader: {error}") from None
    if int.from_bytes(sha256d(header), "little") > target:
        raise NodeSpokeNonsense("getblockheader answered a header without its work")
    return (1 << 256) // (target + 1)
