"""Processes that serve miners for a hub: started, asked, told, and started again when they die.

Each has a journal of its own, which the books of this process take: to its end when a process is dead, before
the next one begins to write it. So what a process acknowledged before it was killed is booked once, and what
machines it served is known to the next.

A process that dies again at once is started again ever later. One that does not answer is killed: its miners
have gone to the others, or wait for it. Must not know: what miners say.
"""

import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar, cast

import structlog
import trio

from pool.books.journal.folding import EVERYTHING, Folding, Writer, WriterAway
from pool.books.journal.start import OpenJournal
from pool.books.journal.taker import Taker
from pool.edge_process import CROSSING, EdgeProcess, Starting
from pool.edges.edge import Edge
from pool.fleet.registry import ContainerRecord, KnownMachine, TenantRecord
from pool.hub import Begin, Hub, HubAway, Part
from pool.journal.beginning import Mark
from pool.journal.frames import Place
from pool.link import Link, LinkClosed
from pool.questions import AnsweredWithError, asking

log = structlog.get_logger()

PROCESSES_MAX: Final = 16  # cores of the largest host that a site has; miners' work is native beyond it
AGAIN_S: Final = (0.0, 1.0, 5.0, 15.0, 60.0)  # a process that dies is started after so long, ever longer
WELL_S: Final = 60.0  # one that lived so long begins anew with that
ANSWER_S: Final = 20.0  # for the books, before the edge is told that they are away
STARTS_S: Final = 300.0  # of a process: a second or two, on a host that does many things at once
ENDS_S: Final = 15.0  # a process lets its miners go and commits the last time
_Answer = TypeVar("_Answer")


