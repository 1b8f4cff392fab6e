"""A copy of a SQLite book while a pool writes to it, and what a copy is of.

The copy is of one moment: a reading transaction is open from its first page to its last, so no commit makes
it begin again, and in WAL mode no commit waits for it. What commits feel is the disk: so a step is bounded,
what it has written is synced, and the copy rests as long as that took.
The write-ahead log grows meanwhile by what the pool commits; the next checkpoint after it takes it up again.

Must not know: where copies are kept, and who restores them.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, Table, create_engine, func, inspect, select, text

from payouts.batches.schema import payout_batches
from payouts.schemas.book import book
from payouts.schemas.money import blocks, ledger_transactions, tally_minutes, tenants
from pool.books.changes.schema import changes
from pool.books.journal.positions import positions
from pool.books.journal.schema import journal_positions
from pool.books.store import WRITER_WAIT_S
from pool.store_error import StoreError

# A megabyte: milliseconds of a disk that commits want too, whose own sync may have to wait for as much. With
# 16 of them between two syncs one commit in a hundred took 40 ms in place of 11, for a copy a third faster.
STEP_PAGES: Final = 256
MINUTE_S: Final = 60
IMMUTABLE: Final = "&immutable=1"  # nobody writes to it: SQLite locks nothing, and makes no file beside it


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What there is in a book, to set one against another."""

    schema: str | None
    network: str | None
    tenants: int
    transactions: int
    head: str | None  # hash of the newest transaction
    booked_at_s: int | None  # when that was
    counted_at_s: int | None  # the minute of the newest share
    blocks: int
    batches: int
    changes: int
    journals: tuple[tuple[str, int], ...] = ()  # each with the number of its last record that is in the book

    @property
    def empty(self) -> bool:
        """Whether nothing is lost with it."""
        things = self.tenants, self.transactions, self.blocks, self.batches, self.changes
        return not any(things) and self.counted_at_s is None


def standing(connection: Connection) -> Standing:
    """Of a book of any version: what its schema has not is nothing."""
    there = set(inspect(connection).get_table_names())

    def count(table: Table) -> int:
        if table.name not in there:
            return 0
        return connection.scalar(select(func.count()).select_from(table)) or 0

    minute = head = None
    if tally_minutes.name in there:
        minute = connection.scalar(select(func.max(tally_minutes.c.minute)))
    if ledger_transactions.name in there:
        of = ledger_transactions.c
        newest = select(of.hash, of.booked_at_s).order_by(of.seq.desc()).limit(1)
        head = connection.execute(newest).one_or_none()
    return Standing(
        schema=connection.scalar(text("SELECT version_num FROM alembic_version"))
        if "alembic_version" in there
        else None,
        network=connection.scalar(select(book.c.network)) if book.name in there else None,
        tenants=count(tenants),
        transactions=count(ledger_transactions),
        head=None if head is None else head.hash,
        booked_at_s=None if head is None else head.booked_at_s,
        counted_at_s=None if minute is None else minute * MINUTE_S,
        blocks=count(blocks),
        batches=count(payout_batches),
        changes=count(changes),
        journals=tuple((it.writer, it.at.number) for it in positions(connection))
        if journal_positions.name in there
        else (),
    )


def copy_online(
    source: Path,
    to: Path,
    told: Callable[[int, int], None] = lambda done, total: None,
    rest: Callable[[float], None] = time.sleep,
) -> None:
    """Copy the book at `source` as it is now into the file `to`, which nobody else uses. `told` of pages done
    and all of them, after every step; `rest` for some seconds between two. Raises StoreError."""
    try:
        with closing(_opened(source, "rw")) as there, closing(_opened(to, "rwc")) as here:
            here.execute("PRAGMA journal_mode = OFF")  # half a copy is nobody's
            here.execute("PRAGMA synchronous = OFF")  # synced here, step by step
            there.execute("PRAGMA query_only = 1")
            there.execute("BEGIN")
            there.execute("SELECT count(*) FROM sqlite_master").fetchone()
            with to.open("rb") as written:
                _copy(there, here, told, rest, lambda: os.fsync(written.fileno()))
            here.execute("PRAGMA journal_mode = DELETE")  # one file, that needs none beside it
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be copied to {to.parent}: {error}") from None


def _copy(
    there: sqlite3.Connection,
    here: sqlite3.Connection,
    told: Callable[[int, int], None],
    rest: Callable[[float], None],
    sync: Callable[[], None],
) -> None:
    began_s = time.monotonic()

    def stepped(status: int, remaining: int, total: int) -> None:
        nonlocal began_s
        sync()
        told(total - remaining, total)
        rest(time.monotonic() - began_s)
        began_s = time.monotonic()

    there.backup(here, pages=STEP_PAGES, progress=stepped)


def check_pages(path: Path) -> None:
    """That a copy has what SQLite needs to read it, indexes too. Raises StoreError."""
    try:
        with closing(_opened(path, "ro", IMMUTABLE)) as copy:
            (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        found = str(error)
    if found != "ok":
        raise StoreError(f"{path} is damaged: {found}")


@contextmanager
def copy_opened(path: Path) -> Iterator[Connection]:
    """A copy, which nobody writes to, to read: makes no file beside it. Raises StoreError."""
    engine = create_engine("sqlite://", creator=lambda: _opened(path, "ro", IMMUTABLE))
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def settle_down(path: Path) -> None:
    """Take up the write-ahead log of a book that nobody has open, so that it is one file. What is too broken
    for that keeps it."""
    try:
        with closing(_opened(path, "rw")) as found:
            found.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error:
        return


def _opened(path: Path, mode: str, more: str = "") -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}{more}",
        uri=True,
        isolation_level=None,
        timeout=WRITER_WAIT_S,
        check_same_thread=False,
    )
