"""Closing hours of orders while the pool runs: once nothing is booked in an hour any more, each order of it
has its receipt, signed where there is a key.

What was sold of an hour, and what of it was delivered, is known when the books have passed its end: they wait
for sites that are late, and what comes later still is booked in a later hour. Receipts are made outside of
the transaction that writes them, and written where nobody wrote one in between, so being killed costs nothing
but time.

Must not know: where the key is kept, and what follows from a receipt.
"""

from functools import partial
from typing import Final

import structlog
import trio
from sqlalchemy import Connection

from payouts.proof.key import NoSigning, ProofKey
from payouts.receipts.hours import HOUR_S
from payouts.receipts.rows import due_orders, made, note
from pool.books.database_waits import read_books, write_books
from pool.books.journal.positions import booked_until_s
from pool.books.signing_key import change_key
from pool.books.store import Store

log = structlog.get_logger()

KEEP_S: Final = 30.0


class ReceiptClosing:
    """`keep` closes all hours that are over."""

    def __init__(self, store: Store, key: ProofKey | None) -> None:
        self._store, self._key = store, key
        self._looked_at: int | None = None  # the first hour that was not over when all were looked at again

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Nothing that cannot be signed is a reason to stop: it is said, and tried again."""
        try:
            await self._close()
        except NoSigning as error:
            log.error("hour_not_closed", reason=str(error), again_in_s=KEEP_S)

    async def _close(self) -> None:
        if self._key is not None:
            await change_key(self._store, self._key)
        until_hour = await read_books(self._store, until)
        again = until_hour != self._looked_at
        for order_id in await read_books(
            self._store, partial(due_orders, until_hour=until_hour, again=again)
        ):
            while new := await read_books(
                self._store, partial(made, order_id=order_id, until_hour=until_hour, key=self._key)
            ):
                if not await write_books(self._store, partial(note, order_id=order_id, new=new)):
                    return
                log.info("hours_closed", order=new[0].order, receipts=len(new), newest=new[-1].number)
        self._looked_at = until_hour


def until(connection: Connection) -> int:
    """The first hour, since 1970, that something may still be booked in."""
    return booked_until_s(connection) // HOUR_S
