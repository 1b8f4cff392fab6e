"""The record of changes is chained: who rewrites it, takes from its end or puts into it is named.

And a row that somebody broke hides no other: `change list` shows the rest, and says which cannot be read.
"""

# ruff: noqa: S608 - these statements are a forger's

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import func, insert, select, text
from structlog.testing import capture_logs

import pool.books.store
from pool.books.audit.verify import verify
from pool.books.changes.changes import (
    HASHED,
    NO_CHANGE,
    NUMBER_MAX,
    LastChange,
    change_hash,
    last_change,
    newest_changes,
    note_change,
)
from pool.books.changes.schema import changes
from pool.books.store import Store, open_engine, open_store, upgrade
from pool.store_error import StoreError
from tests.fixtures.databases import Crash, Databases, crash_at, disarm, fresh_store, store_in
from tests.stages.command_line import angara

NOW_S: Final = 1_800_000_000
NOTE: Final[dict[str, Any]] = {"by": "ann", "source": "alone", "command": "tenant.set-terms", "was": None}
COUNT: Final = 5


def note(store: Store, *subjects: str) -> None:
    for subject in subjects:
        with store.write() as connection:
            note_change(connection, **NOTE, subject=subject, became={"fee_bps": 7}, now_s=NOW_S)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory whose book has some changes."""
    with closing(store_in(tmp_path)) as store:
        note(store, *(f"tenant{number}" for number in range(1, COUNT + 1)))
    return tmp_path


def foreign(home: Path, *statements: str, disarmed: bool = False) -> None:
    """What somebody does with the file by another program, which sets nothing up."""
    with closing(sqlite3.connect(home / "angara.db")) as connection, connection:
        if disarmed:
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            ).fetchall():
                connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def wrong(store: Store) -> tuple[str, str] | None:
    with store.read() as connection:
        found = verify(connection).wrong
    return None if found is None else (found.table, found.row)


def test_each_row_is_hashed_after_the_one_before_it_and_the_book_knows_the_last(home: Path) -> None:
    with closing(store_in(home)) as store, store.read() as connection:
        before = NO_CHANGE.hash
        for row in connection.execute(select(changes).order_by(changes.c.id)).mappings():
            assert row["hash"] == change_hash(before, row)
            before = row["hash"]
        assert last_change(connection) == LastChange(COUNT, before)
        assert verify(connection).wrong is None
        names = {column.name for column in changes.columns}
    assert set(HASHED) | {"hash"} == names, "everything that a row says is hashed"


def test_no_row_makes_way_for_another_on_a_foreign_connection(home: Path) -> None:
    replace = (
        "INSERT OR REPLACE INTO changes SELECT id, changed_at_s, 'eve', source, command, subject, was,"
        " became, hash FROM changes WHERE id = 2"
    )
    with pytest.raises(sqlite3.IntegrityError, match="changes is append-only"):
        foreign(home, replace)
    with pytest.raises(sqlite3.IntegrityError, match="book is append-only"):
        foreign(home, "INSERT OR REPLACE INTO book SELECT * FROM book")


def test_a_rewritten_row_is_named_and_so_is_the_next_where_it_was_hashed_again(home: Path) -> None:
    with closing(store_in(home)) as store:
        with store.write() as connection:
            disarm(connection)
            connection.execute(changes.update().where(changes.c.id == 2).values(changed_by="eve"))
        assert wrong(store) == ("changes", "2")
        with store.write() as connection:
            rows = connection.execute(select(changes).order_by(changes.c.id)).mappings().all()
            again = change_hash(rows[0]["hash"], rows[1])
            connection.execute(changes.update().where(changes.c.id == 2).values(hash=again))
        assert wrong(store) == ("changes", "3")


def test_what_is_taken_from_the_end_is_missed_and_its_number_is_not_given_again(home: Path) -> None:
    foreign(home, f"DELETE FROM changes WHERE id >= {COUNT - 1}", disarmed=True)
    with closing(store_in(home)) as store:
        assert wrong(store) == ("changes", str(COUNT - 1))
        note(store, "later")
        with store.read() as connection:
            assert newest_changes(connection, None, None)[-1].id == COUNT + 1
        assert wrong(store) == ("changes", str(COUNT - 1))


FORGED: Final = (
    "INSERT INTO changes SELECT :id, changed_at_s, 'eve', source, command, subject, was, became, hash FROM"
    " changes WHERE id = 1"
)


@pytest.fixture
def book(databases: Databases) -> Iterator[Store]:
    """A book with some changes, on either database."""
    with fresh_store(databases) as store:
        note(store, *(f"tenant{number}" for number in range(1, COUNT + 1)))
        yield store


def forge(book: Store, *numbers: int) -> None:
    """What somebody writes who has the database's password: triggers refuse none of it."""
    with book.write() as connection:
        connection.execute(text(FORGED), [{"id": number} for number in numbers])


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        ([COUNT + 1], COUNT + 2),
        ([COUNT + 1, COUNT + 2, COUNT + 4], COUNT + 3),
        ([COUNT + 1, NUMBER_MAX], COUNT + 2),
        ([COUNT + 2], COUNT + 1),
    ],
)
def test_a_number_that_somebody_took_stops_no_change_and_is_named(
    book: Store, taken: list[int], given: int
) -> None:
    forge(book, *taken)
    with capture_logs() as logs:
        note(book, "later", "much later")
    with book.read() as connection:
        later = connection.scalar(select(changes.c.id).where(changes.c.subject == "later"))
        last = last_change(connection)
        row = connection.execute(select(changes).where(changes.c.id == last.id)).mappings().one()
    assert later == given
    assert (row["subject"], row["hash"]) == ("much later", last.hash), "no row of theirs is the newest"
    assert {it["event"] for it in logs} == {"change_written_by_no_command"}
    assert {it["log_level"] for it in logs} == {"error"}
    assert wrong(book) is not None


