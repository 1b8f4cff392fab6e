"""Closing days and settlements while the pool runs: once the book's time has passed a day's end, the root of
all that was owed then is signed and written down; and so is, once an hour is settled, that of its shares.

What is signed is made outside of the transaction that writes the row, from what cannot change any more; the
row is written where nobody wrote one in between, so being killed between the two costs nothing.

Must not know: where the key is kept.
"""

from functools import partial
from typing import Final

import structlog
import trio

from payouts.proof import closings, roots
from payouts.proof.key import NoSigning, ProofKey
from payouts.proof.tree import BadTree
from pool.books.database_waits import read_books, write_books
from pool.books.signing_key import change_key
from pool.books.store import Store

log = structlog.get_logger()

KEEP_S: Final = 30.0


class DayClosing:
    """`keep` closes all days that are due."""

    def __init__(self, store: Store, key: ProofKey) -> None:
        self._store, self._key = store, key

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Nothing that cannot be signed is a reason to stop: it is said, and tried again."""
        try:
            await change_key(self._store, self._key)
            while (day := await read_books(self._store, roots.due_day)) is not None:
                root = await read_books(self._store, partial(roots.closed, key=self._key, day=day))
                if await write_books(self._store, partial(roots.note, root=root)):
                    log.info("day_closed", root=root.number, day=root.day, owed_sat=root.total_sat)
        except (BadTree, NoSigning) as error:
            log.error("day_not_closed", reason=str(error), again_in_s=KEEP_S)


class ShareClosing:
    """`keep` closes all settlements that are due, with shares of difficulty 2**from_log2 or more."""

    def __init__(self, store: Store, key: ProofKey, from_log2: int) -> None:
        self._store, self._key, self._from_log2 = store, key, from_log2

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """As of days."""
        try:
            await change_key(self._store, self._key)
            while (due := await read_books(self._store, closings.due)) is not None:
                first, last = due
                made = await read_books(
                    self._store,
                    partial(
                        closings.closed, key=self._key, first=first, last=last, from_log2=self._from_log2
                    ),
                )
                if await write_books(self._store, partial(closings.note, it=made)):
                    log.info("shares_closed", closing=made.closing.number, settlements=last - first + 1)
        except NoSigning as error:
            log.error("shares_not_closed", reason=str(error), again_in_s=KEEP_S)
