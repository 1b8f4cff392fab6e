"""A journal on a second disk: each record is on both before it is acknowledged, and whichever disk is lost,
the other has all of it.

Both are alike at a start (`pool.journal.alike`). A second disk that fails while a pool runs is told, and gone
on without until the next start: it is there so that less is lost, and not so that more stands still. Where no
descriptor is left for its next file no disk is broken: there is none for that of the first one either.

Blocks. Must not know: what a record says.
"""

import os
import threading
from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path

import structlog

from pool.journal.disk import CROWDED, Disk

log = structlog.get_logger()


class TwoDisks(Disk):
    """What is written below `home` is written below `second` as well."""

    def __init__(self, home: Path, second: Path) -> None:
        self._home, self._second = home, second
        self._others: dict[int, int] = {}  # descriptors there, by ours
        self.failed: str | None = None  # why there is no second copy any more
        # While a descriptor there is used: whoever trims may find meanwhile that the disk is broken, and the
        # next file or socket that is opened has a number that was closed.
        self._turn = threading.Lock()

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        try:
            self._open(descriptor, lambda there: super(TwoDisks, self).create(there), path)
        except OSError:
            super().remove(path)
            raise
        return descriptor

    def reopen(self, path: Path, size: int) -> int:
        descriptor = super().reopen(path, size)
        self._open(descriptor, lambda there: super(TwoDisks, self).reopen(there, size), path)
        return descriptor

    def write_all(self, descriptor: int, data: bytes) -> None:
        super().write_all(descriptor, data)
        self._also(lambda there: super(TwoDisks, self).write_all(there, data), descriptor)

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._also(super().sync, descriptor)

    def sync_directory(self, path: Path) -> None:
        super().sync_directory(path)
        self._there(super().sync_directory, path)

    def replace(self, path: Path, by: Path) -> None:
        super().replace(path, by)
        self._there(lambda there: super(TwoDisks, self).replace(there, self._beside(by)), path)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._there(super().remove, path)

    def close(self, descriptor: int) -> None:
        with self._turn:
            there = self._others.pop(descriptor, None)
        if there is not None:
            try:
                super().close(there)
            except OSError as error:
                self._fail(error)
        super().close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """Of whichever has less."""
        free = [super().free_bytes(path)]
        self._there(lambda there: free.append(super(TwoDisks, self).free_bytes(there)), path)
        return min(free)

    def _beside(self, path: Path) -> Path:
        return self._second / path.relative_to(self._home)

    def _open(self, descriptor: int, open_there: Callable[[Path], int], path: Path) -> None:
        def opened(there: Path) -> None:
            if not there.parent.is_dir():
                there.parent.mkdir(mode=0o700)
                super(TwoDisks, self).sync_directory(there.parent.parent)
            with self._turn:
                if self.failed is None:
                    self._others[descriptor] = open_there(there)

        try:
            self._there(opened, path, passing=CROWDED)
        except OSError:
            super().close(descriptor)
            raise

    def _there(self, work: Callable[[Path], object], path: Path, *, passing: Set[int] = frozenset()) -> None:
        """Raises OSError for what passes."""
        if self.failed is None:
            try:
                work(self._beside(path))
            except OSError as error:
                if error.errno in passing:
                    raise
                self._fail(error)

    def _also(self, work: Callable[[int], object], descriptor: int) -> None:
        with self._turn:
            there = self._others.get(descriptor)
            if there is None:
                return
            try:
                work(there)
                return
            except OSError as error:
                failed = error
        self._fail(failed)

    def _fail(self, error: OSError) -> None:
        with self._turn:
            if self.failed is not None:
                return
            self.failed = error.strerror or str(error)
            for there in self._others.values():
                with suppress(OSError):  # the disk is broken: whatever it says
                    os.close(there)
            self._others.clear()
        log.error("second_journal_failed", directory=str(self._second), reason=self.failed)
