"""The question what a site, a tenant, a container or a machine drew by the minute, while there are minutes.

Each minute is read by itself, and who stands where once an hour, so no reading lasts for longer than one of
them takes, and holds no other up. Must not know: sockets, terminals, how it is reckoned.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, tenants, workers
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, wall_s
from pool.admin.power.addresses import machine_named
from pool.books.journal.positions import taken_until_s
from pool.fleet.registry_error import RegistryError
from pool.people.roles import Caller, Role
from pool.power.energy.energies import Fleet
from pool.power.energy.minutes import MINUTE_S, Minute, Part, energy_of_minute, fleet_of, kept_minute
from pool.power.energy.places import container_named, site_named

MINUTES_AT_ONCE: Final = 60  # of one answer: who wants more asks again, behind the last one
# Likewise: of 22,400 machines a minute is 0.4 s on two busy cores (SQLite), so an answer is some four.
MACHINE_MINUTES_AT_ONCE: Final = 200_000


class PowerMinutes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a site, of a tenant (there), of a container (tenant.container), or of a machine
    (tenant.container.unit): whole minutes that are in the books, from then on, or of the hour before
    `until_s`. An answer has the first 60 at most, and of more than 3,333 machines fewer: ask again from
    behind the last one, until there is none."""

    site: str | None = None
    tenant: str | None = None
    container: str | None = None
    machine: str | None = None
    from_s: int | None = None
    until_s: int | None = None


class PowerOfMinute(msgspec.Struct, frozen=True, kw_only=True):
    """`joules` is exact, `watts` a sixtieth of it, rounded down; None: nobody knows. `basis` is meter where
    all of it is metered, else work; `error_bps` bounds both ways. Of `machines` that mined nobody knows how
    `unknown_machines` draw."""

    of: str
    from_s: int
    joules: int | None
    watts: int | None
    basis: str | None
    error_bps: int | None
    metered_joules: int
    hps: int
    machines: int
    unknown_machines: int


def power_minutes(desk: Desk, it: PowerMinutes) -> list[PowerOfMinute]:
    """What it drew in each minute, by meter or by accepted work, and how far off that may be."""
    now_s = wall_s()
    part, taken_s = desk.read(lambda connection: (_part(connection, it), taken_until_s(connection)))
    minutes = _minutes(it, now_s, now_s if taken_s is None else min(taken_s, now_s))
    if part is None:
        return []
    found, fleet = [], None
    for minute in minutes:
        if fleet is not None and (len(found) + 1) * len(fleet.places) > MACHINE_MINUTES_AT_ONCE:
            break
        if fleet is None or minute % 60 == 0:
            fleet = desk.read(partial(fleet_of, part=part, hour=minute // 60))
        found.append(_row(it, minute, desk.read(partial(_read, part=part, minute=minute, fleet=fleet))))
    if minutes:
        _demand_kept(minutes[0], wall_s())  # they may have become hours meanwhile, some of them
    return found


def power_minutes_of(it: PowerMinutes, caller: Caller) -> PowerMinutes:
    """Of a name of somebody else's nothing is told, not even whether there is one."""
    named = it.container if it.container is not None else it.machine
    if named is not None:
        caller.own_tenant(named.partition(".")[0])
    if it.container is not None and it.machine is not None:
        caller.own_tenant(it.machine.partition(".")[0])
    if named is not None and it.tenant is None:
        return it
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def _minutes(it: PowerMinutes, now_s: int, taken_s: int) -> range:
    """Raises RegistryError."""
    newest = taken_s // MINUTE_S
    until = newest if it.until_s is None else min(newest, it.until_s // MINUTE_S)
    if it.from_s is None:
        if it.until_s is not None:
            _demand_kept(until - 1, now_s)
        return range(max(until - MINUTES_AT_ONCE, kept_minute(now_s)), until)
    if it.until_s is not None and it.until_s <= it.from_s:
        raise RegistryError("the end is not behind the beginning")
    first = -(-it.from_s // MINUTE_S)
    _demand_kept(first, now_s)
    return range(first, min(until, first + MINUTES_AT_ONCE))


def _demand_kept(minute: int, now_s: int) -> None:
    kept = kept_minute(now_s)
    if minute < kept:
        hour, at = divmod(kept, 60)
        raise RegistryError(
            f"minutes are kept until their hour is over for an hour: now from {hour % 24:02}:{at:02} UTC on;"
            " what is older angara report power has by the hour"
        )


def _part(connection: Connection, it: PowerMinutes) -> Part | None:
    """None: of that tenant nothing stands there. Raises RegistryError."""
    wheres = [it.site is not None or it.tenant is not None, it.container is not None, it.machine is not None]
    if sum(wheres) != 1:
        raise RegistryError("say of what: of a site, a tenant, a container, or a machine")
    if it.container is not None:
        return Part(container_id=container_named(connection, it.container))
    if it.machine is not None:
        return Part(worker_id=_worker_named(connection, it.machine))
    if it.tenant is None:
        return Part(site_id=site_named(connection, it.site or ""))
    tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == it.tenant))
    if tenant_id is None:
        raise RegistryError(f"there is no tenant {it.tenant!r:.80}")
    if it.site is None:
        return Part(tenant_id=tenant_id)
    here = select(containers.c.site_id).where(containers.c.tenant_id == tenant_id).distinct()
    at = {row for row in connection.scalars(here) if row is not None}
    try:
        site_id = site_named(connection, it.site)
    except RegistryError:  # which a tenant's user is not to learn
        return None
    return Part(tenant_id=tenant_id, site_id=site_id) if site_id in at else None


def _worker_named(connection: Connection, name: str) -> int:
    tenant, box, unit = machine_named(name)
    query = (
        select(workers.c.id)
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .where(tenants.c.name == tenant, containers.c.name == box, workers.c.unit == unit)
        .where(workers.c.removed_at_s.is_(None))
    )
    number = connection.scalar(query)
    if number is None:
        raise RegistryError(f"there is no machine {name!r:.200}: names are TENANT.CONTAINER.UNIT")
    return int(number)


def _read(connection: Connection, part: Part, minute: int, fleet: Fleet) -> Minute:
    return energy_of_minute(connection, part, minute, fleet)


def _row(it: PowerMinutes, minute: int, found: Minute) -> PowerOfMinute:
    return PowerOfMinute(
        of=it.machine or it.container or it.tenant or it.site or "",
        from_s=minute * MINUTE_S,
        joules=found.joules,
        watts=None if found.joules is None else found.joules // MINUTE_S,
        basis=None if found.basis is None else found.basis.value,
        error_bps=found.error_bps,
        metered_joules=found.metered_joules,
        hps=found.hashes // MINUTE_S,
        machines=found.machines,
        unknown_machines=found.unknown_machines,
    )


COMMANDS: Final[Commands] = {
    "power.minutes": Question(PowerMinutes, power_minutes, Role.TENANT, power_minutes_of),
}
