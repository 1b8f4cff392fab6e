"""The hub's side of all edges at other sites: what each is told and asked, and their journals as they come.

Edges come and go, and so do the lines to them. So nothing here waits for one: what is told goes into a short
queue of its own, and what is lost there is made up by the edge (`pool.sites.served`); who is asked while it
is away has nothing to say. What an edge has to know is filtered by what it may count for.

Invariants: CHANGES_MAX wait for an edge, of what it has booked the last word; a captured edge costs others
nothing but a question that nobody answers. Must not know: miners, what the books do.
"""

import math
import secrets
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final

import structlog
import trio

from pool.books.edges.brought import Brought
from pool.books.edges.remote import RemoteEdges
from pool.books.edges.remote_edge import RemoteEdge, Standing
from pool.books.edges.rows import EdgeRecord
from pool.books.edges.watch import EdgesWatch
from pool.books.journal.folding import Folding
from pool.books.journal.tail import Tail
from pool.books.store import Store, StoreError
from pool.chain.block_files import blocks_directory
from pool.chain.node_set import NodeSet
from pool.chain.price_history import PriceHistory
from pool.config import BadConfig, PoolConfig
from pool.edges.edge import Edge
from pool.fleet.registry import (
    ContainerRecord,
    KnownMachine,
    Registry,
    TenantRecord,
)
from pool.hub import Begin, Hub
from pool.journal.beginning import Forgotten
from pool.journal.frames import Place
from pool.journal.inbox import InboxUnusable, Want
from pool.journal.records import Machine
from pool.journal.segments import Walk
from pool.link import LinkClosed
from pool.power.control.control import Reach
from pool.power.control.runner import Machines
from pool.questions import AnsweredWithError, asking
from pool.sites.access import access
from pool.sites.answers import Answers
from pool.sites.believed import believed
from pool.sites.heard_blocks import HeardBlocks
from pool.sites.left_blocks import LeftBlocks
from pool.sites.nats import subjects
from pool.sites.nats.client import ConnectionState
from pool.sites.nats.connection import Connection
from pool.sites.nats.contents import Shelf
from pool.sites.nats.journal_stream import JournalStream, TakenLater
from pool.sites.nats.line import HubEpoch, Line
from pool.sites.nats.replies import Replies
from pool.sites.questions import (
    CROSSING,
    Change,
    ContainerChanged,
    MachinesKnown,
    RoutesChanged,
    Site,
    SiteHub,
    TenantChanged,
    Told,
    WorkersRemoved,
)
from pool.sites.signet import OurSignet

log = structlog.get_logger()

CHANGES_MAX: Final = 1_000  # that an edge was not told yet: machines of a fold are a thousand at most
SILENT_S: Final = 60.0  # six times that an edge says how far it is
WANT_S: Final = 5.0  # between two words to an edge that something of its journal is missing
# Looks at the books, and at all of the fleet, for all edges together: who takes over many of them has no more
# of the hub's threads, and of its database's connections, than by one.
ASKED_AT_ONCE: Final = 3
FORGOTTEN_S: Final = 5.0  # for the answer of one: a fold waits for it


class SiteLine:
    """To one edge. Another one with the same name is made where it was closed."""

    def __init__(
        self, name: str, line: Line, replies: Replies, *hears: Callable[[str], Awaitable[None]]
    ) -> None:
        self.name, self.line, self._replies, self._hears = name, line, replies, hears
        self.site: Site = asking(line, Site)
        self.edge: Edge = asking(line, Edge)  # which says what it likes
        self.machines: Machines = asking(line, Machines)
        self.number = secrets.randbelow(1 << 60)  # of the last change; no two hubs count from the same
        self._changes, self._to_tell = trio.open_memory_channel[Told](CHANGES_MAX)
        self._taken: tuple[int, Place] | None = None
        self._wanted: tuple[int, Want] | None = None
        self._wanted_s = -math.inf
        self._news = trio.Event()
        self.scope = trio.CancelScope()

    def tell(self, change: Change) -> None:
        self.number += 1
        try:
            self._changes.send_nowait(Told(self.number, change))
        except trio.WouldBlock:
            log.warning("edge_not_told", edge=self.name, waiting=CHANGES_MAX)

    def taken(self, epoch: int, booked: Place) -> None:
        self._taken = epoch, booked
        self._news.set()

    def send_again(self, epoch: int, want: Want) -> None:
        """Not again before what was sent again can be here."""
        if trio.current_time() - self._wanted_s >= WANT_S:
            self._wanted, self._wanted_s = (epoch, want), trio.current_time()
            self._news.set()

    async def run(self) -> None:
        """Until its scope is cancelled."""
        with self.scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._replies.run)
                await nursery.start(self.line.run)
                for hear in self._hears:
                    nursery.start_soon(hear, self.name)
                nursery.start_soon(self._tell_changes)
                await self._tell_places()

    async def _tell_changes(self) -> None:
        async for told in self._to_tell:
            await self._said(self.site.changed(told))

    async def _tell_places(self) -> None:
        while True:
            await self._news.wait()
            self._news = trio.Event()
            taken, self._taken = self._taken, None
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                await self._said(self.site.send_again(*wanted))
            if taken is not None:
                await self._said(self.site.taken(*taken))

    async def _said(self, saying: Any) -> None:
        try:
            await saying
        except LinkClosed:
            pass  # it is away: it asks when it is back
        except AnsweredWithError as error:
            log.error("edge_answers_with_error", edge=self.name, reason=str(error)[:300])


