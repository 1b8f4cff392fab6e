"""The lease on a book: one process writes to it for long, and whoever else writes must find nobody there.

    SQLite      a lock (flock) on the file <database>.lock, gone with the process
    PostgreSQL  an advisory lock of a session of its own, gone with the session

A pool holds the lease from its start to its stop. A command writes as a visitor: only while nobody holds it,
or as a guest of the pool that does, which told it its epoch.

The lock is for refusing early and in words. What counts is the epoch in the book: every new writer counts it
up, and every writing transaction looks at it first. So a lock that was lost unnoticed (a connection cut, a
file deleted) lets nobody write beside another: the former holder finds another epoch, and stops.

Who begins to write for long counts up to the second of his clock at least: edges at other sites believe no
writer of before one that they have heard of, and a book that was put back from a copy knows of fewer.

Must not know: what is written.
"""

import enum
import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, select, text, update
from sqlalchemy.exc import SQLAlchemyError

from payouts.schemas.book import book
from pool.store_error import StoreError

LEASE_LOCK: Final = 0x616E676C65617365  # "anglease": PostgreSQL's number of it
# A command's write takes milliseconds; a pool that starts meanwhile waits for it.
TAKE_WAIT_S: Final = 2.0
TAKE_AGAIN_S: Final = 0.05
# A host that died must not keep its lease for the two hours of TCP's own: gone after half a minute.
KEEPALIVE: Final = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}


class LeaseHeld(StoreError):
    """Somebody else writes to the book; the text says who."""


class LeaseLost(StoreError):
    """Somebody else has written to the book since we took it: what we know of it may be wrong."""


class Kept(enum.Enum):
    """What a look at the lease has found."""

    HELD = "held"
    TAKEN_BACK = "taken back"  # it was lost, and nobody has written since
    AWAITED = "awaited"  # the lock is another's, or not yet free again of ours that was cut off


class Lock(Protocol):
    """What one process has at a time."""

    def acquire(self) -> bool:
        """Have it until `release`; False where somebody else has it."""

    def held(self) -> bool:
        """Whether we still have it."""

    def free(self, connection: Connection) -> bool:
        """Whether nobody has it, as a writing transaction sees it; whoever takes it now writes after that."""

    def release(self) -> None:
        """Have it no more; nothing where we have not."""


class FileLock:
    """Of a SQLite database: beside it, because whoever closes the file itself drops SQLite's own locks."""

    def __init__(self, database: Path) -> None:
        self._path = Path(f"{database.resolve()}.lock")
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return False
            raise StoreError(f"{self._path} cannot be locked: {error.strerror}") from error
        self._descriptor = descriptor
        return True

    def held(self) -> bool:
        if self._descriptor is None:
            return False
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            there = None
        ours = os.fstat(self._descriptor)
        if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return True
        self.release()  # somebody removed the file: others would lock another one
        return False

    def free(self, connection: Connection) -> bool:
        found = FileLock(self._path.with_suffix(""))
        if not found.acquire():
            return False
        found.release()
        return True

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


# Asked of pg_locks, not only whether the session answers: behind a pooler it may be another one by now. And
# only looked at: a visitor that took it for its transaction would refuse the next visitor, because a commit
# lets go of the writers' turn and of this lock one after the other, in no order that is promised.
_HOLDERS: Final = text(
    "SELECT count(*) AS anybody, count(*) FILTER (WHERE pid = pg_backend_pid()) AS we FROM pg_locks"
    " WHERE locktype = 'advisory' AND granted"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid = :high AND objid = :low"
).bindparams(high=LEASE_LOCK >> 32, low=LEASE_LOCK & 0xFFFFFFFF)


