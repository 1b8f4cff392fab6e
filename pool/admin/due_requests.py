"""What a running pool does with requests by itself: whatever everybody has agreed to, when its time has come.

Also what a pool before this one was about to do when it ended: nothing is remembered but rows.
Must not know: what is carried out, and how.
"""

import os
from typing import Final

import structlog
import trio

from pool.admin.commands import REQUESTS
from pool.admin.desk import Desk
from pool.admin.operators import operator_of
from pool.books.store import DATABASE_ERRORS, words_of
from pool.people.roles import host_account

log = structlog.get_logger()

DUE_S: Final = 30.0  # between two looks: time locks are hours
START: Final = "start"  # where the policy of the settings comes from, in the record of changes
POOL: Final = "pool"  # where a change is carried out that nobody asked for at that moment


class DueRequests:
    """Of one pool's desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await trio.to_thread.run_sync(self._carry_out)
            except DATABASE_ERRORS as error:
                log.error("requests_wait", reason=words_of(error)[:300])
            except Exception:  # a mistake of ours in one change must not cost miners their work
                log.exception("requests_wait")
            await trio.sleep(DUE_S)

    def _carry_out(self) -> None:
        REQUESTS.carry_out_due(self._desk, host_account(operator_of(os.geteuid()), POOL))
