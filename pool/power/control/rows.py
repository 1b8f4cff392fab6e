"""Addresses of machines, and their passwords, in the books.

Functions on a connection inside the caller's transaction. A password is sealed before it comes here, and
what is sealed does not leave in a list. Must not know: how machines are told.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, and_, delete, insert, or_, select

from payouts.schemas.money import containers, sites, tenants
from pool.fleet.registry_error import RegistryError
from pool.power.control.contract import Firmware, MachineName
from pool.power.control.passwords import EVERYWHERE, SEALED_CHARS_MAX, Sealed
from pool.power.control.schema import machine_addresses, machine_credentials

ADDRESSES_MAX: Final = 200_000
CREDENTIALS_MAX: Final = 10_000  # one for each container of a hundred sites
ASKED_AT_ONCE: Final = 200  # names of one query: SQLite's bound for terms of an OR is 1,000


class MachineAddress(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of a machine; None: what it says itself."""

    tenant: str
    container: str
    unit: str
    address: str | None = None
    port: int | None = None
    firmware: Firmware | None = None

    @property
    def machine(self) -> MachineName:
        return MachineName(self.tenant, self.container, self.unit)


class CredentialView(msgspec.Struct, frozen=True, kw_only=True):
    """That there is one."""

    firmware: Firmware
    scope: str
    set_at_s: int
    set_by: str


def list_addresses(connection: Connection) -> list[MachineAddress]:
    """All of them, by name."""
    query = _named().order_by(tenants.c.name, machine_addresses.c.container, machine_addresses.c.unit)
    return [_address(row) for row in connection.execute(query)]


def addresses_of(connection: Connection, names: Iterable[MachineName]) -> dict[MachineName, MachineAddress]:
    """Of these, whoever has one."""
    found: dict[MachineName, MachineAddress] = {}
    units: dict[tuple[str, str], set[str]] = {}
    for it in names:
        units.setdefault((it.tenant, it.container), set()).add(it.unit)
    for (tenant, container), of in units.items():
        query = _named().where(tenants.c.name == tenant, machine_addresses.c.container == container)
        if len(of) <= ASKED_AT_ONCE:
            query = query.where(machine_addresses.c.unit.in_(of))
        found |= {it.machine: it for it in map(_address, connection.execute(query)) if it.unit in of}
    return found


def find_address(connection: Connection, machine: MachineName) -> MachineAddress | None:
    return addresses_of(connection, [machine]).get(machine)


def set_address(connection: Connection, it: MachineAddress, *, by: str, now_s: int) -> None:
    """Set it, or have none where nothing is said. Raises RegistryError."""
    tenant_id = connection.scalar(select(tenants.c.id).where(tenants.c.name == it.tenant))
    if tenant_id is None:
        raise RegistryError(f"there is no tenant {it.tenant!r:.80}")
    of = machine_addresses.c
    here = and_(of.tenant_id == tenant_id, of.container == it.container, of.unit == it.unit)
    connection.execute(delete(machine_addresses).where(here))
    if it.address is None and it.firmware is None:
        return
    if it.address is not None:
        _refuse_shared(connection, it)
    row = {
        "tenant_id": tenant_id,
        "container": it.container,
        "unit": it.unit,
        "address": it.address,
        "port": it.port,
        "firmware": None if it.firmware is None else it.firmware.value,
        "set_at_s": now_s,
        "set_by": by,
    }
    connection.execute(insert(machine_addresses).values(row))


def site_of_containers(
    connection: Connection, names: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """Of those containers that somebody has placed, by tenant and name."""
    wanted = set(names)
    query = (
        select(tenants.c.name, containers.c.name, sites.c.name)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .join(sites, sites.c.id == containers.c.site_id)
        .where(tenants.c.name.in_({tenant for tenant, _ in wanted}))
    )
    rows = connection.execute(query)
    return {(tenant, name): site for tenant, name, site in rows if (tenant, name) in wanted}


def list_credentials(connection: Connection) -> list[CredentialView]:
    query = select(machine_credentials).order_by(*machine_credentials.primary_key)
    return [
        CredentialView(
            firmware=Firmware(row.firmware), scope=row.scope, set_at_s=row.set_at_s, set_by=row.set_by
        )
        for row in connection.execute(query)
    ]


def sealed_credentials(connection: Connection) -> dict[tuple[Firmware, str], Sealed]:
    """For whoever tells machines, by firmware and scope."""
    rows = connection.execute(select(machine_credentials))
    return {
        (Firmware(it.firmware), it.scope): Sealed(Firmware(it.firmware), it.scope, it.sealed) for it in rows
    }


def set_credential(connection: Connection, sealed: Sealed, *, by: str, now_s: int) -> None:
    """Raises RegistryError."""
    if not 0 < len(sealed.text) <= SEALED_CHARS_MAX or not sealed.text.isascii():
        raise RegistryError("a password is sealed before it is set: see `angara power credential set`")
    check_scope(sealed.scope)
    remove_credential(connection, sealed.firmware, sealed.scope)
    if len(list_credentials(connection)) >= CREDENTIALS_MAX:
        raise RegistryError(f"there are {CREDENTIALS_MAX} passwords already")
    row = {
        "firmware": sealed.firmware.value,
        "scope": sealed.scope,
        "sealed": sealed.text,
        "set_at_s": now_s,
        "set_by": by,
    }
    connection.execute(insert(machine_credentials).values(row))


def remove_credential(connection: Connection, firmware: Firmware, scope: str) -> bool:
    """Whether there was one."""
    of = machine_credentials.c
    done = connection.execute(
        delete(machine_credentials).where(of.firmware == firmware.value, of.scope == scope)
    )
    return done.rowcount > 0


def check_scope(scope: str) -> None:
    """Raises RegistryError."""
    kind, _, name = scope.partition(":")
    good = scope == EVERYWHERE or (kind == "site" and name) or (kind == "container" and "." in name)
    if not good or len(scope) > 200 or not scope.isprintable():
        raise RegistryError("a password is for everywhere, for site:NAME or for container:TENANT.NAME")


def _refuse_shared(connection: Connection, it: MachineAddress) -> None:
    """One address is one machine's, at a site: other sites may have the same network."""
    of = machine_addresses.c
    port = of.port.is_(None) if it.port is None else or_(of.port == it.port, of.port.is_(None))
    others = [
        _address(row) for row in connection.execute(_named().where(of.address == it.address, port).limit(200))
    ]
    places = site_of_containers(
        connection, [(other.tenant, other.container) for other in others] + [(it.tenant, it.container)]
    )
    mine = places.get((it.tenant, it.container))
    for other in others:
        if places.get((other.tenant, other.container)) == mine:
            raise RegistryError(f"{it.address} is the address of {other.machine} already")


def _named() -> Select[Any]:
    return select(machine_addresses, tenants.c.name.label("tenant")).join(
        tenants, tenants.c.id == machine_addresses.c.tenant_id
    )


def _address(row: Row[Any]) -> MachineAddress:
    return MachineAddress(
        tenant=row.tenant,
        container=row.container,
        unit=row.unit,
        address=row.address,
        port=row.port,
        firmware=None if row.firmware is None else Firmware(row.firmware),
    )
