"""The files of one writer's journal, read: what is in them behind a place, or what is wrong with them.

    <data_dir>/journal/<writer>/<number of its first record>.log

A file ends where its last whole record does. What is behind that was torn by a crash before it was
acknowledged, where no whole record follows: neither in the file, nor in the next one, which would begin with
another number. Anything else is damage, told in words: nothing is ever skipped.

Must not know: who writes, what a record says beyond its place, databases.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

import structlog

from pool.data_dir import paths_in
from pool.journal.frames import Frame, Place, frame_at, frames_behind

log = structlog.get_logger()

SUFFIX: Final = ".log"
NAME_DIGITS: Final = 20
SEGMENTS_MAX: Final = 100_000  # in a directory: more is somebody's mistake


class JournalDamaged(Exception):
    """The journal is not what was written, or not this book's: in words for the operator."""


def segment_path(directory: Path, first: int) -> Path:
    return directory / f"{first:0{NAME_DIGITS}}{SUFFIX}"


def segments(directory: Path) -> list[tuple[int, Path]]:
    """Each with the number that it begins with, oldest first. Raises OSError."""
    found = []
    for path in paths_in(directory):
        if path.suffix == SUFFIX and path.stem.isdecimal() and len(path.stem) == NAME_DIGITS:
            found.append((int(path.stem), path))
    if len(found) > SEGMENTS_MAX:
        raise JournalDamaged(f"there are {len(found)} files in {directory}: that cannot be one journal")
    return sorted(found)


def gone_with(firsts: Iterable[int], number: int) -> list[int]:
    """Files, by the number of their first record, that have none behind that number, oldest first; never the
    last one."""
    return [first for first, after in pairwise(sorted(firsts)) if after <= number + 1]


def end_of(directory: Path) -> Place:
    """The last whole record of a journal's files, as far as its last file goes by itself. Raises
    JournalDamaged where more is whole in it: what ends before that is taken for a copy that was put back."""
    for first, path in reversed(segments(directory)):
        data, end, at = path.read_bytes(), 0, Place(first - 1)
        while (frame := frame_at(directory.name, data, end)) is not None:
            at, end = frame.at, frame.end
        check_torn(path, data[end:], end, at.number)
        if end:
            return at
    return Place()


def check_torn(path: Path, rest: bytes, offset: int, number: int) -> None:
    """That what is there behind that record, the last one that is whole from the beginning on, was torn by a
    crash. Raises JournalDamaged."""
    behind = next(frames_behind(path.parent.name, rest, 0), None)
    if behind is not None:
        raise JournalDamaged(
            f"{path} is damaged at byte {offset}, behind record {number}: record {behind.at.number} behind it"
            " is whole, so what is between them was acknowledged"
        )


class Walk:
    """Whole records in their order, from the file on that has the place `after`; those up to it too, since
    they say what numbers mean. `at` is the last one that was read.

    It may be gone on with while somebody writes: what is not whole is asked for again at the next `frames`.
    Raises JournalDamaged.
    """

    def __init__(self, directory: Path, writer: str, after: Place) -> None:
        self._directory, self._writer, self._after = directory, writer, after
        self._file: Path | None = None
        self._offset = 0
        self.at: Place | None = None

    def frames(self, until: int | None = None) -> Iterator[Frame]:
        """What is there by now, up to that number."""
        while self._file is not None or self._begin():
            assert self._file is not None
            there = segments(
                self._directory
            )  # before it is read: where there is a next one, this one is whole
            with self._file.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
            base = self._offset
            while until is None or self.at is None or self.at.number < until:
                frame = frame_at(self._writer, data, self._offset - base)
                if frame is None:
                    break
                self._follow(frame, base + frame.end)
                yield frame
            else:
                return
            if not self._next(data[self._offset - base :], there):
                return

    def _begin(self) -> bool:
        """Find the file to begin with; False where there is nothing."""
        there = segments(self._directory)
        if not there:
            return False
        after = self._after
        first, path = max((it for it in there if it[0] <= max(after.number, 1)), default=there[0])
        if first > after.number + 1:
            raise JournalDamaged(
                f"the journal in {self._directory} begins with record {first}, and the books have it up to"
                f" record {after.number}: records {after.number + 1} to {first - 1} are missing"
            )
        self._file, self._offset, self.at = path, 0, None
        return True

    def _follow(self, frame: Frame, end: int) -> None:
        assert self._file is not None
        number = frame.at.number
        if self.at is None:
            if number != int(self._file.stem):
                raise JournalDamaged(f"{self._file} begins with record {number}")
        elif number != self.at.number + 1 or frame.before != self.at.digest:
            raise JournalDamaged(f"{self._file}: record {number} does not follow record {self.at.number}")
        of_books = self._after
        other = (number == of_books.number and frame.at.digest != of_books.digest) or (
            number == of_books.number + 1 and frame.before != of_books.digest
        )
        if other:
            raise JournalDamaged(
                f"record {of_books.number} of the journal in {self._directory} is not the one that the books"
                " took: the journal, or the books, were put back from a copy and went on since"
            )
        self.at, self._offset = frame.at, end

    def _next(self, rest: bytes, there: list[tuple[int, Path]]) -> bool:
        """Go on with the next file; False where this is the last one. What is torn is behind the last record
        that was acknowledged, or it is damage."""
        assert self._file is not None
        at = self.at or Place(int(self._file.stem) - 1)
        check_torn(self._file, rest, self._offset, at.number)
        later = [it for it in there if it[0] > int(self._file.stem)]
        if not later:
            return False
        first, path = later[0]
        follows = first == at.number + 1 or (first > at.number and first == self._after.number + 1)
        if not follows:
            raise JournalDamaged(
                f"{self._file} ends with record {at.number}, and {path.name} begins with record {first}"
            )
        if first != at.number + 1:  # a disk that had lied lost the end of it, and the books have that
            self.at = self._after
        if rest:
            log.warning("journal_torn", file=self._file.name, cut_bytes=len(rest), after=at.number)
        self._file, self._offset = path, 0
        return True
