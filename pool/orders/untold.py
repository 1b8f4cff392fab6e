"""Which edges at other sites may have worked for an order and not told: while one may, what is left of the
deposit of a prepaid order is not given back, since what it tells then is charged to it.

An edge has told all until a moment when the books have a record of its journal of an hour behind it, for they
take a journal in its order; or, of one that has nothing to do, when it has said that nothing more is of
before that moment, and all that it has is booked.

Reads only. Must not know: what was paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, select

from payouts.ledger import LedgerError
from payouts.sales.charges import HOUR_S
from payouts.sales.terms import billing_of, ends_s
from payouts.schemas.money import containers, tenants
from payouts.schemas.orders import order_suppliers, orders
from pool.books.edges.rows import EdgePlace, EdgeRecord, began_at_s, load_edges
from pool.books.journal.positions import booked_until_s
from pool.books.journal.schema import journal_hours
from pool.orders.rows import PREPAID_TOLD_H

if TYPE_CHECKING:  # what only a running pool has
    from pool.books.edges.remote_edge import Standing

# A site serves on alone for a week, and needs a day for what has gathered (pool.books.edges.prices): one that
# is away for longer may never be back, and a buyer's money is not held for ever. What it brings then he owes.
UNTOLD_S: Final = 8 * 86_400


def check_told(connection: Connection, order_id: int, standing: Mapping[str, Standing], now_s: int) -> None:
    """Of a prepaid order that is over; `standing`: how edges stand where a pool runs. Raises LedgerError."""
    order = connection.execute(select(orders).where(orders.c.id == order_id)).one()
    terms, end_s = billing_of(connection).get(order_id), _works_until_s(order)
    if terms is None or not terms.prepaid or now_s >= end_s + UNTOLD_S:
        return
    if booked_until_s(connection) < ends_s(order):
        raise LedgerError(f"order {order_id} is prepaid, and the books have not come to its end yet")
    if names := untold(connection, order_id, end_s, standing):
        raise LedgerError(
            f"order {order_id} is prepaid, and edge {', '.join(names)} may have worked for it and"
            " has not told all until its end (`angara edge list`): what is left is given back when"
            f" that is booked, or the edge is retired, or {UNTOLD_S // 86_400} days after the end"
        )


def untold(
    connection: Connection, order_id: int, end_s: int, standing: Mapping[str, Standing]
) -> tuple[str, ...]:
    """Edges that may have worked for the order, and have not told all until its end; by name."""
    supplied = [
        EdgePlace(tenant, container or "")
        for tenant, container in connection.execute(
            select(tenants.c.name, containers.c.name)
            .join(order_suppliers, order_suppliers.c.tenant_id == tenants.c.id)
            .outerjoin(containers, containers.c.id == order_suppliers.c.container_id)
            .where(order_suppliers.c.order_id == order_id)
        )
    ]
    return tuple(
        it.name
        for it in load_edges(connection)
        if it.retired_at_s is None
        and any(_share_machines(place, of) for place in it.places for of in supplied)
        and not _has_told(connection, it, end_s, standing.get(it.name))
    )


def _works_until_s(order: Row[Any]) -> int:
    """Of one that was ended, who is cut off goes on for as long as it was told that is paid."""
    return int(min(order.until_s, (ends_s(order) // HOUR_S + PREPAID_TOLD_H) * HOUR_S))


def _share_machines(one: EdgePlace, other: EdgePlace) -> bool:
    both = {one.container, other.container} - {""}
    return one.tenant == other.tenant and len(both) <= 1


def _has_told(connection: Connection, edge: EdgeRecord, end_s: int, stands: Standing | None) -> bool:
    if edge.writer is None or began_at_s(connection, edge.writer) >= end_s:
        return True  # what a journal of before has not told never comes
    of = journal_hours.c
    later = (of.writer == edge.writer) & (of.hour >= -(-end_s // HOUR_S))
    if connection.scalar(select(of.hour).where(later).limit(1)) is not None:
        return True
    return (
        stands is not None
        and stands.held is None
        and stands.moment_s >= end_s
        and stands.booked >= stands.have
    )
