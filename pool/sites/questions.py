"""What an edge at another site asks the hub, and what the hub tells it, beside the questions that every edge
is asked (`pool.edges.edge.Edge`): values, by a way that may lose, delay and repeat each of them.

So whatever is told has a number: an edge that has missed some asks for all that there is (`everything`), and
whatever it is asked for is the same when it is asked twice. Whose an edge is, and what it may, is for who
answers to know: nothing that it says of itself is believed. Must not know: how values travel.
"""

from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from payouts.rates import Scheme
from payouts.siblings import SiblingKey
from pool.books.book import WrongBook
from pool.books.edges.leases import Asked, EdgeRefused, Granted
from pool.books.journal.credit_book import CreditsPage
from pool.fleet.registry import ContainerRecord, KnownMachine, TenantRecord
from pool.hub import Begin, HubAway, Plan, RouteEvent
from pool.journal.beginning import Forgotten, Mark
from pool.journal.frames import Place
from pool.journal.inbox import Received, Want
from pool.journal.records import Machine

# Exceptions that are what they are at the other end too.
CROSSING: Final = (HubAway, WrongBook, EdgeRefused)


class TenantChanged(msgspec.Struct, frozen=True, tag=True):
    record: TenantRecord


class ContainerChanged(msgspec.Struct, frozen=True, tag=True):
    record: ContainerRecord


class WorkersRemoved(msgspec.Struct, frozen=True, tag=True):
    names: tuple[tuple[str, str, str], ...]


class MachinesKnown(msgspec.Struct, frozen=True, tag=True):
    machines: tuple[KnownMachine, ...]


class RoutesChanged(msgspec.Struct, frozen=True, tag=True):
    """Upstreams or orders are others: who wants to know asks for the plan."""


Change = TenantChanged | ContainerChanged | WorkersRemoved | MachinesKnown | RoutesChanged


class Told(msgspec.Struct, frozen=True):
    """One change; `number` is one more than that of the one before."""

    number: int
    change: Change


class Everything(msgspec.Struct, frozen=True):
    """All that there is for an edge, with every change up to that number."""

    begin: Begin
    plan: Plan
    changes: int


class Heard(msgspec.Struct, frozen=True):
    """To an edge that says how far it is: what is here of its journal, and the number of the last change."""

    received: Received
    changes: int


class SiteHub(Protocol):
    """The hub, as one edge asks it. `epoch` is what it was granted."""

    async def begin(self, asked: Asked) -> Granted:
        """Be the edge from now on. Raises EdgeRefused."""

    async def everything(self, epoch: int) -> Everything:
        """What it has to know. Raises EdgeRefused."""

    async def renew(self, epoch: int, mark: Mark, hub: int = 0) -> Heard:
        """It lives, and is so far; it had heard of the hub of that epoch before that. Raises EdgeRefused."""

    async def send(self, epoch: int, frames: bytes) -> Received:
        """Frames that are too long for a message, or do not come by one. Raises EdgeRefused."""

    async def unbooked(self, epoch: int, hashes: Sequence[str]) -> list[str]:
        """Those blocks that the books do not have."""

    async def found(
        self, epoch: int, block: bytes, finder: Machine | None, scheme: Scheme | None = None
    ) -> None:
        """A block that a node of the edge took: its own bytes say what it pays. `scheme`: how the shares of
        its job are paid; edges of before do not say."""

    async def plan(self) -> Plan:
        """As pool.hub.Hub, and so are those below."""

    async def credits(self, prevhash: bytes, after: int) -> CreditsPage: ...

    async def bind_signet(self, challenge: str) -> None: ...

    async def count_siblings(
        self, report: str, counts: Sequence[tuple[SiblingKey, Machine | None, int]]
    ) -> None: ...

    async def note_event(self, event: RouteEvent) -> None: ...


class Site(Protocol):
    """An edge, as the hub tells it."""

    async def taken(self, epoch: int, booked: Place) -> None:
        """The books have its journal up to there."""

    async def send_again(self, epoch: int, want: Want) -> None:
        """Something of its journal is missing."""

    async def forgotten(self, epoch: int, prevhashes: Sequence[bytes]) -> Forgotten:
        """Those of these previous blocks on which nothing can be credited there any more."""

    async def changed(self, told: Told) -> None:
        """Something is another one."""
