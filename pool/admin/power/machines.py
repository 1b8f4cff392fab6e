"""The operator's question what each machine draws now, one by one: by which evidence, and how far off.

The names are the books', so that machines that are silent are in the list too; the figures a running pool's.
Must not know: sockets, terminals, how it is reckoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, sites, tenants, workers
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk
from pool.admin.pages import Page, Paged, page_of
from pool.people.roles import Caller, Role
from pool.power.control.contract import MachineName

if TYPE_CHECKING:
    from pool.power.energy.by_machine import MachineDrawn


class PowerMachines(Paged, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of everything, of a site, of a tenant, or of a container (tenant.container)."""

    site: str | None = None
    tenant: str | None = None
    container: str | None = None


class PowerOfMachine(msgspec.Struct, frozen=True, kw_only=True):
    """What a running pool adds is not there where none runs. `watts` None: nobody knows what it draws, as
    nobody has said its model, or as it does not mine. `basis` is meter, work, or nameplate of a machine that
    nobody hears now; `error_bps` bounds `watts` both ways. `mj_per_th` is mJ/TH, and mW per TH/s; `hps` is of
    five minutes, by accepted work."""

    name: str
    site: str | None
    watts: int | UnsetType | None = UNSET
    basis: str | UnsetType | None = UNSET
    error_bps: int | UnsetType = UNSET
    work_watts: int | UnsetType | None = UNSET
    nameplate_watts: int | UnsetType | None = UNSET
    mj_per_th: int | UnsetType | None = UNSET
    hps: int | UnsetType = UNSET
    mining: bool | UnsetType = UNSET


class _There(msgspec.Struct, frozen=True):
    machine: MachineName
    site: str | None


def power_machines(desk: Desk, it: PowerMachines) -> Page[PowerOfMachine]:
    """What each machine draws, from its accepted work of five minutes or by its part of a meter."""
    there = desk.read(lambda connection: _machines(connection, it))
    page = page_of(it, there, lambda row: (str(row.machine),))
    drawn = {} if desk.live is None else desk.live.machines_drawn([row.machine for row in page.rows])
    return Page([_row(row, drawn.get(row.machine)) for row in page.rows], page.cursor)


def power_machines_of(it: PowerMachines, caller: Caller) -> PowerMachines:
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def _machines(connection: Connection, it: PowerMachines) -> list[_There]:
    query = (
        select(tenants.c.name, containers.c.name.label("box"), workers.c.unit, sites.c.name.label("site"))
        .join(containers, containers.c.id == workers.c.container_id)
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(workers.c.removed_at_s.is_(None), containers.c.removed_at_s.is_(None))
    )
    if it.site is not None:
        query = query.where(sites.c.name == it.site)
    if it.tenant is not None:
        query = query.where(tenants.c.name == it.tenant)
    if it.container is not None:
        tenant, _, box = it.container.partition(".")
        query = query.where(tenants.c.name == tenant, containers.c.name == box)
    found = [
        _There(MachineName(tenant, box, unit), site) for tenant, box, unit, site in connection.execute(query)
    ]
    return sorted(found, key=lambda row: str(row.machine))


def _row(it: _There, drawn: MachineDrawn | None) -> PowerOfMachine:
    if drawn is None:
        return PowerOfMachine(name=str(it.machine), site=it.site)
    return PowerOfMachine(
        name=str(it.machine),
        site=it.site,
        watts=drawn.watts,
        basis=None if drawn.basis is None else drawn.basis.value,
        error_bps=drawn.error_bps,
        work_watts=drawn.work_watts,
        nameplate_watts=drawn.nameplate_watts,
        mj_per_th=drawn.mj_per_th,
        hps=drawn.hashrate_hps,
        mining=drawn.mines,
    )


COMMANDS: Final[Commands] = {
    "power.machines": Question(PowerMachines, power_machines, Role.TENANT, power_machines_of),
}
