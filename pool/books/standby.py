"""A hub that waits for another one's end, and then keeps the books.

    killed                the server drops its session, and the lease with it: at the next look
    its host is gone      its sessions say nothing: ended by us after SILENT_S
    stopped (SIGSTOP)     the same: its sessions live, and its lease with them, until we end them

Who is silent is told by the server, of all sessions of the holder's process: one that reads its journals for
minutes before it does anything else is not. No clocks of two hosts are compared. Whatever a former holder
still believes, its writes find another epoch, and are refused (`pool.books.lease`).

A SQLite has no standby: its lock is a file's, gone with the process and with nothing else.

Must not know: what is done with the lease.
"""

from collections.abc import Callable
from typing import Final

import structlog
import trio
from sqlalchemy import text

from pool.books.database_waits import passes
from pool.books.lease import LEASE_LOCK, LeaseHeld
from pool.books.store import Store, words_of

log = structlog.get_logger()

LOOK_S: Final = 1.0
# A holder looks at its lease every two seconds. With what it takes to begin, half a minute without a hub.
SILENT_S: Final = 20.0


def _nobody_told(words: str) -> None:
    pass


async def await_lease(
    store: Store, *, silent_s: float = SILENT_S, on_wait: Callable[[str], None] = _nobody_told
) -> None:
    """Be the book's writer, however long another one is; `on_wait` is told at each look who that is. Raises
    StoreError for a database of no use."""
    told = ""
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
            if ended := await trio.to_thread.run_sync(_end_silent, store, silent_s):
                log.warning("standby_ends_silent", sessions=ended, after_s=silent_s)
                continue
        except Exception as error:
            if not passes(error):
                raise
        await trio.sleep(LOOK_S)


def _end_silent(store: Store, silent_s: float) -> int:
    """End the sessions of a holder that says nothing: how many there were."""
    if store.engine.dialect.name != "postgresql":
        return 0
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return len(connection.execute(_END, {"silent_s": silent_s}).all())


_END: Final = text(
    """
    WITH sessions AS (
        SELECT it.pid, it.state, clock_timestamp() - it.state_change AS age
        FROM pg_stat_activity AS it
        JOIN (
            SELECT holder.datid, holder.application_name
            FROM pg_locks
            JOIN pg_stat_activity AS holder ON holder.pid = pg_locks.pid
            WHERE locktype = 'advisory' AND granted AND classid = :high AND objid = :low
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        ) AS lease ON it.datid = lease.datid AND it.application_name = lease.application_name
        WHERE it.pid <> pg_backend_pid()
    )
    SELECT pg_terminate_backend(pid) FROM sessions
    WHERE NOT EXISTS (
        SELECT 1 FROM sessions WHERE state = 'active' OR age < make_interval(secs => :silent_s)
    )
    """
).bindparams(high=LEASE_LOCK >> 32, low=LEASE_LOCK & 0xFFFFFFFF)
