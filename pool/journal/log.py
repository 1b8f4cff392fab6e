"""One writer's journal: records appended and synced, by one process at a time.

Whoever opens it reads what an earlier process left behind what the books have (`Walk`), has the books take
it, and then begins a file of its own (`begin`): nothing is ever appended to a file of another process, so
what a crash tore needs no mending, and what a disk kept in its memory alone is in the books by then.

Invariants: what `append` returned is on disk, in its place. After an error nothing is appended any more: what
an fsync lost, a second one does not bring back, and says that it did. Files go as a whole, oldest first, and
only behind what the books have. Everything blocks, one call at a time.

Must not know: databases, what a batch says.
"""

import fcntl
import os
import secrets
import threading
from pathlib import Path
from typing import Final

import structlog

from pool.data_dir import paths_in
from pool.journal.disk import CROWDED, Disk
from pool.journal.frames import Place, framed, frames_behind
from pool.journal.records import VERSION, Opening, packed
from pool.journal.segments import Walk, gone_with, segment_path, segments

log = structlog.get_logger()

WRITER_BYTES: Final = 16
# A quarter of an hour of the built-out site, or half a minute of what the engine can judge.
# A file may have half as much more while no descriptor is left for the next one.
SEGMENT_BYTES: Final = 64 << 20
# That the books have not taken: eighteen hours of the built-out site. Then no share is acknowledged any more.
UNTAKEN_BYTES_MAX: Final = 4 << 30
# That they have taken, for books that are put back from a backup: five hours of the built-out site.
TAKEN_BYTES_MAX: Final = 1 << 30
TAKEN_FILES_MAX: Final = 100  # of many starts
FREE_BYTES_LOW: Final = 1 << 30  # less is told at each new file


class JournalUnusable(Exception):
    """A journal that cannot be written, and why, in words for the operator."""


