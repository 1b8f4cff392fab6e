"""The operator's commands for upstreams and orders, each once: with a running pool, and without one.

Like those of `commands`, which has the table of all. Passwords come in and never go out. Must not know:
sockets, terminals.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection

from pool.fleet.rows import RegistryError
from pool.orders import rows as order_store
from pool.orders.rows import NewOrder, OrderView
from pool.upstreams import rows as upstream_store
from pool.upstreams.rows import OWN_POOL, NewUpstream, UpstreamRecord
from stratum.upstream.endpoint import UpstreamEndpoint, tls_context

if TYPE_CHECKING:
    from pool.admin.commands import Desk

DAY_S: Final = 86_400

_Value = TypeVar("_Value")


class UpstreamAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fallback` names an upstream, or the own pool."""

    name: str
    by: str
    endpoints: tuple[UpstreamEndpoint, ...]
    fallback: str = OWN_POOL
    outage_s: int = 30
    connections: int = 1
    suggest_difficulty: int | None = None


class UpstreamList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class UpstreamShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class UpstreamSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the endpoint's number, from 1, or its address."""

    name: str
    to: str
    by: str


class UpstreamRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class OrderAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`from_s` None: now."""

    name: str
    by: str
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
    by: str


# Upstreams


def upstream_add(desk: "Desk", it: UpstreamAdd) -> Any:
    new = _valid(
        lambda: NewUpstream(
            name=it.name,
            endpoints=it.endpoints,
            fallback=None if it.fallback == OWN_POOL else it.fallback,
            outage_s=it.outage_s,
            connections=it.connections,
            suggest_difficulty=it.suggest_difficulty,
        )
    )
    for ca_file in {endpoint.ca_file for endpoint in it.endpoints if endpoint.ca_file is not None}:
        _valid(partial(tls_context, ca_file))
    desk.write(lambda connection: upstream_store.add_upstream(connection, new, by=it.by, now_s=_now_s()))
    _routes_changed(desk)
    return upstream_show(desk, UpstreamShow(it.name))


def upstream_list(desk: "Desk", it: UpstreamList) -> Any:
    """Upstreams in use, each with its channels where a pool runs."""
    records = desk.read(upstream_store.load_upstreams)
    channels = None if desk.live is None else desk.live.upstream_status()
    return [_upstream(record, records, channels) for record in records]


def upstream_show(desk: "Desk", it: UpstreamShow) -> Any:
    """One, with what mines on it and what it said of our shares today."""

    def look(connection: Connection) -> dict[str, Any]:
        record = upstream_store.find_upstream(connection, it.name)
        records = upstream_store.load_upstreams(connection)
        names = {view.id: view.name for view in order_store.list_orders(connection)}
        shown = _upstream(record, records, channels)
        for channel in shown.get("channels", ()):
            channel["order"] = names.get(channel.pop("order_id"))
        now_s = _now_s()
        return shown | {
            "orders": upstream_store.orders_on(connection, record.id, now_s),
            "tenants": upstream_store.tenants_on(connection, record.id),
            "today": upstream_store.verdicts_of_day(connection, record.id, now_s // DAY_S),
        }

    channels = None if desk.live is None else desk.live.upstream_status()
    return desk.read(look)


def upstream_switch(desk: "Desk", it: UpstreamSwitch) -> Any:
    """Another endpoint becomes the first; a running pool goes there."""

    def change(connection: Connection) -> None:
        before = upstream_store.find_upstream(connection, it.name)
        after = upstream_store.switch_upstream(connection, it.name, it.to)
        if after.endpoints != before.endpoints:
            words = f"{after.endpoints[0].address} is the first endpoint from now on, by {it.by}"
            order_store.note_event(connection, _now_s(), after.id, None, "switched", words, 0)

    desk.write(change)
    _routes_changed(desk)
    return upstream_show(desk, UpstreamShow(it.name))


def upstream_remove(desk: "Desk", it: UpstreamRemove) -> Any:
    desk.write(lambda connection: upstream_store.remove_upstream(connection, it.name, now_s=_now_s()))
    _routes_changed(desk)
    return {"name": it.name, "status": "removed"}


# Orders


def order_add(desk: "Desk", it: OrderAdd) -> Any:
    now_s = _now_s()
    new = _valid(
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
    desk.write(lambda connection: order_store.add_order(connection, new, by=it.by, now_s=now_s))
    _routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


def order_list(desk: "Desk", it: OrderList) -> Any:
    """All there ever were; with what is delivered now where a pool runs."""
    measured = _measured(desk)
    return [_order(view, measured) for view in desk.read(order_store.list_orders)]


def order_show(desk: "Desk", it: OrderShow) -> Any:
    return _order(desk.read(lambda connection: order_store.find_order(connection, it.name)), _measured(desk))


def order_end(desk: "Desk", it: OrderEnd) -> Any:
    desk.write(lambda connection: order_store.end_order(connection, it.name, by=it.by, now_s=_now_s()))
    _routes_changed(desk)
    return order_show(desk, OrderShow(it.name))


# Parts of answers


def _upstream(
    record: UpstreamRecord, records: tuple[UpstreamRecord, ...], channels: list[dict[str, Any]] | None
) -> dict[str, Any]:
    """Without the passwords; `channels` is there where a pool runs."""
    names = {it.id: it.name for it in records}
    shown: dict[str, Any] = {
        "id": record.id,
        "name": record.name,
        "fallback": OWN_POOL if record.fallback_id is None else names[record.fallback_id],
        "outage_s": record.outage_s,
        "connections": record.connections,
        "suggest_difficulty": record.suggest_difficulty,
        "created_at_s": record.created_at_s,
        "created_by": record.created_by,
        "endpoints": [
            {"number": number, "address": it.address, "user": it.user, "tls": it.tls, "ca_file": it.ca_file}
            for number, it in enumerate(record.endpoints, 1)
        ],
    }
    if channels is not None:
        shown["channels"] = [
            {key: value for key, value in channel.items() if key != "upstream_id"}
            for channel in channels
            if channel["upstream_id"] == record.id
        ]
    return shown


def _order(view: OrderView, measured: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """With its state: planned, running, short or ended; a shortage is known where a pool runs."""
    now_s = _now_s()
    figures = measured.get(view.id, {})
    if view.over(now_s):
        state = "ended"
    elif view.from_s > now_s:
        state = "planned"
    else:
        state = "short" if figures.get("shortage_hps", 0.0) > 0 else "running"
    return {**msgspec.to_builtins(view), "state": state, **figures}


def _measured(desk: "Desk") -> dict[int, dict[str, Any]]:
    """What the router says of each order, by its number; nothing without a running pool."""
    if desk.live is None:
        return {}
    return {figures.pop("order_id"): figures for figures in desk.live.order_status()}


def _routes_changed(desk: "Desk") -> None:
    if desk.live is not None:
        desk.live.routes_changed()


def _valid(make: Callable[[], _Value]) -> _Value:
    """What was asked for, or the reason why it cannot be, in words."""
    try:
        return make()
    except ValueError as error:  # BadUpstream is one
        raise RegistryError(str(error)) from None


def _now_s() -> int:
    return int(time.time())


ORDER_COMMANDS: Final[dict[str, tuple[type[msgspec.Struct], Callable[["Desk", Any], Any]]]] = {
    "upstream.add": (UpstreamAdd, upstream_add),
    "upstream.list": (UpstreamList, upstream_list),
    "upstream.show": (UpstreamShow, upstream_show),
    "upstream.switch": (UpstreamSwitch, upstream_switch),
    "upstream.remove": (UpstreamRemove, upstream_remove),
    "order.add": (OrderAdd, order_add),
    "order.list": (OrderList, order_list),
    "order.show": (OrderShow, order_show),
    "order.end": (OrderEnd, order_end),
}
