"""Whether our nodes are gone: for so long that who mines our own work is better off elsewhere.

While no node answers, miners keep the last work until `outage_s`; then they are let go, so that they turn to
their other pools, and taken back when a node is there again.

Must not know: miners, and how they are let go.
"""

from collections.abc import Callable
from typing import Final

import structlog
import trio

from pool.chain.node_set import NodeSet

log = structlog.get_logger()

CHECK_S: Final = 1.0
NO_NODE: Final = "no bitcoin node answers"


class Outage:
    """Of one set of nodes. `since_s` is when it began (monotonic), None while there is none."""

    def __init__(self, nodes: NodeSet, outage_s: float) -> None:
        self.since_s: float | None = None
        self._nodes = nodes
        self.outage_s = outage_s  # what is in force now

    async def run(self, *, let_go: Callable[[str], None], readmit: Callable[[], None]) -> None:
        """Until cancelled. `let_go` gets the reason, once an outage; `readmit` is called at its end."""
        while True:
            await trio.sleep(CHECK_S)
            gone_since_s = self._nodes.outage_since_s
            gone_s = 0.0 if gone_since_s is None else trio.current_time() - gone_since_s
            if gone_s >= self.outage_s and self.since_s is None:
                self.since_s = trio.current_time()
                log.error("miners_let_go", reason="no node answers", outage_s=round(gone_s))
                let_go(NO_NODE)
            elif gone_s < self.outage_s and self.since_s is not None:
                self.since_s = None
                log.warning("miners_taken_back")
                readmit()
