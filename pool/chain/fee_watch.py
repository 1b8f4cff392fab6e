"""What recent blocks paid in fees: the basis of FPPS, asked of the nodes now and then.

The newest list in the book is the basis from the first job on, however old it is: yesterday's fees are a
price, none are not. A question that fails is asked again soon, of the next node that is up. Work is never
priced on no basis: before there ever was one, the first job waits for it a moment, and then FPPS tenants do.

Must not know: prices and tenants.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
import structlog
import trio

from payouts.rates import FEE_BASIS_BLOCKS, BlockFees
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Height, Node, NodeState, typed
from pool.chain.rpc import NodeError, NodeSpokeNonsense, NodeTimedOut
from pool.chain.templates import Amount, HashHex

log = structlog.get_logger()

FEE_BASIS_RENEW_S: Final = 3600.0  # a new list an hour: six of its 144 blocks have changed
FEE_BASIS_RETRY_S: Final = 10.0  # with the next node, where there is one
FEE_BASIS_ANSWERS_S: Final = 20.0  # for the 144 answers of a node together; they take a second
# Everybody's first job waits so long, once in the life of a book: a node answers in this time or not at all.
FIRST_BASIS_S: Final = 30.0
NO_BASIS: Final = "FPPS has no price yet: no node has said what recent blocks paid in fees"


class _Stats(msgspec.Struct):
    height: Height
    blockhash: HashHex
    totalfee: Amount


class FeeWatch:
    """Keeps `basis`, the number of the newest list, which is None before there ever was one.

    `keep` writes a list down and returns its number; `wanted` is whether anybody is paid by it.
    """

    def __init__(
        self,
        nodes: NodeSet,
        *,
        basis: int | None,
        keep: Callable[[tuple[BlockFees, ...]], Awaitable[int]],
        wanted: Callable[[], bool],
    ) -> None:
        self.basis = basis
        self._nodes = nodes
        self._keep = keep
        self._wanted = wanted
        self._known = trio.Event()
        if basis is not None:
            self._known.set()
        self._again = trio.Event()
        self._waited = False
        self._asked = 0  # nodes, one after the other

    def ask_again(self) -> None:
        """Somebody may be paid by it now."""
        self._again.set()

    async def known(self) -> None:
        """Return when there is a basis."""
        await self._known.wait()

    async def first(self) -> None:
        """Before the first job: return when there is a basis, nobody wants one, or it takes too long."""
        if self.basis is not None or self._waited or not self._wanted():
            return
        self._waited = True
        log.info("waiting_for_fee_basis", at_most_s=FIRST_BASIS_S)
        with trio.move_on_after(FIRST_BASIS_S):
            await self._known.wait()
        if self.basis is None:
            log.error("fpps_waits", reason=NO_BASIS)

    async def run(self) -> None:
        """Renew the list, while it is wanted, until cancelled."""
        while True:
            self._again = trio.Event()
            done = not self._wanted() or await self._ask()
            with trio.move_on_after(FEE_BASIS_RENEW_S if done else FEE_BASIS_RETRY_S):
                await self._again.wait()

    async def _ask(self) -> bool:
        node = await self._nodes.chosen()
        up = [node, *(it for it in self._nodes.nodes if it is not node and it.state is NodeState.UP)]
        node = up[self._asked % len(up)]
        try:
            with trio.move_on_after(FEE_BASIS_ANSWERS_S) as bound:
                fees = await recent_fees(node)
            if bound.cancelled_caught:
                raise NodeTimedOut(f"no answers within {FEE_BASIS_ANSWERS_S:g} s")
        except NodeError as error:
            self._asked += 1
            log.warning("fees_not_known", node=node.name, reason=str(error), again_s=FEE_BASIS_RETRY_S)
            return False
        first, self.basis, self._asked = self.basis is None, await self._keep(fees), 0
        if first:
            log.info("fee_basis_known", node=node.name, blocks=len(fees))
            self._known.set()
        return True


async def recent_fees(node: Node, blocks: int = FEE_BASIS_BLOCKS) -> tuple[BlockFees, ...]:
    """Total fees of the last `blocks` blocks, the newest first; of a chain that has none yet those of its
    first block, which paid none. Raises NodeError."""
    tip = await node.tip_height()
    if tip == 0:
        return (await fees_at(node, 0),)
    fees = tuple([await fees_at(node, height) for height in range(tip, max(0, tip - blocks), -1)])
    check_blocks(fees)
    return fees


def check_blocks(fees: Sequence[BlockFees]) -> None:
    """Each is another one. Raises NodeSpokeNonsense."""
    if len({it.hash for it in fees}) < len(fees):
        raise NodeSpokeNonsense("getblockstats answered the same block for two heights")


async def fees_at(node: Node, height: int) -> BlockFees:
    """Of the block that it has there. Raises NodeError."""
    if height == 0:
        genesis = typed(await node.hash_at(0), HashHex, "getblockhash")
        return BlockFees(height=0, hash=genesis, fees_sat=0)
    answer = await node.rpc.call("getblockstats", height, ["height", "blockhash", "totalfee"])
    stats = typed(answer, _Stats, "getblockstats")
    if stats.height != height:
        raise NodeSpokeNonsense(f"getblockstats answered of height {stats.height}, asked for {height}")
    return BlockFees(height=height, hash=stats.blockhash.lower(), fees_sat=stats.totalfee)
