"""The bitcoinds behind the pool: how each is, and which one we mine on.

Each node is CHECKING (has not answered yet), UP, BEHIND (answers, while another has a better chain) or DOWN.
A check asks a node who it is; one that did not answer before must offer a good template as well. Whoever gets
an error from the node that we mine on marks it down, only a check marks it up. The choice is always the first
node in the configured order that is up: of two chains that are equally long, its one.

    CHECKING --fit--> UP        CHECKING --error--> DOWN
    UP --error--> DOWN          DOWN --fit--> UP
    UP, DOWN --another leads--> BEHIND      BEHIND --caught up--> UP      BEHIND --error--> DOWN

Another leads when it is two blocks ahead, or one for longer than a block takes between nodes; and proves it
(`pool.chain.chain_lead`). Silence is an error as soon as another node answers; alone, a node may take its
time.

Invariants: an outage is logged once, and its end once, with its duration. While no node is up `current` is
None and `outage_since_s` is set; recovery needs nobody.

Must not know: jobs, sessions, what is in a block.
"""

from collections.abc import Callable, Sequence
from typing import Final

import httpx
import structlog
import trio

from pool.chain.chain_lead import ClaimIsFalse, leads
from pool.chain.nodes import ANSWERING, CHAINS, ChainStatus, Lead, Node, NodeConfig, NodeState, check_chain
from pool.chain.rpc import ANSWER_TIMEOUT_S, NodeError, NodeTimedOut

log = structlog.get_logger()

NODES_MAX: Final = 16  # a site has two or three; each costs a check every few seconds

CHECK_UP_S: Final = 3.0
# The first check decides which node we start on: a silent one must not hold up the others for long.
FIRST_CHECK_TIMEOUT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = ANSWER_TIMEOUT_S  # for the questions of one check together
# A question without an answer for so long is silence, when another node answered one that was asked later.
SILENT_S: Final = 5.0
SILENCE_CHECK_S: Final = 1.0
BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0
# Whoever stays up this long starts again at the shortest backoff; one that comes and goes does not.
STEADY_S: Final = 60.0
LEAD_BLOCKS: Final = 2  # ahead at once; one block may still be on its way
# For a lead to be proven, some questions long; and before one that was not is asked for again: who boasts,
# or has parted from the others long ago, must not have them answer for it all day.
PROOF_S: Final = 10.0
DOUBT_S: Final = 60.0  # for which a node that claimed what is not so is mined on only where there is no other
LEAD_S: Final = 20.0  # for as long as one block ahead is on its way
# A node that was behind another, which is gone now, stays behind: its work would be worthless, and miners
# keep the last good one. As long as the network takes for a block: then the other's tip is old as well.
LEAD_REMEMBERED_S: Final = 600.0
# Checks are some seconds apart and blocks take seconds between nodes: only what lasts is an alarm.
DISAGREEMENT_S: Final = 30.0


