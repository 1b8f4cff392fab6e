"""The database: SQLite beside the pool by default, PostgreSQL by URL. Opens, checks, upgrades, begins.

Invariants: one writing transaction at a time on both (BEGIN IMMEDIATE; an advisory lock), so that what it has
read cannot change before it commits, and one writing process (`pool.books.lease`). A reading transaction
sees one moment. A commit that returned is on disk: the settings that this rests on are read back on every
new connection, and a
database without them is refused. All of it blocks: call it from a worker thread.

What only upgrades need (Alembic), and only PostgreSQL, is imported when one of them is there: a command that
reads a book of the present schema need not wait for it.

Must not know: what is in the tables.
"""

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import structlog
from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from pool.books.lease import FileLock, Kept, Lease, LeaseHeld, ServerLock, held_by
from pool.books.migrations.revisions import NEWEST, REVISIONS
from pool.books.moved import move_in, words_of_move
from pool.database_url import read_url
from pool.store_error import StoreError as StoreError

log = structlog.get_logger()

MIGRATIONS = Path(__file__).parent / "migrations"
# A writer holds the lock for milliseconds; ten seconds is a stuck disk, and an error is due.
WRITER_WAIT_S = 10
# A worker thread uses one connection: the journal, accrual, roll-up, commands and reports.
CONNECTIONS_MAX = 8
CONNECT_TIMEOUT_S = 10  # a PostgreSQL that does not answer in this time is down
# A server whose host died is noticed in this time, not after TCP's two hours.
KEEPALIVE = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}
SQLITE_VERSION_MIN = (3, 37)  # STRICT tables
POSTGRESQL_VERSION_MIN = 130000  # the oldest that Debian still had in 2024
WRITER_LOCK = 0x616E67617261  # "angara": the advisory lock of all writers to one PostgreSQL database
WRITES = "angara_writes"  # execution option of a connection that is going to write

# What must be in force on a SQLite connection, as read back. FULL: a commit is fsynced before it
# returns; fullfsync: the same on macOS; recursive_triggers: INSERT OR REPLACE meets the DELETE triggers.
PRAGMAS: dict[str, str | int] = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": WRITER_WAIT_S * 1000,
    "recursive_triggers": 1,
    "fullfsync": 1,
    "checkpoint_fullfsync": 1,
}
# The same for PostgreSQL: durability is the server's, the bounds on waiting are ours.
SETTINGS = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
BOUNDS_MS = {"lock_timeout": WRITER_WAIT_S * 1000, "idle_in_transaction_session_timeout": 60_000}


# What a transaction may raise because of the database, and not because of who asked.
DATABASE_ERRORS = (SQLAlchemyError, StoreError)


def words_of(error: BaseException) -> str:
    """What the database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or error)


class Store:
    """An open database of the present schema. Threads may share it.

    Without a lease it is one that is being made: nobody else can use that yet.
    """

    def __init__(self, engine: Engine, lease: Lease | None = None) -> None:
        self.engine = engine
        self._lease = lease

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and cannot write."""
        with self.engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """The only writing transaction; commits at the end, or not at all when an exception leaves.

        Raises LeaseHeld where another process is the book's writer, LeaseLost where one has been meanwhile.
        """
        with self._writing() as connection:
            if self._lease is not None:
                self._lease.admit(connection)
            yield connection

    def acquire_lease(self) -> None:
        """Be the book's writer until `release_lease`, or the end of the process. Raises LeaseHeld, and
        StoreError where the book is of another version by now."""
        if self._lease is None or self._lease.epoch is not None:
            return
        try:
            self._lease.lock()
        except LeaseHeld:
            with self.read() as connection:
                raise LeaseHeld(held_by(connection)) from None
        try:
            with self._writing() as connection:
                check_revision(revision_of(connection))  # it may have been upgraded while we waited
                self._lease.acquire(connection)
        except BaseException:
            self._lease.release()
            raise

    def borrow_lease(self, epoch: int) -> None:
        """Write beside the writer that told us its epoch, for as long as it is the writer."""
        assert self._lease is not None
        self._lease.borrow(epoch)

    @property
    def lease_epoch(self) -> int | None:
        """The writer's epoch, while we are it."""
        return None if self._lease is None else self._lease.epoch

    def keep_lease(self) -> Kept:
        """Take the lease back where it was lost. Raises LeaseLost where that is too late."""
        if self._lease is None or self._lease.epoch is None:
            return Kept.HELD
        with self.read() as connection:
            return self._lease.keep(connection)

    def release_lease(self) -> None:
        """Not to be the writer any more."""
        if self._lease is not None:
            self._lease.release()

    def close(self) -> None:
        """Close all connections."""
        self.release_lease()
        self.engine.dispose()

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(**{WRITES: True}) as connection, connection.begin():
            yield connection


