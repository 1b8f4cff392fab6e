"""A host of a world: a process that is killed and started again, and its disk, which outlives it.

Must not know: what its processes do.
"""

from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import trio

from pool.journal.log import JournalLog
from stratum.miners.turns.arrival import Arrival
from tests.simulation.auditor import Found
from tests.simulation.dice import Dice, dice
from tests.simulation.disk import JournalDisk
from tests.simulation.ground import Ground
from tests.simulation.network import Caller, Connection
from tests.simulation.process import PROCESS, Moment, Process

DOWN_S: Final = (0.5, 12.0)  # until a process that ended is started again


class Host:
    """`lives` counts its processes, `serves` says whether the present one has begun. What happens here is
    drawn from the seed and these `names`."""

    def __init__(self, world: Ground, name: str, data_dir: Path, *names: str) -> None:
        self.world, self.name, self.data_dir = world, name, data_dir
        self.disk = self.new_disk(dice(world.seed, "disk", *names))
        self.lives = 0
        self.process: Process | None = None
        self.power_fails_too = False
        self.next_fuse: tuple[Moment, int] | None = None  # of the next process
        self.stopping = False
        self.began_s = -1.0  # when one served last
        self._chance = dice(world.seed, "process", *names)
        self._journals: list[JournalLog] = []  # that were opened, and are closed with their process
        self._connections: list[Connection] = []  # of miners, to the present process
        self._stopped = trio.Event()
        self._news = trio.Event()

    def new_disk(self, chance: Dice) -> JournalDisk:
        return JournalDisk(chance)

    @property
    def serves(self) -> bool:
        raise NotImplementedError

    @property
    def serving(self) -> Process | None:
        """The process that serves and was not killed."""
        return self.process if self.serves and self.process is not None and self.process.alive else None

    async def serve(self, process: Process) -> None:
        """Be a process, until it ends; `began` when it serves."""
        raise NotImplementedError

    # From outside

    async def served(self) -> None:
        """Return when there is a process that serves."""
        while not self.serves:
            await self._news.wait()

    async def stop(self) -> None:
        """As an operator who asks it to."""
        self.stopping = True
        if self.process is not None:
            self.process.scope.cancel()
        await self._stopped.wait()

    def restart(self) -> None:
        """As an operator who asks it to end, and whose unit starts it again."""
        if self.process is not None and self.process.alive:
            self.process.failure_expected = True
            self.process.scope.cancel()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def take(
        self,
        board: Any,
        limits: Any,
        caller: Caller,
        address: str,
        links: Dice,
        begin: Callable[[Arrival], int] | None = None,
    ) -> Connection | None:
        """A miner's connection, as a listener that has accepted it; with `begin` one of another dialect."""
        place = limits.enter(address)
        if isinstance(place, str):
            return None
        connection, far = self.world.network.connect(caller, links)
        board.arrive(far, address, place, begin, dear=begin is not None)
        self._connections = [*(it for it in self._connections if it.open), connection]
        return connection

    # Its lives

    async def run(self) -> None:
        """One process after the other, until it is asked to stop."""
        while not self.stopping:
            await self._life()
            if not self.stopping:
                await trio.sleep(self._chance.uniform(*DOWN_S))
                await self.between_lives()
        self._stopped.set()

    async def between_lives(self) -> None:
        """What its operator does before the next process."""

    def began(self) -> None:
        self.began_s = trio.current_time()
        news, self._news = self._news, trio.Event()
        news.set()

    async def _life(self) -> None:
        self.lives += 1
        self.process = process = Process(f"{self.name}, life {self.lives}", self._killed)
        self.disk.owner = process
        if self.next_fuse is not None:
            process.light(*self.next_fuse)
            self.next_fuse = None
        async with trio.open_nursery() as nursery:
            PROCESS.set(process)
            HOST.set(self)
            nursery.start_soon(self._serve, process)
            PROCESS.set(None)
            HOST.set(None)

    async def _serve(self, process: Process) -> None:
        self.world.note("life", *self.names_of_life())
        with process.scope:
            try:
                await self.serve(process)
            except BaseException as error:
                self.world.note("ended", *self.names_of_life(), type(error).__name__)
                if process.alive and not self.stopping and not process.failure_expected:
                    self.failed(words_of(error))
        PROCESS.set(None)
        while self._journals:
            self._journals.pop().close()
        self.left()
        if self.power_fails_too and not self.stopping:
            self.power_fails_too = False
            self.world.note("power cut")
            self.disk.power_cut(self._chance)

    def names_of_life(self) -> tuple[object, ...]:
        return (self.name, self.lives)

    def failed(self, words: str) -> None:
        """The process has ended, and nobody had asked it to."""
        self.world.found.append(Found("a process stopped by itself", f"{self.name}: {words}"))

    def left(self) -> None:
        """Nothing of the process is there any more."""

    def opened(self, log: JournalLog) -> JournalLog:
        self._journals.append(log)
        return log

    def _killed(self) -> None:
        self.world.note("killed", *self.names_of_life())
        kept = self._chance.random() < 0.5
        connections, self._connections = self._connections, []
        for connection in connections:
            if connection.open:
                connection.lost_with_its_pool(kept)
        self.world.upstream.cut()


HOST: ContextVar[Host | None] = ContextVar("host", default=None)


def words_of(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
