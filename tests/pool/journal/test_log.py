"""The journal's log: what was appended is read again, once and in order, or it is said what is wrong."""

import errno
import fcntl
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from pool import data_dir
from pool.books.lease import FileLock
from pool.journal.disk import Disk
from pool.journal.frames import HEAD, Place, framed
from pool.journal.log import JournalLog, JournalUnusable, writer_directories, writers
from pool.journal.records import Batch, Opening, packed, unpacked
from pool.journal.segments import JournalDamaged, end_of, segments
from pool.store_error import StoreError
from tests.fakes.disks import DiskThatLoses, DiskWithoutDescriptors, broken, disk_full

BOOK = "ab" * 16
SEEDS = range(60)


def body(number: int) -> bytes:
    """Of different lengths, so that a record ends anywhere in a sector."""
    return packed(Batch(moment_s=5, accepted=number, tallies=bytes([number % 251]) * (number * 37 % 700)))


def accepted(frame_body: bytes) -> int | None:
    """What tells one batch of these tests from another; None of an opening."""
    record = unpacked(frame_body)
    return record.accepted if isinstance(record, Batch) else None


class Books:
    """What took the records, each once, and remembers the place."""

    def __init__(self, home: Path, disk: Disk | None = None, **bounds: int) -> None:
        self.home, self.disk, self.bounds = home, disk, bounds
        self.at = Place()
        self.numbers: list[int] = []
        self.log = self.opened()

    def opened(self) -> JournalLog:
        return JournalLog(writer_directories(self.home, 1)[0], BOOK, disk=self.disk, **self.bounds)

    def take(self, until: int | None = None) -> None:
        taken = self.at.number
        for frame in self.log.walk(self.at).frames(until):
            if frame.at.number > taken:
                assert frame.at.number == self.at.number + 1
                self.at = frame.at
                if (number := accepted(frame.body)) is not None:
                    self.numbers.append(number)

    def start(self) -> None:
        """As a pool starts: take what is there, then write."""
        self.take()
        self.log.begin(self.at, 5, 0)

    def restart(self) -> None:
        self.log.close()
        self.log = self.opened()
        self.start()

    def append(self, *numbers: int) -> None:
        for number in numbers:
            self.log.append(body(number), 5, number)

    @property
    def file(self) -> Path:
        """The newest."""
        return segments(self.log.directory)[-1][1]


@pytest.fixture
def books(tmp_path: Path) -> Books:
    found = Books(tmp_path)
    found.start()
    return found


def test_what_was_appended_is_read_again_once_and_in_order(books: Books) -> None:
    books.append(1, 2)
    books.take()
    books.append(3)
    books.restart()
    books.append(4)
    books.restart()
    assert books.numbers == [1, 2, 3, 4]
    first = next(books.log.walk(Place()).frames())
    opening = unpacked(first.body)
    assert isinstance(opening, Opening)
    assert (opening.book, opening.writer) == (BOOK, books.log.directory.name)


