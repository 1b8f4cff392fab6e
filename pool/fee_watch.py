"""What recent blocks paid in fees: the basis of FPPS, asked of the node now and then.

Must not know: prices and tenants.
"""

from typing import Final

import msgspec

from payouts.rates import FEE_BASIS_BLOCKS, BlockFees
from pool.node import Node
from pool.rpc import NodeSpokeNonsense

FEE_BASIS_RENEW_S: Final = 3600.0  # a new list an hour: six of its 144 blocks have changed


class _Stats(msgspec.Struct):
    height: int
    blockhash: str
    totalfee: int


async def recent_fees(node: Node, blocks: int = FEE_BASIS_BLOCKS) -> tuple[BlockFees, ...]:
    """Total fees of the last `blocks` blocks, the newest first. Raises NodeError."""
    tip = await node.rpc.call("getblockcount")
    if not isinstance(tip, int):
        raise NodeSpokeNonsense("getblockcount answered something that is no height")
    fees = []
    for height in range(tip, max(0, tip - blocks), -1):
        answer = await node.rpc.call("getblockstats", height, ["height", "blockhash", "totalfee"])
        try:
            stats = msgspec.convert(answer, _Stats)
        except msgspec.ValidationError as error:
            raise NodeSpokeNonsense(f"getblockstats: {error}") from None
        fees.append(BlockFees(height=stats.height, hash=stats.blockhash, fees_sat=stats.totalfee))
    return tuple(fees)
