"""Who is asked first, who is asked for how much, and who is not asked at all.

A tenant without terms is like the others: priority USUAL, all of its power. Functions on a connection inside
the caller's transaction. Must not know: events.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from payouts.schemas.money import containers, tenants, workers
from pool.fleet.registry_error import RegistryError
from pool.fleet.rows import find_tenant
from pool.power.curtailment.schema import power_exemptions, power_terms

USUAL: Final = 50
PRIORITIES: Final = range(1, 101)  # 1 is asked first
BPS: Final = 10_000
REASON_CHARS_MAX: Final = 200


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Of one tenant: `curtailable_bps` of its power at most is asked for in one event."""

    priority: int = USUAL
    curtailable_bps: int = BPS


class TermsView(Terms, frozen=True, kw_only=True):
    """The same, with whose they are and since when."""

    tenant: str
    changed_at_s: int | None = None
    changed_by: str | None = None


class Exemption(msgspec.Struct, frozen=True, kw_only=True):
    """A container (unit empty), or one machine of it, that no event asks."""

    tenant: str
    container: str
    unit: str
    reason: str
    made_at_s: int
    made_by: str

    @property
    def words(self) -> str:
        return f"exempt, by {self.made_by}: {self.reason}"


def set_terms(connection: Connection, tenant: str, terms: Terms, *, by: str, now_s: int) -> TermsView:
    """Raises RegistryError."""
    if terms.priority not in PRIORITIES or not 0 <= terms.curtailable_bps <= BPS:
        raise RegistryError("a priority is 1 (asked first) to 100, and a share 0 to 100 percent")
    number = find_tenant(connection, tenant).id
    values = {
        "priority": terms.priority,
        "curtailable_bps": terms.curtailable_bps,
        "changed_at_s": now_s,
        "changed_by": by,
    }
    changed = update(power_terms).where(power_terms.c.tenant_id == number).values(values)
    if connection.execute(changed).rowcount == 0:
        connection.execute(insert(power_terms).values(tenant_id=number, **values))
    return next(it for it in all_terms(connection) if it.tenant == tenant)


def all_terms(connection: Connection) -> list[TermsView]:
    """Of every tenant, by name."""
    query = select(tenants.c.name.label("tenant"), power_terms).outerjoin(
        power_terms, power_terms.c.tenant_id == tenants.c.id
    )
    return [
        TermsView(tenant=row.tenant)
        if row.priority is None
        else TermsView(
            tenant=row.tenant,
            priority=row.priority,
            curtailable_bps=row.curtailable_bps,
            changed_at_s=row.changed_at_s,
            changed_by=row.changed_by,
        )
        for row in connection.execute(query.order_by(tenants.c.name))
    ]


def terms_in_force(connection: Connection) -> Mapping[int, Terms]:
    """Of tenants that have some, by number."""
    return {
        row.tenant_id: Terms(priority=row.priority, curtailable_bps=row.curtailable_bps)
        for row in connection.execute(select(power_terms))
    }


def exempt(connection: Connection, name: str, *, reason: str, by: str, now_s: int) -> Exemption:
    """From now on; `name` is tenant.container or tenant.container.unit. Raises RegistryError."""
    if not 1 <= len(reason) <= REASON_CHARS_MAX or not reason.isprintable():
        raise RegistryError(f"a reason has 1 to {REASON_CHARS_MAX} printable characters")
    container_id, unit = _place(connection, name)
    if find_exemption(connection, name) is not None:
        raise RegistryError(f"{name} is exempt already")
    connection.execute(
        insert(power_exemptions).values(
            container_id=container_id, unit=unit, reason=reason, made_at_s=now_s, made_by=by
        )
    )
    found = find_exemption(connection, name)
    assert found is not None
    return found


def end_exemption(connection: Connection, name: str) -> Exemption:
    """It is asked like others again. Raises RegistryError."""
    found = find_exemption(connection, name)
    if found is None:
        raise RegistryError(f"{name:.120} is not exempt")
    container_id, unit = _place(connection, name)
    it = power_exemptions.c
    connection.execute(delete(power_exemptions).where(it.container_id == container_id, it.unit == unit))
    return found


def find_exemption(connection: Connection, name: str) -> Exemption | None:
    """The one of exactly that container, or machine."""
    return next((it for it in all_exemptions(connection) if _name(it) == name), None)


def all_exemptions(connection: Connection) -> list[Exemption]:
    """By name."""
    query = (
        select(power_exemptions, tenants.c.name.label("tenant"), containers.c.name.label("container"))
        .join(containers, containers.c.id == power_exemptions.c.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .order_by(tenants.c.name, containers.c.name, power_exemptions.c.unit)
    )
    return [
        Exemption(
            tenant=row.tenant,
            container=row.container,
            unit=row.unit,
            reason=row.reason,
            made_at_s=row.made_at_s,
            made_by=row.made_by,
        )
        for row in connection.execute(query)
    ]


def _name(it: Exemption) -> str:
    return ".".join(part for part in (it.tenant, it.container, it.unit) if part)


def _place(connection: Connection, name: str) -> tuple[int, str]:
    """The container's number, and the unit."""
    tenant, _, rest = name.partition(".")
    container, _, unit = rest.partition(".")
    found = connection.scalar(
        select(containers.c.id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .where(tenants.c.name == tenant, containers.c.name == container)
    )
    if found is None or not container:
        raise RegistryError(f"there is no container {tenant}.{container}"[:120])
    if unit:
        known = (workers.c.container_id == found) & (workers.c.unit == unit)
        if connection.scalar(select(workers.c.id).where(known)) is None:
            raise RegistryError(f"there is no machine {name!r:.120}")
    return int(found), unit
