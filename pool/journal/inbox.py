"""A copy of somebody else's journal, as its frames come: in order, on disk, and nothing that does not fit.

    <data_dir>/inbox/<edge>/<writer>/<number of its first record>.log

The files are the writer's own, byte for byte, so whoever reads a journal (`Walk`) reads them. Frames may come
twice, late, out of order or with gaps: what is here already is dropped, what comes early is kept aside, and
what is missing is asked for again (`Want`). A copy is not the truth: it may be lost as a whole, and is made
again from where the books are.

Invariants: what is said to be had is on disk, and each record of it names the one before it by the writer's
key. What breaks that is kept in a file of its own, and nothing behind it is taken until somebody has looked.
Everything blocks, one call at a time. Must not know: databases, how frames come.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pool.journal.disk import Disk
from pool.journal.frames import BODY_BYTES_MAX, HEAD, MARK, Frame, Place, frame_at, frames_behind
from pool.journal.records import Batch, Opening, unpacked
from pool.journal.segments import gone_with, segment_path, segments

log = structlog.get_logger()

# A writer begins a file at 64 MiB (pool.journal.log), with a record that may be as long.
FILE_BYTES_MAX: Final = 2 * BODY_BYTES_MAX
UNTAKEN_BYTES_MAX: Final = 4 << 30  # of one writer: what it keeps itself before it stops
# That the books have taken, for books that are put back from a backup: an hour of a large site, whose own
# files have more.
TAKEN_BYTES_MAX: Final = 256 << 20
TAKEN_FILES_MAX: Final = 100  # of many starts
FILES_MAX: Final = 1_000  # 64 of 64 MiB wait at most, and some hundred starts while the books are away
EARLY_BYTES_MAX: Final = 4 << 20  # kept aside: some seconds of a large site; what is more is asked for again
QUARANTINE_BYTES_MAX: Final = BODY_BYTES_MAX  # of what did not fit: the one record, or what it was sent with
QUARANTINED_MAX: Final = 100  # files: somebody looked at each, and let it go on
FREE_BYTES_MIN: Final = 2 << 30  # the books need the disk too
Fit = tuple[Frame, Opening | Batch, bytes]  # a record that goes on behind what is here: read, and as it came


class InboxUnusable(Exception):
    """It cannot take anything now; the writer keeps what it has. In words for the operator."""


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be sent again: all behind that record. `whole_file`: from the first record of the file that
    the next one is in, or will be, since nothing of that file is here."""

    behind: int
    whole_file: bool = False


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """Up to `have` it is on disk here; `want` where something is missing behind that."""

    have: Place
    want: Want | None = None
    held: str | None = None  # why nothing is taken, in words


