"""What the admin's commands see and change of a running pool.

Commands run in a worker thread; everything here hops to the pool's own thread, so that registry and
hashrates have one user. Must not know: what a command is, sockets.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import trio

from pool.hashrate import Hashrate, HashrateBook
from pool.registry import ContainerRecord, Registry
from pool.registry_store import TenantView, record_of


class Live:
    """pool.admin.commands.LivePool. `on_tenant` is told, in the pool's thread, of every changed tenant."""

    def __init__(
        self, registry: Registry, hashrates: HashrateBook, on_tenant: Callable[[TenantView], None]
    ) -> None:
        self._registry = registry
        self._hashrates = hashrates
        self._on_tenant = on_tenant

    def figures(self, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
        return trio.from_thread.run_sync(self._figures, of)

    def _figures(self, of: Literal["tenant", "site", "container", "worker"]) -> Mapping[int, Hashrate]:
        by = {
            "tenant": self._hashrates.by_tenant,
            "site": self._hashrates.by_site,
            "container": self._hashrates.by_container,
            "worker": self._hashrates.by_worker,
        }
        return by[of](trio.current_time())

    def reserve_container(self) -> int:
        return trio.from_thread.run_sync(self._registry.reserve_container)

    def container_changed(self, record: ContainerRecord) -> None:
        trio.from_thread.run_sync(self._registry.put_container, record)

    def tenant_changed(self, view: TenantView) -> None:
        def change() -> None:
            self._registry.put_tenant(record_of(view))
            self._on_tenant(view)

        trio.from_thread.run_sync(change)
