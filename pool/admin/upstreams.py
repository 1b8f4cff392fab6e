"""The operator's commands for upstreams, each once: with a running pool, and without one.

Passwords come in and never go out. Must not know: sockets, terminals.
"""

from functools import partial
from typing import Any

import msgspec
from sqlalchemy import Connection

from pool.admin.desk import DAY_S, Desk, OperatorDesk, routes_changed, valid, wall_s
from pool.books.changes.changes import State
from pool.orders import rows as order_store
from pool.upstreams import rows as upstream_store
from pool.upstreams.rows import OWN_POOL, NewUpstream, UpstreamRecord
from stratum.upstream.endpoint import UpstreamEndpoint, tls_context


class UpstreamAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fallback` names an upstream, or the own pool."""

    name: str
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


class UpstreamRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


def upstream_add(desk: OperatorDesk, it: UpstreamAdd) -> Any:
    new = valid(
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
        valid(partial(tls_context, ca_file))
    desk.write(lambda connection: upstream_store.add_upstream(connection, new, by=desk.by, now_s=wall_s()))
    routes_changed(desk)
    return upstream_show(desk, UpstreamShow(it.name))


def upstream_list(desk: Desk, it: UpstreamList) -> Any:
    """Upstreams in use, each with its channels where a pool runs."""
    records = desk.read(upstream_store.load_upstreams)
    channels = None if desk.live is None else desk.live.upstream_status()
    return [_upstream(record, records, channels) for record in records]


def upstream_show(desk: Desk, it: UpstreamShow) -> Any:
    """One, with what mines on it and what it said of our shares today."""

    def read(connection: Connection) -> dict[str, Any]:
        record = upstream_store.find_upstream(connection, it.name)
        records = upstream_store.load_upstreams(connection)
        names = {view.id: view.name for view in order_store.list_orders(connection)}
        shown = _upstream(record, records, channels)
        for channel in shown.get("channels", ()):
            channel["order"] = names.get(channel.pop("order_id"))
        now_s = wall_s()
        return shown | {
            "orders": upstream_store.orders_on(connection, record.id, now_s),
            "tenants": upstream_store.tenants_on(connection, record.id),
            "today": upstream_store.verdicts_of_day(connection, record.id, now_s // DAY_S),
        }

    channels = None if desk.live is None else desk.live.upstream_status()
    return desk.read(read)


def upstream_switch(desk: OperatorDesk, it: UpstreamSwitch) -> Any:
    """Another endpoint becomes the first; a running pool goes there."""

    def change(connection: Connection) -> None:
        before = upstream_store.find_upstream(connection, it.name)
        after = upstream_store.switch_upstream(connection, it.name, it.to)
        if after.endpoints != before.endpoints:
            words = f"{after.endpoints[0].address} is the first endpoint from now on, by {desk.by}"
            order_store.note_event(connection, wall_s(), after.id, None, "switched", words, 0)

    desk.write(change)
    routes_changed(desk)
    return upstream_show(desk, UpstreamShow(it.name))


def upstream_remove(desk: OperatorDesk, it: UpstreamRemove) -> Any:
    desk.write(lambda connection: upstream_store.remove_upstream(connection, it.name, now_s=wall_s()))
    routes_changed(desk)
    return {"name": it.name, "status": "removed"}


def upstream_state(connection: Connection, subject: str) -> State:
    records = upstream_store.load_upstreams(connection)
    return next((_upstream(it, records, None) for it in records if it.name == subject), None)


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
