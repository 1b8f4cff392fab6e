"""Two copies of a journal at a start: each record that is whole on one of the disks is booked, once. What
cannot be put together is left as it is, with both files named.
"""

import random
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from pool.journal.alike import make_alike
from pool.journal.disk import Disk
from pool.journal.frames import HEAD, Place, frame_at, framed
from pool.journal.log import JournalUnusable
from pool.journal.records import Batch, packed
from pool.journal.segments import JournalDamaged, segments
from tests.fakes.disks import disk_full
from tests.stages.two_disks import NOW_S, TwoDiskSite

DISKS = ("data", "second")


class DiskThatEnds(Disk):
    """Whoever writes to it is killed before so many changes."""

    def __init__(self, changes: int) -> None:
        self.changes = changes

    def write_all(self, descriptor: int, data: bytes) -> None:
        self._change()
        super().write_all(descriptor, data)

    def replace(self, path: Path, by: Path) -> None:
        self._change()
        super().replace(path, by)

    def remove(self, path: Path) -> None:
        self._change()
        super().remove(path)

    def _change(self) -> None:
        if self.changes == 0:
            raise KeyboardInterrupt
        self.changes -= 1


@pytest.fixture
def site(tmp_path: Path) -> TwoDiskSite:
    """With records in six files, none of which is booked."""
    made = TwoDiskSite(tmp_path)
    made.start()
    made.write(11)
    made.log.close()
    return made


def home(site: TwoDiskSite, disk: str) -> Path:
    return site.homes[DISKS.index(disk)]


def files(site: TwoDiskSite, disk: str) -> list[Path]:
    return [path for _, path in segments(home(site, disk))]


def other(disk: str) -> str:
    return DISKS[1 - DISKS.index(disk)]


def check_all_is_booked(site: TwoDiskSite) -> None:
    """After a start: each record that was acknowledged, once; both disks have the same files."""
    site.write(2)
    site.book()
    assert site.booked == site.acknowledged
    assert site.copies[0] == site.copies[1]


def check_refused(site: TwoDiskSite, *words: str) -> None:
    """Twice: nothing was changed by the first time."""
    before = site.copies
    for _ in range(2):
        with pytest.raises(JournalUnusable) as refused:
            site.start()
        for it in words:
            assert it in str(refused.value)
        assert site.copies == before


def records(path: Path) -> list[bytes]:
    """As they are in the file."""
    data, ends = path.read_bytes(), [0]
    while (frame := frame_at(path.parent.name, data, ends[-1])) is not None:
        ends.append(frame.end)
    return [data[start:end] for start, end in pairwise(ends)]


def damage(path: Path, record: int) -> None:
    """In a body, as a sector that reads as zeros."""
    parts = records(path)
    parts[record] = parts[record][: HEAD.size + 5] + bytes(10) + parts[record][HEAD.size + 15 :]
    path.write_bytes(b"".join(parts))


