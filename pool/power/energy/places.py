"""Sites and containers by the names that people give. Must not know: what for."""

from sqlalchemy import Connection, select

from payouts.schemas.money import containers, sites, tenants
from pool.fleet.registry_error import RegistryError


def site_named(connection: Connection, name: str) -> int:
    """Its number. Raises RegistryError."""
    number = connection.scalar(select(sites.c.id).where(sites.c.name == name))
    if number is None:
        raise RegistryError(f"there is no site {name!r:.80}: angara site list has them")
    return int(number)


def container_named(connection: Connection, name: str) -> int:
    """The number of tenant.container. Raises RegistryError."""
    tenant, _, container = name.partition(".")
    number = connection.scalar(
        select(containers.c.id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .where(tenants.c.name == tenant, containers.c.name == container)
        .where(containers.c.removed_at_s.is_(None))
    )
    if number is None:
        raise RegistryError(f"there is no container {name!r:.120}: names are tenant.container")
    return int(number)


def site_names(connection: Connection) -> dict[int, str]:
    """Of all sites, by number."""
    return {row.id: row.name for row in connection.execute(select(sites.c.id, sites.c.name))}
