"""What the books, the page and the operator ask of a process that serves miners.

Arguments and answers are values that msgspec can encode, so whoever is asked may be in this process or not. A
machine is asked for by its name: its number is this process's own. Must not know: who answers.
"""

from typing import Protocol

import msgspec

from pool.edges.figures import EdgeFigures
from pool.fleet.registry import UnlistedWorker
from pool.orders.mining import Assigned, EdgeMining
from pool.power.control.peers import Peers
from pool.routing.drain import DrainStatus
from pool.upstreams.status import UpstreamStatus
from stratum.miners.decisions import Decision
from stratum.miners.firmware import Firmware
from stratum.miners.traces.traces import TraceView


class MachineConnection(msgspec.Struct, frozen=True, kw_only=True):
    """One of a machine's connections."""

    address: str
    state: str
    standing: str
    workers: int  # names that mine through it
    channel: int
    difficulty: int | float  # below 1 a fraction
    leaving: bool


class MachineMet(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a machine where it mines. `why`: what was decided about it, the newest first."""

    connections: list[MachineConnection]
    why: list[Decision]


class EdgeRoutes(msgspec.Struct, frozen=True, kw_only=True):
    """Every channel on an upstream; of an order's machines, how many mine somewhere else."""

    upstreams: tuple[UpstreamStatus, ...]
    misplaced: dict[int, int]


class Edge(Protocol):
    """One of them."""

    async def figures(self) -> EdgeFigures:
        """As of now; tens of microseconds."""

    async def routes(self) -> EdgeRoutes:
        """What they do now; a look at each machine that an order has."""

    async def mining(self) -> EdgeMining:
        """Every worker that mines there, and the orders that can be delivered there."""

    async def assign(self, assigned: Assigned) -> None:
        """Move machines to their orders, as soon as each may be moved; who comes later is there at once."""

    async def unlisted(
        self, after: int, tenant_id: int | None, container: str | None, rows_max: int
    ) -> list[UnlistedWorker]:
        """The first machines without a row, by number above `after`."""

    async def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        """The machine of that name, if it has no row."""

    async def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        """What a machine sent, or all of a tenant, that is in no tally, as
        stratum.miners.uncharged.Uncharged.of counts."""

    async def firmware(self) -> list[Firmware]:
        """What each firmware was seen to do: copies."""

    async def start_trace(self, name: str | None, address: str | None, seconds: int) -> int | None:
        """Of a machine, or of all that come from an address: its number here. None: there are too many."""

    async def trace(self, number: int, after: int) -> TraceView | None:
        """Its lines with numbers above `after`; None when it is over."""

    async def drain(self, over_s: int) -> DrainStatus:
        """Let nobody in, and everybody go within so many seconds."""

    async def end_drain(self) -> DrainStatus:
        """Let miners in again."""

    async def drain_status(self) -> DrainStatus:
        """How far it is."""

    async def machine(self, name: str) -> MachineMet:
        """What is known of the one of that name, which may be nothing."""

    async def peers(self) -> tuple[Peers, ...]:
        """Where every machine mines from."""
