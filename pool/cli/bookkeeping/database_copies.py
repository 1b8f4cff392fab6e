"""What `angara db backup` and `angara db restore` do to files: a copy is whole, verified and its owner's
alone before it has its name, and no book is ever deleted.

Must not know: how it is told.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.audit.finding import Wrong
from payouts.schemas.money import blocks
from pool.books.audit.verify import verify
from pool.books.copies.backup import Standing, check_pages, copy_online, copy_opened, settle_down, standing
from pool.books.copies.journals import Missing, go_on_behind, missing, take_into
from pool.books.copies.restores import note_restore
from pool.books.lease import FileLock, LeaseHeld
from pool.books.migrations.revisions import NEWEST
from pool.books.store import Store, open_engine, upgrade
from pool.data_dir import held
from pool.journal.segments import JournalDamaged
from pool.settings_file import BadConfig
from pool.store_error import StoreError
from pool.whole_file import sync_directory, sync_file, whole_file

BESIDE: Final = ("-shm", "-wal", "")  # what a book's files end with, the book itself last
OWNER_ONLY: Final = 0o600
CHUNK_BYTES: Final = 1 << 20

Told = Callable[[int, int], None]


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; `verified` is not so for a book of an earlier version, whose tables are others."""

    standing: Standing
    verified: bool
    bytes: int
    journal_wrong: str | None = None  # why nothing of the journal beside the book is in it


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the book's place now. `blocks` are found blocks on disk that the copy does not know."""

    standing: Standing
    set_aside: Path | None
    blocks: int
    missing: tuple[Missing, ...] = ()


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """What is in the place of the book; `there` is None where that cannot be read."""

    copy: Standing
    there: Standing | None


