"""The bitcoinds behind the pool: what each is asked, how each is, and which one we mine on.

Each node is CHECKING (has not answered yet), UP or DOWN. A check asks a node who it is; one that was not
up must offer a good template as well. Whoever gets an error from the node that we mine on marks it down,
only a check marks it up. The choice is always the first node in the configured order that is up.

    CHECKING --fit--> UP        CHECKING --error--> DOWN
    UP --error--> DOWN          DOWN --fit--> UP

Invariants: an outage is logged once, and its end once, with its duration. While no node is up `current` is
None and `outage_since_s` is set; recovery needs nobody.

Must not know: jobs, sessions, what is in a block.
"""

import enum
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec
import structlog
import trio

from pool.networks import NETWORKS
from pool.rpc import (
    ANSWER_TIMEOUT_S,
    Credentials,
    Lane,
    NodeError,
    NodeSpokeNonsense,
    NodeTimedOut,
    RpcClient,
)
from pool.templates import SEGWIT_RULE, SIGNET_RULE, BadTemplate, Template, parse_template
from stratum.difficulty import target_from_nbits

log = structlog.get_logger()

CHAINS: Final = tuple(NETWORKS)
NODES_MAX: Final = 16  # a site has two or three; each costs a check every few seconds

# bitcoind answers a longpoll at a new tip, or a minute later for new fees. On a quiet chain it never does,
# and keeps a thread for a caller that went away: ask again seldom. The refresh finds what this misses.
LONGPOLL_TIMEOUT_S: Final = 900.0
CHECK_UP_S: Final = 10.0
# The first check decides which node we start on: a silent one must not hold up the others for long.
FIRST_CHECK_TIMEOUT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = ANSWER_TIMEOUT_S  # for the questions of one check together
BACKOFF_MIN_S: Final = 1.0
BACKOFF_MAX_S: Final = 30.0
# Whoever stays up this long starts again at the shortest backoff; one that comes and goes does not.
STEADY_S: Final = 60.0
# Headers arrive before their block does, one or two of them; more is a node that is still catching up.
HEADERS_AHEAD_MAX: Final = 2
# Checks are up to CHECK_UP_S apart and blocks take seconds between nodes: only what lasts is an alarm.
DISAGREEMENT_S: Final = 3 * CHECK_UP_S

_Value = TypeVar("_Value")


class NodeUnfit(NodeError):
    """A node that answers well and that we must not mine on: wrong chain, not synchronised, no segwit."""


class NodeState(enum.Enum):
    """What we know of a node."""

    CHECKING = "checking"
    UP = "up"
    DOWN = "down"


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How to reach one bitcoind. Credentials: a cookie file, or user and password."""

    name: str
    url: str
    cookie_file: Path | None = None
    user: str | None = None
    password: str | None = None
    zmq_hashblock: str | None = None

    def __post_init__(self) -> None:
        # The url itself never goes into an error: whoever got it wrong may have put a password there.
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            raise ValueError(f"node {self.name}: the url is not http://host:port") from None
        if url.userinfo:
            raise ValueError(f"node {self.name}: user and password have settings of their own, not the url")
        if url.scheme not in ("http", "https") or not url.host or not 0 < (url.port or 80) < 1 << 16:
            raise ValueError(f"node {self.name}: the url is not http://host:port")
        if (self.cookie_file is None) == (self.user is None or self.password is None):
            raise ValueError(f"node {self.name}: give a cookie_file, or user and password")

    def __repr__(self) -> str:
        return f"NodeConfig(name={self.name!r}, url={self.url!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name), ("url", self.url)]


class ChainStatus(msgspec.Struct, frozen=True):
    """What a fit node says about itself."""

    chain: str
    height: int
    best_hash_hex: str
    agent: str
    connections: int


class _ChainInfo(msgspec.Struct):
    chain: str
    blocks: int
    headers: int
    bestblockhash: str
    initialblockdownload: bool


class _NetworkInfo(msgspec.Struct):
    subversion: str = ""
    connections: int = 0
    localservicesnames: list[str] | None = None  # unknown to a node before 0.19


class Node:
    """One bitcoind: its calls, and what we know of it."""

    def __init__(self, config: NodeConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self.name = config.name
        self.state = NodeState.CHECKING
        self.status: ChainStatus | None = None  # from the last good check
        self.reason = "not asked yet"  # why it is not up
        self.since_s = trio.current_time()  # of the present state, monotonic
        credentials = Credentials(user=config.user, password=config.password, cookie_file=config.cookie_file)
        self.rpc = RpcClient(config.url, credentials, transport=transport)

    def __repr__(self) -> str:
        return f"<Node {self.name} {self.state.value}>"

    def enter(self, state: NodeState, reason: str) -> None:
        """Be in another state from now on."""
        self.state, self.reason, self.since_s = state, reason, trio.current_time()

    async def template(self, *, chain: str, longpoll_id: str | None = None) -> Template:
        """What the node offers to mine now, or as soon as it differs from `longpoll_id`.

        Raises NodeError, NodeUnfit for a template by other rules than the chain's.
        """
        rules = [SEGWIT_RULE, SIGNET_RULE] if chain == "signet" else [SEGWIT_RULE]
        request: dict[str, object] = {"rules": rules}
        if longpoll_id is None:
            answer = await self.rpc.call("getblocktemplate", request)
        else:
            request["longpollid"] = longpoll_id
            answer = await self.rpc.call(
                "getblocktemplate", request, lane=Lane.LONGPOLL, timeout_s=LONGPOLL_TIMEOUT_S
            )
        try:
            template = parse_template(answer)
        except BadTemplate as error:
            raise NodeSpokeNonsense(str(error)) from None
        _check_rules(template, chain)
        return template

    async def submit_block(self, block_hex: str) -> str | None:
        """submitblock: None for accepted, else the reason in BIP-22's words. Raises NodeError."""
        verdict = await self.rpc.call("submitblock", block_hex, lane=Lane.BLOCKS)
        if verdict is not None and not isinstance(verdict, str):
            raise NodeSpokeNonsense("submitblock answered something that is no BIP-22 result")
        return verdict

    async def precious_block(self, hash_hex: str) -> None:
        """preciousblock: prefer this block to others of the same work. Raises NodeError."""
        await self.rpc.call("preciousblock", hash_hex, lane=Lane.BLOCKS)

    async def aclose(self) -> None:
        """Close the connections to the node."""
        await self.rpc.aclose()


