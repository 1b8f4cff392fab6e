"""A journal on a second disk: each record is on both before it is acknowledged, and whichever disk is lost,
the other has all of it.

At a start the copy that goes further is the journal: the other one is made like it, also where the first disk
was replaced, or was put back from a backup. A file that is damaged on one disk is made like the other's. Two
that went different ways are left as they are, and told: each may have shares that were acknowledged. A second
disk that fails while a pool runs is told, and gone on without until the next start: it is there so that less
is lost, and not so that more stands still.

Blocks. Must not know: what a record says.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from pool.journal.disk import Disk
from pool.journal.frames import Place, frame_at
from pool.journal.log import JournalUnusable, writers
from pool.journal.segments import JournalDamaged, Walk, end_of, segments

log = structlog.get_logger()


class TwoDisks(Disk):
    """What is written below `home` is written below `second` as well."""

    def __init__(self, home: Path, second: Path) -> None:
        self._home, self._second = home, second
        self._others: dict[int, int] = {}  # descriptors there, by ours
        self.failed: str | None = None  # why there is no second copy any more

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self._open(descriptor, lambda there: super(TwoDisks, self).create(there), path)
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
        self._also(super().close, descriptor)
        self._others.pop(descriptor, None)
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
            self._others[descriptor] = open_there(there)

        self._there(opened, path)

    def _there(self, work: Callable[[Path], object], path: Path) -> None:
        if self.failed is None:
            try:
                work(self._beside(path))
            except OSError as error:
                self._fail(error)

    def _also(self, work: Callable[[int], object], descriptor: int) -> None:
        if self.failed is None and (there := self._others.get(descriptor)) is not None:
            try:
                work(there)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.failed = error.strerror or str(error)
        log.error("second_journal_failed", directory=str(self._second), reason=self.failed)
        for there in self._others.values():
            with suppress(OSError):  # the disk is broken: whatever it says
                os.close(there)
        self._others.clear()


def make_alike(data_dir: Path, second: Path, disk: Disk) -> None:
    """Before a journal is written: both have what the one has that goes further. Raises OSError, and
    JournalUnusable for two that went different ways."""
    home, there = data_dir / "journal", second / "journal"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    there.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.sync_directory(second)
    for name in sorted({it.name for it in (*writers(data_dir), *writers(second))}):
        ends = {it: end_of(it / name) if (it / name).is_dir() else Place() for it in (home, there)}
        to, of = (home, there) if ends[there].number > ends[home].number else (there, home)
        _check_goes_on(of / name, ends[to], to / name)
        if to is home:
            log.warning(
                "journal_put_back", writer=name, records=ends[there].number, instead_of=ends[home].number
            )
        _copy(of / name, to / name, disk)


def _check_goes_on(directory: Path, end: Place, other: Path) -> None:
    """What ends there is the beginning of this. What ends before all that is here was let go of."""
    there = segments(directory)
    if end.number == 0 or not there or there[0][0] > end.number + 1:
        return
    try:
        for _ in Walk(directory, directory.name, end).frames(end.number + 1):
            pass
    except JournalDamaged as error:
        raise JournalUnusable(
            f"{directory} and {other} are no copies of one another: {error}. Keep both, and take the one away"
            " whose shares are not in the books"
        ) from error


def _copy(of: Path, to: Path, disk: Disk) -> None:
    """Files that are not there, or are others. Of two that are not alike the one that is whole counts."""
    to.mkdir(mode=0o700, exist_ok=True)
    there = segments(of) if of.is_dir() else []
    wanted = {path.name for _, path in there}
    for _, path in segments(to):
        if path.name not in wanted:
            disk.remove(path)
    for first, path in there:
        target = to / path.name
        if target.exists() and target.read_bytes() == path.read_bytes():
            continue
        if first == there[-1][0] or _is_whole(path, first):
            _put(path, target, disk)
        elif target.exists() and _is_whole(target, first):
            log.warning("journal_file_put_back", file=str(path))
            _put(target, path, disk)
        else:
            raise JournalUnusable(f"{path} is damaged, and {target} is no whole copy of it")
    for directory in (of, to):
        if directory.is_dir():
            disk.sync_directory(directory)
            disk.sync_directory(directory.parent)


def _is_whole(path: Path, first: int) -> bool:
    """Whether there is nothing in it but records, one behind the other: not of the last file, which may be
    torn."""
    data, end = path.read_bytes(), 0
    before: Place | None = None
    while (frame := frame_at(path.parent.name, data, end)) is not None:
        follows = frame.at.number == first if before is None else frame.before == before.digest
        if not follows:
            return False
        before, end = frame.at, frame.end
    return before is not None and end == len(data)


def _put(path: Path, target: Path, disk: Disk) -> None:
    draft = target.with_suffix(".copied")
    shutil.copyfile(path, draft)
    draft.chmod(0o600)
    descriptor = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    disk.replace(target, draft)
