"""Where every machine stands on the map: containers by tenant and name, in each its machines by unit.

The order changes only when a machine or a container is new or gone. It is made in pieces, with others on the
loop between them, and a container whose machines are the same is taken over as it was.

Invariants: a machine is in one place; who invents names makes no map without end: what is beyond
MACHINES_MAX is counted and not shown, and who came first stays. Must not know: what a machine does.
"""

import heapq
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
import trio

from pool.fleet.registry import ContainerRecord, Registry, WorkerRecord

MACHINES_MAX: Final = 50_000  # twice four sites built out; a map of them has 1 MB
CONTAINERS_MAX: Final = 2_000  # a site has some sixty
PIECE: Final = 256  # machines: a millisecond of work in which nobody else has a turn
REST_S: Final = 0.002  # behind a piece: a miner waits for one of them, never for several
NUMBERS: Final = re.compile(r"([0-9]+)")

Ints = np.ndarray[Any, np.dtype[np.intp]]
_Key = tuple[str | int, ...]


class Place(msgspec.Struct, frozen=True):
    """A container and its machines, in their order."""

    container: ContainerRecord
    tenant: str
    units: tuple[str, ...]
    numbers: Ints  # of workers

    @property
    def machine_ths(self) -> float | None:
        """What its nameplate says of each machine."""
        ths, units = self.container.ths, self.container.units
        return ths / units if ths and units else None

    @property
    def unseen(self) -> int:
        """How many machines its nameplate counts that have never come."""
        return min(max(0, (self.container.units or 0) - len(self.units)), MACHINES_MAX)


class Places:
    """All of them; machines by an index that runs through the containers. `generation` is the registry's."""

    def __init__(
        self,
        places: Sequence[Place],
        tenants: Sequence[str],
        others: Sequence[tuple[int, int]],
        generation: int,
    ) -> None:
        self.all = tuple(places)
        self.generation = generation
        self.tenants = tuple(tenants)
        tenant_at = {name: at for at, name in enumerate(tenants)}
        sizes = [len(it.units) for it in places]
        self.starts: Ints = np.concatenate(([0], np.cumsum(sizes, dtype=np.intp))).astype(np.intp)
        self.numbers: Ints = np.concatenate([np.zeros(0, dtype=np.intp), *(it.numbers for it in places)])
        self.container_of: Ints = np.repeat(np.arange(len(places)), sizes)
        self.tenant_of: Ints = np.repeat([tenant_at[it.tenant] for it in places] or [0], sizes or [0])
        machine_ths = [np.nan if it.machine_ths is None else it.machine_ths for it in places]
        self.nameplates_hps = np.repeat(np.array(machine_ths or [0.0]), sizes or [0]) * 1e12
        # Not shown, and counted with their tenants.
        self.others: Ints = np.array([number for number, _ in others], dtype=np.intp)
        self.others_tenant_of: Ints = np.array([at for _, at in others], dtype=np.intp)

    def __len__(self) -> int:
        return len(self.numbers)

    def name_of(self, index: int) -> str:
        """The worker's."""
        container = int(self.container_of[index])
        place = self.all[container]
        return full_name(place.tenant, place.container.name, place.units[index - int(self.starts[container])])


def full_name(tenant: str, container: str, unit: str) -> str:
    return ".".join(part for part in (tenant, container, unit) if part)


NOWHERE: Final = Places((), (), (), -1)


def natural(text: str) -> _Key:
    """A key by which r2 comes before r10."""
    return tuple(int(it) if at % 2 else it for at, it in enumerate(NUMBERS.split(text)))


async def lay_out(registry: Registry, before: Places) -> Places:
    """Where they stand now."""
    generation, workers = registry.generation, list(registry.workers.values())
    by_container: dict[int, list[WorkerRecord]] = {}
    for at in range(0, len(workers), PIECE):
        for it in islice(workers, at, at + PIECE):
            by_container.setdefault(it.container_id, []).append(it)
        await rest()
    known = {it.container.id: it for it in before.all}
    tenants = {it.id: it.name for it in registry.tenants_by_id.values()}
    containers = [
        it for it in registry.containers.values() if it.id in by_container or (it.units and not it.removed)
    ]
    shown = containers[:CONTAINERS_MAX]
    places, left, others = [], MACHINES_MAX, containers[CONTAINERS_MAX:]
    order = sorted(tenants.values())
    tenant_at = {name: at for at, name in enumerate(order)}
    beyond = [(n.id, tenant_at[tenants[it.tenant_id]]) for it in others for n in by_container.get(it.id, ())]
    for container in shown:
        machines = by_container.get(container.id, [])
        tenant = tenants[container.tenant_id]
        beyond += [(it.id, tenant_at[tenant]) for it in machines[left:]]
        places.append(await _placed(container, tenant, machines[:left], known.get(container.id)))
        left -= len(places[-1].units)
        await rest()
    places.sort(key=lambda it: (it.tenant, natural(it.container.name)))
    return Places(places, order, beyond, generation)


async def _placed(
    container: ContainerRecord, tenant: str, machines: list[WorkerRecord], before: Place | None
) -> Place:
    if before is not None and len(before.numbers) == len(machines):
        numbers = set(before.numbers.tolist())
        if all(it.id in numbers for it in machines):
            return msgspec.structs.replace(before, container=container)
    runs: list[list[tuple[_Key, str, int]]] = []
    for at in range(0, len(machines), PIECE):
        runs.append(sorted((natural(it.unit), it.unit, it.id) for it in islice(machines, at, at + PIECE)))
        await rest()
    found: list[tuple[_Key, str, int]] = []
    merged: Iterator[tuple[_Key, str, int]] = heapq.merge(*runs)
    while run := list(islice(merged, PIECE)):
        found += run
        if len(runs) > 1:
            await rest()
    units = tuple(unit for _, unit, _ in found)
    return Place(container, tenant, units, np.array([number for *_, number in found], dtype=np.intp))


async def rest() -> None:
    """Others have their turn."""
    await trio.sleep(REST_S)
