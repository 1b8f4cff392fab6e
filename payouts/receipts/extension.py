"""What orders owe as work at this moment: after their end, and shortly before it, when it can be foreseen.

Receipts say it by the hour, when the books have passed it. Until then it is what the next receipts would say
if nothing came any more, less what the books have of the hours after them.

Reads only. Must not know: who delivers it.
"""

from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from payouts.proof.roots import binding
from payouts.rates import HPS_PER_THS
from payouts.receipts.hours import HOUR_S, counted_hours, ends_at_last
from payouts.receipts.receipt import WORK_PER_HASH, owed_work, refused_work, sold_work, work_of
from payouts.receipts.rows import hour_of, last_receipt, made, sale_of
from payouts.schemas.orders import order_terms, orders, upstreams

# So long before its end it is looked at what an order will owe: its machines need not go home in between.
AHEAD_S: Final = HOUR_S


class Extension(msgspec.Struct, frozen=True, kw_only=True):
    """What an order owes as work, in 1/65,535 of a hash; when that is delivered at the hashrate that was
    sold, or its terms have it that no more is."""

    owed_work: int
    until_s: int


def extensions(connection: Connection, now_s: int, booked_until_s: int) -> dict[int, Extension]:
    """By order, of those that go on past their end for it. The books have everything up to a moment."""
    if binding(connection) is None:
        return {}
    near = select(orders, order_terms.c.extension_h, upstreams.c.name.label("upstream"))
    near = near.join(order_terms, order_terms.c.order_id == orders.c.id)
    near = near.join(upstreams, upstreams.c.id == orders.c.upstream_id)
    of = orders.c
    asked = near.where(
        order_terms.c.extension_h.is_not(None),
        of.ended_at_s.is_(None),
        of.until_s <= now_s + AHEAD_S,
        ends_at_last() > now_s,
    )
    found = {}
    for order in connection.execute(asked).all():
        owed = _owed(connection, order, now_s)
        # At the rate that was sold from where the books are: what they do not have yet is on its way.
        done_s = booked_until_s + -(-owed // (order.hashrate_ths * HPS_PER_THS * WORK_PER_HASH))
        until_s = min(done_s, order.until_s + order.extension_h * HOUR_S)
        if owed and until_s > max(now_s, order.until_s):
            found[order.id] = Extension(owed_work=owed, until_s=until_s)
    return found


def _owed(connection: Connection, order: Row[Any], now_s: int) -> int:
    """As if nothing came any more of the hours that it was sold."""
    ends = -(-order.until_s // HOUR_S)
    last = last_receipt(connection, order.id)
    if last is None or hour_of(last) < ends - 1:
        ahead = made(connection, order.id, ends, None)
        if not ahead or hour_of(ahead[-1]) < ends - 1:
            return 0  # the books are days behind: nobody knows
        last = ahead[-1]
    sale, taken = sale_of(connection, order), 0
    for counts in counted_hours(connection, order.id, hour_of(last) + 1, now_s // HOUR_S + 1).values():
        taken += work_of(counts) + refused_work(counts) + sold_work(sale.terms, counts["away",])
    return max(owed_work(last) - taken, 0)
