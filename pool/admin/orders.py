"""The operator's commands for orders, each once: with a running pool, and without one.

Must not know: sockets, terminals.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection

from pool.admin.desk import Desk, OperatorDesk, routes_changed, valid, wall_s
from pool.books.changes.changes import State
from pool.orders import rows as order_store
from pool.orders.rows import NewOrder, OrderView


class OrderAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`from_s` None: now."""

    name: str
    buyer: str
    upstream: str
    hashrate_ths: int
    tolerance_bps: int = 200
    from_s: int | None = None
    until_s: int
    priority: int = 50
    sat_per_ph_day: int
    tenants: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


class OrderList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class OrderShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class OrderEnd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


def order_add(desk: OperatorDesk, it: OrderAdd) -> Any:
    now_s = wall_s()
    new = valid(
        lambda: NewOrder(
            name=it.name,
            buyer=it.buyer,
            upstream=it.upstream,
            hashrate_ths=it.hashrate_ths,
            tolerance_bps=it.tolerance_bps,
            from_s=now_s if it.from_s is None else it.from_s,
            until_s=it.until_s,
            priority=it.priority,
            sat_per_ph_day=it.sat_per_ph_day,
            tenants=it.tenants,
            containers=it.containers,
        )
    )
    desk.write(lambda connection: order_store.add_order(connection, new, by=desk.by, now_s=now_s))
    routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


def order_list(desk: Desk, it: OrderList) -> Any:
    """All there ever were; with what is delivered now where a pool runs."""
    measured = _measured(desk)
    return [_order(view, measured) for view in desk.read(order_store.list_orders)]


def order_show(desk: Desk, it: OrderShow) -> Any:
    return _order(desk.read(lambda connection: order_store.find_order(connection, it.name)), _measured(desk))


def order_end(desk: OperatorDesk, it: OrderEnd) -> Any:
    desk.write(lambda connection: order_store.end_order(connection, it.name, by=desk.by, now_s=wall_s()))
    routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


def order_state(connection: Connection, subject: str) -> State:
    views = (view for view in order_store.list_orders(connection) if view.name == subject)
    return next((msgspec.to_builtins(view) for view in views), None)


def _order(view: OrderView, measured: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """With its state: planned, running, short or ended; a shortage is known where a pool runs."""
    now_s = wall_s()
    figures = measured.get(view.id, {})
    if view.over(now_s):
        state = "ended"
    elif view.from_s > now_s:
        state = "planned"
    else:
        state = "short" if figures.get("shortage_hps", 0.0) > 0 else "running"
    return {**msgspec.to_builtins(view), "state": state, **figures}


def _measured(desk: Desk) -> dict[int, dict[str, Any]]:
    """What the allocator says of each order, by its number; nothing without a running pool."""
    if desk.live is None:
        return {}
    return {figures.pop("order_id"): figures for figures in desk.live.order_status()}
