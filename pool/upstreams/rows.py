"""Upstreams and their endpoints as rows: other pools that tenants and orders mine on.

Functions on a connection inside the caller's transaction, which for changes must be the only writer. An
upstream that was removed keeps its name and number, which books and reports speak of, and loses its
endpoints, and with them its credentials.

Must not know: connections to upstreams, commands, whether a pool is running.
"""

import re
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from payouts.receipts.hours import ends_at_last
from payouts.schemas.orders import orders, upstream_endpoints, upstream_hours, upstreams
from pool.fleet.rows import RegistryError, list_tenants
from stratum.upstream.client import ENDPOINTS_MAX
from stratum.upstream.endpoint import UpstreamEndpoint

OWN_POOL: Final = "pool"  # where a fallback or a tenant's upstream is named: no upstream at all
# Each has its connections, and a channel for every order that it serves; an operator has a handful.
UPSTREAMS_MAX: Final = 64
CONNECTIONS_MAX: Final = 16
OUTAGE_S_MAX: Final = 86_400  # miners that waited for a day have left by themselves

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


class NewUpstream(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream to be. `fallback` None: the own pool. Raises ValueError for what cannot be."""

    name: str
    endpoints: tuple[UpstreamEndpoint, ...]
    fallback: str | None = None
    outage_s: int = 30
    connections: int = 1
    suggest_difficulty: int | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.endpoints) <= ENDPOINTS_MAX:
            raise ValueError(f"an upstream has 1 to {ENDPOINTS_MAX} endpoints")
        if len(set(self.endpoints)) < len(self.endpoints):
            raise ValueError("an endpoint is there twice")
        if not all(it.user.isprintable() and it.password.isprintable() for it in self.endpoints):
            raise ValueError("an account is of printable characters")
        if not 1 <= self.outage_s <= OUTAGE_S_MAX:
            raise ValueError(f"an outage is bounded by 1 to {OUTAGE_S_MAX} seconds")
        if not 1 <= self.connections <= CONNECTIONS_MAX:
            raise ValueError(f"an upstream gets 1 to {CONNECTIONS_MAX} connections")
        if self.suggest_difficulty is not None and not 1 <= self.suggest_difficulty < 1 << 63:
            raise ValueError("a suggested difficulty is a whole number from 1")


class UpstreamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream that is in use. `fallback_id` None: the own pool."""

    id: int
    name: str
    fallback_id: int | None
    outage_s: int
    connections: int
    suggest_difficulty: int | None
    endpoints: tuple[UpstreamEndpoint, ...]
    created_at_s: int
    created_by: str


class DayVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What an upstream said of our shares on a day (UTC): how many, the rejected by reason."""

    accepted: int
    rejected: dict[str, int]
    unanswered: int


def check_route_name(what: str, name: str) -> None:
    """Of an upstream or an order. Raises RegistryError."""
    if not _NAME.fullmatch(name) or name == OWN_POOL:
        raise RegistryError(
            f"{name!r:.80} is no name for {what}: up to 32 lower-case letters, digits, - and _,"
            f" and not {OWN_POOL!r}"
        )


def load_upstreams(connection: Connection) -> tuple[UpstreamRecord, ...]:
    """All that are in use, by name, with their credentials."""
    endpoints: dict[int, list[UpstreamEndpoint]] = {}
    of_all = select(upstream_endpoints).order_by(
        upstream_endpoints.c.upstream_id, upstream_endpoints.c.position
    )
    for row in connection.execute(of_all):
        endpoints.setdefault(row.upstream_id, []).append(_endpoint(row))
    active = select(upstreams).where(upstreams.c.status == "active").order_by(upstreams.c.name)
    return tuple(
        UpstreamRecord(
            id=row.id,
            name=row.name,
            fallback_id=row.fallback_id,
            outage_s=row.outage_s,
            connections=row.connections,
            suggest_difficulty=row.suggest_difficulty,
            endpoints=tuple(endpoints[row.id]),
            created_at_s=row.created_at_s,
            created_by=row.created_by,
        )
        for row in connection.execute(active)
    )


def find_upstream(connection: Connection, name: str) -> UpstreamRecord:
    """Raises RegistryError for a name that is unknown, or of one that was removed."""
    for record in load_upstreams(connection):
        if record.name == name:
            return record
    removed = connection.scalar(select(upstreams.c.id).where(upstreams.c.name == name)) is not None
    raise RegistryError(
        f"the upstream {name!r} was removed" if removed else f"there is no upstream {name!r:.80}"
    )


def add_upstream(connection: Connection, new: NewUpstream, *, by: str, now_s: int) -> UpstreamRecord:
    """Raises RegistryError."""
    check_route_name("an upstream", new.name)
    known = connection.execute(select(upstreams.c.status).where(upstreams.c.name == new.name)).one_or_none()
    if known is not None:
        was = "" if known.status == "active" else ", which was removed; the books still speak of it"
        raise RegistryError(f"there is an upstream {new.name!r} already{was}")
    if len(load_upstreams(connection)) >= UPSTREAMS_MAX:
        raise RegistryError(f"there are {UPSTREAMS_MAX} upstreams already; remove one")
    fallback_id = None if new.fallback is None else find_upstream(connection, new.fallback).id
    row = insert(upstreams).values(
        name=new.name,
        fallback_id=fallback_id,
        outage_s=new.outage_s,
        connections=new.connections,
        suggest_difficulty=new.suggest_difficulty,
        status="active",
        created_at_s=now_s,
        created_by=by,
    )
    upstream_id = int(connection.execute(row.returning(upstreams.c.id)).scalar_one())
    _insert_endpoints(connection, upstream_id, new.endpoints)
    return find_upstream(connection, new.name)


def switch_upstream(connection: Connection, name: str, to: str) -> UpstreamRecord:
    """Make the endpoint with this number (from 1) or address the first one. Raises RegistryError."""
    record = find_upstream(connection, name)
    chosen = numbered_endpoint(record, to)
    if chosen > 1:
        first = record.endpoints[chosen - 1]
        others = tuple(it for it in record.endpoints if it is not first)
        connection.execute(delete(upstream_endpoints).where(upstream_endpoints.c.upstream_id == record.id))
        _insert_endpoints(connection, record.id, (first, *others))
    return find_upstream(connection, name)


def remove_upstream(connection: Connection, name: str, *, now_s: int) -> None:
    """Forget how it is reached. Raises RegistryError while anything mines on it, or may come to."""
    record = find_upstream(connection, name)
    uses = [
        *(f"order {it}" for it in orders_on(connection, record.id, now_s)),
        *(f"tenant {it}" for it in tenants_on(connection, record.id)),
        *(
            f"upstream {it.name}, as fallback"
            for it in load_upstreams(connection)
            if it.fallback_id == record.id
        ),
    ]
    if uses:
        raise RegistryError(f"the upstream {name!r} is in use: {', '.join(uses)}")
    connection.execute(delete(upstream_endpoints).where(upstream_endpoints.c.upstream_id == record.id))
    connection.execute(update(upstreams).where(upstreams.c.id == record.id).values(status="removed"))


def numbered_endpoint(record: UpstreamRecord, which: str) -> int:
    """The number, from 1, of the endpoint with this number or address. Raises RegistryError."""
    if which.isascii() and which.isdigit():
        numbers = [int(which)] if len(which) <= 2 and 1 <= int(which) <= len(record.endpoints) else []
    else:
        numbers = [i for i, it in enumerate(record.endpoints, 1) if it.address.lower() == which.lower()]
    if len(numbers) > 1:
        raise RegistryError(f"{record.name} has {which!r:.80} more than once: say which by its number")
    if not numbers:
        known = ", ".join(f"{i} {it.address}" for i, it in enumerate(record.endpoints, 1))
        raise RegistryError(f"{record.name} has no endpoint {which!r:.80}: there are {known}")
    return numbers[0]


def orders_on(connection: Connection, upstream_id: int, now_s: int) -> tuple[str, ...]:
    """Names of the orders on it that are not over."""
    mine = orders.c.upstream_id == upstream_id
    going = orders.c.ended_at_s.is_(None) & (ends_at_last() > now_s)
    return tuple(connection.scalars(select(orders.c.name).where(mine, going).order_by(orders.c.name)))


def tenants_on(connection: Connection, upstream_id: int) -> tuple[str, ...]:
    """Names of the tenants whose terms in force are to mine on it."""
    return tuple(view.name for view in list_tenants(connection) if view.upstream_id == upstream_id)


def verdicts_of_day(connection: Connection, upstream_id: int, day: int) -> DayVerdicts:
    """On that day, of those since 1970."""
    rejected: dict[str, int] = {}
    counts = {"accepted": 0, "unanswered": 0}
    summed = (
        select(upstream_hours.c.verdict, upstream_hours.c.reason, func.sum(upstream_hours.c.shares))
        .where(
            upstream_hours.c.upstream_id == upstream_id,
            upstream_hours.c.hour >= day * 24,
            upstream_hours.c.hour < (day + 1) * 24,
        )
        .group_by(upstream_hours.c.verdict, upstream_hours.c.reason)
        .order_by(upstream_hours.c.reason)
    )
    for verdict, reason, shares in connection.execute(summed):
        if verdict == "rejected":
            rejected[reason] = int(shares)
        else:
            counts[verdict] = int(shares)
    return DayVerdicts(accepted=counts["accepted"], rejected=rejected, unanswered=counts["unanswered"])


def _insert_endpoints(
    connection: Connection, upstream_id: int, endpoints: tuple[UpstreamEndpoint, ...]
) -> None:
    connection.execute(
        insert(upstream_endpoints),
        [
            {
                "upstream_id": upstream_id,
                "position": position,
                "host": it.host,
                "port": it.port,
                "user_name": it.user,
                "password": it.password,
                "tls": int(it.tls),
                "ca_file": it.ca_file,
            }
            for position, it in enumerate(endpoints)
        ],
    )


def _endpoint(row: Row[Any]) -> UpstreamEndpoint:
    return UpstreamEndpoint(
        host=row.host,
        port=row.port,
        user=row.user_name,
        password=row.password,
        tls=bool(row.tls),
        ca_file=row.ca_file,
    )
