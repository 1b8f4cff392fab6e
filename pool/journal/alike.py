"""Two copies of a journal, made alike before anybody writes it: what is whole on either disk is on both.

    missing, empty, torn or shorter on one disk     put back from the other: first, middle and last files
    damaged on one, or on both in other records     put together, record by record
    a record that is whole on neither disk, with    refused, both files named
    whole ones behind it in its file
    two records of one number, or one that does     refused, both files named: they went different ways, and
    not follow the one before it                    each may have shares that were acknowledged
    nothing, of records that were between           left to whoever reads the journal (`Walk`): the books may
    what each disk has                              have them

Each record names the one before it by the writer's key, so no disk's word is taken for what belongs where. No
file with a whole record is removed: one that a trim has removed from the first disk, and not yet from the
second, cannot be told from one that somebody removed, nor can what a disk has that was away for long. It is
put back, and goes with the next trim. Nothing is written before all of it is found to fit.

Blocks. Must not know: what a record says.
"""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import structlog

from pool.journal.disk import Disk
from pool.journal.frames import HEAD, Place, frames_behind
from pool.journal.log import JournalUnusable, writers
from pool.journal.segments import segment_path, segments

log = structlog.get_logger()


class _Record(msgspec.Struct, frozen=True):
    """One that is whole, and where."""

    path: Path
    at: Place
    before: bytes  # digest of the one before it
    packed: bytes


def make_alike(data_dir: Path, second: Path, disk: Disk) -> None:
    """Raises OSError, and JournalUnusable: copies that cannot be are left as they are."""
    home, there = data_dir / "journal", second / "journal"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    there.mkdir(mode=0o700, parents=True, exist_ok=True)
    disk.sync_directory(second)
    for name in sorted({it.name for it in (*writers(data_dir), *writers(second))}):
        for it in (home, there):
            (it / name).mkdir(mode=0o700, exist_ok=True)
        _Copies(home / name, there / name).make_alike(disk)
        for it in (home, there):
            disk.sync_directory(it / name)
            disk.sync_directory(it)


class _Copies:
    """Of one writer's journal."""

    def __init__(self, home: Path, there: Path) -> None:
        self._home, self._there = home, there
        self._firsts = sorted({first for it in (home, there) for first, _ in segments(it)})
        self._unlike = {it for it in self._firsts if len(set(map(_read, self._paths(it)))) > 1}

    def make_alike(self, disk: Disk) -> None:
        if not self._unlike:
            return
        ends = {it: _last_of(it) for it in (self._home, self._there)}
        self._check_fits()
        if ends[self._home] < ends[self._there]:
            log.warning(
                "journal_put_back",
                writer=self._home.name,
                records=ends[self._there],
                instead_of=ends[self._home],
            )
        for first in sorted(self._unlike):
            copies = {path: _read(path) for path in self._paths(first)}
            content = _content(_put_together(first, copies), copies)
            for path, data in copies.items():
                if content and data != content:
                    if first <= ends[path.parent]:
                        log.warning("journal_file_put_back", file=str(path))
                    _put(path, content, disk)

    def _paths(self, first: int) -> tuple[Path, Path]:
        return segment_path(self._home, first), segment_path(self._there, first)

    def _check_fits(self) -> None:
        """What is put back goes on behind what is before it, and what is behind goes on from there."""
        pairs = [it for it in pairwise(self._firsts) if not self._unlike.isdisjoint(it)]
        beside = self._unlike.union(*pairs)
        before: _Record | None = None
        for first in self._firsts:
            if first not in beside:
                before = None
                continue
            ours, theirs = ((path, _read(path)) for path in self._paths(first))
            unlike = first in self._unlike
            records = _put_together(first, dict((ours, theirs))) if unlike else list(_records(*ours))
            if records:
                if before is not None:
                    _check_follows(before, records[0])
                before = records[-1]


def _put_together(first: int, copies: dict[Path, bytes]) -> list[_Record]:
    """What a file's copies have: one behind the other, from its first record on."""
    found: dict[int, _Record] = {}
    for record in (it for copy in copies.items() for it in _records(*copy)):
        other = found.setdefault(record.at.number, record)
        if other.at != record.at:
            raise _went_different_ways(other, record)
    records = [found[number] for number in sorted(found)]
    for wanted, record in enumerate(records, start=first):
        number = record.at.number
        if number < wanted:
            raise JournalUnusable(
                f"{record.path} has record {number}, which is of an earlier file. Where the other disk has"
                " what its name says, take this one away: it is put back from there"
            )
        if number > wanted:
            ours, theirs = copies
            raise JournalUnusable(
                f"record {wanted} is whole neither in {ours} nor in {theirs}, and record {number} is: both"
                " were acknowledged. Keep copies of both files. If the books have what is in them, take them"
                " away, and start again"
            )
    for before, record in pairwise(records):
        _check_follows(before, record)
    return records


def _check_follows(before: _Record, record: _Record) -> None:
    """Where it comes next. What neither disk has may be between them."""
    number = before.at.number + 1
    if record.at.number < number or (record.at.number == number and record.before != before.at.digest):
        raise _went_different_ways(before, record)


def _went_different_ways(one: _Record, other: _Record) -> JournalUnusable:
    return JournalUnusable(
        f"{one.path} and {other.path} are no copies of one another: record {one.at.number} of the first and"
        f" record {other.at.number} of the second do not follow one another. Both may have shares that were"
        " acknowledged. Keep both directories, and take the one away whose shares are not in the books"
    )


def _content(records: list[_Record], copies: dict[Path, bytes]) -> bytes:
    """What both copies are to be: one that has all records, without what a crash tore where one has nothing
    of that; else the records by themselves."""
    whole = b"".join(it.packed for it in records)
    if not whole:
        return b""
    return min((it for it in copies.values() if it.startswith(whole)), key=len, default=whole)


def _last_of(directory: Path) -> int:
    """The number of the last whole record, wherever its file is damaged; 0: there is none."""
    found = (
        max((it.at.number for it in _records(path, _read(path))), default=0)
        for _, path in reversed(segments(directory))
    )
    return next(filter(None, found), 0)


def _records(path: Path, data: bytes) -> Iterator[_Record]:
    """Those that are whole, wherever they are."""
    for it in frames_behind(path.parent.name, data, 0):
        yield _Record(path, it.at, it.before, data[it.end - HEAD.size - len(it.body) : it.end])


def _put(path: Path, content: bytes, disk: Disk) -> None:
    try:
        disk.put(path, path.with_suffix(".copied"), content)
    except OSError as error:
        raise JournalUnusable(
            f"{path}: {error.strerror or error}. It is not made like the other one"
        ) from error


def _read(path: Path) -> bytes:
    """All of it; nothing of a file that is not there."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise JournalUnusable(
            f"{path}: {error.strerror or error}. Where the other disk has the file, take this one away: it is"
            " put back from there"
        ) from error
