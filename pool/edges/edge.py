"""What the books, the page and the operator ask of a process that serves miners.

Arguments and answers are values that msgspec can encode, so whoever is asked may be in this process or not. A
machine is asked for by its name: its number is this process's own. Must not know: who answers.
"""

from typing import Protocol

import msgspec

from pool.edges.figures import EdgeFigures
from pool.routing.status import RouteStatus
from stratum.miners.decisions import Decision


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


class Edge(Protocol):
    """One of them."""

    async def figures(self) -> EdgeFigures:
        """As of now; tens of microseconds."""

    async def routes(self) -> RouteStatus:
        """Every channel on an upstream, and every order; a look at each machine that an order has."""

    async def machine(self, name: str) -> MachineMet:
        """What is known of the one of that name, which may be nothing."""