class Inbox:
    """Of one writer. `booked` is where the books are, `held` why nothing is taken. Raises InboxUnusable."""

    def __init__(
        self,
        directory: Path,
        booked: Place,
        *,
        held: str | None = None,
        disk: Disk | None = None,
        untaken_bytes_max: int = UNTAKEN_BYTES_MAX,
        taken_bytes_max: int = TAKEN_BYTES_MAX,
        free_bytes_min: int = FREE_BYTES_MIN,
    ) -> None:
        self.directory, self.writer = directory, directory.name
        self.booked, self.held = booked, held
        self._disk = Disk() if disk is None else disk
        self._untaken_bytes_max, self._taken_bytes_max = untaken_bytes_max, taken_bytes_max
        self._free_bytes_min = free_bytes_min
        self._turn = threading.Lock()
        self._early: dict[int, bytes] = {}
        self._early_bytes = 0
        self._sizes: dict[int, int] = {}  # of files, by their first record: what of them is on disk
        self._descriptor: int | None = None
        self.moment_s = 0  # of the last record
        self._at: Place | None = None  # the last record that is here
        try:
            self._find()
        except OSError as error:
            self._let_go()
            raise InboxUnusable(f"{directory}: {error.strerror or error}") from error

    @property
    def have(self) -> Place:
        """Where it goes on: the last record that is here, or that the books have."""
        return self.booked if self._at is None else self._at

    @property
    def want(self) -> Want:
        """What comes next."""
        return Want(behind=self.have.number, whole_file=self._at is None)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(list(self._sizes.values()))

    @property
    def untaken_bytes(self) -> int:
        """Of files that have records which the books have not. Any thread may ask: others add files, and
        remove them, meanwhile."""
        if self.have.number <= self.booked.number:
            return 0
        sizes = self._sizes.copy()
        return sum(sizes.values()) - sum(sizes[first] for first in gone_with(sizes, self.booked.number))

    def receive(self, data: bytes) -> Received:
        """Take frames, in any order, and return when what fits is on disk. Raises InboxUnusable, and then has
        nothing of them."""
        with self._turn:
            if self.held is not None:
                return Received(have=self.have, held=self.held)
            fits, gap = self._sorted(data)
            if fits:
                self._write(fits)
            held = self.held
            return Received(have=self.have, want=self.want if gap and held is None else None, held=held)

    def taken(self, booked: Place) -> None:
        """The books have everything up to there: what is far behind is removed, but never the file before the
        last of these, in which who reads may still be. Raises OSError."""
        gone = []
        with self._turn:
            self.booked = booked
            mine = gone_with(self._sizes, booked.number)
            size = sum(self._sizes[first] for first in mine)
            while len(mine) > 1 and (size > self._taken_bytes_max or len(mine) > TAKEN_FILES_MAX):
                gone.append(mine.pop(0))
                size -= self._sizes.pop(gone[-1])
        for first in gone:
            segment_path(self.directory, first).unlink(missing_ok=True)

    def hold(self, words: str) -> None:
        """Take nothing from here on: somebody has found what is in it to be wrong."""
        with self._turn:
            self.held = words

    def close(self) -> None:
        """Another one may be opened on the directory."""
        with self._turn:
            self._let_go()

    # What fits

    def _sorted(self, data: bytes) -> tuple[list[Fit], bool]:
        """What goes on behind what is here, in its order; and whether something is missing before what came.
        What breaks the journal ends it."""
        fits: list[Fit] = []
        at, offset, most = self._at, 0, 0
        while offset < len(data) and self.held is None:
            frame = frame_at(self.writer, data, offset)
            if frame is None:
                self._quarantine(data[offset:], _not_whole(data, offset))
                break
            packed, offset, most = data[offset : frame.end], frame.end, max(most, frame.at.number)
            at = self._fit(at, frame, packed, fits) or at
            while at is not None and self.held is None and (early := self._next_early(at)) is not None:
                found = frame_at(self.writer, early, 0)
                assert found is not None
                at = self._fit(at, found, early, fits) or at
        return fits, at is None or most > at.number or bool(self._early)

    def _fit(self, at: Place | None, frame: Frame, packed: bytes, fits: list[Fit]) -> Place | None:
        """Behind what is here: its place. Else where that is, of what is here already; None for what comes
        early."""
        number, booked = frame.at.number, self.booked
        if number > (booked if at is None else at).number + 1:
            self._keep_early(number, packed)
            return None
        if at is not None and number <= at.number:
            if number == at.number and frame.at.digest != at.digest:
                self._quarantine(packed, _forked(number))
            return at
        if at is not None and frame.before != at.digest:
            self._quarantine(packed, _forked(at.number))
            return at
        try:
            said = unpacked(frame.body)
        except ValueError as error:
            self._quarantine(packed, f"record {number} cannot be read: {error}")
            return at
        if at is None and not isinstance(said, Opening):  # what its numbers mean is in front of it
            if number > booked.number:
                self._keep_early(number, packed)
            return None
        other = (number == booked.number and frame.at.digest != booked.digest) or (
            number == booked.number + 1 and frame.before != booked.digest
        )
        if other:
            self._quarantine(packed, f"record {booked.number} is not the one that the books took")
            return at
        fits.append((frame, said, packed))
        return frame.at

    def _keep_early(self, number: int, packed: bytes) -> None:
        if number not in self._early and self._early_bytes + len(packed) <= EARLY_BYTES_MAX:
            self._early[number] = packed
            self._early_bytes += len(packed)

    def _next_early(self, at: Place) -> bytes | None:
        """Behind that one, which may be kept as well; none before it is, since records come in order."""
        self._early_bytes -= len(self._early.pop(at.number, b""))
        packed = self._early.pop(at.number + 1, None)
        self._early_bytes -= len(packed or b"")
        return packed

    def _forget_early(self) -> None:
        self._early.clear()
        self._early_bytes = 0

    def _quarantine(self, data: bytes, words: str) -> None:
        """Keep it in a file, and take nothing more."""
        self.held = words
        self._forget_early()
        home = self.directory / "quarantine"
        name = f"{self.have.number + 1:020}"
        log.error("inbox_held", directory=str(self.directory), reason=words, bytes=len(data))
        try:
            home.mkdir(mode=0o700, exist_ok=True)
            others = len(list(home.glob("*.frames")))
            if others < QUARANTINED_MAX:
                (home / f"{name}-{others}.frames").write_bytes(data[:QUARANTINE_BYTES_MAX])
                (home / f"{name}-{others}.txt").write_text(f"{words}\n")
        except OSError as error:  # the writer has it: what is kept here is for eyes
            log.error("quarantine_not_written", directory=str(home), reason=error.strerror or str(error))

    # Files

    def _find(self) -> None:
        """What is here of an earlier process, without what was torn; nothing where the books have more."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sizes = {first: path.stat().st_size for first, path in segments(self.directory)}
        while self._sizes and self._at is None:
            last = max(self._sizes)
            data = segment_path(self.directory, last).read_bytes()
            end, body = 0, b""
            while (frame := frame_at(self.writer, data, end)) is not None and self._follows(frame, last):
                self._at, end, body = frame.at, frame.end, frame.body
            self._keep_damaged(segment_path(self.directory, last), data, end)
            if self._at is None:
                self._remove(last)
            else:
                self._sizes[last] = end
                self.moment_s = _moment_of(body)
        if self._at is not None and self._at.number < self.booked.number:
            log.warning("inbox_behind", directory=str(self.directory), have=self._at.number)
            for first in list(self._sizes):
                self._remove(first)
            self._at = None
        if self._at is not None:
            self._reopen()
            assert self._descriptor is not None
            self._disk.sync(self._descriptor)
        self._disk.sync_directory(self.directory)

    def _keep_damaged(self, path: Path, data: bytes, end: int) -> None:
        """What is whole behind a damaged record is asked for again, and kept: its writer's disk may be lost,
        and then this is all that there is of it."""
        behind = [it.at.number for it in frames_behind(self.writer, data, end)]
        if not behind or max(behind) <= self.booked.number:
            return
        kept = self.directory / "quarantine" / f"{path.stem}.damaged"
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        self._disk.put(kept, kept.with_suffix(".new"), data)
        self._disk.sync_directory(kept.parent)
        log.error("inbox_damaged", file=str(path), first=behind[0], last=behind[-1], kept=str(kept))

    def _follows(self, frame: Frame, first: int) -> bool:
        if self._at is None:
            return frame.at.number == first
        return frame.at.number == self._at.number + 1 and frame.before == self._at.digest

    def _remove(self, first: int) -> None:
        del self._sizes[first]
        segment_path(self.directory, first).unlink(missing_ok=True)

    def _reopen(self) -> None:
        """The last file, as much of it as is known to be on disk."""
        last = max(self._sizes)
        self._descriptor = self._disk.reopen(segment_path(self.directory, last), self._sizes[last])

    def _write(self, fits: list[Fit]) -> None:
        size = sum(len(packed) for _, _, packed in fits)
        before = dict(self._sizes)
        try:
            begun = sum(isinstance(said, Opening) for _, said, _ in fits)
            if len(self._sizes) + begun > FILES_MAX:
                raise InboxUnusable(
                    f"{self.directory} would have more than {FILES_MAX} files: the books take some first"
                )
            self._check_room(size)
            if self._descriptor is None and self._sizes:
                self._reopen()
            for frame, said, packed in fits:
                if isinstance(said, Opening):
                    self._begin_file(frame.at.number)
                self._append(packed)
            assert self._descriptor is not None
            self._disk.sync(self._descriptor)
            if self._sizes.keys() != before.keys():
                self._disk.sync_directory(self.directory)
        except (OSError, InboxUnusable) as error:
            self._give_back(before)
            if isinstance(error, InboxUnusable):
                raise
            raise InboxUnusable(f"{self.directory}: {error.strerror or error}") from error
        self._at = fits[-1][0].at
        self.moment_s = max(self.moment_s, *(said.moment_s for _, said, _ in fits))

    def _begin_file(self, first: int) -> None:
        if self._descriptor is not None:
            self._disk.sync(self._descriptor)
        self._let_go()
        self._descriptor = self._disk.create(segment_path(self.directory, first))
        self._sizes[first] = 0

    def _append(self, packed: bytes) -> None:
        assert self._descriptor is not None
        last = max(self._sizes)
        if self._sizes[last] + len(packed) > FILE_BYTES_MAX:
            raise InboxUnusable(f"the file of record {last} has no end: its writer begins one at 64 MiB")
        self._disk.write_all(self._descriptor, packed)
        self._sizes[last] += len(packed)

    def _give_back(self, before: dict[int, int]) -> None:
        """Nothing of it was had: a file ends where it was known to be on disk, when it is appended to. One
        that such a disk does not let go is begun again, as it came."""
        begun, self._sizes = self._sizes.keys() - before.keys(), before
        self._forget_early()
        with suppress(OSError):
            self._let_go()
        for first in begun:
            with suppress(OSError):
                segment_path(self.directory, first).unlink(missing_ok=True)

    def _let_go(self) -> None:
        """Once, whatever comes of it: its number is another file's then."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._disk.close(descriptor)

    def _check_room(self, size: int) -> None:
        untaken = self.untaken_bytes + size
        if untaken > self._untaken_bytes_max:
            raise InboxUnusable(
                f"{untaken >> 20} MiB wait for the books in {self.directory}, and no more than"
                f" {self._untaken_bytes_max >> 20} MiB may"
            )
        free = self._disk.free_bytes(self.directory)
        if free - size < self._free_bytes_min:
            raise InboxUnusable(
                f"the disk of {self.directory} has {free >> 20} MiB left, which the books need"
            )


def _moment_of(body: bytes) -> int:
    try:
        return unpacked(body).moment_s
    except ValueError:  # of a later version: whoever takes it says so
        return 0


def _not_whole(data: bytes, offset: int) -> str:
    left = len(data) - offset
    if left < HEAD.size or data[offset : offset + len(MARK)] != MARK:
        return f"{left} bytes came that are no record"
    _, length, number, _, _ = HEAD.unpack_from(data, offset)
    if HEAD.size + length > left:
        return f"record {number} of {length} bytes came with {left - HEAD.size} of them"
    return f"record {number} is not as its writer wrote it: its digest is another one"


def _forked(number: int) -> str:
    return (
        f"what came goes on from another record {number} than the one that is here: two processes write this"
        " journal, or it was put back from a copy and went on since"
    )