class Process:
    """One of them, or the place of one that is dead. pool.books.journal.folding.Writer."""

    def __init__(self, number: int, taker: Taker, wall_clock: Callable[[], float]) -> None:
        self.number, self.taker = number, taker
        self._wall_clock = wall_clock
        self.asked: EdgeProcess | None = None  # None, as the two others: it does not serve
        self.edge: Edge | None = None
        self._writer: Writer | None = None

    def serves(self, link: Link) -> None:
        """It has begun."""
        self.asked, self.edge = asking(link, EdgeProcess), asking(link, Edge)
        self._writer = asking(link, Writer)

    def dies(self) -> None:
        """Nobody writes its journal."""
        self.asked = self.edge = self._writer = None

    async def mark(self) -> Mark:
        """All of it where there is nobody who writes."""
        if self._writer is not None:
            return await self._of_writer(self._writer.mark())
        return Mark(number=EVERYTHING, moment_s=int(self._wall_clock()))

    async def trim(self, taken: Place) -> None:
        if self._writer is not None:
            await self._of_writer(self._writer.trim(taken))

    async def folded(self) -> None:
        if self._writer is not None:
            await self._of_writer(self._writer.folded())

    async def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """One that does not serve may be told of them when it begins."""
        return [] if self._writer is None else await self._of_writer(self._writer.forgotten(prevhashes))

    async def _of_writer(self, answer: Awaitable[_Answer]) -> _Answer:
        try:
            return await answer
        except LinkClosed as error:
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
    """`begin` says what a process is to know, when the books have all of its journal; it blocks."""

    def __init__(
        self,
        opened: Sequence[OpenJournal],
        folding: Folding,
        hub: Hub,
        *,
        settings: Path,
        begin: Callable[[Taker, Part], Begin],
        wall_clock: Callable[[], float],
    ) -> None:
        self._folding, self._hub, self._settings = folding, _bounded(hub), settings
        self._begin = begin
        self._all = [Process(n, it.taker, wall_clock) for n, it in enumerate(opened, start=1)]
        self.edges = [_edge_of(it) for it in self._all]
        self.pids: dict[int, int] = {}  # of those that live
        for it in self._all:
            folding.take(it, it.taker)

    async def run(
        self, *, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Until cancelled; it has started when each of them listens."""
        async with trio.open_nursery() as nursery:
            addresses: tuple[tuple[str, int], ...] = ()
            for process in self._all:
                addresses = await nursery.start(self._keep, process)
            task_status.started(addresses)

    async def _keep(
        self,
        process: Process,
        *,
        task_status: trio.TaskStatus[tuple[tuple[str, int], ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        deaths = 0
        while True:
            since_s = trio.current_time()
            await self._live(process, task_status)
            task_status = trio.TASK_STATUS_IGNORED
            deaths = 0 if trio.current_time() - since_s >= WELL_S else deaths + 1
            again_s = AGAIN_S[min(deaths, len(AGAIN_S) - 1)]
            log.error("process_died", process=process.number, again_in_s=again_s)
            await trio.sleep(again_s)

    async def _live(
        self, process: Process, task_status: trio.TaskStatus[tuple[tuple[str, int], ...]]
    ) -> None:
        """From its start to its death, or to ours."""
        ours, its = socket.socketpair()
        link = Link(ours, errors=CROSSING)
        link.answer(Hub, self._hub)
        starting = _Starting()
        link.answer(Starting, starting)
        try:
            with its:
                its.set_inheritable(True)
                command = [sys.executable, "-m", "pool.cli.edge", str(its.fileno()), str(self._settings)]
                alive = await trio.lowlevel.open_process(command, pass_fds=(its.fileno(),))
            self.pids[process.number] = alive.pid
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end_with, link, alive)
                await nursery.start(link.run)
                try:
                    await starting.until_there(link)
                    addresses = await self._serve(process, link)
                    task_status.started(addresses)
                    await link.closed.wait()
                except (LinkClosed, AnsweredWithError) as error:
                    log.error("process_not_begun", process=process.number, reason=str(error))
                    await link.aclose()
        finally:
            # Whoever reads its journal to the end from here on is to find nobody who writes there.
            process.dies()
            self.pids.pop(process.number, None)

    async def _serve(self, process: Process, link: Link) -> tuple[tuple[str, int], ...]:
        async with self._folding.turn:
            await self._folding.take_to_the_end(process.taker)
            part = Part(process.number, len(self._all))
            begin = await trio.to_thread.run_sync(self._begin, process.taker, part)
            begins: EdgeProcess = asking(link, EdgeProcess)
            addresses = await begins.begin(begin)
            process.serves(link)
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

    async def tenant_changed(self, record: TenantRecord) -> None:
        await self._tell(lambda it: it.tenant_changed(record))

    async def container_changed(self, record: ContainerRecord) -> None:
        await self._tell(lambda it: it.container_changed(record))

    async def workers_removed(self, names: Sequence[tuple[str, str, str]]) -> None:
        await self._tell(lambda it: it.workers_removed(names))

    async def machines_known(self, machines: Sequence[KnownMachine]) -> None:
        await self._tell(lambda it: it.machines_known(machines))

    async def routes_changed(self) -> None:
        await self._tell(lambda it: it.routes_changed())

    async def settings_changed(self) -> None:
        await self._tell(lambda it: it.settings_changed())

    async def _tell(self, change: Callable[[EdgeProcess], Awaitable[None]]) -> None:
        """Everybody who serves. Who dies meanwhile knows it when it begins again, from the books."""
        for process in self._all:
            if process.asked is not None:
                try:
                    await change(process.asked)
                except LinkClosed:
                    continue


def _edge_of(process: Process) -> Edge:
    """Whichever process is in that place. Raises LinkClosed where there is none."""

    def asked(name: str) -> Callable[..., Awaitable[Any]]:
        async def ask(*given: object) -> Any:
            if process.edge is None:
                raise LinkClosed("it does not serve miners now")
            return await getattr(process.edge, name)(*given)

        return ask

    names = [name for name in vars(Edge) if not name.startswith("_")]
    return cast(Edge, SimpleNamespace(**{name: asked(name) for name in names}))


def _bounded(hub: Hub) -> Any:
    """Whoever asks for what the books take too long for is told that they are away."""

    def bounded(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def ask(*given: object) -> Any:
            with trio.move_on_after(ANSWER_S):
                return await method(*given)
            raise HubAway("the books do not answer")

        return ask

    return SimpleNamespace(
        **{name: bounded(getattr(hub, name)) for name in vars(Hub) if not name.startswith("_")}
    )
