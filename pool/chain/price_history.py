"""What the chain says of prices: difficulties of heights, and what blocks paid, asked for when somebody wants
to know. Who looks is in a thread and waits for no node (`pool.chain.difficulties`, `pool.chain.paid_fees`).

A node that is away, or slow, is a line in the log: what is not known is wanted again. Must not know: who
looks, and why.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog
import trio

from pool.chain.difficulties import Difficulties
from pool.chain.node_set import NodeSet
from pool.chain.nodes import ANSWERING, Node
from pool.chain.paid_fees import PaidFees
from pool.chain.rpc import NodeError, NodeTimedOut, NodeUnreachable

log = structlog.get_logger()

CHECK_S: Final = 1.0
AGAIN_S: Final = 10.0  # after a node that did not answer
ANSWERS_S: Final = (
    60.0  # for all that is wanted together: 144 blocks' fees take seconds, from a slow disk more
)


class PriceHistory:
    """Of the chain of these nodes."""

    def __init__(
        self,
        nodes: NodeSet,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._nodes, self.chain = nodes, nodes.chain
        self.difficulties = Difficulties(nodes.chain, wall_clock=wall_clock, clock=clock)
        self.fees = PaidFees()
        self._away = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(CHECK_S)
            if not (self.difficulties.wanted or self.fees.wanted):
                continue
            try:
                await self.ask()
            except NodeError as error:
                if not self._away:
                    log.warning("prices_not_looked_up", reason=str(error), again_in_s=AGAIN_S)
                self._away = True
                await trio.sleep(AGAIN_S)
            else:
                self._away = False

    async def ask(self) -> None:
        """For what is wanted. Raises NodeError."""
        nodes = self._answering()
        with trio.move_on_after(ANSWERS_S) as bound:
            if self.difficulties.wanted:
                await self.difficulties.ask(nodes)
            if self.fees.wanted:
                await self.fees.ask(nodes)
        if bound.cancelled_caught:
            raise NodeTimedOut(f"no answers within {ANSWERS_S:g} s")

    def _answering(self) -> list[Node]:
        """The one to go by first."""
        current = self._nodes.current
        if current is None:
            raise NodeUnreachable("no node is up")
        return [current, *(it for it in self._nodes.nodes if it is not current and it.state in ANSWERING)]