def sqlite_file(url: str) -> Path:
    """Where a SQLite book is. Raises BadConfig for a PostgreSQL one."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite":
        raise BadConfig(
            "a book on PostgreSQL is backed up by PostgreSQL: archive its write-ahead log, or run `pg_dump"
            " --format=custom`; docs/operations.md has the commands, and what to do after a restore"
        )
    return Path(path)


def back_up(book: Path, data_dir: Path | None, file: Path, *, replace: bool, told: Told) -> Backup:
    """Copy a book, whether a pool writes to it or not, with what its journal has. Raises BadConfig,
    StoreError, OSError."""
    if not book.is_file():
        raise BadConfig(f"there is no database {book}")
    if file.exists() and (file.samefile(book) or not file.is_file()):
        raise BadConfig(f"{file} is no place for a backup")
    _refuse_if_there(file, replace)
    with whole_file(file) as draft:
        copy_online(book, draft, told)
        check_pages(draft)
        with copy_opened(draft) as copy:
            schema = standing(copy).schema
        journal_wrong = None
        if schema == NEWEST and data_dir is not None:
            try:
                take_into(draft, data_dir)
            except JournalDamaged as error:
                journal_wrong = str(error)
        with copy_opened(draft) as copy:
            found = standing(copy)
            verified = found.schema == NEWEST
            if found.schema is None:
                raise StoreError(f"there is no book of a pool in the database {book}")
            if verified:
                _proven(copy, book)
        _refuse_if_there(file, replace)
        size = draft.stat().st_size
    return Backup(standing=found, verified=verified, bytes=size, journal_wrong=journal_wrong)


def look(file: Path, book: Path, network: str | None) -> Lost:
    """A backup, and what it would take the place of; `network` is what settings say. Raises BadConfig,
    StoreError."""
    if not file.is_file():
        raise BadConfig(f"there is no file {file}")
    if book.exists() and file.samefile(book):
        raise BadConfig(f"{file} is the book itself")
    if Path(f"{file}-wal").exists():
        raise BadConfig(f"{file} has a write-ahead log beside it: it is a book in use, and no backup")
    check_pages(file)
    with copy_opened(file) as copy:
        found = standing(copy)
    if found.schema is None:
        raise BadConfig(f"{file} is no backup of a book")
    if network is not None and found.network not in (None, network):
        raise BadConfig(f"{file} is a book of {found.network}, the settings say {network}")
    if not book.exists():
        return Lost(copy=found, there=NOTHING)
    settle_down(book)
    try:
        check_pages(book)
    except StoreError:
        return Lost(copy=found, there=None)
    with copy_opened(book) as connection:
        return Lost(copy=found, there=standing(connection))


NOTHING: Final = Standing(
    schema=None,
    network=None,
    tenants=0,
    transactions=0,
    head=None,
    booked_at_s=None,
    counted_at_s=None,
    blocks=0,
    batches=0,
    changes=0,
)


@contextmanager
def nobody_at(book: Path, data_dir: Path | None) -> Iterator[None]:
    """While no pool runs on the directory, and nobody writes to the book. Raises DataDirError, LeaseHeld."""
    with nullcontext() if data_dir is None else held(data_dir):
        lock = FileLock(book)
        if not lock.acquire():
            raise LeaseHeld("a pool writes to the database: stop it first")
        try:
            yield
        finally:
            lock.release()


def restore(file: Path, book: Path, data_dir: Path | None, by: str, told: Told) -> Restored:
    """Put a copy of the backup in the book's place, verified and marked as restored; what was there has
    another name. The caller sees to it that nobody is at it. Raises StoreError, OSError."""
    now_s = int(time.time())
    with TemporaryDirectory(prefix=".restore-", dir=book.parent) as directory:
        draft = Path(directory) / "angara.db"
        _copy_file(file, draft, told)
        with copy_opened(draft) as copy:
            schema = standing(copy).schema
        url = f"sqlite:///{draft}"
        if schema != NEWEST:
            upgrade(url)
        engine = open_engine(url)
        try:
            store = Store(engine)  # without a lease: nobody else can use it yet
            with store.write() as connection:
                found = standing(connection)
                gap = () if data_dir is None else tuple(missing(connection, data_dir))
                if data_dir is not None and gap:
                    go_on_behind(connection, data_dir)
                note_restore(connection, by, msgspec.to_builtins(found), now_s)
            with store.read() as connection:
                _proven(connection, file)
                known = frozenset(connection.scalars(select(blocks.c.hash)))
        finally:
            engine.dispose()
        settle_down(draft)
        for suffix in BESIDE[:-1]:
            if Path(f"{draft}{suffix}").exists():
                raise StoreError(f"{draft} is still in use")
        sync_file(draft)
        aside = _set_aside(book, now_s)
        draft.replace(book)
    sync_directory(book.parent)
    return Restored(standing=found, set_aside=aside, blocks=_unknown_blocks(data_dir, known), missing=gap)


def _proven(connection: Connection, file: Path) -> None:
    wrong: Wrong | None = verify(connection).wrong
    if wrong is not None:
        raise StoreError(
            f"{file} is not taken, because its books are wrong: {wrong.table} {wrong.row}: {wrong.reason}"
        )


def prove_moved(connection: Connection) -> None:
    """Of a book that is written elsewhere. Raises StoreError."""
    wrong: Wrong | None = verify(connection).wrong
    if wrong is not None:
        raise StoreError(
            f"the book does not move, because it is wrong: {wrong.table} {wrong.row}: {wrong.reason}"
        )


def _refuse_if_there(file: Path, replace: bool) -> None:
    if file.exists() and not replace:
        raise BadConfig(f"{file} is there: give another name, or --replace")


def _copy_file(file: Path, to: Path, told: Told) -> None:
    total, done = file.stat().st_size, 0
    with file.open("rb") as source, to.open("xb") as copy:
        to.chmod(OWNER_ONLY)
        while chunk := source.read(CHUNK_BYTES):
            done += copy.write(chunk)
            told(done, total)


def _set_aside(book: Path, now_s: int) -> Path | None:
    """Give the book that is there another name, with what it has beside it. Its write-ahead log goes first: a
    book that came after it must never meet it."""
    there = [suffix for suffix in BESIDE if Path(f"{book}{suffix}").exists()]
    if not there:
        return None
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    aside = book.with_name(f"{book.name}.{moment}")
    number = 1
    while any(Path(f"{aside}{suffix}").exists() for suffix in BESIDE):
        number += 1
        aside = book.with_name(f"{book.name}.{moment}-{number}")
    for suffix in there:
        Path(f"{book}{suffix}").rename(f"{aside}{suffix}")
    sync_directory(book.parent)
    return aside


def _unknown_blocks(data_dir: Path | None, known: frozenset[str]) -> int:
    if data_dir is None:
        return 0
    return sum(it.stem.partition("-")[2] not in known for it in (data_dir / "blocks").glob("*-*.*"))