def test_a_walk_goes_on_with_what_was_appended_since(books: Books) -> None:
    walk = books.log.walk(Place())
    books.append(1)
    assert [accepted(it.body) for it in walk.frames()] == [None, 1]
    books.append(2, 3)
    assert [accepted(it.body) for it in walk.frames(until=3)] == [2]
    assert [accepted(it.body) for it in walk.frames()] == [3]
    assert list(walk.frames()) == []


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_directory_that_cannot_be_read_is_no_empty_journal(
    books: Books, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """Whoever began behind what the books have of it would go on beside what was acknowledged since."""
    books.append(1, 2)
    books.take()
    books.append(3, 4)
    directory = books.log.directory

    def not_read(path: Path) -> Any:
        assert path == directory
        raise OSError(error, os.strerror(error), str(path))

    books.log.close()
    books.log = books.opened()
    with monkeypatch.context() as for_a_moment:
        for name in ("listdir", "scandir"):
            for_a_moment.setattr(os, name, not_read)
        with pytest.raises(OSError, match=os.strerror(error)):
            books.start()
    books.restart()
    books.append(5)
    books.restart()
    assert books.numbers == [1, 2, 3, 4, 5]


def test_the_tail_may_be_torn_at_every_byte(books: Books) -> None:
    books.append(1, 2)
    at, whole = books.log.at, books.file.read_bytes()
    books.append(3)
    torn = books.file.read_bytes()
    assert len(whole) < len(torn)
    for end in range(len(whole), len(torn)):
        for rest in (b"", bytes(len(torn) - end)):  # the file is shorter, or zeros are where it was to be
            if torn[:end] + rest == torn:
                continue  # zeros are what it ends with: it is whole
            books.file.write_bytes(torn[:end] + rest)
            found = list(books.log.walk(Place()).frames())
            assert found[-1].at == at
            assert [accepted(it.body) for it in found] == [None, 1, 2]
    books.restart()
    assert books.numbers == [1, 2]
    books.append(4)
    books.restart()
    assert books.numbers == [1, 2, 4]
    books.at, books.numbers = Place(), []
    with capture_logs() as logs:
        books.take()  # the torn file is in the middle now, and nothing is missing
    assert books.numbers == [1, 2, 4]
    assert [it["event"] for it in logs] == ["journal_torn"]


def test_a_bit_that_flipped_anywhere_is_damage_unless_it_is_in_the_last_record(books: Books) -> None:
    books.append(1, 2)
    last = books.file.stat().st_size
    books.append(3)
    whole = books.file.read_bytes()
    for at in range(len(whole)):
        broken_bytes = bytearray(whole)
        broken_bytes[at] ^= 1 << at % 8
        books.file.write_bytes(broken_bytes)
        found = []
        if at >= last:  # a torn write looks the same
            assert [accepted(it.body) for it in books.log.walk(Place()).frames()] == [None, 1, 2]
            continue
        with pytest.raises(JournalDamaged, match=r"damaged at byte \d+, behind record \d+: record \d+"):
            found += [accepted(it.body) for it in books.log.walk(Place()).frames()]
        assert found == []


@pytest.mark.parametrize("record", [0, 1, 2])
def test_a_journal_does_not_end_before_a_record_that_is_damaged(books: Books, record: int) -> None:
    """The hub would say of it that it was put back from a copy, and is to be removed."""
    books.restart()
    starts = [0]
    for number in range(1, 4):
        starts.append(books.file.stat().st_size)
        books.append(number)
    assert end_of(books.log.directory) == books.log.at
    whole = books.file.read_bytes()
    at = starts[record] + HEAD.size
    books.file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(
        JournalDamaged, match=rf"damaged at byte {starts[record]}, behind record {record + 1}"
    ):
        end_of(books.log.directory)
    books.file.write_bytes(whole[:-1])
    assert end_of(books.log.directory).number == books.log.at.number - 1, "that was torn"


def test_a_record_that_is_missing_in_the_middle_is_never_skipped(books: Books) -> None:
    starts = []
    for number in range(1, 5):
        starts.append(books.file.stat().st_size)
        books.append(number)
    whole = books.file.read_bytes()
    books.file.write_bytes(whole[: starts[1]] + whole[starts[2] :])
    with pytest.raises(JournalDamaged, match="record 4 does not follow record 2"):
        books.take()
    books.file.write_bytes(whole[: starts[1]] + whole[starts[0] : starts[1]] + whole[starts[1] :])
    with pytest.raises(JournalDamaged, match="record 2 does not follow record 2"):
        books.take()


def test_a_file_that_is_missing_is_said_with_its_records(books: Books) -> None:
    books.append(1, 2)
    books.restart()
    books.append(3)
    books.restart()
    books.append(4)
    files = segments(books.log.directory)
    assert [first for first, _ in files] == [1, 4, 6]
    books.at = Place()
    files[1][1].unlink()
    with pytest.raises(JournalDamaged, match=r"ends with record 3, and .*6\.log begins with record 6"):
        books.take()
    files[0][1].unlink()
    books.at = Place()
    with pytest.raises(JournalDamaged, match="records 1 to 5 are missing"):
        books.take()


def test_a_journal_that_went_on_from_a_copy_is_refused(books: Books) -> None:
    """The thief's: what the books took is there again, with other shares under its number."""
    books.append(1, 2)
    books.take()
    copy, before = books.file.read_bytes(), books.at
    books.append(3)
    books.take()
    other, _ = framed(books.log.writer, before, body(9))
    books.file.write_bytes(copy + other)
    with pytest.raises(JournalDamaged, match=r"record 4 .* is not the one that the books took"):
        list(books.log.walk(books.at).frames())
    last, _ = framed(books.log.writer, Place(4, bytes(16)), body(9))
    books.file.write_bytes(copy + other + last)
    with pytest.raises(JournalDamaged, match=r"record 4 .* is not the one that the books took"):
        list(books.log.walk(books.at).frames())


def test_a_journal_that_ends_before_the_books_goes_on_behind_them(books: Books) -> None:
    """A disk had lied about its last sync, and the books have what it lost."""
    books.append(1)
    copy = books.file.read_bytes()
    books.append(2)
    books.take()
    books.file.write_bytes(copy)
    books.restart()
    books.append(3)
    books.restart()
    assert books.numbers == [1, 2, 3]
    books.at = Place()
    with pytest.raises(JournalDamaged, match="ends with record 2, and"):
        books.take()  # for older books a record is missing


def test_another_writers_file_is_no_file_of_this_journal(books: Books, tmp_path: Path) -> None:
    other = Books(tmp_path / "other")
    other.start()
    other.append(7)
    books.append(1)
    books.file.write_bytes(books.file.read_bytes() + other.file.read_bytes())
    books.take()
    assert books.numbers == [1], "it cannot be told from what was torn, and is not taken"
    books.file.write_bytes(other.file.read_bytes())
    books.at, books.numbers = Place(), []
    books.take()
    assert books.numbers == []


def test_nobody_writes_a_record_into_a_name(books: Books) -> None:
    """A miner that knows the format, and not the writer's name, leaves a good record behind a torn one."""
    forged, _ = framed("0" * 32, Place(2, bytes(16)), body(9))
    at = books.log.at
    books.log.append(packed(Batch(moment_s=5, accepted=1, tallies=forged)), 5, 1)
    torn = bytearray(books.file.read_bytes())
    torn[-len(forged) - HEAD.size] ^= 1
    books.file.write_bytes(torn)
    assert list(books.log.walk(Place()).frames())[-1].at == at


@pytest.mark.parametrize("takes", [1, 3, 47, 48, 49])
def test_a_short_write_is_gone_on_with(tmp_path: Path, takes: int) -> None:
    disk = DiskThatLoses()
    books = Books(tmp_path, disk)
    books.start()
    disk.writes = [takes] * 5
    books.append(1, 2)
    books.take()
    assert books.numbers == [1, 2]


@pytest.mark.parametrize("takes", [0, 5, 60])
def test_a_full_disk_is_an_error_and_the_end_of_writing(tmp_path: Path, takes: int) -> None:
    disk = DiskThatLoses()
    books = Books(tmp_path, disk)
    books.start()
    books.append(1)
    disk.writes = [takes, disk_full()] if takes else [disk_full()]
    with pytest.raises(JournalUnusable, match="No space left"):
        books.append(2)
    calls = disk.calls
    with pytest.raises(JournalUnusable, match="failed before"):
        books.append(3)
    assert disk.calls == calls, "the disk is never asked again"
    books.restart()
    books.append(4)
    books.restart()
    assert books.numbers == [1, 4]


@pytest.mark.parametrize("seed", range(10))
def test_a_sync_that_failed_is_never_trusted_again(tmp_path: Path, seed: int) -> None:
    """The kernel says afterwards that all is written, and the next start reads it from its memory: what the
    books took then is theirs, what was not acknowledged may be lost, and nothing behind it is."""
    disk, rng = DiskThatLoses(), random.Random(seed)
    books = Books(tmp_path, disk)
    books.start()
    books.append(1)
    disk.syncs = [broken()]
    with pytest.raises(JournalUnusable, match="Input/output error"):
        books.append(2)
    books.restart()
    books.append(3)
    books.log.close()
    disk.power_cut(rng)
    books.log = books.opened()
    books.start()
    assert [it for it in books.numbers if it != 2] == [1, 3], f"seed {seed}"
    assert books.numbers.count(2) <= 1


def test_a_file_whose_name_was_lost_had_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    class DiskWithoutDirectories(DiskThatLoses):
        def sync_directory(self, path: Path) -> None:
            raise broken()

    disk = DiskWithoutDirectories()
    books = Books(tmp_path, disk)
    with pytest.raises(JournalUnusable, match="Input/output error"):
        books.start()
    with pytest.raises(JournalUnusable, match="failed before"):
        books.append(1)
    books.log.close()
    disk.power_cut(random.Random(1))
    books = Books(tmp_path)
    books.start()
    books.append(1)
    books.restart()
    assert books.numbers == [1]


def test_a_file_goes_on_while_no_descriptor_is_left_for_the_next_one(tmp_path: Path) -> None:
    """Who holds them all may be a crowd of strangers, and the pool is not to end for it."""
    disk = DiskWithoutDescriptors()
    books = Books(tmp_path, disk, segment_bytes=4_000)
    books.start()
    numbers = iter(range(1, 1_000))
    while not books.log.begins_a_file:
        books.append(next(numbers))
    disk.is_crowded = True
    with capture_logs() as logs:
        books.append(*(next(numbers) for _ in range(3)))
    assert [it["event"] for it in logs] == ["journal_file_waits"]
    assert len(segments(books.log.directory)) == 1
    disk.is_crowded = False
    books.append(next(numbers))
    assert len(segments(books.log.directory)) == 2
    books.restart()
    assert books.numbers == list(range(1, next(numbers)))


def test_a_file_that_has_no_end_is_one_no_hub_would_take(tmp_path: Path) -> None:
    disk = DiskWithoutDescriptors()
    books = Books(tmp_path, disk, segment_bytes=4_000)
    books.start()
    disk.is_crowded = True
    with pytest.raises(JournalUnusable, match="Too many open files"):
        books.append(*range(1, 1_000))
    assert 4_000 < books.file.stat().st_size < 8_000
    disk.is_crowded = False
    acknowledged = books.log.at.number - 1  # but for the opening
    books.restart()
    assert books.numbers == list(range(1, acknowledged + 1))


def test_the_name_of_a_journal_is_on_disk_before_anybody_begins_it(tmp_path: Path) -> None:
    """Where the first start was told that it was not, or was killed before it asked, too."""

    class DiskOfDirectories(Disk):
        def __init__(self) -> None:
            self.failing, self.synced = True, list[Path]()

        def sync_directory(self, path: Path) -> None:
            if self.failing:
                raise broken()
            self.synced.append(path)

    disk = DiskOfDirectories()
    with pytest.raises(JournalUnusable, match="journal: Input/output error"):
        writer_directories(tmp_path, 1, disk)
    disk.failing = False
    assert writer_directories(tmp_path, 1, disk) == writers(tmp_path)
    assert disk.synced == [tmp_path / "journal", tmp_path]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EWOULDBLOCK])
