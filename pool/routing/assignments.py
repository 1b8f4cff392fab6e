"""Which order each machine here is to mine for, as the hub has decided.

It is told by names, all that is in force at once, and kept by the numbers that machines have here. Whoever
comes later is looked up when it says its name: so a machine is where it belongs from its first job on, on
whichever process it comes to.

Must not know: how an order gets its machines, and how a machine is moved.
"""

import trio

from pool.fleet.registry import Registry, parse_worker_name
from pool.orders.mining import PIECE, Assigned


class Assignments:
    """`orders` is from a worker's number here to its order's; `version` is of what was told last."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._told: dict[tuple[str, str], dict[str, int]] = {}
        self.orders: dict[int, int] = {}
        self._next = self.orders  # while that is made, what will be in force is another one
        self.version = 0
        self._telling = trio.Lock()
        registry.newcomers.on_free.append(lambda number: self._put(number, None))

    async def tell(self, it: Assigned) -> None:
        """All that is in force from now on."""
        async with self._telling:
            await self._tell(it)

    async def _tell(self, it: Assigned) -> None:
        told: dict[tuple[str, str], dict[str, int]] = {}
        for of in it.machines:
            units = told.setdefault((of.tenant, of.container), {})
            for at in range(0, len(of.units), PIECE):
                units.update(dict.fromkeys(of.units[at : at + PIECE], of.order))
                await trio.lowlevel.checkpoint()
        self._told, self._next = told, {}
        for (tenant, container), units in told.items():
            names = list(units.items())
            for at in range(0, len(names), PIECE):
                for unit, order in names[at : at + PIECE]:
                    number = self._registry.numbered(tenant, container, unit)
                    if number is not None:
                        self._next[number] = order
                await trio.lowlevel.checkpoint()
        self.orders, self.version = self._next, it.version

    def met(self, number: int, name: str) -> None:
        """The machine of that name has come, and has this number."""
        tenant, container, unit = parse_worker_name(name)
        self._put(number, self._told.get((tenant, container), {}).get(unit))

    def _put(self, number: int, order: int | None) -> None:
        for orders in (self.orders, self._next):
            if order is None:
                orders.pop(number, None)
            else:
                orders[number] = order
