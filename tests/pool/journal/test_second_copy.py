"""A journal on two disks: whichever is lost, the other has every record that was acknowledged."""

import errno
import os
import shutil
from pathlib import Path
from threading import Thread

import pytest
from structlog.testing import capture_logs

from pool.journal.disk import Disk
from pool.journal.log import JournalUnusable
from pool.journal.segments import segments
from tests.stages.two_disks import TwoDiskSite


@pytest.fixture
def site(tmp_path: Path) -> TwoDiskSite:
    made = TwoDiskSite(tmp_path)
    made.start()
    return made


def test_both_have_every_record_in_the_same_files(site: TwoDiskSite) -> None:
    site.write(12)
    first, second = site.copies
    assert first == second
    assert len(first) > 2
    site.log.trim(site.log.at)
    assert site.copies[0] == site.copies[1]


@pytest.mark.parametrize("lost", ["data", "second"])
def test_whichever_disk_is_lost_the_journal_goes_on_from_the_other(site: TwoDiskSite, lost: str) -> None:
    at = site.write()
    site.log.close()
    shutil.rmtree(getattr(site, lost))
    site.data.mkdir(exist_ok=True)
    site.start()
    assert site.log.at.number == at.number + 1  # the opening of the next file
    site.write()
    assert site.copies[0] == site.copies[1]


def test_a_first_disk_that_was_put_back_from_a_backup_is_brought_up_to_the_second(
    site: TwoDiskSite, tmp_path: Path
) -> None:
    site.write()
    shutil.copytree(site.data, tmp_path / "backup")
    at = site.write(20)
    site.log.close()
    shutil.rmtree(site.data)
    shutil.copytree(tmp_path / "backup", site.data)
    site.start()
    assert site.log.at.number == at.number + 1


def test_two_that_went_different_ways_are_left_as_they_are_and_told(
    site: TwoDiskSite, tmp_path: Path
) -> None:
    """A snapshot of one that was served from, while the other disk was away: each has shares that were
    acknowledged, and which are in the books is not known here."""
    site.write()
    site.log.close()
    shutil.copytree(site.second, tmp_path / "taken out")
    site.start()
    site.write(3)
    site.log.close()
    shutil.rmtree(site.second)
    site.data.rename(tmp_path / "stays")
    shutil.copytree(tmp_path / "taken out", site.data)
    site.start()
    site.write(9, b"y")
    site.log.close()
    shutil.rmtree(site.data)
    (tmp_path / "stays").rename(site.data)
    before = site.copies
    with pytest.raises(JournalUnusable, match="are no copies of one another"):
        site.start()
    assert site.copies == before


@pytest.mark.parametrize("damaged", ["data", "second"])
def test_a_file_that_a_disk_has_damaged_is_made_like_the_other_ones(site: TwoDiskSite, damaged: str) -> None:
    """A sector that reads as other bytes, and without an error: the last file is whole on both."""
    site.write(12)
    at = site.log.at
    site.log.close()
    whole = site.copies[0]
    home = getattr(site, damaged) / "journal" / site.log.writer
    _, path = segments(home)[1]
    path.write_bytes(path.read_bytes()[:60] + b"\0" * 40 + path.read_bytes()[100:])
    assert site.copies[0] != site.copies[1]
    site.start()
    assert site.log.at.number == at.number + 1
    for copy in site.copies:
        assert {name: copy[name] for name in whole} == whole


def test_a_file_that_both_disks_have_damaged_is_left_to_somebody_who_looks(site: TwoDiskSite) -> None:
    site.write(12)
    site.log.close()
    for number, home in enumerate((site.data, site.second)):
        _, path = segments(home / "journal" / site.log.writer)[1]
        path.write_bytes(path.read_bytes()[: 60 + number] + b"\0" * 40 + path.read_bytes()[100 + number :])
    before = site.copies
    with pytest.raises(JournalUnusable, match="is whole neither in"):
        site.start()
    assert site.copies == before


def test_a_second_disk_that_fails_is_told_once_and_gone_on_without(
    site: TwoDiskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.write()

    def full(descriptor: int, data: memoryview) -> int:
        if descriptor in site.disk._others.values():
            raise OSError(28, "No space left on device")
        return Disk.write(site.disk, descriptor, data)

    monkeypatch.setattr(site.disk, "write", full)
    with capture_logs() as logs:
        at = site.write()
    assert [it["event"] for it in logs] == ["second_journal_failed"]
    assert site.disk.failed == "No space left on device"
    site.log.close()
    monkeypatch.undo()
    site.start()  # the disk is another one
    assert site.log.at.number == at.number + 1
    assert site.copies[0] == site.copies[1]


def test_a_second_disk_for_whose_file_no_descriptor_is_left_is_not_gone_on_without(
    site: TwoDiskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd of strangers has them all but one: the first disk's next file had it, and there was no second
    copy any more until the next start."""
    site.write(2)
    create = Disk.create

    def but_one(disk: Disk, path: Path) -> int:
        if path.is_relative_to(site.second):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return create(disk, path)

    with monkeypatch.context() as crowded, capture_logs() as logs:
        crowded.setattr(Disk, "create", but_one)
        site.write(1)
        assert [it["event"] for it in logs] == ["journal_file_waits"]
        assert site.copies[0] == site.copies[1]
    files = len(site.copies[0])
    at = site.write(1)
    assert site.disk.failed is None
    assert site.copies[0] == site.copies[1]
    assert len(site.copies[0]) == files + 1
    site.log.close()
    site.start()
    assert site.log.at.number == at.number + 1


def test_what_the_first_disk_does_not_take_is_not_acknowledged(
    site: TwoDiskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site.disk, "write", full)
    with pytest.raises(Exception, match="No space left"):
        site.write(1)


def test_a_disk_that_is_found_broken_by_who_trims_is_let_go_of_when_nobody_writes_to_it(
    site: TwoDiskSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread's file or socket has the number next: the record would be written there."""
    site.write(12)
    there, write = set(site.disk._others.values()), Disk.write
    trims, closed = Thread(target=site.log.trim, args=(site.log.at,)), list[bool]()

    def broken(path: Path, missing_ok: bool = False) -> None:
        if path.is_relative_to(site.second):
            raise OSError(5, "Input/output error")

    def written(descriptor: int, data: memoryview) -> int:
        if descriptor in there:
            closed.append(not site.disk._turn.locked())
            trims.start()
        return write(site.disk, descriptor, data)

    monkeypatch.setattr(Path, "unlink", broken)
    monkeypatch.setattr(site.disk, "write", written)
    site.log._disk.write_all(max(site.disk._others), b"a record")
    trims.join()
    assert closed == [False]
    assert site.disk.failed == "Input/output error"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(there.pop())