def test_a_file_system_that_locks_nothing_is_told_in_words_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As NFS without its lock service, and as where another process has it: of the journal, of the data
    directory and of the books."""

    def flock(descriptor: int, kind: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = len(os.listdir("/dev/fd"))
    words = "another process" if code == errno.EWOULDBLOCK else "cannot be locked: No locks available"
    for _ in range(10):
        with pytest.raises(JournalUnusable, match=words):
            JournalLog(tmp_path, "x")
        if code == errno.EWOULDBLOCK:
            assert not FileLock(tmp_path / "angara.db").acquire()
            continue
        with pytest.raises(data_dir.DataDirError, match=words), data_dir.held(tmp_path):
            pass
        with pytest.raises(StoreError, match=words):
            FileLock(tmp_path / "angara.db").acquire()
    assert len(os.listdir("/dev/fd")) == before


def test_a_second_process_is_refused_in_words(books: Books) -> None:
    code = (
        "from pathlib import Path; from pool.journal.log import *\n"
        f"try: JournalLog(Path({str(books.log.directory)!r}), 'x')\n"
        "except JournalUnusable as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "another process writes the journal" in said
    books.log.close()
    books.opened().close()


def test_a_data_directory_has_as_many_journals_as_write_there_and_those_of_before(books: Books) -> None:
    (books.home / "journal" / ("0" * 32)).mkdir()
    (books.home / "journal" / "notes").mkdir()
    assert sorted(writer_directories(books.home, 1)) == writers(books.home)
    assert len(writers(books.home)) == 2
    assert len(writer_directories(books.home, 3)) == len(writers(books.home)) == 3


@pytest.mark.parametrize("name", ["0" * 32, "f" * 32])
def test_a_journal_that_nobody_has_begun_is_not_written_in_place_of_one_with_records(
    books: Books, name: str
) -> None:
    """It was made while the disk with the other one was not there. The hub would refuse it, and say that the
    other one may be given up if it is lost."""
    (books.home / "journal" / name).mkdir()
    assert writer_directories(books.home, 1)[0] == books.log.directory


def test_files_go_when_the_books_have_them_and_more_of_them_than_are_kept(tmp_path: Path) -> None:
    books = Books(tmp_path, segment_bytes=1_500, taken_bytes_max=4_000)
    books.start()
    for number in range(1, 40):
        books.append(number)
    everything = books.log.size_bytes
    assert len(segments(books.log.directory)) > 5
    books.log.trim(Place())
    assert (
        books.log.size_bytes
        == everything
        == sum(it.stat().st_size for _, it in segments(books.log.directory))
    )
    books.take(until=20)
    books.log.trim(books.at)
    first, _ = segments(books.log.directory)[0]
    assert 1 < first <= 20
    books.take()
    books.log.trim(books.at)
    assert books.log.untaken_bytes == 0
    assert books.numbers == list(range(1, 40))
    assert books.log.size_bytes <= 4_000 + 1_500 + 1_000
    books.restart()
    books.append(40)
    books.restart()
    assert books.numbers[-1] == 40


@pytest.mark.parametrize("ahead", [-15, 0, 3])
def test_no_file_goes_because_the_books_have_as_many_records_of_another_journal(
    tmp_path: Path, ahead: int
) -> None:
    """Two that went on from one copy: what is here is nowhere else, and somebody has to look."""
    books = Books(tmp_path, segment_bytes=1_500, taken_bytes_max=4_000)
    books.start()
    books.append(*range(1, 40))
    there = segments(books.log.directory)
    with capture_logs() as logs:
        books.log.trim(Place(books.log.at.number + ahead, bytes(16)))
    assert [it["event"] for it in logs] == ["journal_not_trimmed"]
    assert segments(books.log.directory) == there
    books.take()
    books.log.trim(books.at)
    assert len(segments(books.log.directory)) < len(there)
    assert books.log.size_bytes == sum(path.stat().st_size for _, path in segments(books.log.directory))


def test_no_file_goes_at_whose_end_somebody_reads(tmp_path: Path) -> None:
    """Nothing that is taken is to be kept, and each record has a file."""
    books = Books(tmp_path, segment_bytes=1, taken_bytes_max=0)
    books.start()
    walk, read = books.log.walk(books.at), []
    for number in range(1, 6):
        books.append(number)
        read += [accepted(it.body) for it in walk.frames()]
        assert walk.at is not None
        books.log.trim(walk.at)
    assert [it for it in read if it is not None] == [1, 2, 3, 4, 5]
    assert len(segments(books.log.directory)) == 2


def test_a_journal_that_the_books_do_not_take_is_bounded(tmp_path: Path) -> None:
    books = Books(tmp_path, segment_bytes=1_000, untaken_bytes_max=5_000)
    books.start()
    with pytest.raises(JournalUnusable, match="wait for the books, and it may not grow beyond"):
        books.append(*range(1, 100))
    written = books.log.at
    books.restart()
    assert books.at.number == written.number
    books.append(200)


def test_records_that_nobody_took_are_never_written_over(books: Books) -> None:
    books.append(1)
    books.log.close()
    books.log = books.opened()
    with pytest.raises(JournalUnusable, match="records that the books have not taken"):
        books.log.begin(Place(), 5, 0)
    damaged = bytearray(books.file.read_bytes())
    damaged[HEAD.size] ^= 1  # of its first record
    books.file.write_bytes(damaged)
    with pytest.raises(JournalUnusable, match="records that the books have not taken"):
        books.log.begin(Place(), 5, 0)
    assert books.file.read_bytes() == damaged


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_disk_does_each_acknowledged_record_is_taken_once(tmp_path: Path, seed: int) -> None:
    """Short writes, full disks, syncs that fail, power cuts at any moment, files of a few records, books that
    take some of it: what `append` returned is taken once, in order; what it did not, once or never."""
    rng, disk = random.Random(seed), DiskThatLoses()
    books = Books(tmp_path, disk, segment_bytes=1_200, taken_bytes_max=0)
    books.start()
    acknowledged = []
    for tried in range(60):
        if rng.random() < 0.1:
            disk.writes = [rng.randrange(1, 60)] + ([disk_full()] if rng.random() < 0.5 else [])
        if rng.random() < 0.05:
            disk.syncs = [broken()]
        try:
            books.append(tried)
            acknowledged.append(tried)
            failed = False
        except JournalUnusable:
            failed = True
        disk.writes, disk.syncs = [], []
        if rng.random() < 0.2:
            books.take(until=rng.randrange(books.at.number, books.log.at.number + 1))
            books.log.trim(books.at)
        if failed or rng.random() < 0.1:
            books.log.close()
            if rng.random() < 0.7:
                disk.power_cut(rng)
            books.log = books.opened()
            books.start()
    books.restart()
    assert books.numbers == sorted(set(books.numbers)), f"seed {seed}: out of order, or twice"
    assert set(acknowledged) <= set(books.numbers), f"seed {seed}: lost"


def test_who_appends_does_not_wait_for_a_file_that_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To remove 64 MiB takes as long as fifteen commits."""
    books, waited, unlink = Books(tmp_path, segment_bytes=1_500, taken_bytes_max=4_000), [], Path.unlink

    def appended_meanwhile(path: Path, missing_ok: bool = False) -> None:
        waited.append(books.log._turn.locked())
        unlink(path, missing_ok)

    books.start()
    for number in range(1, 40):
        books.append(number)
    books.take()
    monkeypatch.setattr(Path, "unlink", appended_meanwhile)
    books.log.trim(books.at)
    assert len(waited) > 5
    assert not any(waited)
