"""The copy of an edge's journal: what comes, in whatever order and however often, is on disk once and in its
order, or it is not said to be."""

import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool.journal import inbox as inboxes
from pool.journal.disk import Disk
from pool.journal.frames import HEAD, Place, framed
from pool.journal.inbox import Inbox, InboxUnusable, Received, Want
from pool.journal.records import Batch, packed
from pool.journal.segments import Walk, gone_with, segments
from tests.fakes.disks import DiskThatLoses, broken, disk_full
from tests.stages.journal import NOW_S, DiskInMemory
from tests.stages.site_journal import SiteJournal


@pytest.fixture
def site() -> SiteJournal:
    """With twelve records of shares, in several files."""
    made = SiteJournal()
    for number in range(12):
        made.share(f"acme.c01.u{number}", number + 1)
    assert len(segments(made.directory)) > 2
    return made


def opened(tmp_path: Path, site: SiteJournal, booked: Place | None = None, **options: object) -> Inbox:
    found: dict[str, object] = {"disk": DiskInMemory(), "free_bytes_min": 0, **options}
    return Inbox(tmp_path / "inbox" / "north" / site.writer, booked or Place(), **found)  # type: ignore[arg-type]


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for _, path in segments(directory)}


def places(site: SiteJournal) -> list[Place]:
    return [it.at for it in site.log.walk(Place()).frames()]


def whole(site: SiteJournal, inbox: Inbox) -> bool:
    """Byte for byte, file for file."""
    return inbox.have == site.log.at and bytes_of(inbox.directory) == bytes_of(site.directory)


def test_what_comes_in_order_is_the_writers_own_files(tmp_path: Path, site: SiteJournal) -> None:
    inbox = opened(tmp_path, site)
    assert inbox.want == Want(behind=0, whole_file=True)
    for packed_frame, place in zip(site.frames(), places(site), strict=True):
        assert inbox.receive(packed_frame) == Received(have=place)
    assert whole(site, inbox)
    assert inbox.moment_s == NOW_S


def shuffled(frames: list[bytes], rng: random.Random) -> list[bytes]:
    return rng.sample(frames, len(frames))


MESSAGES: dict[str, Callable[[list[bytes], random.Random], list[bytes]]] = {
    "all at once": lambda frames, rng: [b"".join(frames)],
    "each twice": lambda frames, rng: [it for frame in frames for it in (frame, frame)],
    "all twice": lambda frames, rng: [*frames, *frames],
    "backwards": lambda frames, rng: frames[::-1],
    "in any order": shuffled,
    "in any order, twice": lambda frames, rng: shuffled(frames, rng) + shuffled(frames, rng),
    "out of order in one": lambda frames, rng: [b"".join(shuffled(frames, rng))],
    "the first one late": lambda frames, rng: [*frames[1:], frames[0]],
}


