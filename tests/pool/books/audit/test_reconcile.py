"""Journals, what is here of them, and the books: equal after honest work, and whoever changes one of them is
named, with the hour, the record, and what each side says."""

from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec
import pytest

from pool.books.audit import journal_files
from pool.books.audit.compared_hours import Side
from pool.books.audit.hours_of_money import HoursOfMoney
from pool.books.audit.journal_files import read_journal
from pool.books.audit.reconcile import State, reconcile
from pool.books.journal import folding
from pool.books.store import Store
from pool.journal.frames import HEAD, Place, frame_at, framed
from pool.journal.records import Batch, packed, unpacked
from pool.journal.segments import Walk, segments
from stratum.tallies import RECORD
from tests.stages.journal import JournalOnStore, tally
from tests.stages.worked_edge import (
    FIRST_HOUR,
    NORTH,
    SOUTH,
    WorkedEdge,
    compared,
    forge,
    is_different,
    money,
    of_north,
    worked,
)


@pytest.fixture
async def north(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkedEdge:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return (await worked(store, tmp_path, NORTH))[0]


# Honest work


@pytest.mark.sqlite_suffices
async def test_after_honest_work_all_is_equal_in_each_hour_of_each_edge_and_in_money(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    _, south = await worked(store, tmp_path, NORTH, SOUTH)
    found = compared(south.hub)
    assert [(edge, it.state, it.difference) for (edge, _), it in found.items()] == [
        (NORTH, State.EQUAL, None),
        (SOUTH, State.EQUAL, None),
    ]
    it = found[SOUTH, Side.INBOX]
    assert (it.first, it.last, it.booked, it.waiting) == (1, south.journal.log.at.number, it.last, 0)
    assert [(hour.hour, hour.state, hour.accepted) for hour in it.hours] == [
        (FIRST_HOUR + at, State.EQUAL, 3) for at in range(3)
    ]
    assert it.hours[-1].digest == south.journal.log.at.digest.hex()
    assert all((hour.records, hour.accepted) == (hour.records_here, hour.accepted_here) for hour in it.hours)
    assert sum(hour.records for hour in it.hours) == it.last
    assert money(store) == HoursOfMoney(
        made=18, booked=18, before=0, under_way=0, refused=0, late=0, difference=None, wrong=None
    )


async def test_what_is_not_booked_yet_waits_and_is_no_difference(north: WorkedEdge) -> None:
    north.work(3)
    await north.send()
    it = of_north(north.hub)
    assert (it.state, it.difference, it.waiting_accepted) == (State.WAITS, None, 3)
    assert it.waiting == north.journal.log.at.number - it.booked > 0
    assert [hour.state for hour in it.hours] == [*[State.EQUAL] * 3, State.WAITS]


@pytest.mark.sqlite_suffices
async def test_the_pools_own_journal_is_compared_like_an_edges(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    booked = JournalOnStore(store)
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch, count=3))
    await booked.folding.fold()
    await booked.journal.commit(tally(worker, booked.epoch, count=4))
    (it,) = reconcile(store, booked.home.path)
    assert (it.edge, it.side, it.state, it.waiting_accepted) == (None, Side.JOURNAL, State.WAITS, 4)
    await booked.folding.fold()
    (it,) = reconcile(store, booked.home.path)
    assert (it.state, sum(hour.accepted for hour in it.hours)) == (State.EQUAL, 7)
    (it,) = reconcile(store, None)
    assert (it.state, it.booked > 0) == (State.GONE, True), "a database alone has no journal"


@pytest.mark.sqlite_suffices
async def test_what_is_held_is_told_in_words_and_is_no_difference(north: WorkedEdge) -> None:
    north.journal.share("borealis.c01.u1", 9)
    await north.send()
    await north.hub.folding.fold()
    it = of_north(north.hub)
    assert (it.state, it.difference, it.waiting_accepted) == (State.HELD, None, 9)
    assert it.held is not None
    assert "may not count for borealis.c01.u1" in it.held


# What is not here any more


async def test_what_is_removed_behind_the_books_is_told_apart_from_what_differs(north: WorkedEdge) -> None:
    there = segments(north.inbox)
    there[0][1].unlink()
    it = of_north(north.hub)
    assert (it.state, it.first, it.difference) == (State.PARTLY, there[1][0], None)
    for _, path in there[1:-1]:
        path.unlink()
    it = of_north(north.hub)
    assert (it.state, it.first, it.difference) == (State.PARTLY, there[-1][0], None)
    there[-1][1].unlink()
    assert of_north(north.hub).state is State.GONE
    rmtree(north.hub.home / "inbox")
    assert of_north(north.hub).state is State.GONE


async def test_a_count_of_an_hour_that_is_not_here_any_more_is_found_by_what_is_here(
    north: WorkedEdge,
) -> None:
    segments(north.inbox)[0][1].unlink()
    forge(
        north.hub.store,
        "UPDATE journal_hour_shares SET shares = shares + 2 WHERE hour = :hour AND verdict = 0",
        hour=FIRST_HOUR,
    )
    is_different(of_north(north.hub), "9 shares up to it are accepted in the inbox, and 11 in the hours")


@pytest.mark.sqlite_suffices
async def test_a_copy_that_ends_before_the_books_is_behind_and_one_with_a_gap_is_different(
    north: WorkedEdge,
) -> None:
    north.work(3)
    await north.send()
    await north.hub.folding.fold()
    there = segments(north.inbox)
    assert len(there) > 3
    there[-1][1].unlink()
    it = of_north(north.hub)
    assert (it.state, it.last, it.difference) == (State.PARTLY, there[-1][0] - 1, None)
    assert it.booked > it.last
    there[-3][1].unlink()
    it = of_north(north.hub)
    is_different(it, f"ends with record {there[-3][0] - 1}, and")
    assert it.difference is not None
    assert it.difference.number == there[-3][0]


@pytest.mark.sqlite_suffices
async def test_files_that_are_removed_while_they_are_read_are_no_difference(
    north: WorkedEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = [path for _, path in segments(north.inbox)[:2]]
    begin = Walk

    def walk_when_the_first_files_have_gone(directory: Path, writer: str, after: Place) -> Any:
        while removed:
            removed.pop().unlink()
        return begin(directory, writer, after)

    monkeypatch.setattr(journal_files, "Walk", walk_when_the_first_files_have_gone)
    it = of_north(north.hub)
    assert (it.state, it.first) == (State.PARTLY, segments(north.inbox)[0][0])


async def test_books_of_before_there_were_hours_are_compared_by_hash_and_from_there_on_by_count(
    north: WorkedEdge,
) -> None:
    """As the upgrade leaves them."""
    forge(
        north.hub.store,
        "DELETE FROM journal_hour_shares",
        "DELETE FROM journal_hours",
        "INSERT INTO journal_hours SELECT writer, 0, number, digest, number FROM journal_positions",
        "INSERT INTO journal_hour_shares SELECT writer, 0, 0, 0, accepted FROM journal_positions",
    )
    north.work(2)
    north.work(3)
    await north.send()
    await north.hub.folding.fold()
    it = of_north(north.hub)
    assert (it.state, [hour.hour for hour in it.hours]) == (State.EQUAL, [FIRST_HOUR + 2, FIRST_HOUR + 3])
    said = of_north(north.hub, Side.EDGE, [read_journal(north.journal.directory)])
    assert (said.state, said.difference) == (State.EQUAL, None)
    found = money(north.hub.store)
    assert (found.made, found.before, found.late, found.difference) == (6, 9, 0, None)
    forge(north.hub.store, "UPDATE journal_hours SET digest = :digest WHERE hour = 0", digest="ab" * 16)
    is_different(of_north(north.hub), "so the row of the books is another one than was noted")


# What is here is another one


def frame_of(directory: Path, number: int) -> tuple[Path, int, int]:
    """Its file, and where in it it begins and ends."""
    for _, path in segments(directory):
        data, at = path.read_bytes(), 0
        while (frame := frame_at(directory.name, data, at)) is not None:
            if frame.at.number == number:
                return path, at, frame.end
            at = frame.end
    raise AssertionError(number)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("at", [0, HEAD.size - 1, HEAD.size, -1], ids=["mark", "digest", "body", "end"])
async def test_one_byte_of_any_record_names_the_record_and_its_hour(north: WorkedEdge, at: int) -> None:
    known = of_north(north.hub)
    for number in range(1, known.last + 1):
        path, begin, end = frame_of(north.inbox, number)
        whole = path.read_bytes()
        offset = begin + at if at >= 0 else end + at
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        it = of_north(north.hub)
        is_different(it)
        assert it.difference is not None
        hour = next(hour.hour for hour in known.hours if hour.last >= number)
        assert (it.difference.number, it.difference.hour) == (number, hour)
        path.write_bytes(whole)
    assert of_north(north.hub).state is State.EQUAL


def rewritten(directory: Path, number: int, change: Callable[[Batch], Batch]) -> None:
    """By somebody who knows the journal's name: one record is another one, and all behind it follow it."""
    before = None
    for _, path in segments(directory):
        data, at, new = path.read_bytes(), 0, b""
        while (frame := frame_at(directory.name, data, at)) is not None:
            said = unpacked(frame.body)
            body = frame.body
            if frame.at.number == number:
                assert isinstance(said, Batch)
                body = packed(change(said))
            written, before = framed(directory.name, before or Place(0, frame.before), body)
            new += written
            at = frame.end
        path.write_bytes(new)


def one_share_more(batch: Batch) -> Batch:
    tallies = bytearray(batch.tallies)
    count = RECORD.itemsize - 4
    tallies[count : count + 4] = (int.from_bytes(tallies[count : count + 4], "little") + 1).to_bytes(
        4, "little"
    )
    return msgspec.structs.replace(batch, tallies=bytes(tallies))


async def test_a_copy_that_was_rewritten_and_chained_anew_is_another_one_by_its_hash(
    north: WorkedEdge,
) -> None:
    first = of_north(north.hub).hours[0]
    rewritten(north.inbox, first.last, one_share_more)
    it = of_north(north.hub)
    is_different(
        it, f"the books took record {first.last}", f"one of records 1 to {first.last} is another one"
    )
    assert it.difference is not None
    assert it.difference.hour == FIRST_HOUR
    edge = of_north(north.hub, Side.EDGE, [read_journal(north.journal.directory)])
    is_different(edge, "in what the edge says, and", "in the inbox")


@pytest.mark.sqlite_suffices
async def test_a_copy_in_another_edges_place_is_told(north: WorkedEdge) -> None:
    (north.hub.home / "inbox" / SOUTH).mkdir()
    north.inbox.rename(north.hub.home / "inbox" / SOUTH / north.journal.writer)
    found = compared(north.hub)
    assert found[NORTH, Side.INBOX].state is State.GONE
    is_different(found[SOUTH, Side.INBOX], "the books know no such journal")


# Somebody changed the books

HOURS: dict[str, tuple[str, int | None, str]] = {
    "the hash": (
        "UPDATE journal_hours SET digest = '00ff00ff00ff00ff00ff00ff00ff00ff' WHERE hour = :hour",
        FIRST_HOUR + 1,
        "with the hash 00ff00ff00ff, and in the inbox it has",
    ),
    "the last record": (
        "UPDATE journal_hours SET number = number - 1 WHERE hour = :hour",
        FIRST_HOUR + 1,
        "so the row of the books is another one than was noted",
    ),
    "the records": (
        "UPDATE journal_hours SET records = records + 1 WHERE hour = :hour",
        FIRST_HOUR + 1,
        "records of it are in the books, and",
    ),
    "the shares": (
        "UPDATE journal_hour_shares SET shares = shares + 1 WHERE hour = :hour AND verdict = 0",
        FIRST_HOUR + 1,
        "4 shares of difficulty 2^16 in it are accepted in the books, and 3 in the inbox",
    ),
    "the difficulty": (
        "UPDATE journal_hour_shares SET difficulty_log2 = 20 WHERE hour = :hour AND verdict = 0",
        FIRST_HOUR + 1,
        "0 shares of difficulty 2^16 in it are accepted in the books, and 3 in the inbox",
    ),
    "the verdict": (
        "UPDATE journal_hour_shares SET verdict = 9 WHERE hour = :hour AND verdict = 5",
        FIRST_HOUR + 1,
        "are stale in the books, and 4 in the inbox",
    ),
    "an hour less": (
        "DELETE FROM journal_hours WHERE hour = :hour",
        FIRST_HOUR + 1,
        "of it are in the inbox, and none in the books",
    ),
    "an hour more": (
        "INSERT INTO journal_hours SELECT writer, hour + 100, number, digest, 1 FROM journal_hours"
        " WHERE hour = :hour",
        FIRST_HOUR + 101,
        "1 records of it are in the books, and none in the inbox",
    ),
    "where the books are": (
        "UPDATE journal_positions SET digest = '00ff00ff00ff00ff00ff00ff00ff00ff'",
        None,
        "with the hash 00ff00ff00ff, and in the inbox it has",
    ),
}


@pytest.mark.parametrize("forged", HOURS)
async def test_a_forged_hour_of_the_books_is_named_with_what_each_side_says(
    north: WorkedEdge, forged: str
) -> None:
    statement, hour, words = HOURS[forged]
    forge(north.hub.store, statement, **({"hour": FIRST_HOUR + 1} if ":hour" in statement else {}))
    it = of_north(north.hub)
    is_different(it, words)
    assert it.difference is not None
    assert it.difference.hour == hour
