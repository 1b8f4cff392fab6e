"""A hub that waits for another one's end, and then keeps the books.

    killed                the server drops its session, and the lease with it: at the next look
    its host is gone      its sessions say nothing: ended by us after SILENT_S
    stopped (SIGSTOP)     the same: its sessions live, and its lease with them, until we end them

Who is silent is told by the server, of all sessions of the holder's process: one that reads its journals for
minutes before it does anything else is not. For how long we see by our own clock: the server's may be set at
any moment, and no clocks of two hosts are compared. Whatever a former holder still believes, its writes find
another epoch, and are refused (`pool.books.lease`).

A SQLite has no standby: its lock is a file's, gone with the process and with nothing else.

Must not know: what is done with the lease.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
import trio
from sqlalchemy import func, select, text

from pool.books.database_waits import passes
from pool.books.lease import LEASE_LOCK, LeaseHeld
from pool.books.store import Store, words_of

log = structlog.get_logger()

LOOK_S: Final = 1.0
# A holder looks at its lease every two seconds. With what it takes to begin, half a minute without a hub.
SILENT_S: Final = 20.0
# By their numbers: what each does, and since when, by the server's clock.
Sessions = tuple[tuple[int, str | None, datetime | None], ...]


def _nobody_told(words: str) -> None:
    pass


async def await_lease(
    store: Store, *, silent_s: float = SILENT_S, on_wait: Callable[[str], None] = _nobody_told
) -> None:
    """Be the book's writer, however long another one is; `on_wait` is told at each look who that is. Raises
    StoreError for a database of no use."""
    told = ""
    sessions: Sessions = ()  # of the holder, as they are since then
    since_s = trio.current_time()
    while True:
        try:
            await trio.to_thread.run_sync(store.acquire_lease)
            return
        except LeaseHeld as error:
            words = str(error)
        except Exception as error:
            if not passes(error):
                raise
            words = words_of(error)
        if words != told:
            log.info("standby", reason=words[:300])
            told = words
        on_wait(words)
        try:
            found = await trio.to_thread.run_sync(_sessions, store)
            if found != sessions:
                sessions, since_s = found, trio.current_time()
            elif _idle(found) and trio.current_time() - since_s >= silent_s:
                await trio.to_thread.run_sync(_end, store, found)
                log.warning("standby_ends_silent", sessions=len(found), after_s=silent_s)
                continue
        except Exception as error:
            if not passes(error):
                raise
        await trio.sleep(LOOK_S)


def _idle(sessions: Sessions) -> bool:
    """Whether there are any, and nothing is done in them."""
    return bool(sessions) and all(state != "active" for _, state, _ in sessions)


def _sessions(store: Store) -> Sessions:
    """Of the holder's process."""
    if store.engine.dialect.name != "postgresql":
        return ()
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return tuple((it.pid, it.state, it.state_change) for it in connection.execute(_SESSIONS))


def _end(store: Store, sessions: Sessions) -> None:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for number, _, _ in sessions:
            connection.execute(select(func.pg_terminate_backend(number)))


_SESSIONS: Final = text(
    """
    SELECT it.pid, it.state, it.state_change
    FROM pg_stat_activity AS it
    JOIN (
        SELECT holder.datid, holder.application_name
        FROM pg_locks
        JOIN pg_stat_activity AS holder ON holder.pid = pg_locks.pid
        WHERE locktype = 'advisory' AND granted AND classid = :high AND objid = :low
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    ) AS lease ON it.datid = lease.datid AND it.application_name = lease.application_name
    WHERE it.pid <> pg_backend_pid()
    ORDER BY it.pid
    """
).bindparams(high=LEASE_LOCK >> 32, low=LEASE_LOCK & 0xFFFFFFFF)
