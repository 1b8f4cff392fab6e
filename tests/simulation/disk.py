"""The disk of a process: the journal's tears and lies, and commits of the books are answered or not.

A process that is killed leaves what it wrote. When the power goes with it, what was not synced is there or
not, in sectors. An fsync that fails has lost what it was to sync, whatever a later one says.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from pool.books.store import Store
from tests.fakes.disks import DiskThatLoses, broken, disk_full
from tests.simulation.dice import Dice
from tests.simulation.process import Killed, Moment, Process


class JournalDisk(DiskThatLoses):
    """Of a node, for all processes that it has one after the other; `owner` is the present one."""

    def __init__(self, chance: Dice) -> None:
        super().__init__()
        self.owner: Process | None = None
        self._chance = chance

    def fails_at_sync(self) -> None:
        """The next one, with all that it was to sync."""
        self.syncs = [broken()]

    def is_full(self) -> None:
        """From the middle of the next record on."""
        self.writes = [self._chance.randrange(1, 40), disk_full()]

    def is_good(self) -> None:
        self.writes, self.syncs = [], []

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._passes():
            taken = super().write(descriptor, data[: self._chance.randrange(len(data) + 1)])
            raise Killed(f"{taken} bytes of a record")
        with self._failure_expected():
            written = super().write(descriptor, data)
        self._moment()
        return written

    def sync(self, descriptor: int) -> None:
        self._moment()
        with self._failure_expected():
            super().sync(descriptor)
        self._moment()

    def create(self, path: Path) -> int:
        self._moment()
        return super().create(path)

    def sync_directory(self, path: Path) -> None:
        self._moment()
        super().sync_directory(path)

    @contextmanager
    def _failure_expected(self) -> Iterator[None]:
        """Whoever is told that it failed is to stop, whichever process that is: not who ran when it broke."""
        try:
            yield
        except OSError:
            if self.owner is not None:
                self.owner.failure_expected = True
            raise

    def _passes(self) -> bool:
        if self.owner is not None and not self.owner.alive:
            raise Killed(self.owner.name)
        return self.owner is not None and self.owner.counts(Moment.DISK)

    def _moment(self) -> None:
        if self.owner is not None:
            self.owner.passes(Moment.DISK)


class Books(Store):
    """A database that is away at times, and whose process may die on either side of a commit."""

    def __init__(self, of: Store, process: Process, health: "BooksHealth") -> None:
        super().__init__(of.engine, of._lease)
        self._process, self._health = process, health

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._answers()
        with super().read() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        self._answers()
        with super()._writing() as connection:
            yield connection
            self._process.passes(Moment.BOOKS)
        self._process.passes(Moment.BOOKS)
        if self._health.loses_answers:
            self._health.loses_answers -= 1
            raise away()

    def _answers(self) -> None:
        if not self._process.alive:
            raise Killed(self._process.name)
        if self._health.away:
            raise away()


class BooksHealth:
    """`away`: no question is answered. `loses_answers`: so many commits happen, and nobody is told."""

    def __init__(self) -> None:
        self.away = False
        self.loses_answers = 0


def away() -> OperationalError:
    """What a server that is busy, or gone, is heard as."""
    said = sqlite3.OperationalError("database is locked")
    said.sqlite_errorcode = sqlite3.SQLITE_BUSY
    return OperationalError("BEGIN", None, said)
