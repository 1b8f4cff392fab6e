"""What the tenants of an edge's prices are paid by: terms that they had then, or that it had not heard to be
over.

A site that is alone goes on by those of before, for a week. Of the pool's own work nobody does who was told
that they are over (`pool.books.edges.told`): he would have his shares paid by the ones and his blocks divided
by the others.

Reads only. Must not know: what the chain says.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.ratebook import WorkSource
from payouts.rates import OrderCredit, Scheme, UpstreamRisk
from payouts.schemas.money import rates, tenant_terms, tenants
from payouts.schemas.orders import order_suppliers, order_terms, orders
from pool.books.edges.told import Told
from pool.books.journal.rate_epochs import paid_for
from pool.books.journal.rate_rows import work_price
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.books.store import StoreError
from pool.fleet.registry import TenantRecord
from pool.journal.records import Paid, Rate

# A node that has stood for a day has its site work at the price of before; and the times that miners write
# into blocks are two hours off at most. Who would gain by it gains a day of two weeks, and is told of.
LATE_S: Final = 24 * 3600
# A site that is alone serves on for a week, by the terms that it heard last; and clocks differ.
# So old may be, too, what was on its way to an upstream when a process died that begins again.
ALONE_S: Final = 8 * 86_400


class Terms(msgspec.Struct, frozen=True):
    """What a tenant had until then; None: it has."""

    tenant: TenantRecord
    until_s: int | None


def all_terms(connection: Connection) -> dict[str, list[Terms]]:
    """All there were of each, the oldest first. An upstream that pays a tenant always did: whose its account
    is never changes."""
    rows = connection.execute(
        select(tenant_terms, tenants.c.name)
        .join(tenants, tenants.c.id == tenant_terms.c.tenant_id)
        .order_by(tenant_terms.c.id)
    ).all()
    paying: dict[int, set[int]] = {}
    for row in rows:
        if row.scheme == Scheme.PROXY and row.upstream_id is not None:
            paying.setdefault(row.tenant_id, set()).add(row.upstream_id)
    found: dict[str, list[Terms]] = {}
    for row in rows:
        before = found.setdefault(row.name, [])
        if before:
            before[-1] = Terms(before[-1].tenant, row.changed_at_s)
        record = TenantRecord(
            id=row.tenant_id,
            name=row.name,
            active=True,
            scheme=Scheme(row.scheme),
            fee_bps=row.fee_bps,
            terms_at_s=row.changed_at_s,
            upstream_id=row.upstream_id,
            order_credit=OrderCredit(row.order_credit),
            upstream_risk=UpstreamRisk(row.upstream_risk),
            proxied=frozenset(paying.get(row.tenant_id, ())),
        )
        before.append(Terms(record, None))
    return found


def check_terms(
    connection: Connection,
    rate: Rate,
    terms: Mapping[str, list[Terms]],
    users: set[str],
    used_s: int | None,
) -> None:
    """What each tenant is paid by at that price; `users` are those of shares. Raises StoreError."""
    source = work_price(connection, rate, None).source
    sold_sat = None
    if source.order_id is not None:
        sold_sat = _check_order(connection, rate, source.order_id, users, used_s)
    for paid in rate.paid:
        at_s = used_s if used_s is not None and paid.tenant in users else rate.opened_at_s
        known = terms.get(paid.tenant, [])
        agreed = [it for it in known if paid_for(it.tenant, source, sold_sat) == paid]
        if agreed and all(it.tenant.terms_at_s > rate.opened_at_s for it in agreed):
            agreed = agreed if _joined(connection, rate, agreed[0].tenant.id, paid) else []
        if known and not agreed:
            raise StoreError(f"no terms of {paid.tenant} ever paid its work as rate {rate.number} does")
        if known and not any(it.until_s is None or it.until_s >= at_s - ALONE_S for it in agreed):
            raise StoreError(
                f"rate {rate.number} pays {paid.tenant} by terms that were over more than a week before"
            )
    # Who came during it joins by the terms that he has then, and has them as long as it is used.
    for name in users - {it.tenant for it in rate.paid} if used_s is not None and not rate.solo else ():
        came_s = terms[name][0].tenant.terms_at_s if name in terms else 0
        if used_s is not None and used_s - ALONE_S > max(rate.opened_at_s, came_s):
            raise StoreError(f"rate {rate.number} has shares of {name}, and does not say what it is paid by")


def check_told(
    connection: Connection,
    rate: Rate,
    terms: Mapping[str, list[Terms]],
    users: set[str],
    used_s: int,
    told: Told,
) -> None:
    """The pool's own work is paid by terms that the edge can have worked by then, as it was told of them.
    Raises StoreError."""
    if rate.upstream is not None or rate.order is not None or rate.solo:
        return
    source = work_price(connection, rate, None).source
    named = {it.tenant: [it] for it in rate.paid}
    for name in sorted(users & terms.keys()):
        known = terms[name]
        paid = named.get(name) or _joins_by(connection, rate, known[-1].tenant, source)
        agreed = [at for at, it in enumerate(known) if paid_for(it.tenant, source, None) in paid]
        if agreed and not any(
            told.worked_by_it(used_s, known[at].tenant.terms_at_s if at else None, known[at].until_s)
            for at in agreed
        ):
            raise StoreError(
                f"rate {rate.number} pays {name} by terms that the edge cannot have worked by then: they were"
                " over, as it was told more than four hours before, or it was not told of them yet"
            )


def _joins_by(connection: Connection, rate: Rate, tenant: TenantRecord, source: WorkSource) -> list[Paid]:
    """What a tenant is paid by that the rate does not name: as it joined, or joins now."""
    epoch, joined = rate_epochs.c, rate_epoch_tenants.c
    alike = (epoch.created_at_s == rate.opened_at_s) & (epoch.height == rate.height)
    found = connection.execute(
        select(rates.c.scheme, rates.c.fee_bps, joined.upstream_risk)
        .join(rate_epoch_tenants, joined.rate_id == rates.c.id)
        .join(rate_epochs, joined.epoch == epoch.epoch)
        .where(alike, joined.tenant_id == tenant.id)
    ).all()
    now = paid_for(tenant, source, None)
    return [msgspec.structs.replace(now, **it._mapping) for it in found] or [now]


def _joined(connection: Connection, rate: Rate, tenant_id: int, paid: Paid) -> bool:
    """Whether the books have it so that the tenant came to that price after it was opened."""
    epoch, joined = rate_epochs.c, rate_epoch_tenants.c
    alike = (epoch.created_at_s == rate.opened_at_s) & (epoch.height == rate.height)
    found = (
        select(epoch.epoch)
        .join(rate_epoch_tenants, joined.epoch == epoch.epoch)
        .join(rates, rates.c.id == joined.rate_id)
        .where(
            alike,
            joined.tenant_id == tenant_id,
            joined.upstream_risk == paid.upstream_risk,
            rates.c.scheme == paid.scheme,
            rates.c.fee_bps == paid.fee_bps,
        )
    )
    return connection.scalar(found.limit(1)) is not None


def _check_order(
    connection: Connection, rate: Rate, order_id: int, users: set[str], used_s: int | None
) -> int:
    """What its work is sold at. Raises StoreError for work that is none of the order's."""
    terms = order_terms.c
    with_terms = select(orders, terms.extension_h).outerjoin(order_terms, terms.order_id == orders.c.id)
    order = connection.execute(with_terms.where(orders.c.id == order_id)).one()
    if used_s is not None:
        # What is owed as work is delivered for so long after its end.
        ended_s = order.until_s + (order.extension_h or 0) * 3600 + LATE_S
        if order.ended_at_s is not None:
            ended_s = min(ended_s, order.ended_at_s + ALONE_S)
        if used_s > ended_s:
            raise StoreError(f"rate {rate.number} has shares for order {order.name}, which was over by then")
    suppliers = select(tenants.c.name).join(order_suppliers, order_suppliers.c.tenant_id == tenants.c.id)
    others = users - set(connection.scalars(suppliers.where(order_suppliers.c.order_id == order_id)))
    if others:
        raise StoreError(f"{sorted(others)[0]} supplies nothing to order {order.name}")
    return int(order.sat_per_ph_day)
