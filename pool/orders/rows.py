"""Orders as rows: computing power that is sold, who supplies it, and what happened while it was delivered.

Functions on a connection inside the caller's transaction, which for changes must be the only writer. An
order is never changed: it runs to its end, or is ended. A supplier is a container, or a tenant with all its
containers (container 0).

Must not know: how machines are chosen, commands, whether a pool is running.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from payouts.rates import BPS, HPS_PER_THS
from payouts.receipts.extension import extensions
from payouts.receipts.hours import HOUR_S, ends_at_last
from payouts.receipts.making_good import (
    EXTENSION_H_MAX,
    MakeGood,
    MakeGoodTerms,
    Tolerance,
    check_tolerances,
)
from payouts.receipts.rows import all_terms
from payouts.sales.billing import Billing
from payouts.sales.prepaid import covers, uncovered
from payouts.sales.standing import stopped_orders
from payouts.sales.terms import UNBILLED, BillingTerms, billing_of, set_billing
from payouts.schemas.money import containers, tenants
from payouts.schemas.orders import (
    channel_events,
    order_hours,
    order_suppliers,
    order_terms,
    orders,
    upstreams,
)
from pool.books.journal.positions import booked_until_s
from pool.fleet.rows import RegistryError, find_tenant
from pool.fleet.upstream_accounts import check_paid_work
from pool.upstreams.rows import check_route_name, find_upstream

# Each has a channel of its own; the allocator looks at every order for every machine once a minute.
ORDERS_MAX: Final = 64
SUPPLIERS_MAX: Final = 1_000  # ten times the containers of a site that is built out
HASHRATE_THS_MAX: Final = 10**9  # 1,000 EH/s: all of the network
SAT_PER_PH_DAY_MAX: Final = 10**12  # 10,000 BTC: more is a typing mistake
PREPAID_TOLD_H: Final = 2  # of hours that are paid: this one, and the next
DURATION_S_MAX: Final = 3653 * 86_400  # what a report can be about
BUYER_CHARS_MAX: Final = 127
WORDS_CHARS_MAX: Final = 200  # of an event: as much as we keep of what an upstream says


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order to be. `tenants` supply with all their containers. Raises ValueError for what cannot be."""

    name: str
    buyer: str
    upstream: str
    hashrate_ths: int
    tolerance_bps: int
    from_s: int
    until_s: int
    priority: int
    sat_per_ph_day: int
    tenants: tuple[str, ...]
    containers: tuple[str, ...]  # as tenant.container
    billing: BillingTerms = UNBILLED
    make_good: MakeGood = MakeGood.NONE
    tolerances: tuple[Tolerance, ...] = ()  # of what is made good
    extension_h: int = 0  # how long after its end it delivers what it owes

    def __post_init__(self) -> None:
        if not 1 <= len(self.buyer) <= BUYER_CHARS_MAX or not self.buyer.isprintable():
            raise ValueError(f"a buyer has a name of 1 to {BUYER_CHARS_MAX} printable characters")
        if not 1 <= self.hashrate_ths <= HASHRATE_THS_MAX:
            raise ValueError(f"an order is for 0.001 to {HASHRATE_THS_MAX // 1000} PH/s")
        if not 1 <= self.tolerance_bps <= BPS:
            raise ValueError("a tolerance is 0.01 to 100 percent")
        if not 0 < self.from_s < self.until_s:
            raise ValueError("an order ends after it begins")
        if self.until_s + self.extension_h * HOUR_S > self.from_s + DURATION_S_MAX:
            raise ValueError("an order lasts for ten years at most")
        if not 1 <= self.priority <= 100:
            raise ValueError("a priority is 1 (served first) to 100")
        if not 0 <= self.sat_per_ph_day <= SAT_PER_PH_DAY_MAX:
            raise ValueError(f"a price is 0 to {SAT_PER_PH_DAY_MAX} satoshi per PH-day")
        if not 1 <= len(self.tenants) + len(self.containers) <= SUPPLIERS_MAX:
            raise ValueError(f"an order has 1 to {SUPPLIERS_MAX} suppliers: tenants or their containers")
        if self.make_good is not MakeGood.NONE:
            check_tolerances(self.tolerances)
            if self.billing.stop_days is not None or self.billing.prepaid:
                raise ValueError("an order that stops when it is not paid makes nothing good")
        elif self.tolerances:
            raise ValueError("a tolerance over hours is of an order that makes good what is missing")
        extends = self.make_good is MakeGood.EXTENSION
        if extends != (self.extension_h > 0) or self.extension_h > EXTENSION_H_MAX:
            raise ValueError(f"an extension, and nothing else, goes on for 1 to {EXTENSION_H_MAX} hours")


class OrderRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is not over, as the allocator needs it."""

    id: int
    name: str
    upstream_id: int
    hashrate_hps: int
    tolerance_bps: int
    from_s: int
    until_s: int
    priority: int
    sat_per_ph_day: int
    suppliers: tuple[tuple[int, int], ...]  # tenant and container; container 0: all of the tenant's
    extended: bool = False  # past its end: until what it owes as work is delivered
    by_the_hour: bool = False  # what is missing of an hour is made good: what comes later is too much


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order as commands show it, over or not."""

    id: int
    name: str
    buyer: str
    upstream: str
    hashrate_ths: int
    tolerance_bps: int
    from_s: int
    until_s: int
    priority: int
    sat_per_ph_day: int
    suppliers: tuple[str, ...]  # tenant, or tenant.container
    created_at_s: int
    created_by: str
    ended_at_s: int | None
    ended_by: str | None
    billing: Billing
    due_days: int | None  # None: it has no invoices
    stop_days: int | None  # None: it does not stop
    prepaid: bool  # it runs while what was paid covers it
    make_good: MakeGood
    tolerances: tuple[Tolerance, ...]
    extension_h: int

    def over(self, now_s: int) -> bool:
        """Whether it was ended, or its time is up, that of its extension too."""
        return self.ended_at_s is not None or self.until_s + self.extension_h * HOUR_S <= now_s