FAULTS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "torn in its first record": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "torn in its last record": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "ends with an earlier record": lambda path: path.write_bytes(b"".join(records(path)[:-1])),
    "damaged in its first record": lambda path: damage(path, 0),
    "damaged in its second record": lambda path: damage(path, 1),
    "damaged in its last record": lambda path: damage(path, -1),
    "torn behind its last record": lambda path: path.write_bytes(path.read_bytes() + b"torn"),
    "of another journal": lambda path: path.write_bytes(framed("0" * 32, Place(), bytes(200))[0]),
}


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("which", ["first", "middle", "last"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_one_disk_has_not_whole_is_put_back_from_the_other(
    site: TwoDiskSite, fault: str, which: str, disk: str
) -> None:
    path = files(site, disk)[{"first": 0, "middle": 2, "last": -1}[which]]
    whole = path.read_bytes()
    FAULTS[fault](path)
    assert not path.exists() or path.read_bytes() != whole
    site.start()
    assert [copy[path.name] for copy in site.copies] == [whole, whole]
    check_all_is_booked(site)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("which", [(0, 3), (1, 2), (2, 1), (3, -1), (-1, 0)])
def test_of_two_disks_with_faults_in_different_files_each_is_put_back_from_the_other(
    site: TwoDiskSite, fault: str, which: tuple[int, int]
) -> None:
    for disk, number in zip(DISKS, which, strict=True):
        FAULTS[fault](files(site, disk)[number])
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("count", range(1, 6))
def test_of_two_disks_that_have_the_first_files_and_the_others_each_is_brought_up_to_all(
    site: TwoDiskSite, disk: str, count: int
) -> None:
    for path in [*files(site, disk)[:count], *files(site, other(disk))[count:]]:
        path.unlink()
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("number", [0, 2, -1])
@pytest.mark.parametrize("which", [(0, 1), (1, 0), (1, 2), (2, 0)])
def test_a_file_that_both_have_damaged_in_different_records_is_put_together(
    site: TwoDiskSite, number: int, which: tuple[int, int]
) -> None:
    """The last file too: where either copy goes furthest says nothing of what is before its end."""
    site.start()
    site.write(1)
    site.log.close()
    for disk, record in zip(DISKS, which, strict=True):
        path = [it for it in files(site, disk) if len(records(it)) > 2 or number == -1][number]
        if record < len(records(path)):
            damage(path, record)
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("which", ["first", "middle"])
def test_a_record_that_both_have_damaged_is_left_to_somebody_who_looks(site: TwoDiskSite, which: str) -> None:
    paths = [files(site, disk)[{"first": 0, "middle": 2}[which]] for disk in DISKS]
    for number, path in enumerate(paths):
        damage(path, 1)
        path.write_bytes(path.read_bytes() + b"torn"[number:])  # the disks say it differently
    check_refused(site, "is whole neither in", str(paths[0]), str(paths[1]), "take them away")


def test_what_both_have_damaged_is_gone_on_without_where_the_books_have_it(site: TwoDiskSite) -> None:
    """As the words of the refusal say; where the books do not have it, the start is refused once more."""
    paths = [files(site, disk)[2] for disk in DISKS]
    kept = paths[0].read_bytes()
    for number, path in enumerate(paths):
        damage(path, 1)
        path.write_bytes(path.read_bytes() + b"torn"[number:])
    for path in paths:
        path.unlink()
    with pytest.raises(JournalDamaged, match="begins with record"):
        site.start()
    paths[1].write_bytes(kept)
    site.start()
    site.book()
    site.log.close()
    for path in paths:
        path.unlink()
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("left", [1, 2])
def test_a_trim_that_was_cut_off_between_two_disks_is_done_by_the_next_one(
    site: TwoDiskSite, disk: str, left: int
) -> None:
    """Whichever disk has the files still: the names that a power cut brings back are not the same on both.
    They are booked, and are booked no second time."""
    site.start()
    site.book()
    before = site.copies[0]
    site.log.trim(site.books)
    assert len(site.copies[0]) < len(before)
    site.log.close()
    gone = sorted(before.keys() - site.copies[0].keys())[-left:]
    for name in gone:
        (home(site, disk) / name).write_bytes(before[name])
    site.start()
    check_all_is_booked(site)
    site.log.trim(site.books)
    assert not set(gone) & set(site.copies[0])
    assert site.copies[0] == site.copies[1]


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("trimmed", [False, True])
def test_a_disk_that_was_swapped_for_an_old_copy_of_itself_is_brought_up_to_the_other(
    site: TwoDiskSite, tmp_path: Path, disk: str, trimmed: bool
) -> None:
    """Where the other one has trimmed all that the copy has, and more, it goes with the next trim."""
    shutil.copytree(home(site, disk), tmp_path / "copy")
    site.start()
    site.write(9)
    if trimmed:
        site.book()
        site.log.trim(site.books)
        assert not {it.name for it in (tmp_path / "copy").glob("*.log")} & set(site.copies[0])
    site.log.close()
    shutil.rmtree(home(site, disk))
    shutil.copytree(tmp_path / "copy", home(site, disk))
    site.start()
    check_all_is_booked(site)
    assert files(site, disk)[0].stem.endswith("01")
    site.log.trim(site.books)
    assert len(files(site, disk)) == 2
    assert site.copies[0] == site.copies[1]


@pytest.mark.parametrize("disk", DISKS)
def test_what_a_disk_that_was_away_has_of_before_all_that_the_other_has_is_removed_by_no_start(
    site: TwoDiskSite, tmp_path: Path, disk: str
) -> None:
    """It was trimmed since, or somebody has removed it: who makes them alike does not know which."""
    shutil.copytree(home(site, disk), tmp_path / "copy")
    site.start()
    site.write(9)
    site.log.close()
    shutil.rmtree(home(site, disk))
    shutil.copytree(tmp_path / "copy", home(site, disk))
    kept = site.copies[DISKS.index(disk)]
    for path in files(site, other(disk))[:8]:
        path.unlink()
    with pytest.raises(JournalDamaged, match=r"ends with record 17, and .* begins with record"):
        site.start()
    for copy in site.copies:
        assert {name: copy[name] for name in kept} == kept


def went_on(path: Path, said: bytes, count: int) -> None:
    """Behind the first record of that file, as a process that knew no more of it."""
    frame = frame_at(path.parent.name, path.read_bytes(), 0)
    assert frame is not None
    data, at = path.read_bytes()[: frame.end], frame.at
    for _ in range(count):
        more, at = framed(path.parent.name, at, packed(Batch(moment_s=NOW_S, accepted=0, tallies=said)))
        data += more
    path.write_bytes(data)


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("number", [0, 2, -1])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_files_of_one_name_with_other_records_are_left_to_somebody_who_looks(
    site: TwoDiskSite, disk: str, number: int, count: int
) -> None:
    paths = [files(site, it)[number] for it in DISKS]
    went_on(files(site, disk)[number], b"other", count)
    check_refused(site, "no copies of one another", str(paths[0]), str(paths[1]), "take the one away whose")


@pytest.mark.parametrize("disk", DISKS)
def test_a_damaged_record_is_not_put_back_by_one_that_what_is_behind_it_does_not_follow(
    site: TwoDiskSite, disk: str
) -> None:
    paths = [files(site, it)[2] for it in DISKS]
    damage(files(site, disk)[2], 1)
    went_on(files(site, other(disk))[2], b"other", 1)
    check_refused(site, "no copies of one another", *map(str, paths))


@pytest.mark.parametrize("disk", DISKS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_missing_file_whose_copy_does_not_fit_the_records_around_it_is_not_put_back(
    site: TwoDiskSite, disk: str, count: int
) -> None:
    files(site, disk)[2].unlink()
    path = files(site, other(disk))[2]
    went_on(path, b"other", count)
    if count == 1:  # what would be missing behind it is for who reads it to tell, and nothing is removed
        with pytest.raises(JournalDamaged, match="ends with record 8, and"):
            site.start()
        assert path.exists()
    else:
        check_refused(site, "no copies of one another", str(path), "take the one away whose")


@pytest.mark.parametrize("disk", DISKS)
def test_a_file_that_has_the_content_of_another_one_is_taken_away_and_put_back(
    site: TwoDiskSite, disk: str
) -> None:
    paths = files(site, disk)
    whole = paths[3].read_bytes()
    paths[3].write_bytes(paths[1].read_bytes())
    check_refused(site, str(paths[3]), "which is of an earlier file", "take this one away")
    paths[3].unlink()
    site.start()
    assert site.copies[0][paths[3].name] == whole
    check_all_is_booked(site)


def test_a_file_that_both_have_lost_is_told_where_the_books_have_not_got_it(site: TwoDiskSite) -> None:
    for disk in DISKS:
        files(site, disk)[2].unlink()
    before = site.copies
    with pytest.raises(JournalDamaged, match=r"ends with record 6, and .* begins with record 10"):
        site.start()
    assert site.copies == before


def test_what_neither_disk_has_a_whole_record_of_is_left_as_it_is(site: TwoDiskSite) -> None:
    """Somebody may read something in it."""
    for disk, fault in zip(DISKS, ("zeros", "torn in its first record"), strict=True):
        FAULTS[fault](files(site, disk)[2])
    before = site.copies
    with pytest.raises(JournalDamaged):
        site.start()
    assert site.copies == before


@pytest.mark.parametrize("disk", DISKS)
def test_a_file_that_cannot_be_read_is_taken_away_and_put_back(
    site: TwoDiskSite, disk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other disk's may be shorter: it was not asked whether it has all."""
    path, read = files(site, disk)[2], Path.read_bytes

    def broken(of: Path) -> bytes:
        if of == path:
            raise OSError(5, "Input/output error")
        return read(of)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(JournalUnusable, match=f"{path}: Input/output error.*take this one away"):
            site.start()
    path.unlink()
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("disk", DISKS)
def test_a_disk_that_does_not_take_what_it_lacks_is_named(site: TwoDiskSite, disk: str) -> None:
    class FullDisk(Disk):
        def write(self, descriptor: int, data: memoryview) -> int:
            raise disk_full()

    path = files(site, disk)[2]
    path.unlink()
    with pytest.raises(JournalUnusable, match=f"{path}: No space left on device. It is not made like"):
        site.start(FullDisk())
    site.start()
    check_all_is_booked(site)


@pytest.mark.parametrize("disk", DISKS)
def test_a_start_that_was_killed_as_it_began_a_file_on_one_disk_is_gone_on_behind(
    site: TwoDiskSite, disk: str
) -> None:
    (home(site, disk) / f"{site.log.at.number + 1:020}.log").write_bytes(b"")
    site.start()
    check_all_is_booked(site)


def test_disks_that_are_alike_are_not_written_to(site: TwoDiskSite) -> None:
    make_alike(site.data, site.second, DiskThatEnds(0))


def harm(site: TwoDiskSite, dice: random.Random) -> None:
    """Of each file one disk has all, or of each record."""
    for pair in zip(*(files(site, it) for it in DISKS), strict=True):
        if dice.random() < 0.4:
            FAULTS[dice.choice(list(FAULTS))](dice.choice(pair))
            continue
        end = 0
        for record in records(pair[0]):
            if dice.random() < 0.4:
                path, at = dice.choice(pair), end + HEAD.size + 5
                data = path.read_bytes()
                path.write_bytes(data[:at] + bytes(10) + data[at + 10 :])
            end += len(record)


@pytest.mark.parametrize("seed", range(40))
def test_whatever_either_disk_has_lost_and_whenever_the_start_is_killed_all_is_booked_once(
    site: TwoDiskSite, seed: int
) -> None:
    dice = random.Random(seed)
    harm(site, dice)
    starts = 0
    while True:
        starts += 1
        try:
            site.start(DiskThatEnds(dice.randrange(6)))
            break
        except KeyboardInterrupt:
            harmed = site.copies
            assert harmed[0].keys() | harmed[1].keys() == {f"{it:020}.log" for it in range(1, 17, 3)}
    check_all_is_booked(site)
