"""The lease of a running pool: looked at all the time, and taken back where it was lost and nobody has
written since.

Must not know: who else may want it.
"""

from typing import Final

import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from pool.books.lease import Kept
from pool.books.store import Store, words_of

log = structlog.get_logger()

LEASE_CHECK_S: Final = 2.0  # a lease whose connection was cut is taken back before most others think of it


class LeaseWatch:
    """Of a store that has the lease by now. `held_s`: when it was last known to be held, monotonic;
    `books_away`: nobody answers who could say, and shares wait in the journal."""

    def __init__(self, store: Store) -> None:
        self.held_s = trio.current_time()
        self.books_away = False
        self._store = store

    async def run(self) -> None:
        """Until cancelled. Raises LeaseLost."""
        while True:
            await trio.sleep(LEASE_CHECK_S)
            try:
                kept = await trio.to_thread.run_sync(self._store.keep_lease)
            except (OSError, SQLAlchemyError) as error:  # of the lock's file, too
                if not self.books_away:
                    log.error("lease_not_known", reason=words_of(error))
                self.books_away = True
                continue
            self.books_away = False
            if kept is Kept.TAKEN_BACK:
                log.warning("lease_taken_back")
            if kept is not Kept.AWAITED:
                self.held_s = trio.current_time()
