"""A hub opens the copy of an edge's journal, and the database is away in the middle of it."""

import os
import sqlite3
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from pool.books import database_waits
from pool.books.store import Store
from tests.stages.hub import Hub


class DatabaseThatIsBusyOnce:
    """At one of the statements that come."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __enter__(self) -> "DatabaseThatIsBusyOnce":
        event.listen(Engine, "before_cursor_execute", self._run)
        return self

    def __exit__(self, *_: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._run)

    def _run(self, *_: object) -> None:
        self.left -= 1
        if self.left == -1:
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise OperationalError("SELECT", None, busy)


def open_copies(home: Path) -> int:
    """Descriptors of files of journals there."""
    found = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{number}").startswith(str(home / "inbox"))
        except FileNotFoundError:
            continue  # that of the list itself
    return found


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="nobody tells here what is open")
async def test_a_copy_is_opened_once_whichever_statement_the_database_is_away_at(
    books: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_waits, "PAUSE_S", 0.0)
    hub = Hub(books, tmp_path, "north")
    await hub.start()
    site = hub.site("north")
    granted = await hub.begin("north", site)
    site.share()
    await hub.send("north", granted, site)
    started = 1
    assert open_copies(tmp_path) == started
    for at in count():
        with DatabaseThatIsBusyOnce(at) as database, suppress(OperationalError):  # of what is read before
            await hub.start()
            started += 1
        assert open_copies(tmp_path) == started, f"statement {at}"
        if database.left >= 0:
            break
    assert started > 5
