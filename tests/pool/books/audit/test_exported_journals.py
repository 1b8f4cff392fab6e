"""What an edge says of its own journal: equal, older or newer than the books, and of a captured one a lie."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pool.books.audit.compared_hours import Side
from pool.books.audit.exported_journals import exported, journals_in, read_export
from pool.books.audit.journal_files import JournalHere
from pool.books.audit.reconcile import State
from pool.books.edges.rows import reset_edge
from pool.books.journal import folding
from pool.books.store import Store
from pool.cli.output import exact
from pool.journal.log import writers
from pool.journal.segments import segments
from stratum.unreadable import NOT_READ
from tests.stages.journal import NOW_S, JournalOnStore
from tests.stages.site_journal import SiteJournal
from tests.stages.worked_edge import NORTH, WorkedEdge, compared, is_different, of_north, worked


@pytest.fixture
async def north(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WorkedEdge:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return (await worked(store, tmp_path, NORTH))[0]


def said_by(
    journal: SiteJournal, tmp_path: Path, lie: Callable[[dict[str, Any]], None] | None = None
) -> list[JournalHere]:
    """In a file, as a command writes it there and another one reads it here."""
    said = exported(journals_in(journal.directory))
    if lie is not None:
        lie(said["journals"][0])
    file = tmp_path / "north.json"
    file.write_text(json.dumps(exact(said)))
    return read_export(file)


@pytest.mark.sqlite_suffices
async def test_what_an_edge_says_is_equal_too_older_or_newer_than_the_books(
    north: WorkedEdge, tmp_path: Path
) -> None:
    older = said_by(north.journal, tmp_path)
    it = of_north(north.hub, Side.EDGE, older)
    assert (it.state, [hour.state for hour in it.hours]) == (State.EQUAL, [State.EQUAL] * 3)
    north.work(2)
    newer = said_by(north.journal, tmp_path)
    it = of_north(north.hub, Side.EDGE, newer)
    assert (it.state, it.waiting_accepted) == (State.WAITS, 3)
    await north.send()
    assert of_north(north.hub, Side.EDGE, newer).state is State.WAITS
    await north.hub.folding.fold()
    assert of_north(north.hub, Side.EDGE, newer).state is State.EQUAL
    it = of_north(north.hub, Side.EDGE, older)
    assert (it.state, it.difference) == (State.PARTLY, None)


@pytest.mark.sqlite_suffices
async def test_an_edge_that_keeps_less_than_the_hub_is_equal_as_far_as_it_goes(
    north: WorkedEdge, tmp_path: Path
) -> None:
    segments(north.journal.directory)[0][1].unlink()
    it = of_north(north.hub, Side.EDGE, said_by(north.journal, tmp_path))
    assert (it.state, it.difference, it.first > 1) == (State.PARTLY, None, True)


def more_shares(said: dict[str, Any]) -> None:
    said["hours"][1]["shares"][0]["shares"] += 1


def another_difficulty(said: dict[str, Any]) -> None:
    said["hours"][1]["shares"][0]["log2"] += 4


def fewer_records(said: dict[str, Any]) -> None:
    said["hours"][1]["records"] -= 1


def another_hash(said: dict[str, Any]) -> None:
    said["hours"][1]["digest"] = "0" * 32


def an_hour_less(said: dict[str, Any]) -> None:
    del said["hours"][1]


def another_hour(said: dict[str, Any]) -> None:
    said["hours"][1]["hour"] += 1000


def more_in_all(said: dict[str, Any]) -> None:
    said["accepted"] += 1


def what_it_does_not_have(said: dict[str, Any]) -> None:
    said["first"] = said["hours"][0]["first"] = said["last"] + 5


def another_book(said: dict[str, Any]) -> None:
    said["book"] = "another"


def a_damage(said: dict[str, Any]) -> None:
    said["wrong"], said["last"] = "my disk ate it", said["last"] - 1


LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "more shares": (
        more_shares,
        "3 shares of difficulty 2^16 in it are accepted in the books, and 4 in what the edge says",
    ),
    "another difficulty": (another_difficulty, "accepted in the books, and 0 in what the edge says"),
    "fewer records": (fewer_records, "records of it are in the books, and"),
    "another hash": (another_hash, "and in what the edge says it has 000000000000"),
    "an hour less": (an_hour_less, "in the books, and none in what the edge says"),
    "another hour": (another_hour, "of it are in what the edge says, and none in the books"),
    "more in all": (more_in_all, "10 shares up to it are accepted in what the edge says, and 9 in the hours"),
    "nobody has it": (what_it_does_not_have, "are neither in the books nor in what the edge says"),
    "another book": (another_book, "it has the shares of another book than this one"),
    "damage": (a_damage, "my disk ate it"),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("lie", LIES)
async def test_a_captured_edge_that_says_something_else_is_named_and_changes_nothing(
    north: WorkedEdge, tmp_path: Path, lie: str
) -> None:
    change, words = LIES[lie]
    said = said_by(north.journal, tmp_path, change)
    is_different(of_north(north.hub, Side.EDGE, said), words)
    assert of_north(north.hub, said=said).state is State.EQUAL, "what came of it is what was booked"


async def test_a_lie_about_what_is_not_booked_yet_is_held_against_what_came(
    north: WorkedEdge, tmp_path: Path
) -> None:
    north.work(3)
    await north.send()

    def lie(said: dict[str, Any]) -> None:
        said["hours"][3]["shares"][0]["shares"] = 1_000

    is_different(
        of_north(north.hub, Side.EDGE, said_by(north.journal, tmp_path, lie)),
        "accepted in the inbox, and 1000 in what the edge says",
    )


async def test_a_journal_that_the_books_never_heard_of_is_told(north: WorkedEdge, tmp_path: Path) -> None:
    unknown = north.hub.site(NORTH)
    unknown.share()
    found = compared(north.hub, said_by(unknown, tmp_path))
    is_different(found[None, Side.EDGE], "the books know no such journal")


async def test_what_never_came_of_a_journal_that_is_over_is_told_for_good(
    north: WorkedEdge, tmp_path: Path
) -> None:
    """Its disk was thought to be lost, and is found: those shares were acknowledged, and are in no books."""
    north.work(3)
    await north.hub.change(lambda it: reset_edge(it, NORTH, NOW_S))
    it = of_north(north.hub)
    assert (it.state, it.over) == (State.EQUAL, True)
    it = of_north(north.hub, Side.EDGE, said_by(north.journal, tmp_path))
    is_different(it, "did not come before this journal was over: they are not booked, and will not be")


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"[]",
        b'{"journals": [{}]}',
        b'{"journals": [{"writer": "../../../etc", "book": null, "first": 1}]}',
        b'{"journals": [' + b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000,
        json.dumps({"journals": [{"writer": "ab" * 16, "book": None, "first": -1}]}).encode(),
        b'{"journals": [{"wrong": "\xff"}]}',
    ],
    ids=["nothing", "a list", "empty", "a path", "deep", "deep aside", "below zero", "no text"],
)
def test_what_is_no_export_is_refused_whatever_it_is(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "north.json"
    file.write_bytes(written)
    with pytest.raises(NOT_READ):
        read_export(file)


@pytest.mark.sqlite_suffices
async def test_journals_are_found_in_a_data_directory_in_what_has_them_and_by_themselves(
    store: Store, tmp_path: Path
) -> None:
    booked = JournalOnStore(store)
    (directory,) = writers(booked.home.path)
    for named in (booked.home.path, booked.home.path / "journal", directory):
        assert [it.writer for it in journals_in(named)] == [directory.name]
    assert journals_in(tmp_path) == []