class Sites:
    """Of one hub. `begin` says what an edge has to know, from the books; it blocks. `on_tallies` gets what is
    committed anywhere; what edges say of prices is held against `history`. Raises BadConfig."""

    def __init__(
        self,
        config: PoolConfig,
        store: Store,
        folding: Folding,
        hub: Hub,
        registry: Registry,
        nodes: NodeSet,
        *,
        begin: Callable[[EdgeRecord], Begin],
        history: PriceHistory,
        on_tallies: Callable[[bytes, float], None],
        wall_clock: Callable[[], float],
    ) -> None:
        if config.hub is None:
            raise BadConfig("there is no [hub] in these settings")
        self._config, self._store, self._hub, self._registry = config, store, hub, registry
        self._begin, self._on_tallies = begin, on_tallies
        self._connection = Connection(access(config.hub, subjects.HUB))
        self._epoch, self._shelf = HubEpoch(store.lease_epoch or 0), Shelf()
        self._inbox = Replies(self._connection, subjects.inbox_of(subjects.HUB))
        self._stream = JournalStream(
            self._connection,
            self._inbox,
            self._take,
            servers=len(config.hub.urls),
            wall_clock=wall_clock,
        )
        self._blocks = HeardBlocks(self._connection, subjects.HUB, nodes)
        self._signet = OurSignet(nodes, hub)
        self._left_blocks = LeftBlocks(store, blocks_directory(config.data_dir), hub.book_found_blocks)
        self.remote = RemoteEdges(
            store,
            folding,
            config.data_dir,
            self,
            history=history,
            wall_clock=wall_clock,
            on_opened=self._opened,
            on_edges=self._follow,
        )
        self.watch = EdgesWatch(self.remote, registry, lambda: self.connection, wall_clock=wall_clock)
        folding.on_booked = self.watch.booked
        self._lines: dict[str, SiteLine] = {}
        self._brought: dict[str, Brought] = {}  # by edge, of the journal that it has
        self._turns = trio.CapacityLimiter(ASKED_AT_ONCE)
        self.edges: list[Edge] = []  # of those that are not retired
        self._tasks: trio.Nursery | None = None

    @property
    def connection(self) -> ConnectionState:
        """To the NATS servers."""
        return self._connection.state

    def edge(self, name: str) -> Edge | None:
        """The one of that name, which is not retired."""
        return dict(zip(sorted(self._lines), self.edges, strict=True)).get(name)

    def standing(self) -> list[Standing]:
        return self.remote.standing()

    def reaches(self) -> list[Reach]:
        """Who tells machines, of each edge its own."""
        return [
            Reach(name, partial(self._has, name), line.edge.peers, line.machines)
            for name, line in sorted(self._lines.items())
        ]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            self._tasks = nursery
            await nursery.start(self._connection.run)
            await nursery.start(self._inbox.run)
            await nursery.start(self.remote.run)
            await nursery.start(self._blocks.run)
            nursery.start_soon(self._left_blocks.run)
            log.info("hub_serves", epoch=self._epoch.number, edges=len(self._lines))
            task_status.started()

    # pool.books.edges.remote_edge.Line

    async def taken(self, edge: str, epoch: int, booked: Place) -> None:
        if (line := self._lines.get(edge)) is not None:
            line.taken(epoch, booked)

    async def send_again(self, edge: str, epoch: int, want: Want) -> None:
        if (line := self._lines.get(edge)) is not None:
            line.send_again(epoch, want)

    async def forgotten(self, edge: str, epoch: int, prevhashes: Sequence[bytes]) -> Forgotten:
        line, heard_s = self._lines.get(edge), self.remote.heard_s(edge)
        if line is None or heard_s is None or trio.current_time() - heard_s > SILENT_S:
            return Forgotten()
        with trio.move_on_after(FORGOTTEN_S):
            try:
                return await line.site.forgotten(epoch, prevhashes)
            except (LinkClosed, AnsweredWithError):
                return Forgotten()
        return Forgotten()

    # Changes

    def tenant_changed(self, record: TenantRecord) -> None:
        for name, line in self._lines.items():
            known = self.remote.record(name)
            if known is not None and record.name in known.tenants:
                line.tell(TenantChanged(record))

    def container_changed(self, record: ContainerRecord) -> None:
        tenant = self._registry.tenants_by_id[record.tenant_id].name
        for name, line in self._lines.items():
            if self._has(name, tenant, record.name):
                line.tell(ContainerChanged(record))

    def workers_removed(self, names: Sequence[tuple[str, str, str]]) -> None:
        for name, line in self._lines.items():
            if mine := tuple(it for it in names if self._has(name, it[0], it[1])):
                line.tell(WorkersRemoved(mine))

    def machines_known(self, machines: Sequence[KnownMachine]) -> None:
        for name, mine in machines_of(machines, self._lines, self._has).items():
            self._lines[name].tell(MachinesKnown(mine))

    def routes_changed(self) -> None:
        for line in self._lines.values():
            line.tell(RoutesChanged())

    def _has(self, edge: str, tenant: str, container: str) -> bool:
        record = self.remote.record(edge)
        return record is not None and record.has(tenant, container)

    # Edges that come and go

    def _follow(self, edges: Sequence[EdgeRecord]) -> None:
        assert self._tasks is not None
        there = {it.name for it in edges if it.retired_at_s is None}
        for name in self._lines.keys() - there:
            self._lines.pop(name).scope.cancel()
        for name in sorted(there - self._lines.keys()):
            self._lines[name] = line = self._line_to(name)
            self._tasks.start_soon(line.run)
        self.edges[:] = [
            believed(self._lines[name].edge, partial(self.remote.record, name))
            for name in sorted(self._lines)
        ]

    def _line_to(self, name: str) -> SiteLine:
        replies = Replies(self._connection, subjects.answers_of(name), bounded=True)
        line = Line(
            self._connection,
            name,
            replies,
            at_hub=True,
            epoch=self._epoch,
            shelf=self._shelf,
            errors=CROSSING,
            away=LinkClosed,
        )
        made = SiteLine(name, line, replies, self._blocks.hear, self._stream.follow)
        answers = Answers(
            name,
            self._config,
            self._store,
            self._hub,
            self.remote,
            begin=self._begin,
            changes=lambda: made.number,
            tenants=lambda: self._registry.tenants.values(),
            easiest_target=lambda: self._blocks.easiest_target,
            signet=self._signet,
            turns=self._turns,
            has_room=lambda it: self._has_room(name, it),
        )
        line.answer(SiteHub, answers)
        return made

    # Journals

    async def _take(self, edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        try:
            await self.remote.take(edge, epoch, frames, at_s)
        except InboxUnusable as error:
            raise TakenLater from error

    def _opened(self, remote: RemoteEdge) -> None:
        """One that the books take from here on."""
        brought = Brought(remote.edge.name, self._registry)

        def check(machines: Sequence[Machine]) -> None:
            if new := brought.unknown(machines):
                trio.from_thread.run_sync(brought.check, new)

        def numbered(machines: Sequence[Machine]) -> list[Machine]:
            return trio.from_thread.run_sync(lambda: [brought.renumbered(it) for it in machines])

        remote.taker.limits.on_machines = check
        remote.taker.number_by(numbered)
        if remote.over or self._tasks is None:
            return
        self._brought[remote.edge.name] = brought

        def behind_the_books() -> tuple[Walk, Place]:
            at = remote.taker.position.at
            return Walk(remote.inbox.directory, remote.inbox.writer, at), at

        tail = Tail(
            behind_the_books,
            lambda machine: self._counted(remote, machine),
            self._on_tallies,
            age_s=remote.age_s,
        )
        self._tasks.start_soon(self._followed, remote, tail)

    def _has_room(self, edge: str, machine: Machine) -> bool:
        try:
            self._brought[edge].check([machine])
        except StoreError:
            return False
        return True

    async def _followed(self, remote: RemoteEdge, tail: Tail) -> None:
        with remote.follows:
            await tail.run()

    def _counted(self, remote: RemoteEdge, machine: Machine) -> int | None:
        """For eyes: only who is in the books."""
        if not remote.edge.may_count_for(machine):
            return None
        return self._registry.number_of(machine.tenant, machine.container, machine.unit)


def machines_of(
    machines: Sequence[KnownMachine], edges: Iterable[str], counts_for: Callable[[str, str, str], bool]
) -> dict[str, tuple[KnownMachine, ...]]:
    """Of each edge that has some. Asked is once a container: machines are a million, and edges 75."""
    places: dict[tuple[str, str], list[KnownMachine]] = {}
    for it in machines:
        places.setdefault((it.tenant, it.container), []).append(it)
    found = {
        name: tuple(it for place, its in places.items() if counts_for(name, *place) for it in its)
        for name in edges
    }
    return {name: mine for name, mine in found.items() if mine}