class JournalLog:
    """`writer` names it among all journals of a book. Raises JournalUnusable where another process has it."""

    def __init__(
        self,
        directory: Path,
        book: str,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        untaken_bytes_max: int = UNTAKEN_BYTES_MAX,
        taken_bytes_max: int = TAKEN_BYTES_MAX,
    ) -> None:
        self.directory, self.writer, self.book = directory, directory.name, book
        self._disk = Disk() if disk is None else disk
        self._segment_bytes = segment_bytes
        self._untaken_bytes_max, self._taken_bytes_max = untaken_bytes_max, taken_bytes_max
        self.at = Place()  # the last record that is on disk
        self.taken = Place()  # what the books have, as we were told
        self._sizes: dict[int, int] = {}  # of files, by their first record
        self._descriptor: int | None = None
        self._failed = False
        self._is_crowded = False  # the next file is waited for
        self._accepted = 0  # as the last record says
        self._turn = threading.Lock()  # of who appends and who trims
        self._lock: int | None = _locked(directory)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(list(self._sizes.values()))

    @property
    def untaken_bytes(self) -> int:
        """Of files that have records which the books have not."""
        if self.at.number <= self.taken.number:
            return 0
        gone = gone_with(self._sizes, self.taken.number)
        return self.size_bytes - sum(self._sizes[first] for first in gone)

    @property
    def begins_a_file(self) -> bool:
        """Whether the next record is the first of a file, but for its opening: nothing is named there yet."""
        return self._descriptor is None or self._sizes[max(self._sizes)] >= self._segment_bytes

    def begin(self, behind: Place, moment_s: int, accepted: int, *, taken: Place | None = None) -> None:
        """Append from now on, behind what the books have, or behind our end where they have it up to `taken`
        by now: in a file of our own. Raises JournalUnusable."""
        self.at, self.taken = behind, behind if taken is None else taken
        self._accepted = accepted
        self._sizes = {first: path.stat().st_size for first, path in segments(self.directory)}
        with self._turn:
            self._check_taken(behind.number + 1)
            self._begin_file(moment_s)

    def settle(self) -> None:
        """See that what is read of the last file is on disk, before anybody goes on behind it: a sync that
        failed may have left it in the kernel's memory alone, and says later that it did not. Raises
        JournalUnusable."""
        there = segments(self.directory)
        if not there:
            return
        path = there[-1][1]
        try:
            self._disk.put(path, path.with_suffix(".settled"), path.read_bytes())
            self._disk.sync_directory(self.directory)
        except OSError as error:
            raise self._fail(error) from error

    def append(self, body: bytes, moment_s: int, accepted: int) -> Place:
        """Where it is when it is on disk: a batch of that moment. Raises JournalUnusable."""
        with self._turn:
            if self._failed or self._descriptor is None:
                raise JournalUnusable("the journal failed before, or was closed: nothing more is written")
            if self.begins_a_file:
                self._begin_file(moment_s)
            self._check_room()
            self._append(body)
            self._accepted = accepted
            return self.at

    def trim(self, taken: Place) -> None:
        """The books have everything up to there: what is far behind is removed. Never the file that is
        written, nor the one before it, at whose end who reads may still be."""
        gone = []
        with self._turn:
            self.taken = taken
            mine = gone_with(self._sizes, taken.number)
            size = sum(self._sizes[first] for first in mine)
            while len(mine) > 1 and (size > self._taken_bytes_max or len(mine) > TAKEN_FILES_MAX):
                gone.append(mine.pop(0))
                size -= self._sizes[gone[-1]]
        if gone and not self._is_here(taken):
            log.error("journal_not_trimmed", directory=str(self.directory), other_record=taken.number)
            return
        for first in gone:  # 60 ms for 64 MiB, in which whoever appends need not wait
            self._disk.remove(segment_path(self.directory, first))
            with self._turn:
                del self._sizes[first]

    def walk(self, after: Place) -> Walk:
        """What is there behind a place."""
        return Walk(self.directory, self.writer, after)

    def close(self) -> None:
        """Let another process have it."""
        with self._turn:
            self._failed = True
            if self._descriptor is not None:
                self._disk.close(self._descriptor)
                self._descriptor = None
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    def _is_here(self, taken: Place) -> bool:
        """Not where the books have another record of that number: they took another journal, that went on
        from the same copy, and nobody has what is here."""
        if taken.number > self.at.number:
            return False
        path = segment_path(self.directory, max(it for it in list(self._sizes) if it <= taken.number))
        here = (it.at for it in frames_behind(self.writer, path.read_bytes(), 0))
        return next((it for it in here if it.number == taken.number), taken) == taken

    def _check_taken(self, first: int) -> None:
        """No file is begun in the place of one with records: nobody has taken those."""
        path = segment_path(self.directory, first)
        if path.exists() and any(True for _ in frames_behind(self.writer, path.read_bytes(), 0)):
            raise JournalUnusable(f"{path} has records that the books have not taken")

    def _begin_file(self, moment_s: int) -> None:
        """Go on in a file of its own, or in the one before for a while: that has to be closed only when the
        next one is there."""
        before, first = self._descriptor, self.at.number + 1
        opening = Opening(
            version=VERSION, writer=self.writer, book=self.book, moment_s=moment_s, accepted=self._accepted
        )
        try:
            self._descriptor = self._disk.create(segment_path(self.directory, first))
        except OSError as error:
            if before is None or error.errno not in CROWDED or self._is_too_long:
                raise self._fail(error) from error
            if not self._is_crowded:
                log.error("journal_file_waits", directory=str(self.directory), reason=error.strerror)
            self._is_crowded = True
            return
        self._is_crowded, self._sizes[first] = False, 0
        try:
            self._append(packed(opening))
        finally:
            if before is not None:
                self._disk.close(before)
        try:
            self._disk.sync_directory(self.directory)
            free = self._disk.free_bytes(self.directory)
        except OSError as error:
            raise self._fail(error) from error
        if free < FREE_BYTES_LOW:
            log.error("journal_disk_low", directory=str(self.directory), free_bytes=free)

    @property
    def _is_too_long(self) -> bool:
        return self._sizes[max(self._sizes)] >= self._segment_bytes * 3 // 2

    def _append(self, body: bytes) -> None:
        data, at = framed(self.writer, self.at, body)
        assert self._descriptor is not None
        try:
            self._disk.write_all(self._descriptor, data)
            self._disk.sync(self._descriptor)
        except OSError as error:
            raise self._fail(error) from error
        self._sizes[max(self._sizes)] += len(data)
        self.at = at

    def _check_room(self) -> None:
        untaken = self.untaken_bytes
        if untaken > self._untaken_bytes_max:
            self._failed = True
            raise JournalUnusable(
                f"{untaken >> 20} MiB of it wait for the books, and it may not grow beyond"
                f" {self._untaken_bytes_max >> 20} MiB"
            )

    def _fail(self, error: OSError) -> JournalUnusable:
        self._failed = True
        return JournalUnusable(f"{self.directory}: {error.strerror or error}")


def writer_directories(data_dir: Path, count: int, disk: Disk | None = None) -> list[Path]:
    """Of all journals in this data directory, and of as many as there are to be. Those with records come
    first: an empty one may have been made while the disk with the other was away. Raises JournalUnusable."""
    home, disk = data_dir / "journal", Disk() if disk is None else disk
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = writers(data_dir)
        new = [home / secrets.token_hex(WRITER_BYTES) for _ in range(count - len(found))]
        for directory in new:
            directory.mkdir(mode=0o700)
        # Also of those that are there: who made them may have ended before this, or been told that it failed.
        disk.sync_directory(home)
        disk.sync_directory(data_dir)
    except OSError as error:
        raise JournalUnusable(f"{home}: {error.strerror}") from error
    return sorted(found, key=lambda it: not segments(it)) + new


def writers(data_dir: Path) -> list[Path]:
    """The journals in a data directory. Raises OSError."""
    return sorted(it for it in paths_in(data_dir / "journal") if it.is_dir() and is_writer(it.name))


def is_writer(name: str) -> bool:
    """Whether a journal could have this name."""
    return len(name) == 2 * WRITER_BYTES and set(name) <= set("0123456789abcdef")


def _locked(directory: Path) -> int:
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalUnusable(f"{directory}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            raise JournalUnusable(f"another process writes the journal in {directory}") from None
        raise JournalUnusable(f"{directory}: its files cannot be locked: {error.strerror}") from error
    return descriptor
