"""Processes that serve miners for a hub: started, asked, told, and started again when they die.

Each has a journal of its own, which the books of this process take: to its end when a process is dead, before
the next one begins to write it. So what a process acknowledged before it was killed is booked once, and what
machines it served is known to the next.

A process that dies again at once is started again ever later. One that does not answer is killed: the kernel
goes on giving it miners, which nobody serves. One that says what cannot be is ended. Whatever changes is told
to each in the order in which it happened, from before it was told what there is: so nobody misses what
changes while it begins.

Must not know: what miners say.
"""

import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog
import trio

from pool.books.database_waits import when_it_answers
from pool.books.journal.folding import EVERYTHING, FATAL, NOT_TAKEN, Folding, Writer, WriterAway
from pool.books.journal.start import OpenJournal
from pool.books.journal.taker import Taker
from pool.books.store import words_of
from pool.edge_process import CROSSING, EdgeProcess, Starting
from pool.edges.edge import Edge
from pool.edges.figures import ProcessFigures
from pool.fleet.registry import ContainerRecord, KnownMachine, TenantRecord
from pool.hub import Begin, Hub, HubAway, Part
from pool.journal.beginning import Mark
from pool.journal.frames import Place
from pool.link import Link, LinkClosed
from pool.questions import AnsweredWithError, asking, by_name
from stratum.miners.listening.certificate import BadCertificate
from stratum.miners.listening.listeners import BadEndpoint

log = structlog.get_logger()

AGAIN_S: Final = (0.0, 1.0, 5.0, 15.0, 60.0)  # a process that dies is started after so long, ever longer
WELL_S: Final = 60.0  # one that lived so long begins anew with that
ANSWER_S: Final = 20.0  # for the books, before the edge is told that they are away
STARTS_S: Final = 300.0  # of a process: a second or two, on a host that does many things at once
ENDS_S: Final = 15.0  # a process lets its miners go and commits the last time
# Whether a process lives is asked again and again: a loop that has no turn in so long, three times running,
# has none any more. Once is not enough: on a host that stood still time is over before anybody has answered.
LIVES_S: Final = 5.0
SILENCES_MAX: Final = 3
CHANGES_MAX: Final = 1_000  # that a process was not told yet: machines of a fold are a hundred at most
_Answer = TypeVar("_Answer")


Change = Callable[[EdgeProcess], Awaitable[None]]


class Process:
    """One of them, or the place of one that is dead. pool.books.journal.folding.Writer."""

    def __init__(self, number: int, taker: Taker, wall_clock: Callable[[], float]) -> None:
        self.number, self.taker = number, taker
        self._wall_clock = wall_clock
        self.has_served = False  # since the pool's start
        self.edge: Edge | None = None  # None, as the writer: it does not serve
        self._writer: Writer | None = None
        self._changes: trio.MemorySendChannel[Change] | None = None
        self._telling = trio.CancelScope()

    def hears(self) -> trio.MemoryReceiveChannel[Change]:
        """What changes from here on."""
        self._changes, changes = trio.open_memory_channel[Change](CHANGES_MAX)
        self._telling = trio.CancelScope()
        return changes

    async def be_told(self, changes: trio.MemoryReceiveChannel[Change], link: Link) -> None:
        """In order. One that cannot be told ends: it would go on from what is not so any more."""
        asked: EdgeProcess = asking(link, EdgeProcess)
        with self._telling:
            try:
                async for change in changes:
                    await change(asked)
            except (LinkClosed, AnsweredWithError) as error:
                if not link.closed.is_set():
                    log.error("process_not_told", process=self.number, reason=str(error))
        await link.aclose()

    def tell(self, change: Change) -> None:
        """Who does not serve knows it when it begins again, from the books."""
        if self._changes is not None:
            try:
                self._changes.send_nowait(change)
            except trio.WouldBlock:
                log.error("process_not_told", process=self.number, waiting=CHANGES_MAX)
                self.hears_no_more()

    def hears_no_more(self) -> None:
        """It ends."""
        self._changes = None
        self._telling.cancel()

    def serves(self, link: Link) -> None:
        """It has begun."""
        self.edge, self._writer = asking(link, Edge), asking(link, Writer)

    def dies(self) -> None:
        """Nobody writes its journal."""
        self.edge = self._writer = None
        self.hears_no_more()

    async def mark(self) -> Mark:
        """All of it where there is nobody who writes."""
        if self._writer is not None:
            return await self._of_writer(self._writer.mark())
        return Mark(number=EVERYTHING, moment_s=int(self._wall_clock()))

    async def trim(self, taken: Place) -> None:
        if self._writer is not None:
            await self._of_writer(self._writer.trim(taken))

    async def folded(self, taken: Place) -> None:
        if self._writer is not None:
            await self._of_writer(self._writer.folded(taken))

    async def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """One that does not serve may be told of them when it begins."""
        return [] if self._writer is None else await self._of_writer(self._writer.forgotten(prevhashes))

    async def _of_writer(self, answer: Awaitable[_Answer]) -> _Answer:
        try:
            return await answer
        except LinkClosed as error:
            raise WriterAway from error
        except AnsweredWithError as error:
            log.error("process_does_not_say", process=self.number, reason=str(error))
            self.hears_no_more()
            raise WriterAway from error