def open_store(url: str, *, new: bool = True) -> Store:
    """Open the database at `url`: SQLite is created, where it may be a new one, and upgraded, PostgreSQL must
    have been upgraded.

    Raises StoreError for a database that is not there, not durable, or not of this version.
    """
    engine = open_engine(url, new=new)
    try:
        found = _found_revision(engine)
        if found is None and not new:
            raise StoreError(f"there is no book of a pool in the database {engine.url.database}")
        if engine.dialect.name == "sqlite" and found != NEWEST:
            found = _upgrade(engine)
        check_revision(found)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, Lease(_lock(engine)))


def upgrade(url: str) -> str | None:
    """Bring the schema at `url` to the present version, in one transaction: which one that is. Raises
    StoreError."""
    engine = open_engine(url)
    try:
        return _upgrade(engine)
    finally:
        engine.dispose()


def open_engine(url: str, *, new: bool = True) -> Engine:
    """Connections as the pool has them, whatever is in the database."""
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        _create_file(parsed, new=new)
        engine = create_engine(parsed, pool_size=CONNECTIONS_MAX, max_overflow=0)
        event.listen(engine, "connect", _or_closed(_set_up_sqlite))
    else:
        engine = create_engine(
            parsed,
            pool_size=CONNECTIONS_MAX,
            max_overflow=0,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": process_name(),
                **KEEPALIVE,
            },
        )
        event.listen(engine, "connect", _or_closed(_set_up_postgresql))
    event.listen(engine, "begin", _begin)
    return engine


@cache
def process_name() -> str:
    """What a server knows all sessions of this process by, and of no other: of its host or of another one."""
    return f"angara {os.getpid()} {secrets.token_hex(8)}"


