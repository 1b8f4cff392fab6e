"""One bitcoind: how to reach it, what it is asked, what makes it fit to be mined on.

A node is CHECKING (has not answered yet), UP, BEHIND (answers, while another has a better chain) or DOWN; its
set says which (`pool.chain.node_set`).

Must not know: other nodes, jobs, sessions, what is in a block.
"""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import httpx
import msgspec
import structlog
import trio

from pool.chain.networks import NETWORKS
from pool.chain.rpc import (
    Credentials,
    Lane,
    NodeError,
    NodeSpokeNonsense,
    RpcClient,
    RpcError,
    one_line,
)
from pool.chain.templates import (
    HEIGHT_MAX,
    SEGWIT_RULE,
    SIGNET_RULE,
    BadTemplate,
    HashHex,
    Name,
    Template,
    parse_template,
)
from stratum.difficulty import target_from_nbits
from stratum.histogram import Histogram

log = structlog.get_logger()

CHAINS: Final = tuple(NETWORKS)
# bitcoind answers a longpoll at a new tip, or a minute later for new fees. On a quiet chain it never does,
# and keeps a thread for a caller that went away: ask again seldom. The refresh finds what this misses.
LONGPOLL_TIMEOUT_S: Final = 900.0
# Headers arrive before their block does, one or two of them; more is a node that is still catching up.
HEADERS_AHEAD_MAX: Final = 2
RPC_OUT_OF_RANGE: Final = -8  # RPC_INVALID_PARAMETER: a height that the chain has not got
HEADER_BYTES: Final = 80
COUNT_MAX: Final = 0x7FFFFFFF

Height = Annotated[int, msgspec.Meta(ge=0, le=HEIGHT_MAX)]

_Value = TypeVar("_Value")


class NodeUnfit(NodeError):
    """A node that answers well and that we must not mine on: wrong chain, not synchronised, no segwit."""


class NodeState(enum.Enum):
    """What we know of a node."""

    CHECKING = "checking"
    UP = "up"
    BEHIND = "behind"
    DOWN = "down"


ANSWERING: Final = frozenset({NodeState.UP, NodeState.BEHIND})


class Lead(msgspec.Struct, frozen=True):
    """A better chain that another node has, or had."""

    node: str
    height: int
    seen_s: float  # monotonic


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
    chain: Name
    blocks: Height
    headers: Annotated[int, msgspec.Meta(ge=-1, le=HEIGHT_MAX)]  # -1: it has none at all
    bestblockhash: HashHex
    initialblockdownload: bool


class _NetworkInfo(msgspec.Struct):
    subversion: Name = ""
    connections: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)] = 0
    localservicesnames: list[str] | None = None  # unknown to a node before 0.19


class Node:
    """One bitcoind: its calls, and what we know of it."""

    def __init__(self, config: NodeConfig, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.config = config
        self.name = config.name
        self.state = NodeState.CHECKING
        self.status: ChainStatus | None = None  # from the last good check
        self.reason = "not asked yet"  # why it is not up
        self.failed: type[NodeError] | None = None  # how, when it is down
        self.since_s = trio.current_time()  # of the present state, monotonic
        self.asked_s: float | None = None  # since when a check waits for its answer
        self.answered_s = float("-inf")  # when a check was last asked that has its answer
        self.lead: Lead | None = None  # over this node
        self.trails_since_s: float | None = None  # another claims a longer chain since then
        self.doubted_s = float("-inf")  # when it last claimed what was not so
        self.unproven_s: dict[str, float] = {}  # when another node last did not prove its claim to one
        self.template_times = Histogram()  # of templates that were asked for, and not waited for
        self.unanswered: set[str] = set()  # of those ahead: who did not even answer when it was last asked
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
            since_s = trio.current_time()
            answer = await self.rpc.call("getblocktemplate", request)
            self.template_times.add(trio.current_time() - since_s)
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

    async def submit_block(
        self, digits: Sequence[bytes], *, ends_after: trio.Event | None = None
    ) -> str | None:
        """submitblock, of hex in pieces: None for accepted, else the reason in BIP-22's words. The node has
        all of it `ends_after` that, and not before. Raises NodeError."""
        verdict = await self.rpc.call_with_hex("submitblock", digits, lane=Lane.BLOCKS, ends_after=ends_after)
        if verdict is not None and not isinstance(verdict, str):
            raise NodeSpokeNonsense("submitblock answered something that is no BIP-22 result")
        return None if verdict is None else one_line(verdict)

    async def precious_block(self, hash_hex: str) -> None:
        """preciousblock: prefer this block to others of the same work. Raises NodeError."""
        await self.rpc.call("preciousblock", hash_hex, lane=Lane.BLOCKS)

    async def tip_height(self) -> int:
        """getblockcount. Raises NodeError."""
        return typed(await self.rpc.call("getblockcount"), Height, "getblockcount")

    async def hash_at(self, height: int) -> str | None:
        """The block that its best chain has at a height; None above its tip. Raises NodeError."""
        try:
            found = await self.rpc.call("getblockhash", height)
        except RpcError as error:
            if error.code == RPC_OUT_OF_RANGE:
                return None
            raise
        return typed(found, HashHex, "getblockhash").lower()

    async def header(self, block_hash: str) -> bytes:
        """A block's 80 bytes. Raises NodeError."""
        answer = await self.rpc.call("getblockheader", block_hash, False)
        try:
            header = bytes.fromhex(answer)
        except (TypeError, ValueError):
            header = b""
        if len(header) != HEADER_BYTES:
            raise NodeSpokeNonsense("getblockheader answered something that is no header")
        return header

    async def aclose(self) -> None:
        """Close the connections to the node."""
        await self.rpc.aclose()


async def check_chain(node: Node, chain: str) -> ChainStatus:
    """Ask `node` whether it is one to mine `chain` on. Raises NodeUnfit with the reason, or NodeError.

    On regtest, initial download is no obstacle: a new chain's tip is as old as its genesis block.
    """
    info = typed(await node.rpc.call("getblockchaininfo"), _ChainInfo, "getblockchaininfo")
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
    network = typed(await node.rpc.call("getnetworkinfo"), _NetworkInfo, "getnetworkinfo")
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


def typed(answer: object, kind: type[_Value], method: str) -> _Value:
    """The answer as what it should be. Raises NodeSpokeNonsense, which names the field, not its content."""
    try:
        return msgspec.convert(answer, type=kind)
    except msgspec.ValidationError as error:
        raise NodeSpokeNonsense(f"{method}: {error}") from None