class ServerLock:
    """Of a PostgreSQL database: of a session that does nothing else."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._session: Connection | None = None

    def acquire(self) -> bool:
        session = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        session.detach()  # not one of those that transactions take turns with
        try:
            for name, value in KEEPALIVE.items():
                session.exec_driver_sql(f"SET {name} = {value}")
            taken = session.exec_driver_sql(f"SELECT pg_try_advisory_lock({LEASE_LOCK})").scalar()
        except BaseException:
            _close(session)
            raise
        if not taken:
            _close(session)
            return False
        self._session = session
        return True

    def held(self) -> bool:
        if self._session is None:
            return False
        try:
            if self._session.execute(_HOLDERS).one().we == 1:
                return True
        except SQLAlchemyError:
            pass
        self.release()
        return False

    def free(self, connection: Connection) -> bool:
        return bool(connection.execute(_HOLDERS).one().anybody == 0)

    def release(self) -> None:
        if self._session is not None:
            # Said, and not left to the end of the session, which the server may notice later.
            with suppress(SQLAlchemyError):
                self._session.exec_driver_sql(f"SELECT pg_advisory_unlock({LEASE_LOCK})")
            _close(self._session)
            self._session = None


class Lease:
    """A store's right to write: none yet, its own, or the guest's of the pool that has it."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._epoch: int | None = None

    @property
    def epoch(self) -> int | None:
        """Of the holder, for its guests; None while we are a visitor."""
        return self._epoch

    def admit(self, connection: Connection) -> None:
        """That this transaction, the only writing one, may write. Raises LeaseHeld, LeaseLost."""
        found = connection.execute(select(book.c.lease_epoch, book.c.lease_holder)).one()
        if self._epoch is not None:
            if found.lease_epoch != self._epoch:
                raise LeaseLost(f"{found.lease_holder} has written to the database meanwhile")
        elif self._lock.free(connection):
            self._count_up(connection, found.lease_epoch, f"process {os.getpid()} on {socket.gethostname()}")
        else:
            raise LeaseHeld(_held_by(found.lease_holder))

    def lock(self) -> None:
        """Have the lock, once whoever is just writing is done. Raises LeaseHeld without a name."""
        give_up_s = time.monotonic() + TAKE_WAIT_S
        while not self._lock.acquire():
            if time.monotonic() >= give_up_s:
                raise LeaseHeld
            time.sleep(TAKE_AGAIN_S)

    def acquire(self, connection: Connection) -> None:
        """With the lock, in a writing transaction: write from now on."""
        epoch = connection.execute(select(book.c.lease_epoch)).scalar_one()
        who = f"the pool that is process {os.getpid()} on {socket.gethostname()}"
        self._epoch = self._count_up(connection, max(epoch, int(time.time()) - 1), who)

    def fence(self, connection: Connection) -> None:
        """Whoever had the lease, and has not noticed that it is lost, writes no more: the book is of another
        version from here on."""
        epoch = connection.execute(select(book.c.lease_epoch)).scalar_one()
        self._count_up(connection, epoch, f"an upgrade by process {os.getpid()} on {socket.gethostname()}")

    def borrow(self, epoch: int) -> None:
        """Write beside the pool that has the lease and told us its epoch."""
        self._epoch = epoch

    def keep(self, connection: Connection) -> Kept:
        """Take the lock back where it was lost and nobody wrote since. Raises LeaseLost.

        Our own session that was cut off may hold it until the server notices: then it is tried again at the
        next look. Whoever else has it counts the epoch up before he writes.
        """
        if self._lock.held():
            return Kept.HELD
        found = connection.execute(select(book.c.lease_epoch, book.c.lease_holder)).one()
        if found.lease_epoch != self._epoch:
            raise LeaseLost(f"the lease on the database was lost to {found.lease_holder or 'somebody else'}")
        return Kept.TAKEN_BACK if self._lock.acquire() else Kept.AWAITED

    def release(self) -> None:
        """Write no more, or as a visitor."""
        self._lock.release()
        self._epoch = None

    def _count_up(self, connection: Connection, before: int, who: str) -> int:
        connection.execute(update(book).values(lease_epoch=before + 1, lease_holder=who))
        return before + 1


def held_by(connection: Connection) -> str:
    """Words for whom the book's writer is."""
    return _held_by(connection.scalar(select(book.c.lease_holder)))


def _held_by(holder: str | None) -> str:
    return f"{holder or 'another process'} writes to the database: stop it, or give the command where it runs"


def _close(session: Connection) -> None:
    with suppress(SQLAlchemyError):  # it may be gone already
        session.close()
