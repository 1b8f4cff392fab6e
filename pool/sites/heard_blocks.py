"""Found blocks between sites and hub: an edge's are told to the hub, and what is new to its nodes to all.

What a block takes at least is read off our own nodes' best block, once a minute: the network's difficulty
falls to a quarter in two weeks at the most, and a test chain lets anybody mine at its easiest. Who has no
node that answers gives no block to one.

Must not know: what blocks pay, who found them.
"""

from binascii import hexlify
from collections.abc import Callable
from typing import Final

import structlog
import trio

from pool.chain.networks import NETWORKS
from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node
from pool.chain.rpc import NodeError
from pool.sites.nats.blocks import Blocks
from pool.sites.nats.connection import Connection
from stratum.difficulty import BadTarget, target_from_nbits

log = structlog.get_logger()

LOOK_S: Final = 60.0
EASIER_MAX: Final = 4  # what two weeks can make of a target, at the most (GetNextWorkRequired)
TRIES_S: Final = (0.0, 1.0, 5.0, 15.0)  # pauses before one node is given a block again that it did not get
NEW: Final = (None, "inconclusive")  # what is in its chain already the network carries, and not we
MOODY: Final = frozenset({"test", "testnet4", "regtest"})  # where a block may be mined at the easiest


class HeardBlocks:
    """`name` is the edge's, or the hub's."""

    def __init__(self, connection: Connection, name: str, nodes: NodeSet) -> None:
        self._nodes = nodes
        self.easiest_target: int | None = None  # that a block of now can have; None: nobody knows
        self._blocks = Blocks(
            connection, name, submit=self._submit, easiest_target=lambda: self.easiest_target
        )

    def tell(self, block: bytes) -> None:
        """One of ours, raw, that is on its way to our nodes."""
        self._blocks.tell(block)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. The set of nodes must be running."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
            await nursery.start(self._blocks.run)
            task_status.started()

    async def _look(self) -> None:
        easiest = target_from_nbits(NETWORKS[self._nodes.chain].easiest_nbits)
        if self._nodes.chain in MOODY:
            self.easiest_target = easiest
            return
        while True:
            node = await self._nodes.chosen()
            try:
                best = await node.hash_at(await node.tip_height())
                if best is not None:
                    header = await node.header(best)
                    target = target_from_nbits(int.from_bytes(header[72:76], "little"))
                    self.easiest_target = min(EASIER_MAX * target, easiest)
            except (NodeError, BadTarget) as error:
                log.warning("easiest_target_not_known", node=node.name, reason=str(error))
            await trio.sleep(LOOK_S)

    async def hear(self, edge: str) -> None:
        """Its blocks, until cancelled."""
        await self._blocks.hear(edge)

    async def _submit(self, block: bytes, answered: Callable[[bool], None]) -> None:
        async with trio.open_nursery() as nursery:
            for node in self._nodes.nodes:
                nursery.start_soon(_give, node, hexlify(block), answered)


async def _give(node: Node, digits: bytes, answered: Callable[[bool], None]) -> None:
    for pause_s in TRIES_S:
        await trio.sleep(pause_s)
        try:
            verdict = await node.submit_block((digits,))
        except NodeError as error:
            log.warning("heard_block_not_given", node=node.name, reason=str(error))
        else:
            log.info("heard_block_given", node=node.name, verdict=verdict or "accepted")
            answered(verdict in NEW)
            return
