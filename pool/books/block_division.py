"""Dividing blocks while the pool runs: one that has matured, over the work that it pays.

Its window is looked up outside of the transaction that books it, from what cannot change any more; it is
booked where nobody did in between, so being killed between the two costs nothing.

Must not know: what a window is.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog
import trio
from sqlalchemy import Connection

from payouts.divisions import Division, divide, next_division
from pool.books.database_waits import read_books, write_books
from pool.books.journal.positions import booked_until_s
from pool.books.store import Store

log = structlog.get_logger()

KEEP_S: Final = 30.0  # blocks mature once in ten minutes, a hundred deep


class BlockDivision:
    """`keep` divides all blocks that are due."""

    def __init__(self, store: Store, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._store, self._wall_clock = store, wall_clock

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Each in a transaction of its own."""
        while (division := await read_books(self._store, _next)) is not None:
            booked = partial(divide, it=division, now_s=int(self._wall_clock()))
            parts = await write_books(self._store, booked)
            log.info(
                "block_divided",
                hash=division.block_hash,
                scheme=division.scheme.value,
                tenants=len(parts),
                credited_sat=sum(it.posted_sat for it in parts),
            )


def _next(connection: Connection) -> Division | None:
    return next_division(connection, booked_until_s(connection))
