"""One machine: its connections, a day of its figures, and why it does what it does.

Must not know: who asks.
"""

import msgspec
import numpy as np
import trio

from pool.dashboard.history import History, Series
from pool.dashboard.machine_list import MachineList, MachineRow
from pool.dashboard.site_map import SiteMap
from pool.edges.edge import MachineConnection
from pool.edges.edges import Edges
from pool.fleet.registry import Registry, parse_worker_name
from stratum.miners.decisions import Decision


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
        edges: Edges,
    ) -> None:
        self._machines, self._map, self._registry = machines, site_map, registry
        self._history, self._edges = history, edges

    async def of(self, name: str) -> MachineShown | None:
        """All that is known of it; None: no machine of that name has mined."""
        await self._map.look()
        tenant, container, unit = parse_worker_name(name)
        number = self._registry.number_of(tenant, container, unit)
        places = self._map.places
        index = np.flatnonzero(places.numbers == number)
        if number is None or not len(index):
            return None
        [row] = self._machines.rows(places, index, trio.current_time())
        met = await self._edges.machine(name)
        return MachineShown(
            **msgspec.structs.asdict(row),
            connections=met.connections,
            history=self._history.of(number),
            why=met.why,
        )