@pytest.mark.sqlite_suffices
def test_a_forged_row_that_is_hashed_well_is_found_as_soon_as_the_next_command_writes(book: Store) -> None:
    with book.write() as connection:
        last = last_change(connection)
        row = dict(connection.execute(select(changes).where(changes.c.id == last.id)).mappings().one())
        row |= {"id": COUNT + 1, "changed_by": "eve"}
        connection.execute(insert(changes).values(row | {"hash": change_hash(last.hash, row)}))
    assert wrong(book) == ("changes", str(COUNT + 1))
    note(book, "later")
    assert wrong(book) == ("changes", str(COUNT + 2)), "one of the two that do not follow each other"


@pytest.mark.sqlite_suffices
def test_where_no_number_is_left_it_is_said_in_words(book: Store) -> None:
    with book.write() as connection:
        connection.execute(text(f"UPDATE book SET last_change = {NUMBER_MAX}"))
    with pytest.raises(StoreError, match="ledger verify"):
        note(book, "later")


def test_of_two_commands_at_once_one_waits_for_the_other(book: Store) -> None:
    start = threading.Barrier(2)

    def noting(name: str) -> None:
        start.wait()
        note(book, *(f"{name}{number}" for number in range(3)))

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(noting, name) for name in ("ann", "bob")]:
            done.result()
    with book.read() as connection:
        assert last_change(connection).id == COUNT + 6
    assert wrong(book) is None


def test_a_change_that_is_killed_in_between_was_never_made(book: Store) -> None:
    for statement in range(8):  # before each of them, and before the commit
        with pytest.raises(Crash), crash_at(statement):
            note(book, "killed")
    with book.read() as connection:
        assert last_change(connection).id == connection.scalar(select(func.max(changes.c.id))) == COUNT
    note(book, "given again")
    assert wrong(book) is None


def test_verify_prints_what_is_to_be_noted_elsewhere(home: Path) -> None:
    with closing(store_in(home)) as store, store.read() as connection:
        noted = last_change(connection)
    assert f"{COUNT} changes in the record, head {noted.hash}" in angara(home, "ledger", "verify").output
    told = json.loads(angara(home, "ledger", "verify", "--json").output)
    assert (told["changes"], told["changes_head"]) == (noted.id, noted.hash)
    rows = json.loads(angara(home, "change", "list", "--json", "--before", str(COUNT + 1)).output)
    assert (rows[-1]["id"], rows[-1]["hash"]) == (noted.id, noted.hash)


