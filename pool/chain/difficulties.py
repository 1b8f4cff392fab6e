"""The difficulty of work at a height, and how long it was offered, as our own nodes have it: for who has to
know it and may not wait for a node.

He asks in a thread (`of`) and is told what is known. What is not is asked for soon (`ask`): he comes again.
A difficulty holds for a period of 2,016 blocks, and a subsidy up to a halving. So one question is for all
heights of a period, and what is known stays known: a node that is away takes nothing away.

Whose node is on a stale block for a while works by that one's difficulty. It is another one than that of the
chain only where the fork began before the period did. So stale blocks that our nodes have count as well.
What none of them has is doubted for six blocks, and then asked about once more.

On chains where a block that comes late may be an easy one (testnets) easy work is as good; on regtest all is.

Invariants: all of it is bounded; a height far away costs nothing but the question. Must not know: who claims
what, and what it is worth.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec

from pool.chain.networks import NETWORKS
from pool.chain.nodes import Height, Node, typed
from pool.chain.rpc import NodeError, NodeRefused, RpcError
from pool.chain.templates import HEIGHT_MAX, HashHex, Name

PERIOD_BLOCKS: Final = 2016  # of one difficulty (consensus)
SETTLED_BLOCKS: Final = 6  # on the first block of a period, before it is what all nodes have
FORK_BLOCKS_MAX: Final = 100  # as pool.chain.chain_lead has it: deeper is for a person to judge
FORKS_MAX: Final = 16  # looked at, of those that are of a period's beginning
FASTEST_S: Final = 300  # a block, over many of them: miners that were twice as many since the last period
FRESH_S: Final = 30.0  # for as long as a tip that was asked for is the tip
# There are 500 periods by now. A thief may ask about more, and pushes out what is asked for again.
KNOWN_MAX: Final = 1_024
WANTED_MAX: Final = 512  # at once, and doubted: two of each edge, which asks for one and comes again

_Key = TypeVar("_Key")
_Known = TypeVar("_Known")


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """Work at a height: which bits it may have, None for any, and until when. `over`: the chain has passed
    it; else it is offered until then at least, as far as we know."""

    nbits: frozenset[int] | None
    over: bool
    until_s: int


class _Period(msgspec.Struct, frozen=True):
    nbits: frozenset[int]
    settled: bool  # that much is on it
    asked: int  # how often


class _Tip(msgspec.Struct, frozen=True):
    height: int
    seen_at_s: int  # by the wall
    seen_s: float  # monotonic


class _ChainTip(msgspec.Struct):
    height: Height
    hash: HashHex
    branchlen: Annotated[int, msgspec.Meta(ge=0, le=HEIGHT_MAX)]
    status: Name


_BAD: Final = frozenset({"invalid", "active"})  # a block that is against the rules; and the chain itself


class Difficulties:
    """Of one chain."""

    def __init__(
        self,
        chain: str,
        *,
        wall_clock: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain, self._rules = chain, NETWORKS[chain]
        self._wall_clock, self._clock = wall_clock, clock
        self._lock = threading.Lock()
        self._tip: _Tip | None = None
        self._periods: dict[int, _Period] = {}  # by the height of the first block
        self._over_s: dict[int, int] = {}  # when the last block before that height came, by itself
        self._doubts: dict[tuple[int, int], int] = {}  # how often the period had been asked for by then
        self._wanted_periods: dict[int, None] = {}
        self._wanted_ends: dict[int, None] = {}
        self._wants_tip = False

    @property
    def wanted(self) -> bool:
        """Whether something is to be asked for."""
        return self._wants_tip or bool(self._wanted_periods) or bool(self._wanted_ends)

    def of(self, height: int, nbits: int) -> Offered | None:
        """What our nodes say to work at that height with these bits; None where they do not yet."""
        first, end = height - height % PERIOD_BLOCKS, self.end(height)
        with self._lock:
            tip = self._tip
            if tip is None or self._clock() - tip.seen_s >= FRESH_S:
                self._wants_tip = True
            said = self._bits(first, nbits) if self._rules.retargets else None
            if tip is None or (said is None and self._rules.retargets):
                return None
            over_at_s = self._over_s.get(end)
            if over_at_s is not None:
                return Offered(nbits=said, over=True, until_s=over_at_s)
            if tip.height >= end - 1:
                put(self._wanted_ends, end, None, WANTED_MAX)
                return None
            left = end - 1 - tip.height
            return Offered(nbits=said, over=False, until_s=tip.seen_at_s + left * FASTEST_S)

    async def ask(self, nodes: Sequence[Node]) -> None:
        """For what is wanted, of nodes that answer, the one to go by first. Raises NodeError."""
        with self._lock:
            periods, ends = list(self._wanted_periods), list(self._wanted_ends)
        tip = await nodes[0].tip_height()
        seen = _Tip(tip, int(self._wall_clock()), self._clock())
        with self._lock:
            self._tip, self._wants_tip = seen, False
        for first in periods:
            await self._ask_period(nodes, first, tip)
        for end in ends:
            await self._ask_end(nodes[0], end)

    async def _ask_end(self, node: Node, end: int) -> None:
        try:
            header = await _header_at(node, end - 1)
        except RpcError:
            header = None  # the chain became shorter meanwhile
        with self._lock:
            self._wanted_ends.pop(end, None)
            if header is not None:
                put(self._over_s, end, int.from_bytes(header[68:72], "little"), KNOWN_MAX)

    async def _ask_period(self, nodes: Sequence[Node], first: int, tip: int) -> None:
        found: set[int] = set()
        for node in nodes:
            try:
                found |= await self._bits_at(node, first)
            except NodeError as error:
                if node is nodes[0] and not isinstance(error, RpcError):
                    raise
        with self._lock:
            self._wanted_periods.pop(first, None)
            before = self._periods.get(first) or _Period(frozenset(), settled=False, asked=0)
            if found or before.nbits:
                if self._rules.easy_after_a_gap:
                    found.add(self._rules.easiest_nbits)
                settled = tip >= first + SETTLED_BLOCKS - 1
                period = _Period(before.nbits | found, settled, before.asked + 1)
                put(self._periods, first, period, KNOWN_MAX)

    async def _bits_at(self, node: Node, first: int) -> set[int]:
        """Of the first block of a period, of its forks, or of the one that the node would have next."""
        header = await _header_at(node, first)
        if header is not None:
            return {_nbits(header)} | await bits_of_forks(node, first)
        if await node.tip_height() + 1 == first:
            template = await node.template(chain=self._chain)
            if template.height == first:
                return {template.nbits}
        return set()

    def _bits(self, first: int, nbits: int) -> frozenset[int] | None:
        """Of that period; None where it has to be asked for, or asked for once more."""
        period = self._periods.get(first)
        if period is None:
            put(self._wanted_periods, first, None, WANTED_MAX)
            return None
        self._periods[first] = self._periods.pop(first)  # who is asked for last goes last
        if nbits in period.nbits:
            return period.nbits
        doubted_at = self._doubts.get((first, nbits))
        if doubted_at is not None and period.asked > doubted_at and period.settled:
            del self._doubts[first, nbits]
            return period.nbits
        if doubted_at is None:
            put(self._doubts, (first, nbits), period.asked, WANTED_MAX)
        put(self._wanted_periods, first, None, WANTED_MAX)
        return None

    def end(self, height: int) -> int:
        """The first height behind it at which work is worth something else."""
        halving = self._rules.halving_interval
        end = height - height % halving + halving
        return min(end, height - height % PERIOD_BLOCKS + PERIOD_BLOCKS) if self._rules.retargets else end


def put(known: dict[_Key, _Known], key: _Key, value: _Known, most: int) -> None:
    """The oldest makes room."""
    known.pop(key, None)
    known[key] = value
    while len(known) > most:
        del known[next(iter(known))]


async def _header_at(node: Node, height: int) -> bytes | None:
    there = await node.hash_at(height)
    return None if there is None else await node.header(there)


async def bits_of_forks(node: Node, height: int) -> set[int]:
    """Of stale blocks at a height that the node has; none where it does not tell."""
    try:
        answer = await node.rpc.call("getchaintips")
    except (RpcError, NodeRefused):
        return set()
    tips: list[_ChainTip] = typed(answer, list[_ChainTip], "getchaintips")
    forks = [it for it in tips if it.status not in _BAD and it.height - it.branchlen < height <= it.height]
    found = set()
    for tip in sorted(forks, key=lambda it: -it.height)[:FORKS_MAX]:
        if tip.height - height < FORK_BLOCKS_MAX:
            found.add(_nbits(await _header_below(node, tip, height)))
    return found


async def _header_below(node: Node, tip: _ChainTip, height: int) -> bytes:
    header = await node.header(tip.hash)
    for _ in range(tip.height - height):
        header = await node.header(header[4:36][::-1].hex())
    return header


def _nbits(header: bytes) -> int:
    return int.from_bytes(header[72:76], "little")
