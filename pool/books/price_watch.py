"""Whether our own work was priced by the difficulty that our nodes have for its height: told where not.

Who mines our own work is priced by a template of one of our nodes, at once. It may have lied, or have been on
another chain than the others. What was mined by it is in the journal by then, and its work was done: to stop
would let that node stop all miners. So it is an error in the log, with the number of the price, and a person
judges. What edges say is looked at before it is booked (`pool.books.edges.prices`).

Must not know: who mines, and what it is paid.
"""

from functools import partial
from typing import Final

import structlog
import trio
from sqlalchemy import Connection, func, select

from pool.books.database_waits import read_books
from pool.books.journal.schema import rate_epochs
from pool.books.store import Store
from pool.chain.difficulties import Difficulties

log = structlog.get_logger()

LOOK_S: Final = 60.0  # prices come into the books once a minute
ROWS_MAX: Final = 1_000  # in memory at a time


class PriceWatch:
    """From the newest price of now on."""

    def __init__(self, store: Store, difficulties: Difficulties) -> None:
        self._store, self._difficulties = store, difficulties
        self._looked_at: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        """At what has come; what the nodes have not said is looked at the next time."""
        if self._looked_at is None:
            self._looked_at = await read_books(self._store, _newest) - 1
        for epoch, height, nbits in await read_books(self._store, partial(_behind, number=self._looked_at)):
            offered = self._difficulties.of(height, nbits)
            if offered is None:
                return
            if offered.nbits is not None and nbits not in offered.nbits:
                log.error(
                    "price_is_wrong",
                    epoch=epoch,
                    height=height,
                    nbits=f"{nbits:08x}",
                    of_our_nodes=[f"{it:08x}" for it in sorted(offered.nbits)],
                )
            self._looked_at = epoch


def _newest(connection: Connection) -> int:
    return int(connection.scalar(select(func.max(rate_epochs.c.epoch))) or 0)


def _behind(connection: Connection, number: int) -> list[tuple[int, int, int]]:
    rows = select(rate_epochs.c.epoch, rate_epochs.c.height, rate_epochs.c.nbits)
    behind = rows.where(rate_epochs.c.epoch > number).order_by(rate_epochs.c.epoch).limit(ROWS_MAX)
    return [(it.epoch, it.height, it.nbits) for it in connection.execute(behind)]
