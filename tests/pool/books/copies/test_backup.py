"""A copy of a book is of one moment, and keeps nobody from writing meanwhile."""

import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from pool.books.copies.backup import STEP_PAGES, check_pages, copy_online
from pool.store_error import StoreError

ROW = "x" * 3_000  # a page each
ROWS = 4 * STEP_PAGES


def book_with(rows: int, path: Path) -> sqlite3.Connection:
    """A database as the pool has it, and a connection that waits for nobody."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE shares (id INTEGER PRIMARY KEY, words TEXT)")
    with connection:
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO shares (words) VALUES (?)", [(ROW,)] * rows)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return connection


def test_commits_go_on_between_the_steps_and_are_not_in_the_copy(tmp_path: Path) -> None:
    steps: list[int] = []
    with closing(book_with(ROWS, tmp_path / "book")) as writer:

        def commit(_: float) -> None:
            writer.execute("INSERT INTO shares (words) VALUES (?)", (ROW,))  # "database is locked", or not
            writer.execute("UPDATE shares SET words = ? WHERE id = ?", ("changed", len(steps)))

        copy_online(tmp_path / "book", tmp_path / "copy", lambda done, total: steps.append(done), commit)
        assert writer.execute("SELECT count(*) FROM shares").fetchone() == (ROWS + len(steps),)
    assert len(steps) > 4
    assert steps == sorted(set(steps))  # it never began again
    assert all(after - before <= STEP_PAGES for before, after in pairwise(steps))
    with closing(sqlite3.connect(tmp_path / "copy")) as copy:
        assert copy.execute("SELECT count(*), min(words), max(words) FROM shares").fetchone() == (
            ROWS,
            ROW,
            ROW,
        )
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    check_pages(tmp_path / "copy")
    assert {it.name.removesuffix("-wal").removesuffix("-shm") for it in tmp_path.iterdir()} == {
        "book",
        "copy",
    }


def test_it_rests_as_long_as_it_worked(tmp_path: Path) -> None:
    rests: list[float] = []
    book_with(ROWS, tmp_path / "book").close()
    copy_online(tmp_path / "book", tmp_path / "copy", rest=rests.append)
    assert len(rests) > 4
    assert all(it > 0 for it in rests)


def test_a_step_is_on_disk_before_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr("pool.books.copies.backup.os.fsync", lambda _: done.append("synced"))
    book_with(ROWS, tmp_path / "book").close()
    copy_online(tmp_path / "book", tmp_path / "copy", rest=lambda _: done.append("rested"))
    assert len(done) > 8
    assert done == ["synced", "rested"] * (len(done) // 2)


def test_a_copy_with_a_broken_page_is_damaged(tmp_path: Path) -> None:
    book_with(ROWS, tmp_path / "book").close()
    copy_online(tmp_path / "book", tmp_path / "copy", rest=lambda _: None)
    with (tmp_path / "copy").open("r+b") as file:
        file.seek(5 * 4_096)
        file.write(bytes(4_096))
    with pytest.raises(StoreError, match="is damaged"):
        check_pages(tmp_path / "copy")


def test_where_a_copy_cannot_be_is_named(tmp_path: Path) -> None:
    """It is the disk of the backup that is full, and not that of the book."""
    book_with(ROWS, tmp_path / "book").close()
    with pytest.raises(StoreError, match=f"{tmp_path}/book cannot be copied to {tmp_path}/nowhere: "):
        copy_online(tmp_path / "book", tmp_path / "nowhere" / "copy", rest=lambda _: None)


def test_what_is_no_database_cannot_be_copied(tmp_path: Path) -> None:
    (tmp_path / "book").write_text("words")
    with pytest.raises(StoreError, match="cannot be copied"):
        copy_online(tmp_path / "book", tmp_path / "copy", rest=lambda _: None)
