"""Limits of power: what a site, or a container, may draw at most, from when until when, and why.

They are facts of a grid, a transformer, a contract; what is done about them is asked for elsewhere. Of
several that are in force at one place the lowest counts. Functions on a connection inside the caller's
transaction, which for changes must be the only writer. Must not know: what is drawn.
"""

from typing import Final

import msgspec
from sqlalchemy import Connection, insert, or_, select, update

from payouts.book_time import book_time
from payouts.schemas.money import containers, sites, tenants
from payouts.schemas.power import power_limits
from pool.fleet.registry_error import RegistryError
from pool.power.energy.places import container_named, site_named

KW_MAX: Final = 10**7  # 10 GW: more is a typing mistake
LIMITS_MAX: Final = 1_000  # that are not over: a schedule of hours is a signal's matter
REASON_CHARS_MAX: Final = 200
# What was in force a while ago decides nothing any more, and somebody may have proven something by it.
BACKDATED_S_MAX: Final = 60


class LimitView(msgspec.Struct, frozen=True, kw_only=True):
    """One limit. Of a site `tenant` and `container` are None, of a container it is the site that it is at,
    where that is known."""

    id: int
    site: str | None
    tenant: str | None
    container: str | None
    site_id: int | None
    container_id: int | None
    watts: int
    from_s: int
    until_s: int | None  # None: until somebody lifts it
    reason: str
    set_at_s: int
    set_by: str
    lifted_at_s: int | None
    lifted_by: str | None

    def holds(self, at_s: int) -> bool:
        ends = [it for it in (self.until_s, self.lifted_at_s) if it is not None]
        return self.from_s <= at_s < min(ends, default=at_s + 1)


def limits_at(connection: Connection, at_s: int) -> tuple[LimitView, ...]:
    """Those in force at that moment, by number."""
    of = power_limits.c
    there = (
        (of.from_s <= at_s)
        & or_(of.until_s.is_(None), of.until_s > at_s)
        & or_(of.lifted_at_s.is_(None), of.lifted_at_s > at_s)
    )
    return tuple(it for it in list_limits(connection, where=there))


def lowest(
    limits: tuple[LimitView, ...], *, site: str | None = None, container_id: int | None = None
) -> int | None:
    """The watts that a site, or a container by itself, may draw; None: as much as there is."""
    if container_id is not None:
        of = [it.watts for it in limits if it.container_id == container_id]
    else:
        of = [it.watts for it in limits if it.container_id is None and it.site == site]
    return min(of, default=None)


def list_limits(connection: Connection, where: object = None) -> tuple[LimitView, ...]:
    """All there ever were, by number."""
    own, of_container = sites.alias("own"), sites.alias("of_container")
    query = (
        select(
            power_limits,
            own.c.name.label("own_site"),
            of_container.c.name.label("container_site"),
            tenants.c.name.label("tenant"),
            containers.c.name.label("container"),
        )
        .outerjoin(own, own.c.id == power_limits.c.site_id)
        .outerjoin(containers, containers.c.id == power_limits.c.container_id)
        .outerjoin(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(of_container, of_container.c.id == containers.c.site_id)
        .order_by(power_limits.c.id)
    )
    if where is not None:
        query = query.where(where)  # type: ignore[arg-type]
    return tuple(
        LimitView(
            id=row.id,
            site=row.own_site if row.site_id is not None else row.container_site,
            tenant=row.tenant,
            container=row.container,
            site_id=row.site_id,
            container_id=row.container_id,
            watts=row.watts,
            from_s=row.from_s,
            until_s=row.until_s,
            reason=row.reason,
            set_at_s=row.set_at_s,
            set_by=row.set_by,
            lifted_at_s=row.lifted_at_s,
            lifted_by=row.lifted_by,
        )
        for row in connection.execute(query)
    )


def find_limit(connection: Connection, number: int) -> LimitView:
    """Raises RegistryError."""
    found = list_limits(connection, where=power_limits.c.id == number)
    if not found:
        raise RegistryError(f"there is no limit {number}")
    return found[0]


def set_limit(
    connection: Connection,
    *,
    site: str | None,
    container: str | None,
    kw: int,
    from_s: int,
    until_s: int | None,
    reason: str,
    by: str,
    now_s: int,
) -> LimitView:
    """Of a site, or of a container (tenant.container). Raises RegistryError."""
    if (site is None) == (container is None):
        raise RegistryError("a limit is of one site, or of one container")
    if not 0 <= kw <= KW_MAX:
        raise RegistryError(f"a limit is 0 to {KW_MAX} kW")
    if not reason.strip() or len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise RegistryError(f"a limit has a reason of 1 to {REASON_CHARS_MAX} printable characters")
    if until_s is not None and until_s <= max(from_s, now_s):
        raise RegistryError("a limit ends after it begins, and not before now")
    if from_s < now_s - BACKDATED_S_MAX:
        raise RegistryError("a limit begins now or later: what was is over")
    going = power_limits.c.lifted_at_s.is_(None) & or_(
        power_limits.c.until_s.is_(None), power_limits.c.until_s > now_s
    )
    if len(list_limits(connection, where=going)) >= LIMITS_MAX:
        raise RegistryError(f"there are {LIMITS_MAX} limits that are not over already")
    now_s = book_time(connection, now_s)
    row = insert(power_limits).values(
        site_id=None if site is None else site_named(connection, site),
        container_id=None if container is None else container_named(connection, container),
        watts=kw * 1000,
        from_s=from_s,
        until_s=until_s,
        reason=reason.strip(),
        set_at_s=now_s,
        set_by=by,
    )
    return find_limit(connection, int(connection.execute(row.returning(power_limits.c.id)).scalar_one()))


def lift_limit(connection: Connection, number: int, *, by: str, now_s: int) -> LimitView:
    """End it now. Raises RegistryError where it is over."""
    view = find_limit(connection, number)
    if view.lifted_at_s is not None or (view.until_s is not None and view.until_s <= now_s):
        raise RegistryError(f"limit {number} is over already")
    now_s = book_time(connection, now_s)
    ended = update(power_limits).where(power_limits.c.id == number).values(lifted_at_s=now_s, lifted_by=by)
    connection.execute(ended)
    return find_limit(connection, number)
