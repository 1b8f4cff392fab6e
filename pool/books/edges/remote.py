"""Edges at other sites as the hub knows them: who each is now, and its journal's copy that the books take.

It is asked by whatever carries messages, which may lose, repeat and delay them, and tells an edge through it
(`Line`). Nothing here trusts that: what is missing is asked for again, and what is said to be booked is said
again.

**How long the books wait.** All that is of before a moment is to be there before the books say so. An edge
that was heard of is waited for AWAY_S, one that was not heard of for as long is not waited for, nor one that
is held, nor for longer than an hour one of which more is here than the books can take. What comes of it later
is dated at the moment that the books had reached by then; its price is the one that its work had, which is in
the journal. So whoever keeps shares back changes the hour of a statement that they are in, and nothing that
he is paid for them.

A journal that is over (its edge was reset, or is retired) is taken as far as it is here, and nothing more of
it comes. One that cannot be opened is tried again when a command changes an edge, and at each start;
meanwhile no block is forgotten that shares of it may be on. After OVER_S nothing of it is taken, and shares
of it that were under way to an upstream are counted as without an answer.

Must not know: how messages travel, sessions, what shares are worth.
"""

import time
from collections.abc import Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from sqlalchemy import Connection

from pool.books.database_waits import when_it_answers, when_it_takes
from pool.books.edges.hub_copies import forget_copy, forget_others, is_noted, name_of_hub, note_copy
from pool.books.edges.late import late_of
from pool.books.edges.leases import (
    LEASE_S,
    Asked,
    EdgeRefused,
    Granted,
    begin,
    check_epoch,
    granted,
    renew,
)
from pool.books.edges.limits import EdgeLimits
from pool.books.edges.prices import EdgePrices, Heard
from pool.books.edges.remote_edge import Line, RemoteEdge, Standing, unopened
from pool.books.edges.rows import (
    EdgeRecord,
    began_at_s,
    ended_writers,
    find_edge,
    hold_edge,
    load_edges,
    part_of,
)
from pool.books.edges.taking import EdgeTaker
from pool.books.edges.told import Told
from pool.books.journal.folding import STOP_WAIT_S, Folding
from pool.books.journal.positions import position_of
from pool.books.journal.under_way import OVER_S, count_unanswered
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.chain.price_history import PriceHistory
from pool.journal.beginning import Mark
from pool.journal.disk import Disk
from pool.journal.frames import Place
from pool.journal.inbox import FREE_BYTES_MIN, Inbox, InboxUnusable, Received

log = structlog.get_logger()

OVER_CHECK_S: Final = 3_600.0  # what is due then has waited for a month
RENEWED_S: Final = 30  # written to the books so seldom: 75 edges are two or three small transactions a second
# Threads that books which are away may have of all edges: journals are written to disk by the others.
RENEWING_AT_ONCE: Final = 3
INBOX_BYTES_MAX: Final = 256 << 30  # of all edges: what 64 of them may have waiting