def load_orders(connection: Connection, now_s: int) -> tuple[OrderRecord, ...]:
    """All that are not over, by number; also those that have not begun. Without those that stopped, because
    their invoices are overdue, or are not covered by what was paid before: nothing is to be delivered for
    them, until they are paid. What owes work after its end is over when that is delivered."""
    suppliers: dict[int, list[tuple[int, int]]] = {}
    for order_id, tenant_id, container_id in connection.execute(
        select(order_suppliers).order_by(*order_suppliers.primary_key)
    ):
        suppliers.setdefault(order_id, []).append((tenant_id, container_id))
    booked_s = booked_until_s(connection)
    covered = covers(connection, now_s, booked_s)
    stopped = stopped_orders(connection, now_s) | {it for it, of in covered.items() if not of.covers}
    owing = extensions(connection, now_s, booked_s)
    # Who is cut off keeps the last that he heard: so long, and no longer, a prepaid order goes on there.
    told_s = (now_s // HOUR_S + PREPAID_TOLD_H) * HOUR_S
    until_s = {it: min(of.until_s, told_s) for it, of in covered.items()}
    until_s |= {it: of.until_s for it, of in owing.items()}
    made_good = set(connection.scalars(select(order_terms.c.order_id)))
    return tuple(
        OrderRecord(
            id=row.id,
            name=row.name,
            upstream_id=row.upstream_id,
            hashrate_hps=row.hashrate_ths * HPS_PER_THS,
            tolerance_bps=row.tolerance_bps,
            from_s=row.from_s,
            until_s=until_s.get(row.id, row.until_s),
            priority=row.priority,
            sat_per_ph_day=row.sat_per_ph_day,
            suppliers=tuple(suppliers[row.id]),
            extended=row.until_s <= now_s,
            by_the_hour=row.id in made_good,
        )
        for row in connection.execute(select(orders).where(_going(now_s)).order_by(orders.c.id)).all()
        if row.id not in stopped and (row.until_s > now_s or row.id in owing)
    )


def all_stopped(connection: Connection, now_s: int) -> frozenset[int]:
    """Numbers of orders that nothing is delivered for until they are paid."""
    return stopped_orders(connection, now_s) | uncovered(connection, now_s, booked_until_s(connection))


def list_orders(connection: Connection) -> tuple[OrderView, ...]:
    """All there ever were, the newest last."""
    suppliers: dict[int, list[str]] = {}
    for order_id, tenant, container in connection.execute(
        select(order_suppliers.c.order_id, tenants.c.name, containers.c.name)
        .join(tenants, tenants.c.id == order_suppliers.c.tenant_id)
        .outerjoin(containers, containers.c.id == order_suppliers.c.container_id)
    ):
        suppliers.setdefault(order_id, []).append(tenant if container is None else f"{tenant}.{container}")
    billed, chosen = billing_of(connection), all_terms(connection)
    named = select(orders, upstreams.c.name.label("upstream")).join(
        upstreams, upstreams.c.id == orders.c.upstream_id
    )
    return tuple(
        OrderView(
            id=row.id,
            name=row.name,
            buyer=row.buyer,
            upstream=row.upstream,
            hashrate_ths=row.hashrate_ths,
            tolerance_bps=row.tolerance_bps,
            from_s=row.from_s,
            until_s=row.until_s,
            priority=row.priority,
            sat_per_ph_day=row.sat_per_ph_day,
            suppliers=tuple(sorted(suppliers[row.id])),
            created_at_s=row.created_at_s,
            created_by=row.created_by,
            ended_at_s=row.ended_at_s,
            ended_by=row.ended_by,
            **_making_good(chosen.get(row.id)),
            **_billing(billed.get(row.id)),
        )
        for row in connection.execute(named.order_by(orders.c.id))
    )


def find_order(connection: Connection, name: str) -> OrderView:
    """Raises RegistryError for an unknown name."""
    for view in list_orders(connection):
        if view.name == name:
            return view
    raise RegistryError(f"there is no order {name!r:.80}")


def add_order(connection: Connection, new: NewOrder, *, by: str, now_s: int) -> OrderView:
    """Raises RegistryError."""
    check_route_name("an order", new.name)
    if connection.scalar(select(orders.c.id).where(orders.c.name == new.name)) is not None:
        raise RegistryError(f"there is an order {new.name!r} already, over or not")
    if new.until_s <= now_s:
        raise RegistryError("the order would be over already")
    if (connection.scalar(select(func.count()).where(_going(now_s))) or 0) >= ORDERS_MAX:
        raise RegistryError(f"there are {ORDERS_MAX} orders that are not over already")
    upstream = find_upstream(connection, new.upstream)
    if upstream.fallback_id is not None:
        check_paid_work(connection, upstream.fallback_id, f"the fallback of order {new.name}")
    row = insert(orders).values(
        name=new.name,
        buyer=new.buyer,
        upstream_id=upstream.id,
        hashrate_ths=new.hashrate_ths,
        tolerance_bps=new.tolerance_bps,
        from_s=new.from_s,
        until_s=new.until_s,
        priority=new.priority,
        sat_per_ph_day=new.sat_per_ph_day,
        created_at_s=now_s,
        created_by=by,
    )
    order_id = int(connection.execute(row.returning(orders.c.id)).scalar_one())
    if new.make_good is not MakeGood.NONE:
        _set_terms(connection, order_id, new)
    connection.execute(
        insert(order_suppliers),
        [
            {"order_id": order_id, "tenant_id": tenant_id, "container_id": container_id}
            for tenant_id, container_id in _suppliers(connection, new.tenants, new.containers)
        ],
    )
    set_billing(connection, order_id, new.billing)
    return find_order(connection, new.name)


def end_order(connection: Connection, name: str, *, by: str, now_s: int) -> OrderView:
    """End it now. Raises RegistryError where it is over."""
    view = find_order(connection, name)
    if view.over(now_s):
        raise RegistryError(f"the order {name!r} is over already")
    connection.execute(update(orders).where(orders.c.id == view.id).values(ended_at_s=now_s, ended_by=by))
    return find_order(connection, name)


def note_minute(
    connection: Connection, order_id: int, hour: int, short: bool, moves: int, *, away: bool = False
) -> None:
    """One more minute that the allocator measured an order in, and how many machines it moved for it. `away`:
    there were machines, and its upstream was nowhere."""
    here = (order_hours.c.order_id == order_id) & (order_hours.c.hour == hour)
    counted = update(order_hours).where(here)
    counted = counted.values(
        minutes=order_hours.c.minutes + 1,
        minutes_short=order_hours.c.minutes_short + int(short),
        moves=order_hours.c.moves + moves,
        minutes_away=order_hours.c.minutes_away + int(away),
    )
    if connection.execute(counted).rowcount == 0:
        first = {"minutes": 1, "minutes_short": int(short), "moves": moves, "minutes_away": int(away)}
        connection.execute(insert(order_hours).values(order_id=order_id, hour=hour, **first))


def supplied_by(connection: Connection, order_id: int) -> frozenset[str]:
    """The tenants whose machines an order may have, or had."""
    names = select(tenants.c.name).join(order_suppliers, order_suppliers.c.tenant_id == tenants.c.id)
    return frozenset(connection.scalars(names.where(order_suppliers.c.order_id == order_id)))


def note_event(
    connection: Connection,
    at_s: int,
    upstream_id: int,
    order_id: int | None,
    event: str,
    words: str,
    sessions: int,
) -> None:
    """What happened to a channel: served, lost, fell_back, returned, switched; at its own time."""
    row = insert(channel_events).values(
        at_s=at_s,
        upstream_id=upstream_id,
        order_id=order_id,
        event=event,
        words=words[:WORDS_CHARS_MAX],
        sessions=sessions,
    )
    connection.execute(row)


def _going(now_s: int) -> ColumnElement[bool]:
    return orders.c.ended_at_s.is_(None) & (ends_at_last() > now_s)


def _set_terms(connection: Connection, order_id: int, new: NewOrder) -> None:
    how = MakeGood.CREDIT if new.make_good is MakeGood.EXTENSION else new.make_good
    terms = {
        "order_id": order_id,
        "make_good": how.value,
        "tolerances": ",".join(f"{it.bps}:{it.hours}" for it in new.tolerances),
        "extension_h": new.extension_h or None,
    }
    connection.execute(insert(order_terms).values(terms))


def _making_good(chosen: MakeGoodTerms | None) -> dict[str, Any]:
    """The fields of a view."""
    if chosen is None:
        return {"make_good": MakeGood.NONE, "tolerances": (), "extension_h": 0}
    return {
        "make_good": chosen.how,
        "tolerances": chosen.tolerances,
        "extension_h": chosen.extension_h,
    }


def _billing(terms: BillingTerms | None) -> dict[str, Any]:
    """The fields of a view."""
    if terms is None:
        return {"billing": Billing.NONE, "due_days": None, "stop_days": None, "prepaid": False}
    return msgspec.structs.asdict(terms)


def _suppliers(
    connection: Connection, tenant_names: Sequence[str], container_names: Sequence[str]
) -> list[tuple[int, int]]:
    """Numbers for names, each once. Raises RegistryError for one that is unknown."""
    found = [(find_tenant(connection, name).id, 0) for name in tenant_names]
    for name in container_names:
        tenant, _, container = name.partition(".")
        tenant_id = find_tenant(connection, tenant).id
        row = connection.scalar(
            select(containers.c.id).where(containers.c.tenant_id == tenant_id, containers.c.name == container)
        )
        if row is None:
            raise RegistryError(f"there is no container {name!r:.120}: names are tenant.container")
        found.append((tenant_id, int(row)))
    return list(dict.fromkeys(found))
