"""The operator's commands for upstreams, each once: with a running pool, and without one.

Passwords come in and never go out. Must not know: sockets, terminals.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection

from pool.admin.command import Change, Commands, Guarded, Question
from pool.admin.desk import DAY_S, Desk, OperatorDesk, named, routes_changed, valid, wall_s
from pool.admin.pages import Page, Paged, page_of
from pool.books.changes.changes import State
from pool.orders import rows as order_store
from pool.people.roles import Role
from pool.upstreams import rows as upstream_store
from pool.upstreams.rows import OWN_POOL, NewUpstream, UpstreamRecord
from pool.upstreams.status import EndpointStatus, UpstreamStatus
from stratum.upstream.endpoint import HIDDEN, UpstreamEndpoint, tls_context


class UpstreamAdd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`fallback` names an upstream, or the own pool."""

    name: str
    endpoints: tuple[UpstreamEndpoint, ...]
    fallback: str = OWN_POOL
    outage_s: int = 30
    connections: int = 1
    suggest_difficulty: int | None = None


class UpstreamList(Paged, frozen=True, forbid_unknown_fields=True):
    pass


class UpstreamShow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class UpstreamSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`to`: the endpoint's number, from 1, or its address."""

    name: str
    to: str


class UpstreamRemove(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class EndpointRow(msgspec.Struct, frozen=True, kw_only=True):
    """One address of an upstream, without its password."""

    number: int
    address: str
    user: str
    tls: bool
    ca_file: str | None


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """One channel on an upstream; `order`, or in lists `order_id`, is what it is for, if for one."""

    order_id: int | UnsetType | None = UNSET
    number: int
    serving: str | None
    since_s: float
    endpoints: tuple[EndpointStatus, ...]
    sessions: int
    prefix_bytes: int
    miner_bytes: int
    limits: str
    unanswered: int
    diverted: bool
    order: str | UnsetType | None = UNSET


class UpstreamRow(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream without its passwords; `channels` is there where a pool runs."""

    id: int
    name: str
    fallback: str
    outage_s: int
    connections: int
    suggest_difficulty: int | None
    created_at_s: int
    created_by: str
    endpoints: tuple[EndpointRow, ...]
    channels: tuple[ChannelRow, ...] | UnsetType = UNSET


class UpstreamShown(UpstreamRow, frozen=True, kw_only=True):
    """With what mines on it, and what it said of our shares today (UTC)."""

    orders: tuple[str, ...]
    tenants: tuple[str, ...]
    today: upstream_store.DayVerdicts


class UpstreamRemoved(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    status: str


def upstream_add(desk: OperatorDesk, it: UpstreamAdd) -> UpstreamShown:
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


def upstream_list(desk: Desk, it: UpstreamList) -> Page[UpstreamRow]:
    """Upstreams in use, each with its channels where a pool runs."""
    records = desk.read(upstream_store.load_upstreams)
    channels = None if desk.live is None else desk.live.upstream_status()
    rows = [_upstream(record, records, channels) for record in records]
    return page_of(it, rows, lambda row: (row.name,))


def upstream_show(desk: Desk, it: UpstreamShow) -> UpstreamShown:
    """One, with what mines on it and what it said of our shares today."""

    def read(connection: Connection) -> UpstreamShown:
        record = upstream_store.find_upstream(connection, it.name)
        records = upstream_store.load_upstreams(connection)
        names = {view.id: view.name for view in order_store.list_orders(connection)}
        shown = msgspec.structs.asdict(_upstream(record, records, channels))
        if channels is not None:
            shown["channels"] = tuple(
                msgspec.structs.replace(channel, order=names.get(channel.order_id), order_id=UNSET)
                for channel in shown["channels"]
            )
        now_s = wall_s()
        return UpstreamShown(
            **shown,
            orders=upstream_store.orders_on(connection, record.id, now_s),
            tenants=upstream_store.tenants_on(connection, record.id),
            today=upstream_store.verdicts_of_day(connection, record.id, now_s // DAY_S),
        )

    channels = None if desk.live is None else desk.live.upstream_status()
    return desk.read(read)


def upstream_switch(desk: OperatorDesk, it: UpstreamSwitch) -> UpstreamShown:
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


def upstream_remove(desk: OperatorDesk, it: UpstreamRemove) -> UpstreamRemoved:
    desk.write(lambda connection: upstream_store.remove_upstream(connection, it.name, now_s=wall_s()))
    routes_changed(desk)
    return UpstreamRemoved(name=it.name, status="removed")


def upstream_state(connection: Connection, subject: str) -> State:
    records = upstream_store.load_upstreams(connection)
    rows = (_upstream(it, records, None) for it in records if it.name == subject)
    return next((msgspec.to_builtins(row) for row in rows), None)


def without_passwords(it: UpstreamAdd) -> UpstreamAdd:
    hidden = tuple(msgspec.structs.replace(endpoint, password=HIDDEN) for endpoint in it.endpoints)
    return msgspec.structs.replace(it, endpoints=hidden)


def _upstream(
    record: UpstreamRecord,
    records: tuple[UpstreamRecord, ...],
    channels: Sequence[UpstreamStatus] | None,
) -> UpstreamRow:
    names = {it.id: it.name for it in records}
    its = () if channels is None else (it for it in channels if it.upstream_id == record.id)
    return UpstreamRow(
        id=record.id,
        name=record.name,
        fallback=OWN_POOL if record.fallback_id is None else names[record.fallback_id],
        outage_s=record.outage_s,
        connections=record.connections,
        suggest_difficulty=record.suggest_difficulty,
        created_at_s=record.created_at_s,
        created_by=record.created_by,
        endpoints=tuple(
            EndpointRow(number=number, address=it.address, user=it.user, tls=it.tls, ca_file=it.ca_file)
            for number, it in enumerate(record.endpoints, 1)
        ),
        channels=UNSET if channels is None else tuple(map(_channel, its)),
    )


def _channel(status: UpstreamStatus) -> ChannelRow:
    shown: dict[str, Any] = msgspec.structs.asdict(status)
    del shown["upstream_id"]
    return ChannelRow(**shown)


COMMANDS: Final[Commands] = {
    # Whose accounts upstreams have decides whom machines work for.
    "upstream.add": Guarded(
        UpstreamAdd, upstream_add, named, upstream_state, Role.PAYER, without_secrets=without_passwords
    ),
    "upstream.list": Question(UpstreamList, upstream_list),
    "upstream.show": Question(UpstreamShow, upstream_show),
    "upstream.switch": Change(UpstreamSwitch, upstream_switch, named, upstream_state, Role.OPERATOR),
    "upstream.remove": Guarded(UpstreamRemove, upstream_remove, named, upstream_state, Role.PAYER),
}
