"""What orders were given within a day, by the books: accepted work of their rates, up to where the books are.

Reads only. Must not know: what follows from it.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET
from sqlalchemy import Connection, func, select

from payouts.rates import DIFF1, HASHES_PER_DIFFICULTY
from payouts.receipts.receipt import WORK_PER_HASH
from payouts.receipts.rows import all_terms, receipts
from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import order_hours, upstream_hours
from pool.books.journal.positions import booked_until_s
from pool.books.store import Store
from pool.orders.rows import OrderRecord

# What an order missed is made good within a day, or stays in its report as missing.
CARRIED_S = 86_400
HOUR_S = 3_600


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """Of one order: hashes since `from_s`, which is a full hour or when it began, until `until_s`. What its
    upstream was sent and did not take was given: whoever rejects it is not sent it once more."""

    from_s: int
    until_s: int
    hashes: float


def read_delivered(store: Store, orders: Sequence[OrderRecord], now_s: int) -> dict[int, Delivered]:
    """Raises DATABASE_ERRORS."""
    with store.read() as connection:
        return delivered(connection, orders, now_s)


def delivered(connection: Connection, orders: Sequence[OrderRecord], now_s: int) -> dict[int, Delivered]:
    """By number, of those that had begun by where the books are. One that makes good what is missing is not
    given once more what it was made good, nor what its buyer was not there for."""
    until_s = min(booked_until_s(connection), now_s)
    first = (now_s - CARRIED_S) // HOUR_S
    begun = {it.id: max(it.from_s, first * HOUR_S) for it in orders if it.from_s < until_s}
    sold = {it.id: it.hashrate_hps for it in orders}
    work, shares_of = dict.fromkeys(begun, 0.0), dict.fromkeys(begun, 0)
    taken = func.sum(rate_hours.c.shares - rate_hours.c.undelivered)
    of = (rates.c.order_id, rate_hours.c.difficulty_log2)
    query = (
        select(*of, taken)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(rates.c.order_id.in_(begun), rate_hours.c.hour >= first)
        .group_by(*of)
    )
    for order_id, log2, shares in connection.execute(query):
        work[order_id] += float(int(shares) * 2.0**log2)
        shares_of[order_id] += int(shares)
    refused = (
        select(upstream_hours.c.order_id, upstream_hours.c.target, func.sum(upstream_hours.c.shares))
        .where(
            upstream_hours.c.order_id.in_(begun),
            upstream_hours.c.hour >= first,
            upstream_hours.c.verdict != "accepted",
        )
        .group_by(upstream_hours.c.order_id, upstream_hours.c.target)
    )
    for order_id, target, shares in connection.execute(refused).all():
        # As difficult as others of the order, or as its upstream asks where that is less.
        asked = DIFF1 / max(int(target, 16), 1)
        usual = work[order_id] / shares_of[order_id] if shares_of[order_id] else asked
        work[order_id] += int(shares) * min(asked, usual)
    for order_id in all_terms(connection).keys() & begun.keys():
        work[order_id] += _owed_no_more(connection, order_id, sold[order_id], first) / HASHES_PER_DIFFICULTY
    return {
        it: Delivered(from_s=from_s, until_s=until_s, hashes=work[it] * HASHES_PER_DIFFICULTY)
        for it, from_s in begun.items()
        if from_s < until_s
    }


def _owed_no_more(connection: Connection, order_id: int, hashrate_hps: int, first: int) -> float:
    """Hashes since that hour that are not billed, or were made good."""
    of = order_hours.c
    mine = (of.order_id == order_id) & (of.hour >= first)
    away = int(connection.scalar(select(func.sum(of.minutes_away)).where(mine)) or 0)
    told = receipts(connection, order_id, hours=(first, first + CARRIED_S // HOUR_S + 1))
    granted = sum(int(it.made_good.granted) for it in told if it.made_good is not UNSET)
    return away * 60.0 * hashrate_hps + granted / WORK_PER_HASH