class RemoteEdges:
    """All of a hub; `disk` has the copies, and prices are held against `history`, where somebody runs it.
    Raises EdgeRefused for who is not an edge, or not any more."""

    def __init__(
        self,
        store: Store,
        folding: Folding,
        data_dir: Path,
        line: Line,
        *,
        disk: Disk | None = None,
        free_bytes_min: int = FREE_BYTES_MIN,
        history: PriceHistory | None = None,
        wall_clock: Callable[[], float] = time.time,
        on_opened: Callable[[RemoteEdge], None] = lambda edge: None,
        on_edges: Callable[[Sequence[EdgeRecord]], None] = lambda edges: None,
    ) -> None:
        self._store, self._folding, self._home = store, folding, data_dir / "inbox"
        self._line, self._disk, self._wall_clock = line, disk, wall_clock
        self._free_bytes_min, self._history = free_bytes_min, history
        self._on_opened = on_opened  # somebody's journal is taken from here on
        self._on_edges = on_edges  # these there are, retired or not
        self._hub = ""  # what the books know these copies by
        self._records: dict[str, EdgeRecord] = {}
        self._turn = trio.Lock()  # of who is let begin, and what commands change
        self._renewals = trio.CapacityLimiter(RENEWING_AT_ONCE)
        self._open: dict[str, RemoteEdge] = {}
        self._over: dict[str, RemoteEdge] = {}  # by their journals
        self._told: dict[str, Told] = {}  # for as long as we are the hub, whatever journal an edge has
        # Whose copies cannot be, why, and since when.
        self._unopened: dict[str, tuple[EdgeRecord, str, float]] = {}
        self._unopened_left: set[str] = set()  # journals that are over

    @property
    def open(self) -> tuple[RemoteEdge, ...]:
        """Those that have a journal."""
        return tuple(self._open.values())

    async def start(self) -> None:
        """The copies that are here, for the books to take, whether their edges are there or not."""
        await self.changed()
        async with self._turn:
            await self._open_left()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; when it has started the copies are open."""
        await self.start()
        task_status.started()
        while True:
            await when_it_takes("count what upstreams have not answered", self.let_go, DATABASE_ERRORS)
            await trio.sleep(OVER_CHECK_S)

    async def let_go(self) -> None:
        """Take nothing more of journals that have been over for OVER_S, and count what they had under way."""
        async with self._turn:
            now_s = int(self._wall_clock())
            lately = await self._read(partial(ended_writers, since_s=now_s - OVER_S))
            for writer in self._over.keys() - {it for _, it in lately}:
                await self._close(self._over.pop(writer))
            await when_it_answers("count shares without an answer", count_unanswered, self._store, now_s)

    async def begin(self, asked: Asked) -> Granted:
        """A process begins to be an edge. Raises InboxUnusable."""
        async with self._turn:
            there = self._open.get(asked.edge)
            here = Place() if there is None or there.inbox.writer != asked.writer else there.inbox.have
            now_s = int(self._wall_clock())

            def write() -> EdgeRecord:
                with self._store.write() as connection:
                    return begin(connection, asked, here, now_s)

            edge: EdgeRecord = await when_it_answers("let an edge begin", write)
            await self._follow(edge)
            remote = self._open.get(edge.name)
            if remote is None:
                raise InboxUnusable(f"the hub cannot keep what edge {edge.name} sends: its log says why")
            remote.heard(now_s)
            remote.renewed_s = trio.current_time()
            log.info("edge_begun", edge=edge.name, epoch=edge.epoch, process=edge.process, host=edge.host)
            told: Granted = await self._read(partial(granted, edge=edge, want=remote.inbox.want))
            return told

    async def receive(self, name: str, epoch: int, data: bytes) -> Received:
        """Frames, as many as there are, in any order, that it says now: up to where they are on disk here."""
        return await self._receive(name, epoch, data, int(self._wall_clock()))

    async def _receive(self, name: str, epoch: int, data: bytes, at_s: int | None) -> Received:
        remote = self._of(name, epoch)
        remote.heard(at_s)
        before = remote.inbox.held
        try:
            received: Received = await trio.to_thread.run_sync(self._received, remote.inbox, data)
        except InboxUnusable as error:
            if remote.unwritten is None:
                log.error("inbox_unusable", edge=name, reason=str(error))
            remote.unwritten, remote.unwritten_s = str(error), trio.current_time()
            return Received(have=remote.inbox.have)
        remote.unwritten = None
        remote.heard(at_s)
        if received.held is not None and before is None:
            await self._hold(remote, received.held)
        return received

    async def renew(self, name: str, epoch: int, mark: Mark, *, heard_of_us: bool = False) -> Received:
        """It lives, and is so far; `heard_of_us`: it had heard of this hub before that. What is missing is
        asked for. Once in a while that waits for the books: while it does, whoever asks again does not."""
        remote = self._of(name, epoch)
        remote.heard(int(self._wall_clock()), mark)
        if heard_of_us:
            remote.says(mark.number)
        now_s, alone = trio.current_time(), remote.all_is_here
        due = remote.renewed_s is None or now_s - remote.renewed_s >= RENEWED_S
        if (due or alone > remote.alone) and not remote.renewing:
            remote.renewed_s, remote.renewing = now_s, True
            try:
                async with self._renewals:
                    await self._renew(remote, alone)
            finally:
                remote.renewing = False
        inbox = remote.inbox
        behind = inbox.held is None and inbox.have.number < mark.number and not remote.has_come
        return Received(have=inbox.have, want=inbox.want if behind else None, held=inbox.held)

    async def _renew(self, remote: RemoteEdge, alone: bool) -> None:
        edge, writer, number = remote.edge, remote.inbox.writer, remote.inbox.have.number

        def write() -> None:
            with self._store.write() as connection:
                renew(connection, edge.name, edge.epoch, int(self._wall_clock()))
                note_copy(connection, writer, self._hub, number)
                if alone:
                    forget_others(connection, writer, self._hub)

        await when_it_answers("renew the lease of an edge", write)
        remote.alone = alone

    async def changed(self) -> None:
        """A command has changed something: an edge is new, another one, held no more, or retired."""
        async with self._turn:
            found = await self._read(load_edges)
            self._records = {it.name: it for it in found}
            for edge in found:
                await self._follow(edge)
            self._on_edges(found)
            for writer in [it.inbox.writer for it in self._over.values() if it.taken]:
                await self._close(self._over.pop(writer))
            if self._unopened_left:
                await self._open_left(self._unopened_left)

    async def leave(self) -> None:
        """Nothing comes any more, and this hub ends: of what the books have all of nobody has to ask it."""
        mine = (*self._open.values(), *self._over.values())
        booked = [it.inbox.writer for it in mine if it.taker.position.at.number >= it.inbox.have.number]

        def write() -> None:
            with self._store.write() as connection:
                for writer in booked:
                    forget_copy(connection, writer, self._hub)

        try:
            await when_it_answers("leave the copies of journals", write, wait_s=lambda: STOP_WAIT_S)
        except DATABASE_ERRORS as error:
            log.warning("copies_not_left", reason=words_of(error)[:300])

    def check(self, name: str, epoch: int) -> EdgeRecord:
        """Whoever says this epoch is the edge."""
        return self._of(name, epoch).edge

    def heard_s(self, name: str) -> float | None:
        """When a process of it was heard of last, monotonic."""
        remote = self._open.get(name)
        return None if remote is None else remote.heard_s

    def told(self, name: str, epoch: int) -> Told:
        """When it was told of changes, whose process says something now."""
        remote = self._of(name, epoch)
        remote.heard(int(self._wall_clock()))
        return remote.told

    async def take(self, name: str, epoch: int, data: bytes, at_s: float | None) -> None:
        """As `receive`, of what comes by itself: somebody who is not the edge now is not answered, and what
        is missing is asked for. It was said at that moment, by the clock of whoever carries it; None: before
        we could tell the edge anything, or that is not known, and so it is no sign of life. Raises
        InboxUnusable where it has no place here now: whoever carries it is to keep it."""
        said_s = None if at_s is None else int(min(at_s, self._wall_clock()))
        try:
            if name in self._unopened:
                raise InboxUnusable(self._unopened[name][1])
            received = await self._receive(name, epoch, data, said_s)
            unwritten = self._of(name, epoch).unwritten
        except EdgeRefused as error:
            log.info("journal_message_refused", edge=name, reason=str(error))
            return
        if unwritten is not None:
            raise InboxUnusable(unwritten)
        if received.want is not None:
            await self._line.send_again(name, epoch, received.want)

    def record(self, name: str) -> EdgeRecord | None:
        """As it was at the last change."""
        return self._records.get(name)

    def standing(self) -> list[Standing]:
        """Of all that have a journal."""
        waiting = [unopened(*it, self._hub) for it in self._unopened.values()]
        return [it.standing(self._hub) for it in self._open.values()] + waiting

    # One at a time

    def _of(self, name: str, epoch: int) -> RemoteEdge:
        remote = self._open.get(name)
        if remote is None:
            raise EdgeRefused(f"edge {name} has not begun: it is to begin anew")
        check_epoch(remote.edge, epoch)
        return remote

    async def _follow(self, edge: EdgeRecord) -> None:
        """What the books say of it."""
        remote = self._open.get(edge.name)
        over = edge.retired_at_s is not None or edge.writer is None
        if over:
            self._opens(edge)
        if remote is not None:
            looked_at = remote.inbox.held is not None and edge.held is None
            if edge.held is not None and remote.inbox.held is None:
                remote.inbox.hold(edge.held)
            remote.edge = edge
            if over or remote.inbox.writer != edge.writer:
                remote.over = True
                remote.follows.cancel()
                self._over[remote.inbox.writer] = self._open.pop(edge.name)
                remote = None
            elif looked_at:
                await self._close(self._open.pop(edge.name))
                remote = None
        if remote is None and not over and edge.writer is not None:
            await self._open_one(edge, edge.writer)

    async def _close(self, remote: RemoteEdge) -> None:
        remote.follows.cancel()
        async with self._folding.turn:
            self._folding.leave(remote.taker)
        await trio.to_thread.run_sync(remote.inbox.close)

    async def _open_left(self, among: Set[str] | None = None) -> None:
        """Journals that are over; None: whichever."""
        left, unopened = await self._read(partial(self._left, among=among))
        self._folding.missing -= self._unopened_left - unopened
        self._folding.missing |= unopened
        self._unopened_left = unopened
        for edge, writer in left:
            await self._open_one(edge, writer, over=True)

    async def _open_one(self, edge: EdgeRecord, writer: str, *, over: bool = False) -> None:
        """Where its copy cannot be, it is tried again when its process asks, and others are served."""
        try:
            inbox, taker, lateness, told = await when_it_answers(
                "open the journal of an edge", self._opened, edge, writer
            )
        except InboxUnusable as error:
            log.error("inbox_unusable", edge=edge.name, reason=str(error))
            if not over:
                _, _, since_s = self._unopened.get(edge.name, (edge, "", trio.current_time()))
                self._unopened[edge.name] = edge, str(error), since_s
                self._folding.missing.add(edge.name)
            else:
                self._unopened_left.add(writer)
                self._folding.missing.add(writer)
            return
        if not over:
            self._opens(edge)
        remote = RemoteEdge(edge, inbox, taker, self._line, lateness, told, self._wall_clock)
        remote.over = over
        if over:
            self._over[writer] = remote
        else:
            self._open[edge.name] = remote
        self._folding.take(remote, taker)
        self._on_opened(remote)
        if not over and edge.host is not None and edge.held is None:
            await self._line.send_again(edge.name, edge.epoch, inbox.want)

    def _opens(self, edge: EdgeRecord) -> None:
        self._unopened.pop(edge.name, None)
        self._folding.missing.discard(edge.name)

    def _opened(self, edge: EdgeRecord, writer: str) -> tuple[Inbox, EdgeTaker, Heard, Told]:
        self._hub = self._hub or name_of_hub(self._home)
        with self._store.read() as connection:
            noted = writer != edge.writer or is_noted(connection, writer, self._hub)
            position, part = position_of(connection, writer), part_of(connection, writer)
            began_s = began_at_s(connection, writer)
            late = late_of(connection, edge.name, writer)
        if not noted:
            with self._store.write() as connection:
                note_copy(connection, writer, self._hub, 0)
        heard_s = max(edge.lease_until_s - LEASE_S, began_s)
        lateness = Heard(began_s, heard_s)
        told = self._told.setdefault(edge.name, Told(heard_s, wall_clock=self._wall_clock))
        held = edge.held if writer == edge.writer else None

        def beyond() -> None:
            if (remote := self._open.get(edge.name)) is not None:
                remote.beyond_at_s = int(self._wall_clock())

        limits = EdgeLimits(
            writer,
            part,
            position.moment_s,
            prices=EdgePrices(edge.name, self._history, told, late),
            heard=lateness,
            ends=[it.until for it in late],
            wall_clock=self._wall_clock,
            on_beyond=beyond,
        )
        inbox = self._inbox(edge, writer, position.at, held)
        try:
            taker = EdgeTaker(self._store, inbox, limits, wall_clock=self._wall_clock)
        except BaseException:  # a database that is away: all of this is done again
            inbox.close()
            raise
        return inbox, taker, lateness, told

    def _left(
        self, connection: Connection, among: Set[str] | None
    ) -> tuple[list[tuple[EdgeRecord, str]], set[str]]:
        """Journals that are over, and of which something is here that the books have not; and those of which
        nobody knows."""
        found, unopened = [], set()
        for edge, writer in ended_writers(connection, since_s=int(self._wall_clock()) - OVER_S):
            if writer in self._over or (among is not None and writer not in among):
                continue
            booked = position_of(connection, writer).at
            try:
                if not (self._home / edge.name / writer).is_dir():
                    continue
                inbox = self._inbox(edge, writer, booked, None)
            except (InboxUnusable, OSError) as error:  # is_dir says EACCES, and EIO
                log.error("inbox_unusable", edge=edge.name, reason=str(error))
                unopened.add(writer)
                continue
            if inbox.have.number > booked.number:
                found.append((edge, writer))
            inbox.close()
        return found, unopened

    def _inbox(self, edge: EdgeRecord, writer: str, booked: Place, held: str | None) -> Inbox:
        return Inbox(
            self._home / edge.name / writer,
            booked,
            held=held,
            disk=self._disk,
            free_bytes_min=self._free_bytes_min,
        )

    def _received(self, inbox: Inbox, data: bytes) -> Received:
        if sum(it.inbox.untaken_bytes for it in self.open) > INBOX_BYTES_MAX:
            raise InboxUnusable(f"{INBOX_BYTES_MAX >> 30} GiB of all edges wait for the books: no more may")
        return inbox.receive(data)

    async def _hold(self, remote: RemoteEdge, words: str) -> None:
        now_s = int(self._wall_clock())

        def write() -> None:
            with self._store.write() as connection:
                hold_edge(connection, remote.inbox.writer, words, now_s)

        await when_it_answers("hold an edge", write)
        remote.edge = await self._read(partial(find_edge, name=remote.edge.name))

    async def _read(self, work: Callable[[Connection], Any]) -> Any:
        def read() -> Any:
            with self._store.read() as connection:
                return work(connection)

        return await when_it_answers("read what edges there are", read)
