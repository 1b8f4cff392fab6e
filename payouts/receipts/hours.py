"""What the books have of an order's hours, as counts: what was delivered, and what its upstream said of
what it was sent.

A share is of the hour in which its verdict was booked; of one that waited for its upstream at the hour's end
that is the next. Reads only. Must not know: prices, and which hours are over.
"""

from collections import Counter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from payouts.schemas.money import rate_hours, rates
from payouts.schemas.orders import order_hours, order_terms, orders, upstream_hours

HOUR_S: Final = 3_600
# Of shares, by ("delivered" or "undelivered", 2's exponent of their difficulty), ("accepted" or "unanswered",
# target) and ("rejected", target, reason); and of seconds ("away",) in which nobody could reach the upstream.
Counts = Counter[tuple[str, ...]]
# Of the accepted shares, what went to the buyer: not what is credited at the pool's own risk.
TAKEN: Final = (rate_hours.c.shares - rate_hours.c.undelivered).label("taken")


def end_s(order: Row[Any]) -> int:
    """When an order is over, or was ended."""
    return int(order.until_s if order.ended_at_s is None else min(order.ended_at_s, order.until_s))


def ends_at_last() -> ColumnElement[int]:
    """When an order that is not ended delivers nothing any more, whatever it owes as work."""
    of = order_terms.c
    hours = select(of.extension_h).where(of.order_id == orders.c.id).correlate(orders)
    return orders.c.until_s + HOUR_S * func.coalesce(hours.scalar_subquery(), 0)


def of_order(columns: tuple[Any, ...], order_id: int) -> Select[Any]:
    """Accepted shares of the order's rates."""
    return (
        select(*columns)
        .select_from(rate_hours)
        .join(rates, rates.c.id == rate_hours.c.rate_id)
        .where(rates.c.order_id == order_id)
    )


def counted_hours(connection: Connection, order_id: int, first: int, end: int) -> dict[int, Counts]:
    """By hour since 1970, from the first until before the end: those that have anything."""
    found: dict[int, Counts] = {}
    noted = order_hours.c
    mine = (noted.order_id == order_id) & (noted.hour >= first) & (noted.hour < end)
    for hour, away in connection.execute(select(noted.hour, noted.minutes_away).where(mine)):
        found[hour] = Counter({("away",): 60 * away})
    at, log2 = rate_hours.c.hour, rate_hours.c.difficulty_log2
    shares = of_order((at, log2, func.sum(TAKEN), func.sum(rate_hours.c.undelivered)), order_id)
    within = shares.where(at >= first, at < end).group_by(at, log2)
    for hour, exponent, taken, undelivered in connection.execute(within):
        counts = found.setdefault(hour, Counter())
        counts["delivered", str(exponent)] = int(taken)
        counts["undelivered", str(exponent)] = int(undelivered)
    said = upstream_hours.c
    key = (said.hour, said.target, said.verdict, said.reason)
    of = (said.order_id == order_id) & (said.hour >= first) & (said.hour < end)
    for hour, target, verdict, reason, count in connection.execute(
        select(*key, func.sum(said.shares)).where(of).group_by(*key)
    ):
        what = (verdict, target, reason) if verdict == "rejected" else (verdict, target)
        found.setdefault(hour, Counter())[what] = int(count)
    return {hour: +counts for hour, counts in sorted(found.items())}
