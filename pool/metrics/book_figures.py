"""Figures that only the books have: read once a minute while somebody asks, in a thread of their own.

A scrape never waits for them: it gets those of last time, and how old they are. Must not know: metrics.
"""

import time
from collections import Counter
from typing import Final

import msgspec
import structlog
import trio
from sqlalchemy import Connection, func, select

from payouts.income import newest_events
from payouts.ledger import balances_sat
from payouts.sales.receivables import Receivables, receivables
from payouts.sales.standing import standings
from payouts.schemas.money import sites
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.messages.booked import waiting
from pool.orders.rows import OrderRecord, load_orders
from pool.upstreams.rows import load_upstreams

log = structlog.get_logger()

READ_S: Final = 60.0  # between two readings: a balance is a sum over all that was ever booked


class BookFigures(msgspec.Struct, frozen=True, kw_only=True):
    """As of one moment."""

    sites: dict[int, str]
    upstreams: dict[int, str]
    orders: dict[int, OrderRecord]  # that run
    blocks: dict[str, int]  # by status
    balances_sat: dict[str, int]  # by account
    waiting: dict[str, int] = {}  # for a person: payouts, proposals, by kind
    receivables: Receivables | None = None  # what buyers of orders owe


class BookReader:
    """`figures` are of `read_s` (monotonic); None before the first reading. `want` asks for others."""

    def __init__(self, store: Store) -> None:
        self.figures: BookFigures | None = None
        self.read_s = trio.current_time()
        self._store = store
        self._wanted = trio.Event()

    def want(self) -> None:
        """Somebody looks at them."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled."""
        alone = trio.CapacityLimiter(1)
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            try:
                self.figures = await trio.to_thread.run_sync(self._read, limiter=alone)
                self.read_s = trio.current_time()
            except DATABASE_ERRORS as error:  # whether the pool may go on is for its journal to say
                log.warning("figures_not_read", reason=words_of(error)[:300])
            await trio.sleep(READ_S)

    def _read(self) -> BookFigures:
        with self._store.read() as connection:
            return read_figures(connection, int(time.time()))


def read_figures(connection: Connection, now_s: int) -> BookFigures:
    """All of them."""
    events = newest_events()
    by_status = select(events.c.status, func.count()).group_by(events.c.status)
    return BookFigures(
        sites={row.id: row.name for row in connection.execute(select(sites.c.id, sites.c.name))},
        upstreams={it.id: it.name for it in load_upstreams(connection)},
        orders={it.id: it for it in load_orders(connection, now_s) if it.from_s <= now_s},
        blocks={str(row[0]): int(row[1]) for row in connection.execute(by_status)},
        balances_sat=balances_sat(connection),
        receivables=receivables(standings(connection, now_s), now_s),
        waiting=Counter(it.subject.partition("/")[0] for it in waiting(connection, now_s)),
    )
