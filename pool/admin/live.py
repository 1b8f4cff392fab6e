"""What the admin's commands see and change of a running pool.

Commands run in a worker thread; everything here hops to the pool's own thread, so that registry, hashrates
and routes have one user. Must not know: what a command is, sockets.
"""

import heapq
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import msgspec
import trio

from pool.admin.desk import ROWS_MAX
from pool.admin.live_settings import LiveSettings, Reload
from pool.fleet.hashrate import Hashrate, HashrateBook
from pool.fleet.registry import ContainerRecord, Registry, UnlistedWorker
from pool.fleet.rows import RegistryError, TenantView, record_of
from pool.messages.messenger import Messenger
from pool.messages.outbox import Answer
from pool.messages.teller import Raised
from pool.orders.status import OrderStatus
from pool.routing.drain import Drain, DrainStatus
from pool.routing.status import RouteStatus
from pool.upstreams.status import UpstreamStatus
from stratum.miners.firmware import Firmware, FirmwareBook
from stratum.miners.switchboard import Switchboard
from stratum.miners.traces.traces import TooManyTraces, TraceView
from stratum.miners.uncharged import Uncharged


class Live:
    """pool.admin.commands.LivePool. In the pool's thread, `on_tenant` is told of every changed tenant,
    `on_removed` of machines that are gone, before the registry is, and `on_routes` that an upstream or an
    order is another one than before. `on_tokens` is told in the worker thread."""

    def __init__(
        self,
        registry: Registry,
        hashrates: HashrateBook,
        on_tenant: Callable[[TenantView], None],
        *,
        on_removed: Callable[[set[int]], None] = lambda workers: None,
        on_routes: Callable[[], None] = lambda: None,
        route_status: Callable[[], RouteStatus] = RouteStatus,
        on_tokens: Callable[[], None] = lambda: None,
        board: Switchboard | None = None,
        drain: Drain | None = None,
        messenger: Messenger | None = None,
        uncharged: Uncharged | None = None,
        firmware: FirmwareBook | None = None,
        settings: LiveSettings | None = None,
    ) -> None:
        self._registry = registry
        self._hashrates = hashrates
        self._on_tenant = on_tenant
        self._on_removed = on_removed
        self._on_routes = on_routes
        self._route_status = route_status
        self._on_tokens = on_tokens
        self._board = board
        self._drain = drain
        self._messenger = messenger
        self._uncharged = uncharged or Uncharged()
        self._firmware = firmware or FirmwareBook()
        self._settings = settings
        self._since_s = int(time.time())

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
        return trio.from_thread.run_sync(lambda: self._hashrates.of_workers(numbers, trio.current_time()))

    def unlisted(self, after: int, tenant_id: int | None, container: str | None) -> list[UnlistedWorker]:
        return trio.from_thread.run_sync(self._unlisted, after, tenant_id, container)

    def _unlisted(self, after: int, tenant_id: int | None, container: str | None) -> list[UnlistedWorker]:
        def wanted(it: UnlistedWorker) -> bool:
            return it.id > after and tenant_id in (None, it.tenant_id) and container in (None, it.container)

        return heapq.nsmallest(ROWS_MAX, filter(wanted, self._registry.unlisted()), key=lambda it: it.id)

    def find_unlisted(self, tenant: str, container: str, unit: str) -> UnlistedWorker | None:
        def find() -> UnlistedWorker | None:
            name = tenant, container, unit
            return next(
                (it for it in self._registry.unlisted() if (it.tenant, it.container, it.unit) == name), None
            )

        return trio.from_thread.run_sync(find)

    def start_trace(self, worker: int | None, address: str | None, seconds: int) -> int:
        def start() -> int:
            board = self._board
            if board is None:
                raise TooManyTraces("nobody is served here")
            return board.traces.start(
                worker, address, board.connections, seconds=seconds, now_s=trio.current_time()
            )

        return trio.from_thread.run_sync(start)

    def trace(self, number: int, after: int) -> TraceView | None:
        def view() -> TraceView | None:
            board = self._board
            return None if board is None else board.traces.view(number, after, trio.current_time())

        return trio.from_thread.run_sync(view)

    def uncharged(self, workers: Collection[int], tenant_id: int | None, since_day: int) -> list[int]:
        def count() -> list[int]:
            numbers = workers if tenant_id is None else self._registry.numbers_of(tenant_id)
            return self._uncharged.of(numbers, since_day)

        return trio.from_thread.run_sync(count)

    def firmware(self) -> list[Firmware]:
        packed = trio.from_thread.run_sync(lambda: msgspec.msgpack.encode(self._firmware.kinds))
        return msgspec.msgpack.decode(packed, type=list[Firmware])

    @property
    def since_s(self) -> int:
        return self._since_s

    def reserve_container(self) -> int:
        return trio.from_thread.run_sync(self._registry.reserve_container)

    def container_changed(self, record: ContainerRecord) -> None:
        trio.from_thread.run_sync(self._registry.put_container, record)

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

    def tokens_changed(self) -> None:
        self._on_tokens()

    def drain(self, over_s: int) -> DrainStatus:
        return self._with_drain(lambda it: it.begin(over_s))

    def end_drain(self) -> DrainStatus:
        return self._with_drain(lambda it: it.resume())

    def drain_status(self) -> DrainStatus:
        return self._with_drain(lambda it: None)

    def _with_drain(self, work: Callable[[Drain], None]) -> DrainStatus:
        """How it is after that."""
        drain = self._drain
        assert drain is not None, "a pool has one"

        def run() -> DrainStatus:
            work(drain)
            return drain.status()

        return trio.from_thread.run_sync(run)

    def reloading(self) -> AbstractContextManager[Reload]:
        if self._settings is None:
            raise RegistryError("this pool has no settings file")
        return self._settings.reload()

    def apply(self, reload: Reload) -> None:
        trio.from_thread.run_sync(reload.apply)

    def raised_messages(self) -> Sequence[Raised]:
        return () if self._messenger is None else self._messenger.raised

    def test_messages(self) -> Sequence[Answer]:
        return () if self._messenger is None else trio.from_thread.run(self._messenger.test)

    def upstream_status(self) -> Sequence[UpstreamStatus]:
        return trio.from_thread.run_sync(self._route_status).upstreams

    def order_status(self) -> Sequence[OrderStatus]:
        return trio.from_thread.run_sync(self._route_status).orders