class _Starting:
    """Of a process that was started a moment ago."""

    def __init__(self) -> None:
        self._there = trio.Event()

    async def there(self) -> None:
        self._there.set()

    async def until_there(self, link: Link) -> None:
        """Raises LinkClosed for one that dies, or takes STARTS_S."""
        async with trio.open_nursery() as nursery:

            async def dead() -> None:
                with trio.move_on_after(STARTS_S):
                    await link.closed.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(dead)
            await self._there.wait()
            nursery.cancel_scope.cancel()
        if not self._there.is_set():
            raise LinkClosed("it has not started")


class Processes:
    """`begin` says what a process is to know, when the books have all of its journal; it blocks. `drains_s`
    is within how many seconds all miners are to go, None where they are not."""

    def __init__(
        self,
        opened: Sequence[OpenJournal],
        folding: Folding,
        hub: Hub,
        *,
        settings: Path,
        begin: Callable[[Taker, Part], Begin],
        drains_s: Callable[[], int | None],
        wall_clock: Callable[[], float],
    ) -> None:
        self._folding, self._hub, self._settings = folding, bounded(hub), settings
        self._begin, self._drains_s = begin, drains_s
        self._all = [Process(n, it.taker, wall_clock) for n, it in enumerate(opened, start=1)]
        self._died = 0
        self.edges = [_edge_of(it) for it in self._all]
        self.pids: dict[int, int] = {}  # of those that live
        for it in self._all:
            folding.take(it, it.taker)

    def figures(self) -> ProcessFigures:
        """As of now."""
        serving = sum(it.edge is not None for it in self._all)
        return ProcessFigures(of=len(self._all), serving=serving, died=self._died)

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; it has started when each of them listens. Raises BadEndpoint or BadCertificate
        when one cannot."""
        async with trio.open_nursery() as nursery:
            addresses: dict[int, tuple[tuple[str, int], ...]] = {}

            async def keep(process: Process) -> None:
                addresses[process.number] = await nursery.start(self._keep, process)

            async with trio.open_nursery() as starting:
                for process in self._all:
                    starting.start_soon(keep, process)
            task_status.started(addresses[1])

    async def _keep(
        self,
        process: Process,
        *,
        task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        deaths = 0
        while True:
            since_s = trio.current_time()
            try:
                ended = await self._live(process, task_status)
            except OSError as error:  # no descriptor is left for it, or no memory
                if not process.has_served:
                    raise
                ended = f"not started: {error.strerror or error}"
            lived_s = trio.current_time() - since_s
            deaths = 0 if lived_s >= WELL_S else deaths + 1
            self._died += 1
            again_s = AGAIN_S[min(deaths, len(AGAIN_S) - 1)]
            log.error(
                "process_died",
                process=process.number,
                ended=ended,
                lived_s=round(lived_s),
                again_in_s=again_s,
            )
            await trio.sleep(again_s)

    async def _live(self, process: Process, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]]) -> str:
        """From its start to its death, or to ours: how it ended."""
        ours, its = socket.socketpair()
        link = Link(ours, errors=CROSSING)
        link.answer(Hub, self._hub)
        starting = _Starting()
        link.answer(Starting, starting)
        try:
            with its:
                try:
                    alive = await self._started(process, its)
                except BaseException:
                    ours.close()  # nobody runs its link
                    raise
            self.pids[process.number] = alive.pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, link, alive)
                await nursery.start(link.run)
                try:
                    await starting.until_there(link)
                    addresses = await self._serve(process, link, nursery)
                    if not process.has_served:
                        process.has_served = True
                        task_status.started(addresses)
                    await _answering(process.number, link, alive)
                except (BadEndpoint, BadCertificate, *NOT_TAKEN) as error:
                    if not process.has_served or isinstance(error, FATAL):
                        raise  # whoever starts the pool is told
                    log.error("process_not_begun", process=process.number, reason=words_of(error)[:300])
                except (LinkClosed, AnsweredWithError) as error:
                    log.error("process_not_begun", process=process.number, reason=str(error))
                await link.aclose()
                process.hears_no_more()
        finally:
            # Whoever reads its journal to the end from here on is to find nobody who writes there.
            process.dies()
            self.pids.pop(process.number, None)
        return _ended(alive)

    async def _started(self, process: Process, its: socket.socket) -> trio.Process:
        """A Python that will serve miners: its command line says which one, and nothing that is secret."""
        its.set_inheritable(True)
        what = [str(process.number), str(its.fileno()), str(self._settings)]
        return await trio.lowlevel.open_process(
            [sys.executable, "-m", "pool.cli.edge", *what],
            pass_fds=(its.fileno(),),
            stdin=subprocess.DEVNULL,
        )

    async def _serve(
        self, process: Process, link: Link, nursery: trio.Nursery
    ) -> tuple[tuple[str, int], ...]:
        asked: EdgeProcess = asking(link, EdgeProcess)
        async with self._folding.turn:
            await self._folding.take_to_the_end(process.taker)
            changes = process.hears()
            part = Part(process.number, len(self._all))
            begin = await when_it_answers("let a process begin", self._begin, process.taker, part)
            begin = msgspec.structs.replace(begin, drains_s=self._drains_s())
            addresses = await asked.begin(begin)
            process.serves(link)
        nursery.start_soon(process.be_told, changes, link)
        if begin.drains_s != (drains_s := self._drains_s()) and process.edge is not None:
            # Somebody has said so while it began.
            await (process.edge.end_drain() if drains_s is None else process.edge.drain(drains_s))
        log.info("process_serves", process=process.number, pid=self.pids[process.number])
        return addresses

    async def _end_with(self, link: Link, alive: trio.Process) -> None:
        """A process whose link is closed ends, by itself or by force; a dead one has no link."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:

                async def dead() -> None:
                    await alive.wait()
                    await link.aclose()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(dead)
                await link.closed.wait()
                await trio.sleep(ENDS_S)
                alive.kill()

    # Changes

    def tenant_changed(self, record: TenantRecord) -> None:
        self._tell(lambda it: it.tenant_changed(record))

    def container_changed(self, record: ContainerRecord) -> None:
        self._tell(lambda it: it.container_changed(record))

    def workers_removed(self, names: Sequence[tuple[str, str, str]]) -> None:
        self._tell(lambda it: it.workers_removed(names))

    def machines_known(self, machines: Sequence[KnownMachine]) -> None:
        self._tell(lambda it: it.machines_known(machines))

    def routes_changed(self) -> None:
        self._tell(lambda it: it.routes_changed())

    def settings_changed(self) -> None:
        self._tell(lambda it: it.settings_changed())

    def _tell(self, change: Change) -> None:
        for process in self._all:
            process.tell(change)