@pytest.mark.parametrize("fault", MESSAGES)
def test_twice_late_and_out_of_order_make_the_same_files(
    tmp_path: Path, site: SiteJournal, fault: str
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    inbox = opened(tmp_path, site)
    wants = [inbox.receive(it).want for it in MESSAGES[fault](site.frames(), random.Random(seed))]
    assert whole(site, inbox)
    assert wants[-1] is None, "nothing is missing at the end"


def test_a_gap_is_asked_for_again(tmp_path: Path, site: SiteJournal) -> None:
    inbox, frames = opened(tmp_path, site), site.frames()
    inbox.receive(b"".join(frames[:3]))
    assert inbox.receive(frames[5]).want == Want(behind=3)
    assert inbox.receive(frames[3]).want == Want(behind=4), "one is still missing"
    received = inbox.receive(frames[4])
    assert (received.have.number, received.want) == (6, None), "what came early was kept"


def test_what_comes_early_is_kept_within_a_bound_and_lost_without_harm(
    tmp_path: Path, site: SiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = site.frames()
    monkeypatch.setattr(inboxes, "EARLY_BYTES_MAX", len(frames[2]))
    inbox = opened(tmp_path, site)
    inbox.receive(frames[0])
    for early in frames[2:]:
        inbox.receive(early)
    assert inbox.receive(frames[1]).have.number == 3
    for frame in frames:
        inbox.receive(frame)
    assert whole(site, inbox)


class LookedAt(dict[int, bytes]):
    """Counts how many of it somebody went through."""

    count = 0

    def __iter__(self) -> Iterator[int]:
        for it in super().__iter__():
            self.count += 1
            yield it


def test_what_is_kept_early_is_not_gone_through_for_each_record_that_comes(
    tmp_path: Path, site: SiteJournal
) -> None:
    """Whoever has taken over a site sends empty records of far ahead: 62,000 in 4.7 MB took two minutes of
    the hub's processor."""
    inbox, frames = opened(tmp_path, site), site.frames()
    inbox.receive(frames[0])
    early = inbox._early = LookedAt()
    for number in range(1_000, 2_000):
        inbox.receive(forged(site, number))
    for frame in frames:
        inbox.receive(frame)
    assert (len(early), early.count) == (1_000, 0)
    assert whole(site, inbox)


def forged(site: SiteJournal, number: int) -> bytes:
    """A record that its sender may write, who knows the key and not what was there before."""
    body = packed(Batch(moment_s=NOW_S, accepted=1_000_000))
    return framed(site.writer, Place(number - 1, bytes(16)), body)[0]


def flipped(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


BREAKS: dict[str, tuple[Callable[[SiteJournal, list[bytes]], bytes], str]] = {
    "torn": (lambda site, frames: frames[4][:-3], "record 5 of .* bytes came with"),
    "cut in its head": (lambda site, frames: frames[4][:20], "20 bytes came that are no record"),
    "another byte": (lambda site, frames: flipped(frames[4], len(frames[4]) - 2), "not as its writer wrote"),
    "no frame at all": (lambda site, frames: b"GET / HTTP/1.1\r\n", "16 bytes came that are no record"),
    "forged behind": (lambda site, frames: forged(site, 5), "goes on from another record 4 than"),
    "another last": (lambda site, frames: forged(site, 4), "goes on from another record 4 than"),
    "of another writer": (lambda site, frames: SiteJournal().frames()[0], "not as its writer wrote it"),
    "unreadable": (
        lambda site, frames: framed(site.writer, places(site)[3], b"\x93\x09")[0],
        "record 5 cannot be read",
    ),
}


@pytest.mark.parametrize("fault", BREAKS)
def test_what_breaks_the_chain_is_kept_aside_in_words_and_nothing_behind_it_is_taken(
    tmp_path: Path, site: SiteJournal, fault: str
) -> None:
    made, words = BREAKS[fault]
    inbox, frames = opened(tmp_path, site), site.frames()
    inbox.receive(b"".join(frames[:4]))
    broken_one = made(site, frames)
    received = inbox.receive(broken_one)
    assert received.have == places(site)[3]
    assert received.held is not None
    assert re.search(words, received.held)
    assert inbox.receive(frames[4]) == received, "nothing until somebody has looked"
    (kept,) = (inbox.directory / "quarantine").glob("*.frames")
    assert kept.read_bytes() == broken_one
    assert kept.with_suffix(".txt").read_text().strip() == received.held
    inbox.close()
    again = opened(tmp_path, site)
    again.receive(b"".join(frames[4:]))
    assert whole(site, again), "nothing was lost"


# Restarts, and what is lost


def test_a_restart_goes_on_in_the_same_file_and_cuts_what_was_torn(tmp_path: Path, site: SiteJournal) -> None:
    inbox, frames = opened(tmp_path, site), site.frames()
    inbox.receive(b"".join(frames[:5]))
    inbox.close()
    _, last = segments(inbox.directory)[-1]
    with last.open("ab") as file:
        file.write(frames[5][:-1])
    again = opened(tmp_path, site)
    assert again.have == places(site)[4]
    again.receive(b"".join(frames))
    assert whole(site, again)


@pytest.mark.parametrize("record", [0, 1])
def test_a_copy_that_is_damaged_is_kept_for_who_looks_and_asked_for_again(
    tmp_path: Path, site: SiteJournal, record: int
) -> None:
    """Its writer's disk may be lost: what is whole behind the damage is in no other place then."""
    inbox = opened(tmp_path, site)
    inbox.receive(b"".join(site.frames()))
    inbox.close()
    first, path = segments(inbox.directory)[-1]
    assert site.log.at.number > first + record, "there is one behind it"
    data = bytearray(path.read_bytes())
    start = 0 if record == 0 else len(site.frames(first - 1)[0])
    data[start + HEAD.size] ^= 1
    path.write_bytes(data)
    with capture_logs() as logs:
        again = opened(tmp_path, site)
    assert again.have == places(site)[first + record - 2]
    kept = again.directory / "quarantine" / f"{path.stem}.damaged"
    assert kept.read_bytes() == data
    assert [(it["event"], it["first"], it["last"], it["kept"]) for it in logs] == [
        ("inbox_damaged", first + record + 1, site.log.at.number, str(kept))
    ]
    again.receive(b"".join(site.frames(again.have.number)))
    assert whole(site, again)


def test_of_a_damaged_copy_that_the_books_have_nothing_is_kept(tmp_path: Path, site: SiteJournal) -> None:
    inbox = opened(tmp_path, site)
    inbox.receive(b"".join(site.frames()))
    inbox.close()
    _, path = segments(inbox.directory)[-1]
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    again = opened(tmp_path, site, site.log.at)
    assert again.have == site.log.at
    assert not (again.directory / "quarantine").exists()


def test_a_copy_that_is_lost_begins_with_the_file_that_the_books_are_in(
    tmp_path: Path, site: SiteJournal
) -> None:
    """What numbers of machines mean is said once in a file, in front of where the books are."""
    booked = places(site)[6]
    inbox = opened(tmp_path, site, booked)
    assert (inbox.have, inbox.want) == (booked, Want(behind=7, whole_file=True))
    received = inbox.receive(site.frames(7)[0])
    assert received.want == Want(behind=7, whole_file=True), "its file began before"
    for frame in site.frames(7, whole_file=True):
        inbox.receive(frame)
    assert inbox.have == site.log.at
    first, _ = segments(inbox.directory)[0]
    assert 1 < first <= 7
    walked = [it.at.number for it in Walk(inbox.directory, site.writer, booked).frames()]
    assert walked == list(range(first, site.log.at.number + 1))


def test_a_copy_behind_the_books_begins_anew(tmp_path: Path, site: SiteJournal) -> None:
    inbox = opened(tmp_path, site)
    inbox.receive(b"".join(site.frames()[:4]))
    inbox.close()
    booked = places(site)[8]
    again = opened(tmp_path, site, booked)
    assert again.want == Want(behind=9, whole_file=True)
    again.receive(b"".join(site.frames(9, whole_file=True)))
    found = list(Walk(again.directory, site.writer, booked).frames())
    assert found[-1].at == site.log.at


def test_another_record_than_the_books_took_is_not_taken_on(tmp_path: Path, site: SiteJournal) -> None:
    booked = Place(7, bytes(16))
    inbox = opened(tmp_path, site, booked)
    received = inbox.receive(b"".join(site.frames(7, whole_file=True)))
    assert received.held == "record 7 is not the one that the books took"
    assert received.have.number < 7


@pytest.mark.parametrize("error", [disk_full(), broken()])
@pytest.mark.parametrize("where", ["write", "sync"])
def test_a_disk_that_fails_is_told_and_what_came_is_not_had(
    tmp_path: Path, site: SiteJournal, error: OSError, where: str
) -> None:
    """An fsync that failed may say later that all is well: what it was of is written anew."""
    disk = DiskThatLoses()
    inbox, frames = opened(tmp_path, site, disk=disk), site.frames()
    inbox.receive(b"".join(frames[:4]))
    if where == "write":
        disk.writes = [100, error]
    else:
        disk.syncs = [error]
    with pytest.raises(InboxUnusable, match=str(error.strerror)):
        inbox.receive(b"".join(frames[4:]))
    assert inbox.have == places(site)[3]
    inbox.receive(b"".join(frames[4:]))
    assert whole(site, inbox)
    disk.power_cut(random.Random(1))
    assert whole(site, opened(tmp_path, site)), "what is said to be had survives"


@pytest.mark.parametrize("what", ["unlink", "close"])
@pytest.mark.parametrize("writes", range(8))
def test_a_disk_that_does_not_even_let_go_of_a_file_costs_no_more(
    tmp_path: Path, site: SiteJournal, monkeypatch: pytest.MonkeyPatch, what: str, writes: int
) -> None:
    """As one that is read-only since it failed, and one over a line that says at the end what went wrong."""
    disk = DiskThatLoses()
    inbox, frames = opened(tmp_path, site, disk=disk), site.frames()
    inbox.receive(b"".join(frames[:4]))
    disk.writes = [1_000_000] * writes + [broken()]
    closed: list[int] = []

    def fails(*_: object, **__: object) -> None:
        raise broken()

    def closes(descriptor: int) -> None:
        DiskThatLoses.close(disk, descriptor)
        closed.append(descriptor)
        raise broken()

    with monkeypatch.context() as at_once:
        if what == "unlink":
            at_once.setattr(Path, "unlink", fails)
        else:
            at_once.setattr(disk, "close", closes)
        with pytest.raises(InboxUnusable, match=str(broken().strerror)):
            inbox.receive(b"".join(frames[4:]))
    assert len(closed) == len(set(closed)), "its number is another file's by then"
    disk.writes = []
    assert inbox.have.number == 4
    assert inbox.receive(b"".join(frames[4:])).have == site.log.at
    assert whole(site, inbox)


@pytest.mark.parametrize("where", ["fdatasync", "ftruncate"])
def test_a_copy_that_cannot_be_opened_leaves_no_descriptor_open(
    tmp_path: Path, site: SiteJournal, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Its edge asks again and again, for as long as the disk is broken."""
    inbox = opened(tmp_path, site)
    inbox.receive(site.frames()[0])
    inbox.close()

    def fails(*_: object) -> None:
        raise broken()

    before = set(os.listdir("/dev/fd"))
    with monkeypatch.context() as patched:
        patched.setattr(os, where, fails)
        with pytest.raises(InboxUnusable, match=str(broken().strerror)):
            opened(tmp_path, site, disk=Disk())
    assert set(os.listdir("/dev/fd")) <= before
    assert opened(tmp_path, site).have.number == 1


def test_what_is_said_to_be_had_survives_a_power_cut(tmp_path: Path, site: SiteJournal) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    had = Place()
    for _ in range(6):
        disk = DiskThatLoses()
        inbox = opened(tmp_path, site, disk=disk)
        assert inbox.have.number >= had.number
        frames = site.frames(inbox.have.number)
        had = inbox.receive(b"".join(frames[: rng.randrange(4)])).have
        disk.writes = [rng.randrange(1, 60), broken()]
        if frames[4:]:
            with pytest.raises(InboxUnusable):
                inbox.receive(b"".join(site.frames(had.number)))
        inbox.close()
        disk.power_cut(rng)


# Bounds


def test_it_takes_no_more_than_may_wait_for_the_books(tmp_path: Path, site: SiteJournal) -> None:
    frames = site.frames()
    inbox = opened(tmp_path, site, untaken_bytes_max=sum(map(len, frames[:6])))
    inbox.receive(b"".join(frames[:6]))
    with pytest.raises(InboxUnusable, match="wait for the books"):
        inbox.receive(frames[6])
    inbox.taken(places(site)[5])
    assert inbox.receive(frames[6]).have == places(site)[6]


def test_it_leaves_the_books_their_part_of_the_disk(tmp_path: Path, site: SiteJournal) -> None:
    inbox = opened(tmp_path, site, free_bytes_min=1 << 62)
    with pytest.raises(InboxUnusable, match="left, which the books need"):
        inbox.receive(site.frames()[0])
    assert bytes_of(inbox.directory) == {}


def test_files_that_the_books_have_go_but_for_what_is_kept(tmp_path: Path, site: SiteJournal) -> None:
    files = segments(site.directory)
    inbox = opened(tmp_path, site, taken_bytes_max=len(files[-2][1].read_bytes()))
    inbox.receive(b"".join(site.frames()))
    inbox.taken(site.log.at)
    assert [first for first, _ in segments(inbox.directory)] == [first for first, _ in files[-2:]]
    assert inbox.untaken_bytes == 0
    assert inbox.want == Want(behind=site.log.at.number)


def test_who_asks_what_waits_while_files_go_that_the_books_have_is_told(
    tmp_path: Path, site: SiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and readyz ask, in another thread than the one that takes: a hub ended by it."""
    inbox = opened(tmp_path, site, taken_bytes_max=0)
    inbox.receive(b"".join(site.frames()))
    inbox.booked = booked = places(site)[-2]
    waits = inbox.untaken_bytes

    def meanwhile(firsts: Iterable[int], number: int) -> list[int]:
        monkeypatch.setattr(inboxes, "gone_with", gone_with)
        found = gone_with(firsts, number)
        inbox.taken(booked)
        return found

    there = len(segments(inbox.directory))
    monkeypatch.setattr(inboxes, "gone_with", meanwhile)
    assert inbox.untaken_bytes == waits
    assert len(segments(inbox.directory)) < there


def test_a_file_without_an_end_is_not_taken(
    tmp_path: Path, site: SiteJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = site.frames()
    monkeypatch.setattr(inboxes, "FILE_BYTES_MAX", len(frames[0]) + 1)
    inbox = opened(tmp_path, site)
    inbox.receive(frames[0])
    with pytest.raises(InboxUnusable, match="has no end"):
        inbox.receive(frames[1])
    assert inbox.have.number == 1