def _parse(url: str) -> URL:
    try:
        parsed = read_url(url)
    except ValueError:
        raise StoreError("the database URL cannot be read; sqlite:///PATH and postgresql://... can") from None
    if parsed.drivername in ("postgresql", "postgres", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise StoreError(
            f"{parsed.drivername} is not a database that is supported; sqlite and postgresql are"
        )
    if sqlite3.sqlite_version_info < SQLITE_VERSION_MIN:
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 or newer is needed")
    return parsed


def _create_file(url: URL, *, new: bool) -> None:
    """An empty database, where there may be a new one, that only its owner may read; its WAL inherits the
    mode."""
    if not url.database or url.database == ":memory:" or url.query:
        raise StoreError("a SQLite database is a file: sqlite:///PATH")
    try:
        os.close(os.open(url.database, os.O_RDWR | (os.O_CREAT if new else 0) | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not new:
            raise StoreError(f"there is no database {url.database}") from None
        raise StoreError(f"the database {url.database} cannot be opened: {error.strerror}") from error


def _or_closed(set_up: Callable[[Any], None]) -> Callable[[Any, object], None]:
    """A connection that cannot be set up is nobody's: SQLAlchemy forgets it."""

    def run(connection: Any, _record: object) -> None:
        try:
            set_up(connection)
        except BaseException:
            connection.close()
            raise

    return run


def _set_up_sqlite(connection: sqlite3.Connection) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself: _begin does
    connection.text_factory = _text
    for name, value in PRAGMAS.items():
        try:
            connection.execute(f"PRAGMA {name} = {value}")
            found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        except sqlite3.Error as error:  # as the errors of statements come
            raise OperationalError(f"PRAGMA {name}", None, error) from error
        if found != value:
            raise StoreError(f"SQLite does not take {name} = {value} here: it stays at {found}")


def _text(encoded: bytes) -> str:
    """Bytes that are no text, which only a stranger's hand puts there, hide no other row and are told.

    It is asked for each text of each row: to name how errors are told takes more than twice as long.
    """
    try:
        return encoded.decode()
    except UnicodeDecodeError:
        return encoded.decode(errors="backslashreplace")


def _set_up_postgresql(connection: Any) -> None:
    import psycopg  # is there: this is one of its connections

    version = connection.info.server_version
    if version < POSTGRESQL_VERSION_MIN:
        raise StoreError(f"PostgreSQL {version // 10000} is too old, 13 or newer is needed")
    try:
        for name, durable in SETTINGS.items():
            (found,) = connection.execute(f"SHOW {name}").fetchone()
            if found not in durable:
                raise StoreError(
                    f"PostgreSQL runs with {name} = {found}: a commit would not survive a power cut"
                )
        for name, bound_ms in BOUNDS_MS.items():
            connection.execute(f"SET {name} = {bound_ms}")
        connection.commit()
    except psycopg.Error as error:  # as the errors of statements come
        raise OperationalError("SHOW", None, error) from error


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    if connection.dialect.name == "sqlite":
        _begin_sqlite(cast(sqlite3.Connection, connection.connection.driver_connection), writes)
    elif writes:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITER_LOCK})")


def _begin_sqlite(connection: sqlite3.Connection, writes: bool) -> None:
    """Past SQLAlchemy, with which these two would take longer than what most transactions ask."""
    try:
        connection.execute(f"PRAGMA query_only = {0 if writes else 1}")
        connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
    except sqlite3.Error as error:  # as the errors of statements come
        raise DBAPIError.instance("BEGIN", None, error, sqlite3.Error) from error


def _lock(engine: Engine) -> FileLock | ServerLock:
    if engine.dialect.name == "postgresql":
        return ServerLock(engine)
    return FileLock(Path(engine.url.database or ""))


def _upgrade(engine: Engine) -> str | None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    lock = _lock(engine)
    with translated(), Store(engine).write() as connection:
        if not lock.free(connection):
            raise LeaseHeld("a pool writes to the database: stop it, then it can be upgraded")
        before = revision_of(connection)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        after = revision_of(connection)
        if before not in (None, after):
            Lease(lock).fence(connection)
    if before != after:
        log.info("store_upgraded", before=before, after=after)
    return after


def _found_revision(engine: Engine) -> str | None:
    with translated(), engine.connect() as connection, connection.begin():
        return revision_of(connection)


def check_revision(found: str | None) -> None:
    """Raises StoreError where a pool does not begin with it."""
    if found != NEWEST:
        has = "is empty" if found is None else f"has schema {found}"
        raise StoreError(f"the database {has}, this Angara needs {NEWEST}: run `angara db upgrade`")


def revision_of(connection: Connection) -> str | None:
    """The schema's version; None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    versions = connection.scalars(text("SELECT version_num FROM alembic_version")).all()
    if len(versions) > 1:
        raise StoreError(f"the database has several schemas at once: {', '.join(sorted(versions))}")
    found: str | None = versions[0] if versions else None
    if found is not None and (move := move_in(found)) is not None:
        raise StoreError(words_of_move(connection, move))
    if found is not None and found not in REVISIONS:
        raise StoreError(f"the database has schema {found}, which is newer than this Angara")
    return found


@contextmanager
def translated() -> Iterator[None]:
    """What the database says, as a StoreError."""
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreError(f"the database cannot be used: {getattr(error, 'orig', None) or error}") from error
