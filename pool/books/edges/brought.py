"""How many machines an edge may bring that nobody knows.

That they are any is for the edge to say: whoever has captured one makes up names, and shares of theirs. So
each edge has a measure of its own, that of a pool for itself. All together have ten times as much of a
tenant, so that what one fills up with, or what its own machines prove there, is in no other's way.

Invariants: nobody is refused when a part of his window is booked. One thread, the registry's, but
for a look. Must not know: shares.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from pool.books.store import StoreError
from pool.fleet import registry as bounds
from pool.fleet.registry import Registry
from pool.journal.records import Machine


class Brought:
    """Of one edge, since its journal was opened: by a hub that began, or after somebody has looked at it."""

    def __init__(self, edge: str, registry: Registry) -> None:
        self._edge, self._registry = edge, registry
        self._machines: Counter[str] = Counter()  # by tenant
        self._containers: Counter[str] = Counter()

    def unknown(self, machines: Iterable[Machine]) -> Sequence[Machine]:
        """Those of them that nobody knows. Looks up and changes nothing, so it may be asked in any thread: of
        a window of 18,700 machines nearly always none is left, and the registry's thread is not kept."""
        number_of = self._registry.number_of
        return [it for it in machines if number_of(it.tenant, it.container, it.unit) is None]

    def check(self, machines: Iterable[Machine]) -> None:
        """Before any of them comes. Raises StoreError."""
        registry = self._registry
        new = {
            (it.tenant, it.container, it.unit)
            for it in machines
            if registry.number_of(it.tenant, it.container, it.unit) is None
        }
        places = {it[:2] for it in new if registry.container_of(*it[:2]) is None}
        for tenant, count in Counter(it[0] for it in new).items():
            self._check_own(tenant, "workers", self._machines[tenant] + count, bounds.WORKERS_PER_TENANT_MAX)
            if registry.workers_of(tenant) + count > bounds.WORKERS_AT_SITES_MAX:
                raise StoreError(f"tenant {tenant} has too many workers: `angara worker remove` makes room")
        for tenant, count in Counter(it[0] for it in places).items():
            most = bounds.CONTAINERS_PER_TENANT_MAX
            self._check_own(tenant, "containers", self._containers[tenant] + count, most)
            if registry.containers_of(tenant) + count > bounds.CONTAINERS_AT_SITES_MAX:
                raise StoreError(
                    f"tenant {tenant} has too many containers: `angara container remove` makes room"
                )

    def renumbered(self, machine: Machine) -> Machine:
        """With the numbers that it and its container have here: if it is new is not for the edge to say."""
        registry = self._registry
        if registry.number_of(machine.tenant, machine.container, machine.unit) is None:
            self._machines[machine.tenant] += 1
            if registry.container_of(machine.tenant, machine.container) is None:
                self._containers[machine.tenant] += 1
        return registry.renumbered(machine)

    def _check_own(self, tenant: str, what: str, count: int, most: int) -> None:
        if count > most:
            raise StoreError(
                f"edge {self._edge} brings {count} {what} of tenant {tenant} that nobody knows, and one site"
                f" has {most} at most"
            )