class NodeSet:
    """The configured nodes, the best first. `run` keeps checking them; `current` is the one to mine on."""

    def __init__(
        self,
        configs: Sequence[NodeConfig],
        *,
        chain: str,
        transport: Callable[[NodeConfig], httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        if chain not in CHAINS:
            raise ValueError(f"chain {chain!r} is unknown, there are: {', '.join(CHAINS)}")
        if not 1 <= len(configs) <= NODES_MAX or len({config.name for config in configs}) != len(configs):
            raise ValueError(f"1 to {NODES_MAX} nodes with different names are needed")
        self.nodes = tuple(
            Node(config, transport=transport(config) if transport else None) for config in configs
        )
        self.chain = chain
        self.current: Node | None = None
        self.outage_since_s: float | None = trio.current_time()  # monotonic; None while a node is up
        self._changed = trio.Event()  # replaced at each change of a node's state or of the choice
        self._outage_logged = False
        self._disagree_since_s: float | None = None
        self._disagreement_logged = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check all nodes for ever; close them when cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    nursery.start_soon(self._keep_checking, node)
                nursery.start_soon(self._mind_silence)
                task_status.started()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                for node in self.nodes:
                    await node.aclose()

    async def chosen(self) -> Node:
        """The current node, as soon as there is one."""
        while self.current is None:
            await self._changed.wait()
        return self.current

    async def until_left(self, node: Node) -> None:
        """Return when `node` is not the current one any more."""
        while self.current is node:
            await self._changed.wait()

    def mark_down(self, node: Node, error: NodeError) -> None:
        """`node` failed somebody: choose another until a check finds it fit again."""
        if node.state is NodeState.DOWN:
            if type(error) is not node.failed:  # away at first, and then of another chain
                log.warning("node_still_down", node=node.name, reason=str(error))
            node.reason, node.failed = str(error), type(error)
            return
        log.warning("node_down", node=node.name, url=node.config.url, reason=str(error))
        node.failed = type(error)
        node.enter(NodeState.DOWN, str(error))
        self._choose()

    async def _keep_checking(self, node: Node) -> None:
        backoff_s, timeout_s = BACKOFF_MIN_S, FIRST_CHECK_TIMEOUT_S
        while True:
            state = node.state
            try:
                status = await self._check(node, timeout_s)
            except NodeError as error:
                self.mark_down(node, error)
            else:
                lead = await self._lead_over(node, status)
                if node.state is state:  # else somebody found it down while we asked
                    self._mark_answering(node, status, lead)
            timeout_s = CHECK_TIMEOUT_S
            self._compare_tips()
            if node.state in ANSWERING:
                answers_since_s = node.since_s
                with trio.move_on_after(CHECK_UP_S):
                    while node.state in ANSWERING:
                        await self._changed.wait()
                if trio.current_time() - answers_since_s >= STEADY_S:
                    backoff_s = BACKOFF_MIN_S
            if node.state not in ANSWERING:
                await trio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _check(self, node: Node, timeout_s: float) -> ChainStatus:
        node.asked_s = asked_s = trio.current_time()
        try:
            with trio.move_on_after(timeout_s):
                status = await check_chain(node, self.chain)
                node.answered_s = asked_s
                if node.state not in ANSWERING:
                    await node.template(chain=self.chain)
                return status
        finally:
            node.asked_s = None
        raise NodeTimedOut(f"no answer within {timeout_s:g} s")

    async def _mind_silence(self) -> None:
        """Leave a node that keeps a question while another one answers."""
        while True:
            await trio.sleep(SILENCE_CHECK_S)
            for node in self.nodes:
                asked_s = node.asked_s
                if node.state not in ANSWERING or asked_s is None:
                    continue
                silent_s = trio.current_time() - asked_s
                others = (it for it in self.nodes if it.state in ANSWERING and it.answered_s > asked_s)
                other = next(others, None)
                if silent_s >= SILENT_S and other is not None:
                    self.mark_down(
                        node, NodeTimedOut(f"silent for {silent_s:.0f} s, while {other.name} answers")
                    )

    async def _lead_over(self, node: Node, status: ChainStatus) -> Lead | None:
        """A chain that is better than the node's, proven now or a while ago."""
        now_s = trio.current_time()
        ahead = [
            (it.status.height, it)
            for it in self.nodes
            if it is not node and it.state in ANSWERING and it.status and it.status.height > status.height
        ]
        if not ahead or node.trails_since_s is None:
            node.trails_since_s = now_s
        node.unanswered &= {other.name for _, other in ahead}
        for height, other in sorted(ahead, key=lambda it: -it[0]):
            blocks = min(height - status.height, LEAD_BLOCKS)
            lasts = node.state is NodeState.BEHIND or now_s - node.trails_since_s >= LEAD_S
            asked_s = node.unproven_s.get(other.name)
            if (blocks < LEAD_BLOCKS and not lasts) or (asked_s is not None and now_s - asked_s < PROOF_S):
                continue
            proven = await self._proves(other, node, blocks, height)
            node.unanswered.discard(other.name)
            if proven:
                return Lead(other.name, height, now_s)
            if proven is None:
                node.unanswered.add(other.name)
            node.unproven_s[other.name] = now_s
        # Whoever has gone in this very moment is still up until its own check: what it proved before holds.
        lead = node.lead
        if (
            lead is not None
            and status.height < lead.height
            and now_s - lead.seen_s < LEAD_REMEMBERED_S
            and not any(
                it.state is NodeState.UP
                for it in self.nodes
                if it is not node and it.name not in node.unanswered
            )
        ):
            return lead
        return None

    async def _proves(self, ahead: Node, behind: Node, blocks: int, claimed: int) -> bool | None:
        """Whether the lead is there; None when a node does not say, or not in time."""
        with trio.move_on_after(PROOF_S):
            try:
                return await leads(ahead, behind, blocks, claimed=claimed)
            except ClaimIsFalse as error:
                now_s = trio.current_time()
                if now_s - ahead.doubted_s >= DOUBT_S:
                    log.error("node_claims_falsely", node=ahead.name, reason=str(error))
                ahead.doubted_s = now_s
                self._choose()
            except NodeError as error:
                log.debug("lead_not_proven", node=ahead.name, over=behind.name, reason=str(error))
                return None
            return False
        return None

    def _mark_answering(self, node: Node, status: ChainStatus, lead: Lead | None) -> None:
        node.status, node.lead = status, lead
        before, after_s = node.state, round(trio.current_time() - node.since_s, 1)
        state = NodeState.UP if lead is None else NodeState.BEHIND
        if state is before:
            return
        keys = {"node": node.name, "height": status.height}
        if before not in ANSWERING:
            log.info("node_up", agent=status.agent, after_s=after_s, **keys)
        if lead is not None:
            log.warning("node_behind", of=lead.node, at=lead.height, **keys)
        elif before is NodeState.BEHIND:
            log.info("node_caught_up", after_s=after_s, **keys)
        node.enter(
            state, "" if lead is None else f"at {status.height}, while {lead.node} is at {lead.height}"
        )
        self._choose()

    def _choose(self) -> None:
        """The first node that is up; none yet while a better one has still to answer for the first time."""
        now_s = trio.current_time()
        hopeful = [node for node in self.nodes if node.state in (NodeState.UP, NodeState.CHECKING)]
        # Whoever has shown that it leads one that is behind goes before those who were not asked to.
        leaders = {node.lead.node for node in self.nodes if node.state is NodeState.BEHIND and node.lead}

        def doubt(node: Node) -> tuple[bool, bool]:
            return now_s - node.doubted_s < DOUBT_S, bool(leaders) and node.name not in leaders

        chosen = min(hopeful, key=doubt, default=None)
        nobody = chosen is None
        if chosen is not None and chosen.state is NodeState.CHECKING:
            chosen = None
        if nobody and not self._outage_logged:
            log.error("no_node_up", nodes=len(self.nodes))
        self._outage_logged = nobody
        if chosen is not self.current:
            if chosen is None:
                self.outage_since_s = trio.current_time()
            else:
                self.outage_since_s = None
                log.info("node_chosen", node=chosen.name, instead_of=self.current and self.current.name)
            self.current = chosen
        self._changed.set()
        self._changed = trio.Event()

    def _compare_tips(self) -> None:
        tips = {node.name: node.status for node in self.nodes if node.state in ANSWERING and node.status}
        now_s = trio.current_time()
        if len({status.best_hash_hex for status in tips.values()}) <= 1:
            if self._disagreement_logged:
                log.info("nodes_agree", after_s=round(now_s - (self._disagree_since_s or now_s), 1))
            self._disagree_since_s, self._disagreement_logged = None, False
            return
        if self._disagree_since_s is None:
            self._disagree_since_s = now_s
        if not self._disagreement_logged and now_s - self._disagree_since_s >= DISAGREEMENT_S:
            self._disagreement_logged = True
            log.error(
                "nodes_disagree",
                mining_on=self.current and self.current.name,
                tips={name: f"{status.height} {status.best_hash_hex}" for name, status in tips.items()},
            )
