"""The operator's questions about power: what is drawn now, and by whom for nothing.

Must not know: sockets, terminals, how it is reckoned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from payouts.schemas.money import containers, sites, tenants
from pool.admin.command import Commands, Question
from pool.admin.desk import Desk, wall_s
from pool.people.roles import Caller, Role
from pool.power.energy.limits import LimitView, limits_at, lowest

if TYPE_CHECKING:
    from pool.power.energy.live import Drawn, MeterNow, PowerNow

NEVER_PAID_S: Final = 600  # a machine that connected so long ago has had a share, or never has one


class PowerNowAsk(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of everything, of a site, or of a tenant."""

    site: str | None = None
    tenant: str | None = None


class PowerFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a running pool adds; nothing where none runs. `basis` is meter or work, `error_bps` bounds `watts`
    both ways; of `unknown_machines` nobody knows how they draw. `mj_per_th` is mJ/TH, and mW per TH/s."""

    watts: int | UnsetType = UNSET
    basis: str | UnsetType = UNSET
    error_bps: int | UnsetType = UNSET
    work_watts: int | UnsetType = UNSET
    meter_watts: int | UnsetType | None = UNSET
    mj_per_th: int | UnsetType | None = UNSET
    hps: int | UnsetType = UNSET
    mining: int | UnsetType = UNSET
    unknown_machines: int | UnsetType = UNSET
    limit_watts: int | None = None
    over_limit: bool = False


class PowerOfContainer(PowerFigures, frozen=True, kw_only=True):
    tenant: str
    container: str
    site: str | None


class PowerOfSite(PowerFigures, frozen=True, kw_only=True):
    site: str | None  # None: what stands nobody has said where


class PowerOfTenant(PowerFigures, frozen=True, kw_only=True):
    tenant: str


class MeterReads(msgspec.Struct, frozen=True, kw_only=True):
    """`watts` None: it has read nothing for minutes. `work_watts` is of the machines behind it."""

    meter: str
    places: tuple[str, ...]
    watts: int | None
    age_s: int | None
    work_watts: int
    believed: bool


class PowerTable(msgspec.Struct, frozen=True, kw_only=True):
    """Sites and meters are not a tenant's to see."""

    at_s: int
    sites: tuple[PowerOfSite, ...]
    tenants: tuple[PowerOfTenant, ...]
    containers: tuple[PowerOfContainer, ...]
    meters: tuple[MeterReads, ...]


