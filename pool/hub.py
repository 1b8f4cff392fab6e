"""What whoever serves miners asks of whoever keeps the books, and tells him: values, and nothing that lives.

Arguments and answers are numbers, bytes, names and structs of them, so whoever is asked may be in this
process or not. Machines are told by their names, since each process may have numbers of its own. Where the
books do not answer, who serves miners goes on from what it knows.

Must not know: who answers.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from payouts.divisions import Header
from payouts.rates import BlockFees, Scheme
from payouts.siblings import SiblingKey
from payouts.solo import SoloPayout
from pool.books.journal.credit_book import CreditsPage, Tip
from pool.books.journal.prices import KnownPrices
from pool.chain.blocks import BlockResult
from pool.fleet.registry import Snapshot
from pool.journal.beginning import Beginning
from pool.journal.records import Machine
from pool.orders.mining import Assigned
from pool.orders.rows import OrderRecord
from pool.upstreams.rows import UpstreamRecord


class HubAway(Exception):
    """The hub, or its database, does not answer now: in words."""


class Plan(msgspec.Struct, frozen=True):
    """What miners are sold to, and through which upstreams."""

    upstreams: Mapping[int, UpstreamRecord]
    orders: Mapping[int, OrderRecord]


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What the books say to who begins to serve miners."""

    beginning: Beginning
    tips: tuple[Tip, ...]  # blocks that earlier processes have credited upstreams' work on, oldest first
    fee_basis_id: int | None  # the newest
    credited: tuple[
        tuple[bytes, bytes], ...
    ] = ()  # behind what the books have, as the writer's own files say
    prices: KnownPrices
    kept_log2: int | None = None  # from which difficulty on shares are kept; None: none are


class Part(msgspec.Struct, frozen=True):
    """Which of how many processes: of what nobody else may hand out. The hub numbers machines as the 0th."""

    number: int  # from 1
    of: int


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """What the hub says first."""

    part: Part
    journal: str  # its directory
    snapshot: Snapshot
    start: Start
    assigned: Assigned = Assigned()
    drains_s: int | None = None  # within how many seconds all miners are to go; None: they are let in
    # Of an edge at another site. Machines are let in of these tenants and containers (empty: all of the
    # tenant's); numbers of containers and machines up to these are given out, in the snapshot or not.
    places: frozenset[tuple[str, str]] | None = None
    numbers: tuple[int, int] = (0, 0)


class FoundBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block of ours, as the nodes took it."""

    result: BlockResult
    income_sat: int
    finder: Machine | None
    solo: SoloPayout | None  # if it pays a tenant
    scheme: Scheme | None  # how the shares of its job are paid; None: nobody knows
    header: Header
    content: bytes  # of its file


class RouteEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a channel, which had so many sessions: served, lost, fell_back, returned."""

    at_s: int
    upstream_id: int
    order_id: int | None
    event: str
    words: str
    sessions: int


class Hub(Protocol):
    """Who keeps the books."""

    async def plan(self) -> Plan:
        """As of now."""

    async def credits(self, prevhash: bytes, after: int) -> CreditsPage:
        """Some of what was credited on a block, behind that number."""

    async def fee_basis(self, fees: tuple[BlockFees, ...]) -> int:
        """Keep a list of recent blocks as the basis of FPPS; its number."""

    async def bind_signet(self, challenge: str) -> None:
        """See that templates of this signet are the book's. Raises WrongBook."""

    async def record_block(self, found: FoundBlock) -> None:
        """Book it, unless every node refused it, or it is booked."""

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None:
        """Book how many blocks were found, by whom, that cannot be in the chain beside one of ours: once a
        report, however often it is told."""

    async def book_found_blocks(self, earlier: frozenset[str]) -> None:
        """Book those of these, on disk, that a kill kept out of the books."""

    async def note_event(self, event: RouteEvent) -> None:
        """What happened to an upstream or an order."""
