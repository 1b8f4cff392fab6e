"""What the files of a journal have, hour by hour: every record that is here is read, a file at a time.

Whoever writes them may go on meanwhile, and remove what is far behind. What is wrong with the first record
that is wrong is said in words, and nothing behind it is looked at.

Only reads. Must not know: the books, whose journal it is.
"""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from contextlib import suppress
from errno import EAGAIN
from pathlib import Path
from typing import Final

import msgspec

from pool.books.journal.hours import Hour, both, hours_of
from pool.journal.frames import HEAD, MARK, Frame, Place, frame_at
from pool.journal.records import Batch, Opening, unpacked
from pool.journal.segments import JournalDamaged, Walk, segments
from stratum.tallies import RECORD

# A writer removes one when it has begun another 64 MiB further on: hardly ever while we read, never thrice.
READS_MAX: Final = 3
RECORDS_BYTES_MAX: Final = 16 << 20  # added up at once


class HourHere(Hour, frozen=True, kw_only=True):
    """What is here of an hour, from record `first` on."""

    first: int


class Passed(msgspec.Struct, frozen=True):
    """What a record says that was asked for: `accepted` is how many shares there are up to it, if that is
    known."""

    digest: bytes
    accepted: int | None = None


class Damage(msgspec.Struct, frozen=True):
    """The first record that is wrong, and how."""

    number: int
    words: str


class JournalHere(msgspec.Struct, frozen=True, kw_only=True):
    """What is here of a journal: records `first` to `last`; 0 where there is none. `hours` are those of each
    stretch, `passed` the records that were asked for, `rest` what is behind the last one and is none."""

    writer: str
    book: str | None = None
    first: int = 0
    last: Place = Place()
    accepted: int = 0
    hours: tuple[tuple[HourHere, ...], ...] = ()
    passed: dict[int, Passed] = {}
    damage: Damage | None = None
    rest: str | None = None


def read_journal(directory: Path, *, splits: Sequence[int] = (), marks: Collection[int] = ()) -> JournalHere:
    """Its hours in stretches: up to each of the numbers in `splits`, and behind the last of them. Raises
    OSError, and JournalDamaged for a directory that is no journal's."""
    for _ in range(READS_MAX):
        begins = first_here(directory)
        with suppress(FileNotFoundError):
            found = _Reading(directory, splits, marks).read()
            if found.damage is None or first_here(directory) == begins:
                return found
    raise OSError(EAGAIN, "files are removed while they are read", str(directory))


def first_here(directory: Path) -> int:
    """The number of the first record that is here, by the name of its file; 0 where there is none."""
    return next((first for first, _ in segments(directory)), 0)


class _Reading:
    def __init__(self, directory: Path, splits: Sequence[int], marks: Collection[int]) -> None:
        self._directory, self._writer = directory, directory.name
        self._splits, self._marks = sorted(splits), frozenset(marks)
        self._hours = [dict[int, Hour]() for _ in range(len(splits) + 1)]
        self._firsts = [dict[int, int]() for _ in range(len(splits) + 1)]
        self._records: list[tuple[Place, Batch | Opening]] = []  # of one stretch, to be added up
        self._stretch = self._bytes = 0
        self._first, self._last, self._accepted = 0, Place(), 0
        self._book: str | None = None
        self._offset = 0  # in the file that was read last, behind its last record
        self._passed: dict[int, Passed] = {}

    def read(self) -> JournalHere:
        before = _before_first(self._directory)
        damage = None
        if before is not None:
            self._last = before
            try:
                for frame in Walk(self._directory, self._writer, before).frames():
                    self._take(frame)
            except JournalDamaged as error:
                damage = Damage(self._last.number + 1, str(error))
            except ValueError as error:
                number = self._last.number + 1
                damage = Damage(number, f"record {number} cannot be read: {error}")
        self._add_up()
        return JournalHere(
            writer=self._writer,
            book=self._book,
            first=self._first,
            last=self._last if self._first else Place(),
            accepted=self._accepted,
            hours=tuple(self._hours_of(it) for it in range(len(self._hours))),
            passed=self._passed,
            damage=damage,
            rest=self._rest() if damage is None else None,
        )

    def _take(self, frame: Frame) -> None:
        """Raises ValueError for a record that nobody can count."""
        said = unpacked(frame.body)
        if isinstance(said, Opening):
            if self._book not in (None, said.book):
                raise ValueError("it is of another book than those before it")
            self._book, self._offset = said.book, 0
        elif len(said.tallies) % RECORD.itemsize:
            raise ValueError("it is no row of tallies")
        number = frame.at.number
        stretch = bisect_left(self._splits, number)
        if stretch != self._stretch or self._bytes >= RECORDS_BYTES_MAX:
            self._add_up()
            self._stretch = stretch
        self._records.append((frame.at, said))
        self._bytes += len(frame.body)
        self._firsts[stretch].setdefault(said.moment_s // 3600, number)
        self._first = self._first or number
        self._last, self._accepted = frame.at, said.accepted
        self._offset += HEAD.size + len(frame.body)
        if number in self._marks:
            self._passed[number] = Passed(frame.at.digest, said.accepted)

    def _add_up(self) -> None:
        hours = self._hours[self._stretch]
        for it in hours_of(self._records):
            hours[it.hour] = both(hours[it.hour], it) if it.hour in hours else it
        self._records, self._bytes = [], 0

    def _hours_of(self, stretch: int) -> tuple[HourHere, ...]:
        found = (
            HourHere(
                hour=it.hour,
                first=self._firsts[stretch][it.hour],
                last=it.last,
                records=it.records,
                shares=it.shares,
            )
            for it in self._hours[stretch].values()
        )
        return tuple(sorted(found, key=lambda it: it.last.number))

    def _rest(self) -> str | None:
        """Behind the last whole record of the last file: what a crash tore, or what was a record."""
        there = segments(self._directory)
        if not there:
            return None
        first, path = there[-1]
        with path.open("rb") as file:
            file.seek(self._offset if first <= self._last.number else 0)
            data = file.read()
        if not data or frame_at(self._writer, data, 0) is not None:  # written since
            return None
        if len(data) >= HEAD.size and data[: len(MARK)] == MARK:
            _, length, number, _, _ = HEAD.unpack_from(data)
            if HEAD.size + length <= len(data):
                return f"record {number} is not as its writer wrote it: its digest is another one"
        return f"{len(data)} bytes are there that are no whole record"


def _before_first(directory: Path) -> Place | None:
    """The place before the first record, as that one says; None where there is none."""
    there = segments(directory)
    if not there:
        return None
    first, path = there[0]
    with path.open("rb") as file:
        head = file.read(HEAD.size)
    return Place(first - 1, HEAD.unpack(head)[3]) if len(head) == HEAD.size else None
