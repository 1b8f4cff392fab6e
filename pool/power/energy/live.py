"""What is drawn now, by container, site and tenant: from accepted work of five minutes, or a meter.

For eyes, alarms and plans: averages, in whole watts. What is charged is of whole hours and exact
(pool.power.energy.energies). As there, a meter's watts are divided by what the work behind it says, a site's
without what has meters of its own, and one that says less than half of the work is not believed.

Pure: a look at machines, and what the books say; arrays by machine, a few milliseconds for 22,400. Must not
know: the database, who asks.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from pool.fleet.hashrate import OFFLINE_S, Bools, Floats, Ints
from pool.power.energy.bounds import ERROR_BPS_MAX, shares_error_bps, together_bps
from pool.power.energy.efficiencies import NOTHING_KNOWN, Efficiencies
from pool.power.energy.energies import BELIEVED_AT_LEAST
from pool.power.energy.limits import LimitView, lowest
from pool.power.energy.meters import Meter
from pool.power.energy.readings import GAP_S, J_PER_WH, Reading, stands_still
from pool.power.figures import MJ_PER_TH_MAX, Basis

WINDOW_S: Final = 300.0  # of the average that hashrates are
# Three readings missed: of what a meter had before nobody says that it is so now.
FRESH_S: Final = 300
MJ_HPS_PER_W: Final = 1e15  # mJ/TH times H/s, in watts


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A container as people call it."""

    tenant: str
    name: str
    site: str | None
    tenant_active: bool
    fee_bps: int
    pays_energy: bool = False  # by its tenant's hosting terms
    units: int | None = None  # that stand there; None: nobody has said


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the books say at one moment."""

    at_s: int = 0
    efficiencies: Efficiencies = NOTHING_KNOWN
    places: Mapping[int, Place] = {}  # by number of the container
    limits: tuple[LimitView, ...] = ()
    meters: tuple[Meter, ...] = ()
    readings: Mapping[int, Sequence[Reading]] = {}  # by meter, of the last hour and more


class MachinesNow(msgspec.Struct, frozen=True, kw_only=True):
    """An entry for each machine; rates are of five minutes."""

    numbers: Ints
    containers: Ints
    rates_hps: Floats
    hour_hps: Floats
    rejected_hps: Floats
    share_hashes: Floats
    ages_s: Floats
    accepted: Ints
    undelivered: Ints
    unheard: Bools


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """Of a container, or of more. `watts` are of the basis, with its error; `work_watts` what the accepted
    work says, `meter_watts` what a meter says of it. Machines are those that mine."""

    watts: int
    basis: Basis
    error_bps: int
    work_watts: int
    work_error_bps: int
    meter_watts: int | None
    hashrate_hps: int
    machines: int
    unknown_machines: int  # whose efficiency nobody knows: the work of those says nothing
    limit_watts: int | None = None

    @property
    def mj_per_th(self) -> int | None:
        """W/TH is J/TH; None where nothing is mined (or next to nothing, behind a meter that has fans), or
        not all of it is known."""
        if not self.hashrate_hps or (self.basis is not Basis.METER and self.unknown_machines):
            return None
        found = self.watts * 10**15 // self.hashrate_hps
        return found if found <= MJ_PER_TH_MAX else None

    @property
    def over_limit(self) -> bool:
        return self.limit_watts is not None and self.watts > self.limit_watts


class MeterNow(msgspec.Struct, frozen=True, kw_only=True):
    """What a meter reads, and what is wrong with it."""

    meter: Meter
    watts: int | None  # None: it has read nothing for FRESH_S
    age_s: int | None
    work_watts: int  # of the machines behind it
    work_error_bps: int
    still: bool
    believed: bool


class PowerNow(msgspec.Struct, frozen=True, kw_only=True):
    """By names: of containers tenant and name, of what stands nobody knows where the site None."""

    at_s: int
    containers: Mapping[tuple[str, str], Drawn]
    sites: Mapping[str | None, Drawn]
    tenants: Mapping[str, Drawn]
    meters: tuple[MeterNow, ...]


class _Sums(msgspec.Struct):
    """Of containers, by number."""

    hps: dict[int, float]
    watts: dict[int, float]
    worth: dict[int, tuple[float, float, float]]  # sums of weighed shares, their squares, and tolerances
    mining: dict[int, int]
    unknown: dict[int, int]


def power_now(known: Known, machines: MachinesNow, now_s: int) -> PowerNow:
    """All of it. A container that the books do not have yet waits a minute."""
    sums = _summed(known, machines)
    watts = {number: round(sums.watts.get(number, 0.0)) for number in known.places}
    meters = [_meter_now(known, it, watts, sums, now_s) for it in known.meters]
    metered = _of_meters(known, meters, watts)
    drawn = {number: _drawn(known, number, watts[number], metered, sums) for number in known.places}
    return PowerNow(
        at_s=now_s,
        containers={(known.places[it].tenant, known.places[it].name): drawn[it] for it in drawn},
        sites=_sites(known, drawn, meters, sums),
        tenants={
            tenant: _together(drawn, [it for it in drawn if known.places[it].tenant == tenant], sums)
            for tenant in sorted({it.tenant for it in known.places.values()})
        },
        meters=tuple(meters),
    )


def _summed(known: Known, machines: MachinesNow) -> _Sums:
    mj = known.efficiencies.column("mj_per_th", machines.numbers).astype(float)
    tolerance = known.efficiencies.column("error_bps", machines.numbers).astype(float)
    weight = np.where(mj > 0, mj, 0.0) * machines.rates_hps * WINDOW_S
    mining = (machines.ages_s <= OFFLINE_S) & (machines.rates_hps > 0)

    def of(values: Any) -> list[float]:
        return np.bincount(machines.containers, weights=values).tolist()  # type: ignore[no-any-return]

    hps, watts = of(machines.rates_hps), of(mj * machines.rates_hps / MJ_HPS_PER_W)
    worth = of(weight), of(weight * mj * machines.share_hashes), of(weight * tolerance)
    alive, unknown = of(mining), of(mining & (mj == 0))
    here = np.unique(machines.containers).tolist()
    return _Sums(
        hps={it: hps[it] for it in here},
        watts={it: watts[it] for it in here},
        worth={it: (worth[0][it], worth[1][it], worth[2][it]) for it in here},
        mining={it: int(alive[it]) for it in here},
        unknown={it: int(unknown[it]) for it in here},
    )


def _error_bps(sums: _Sums, containers: Iterable[int]) -> int:
    """Of the watts that their work says."""
    total = squares = tolerance = 0.0
    for it in containers:
        a, b, c = sums.worth.get(it, (0.0, 0.0, 0.0))
        total, squares, tolerance = total + a, squares + b, tolerance + c
    if total <= 0 or squares <= 0:
        return ERROR_BPS_MAX
    return together_bps(shares_error_bps(int(total * total / squares)), int(tolerance / total) + 1)


def _meter_now(known: Known, meter: Meter, watts: Mapping[int, int], sums: _Sums, now_s: int) -> MeterNow:
    readings = known.readings.get(meter.id, ())
    behind = _behind(known, meter)
    reads = watts_read(readings, now_s, meter.max_watts)
    work = sum(watts[it] for it in behind)
    still = work > 0 and stands_still(readings)
    return MeterNow(
        meter=meter,
        watts=reads,
        age_s=max(0, now_s - readings[-1].at_s) if readings else None,
        work_watts=work,
        work_error_bps=_error_bps(sums, behind),
        still=still,
        believed=reads is not None and not still and reads * BELIEVED_AT_LEAST >= work,
    )


def watts_read(readings: Sequence[Reading], now_s: int, max_watts: int) -> int | None:
    """What a meter draws now by its last readings: their watts, or what its counter counted between them."""
    if not readings or now_s - readings[-1].at_s > FRESH_S:
        return None
    last = readings[-1]
    if last.watts is not None:
        return last.watts
    for it in reversed(readings[:-1]):
        span_s = last.at_s - it.at_s
        if span_s > GAP_S:
            return None
        if it.counter_wh is not None and last.counter_wh is not None and span_s >= FRESH_S // 2:
            counted = last.counter_wh - it.counter_wh
            watts = counted * J_PER_WH // span_s
            return watts if 0 <= watts <= max_watts else None
    return None


def _behind(known: Known, meter: Meter) -> list[int]:
    if meter.site_id is None:
        return [it for it in meter.containers if it in known.places]
    return [number for number, place in known.places.items() if place.site == meter.site]


def _of_meters(
    known: Known, meters: Sequence[MeterNow], watts: Mapping[int, int]
) -> dict[int, tuple[int, Meter]]:
    """What meters say of each container that has one, by its number."""
    found: dict[int, tuple[int, Meter]] = {}
    for it in sorted(meters, key=lambda it: it.meter.site_id is not None):
        if it.watts is None or not it.believed:
            continue
        behind = _behind(known, it.meter)
        rest = it.watts
        if it.meter.site_id is not None:
            rest -= sum(found[number][0] for number in behind if number in found)
            behind = [number for number in behind if number not in found]
        work = sum(watts[number] for number in behind)
        if rest < 0 or (not work and it.meter.site_id is not None) or rest * BELIEVED_AT_LEAST < work:
            continue
        for number in behind:
            share = rest * watts[number] // work if work else rest // len(behind)
            found[number] = (share, it.meter)
    return found


def _drawn(
    known: Known, number: int, work: int, metered: Mapping[int, tuple[int, Meter]], sums: _Sums
) -> Drawn:
    error_bps = _error_bps(sums, [number])
    watts, basis, total_bps, meter_watts = work, Basis.WORK, error_bps, None
    if number in metered:
        watts, meter = metered[number]
        alone = meter.containers == (number,)
        total_bps = meter.error_bps if alone else together_bps(meter.error_bps, error_bps)
        basis, meter_watts = Basis.METER, watts
    return Drawn(
        watts=watts,
        basis=basis,
        error_bps=total_bps,
        work_watts=work,
        work_error_bps=error_bps,
        meter_watts=meter_watts,
        hashrate_hps=round(sums.hps.get(number, 0.0)),
        machines=sums.mining.get(number, 0),
        unknown_machines=sums.unknown.get(number, 0),
        limit_watts=lowest(known.limits, container_id=number),
    )


def _sites(
    known: Known, drawn: Mapping[int, Drawn], meters: Sequence[MeterNow], sums: _Sums
) -> dict[str | None, Drawn]:
    of_site = {it.meter.site: it for it in meters if it.meter.site_id is not None and it.believed}
    found: dict[str | None, Drawn] = {}
    for site in sorted({it.site for it in known.places.values()}, key=lambda it: it or ""):
        here = [number for number, place in known.places.items() if place.site == site]
        whole = _together(drawn, here, sums)
        meter = of_site.get(site)
        if meter is not None and meter.watts is not None:
            whole = msgspec.structs.replace(
                whole,
                watts=meter.watts,
                meter_watts=meter.watts,
                basis=Basis.METER,
                error_bps=meter.meter.error_bps,
            )
        if site is not None:
            whole = msgspec.structs.replace(whole, limit_watts=lowest(known.limits, site=site))
        found[site] = whole
    return found


def _together(drawn: Mapping[int, Drawn], numbers: Sequence[int], sums: _Sums) -> Drawn:
    """Metered is what all of it is metered of."""
    parts = [drawn[it] for it in numbers]
    watts = sum(it.watts for it in parts)
    meters = [it.meter_watts for it in parts if it.meter_watts is not None]
    all_metered = bool(parts) and len(meters) == len(parts)
    work_bps = _error_bps(sums, numbers)
    bounded = [it for it in parts if it.watts]
    weighed = -(-sum(it.watts * it.error_bps for it in bounded) // watts) if watts else ERROR_BPS_MAX
    return Drawn(
        watts=watts,
        basis=Basis.METER if all_metered else Basis.WORK,
        error_bps=weighed if meters else work_bps,
        work_watts=sum(it.work_watts for it in parts),
        work_error_bps=work_bps,
        meter_watts=sum(meters) if all_metered else None,
        hashrate_hps=sum(it.hashrate_hps for it in parts),
        machines=sum(it.machines for it in parts),
        unknown_machines=sum(it.unknown_machines for it in parts),
    )
