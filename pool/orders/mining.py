"""What the allocator asks of those who serve miners, and tells them: machines by their names.

Each of them has numbers of its own, and may be in another process: so machines go by name, a container's
together, and 19,000 of them are some hundred KiB. What they say is put together here by the registry's
numbers. A machine that mines at several counts once, may be moved when all of them may move it, and delivers
an order where all of them can: otherwise part of what is measured of it would be missing.

They are believed no further than that: names that nobody has are nobody's, a machine is as fast as the
journals say it is, and what is told beyond TOLD_MAX is not looked at. Must not know: who is asked, and how.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import trio

from pool.fleet.registry import Registry

TOLD_MAX: Final = 100_000  # machines of one who serves: connections that a process takes at most
PIECE: Final = 1_024  # machines that are looked at, or told, before others have their turn: a millisecond


class Mining(msgspec.Struct, frozen=True, kw_only=True):
    """Machines of a container, by their units, and for each a byte: 1 where it may be moved now."""

    tenant: str
    container: str
    units: tuple[str, ...]
    movable: bytes


class EdgeMining(msgspec.Struct, frozen=True, kw_only=True):
    """All that mine at one who serves miners. `served` are orders whose machines can be there where they are
    sold to; `version` is of the assignments that are in force there."""

    machines: tuple[Mining, ...]
    served: frozenset[int]
    version: int


class OrderMachines(msgspec.Struct, frozen=True, kw_only=True):
    """Machines of a container that are an order's, by their units."""

    order: int
    tenant: str
    container: str
    units: tuple[str, ...]


class Assigned(msgspec.Struct, frozen=True, kw_only=True):
    """Every assignment that is in force. Others have another version; none was ever told has 0."""

    version: int = 0
    machines: tuple[OrderMachines, ...] = ()


class AllMining(msgspec.Struct, frozen=True, kw_only=True):
    """By the registry's numbers: the orders that a machine can deliver where it mines, and who may be moved.
    `served` are the orders that can be delivered anywhere."""

    delivers: dict[int, frozenset[int]]
    movable: set[int]
    served: frozenset[int]


async def all_mining(
    told: Sequence[EdgeMining], number_of: Callable[[str, str, str], int | None]
) -> AllMining:
    """What they say together."""
    delivers: dict[int, frozenset[int]] = {}
    movable: set[int] = set()
    for it in told:
        left = TOLD_MAX
        for of in it.machines:
            pairs = list(zip(of.units, of.movable, strict=False))[:left]
            left -= len(pairs)
            for at in range(0, len(pairs), PIECE):
                for unit, may_move in pairs[at : at + PIECE]:
                    number = number_of(of.tenant, of.container, unit)
                    if number is None:
                        continue
                    if number not in delivers:
                        delivers[number] = it.served
                        if may_move:
                            movable.add(number)
                    else:
                        delivers[number] &= it.served
                        if not may_move:
                            movable.discard(number)
                await trio.lowlevel.checkpoint()
    return AllMining(
        delivers=delivers, movable=movable, served=frozenset().union(*(it.served for it in told))
    )


async def assigned_by_name(assignments: Mapping[int, int], registry: Registry, version: int) -> Assigned:
    """Of workers' numbers to orders'."""
    found: dict[tuple[int, int], list[str]] = {}
    pairs = list(assignments.items())
    for at in range(0, len(pairs), PIECE):
        for number, order in pairs[at : at + PIECE]:
            worker = registry.workers.get(number)
            if worker is not None:  # else it was removed a moment ago
                found.setdefault((order, worker.container_id), []).append(worker.unit)
        await trio.lowlevel.checkpoint()
    places = registry.containers
    return Assigned(
        version=version,
        machines=tuple(
            OrderMachines(
                order=order,
                tenant=registry.tenants_by_id[places[container].tenant_id].name,
                container=places[container].name,
                units=tuple(units),
            )
            for (order, container), units in found.items()
        ),
    )