DEEP: Final = '{"a":' * 900 + "1" + "}" * 900
BROKEN: Final = {
    "a time that no calendar has": "changed_at_s = 9000000000000000000",
    "a time before there was any": "changed_at_s = -9000000000000000000",
    "no JSON": "became = '{'",
    "no object": "became = '[1]'",
    "JSON beyond any depth": f"became = '{DEEP}'",
    "half a letter": 'became = \'{"a":"\\ud800"}\'',
    "bytes that are no text": "became = CAST(x'7b2261223a22ff227d' AS TEXT)",
}
TOLD: Final = {
    "a name of bytes that are no text": "changed_by = CAST(x'616eff' AS TEXT)",
    "a moment in what it became that is none": 'became = \'{"a_at_s":9000000000000000000,"b_at_s":"x"}\'',
    "a difficulty beyond all hashes": "became = '{\"difficulty_log2\":9000000000000000000}'",
}


@pytest.mark.parametrize("how", [*BROKEN, *TOLD])
def test_a_broken_row_hides_no_other_and_is_named(home: Path, how: str) -> None:
    foreign(home, f"UPDATE changes SET {(BROKEN | TOLD)[how]} WHERE id = 3", disarmed=True)
    shown = angara(home, "change", "list")
    assert shown.exit_code == 0
    lines = shown.output.splitlines()[-COUNT:]
    assert [line.split()[0] for line in lines] == [str(number) for number in range(1, COUNT + 1)]
    assert ["CANNOT BE READ" in line for line in lines] == [
        it == 3 and how in BROKEN for it in range(1, COUNT + 1)
    ]
    rows = json.loads(angara(home, "change", "list", "--json").output)
    assert [it["id"] for it in rows if it["unreadable"]] == ([3] if how in BROKEN else [])
    assert angara(home, "change", "list", "--csv").exit_code == 0
    verified = angara(home, "ledger", "verify")
    assert verified.exit_code == 1
    assert verified.output.startswith("WRONG changes 3:")


# Books of before

BEFORE: Final = "0014"
OF_BEFORE: Final = (
    "INSERT INTO changes (id, changed_at_s, changed_by, command, subject, was, became)"
    " VALUES (:id, :at_s, 'ann', 'tenant.set-terms', 'acmé', :was, :became)"
)


def as_before(url: str) -> Store:
    """The database as the version left it that had no chain."""
    config = Config()
    config.set_main_option("script_location", str(pool.books.store.MIGRATIONS))
    store = Store(open_engine(url))
    with store.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, BEFORE)
    return store


@pytest.fixture
def old_book(databases: Databases) -> Iterator[str]:
    """Such a database with changes in it."""
    with databases.fresh_url(upgraded=False) as url:
        with closing(as_before(url)) as store, store.write() as connection:
            connection.execute(text("UPDATE book SET latest_s = :at_s"), {"at_s": NOW_S})
            states = {"was": '{"fee_bps":200}', "became": '{"fee_bps":50}'}
            rows = [{"id": it, "at_s": NOW_S - 10 + it, **states} for it in range(1, COUNT + 1)]
            connection.execute(text(OF_BEFORE), rows)
        yield url


def test_changes_of_before_are_hashed_in_their_order(old_book: str) -> None:
    upgrade(old_book)
    with closing(open_store(old_book)) as store:
        with store.read() as connection:
            assert verify(connection).wrong is None
            assert last_change(connection).id == COUNT
            rows = newest_changes(connection, None, None)
        assert [it.changed_at_s for it in rows] == [NOW_S - 10 + number for number in range(1, COUNT + 1)]
        assert {(it.subject, it.source, str(it.was)) for it in rows} == {("acmé", "", "{'fee_bps': 200}")}
        note(store, "acmé")
        assert wrong(store) is None
        with store.write() as connection:
            disarm(connection)
            connection.execute(changes.update().where(changes.c.id == 2).values(changed_by="eve"))
        assert wrong(store) == ("changes", "2")


@pytest.mark.sqlite_suffices
def test_a_book_without_changes_begins_its_chain(databases: Databases) -> None:
    with databases.fresh_url(upgraded=False) as url:
        as_before(url).close()
        upgrade(url)
        with closing(open_store(url)) as store:
            with store.read() as connection:
                assert last_change(connection) == NO_CHANGE
            note(store, "acme")
            assert wrong(store) is None


def test_the_upgrade_that_is_killed_leaves_the_book_of_before(old_book: str) -> None:
    for statement in range(0, 40, 3):
        with pytest.raises(Crash), crash_at(statement):
            upgrade(old_book)
    with closing(Store(open_engine(old_book))) as store, store.read() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == BEFORE
        assert connection.scalar(text("SELECT count(*) FROM changes")) == COUNT
    upgrade(old_book)
    with closing(open_store(old_book)) as store:
        assert wrong(store) is None
