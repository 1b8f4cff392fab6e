"""The operator's commands for all nameplates at once: a table out, compared, and in, whole or not at all.

Must not know: files, terminals.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.money import containers, sites, tenants
from pool.admin.command import Change, Commands, Question
from pool.admin.desk import Desk, OperatorDesk, wall_s
from pool.admin.fleet.machines import container_state
from pool.fleet import nameplates
from pool.fleet import rows as registry_store
from pool.fleet.nameplates import NUMBERS, Nameplate
from pool.fleet.registry import ContainerRecord
from pool.people.roles import Role


class ContainerExport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class ContainerCompare(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    table: str


class ContainerImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    table: str


class NameplateTable(msgspec.Struct, frozen=True):
    """A table for a spreadsheet."""

    table: str


class NameplateChange(msgspec.Struct, frozen=True):
    """What a line of a table changes; nothing: it is as it was."""

    tenant: str
    name: str
    change: str


def container_export(desk: Desk, it: ContainerExport) -> NameplateTable:
    """All nameplates as CSV."""
    return NameplateTable(nameplates.written(desk.read(_there).values()))


def container_compare(desk: Desk, it: ContainerCompare) -> list[NameplateChange]:
    """What importing this table would change."""
    rows = nameplates.read(it.table)
    return desk.read(lambda connection: [change for change, _ in _changes(connection, rows)])


def container_import(desk: OperatorDesk, it: ContainerImport) -> list[NameplateChange]:
    """Set all nameplates of a table, or none of them; what that changed."""
    rows = nameplates.read(it.table)
    told: list[NameplateChange] = []

    def plan(connection: Connection) -> dict[str, Callable[[Connection], ContainerRecord]]:
        works: dict[str, Callable[[Connection], ContainerRecord]] = {}
        for change, row in _changes(connection, rows):
            told.append(change)
            works[f"{row.tenant}.{row.container}"] = partial(_set, desk, row)
        return works

    for record in desk.write_each(plan):
        if desk.live is not None:
            desk.live.container_changed(record)
    return told


def all_containers(it: ContainerImport) -> str:
    """What an import is about where it changes nothing."""
    return "containers"


def _set(desk: Desk, row: Nameplate, connection: Connection) -> ContainerRecord:
    next_id = (connection.scalar(select(func.max(containers.c.id))) or 0) + 1
    if desk.live is not None:
        next_id = desk.live.reserve_container(row.tenant, row.container)
    return registry_store.set_container(
        connection,
        row.tenant,
        row.container,
        site=row.site,
        units=row.units,
        ths=row.ths,
        kw=row.kw,
        next_id=next_id,
        now_s=wall_s(),
    )


def _there(connection: Connection) -> dict[tuple[str, str], Nameplate]:
    query = (
        select(containers, tenants.c.name.label("tenant"), sites.c.name.label("site"))
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(containers.c.removed_at_s.is_(None), containers.c.name != "")
        .order_by(tenants.c.name, containers.c.name)
    )
    return {
        (row.tenant, row.name): Nameplate(
            tenant=row.tenant,
            container=row.name,
            site=row.site,
            units=row.nameplate_units,
            ths=row.nameplate_ths,
            kw=row.nameplate_kw,
        )
        for row in connection.execute(query)
    }


def _changes(connection: Connection, rows: list[Nameplate]) -> list[tuple[NameplateChange, Nameplate]]:
    """Those that change something. Raises RegistryError for tenants that there are not."""
    known, there = set(connection.scalars(select(tenants.c.name))), _there(connection)
    nameplates.refuse([f"there is no tenant {it.tenant!r}" for it in rows if it.tenant not in known])
    found = []
    for row in rows:
        was = there.get((row.tenant, row.container))
        words = ["new"] if was is None else []
        for column in ("site", *NUMBERS):
            becomes, before = getattr(row, column), None if was is None else getattr(was, column)
            if becomes is not None and becomes != before:
                words.append(f"{column} {becomes}" if before is None else f"{column} {before} -> {becomes}")
        if words:
            found.append((NameplateChange(row.tenant, row.container, ", ".join(words)), row))
    return found


COMMANDS: Final[Commands] = {
    "container.export": Question(ContainerExport, container_export),
    "container.compare": Question(ContainerCompare, container_compare),
    "container.import": Change(
        ContainerImport, container_import, all_containers, container_state, Role.OPERATOR
    ),
}