async def check_chain(node: Node, chain: str) -> ChainStatus:
    """Ask `node` whether it is one to mine `chain` on. Raises NodeUnfit with the reason, or NodeError.

    On regtest, initial download is no obstacle: a new chain's tip is as old as its genesis block.
    """
    info = _typed(await node.rpc.call("getblockchaininfo"), _ChainInfo, "getblockchaininfo")
    if info.chain != chain:
        raise NodeUnfit(f"the node is on chain {info.chain!r}, this pool mines {chain!r}")
    genesis = await node.rpc.call("getblockhash", 0)
    if genesis != NETWORKS[chain].genesis:
        raise NodeUnfit(
            f"the node's chain {chain!r} begins with block {genesis!r:.80}, this pool's with another"
        )
    if chain != "regtest":
        if info.initialblockdownload:
            raise NodeUnfit(
                f"the node is in initial block download, at {info.blocks} of {info.headers} blocks"
            )
        if info.headers - info.blocks > HEADERS_AHEAD_MAX:
            raise NodeUnfit(f"the node is catching up, at {info.blocks} of {info.headers} blocks")
    network = _typed(await node.rpc.call("getnetworkinfo"), _NetworkInfo, "getnetworkinfo")
    if network.localservicesnames is not None and "WITNESS" not in network.localservicesnames:
        raise NodeUnfit("the node does not serve segwit blocks (no WITNESS among its services)")
    return ChainStatus(info.chain, info.blocks, info.bestblockhash, network.subversion, network.connections)


def _check_rules(template: Template, chain: str) -> None:
    if SEGWIT_RULE not in template.rules:
        raise NodeUnfit("the node's templates do not follow the segwit rule")
    if (template.signet_challenge is not None) != (chain == "signet"):
        has = "no challenge" if template.signet_challenge is None else "a signet's challenge"
        raise NodeUnfit(f"the node's template has {has}, this pool mines {chain!r}")
    if template.target > target_from_nbits(NETWORKS[chain].easiest_nbits):
        raise NodeUnfit(f"the node's template has bits {template.nbits:08x}: easier than {chain!r} allows")


def _typed(answer: object, kind: type[_Value], method: str) -> _Value:
    try:
        return msgspec.convert(answer, type=kind)
    except msgspec.ValidationError as error:
        raise NodeSpokeNonsense(f"{method}: {error}") from None


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
        self._disagree_since_s: float | None = None
        self._disagreement_logged = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check all nodes for ever; close them when cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for node in self.nodes:
                    nursery.start_soon(self._keep_checking, node)
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
            node.reason = str(error)
            return
        log.warning("node_down", node=node.name, url=node.config.url, reason=str(error))
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
                if node.state is state:  # else somebody found it down while we asked
                    self._mark_up(node, status)
            timeout_s = CHECK_TIMEOUT_S
            self._compare_tips()
            if node.state is NodeState.UP:
                up_since_s = node.since_s
                with trio.move_on_after(CHECK_UP_S):
                    while node.state is NodeState.UP:
                        await self._changed.wait()
                if trio.current_time() - up_since_s >= STEADY_S:
                    backoff_s = BACKOFF_MIN_S
            if node.state is not NodeState.UP:
                await trio.sleep(backoff_s)
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)

    async def _check(self, node: Node, timeout_s: float) -> ChainStatus:
        with trio.move_on_after(timeout_s):
            status = await check_chain(node, self.chain)
            if node.state is not NodeState.UP:
                await node.template(chain=self.chain)
            return status
        raise NodeTimedOut(f"no answer within {timeout_s:g} s")

    def _mark_up(self, node: Node, status: ChainStatus) -> None:
        node.status = status
        if node.state is NodeState.UP:
            return
        after_s = trio.current_time() - node.since_s
        log.info(
            "node_up", node=node.name, height=status.height, agent=status.agent, after_s=round(after_s, 1)
        )
        node.enter(NodeState.UP, "")
        self._choose()

    def _choose(self) -> None:
        """The first node that is up; none yet while a better one has still to answer for the first time."""
        chosen = next((node for node in self.nodes if node.state is not NodeState.DOWN), None)
        if chosen is not None and chosen.state is NodeState.CHECKING:
            chosen = None
        if chosen is None and all(node.state is NodeState.DOWN for node in self.nodes):
            log.error("no_node_up", nodes=len(self.nodes))
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
        tips = {node.name: node.status for node in self.nodes if node.state is NodeState.UP and node.status}
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
