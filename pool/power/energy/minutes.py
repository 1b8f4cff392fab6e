"""The energy of a part of the fleet by the minute: of a site, a tenant, a container, or one machine.

It is what energies_of_minutes says of that minute, by the same integers. Read of the books is only who stands
behind a meter together with the part: without meters its own machines, with a site's all of the site. There
are minutes until their hour is over for an hour; then an hour says how much, and no longer when
(docs/decisions/010-minutes-for-an-hour.md).

    work    each machine's joules are rounded down once a minute: of an hour in which it mined in n minutes
            they add up to the hour's, less n - 1 joules at most
    meter   the parts are cut off at whole joules: those of all behind it, with what is nobody's, add up to
            the hour's to the joule where it counts in each of the minutes

Done in the caller's transaction, one for each minute: the memory of a minute is some hundred bytes a machine.
Must not know: who asks.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.schemas.many import among
from payouts.schemas.money import containers, workers
from payouts.schemas.power import power_meter_containers, power_meters
from payouts.tallies import MINUTES_KEPT_H
from pool.power.energy.energies import HOUR_S, EnergyRow, Fleet, energies_of_minutes, fleet_at
from pool.power.figures import Basis

MINUTE_S: Final = 60


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """By numbers; all of them that are there."""

    site_id: int | None = None
    tenant_id: int | None = None
    container_id: int | None = None
    worker_id: int | None = None

    def has(self, row: EnergyRow) -> bool:
        return (
            self.site_id in (None, row.site_id)
            and self.tenant_id in (None, row.tenant_id)
            and self.container_id in (None, row.container_id)
            and self.worker_id in (None, row.worker_id)
        )


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """`joules` None: nobody knows, because nothing mined and no meter counts, or because nobody has said the
    models of what mined. `basis` is METER where all of it is metered; `metered_joules` are in any case.
    `error_bps` bounds `joules` both ways."""

    joules: int | None
    metered_joules: int
    basis: Basis | None
    error_bps: int | None
    hashes: int
    machines: int  # that mined
    unknown_machines: int


def kept_minute(now_s: int) -> int:
    """The earliest one (since 1970) that has not become part of its hour."""
    return (now_s // HOUR_S - MINUTES_KEPT_H) * 60


def fleet_of(connection: Connection, part: Part, hour: int) -> Fleet:
    """Whose work has to be known for that of the part, in that hour."""
    return fleet_at(connection, hour * HOUR_S, _with_neighbours(connection, part))


def energy_of_minute(connection: Connection, part: Part, minute: int, fleet: Fleet) -> Minute:
    by_worker = part.worker_id is not None
    found = energies_of_minutes(connection, minute, minute + 1, by_worker=by_worker, fleet=fleet)
    return _together([row for row in found.rows if part.has(row)])


def _together(rows: Collection[EnergyRow]) -> Minute:
    joules = sum(row.joules for row in rows)
    metered = [row for row in rows if row.basis is Basis.METER]
    said = bool(metered or joules)
    error_bps = max((row.error_bps for row in metered), default=0)
    if joules:
        error_bps = -(-sum(row.joules * row.error_bps for row in rows) // joules)
    basis = Basis.METER if len(metered) == len(rows) else Basis.WORK
    return Minute(
        joules=joules if said else None,
        metered_joules=sum(row.joules for row in metered),
        basis=basis if said else None,
        error_bps=error_bps if said else None,
        hashes=sum(row.hashes for row in rows),
        machines=sum(row.machines for row in rows),
        unknown_machines=sum(row.unknown_machines for row in rows),
    )


def _with_neighbours(connection: Connection, part: Part) -> set[int]:
    """Containers of the part, all of a site that has a meter, and all behind a meter with any of those."""
    of = containers.c
    mine = select(of.id, of.site_id)
    if part.worker_id is not None:
        mine = mine.join(workers, workers.c.container_id == of.id).where(workers.c.id == part.worker_id)
    for column, wanted in ((of.id, part.container_id), (of.tenant_id, part.tenant_id)):
        if wanted is not None:
            mine = mine.where(column == wanted)
    if part.site_id is not None:
        mine = mine.where(of.site_id == part.site_id)
    rows = connection.execute(mine).all()
    found, places = {row.id for row in rows}, {row.site_id for row in rows} - {None}
    metered = select(power_meters.c.site_id).where(among(connection, power_meters.c.site_id, places))
    at = among(connection, of.site_id, _numbers(connection.scalars(metered.distinct())))
    found |= _numbers(connection.scalars(select(of.id).where(at)))
    before = power_meter_containers.c
    meters = _numbers(
        connection.scalars(select(before.meter_id).where(among(connection, before.container_id, found)))
    )
    behind = select(before.container_id).where(among(connection, before.meter_id, meters))
    return found | _numbers(connection.scalars(behind))


def _numbers(found: Iterable[int]) -> set[int]:
    return set(found)
