"""A book in SQLite becomes one in PostgreSQL: every row of every table, in one transaction there.

**There are never two.** The book here says first that it moves (`pool.books.moved`), and is nobody's from
then on. Then all of it is written there, compared with what is here table by table, and proven like any book,
before it is committed; then the book here says that it has moved. A kill leaves one that moves: whoever asks
again finds the book there, whole, or begins again. An error takes the mark back, where the server says that
nothing is there; where it cannot be asked the mark stays.

Rows are compared by a sum of their hashes, so they need no order: the two databases sort words differently.
Triggers refuse changes of what is written once, and a book that is made has rows of its own already: they are
off in that transaction, and on again with its commit.

Blocks. The caller sees to it that nobody is at the book. Must not know: how it is told.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import psycopg
import structlog
from sqlalchemy import Connection, Engine, Table, delete, func, inspect, select, text
from sqlalchemy.exc import SQLAlchemyError

from payouts.schemas.book import book
from payouts.schemas.money import ledger_accounts, metadata
from pool.books.changes.changes import note_change
from pool.books.copies.backup import standing
from pool.books.lease import LeaseHeld, ServerLock, held_by
from pool.books.migrations.revisions import NEWEST
from pool.books.moved import VERSION, Move, begin_move, end_move, move_of, moves_to, take_back_move
from pool.books.store import Store, check_revision, open_engine, revision_of, upgrade, words_of
from pool.store_error import StoreError

log = structlog.get_logger()

ROWS_AT_ONCE: Final = 10_000  # in memory
# In one statement: the server remembers each row of it until it has looked at what the row refers to.
ROWS_A_STATEMENT: Final = 200_000
MOVED: Final = "db.move"
SOURCE: Final = "alone"  # the command line does it by itself
SEEDED: Final = frozenset({book.name, ledger_accounts.name})  # a new book has rows in these
HASHES: Final = 1 << 256

Told = Callable[[int, int], None]


class Rows(msgspec.Struct, frozen=True):
    """What is in a table: how many rows, and the sum of their hashes."""

    count: int
    digest: str


class MovedBook(msgspec.Struct, frozen=True, kw_only=True):
    """`rows` is by table; none where an earlier attempt had written it there."""

    place: str
    transactions: int
    head: str
    rows: dict[str, Rows]


def place_words(engine: Engine) -> str:
    """Which database that is, without who asks."""
    url = engine.url
    host = url.host or url.query.get("host") or "localhost"
    return f"{host if isinstance(host, str) else ','.join(host)}:{url.port or 5432}/{url.database}"


def move_book(
    here: Path,
    url: str,
    by: str,
    prove: Callable[[Connection], None],
    told: Told = lambda done, total: None,
) -> MovedBook:
    """`prove` raises StoreError for a book that is wrong, in the transaction that makes it. Raises that,
    LeaseHeld, and what a database raises: the book is here then, or says that it moves."""
    with _both(here, url) as (old, new):
        place = place_words(new)
        uid = _begin(old, place)
        try:
            found = _there(new, uid)
            if not found:
                _check_empty(new)
            rows = {} if found else _copy(old, new, by, prove, told)
            result = _moved(new, place, rows)
        except BaseException as error:
            _take_back_if_nothing_is_there(old, new, uid, error)
            raise
        with Store(old).write() as connection:
            end_move(connection)
        return result


def undo_move(here: Path, url: str) -> None:
    """The book is here again: what was begun is not to be. Raises StoreError where it is there."""
    with _both(here, url) as (old, new):
        with Store(old).read() as connection:
            if move_of(connection) is not Move.BEGUN:
                raise StoreError("there is no move of this book that was begun and did not end")
            _check_place(connection, place_words(new))
            uid = connection.scalar(select(book.c.uid))
        if _there(new, uid):
            raise StoreError(
                f"the book is in {place_words(new)}: `angara db move` without --undo ends the move"
            )
        with Store(old).write() as connection:
            take_back_move(connection)


@contextmanager
def _both(here: Path, url: str) -> Iterator[tuple[Engine, Engine]]:
    """And nobody else begins a pool there meanwhile."""
    old, new = open_engine(f"sqlite:///{here}", new=False), open_engine(url)
    lock = ServerLock(new)
    try:
        _make_tables(new, url)
        if not lock.acquire():
            with Store(new).read() as connection:
                raise LeaseHeld(held_by(connection))
        yield old, new
    finally:
        lock.release()
        old.dispose()
        new.dispose()


def _make_tables(new: Engine, url: str) -> None:
    """Of the present schema, where there are none. Raises StoreError for those of another one."""
    with Store(new).read() as connection:
        has_some = inspect(connection).has_table("alembic_version")
        schema = connection.scalar(VERSION) if has_some else None
    if schema is None:
        upgrade(url)
    elif schema != NEWEST:
        raise StoreError(
            f"there is a book of schema {schema} in {place_words(new)}: one moves to an empty database"
        )


def _begin(old: Engine, place: str) -> str:
    """It moves from here on: what journals know it by."""
    with Store(old).write() as connection:
        move = move_of(connection)
        if move is Move.DONE:
            raise StoreError(f"this book has moved to {moves_to(connection)} already")
        if move is Move.BEGUN:
            _check_place(connection, place)
        else:
            check_revision(revision_of(connection))
            _check_tables(connection)
            begin_move(connection, place)
        uid = connection.scalar(select(book.c.uid))
        if not uid:
            raise StoreError("the book has no name that journals know it by")
        return str(uid)


def _check_place(connection: Connection, place: str) -> None:
    if (begun := moves_to(connection)) != place:
        raise StoreError(
            f"a move of this book to {begun} was begun and did not end: it may be there, and goes to no other"
        )


def _check_tables(connection: Connection) -> None:
    """Every table and column that is there is one that is copied. Raises StoreError."""
    found = inspect(connection)
    there = set(found.get_table_names()) - {"alembic_version"}
    if there != set(metadata.tables):
        other = sorted(there ^ set(metadata.tables))
        raise StoreError(f"the tables of the book are not those of schema {NEWEST}: {', '.join(other)[:300]}")
    for name, table in metadata.tables.items():
        if {it["name"] for it in found.get_columns(name)} != set(table.c.keys()):
            raise StoreError(f"the columns of {name} are not those of schema {NEWEST}")


def _there(new: Engine, uid: str | None) -> bool:
    """Whether the book is in that database. Whoever was about to commit it there has done so by then."""
    with Store(new).write() as connection:
        return uid is not None and connection.scalar(select(book.c.uid)) == uid


def _check_empty(new: Engine) -> None:
    """Nothing is lost with what is there. Raises StoreError."""
    with Store(new).read() as connection:
        used = [
            table.name
            for table in metadata.sorted_tables
            if table.name not in SEEDED and connection.execute(select(table).limit(1)).first() is not None
        ]
        network = connection.scalar(select(book.c.network))
    if used or network is not None:
        tables = ", ".join(used[:5]) or "no table"
        raise StoreError(
            f"there is a book in {place_words(new)}, with rows in {tables}: one moves to an empty database"
        )


def _take_back_if_nothing_is_there(old: Engine, new: Engine, uid: str, error: BaseException) -> None:
    try:
        if _there(new, uid):
            return
    except (SQLAlchemyError, StoreError) as away:
        log.error("move_left_open", reason=words_of(away)[:300], because=str(error)[:300])
        return
    with Store(old).write() as connection:
        take_back_move(connection)


def _copy(
    old: Engine, new: Engine, by: str, prove: Callable[[Connection], None], told: Told
) -> dict[str, Rows]:
    """Everything, compared and proven; committed when this returns."""
    tables = metadata.sorted_tables
    with Store(old).read() as source:
        counts = {it.name: source.scalar(select(func.count()).select_from(it)) or 0 for it in tables}
        total, done = 2 * sum(counts.values()), 0

        def step(rows: int) -> None:
            nonlocal done
            done += rows
            told(done, total)

        with Store(new).write() as target:
            # A table of this transaction is read and summed for minutes, in which nothing is asked.
            target.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
            _make_room(target, tables)
            here = {it.name: _copy_table(source, target, it, step) for it in tables}
            _set_counters(target, tables)
            target.execute(text("ANALYZE"))
            there = {it.name: _sum(_rows_of(target, it), step) for it in tables}
            if wrong := [name for name in here if here[name] != there[name]]:
                raise StoreError(f"what was written is not what was read: {', '.join(wrong)}")
            _arm(target, tables)
            _note(target, by, here)
            prove(target)
    return here


def _make_room(target: Connection, tables: Sequence[Table]) -> None:
    for table in tables:
        target.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
    for table in reversed(tables):
        if table.name in SEEDED:
            target.execute(delete(table))


def _arm(target: Connection, tables: Sequence[Table]) -> None:
    target.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    for table in tables:
        target.execute(text(f"ALTER TABLE {table.name} ENABLE TRIGGER USER"))


def _copy_table(source: Connection, target: Connection, table: Table, step: Callable[[int], None]) -> Rows:
    """All that is in it, and what that was."""
    columns = ", ".join(f'"{it.name}"' for it in table.columns)
    statement = f"COPY {table.name} ({columns}) FROM STDIN"
    # Rows that refer to others of their table, later ones too, go in one statement.
    of_itself = any(it.column.table is table for it in table.foreign_keys)
    most = None if of_itself else ROWS_A_STATEMENT
    pieces, summed = _rows_of(source, table), _Sum()
    driver: Any = target.connection.cursor()
    piece = next(pieces, None)
    try:
        while piece is not None:
            written = 0
            with driver.copy(statement) as copy:
                while piece is not None and (most is None or written < most):
                    for row in piece:
                        copy.write_row(row)
                    summed.add(piece)
                    written += len(piece)
                    step(len(piece))
                    piece = next(pieces, None)
    except psycopg.Error as error:  # a table of SQLite may have what one of PostgreSQL refuses
        raise StoreError(f"{table.name} cannot be written: {error}") from error
    return summed.rows


def _rows_of(connection: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    options = {"stream_results": True, "max_row_buffer": ROWS_AT_ONCE}
    for rows in connection.execute(select(table), execution_options=options).partitions(ROWS_AT_ONCE):
        yield [tuple(it) for it in rows]


class _Sum:
    def __init__(self) -> None:
        self._count, self._hashes = 0, 0

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._count += len(rows)
        hashes = (sha256(_ENCODER.encode(row)).digest() for row in rows)
        self._hashes = (self._hashes + sum(int.from_bytes(it, "big") for it in hashes)) % HASHES

    @property
    def rows(self) -> Rows:
        return Rows(self._count, f"{self._hashes:064x}")


_ENCODER: Final = msgspec.msgpack.Encoder()


def _sum(pieces: Iterator[list[tuple[Any, ...]]], step: Callable[[int], None]) -> Rows:
    found = _Sum()
    for piece in pieces:
        found.add(piece)
        step(len(piece))
    return found.rows


def _set_counters(target: Connection, tables: Sequence[Table]) -> None:
    """Numbers that the database gives go on behind those that are given."""
    for table in tables:
        for column in table.primary_key.columns:
            named = {"table": table.name, "column": column.name}
            sequence = target.scalar(text("SELECT pg_get_serial_sequence(:table, :column)"), named)
            most = None if sequence is None else target.scalar(select(func.max(column)))
            if most is not None:
                target.execute(text("SELECT setval(:sequence, :most)"), {"sequence": sequence, "most": most})


def _note(target: Connection, by: str, rows: dict[str, Rows]) -> None:
    """In its record of changes: when, who, and what each table had."""
    note_change(
        target,
        by=by,
        source=SOURCE,
        command=MOVED,
        subject="book",
        was=None,
        became={name: f"{it.count} {it.digest[:16]}" for name, it in rows.items() if it.count},
        now_s=int(time.time()),
    )


def _moved(new: Engine, place: str, rows: dict[str, Rows]) -> MovedBook:
    with Store(new).read() as connection:
        found = standing(connection)
    return MovedBook(place=place, transactions=found.transactions, head=found.head or "", rows=rows)
