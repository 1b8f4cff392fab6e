"""What the admin's commands see and change of a running pool.

Commands run in a worker thread; everything here hops to the pool's own thread, so that registry and hashrates
have one user. Must not know: what a command is, sockets, which parts serve miners.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import trio

from pool.admin.desk import ROWS_MAX
from pool.admin.live_settings import LiveSettings, Reload
from pool.books.edges.remote import RemoteEdges
from pool.books.edges.remote_edge import Standing
from pool.edges.edges import Edges, SiteProcess
from pool.fleet.hashrate import Hashrate, HashrateBook
from pool.fleet.registry import ContainerRecord, Registry, UnlistedWorker
from pool.fleet.rows import RegistryError, TenantView, record_of
from pool.messages.messenger import Messenger
from pool.messages.outbox import Answer
from pool.messages.teller import Raised
from pool.orders.status import OrderStatus
from pool.power.control.contract import Answered, Asked, MachineName
from pool.power.control.control import Control
from pool.power.control.runner import HeldView
from pool.power.curtailment.course import Looks
from pool.power.curtailment.executor import Shares
from pool.power.energy.by_machine import MachineDrawn
from pool.power.energy.live import PowerNow
from pool.power.energy.suspects import Suspect
from pool.power.energy.watch import PowerWatch
from pool.power.signals.intake import Source
from pool.power.signals.signals import Signals
from pool.routing.drain import DrainStatus
from pool.upstreams.status import UpstreamStatus
from stratum.miners.firmware import Firmware
from stratum.miners.traces.traces import TraceView


class Live:
    """pool.admin.desk.LivePool. In the pool's thread, `on_tenant` and `on_container` are told of each that
    changed, `on_removed` of machines that are gone, before the registry is, and `on_routes` that an upstream
    or an order is another one than before. `on_tokens` is told in the worker thread."""

    def __init__(
        self,
        registry: Registry,
        hashrates: HashrateBook,
        edges: Edges,
        on_tenant: Callable[[TenantView], None],
        *,
        on_container: Callable[[ContainerRecord], None] = lambda container: None,
        on_removed: Callable[[set[int]], None] = lambda workers: None,
        on_routes: Callable[[], None] = lambda: None,
        on_tokens: Callable[[], None] = lambda: None,
        messenger: Messenger | None = None,
        settings: LiveSettings | None = None,
        remote: RemoteEdges | None = None,
        power: PowerWatch | None = None,
        signals: Signals | None = None,
        control: Control | None = None,
        shares: Shares | None = None,
        orders_without: Callable[[frozenset[int]], Awaitable[Mapping[str, float]]] | None = None,
    ) -> None:
        self._registry = registry
        self._hashrates = hashrates
        self._edges = edges
        self._on_tenant, self._on_container = on_tenant, on_container
        self._on_removed = on_removed
        self._on_routes = on_routes
        self._on_tokens = on_tokens
        self._messenger = messenger
        self._settings = settings
        self._remote = remote  # edges at other sites, where it is a hub
        self._given_power = power
        self._signals = signals
        self._control = control
        self._shares, self._orders_without = shares, orders_without
        self._since_s = int(time.time())

    # What a pool has once

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

    def worker_figures(self, numbers: Collection[int]) -> Mapping[int, Hashrate]:
        return trio.from_thread.run_sync(self._worker_figures, numbers)

    def _worker_figures(self, numbers: Collection[int]) -> Mapping[int, Hashrate]:
        """Of those that somebody here has: an edge that lists its machines may say any number, and there is a
        row for each up to the largest."""
        known = [it for it in numbers if self._registry.knows(it)]
        return self._hashrates.of_workers(known, trio.current_time())

    @property
    def since_s(self) -> int:
        return self._since_s

    def reserve_container(self, tenant: str, name: str) -> int:
        return trio.from_thread.run_sync(self._registry.reserve_container, tenant, name)

    def reloading(self) -> AbstractContextManager[Reload]:
        if self._settings is None:
            raise RegistryError("this pool has no settings file")
        return self._settings.reload()

    def signals(self) -> Sequence[Source]:
        return () if self._signals is None else self._signals.sources

    def raised_messages(self) -> Sequence[Raised]:
        return () if self._messenger is None else self._messenger.raised

    def test_messages(self) -> Sequence[Answer]:
        return () if self._messenger is None else trio.from_thread.run(self._messenger.test)

    # What whoever works by it is told when it is another

    def container_changed(self, record: ContainerRecord) -> None:
        def change() -> None:
            self._registry.put_container(record)
            self._on_container(record)

        trio.from_thread.run_sync(change)

    def workers_removed(self, numbers: Collection[int]) -> None:
        def remove() -> None:
            self._on_removed(set(numbers))
            self._registry.remove_workers(numbers)

        trio.from_thread.run_sync(remove)

    def tenant_changed(self, view: TenantView) -> None:
        def change() -> None:
            self._registry.put_tenant(record_of(view))
            self._on_tenant(view)

        trio.from_thread.run_sync(change)

    def routes_changed(self) -> None:
        trio.from_thread.run_sync(self._on_routes)

    def edges_changed(self) -> None:
        if self._remote is not None:
            trio.from_thread.run(self._remote.changed)

    def edge_standing(self) -> Sequence[Standing]:
        return () if self._remote is None else trio.from_thread.run_sync(self._remote.standing)

    def tokens_changed(self) -> None:
        self._on_tokens()

    def apply(self, reload: Reload) -> None:
        trio.from_thread.run_sync(reload.apply)

    # What those who serve miners are asked

    def unlisted(self, after: int, tenant_id: int | None, container: str | None) -> list[UnlistedWorker]:
        return trio.from_thread.run(self._edges.unlisted, after, tenant_id, container, ROWS_MAX)

    def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        return trio.from_thread.run(self._edges.find_unlisted, tenant, container, unit)

    def start_trace(self, name: str | None, address: str | None, seconds: int) -> int:
        return trio.from_thread.run(self._edges.start_trace, name, address, seconds)

    def trace(self, number: int, after: int) -> TraceView | None:
        return trio.from_thread.run(self._edges.trace, number, after)

    def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        return trio.from_thread.run(self._edges.uncharged, name, tenant_id, since_day)

    def firmware(self) -> list[Firmware]:
        return trio.from_thread.run(self._edges.firmware)

    def drain(self, over_s: int, edge: SiteProcess | None) -> DrainStatus:
        return trio.from_thread.run(self._edges.drain, over_s, edge)

    def end_drain(self, edge: str | None) -> DrainStatus:
        return trio.from_thread.run(self._edges.end_drain, edge)

    def drain_status(self, edge: str | None) -> DrainStatus:
        return trio.from_thread.run(self._edges.drain_status, edge)

    def upstream_status(self) -> Sequence[UpstreamStatus]:
        return trio.from_thread.run(self._edges.routes).upstreams

    def order_status(self) -> Sequence[OrderStatus]:
        return trio.from_thread.run(self._edges.routes).orders

    # What is drawn

    @property
    def _power(self) -> PowerWatch:
        if self._given_power is None:
            raise RegistryError("this pool does not look at power")
        return self._given_power

    @property
    def _telling(self) -> Control:
        if self._control is None:
            raise RegistryError("this pool tells no machines anything")
        return self._control

    def ask_machines(self, asked: tuple[Asked, ...], within_s: float) -> tuple[Answered, ...]:
        return trio.from_thread.run(partial(self._telling.control, asked, within_s=within_s))

    def held_machines(self) -> Sequence[HeldView]:
        return trio.from_thread.run(self._telling.held)

    def forget_machine(self, machine: MachineName) -> bool:
        return self._control is not None and trio.from_thread.run(self._control.forget, machine)

    def power(self) -> PowerNow:
        return trio.from_thread.run(self._power.now)

    def machines_drawn(self, names: Collection[MachineName]) -> Mapping[MachineName, MachineDrawn]:
        return trio.from_thread.run(self._machines_drawn, names)

    async def _machines_drawn(self, names: Collection[MachineName]) -> dict[MachineName, MachineDrawn]:
        found = ((self._registry.number_of(it.tenant, it.container, it.unit), it) for it in names)
        numbers = {number: it for number, it in found if number is not None}
        drawn = await self._power.by_machine(numbers)
        return {numbers[number]: it for number, it in drawn.items()}

    def power_suspects(self) -> Sequence[tuple[Suspect, str]]:
        return trio.from_thread.run(self._suspects)

    async def _suspects(self) -> list[tuple[Suspect, str]]:
        found = await self._power.suspects()
        return [(it, "" if it.worker is None else self._registry.name_of(it.worker)) for it in found]

    def machine_looks(self) -> Looks | None:
        return None if self._shares is None else trio.from_thread.run_sync(self._shares.looks)

    def orders_without(self, machines: frozenset[int]) -> Mapping[str, float]:
        if self._orders_without is None:
            return {}
        return trio.from_thread.run(self._orders_without, machines)

    def power_changed(self) -> None:
        if self._given_power is not None:
            trio.from_thread.run(self._given_power.refresh)
