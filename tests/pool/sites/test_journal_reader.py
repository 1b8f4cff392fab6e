"""A journal's frames are read as they are, some at a time, while somebody writes them."""

from pathlib import Path

import pytest

from pool.journal.frames import HEAD, Place, frame_at
from pool.journal.log import JournalLog, JournalUnusable, writer_directories
from pool.journal.records import Batch, packed
from pool.journal.segments import segments
from pool.sites.journal_reader import FramesGone, JournalReader
from tests.fakes.disks import DiskThatLoses, broken

BOOK = "ab" * 16
SEGMENT_BYTES = 2_000
LONG = 5_000


def opened(home: Path, behind: Place | None = None, taken_bytes_max: int = 1 << 30) -> JournalLog:
    log = JournalLog(
        writer_directories(home, 1)[0], BOOK, segment_bytes=SEGMENT_BYTES, taken_bytes_max=taken_bytes_max
    )
    log.begin(behind or Place(), 5, 0)
    return log


def append(log: JournalLog, count: int, size: int = 100) -> None:
    for _ in range(count):
        log.append(packed(Batch(moment_s=5, accepted=0, tallies=bytes(size))), 5, 0)


def reading(log: JournalLog) -> JournalReader:
    return JournalReader(log.directory, lambda: log.at.number)


def numbers(log: JournalLog, data: bytes) -> list[int]:
    found, offset = [], 0
    while (frame := frame_at(log.writer, data, offset)) is not None:
        found.append(frame.at.number)
        offset = frame.end
    assert offset == len(data), "whole ones"
    return found


def read_all(reader: JournalReader, log: JournalLog, behind: int, bytes_max: int) -> list[int]:
    found: list[int] = []
    while (frames := reader.read(behind, bytes_max)) is not None:
        one = numbers(log, frames.data)
        assert one[0] == frames.first
        assert one[-1] == frames.last.number
        assert len(frames.data) <= bytes_max or len(one) == 1
        found += one
        behind = frames.last.number
    return found


@pytest.mark.parametrize("bytes_max", [1, 400, 1_500, 100_000])
def test_all_behind_a_record_comes_once_and_in_order(tmp_path: Path, bytes_max: int) -> None:
    log = opened(tmp_path)
    append(log, 30)
    append(log, 1, LONG)
    append(log, 30)
    assert len(segments(log.directory)) > 4
    everything = list(range(1, log.at.number + 1))
    reader = reading(log)
    for behind in (0, 1, 17, 40, log.at.number):
        assert read_all(reader, log, behind, bytes_max) == everything[behind:]
    append(log, 25)
    assert read_all(reader, log, 64, bytes_max) == list(range(65, log.at.number + 1)), "while it is written"


def test_it_begins_with_a_whole_file_where_that_is_wanted(tmp_path: Path) -> None:
    log = opened(tmp_path)
    append(log, 40)
    first, second = (it for it, _ in segments(log.directory)[:2])
    frames = reading(log).read(second + 1, 100, whole_file=True)
    assert frames is not None
    assert frames.first == second
    frames = reading(log).read(second - 2, 100, whole_file=True)
    assert frames is not None
    assert frames.first == first


def test_what_a_crash_tore_is_not_sent(tmp_path: Path) -> None:
    log = opened(tmp_path)
    append(log, 3)
    at = log.at
    append(log, 1)
    log.close()
    (_, path), *_ = segments(log.directory)
    for cut in range(1, HEAD.size + 100, 7):
        path.write_bytes(path.read_bytes()[:-7])
        reader = reading(log)
        assert read_all(reader, log, 0, 1_000) == list(range(1, at.number + 1)), cut
    again = opened(tmp_path, at)
    append(again, 2)
    assert read_all(reading(again), again, at.number, 1_000) == [at.number + it for it in (1, 2, 3)], (
        "goes on behind it"
    )


def test_what_is_not_known_to_be_on_disk_is_not_sent(tmp_path: Path) -> None:
    """The power may take it: then the hub would have more than the edge, which would be refused for good."""
    disk = DiskThatLoses()
    log = JournalLog(writer_directories(tmp_path, 1)[0], BOOK, disk=disk)
    log.begin(Place(), 5, 0)
    append(log, 3)
    disk.syncs = [broken()]
    with pytest.raises(JournalUnusable):
        append(log, 1)
    ((_, path),) = segments(log.directory)
    assert numbers(log, path.read_bytes()) == [1, 2, 3, 4, 5], "it is in the file"
    assert read_all(reading(log), log, 0, 1_000) == [1, 2, 3, 4]


def test_what_is_in_no_file_any_more_is_said(tmp_path: Path) -> None:
    log = opened(tmp_path, taken_bytes_max=1_000)
    assert JournalReader(tmp_path / "journal" / ("0" * 32), lambda: 9).read(0, 100) is None
    reader = reading(log)
    append(log, 40)
    assert reader.read(0, 100) is not None
    log.trim(log.at)
    (first, _), *_ = segments(log.directory)
    with pytest.raises(FramesGone, match=f"records 1 to {first - 1} of the journal"):
        reading(log).read(0, 100)
    with pytest.raises(FramesGone, match="gone while it is read"):
        read_all(reader, log, 1, 100)
    assert read_all(reader, log, log.at.number - 1, 100) == [log.at.number]


@pytest.mark.parametrize("bytes_max", [1, 400, 100_000])
def test_what_is_in_no_file_between_others_is_said_and_nothing_behind_it_is_sent(
    tmp_path: Path, bytes_max: int
) -> None:
    """Whoever takes them would ask for what is before that again and again."""
    log = opened(tmp_path)
    append(log, 60)
    there = segments(log.directory)
    there[1][1].unlink()
    first, last = there[1][0], there[2][0] - 1
    reader, sent = reading(log), list[int]()
    while len(sent) < first - 1:
        frames = reader.read(len(sent), bytes_max)
        assert frames is not None
        sent += numbers(log, frames.data)
    with pytest.raises(FramesGone, match=f"records {first} to {last} of the journal"):
        reader.read(len(sent), bytes_max)
    assert sent == list(range(1, first))
    assert read_all(reading(log), log, last, bytes_max)[0] == last + 1
