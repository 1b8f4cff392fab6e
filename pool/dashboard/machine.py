"""One machine: its connections, a day of its figures, and why it does what it does.

Must not know: who asks.
"""

from typing import Final

import msgspec
import numpy as np
import trio

from pool.dashboard.history import History, Series
from pool.dashboard.machine_list import MachineList, MachineRow
from pool.dashboard.places import rest
from pool.dashboard.site_map import SiteMap
from pool.fleet.registry import Registry, parse_worker_name
from stratum.miners.connection import Connection
from stratum.miners.decisions import Decision, Decisions
from stratum.miners.switchboard import Switchboard

PIECE: Final = 2_048  # connections that are looked at, half a millisecond
CONNECTIONS_MAX: Final = 20  # shown: who invents names may have thousands under one


class MachineConnection(msgspec.Struct, frozen=True, kw_only=True):
    """One of its connections."""

    address: str
    state: str
    standing: str
    workers: int  # names that mine through it
    channel: int
    difficulty: int | float  # below 1 a fraction
    leaving: bool


class MachineShown(MachineRow, frozen=True, kw_only=True):
    """All that is known of it. `why`: what was decided about it, the newest first."""

    connections: list[MachineConnection]
    history: Series
    why: list[Decision]


class OneMachine:
    """Of one pool."""

    def __init__(
        self,
        machines: MachineList,
        site_map: SiteMap,
        registry: Registry,
        history: History,
        board: Switchboard,
        decisions: Decisions,
    ) -> None:
        self._machines, self._map, self._registry = machines, site_map, registry
        self._history, self._board, self._decisions = history, board, decisions
        self._one_at_a_time = trio.Lock()

    async def of(self, name: str) -> MachineShown | None:
        """All that is known of it; None: no machine of that name has mined."""
        await self._map.look()
        tenant, container, unit = parse_worker_name(name)
        number = self._registry.number_of(tenant, container, unit)
        index = np.flatnonzero(self._map.places.numbers == number)
        if number is None or not len(index):
            return None
        [row] = self._machines.rows(index, trio.current_time())
        return MachineShown(
            **msgspec.structs.asdict(row),
            connections=await self._connections(number),
            history=self._history.of(number),
            why=self._decisions.of(number),
        )

    async def _connections(self, number: int) -> list[MachineConnection]:
        found: list[MachineConnection] = []
        async with self._one_at_a_time:
            connections = list(self._board.connections)
            for at in range(0, len(connections), PIECE):
                for it in connections[at : at + PIECE]:
                    if it.open and number in it.workers and len(found) < CONNECTIONS_MAX:
                        found.append(_told(it))
                await rest()
        return found


def _told(it: Connection) -> MachineConnection:
    session, log2 = it.session, it.session.difficulty.log2
    return MachineConnection(
        address=it.address,
        state=session.state.value,
        standing=it.place.standing.value,
        workers=len(it.workers),
        channel=session.assignment.channel.number,
        difficulty=2**log2 if log2 >= 0 else 2.0**log2,
        leaving=session.assignment.leaving,
    )
