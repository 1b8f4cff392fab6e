"""What an edge has to know of prices and orders: names, prices and machines of nobody else's.

Must not know: how an edge is told.
"""

import msgspec

from pool.books.edges.rows import EdgeRecord
from pool.books.journal.prices import KnownPrices
from pool.hub import Begin, Plan
from pool.journal.beginning import Beginning
from pool.journal.records import Rate
from pool.orders.mining import Assigned


def begin_of(begin: Begin, edge: EdgeRecord, plan: Plan) -> Begin:
    """Of what there is for everybody; `plan` is that edge's."""
    start = begin.start
    prices = _prices_of(start.prices, edge, plan, start.beginning)
    return msgspec.structs.replace(
        begin,
        assigned=assigned_of(begin.assigned, edge),
        start=msgspec.structs.replace(start, prices=prices),
    )


def assigned_of(assigned: Assigned, edge: EdgeRecord) -> Assigned:
    """Of its own machines."""
    mine = (it for it in assigned.machines if edge.has(it.tenant, it.container))
    return msgspec.structs.replace(assigned, machines=tuple(mine))


def _prices_of(known: KnownPrices, edge: EdgeRecord, plan: Plan, beginning: Beginning) -> KnownPrices:
    """Names of what its machines can be sold to, and prices of shares that it had under way itself."""
    mine = {it.epoch for it in beginning.left}
    return msgspec.structs.replace(
        known,
        upstreams={number: it for number, it in known.upstreams.items() if number in plan.upstreams},
        orders={number: it for number, it in known.orders.items() if number in plan.orders},
        left=tuple(_rate_of(it, edge) for it in known.left if it.number in mine),
    )


def _rate_of(rate: Rate, edge: EdgeRecord) -> Rate:
    paid = tuple(it for it in rate.paid if it.tenant in edge.tenants)
    return msgspec.structs.replace(rate, paid=paid)