async def _answering(number: int, link: Link, alive: trio.Process) -> None:
    """Until it does not, or its link is closed."""
    asked: EdgeProcess = asking(link, EdgeProcess)
    silences = 0
    while silences < SILENCES_MAX and not link.closed.is_set():
        silences += 1
        with trio.move_on_after(LIVES_S):
            try:
                await asked.lives()
            except LinkClosed:
                return
            silences = 0
        if not silences:
            with trio.move_on_after(LIVES_S):
                await link.closed.wait()
    if silences:
        log.error("process_hangs", process=number, silent_s=SILENCES_MAX * LIVES_S)
        alive.kill()


def _ended(alive: trio.Process) -> str:
    code = alive.returncode or 0
    return f"status {code}" if code >= 0 else signal.Signals(-code).name


def _edge_of(process: Process) -> Edge:
    """Whichever process is in that place. Raises LinkClosed where there is none."""

    def asked(name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*given: object) -> Any:
            if process.edge is None:
                raise LinkClosed("it does not serve miners now")
            return await getattr(process.edge, name)(*given)

        return ask

    edge: Edge = by_name(Edge, asked)
    return edge


def bounded(hub: Hub) -> Any:
    """Whoever asks for what the books take too long for is told that they are away."""

    def bounded(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(hub, name)

        async def ask(*given: object) -> Any:
            with trio.move_on_after(ANSWER_S):
                return await method(*given)
            raise HubAway("the books do not answer")

        return ask

    return by_name(Hub, bounded)
