"""What buyers owe as the books keep it while the pool runs: invoices that are due, and who does not pay.

Charges are booked with the settlements that they follow from (`pool.books.bookkeeper`). An invoice is one
short transaction and made at most once whenever it is tried, so being killed between any two costs nothing
but time. Nothing is written where nothing is due: that is read first.

Must not know: how machines are moved, and who is told.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
import structlog
import trio
from sqlalchemy import Connection, select

from payouts.sales.invoices import Due, due_invoices, issue
from payouts.sales.prepaid import covers
from payouts.sales.standing import overdue_standings
from payouts.schemas.orders import orders
from pool.books.database_waits import read_books, write_books
from pool.books.journal.positions import booked_until_s
from pool.books.store import Store

log = structlog.get_logger()

# A buyer has days. What is read is what was charged since the last invoices, and the sums of all there are.
KEEP_S: Final = 60.0
LOW_S: Final = 86_400  # a payment on the chain takes an hour, and one by wire a day


class Unpaid(msgspec.Struct, frozen=True, kw_only=True):
    """An order whose invoices are overdue."""

    order: str
    invoices: int
    sat: int
    since_s: int  # the oldest was due
    stopped: bool


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A prepaid order whose deposit covers less than a day more, or no hour more."""

    order: str
    left_sat: int  # below zero: so much is missing for an hour
    until_s: int
    stopped: bool


class SalesBooks:
    """`keep` does all that is due."""

    def __init__(self, store: Store, *, wall_clock: Callable[[], float]) -> None:
        self._store, self._wall_clock = store, wall_clock
        self.unpaid: tuple[Unpaid, ...] | None = None  # None: nobody has looked yet
        self.running_out: tuple[Running, ...] | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.keep()
            await trio.sleep(KEEP_S)

    async def keep(self) -> None:
        """Make the invoices that are due, and look who does not pay."""
        for due in await read_books(self._store, _due):
            making = partial(_issue, order_id=due.order_id, now_s=self._now_s())
            number = await write_books(self._store, making)
            if number is not None:
                log.info("invoice_made", invoice=number, order_id=due.order_id, sat=due.amount_sat)
        self.unpaid = await read_books(self._store, partial(_unpaid, now_s=self._now_s()))
        self.running_out = await read_books(self._store, partial(_running_out, now_s=self._now_s()))

    def _now_s(self) -> int:
        return int(self._wall_clock())


def _due(connection: Connection) -> tuple[Due, ...]:
    return due_invoices(connection, booked_until_s(connection))


def _issue(connection: Connection, order_id: int, now_s: int) -> int | None:
    return issue(connection, order_id, booked_until_s(connection), now_s)


def _running_out(connection: Connection, now_s: int) -> tuple[Running, ...]:
    found = covers(connection, now_s, booked_until_s(connection))
    rows = connection.execute(select(orders).where(orders.c.id.in_(found)).order_by(orders.c.id))
    return tuple(
        Running(order=row.name, left_sat=it.left_sat, until_s=it.until_s, stopped=not it.covers)
        for row in rows
        if (it := found[row.id]).until_s < min(now_s + LOW_S, row.until_s)
    )


def _unpaid(connection: Connection, now_s: int) -> tuple[Unpaid, ...]:
    late = overdue_standings(connection, now_s)
    names = {}
    if late:
        names = {row.id: row.name for row in connection.execute(select(orders.c.id, orders.c.name))}
    return tuple(
        Unpaid(
            order=names[it.order_id],
            invoices=len(it.overdue),
            sat=sum(invoice.unpaid_sat for invoice in it.overdue),
            since_s=min(invoice.due_at_s for invoice in it.overdue),
            stopped=it.stopped,
        )
        for it in late
    )
