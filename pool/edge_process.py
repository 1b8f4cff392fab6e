"""A process that serves miners for a hub in another one of this host: what it is told, and answers.

It is started by `pool.processes` with one end of a link, and the settings file. When the other end closes,
for whatever reason, it lets its miners go and ends: nobody would book what it acknowledges, and the
service manager starts all of it again. So it minds no signal of a terminal: the hub does.

Invariants: nothing here opens the database; its journal is written by it alone (the lock of the directory).
"""

import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
import trio

from pool.books.book import WrongBook
from pool.books.journal.folding import Writer
from pool.chain.node_set import NodeSet
from pool.config import load_config
from pool.edge import Edge
from pool.edges.edge import Edge as EdgeAsked
from pool.fleet.registry import ContainerRecord, KnownMachine, Registry, TenantRecord
from pool.hub import Begin, Hub, HubAway
from pool.journal.log import JournalLog
from pool.link import Link, LinkClosed
from pool.parts import Known
from pool.questions import asking, by_name
from stratum.miners.listening.certificate import BadCertificate
from stratum.miners.listening.listeners import BadEndpoint

log = structlog.get_logger()

THREAD_SWITCH_S: Final = 0.0005  # as pool.main has it
AGAIN_S: Final = 5.0  # between two questions for the same, while the books are away
REPEATED: Final = (
    "credits",
    "fee_basis",
    "bind_signet",
    "record_block",
    "count_siblings",
    "book_found_blocks",
)
# Exceptions that are what they are at the other end too.
CROSSING: Final = (HubAway, WrongBook, BadEndpoint, BadCertificate)


class EdgeProcess(Protocol):
    """What a hub tells it. When it has begun it answers as a writer of its journal, and as an edge, too."""

    async def begin(self, it: Begin) -> tuple[tuple[str, int], ...]:
        """Serve miners: the addresses that it listens at. Once, and first."""

    async def lives(self) -> None:
        """Answer, when it is one's turn."""

    # Changes

    async def tenant_changed(self, record: TenantRecord) -> None: ...

    async def container_changed(self, record: ContainerRecord) -> None: ...

    async def workers_removed(self, names: Sequence[tuple[str, str, str]]) -> None: ...

    async def machines_known(self, machines: Sequence[KnownMachine]) -> None: ...

    async def routes_changed(self) -> None: ...

    async def settings_changed(self) -> None: ...


class Starting(Protocol):
    """What it tells the hub first: before that it is a Python that reads its modules, and answers nothing."""

    async def there(self) -> None: ...


class Served:
    """pool.edge_process.EdgeProcess, in the process itself."""

    def __init__(self, settings: Path, link: Link, nursery: trio.Nursery) -> None:
        self._settings, self._config = settings, load_config(settings)
        self._link, self._nursery = link, nursery
        self.edge: Edge | None = None
        self._registry: Registry | None = None

    async def begin(self, it: Begin) -> tuple[tuple[str, int], ...]:
        config = self._config
        self._registry = registry = Registry(it.snapshot, part=it.part.number, of=it.part.of + 1)
        known = Known(
            registry=registry,
            log=JournalLog(Path(it.journal), it.start.beginning.book),
            start=it.start,
            hub=patient(asking(self._link, Hub)),
            nodes=NodeSet(config.nodes, chain=config.network),
            wall_clock=time.time,
            part=(it.part.number - 1, it.part.of),
            process=(it.part.number - 1, it.part.of),
        )
        self.edge = edge = Edge(config, known)
        if it.drains_s is not None:
            edge.routing.drain.begin(it.drains_s)
        await self._nursery.start(known.nodes.run)
        self._link.answer(Writer, edge.shares.journal)
        self._link.answer(EdgeAsked, edge.serving)
        await edge.serving.assign(it.assigned)
        addresses: tuple[tuple[str, int], ...] = await self._nursery.start(edge.run)
        return addresses

    async def lives(self) -> None:
        pass

    @property
    def _edge(self) -> Edge:
        if self.edge is None:
            raise HubAway("it has not begun")
        return self.edge

    async def tenant_changed(self, record: TenantRecord) -> None:
        edge = self._edge
        assert self._registry is not None
        self._registry.put_tenant(record)
        edge.tenant_changed(record)

    async def container_changed(self, record: ContainerRecord) -> None:
        assert self._registry is not None
        self._registry.learn_container(record)

    async def workers_removed(self, names: Sequence[tuple[str, str, str]]) -> None:
        assert self._registry is not None
        found = (self._registry.number_of(*name) for name in names)
        numbers = {number for number in found if number is not None}
        self._edge.workers_removed(numbers)
        self._registry.remove_workers(numbers)

    async def machines_known(self, machines: Sequence[KnownMachine]) -> None:
        assert self._registry is not None
        for machine in machines:
            self._registry.learn(machine)

    async def routes_changed(self) -> None:
        self._edge.routing.proxy.changed()

    async def settings_changed(self) -> None:
        self._edge.prepared(load_config(self._settings))()


def patient(hub: Hub) -> Hub:
    """One who asks again for what has to be done, however long the books are away. It can be repeated."""

    def again(name: str) -> Callable[..., Awaitable[Any]]:
        ask: Callable[..., Awaitable[Any]] = getattr(hub, name)
        if name not in REPEATED:
            return ask

        async def asked(*given: object) -> Any:
            while True:
                try:
                    return await ask(*given)
                except HubAway as error:
                    log.error("hub_waited_for", reason=str(error))
                await trio.sleep(AGAIN_S)

        return asked

    repeated: Hub = by_name(Hub, again)
    return repeated


async def serve(end: socket.socket, settings: Path) -> None:
    """Until the link closes."""
    sys.setswitchinterval(THREAD_SWITCH_S)
    link = Link(end, errors=CROSSING)
    served: Served | None = None
    try:
        async with trio.open_nursery() as serving:
            served = Served(settings, link, serving)
            link.answer(EdgeProcess, served)
            async with trio.open_nursery() as linking:
                await linking.start(link.run)
                await asking(link, Starting).there()
            serving.cancel_scope.cancel()
    except* LinkClosed:
        pass  # somebody had asked the hub for something
    finally:
        if served is not None and served.edge is not None:
            with trio.CancelScope(shield=True):
                await served.edge.commit_last()
            served.edge.shares.journal.close()