class PowerSuspects(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class SuspectRow(msgspec.Struct, frozen=True, kw_only=True):
    """A machine, a container, or a meter. `watts`: what it draws for nothing, or unpaid, where that is
    known."""

    kind: str
    subject: str  # tenant.container.unit, tenant.container, or the name of a meter
    watts: int | None
    words: str


class _There(msgspec.Struct, frozen=True):
    tenant: str
    container: str
    site: str | None


def power_now(desk: Desk, it: PowerNowAsk) -> PowerTable:
    """What is drawn, from accepted work of five minutes or by meters; without a running pool, the limits."""
    now_s = wall_s()
    there, limits = desk.read(lambda connection: (_containers(connection), limits_at(connection, now_s)))
    now = None if desk.live is None else desk.live.power()
    shown = [
        (box, number)
        for number, box in there.items()
        if it.site in (None, box.site) and it.tenant in (None, box.tenant)
    ]
    named = sorted({box.site for box, _ in shown}, key=lambda name: name or "")
    whole = it.tenant is None  # of a site, or of a meter before several tenants
    return PowerTable(
        at_s=now_s,
        sites=tuple(_of_site(name, now, limits) for name in named) if whole else (),
        tenants=tuple(_of_tenant(name, now) for name in sorted({box.tenant for box, _ in shown}))
        if it.site is None
        else (),
        containers=tuple(_of_container(number, box, now, limits) for box, number in shown),
        meters=tuple(
            _reads(one)
            for one in (() if now is None else now.meters)
            if whole and (it.site is None or _at(one, it.site, [box for box, _ in shown]))
        ),
    )


def power_now_of(it: PowerNowAsk, caller: Caller) -> PowerNowAsk:
    return msgspec.structs.replace(it, tenant=caller.own_tenant(it.tenant))


def power_suspects(desk: Desk, it: PowerSuspects) -> list[SuspectRow]:
    """Machines that draw and do not mine, or mine and are not paid for; and meters that cannot be right.
    Nothing where no pool runs: that is seen by what they send."""
    if desk.live is None:
        return []
    there = desk.read(_containers)
    rows = [
        SuspectRow(
            kind=found.kind,
            subject=name or found.meter or _name(there.get(found.container or 0)),
            watts=found.watts,
            words=found.words,
        )
        for found, name in desk.live.power_suspects()
    ]
    now_s = wall_s()
    for new in desk.live.unlisted(0, None, None):
        if new.new and new.first_seen_at_s is not None and now_s - new.first_seen_at_s > NEVER_PAID_S:
            rows.append(
                SuspectRow(
                    kind="workless",
                    subject=".".join(part for part in (new.tenant, new.container, new.unit) if part),
                    watts=None,
                    words=f"it connected {(now_s - new.first_seen_at_s) // 60} min ago, and no share"
                    " of it was accepted",
                )
            )
    return rows


def power_changed(desk: Desk) -> None:
    """What the books say of nameplates, meters or limits is another."""
    if desk.live is not None:
        desk.live.power_changed()


def _containers(connection: Connection) -> dict[int, _There]:
    query = (
        select(containers.c.id, tenants.c.name, containers.c.name.label("box"), sites.c.name.label("site"))
        .join(tenants, tenants.c.id == containers.c.tenant_id)
        .outerjoin(sites, sites.c.id == containers.c.site_id)
        .where(containers.c.removed_at_s.is_(None))
        .order_by(tenants.c.name, containers.c.name)
    )
    return {number: _There(tenant, box, site) for number, tenant, box, site in connection.execute(query)}


def _name(it: _There | None) -> str:
    return "" if it is None else ".".join(part for part in (it.tenant, it.container) if part)


def _figures(drawn: Drawn | None) -> dict[str, object]:
    if drawn is None:
        return {}
    return {
        "watts": drawn.watts,
        "basis": drawn.basis.value,
        "error_bps": drawn.error_bps,
        "work_watts": drawn.work_watts,
        "meter_watts": drawn.meter_watts,
        "mj_per_th": drawn.mj_per_th,
        "hps": drawn.hashrate_hps,
        "mining": drawn.machines,
        "unknown_machines": drawn.unknown_machines,
    }


def _limited(figures: dict[str, object], limit: int | None) -> dict[str, object]:
    watts = figures.get("watts", 0)
    over = limit is not None and isinstance(watts, int) and watts > limit
    return figures | {"limit_watts": limit, "over_limit": over}


def _of_site(name: str | None, now: PowerNow | None, limits: tuple[LimitView, ...]) -> PowerOfSite:
    limit = None if name is None else lowest(limits, site=name)
    figures = _figures(None if now is None else now.sites.get(name))
    return msgspec.convert({"site": name, **_limited(figures, limit)}, PowerOfSite)


def _of_tenant(name: str, now: PowerNow | None) -> PowerOfTenant:
    figures = _figures(None if now is None else now.tenants.get(name))
    return msgspec.convert({"tenant": name, **figures}, PowerOfTenant)


def _of_container(
    number: int, box: _There, now: PowerNow | None, limits: tuple[LimitView, ...]
) -> PowerOfContainer:
    figures = _figures(None if now is None else now.containers.get((box.tenant, box.container)))
    names = {"tenant": box.tenant, "container": box.container, "site": box.site}
    limited = _limited(figures, lowest(limits, container_id=number))
    return msgspec.convert(names | limited, PowerOfContainer)


def _reads(it: MeterNow) -> MeterReads:
    return MeterReads(
        meter=it.meter.name,
        places=it.meter.places,
        watts=it.watts,
        age_s=it.age_s,
        work_watts=it.work_watts,
        believed=it.believed,
    )


def _at(it: MeterNow, site: str, boxes: list[_There]) -> bool:
    names = {_name(box) for box in boxes}
    return it.meter.site == site or not names.isdisjoint(it.meter.places)


COMMANDS: Final[Commands] = {
    "power.now": Question(PowerNowAsk, power_now, Role.TENANT, power_now_of),
    "power.suspects": Question(PowerSuspects, power_suspects),
}
