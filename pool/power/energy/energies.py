"""The energy of an hour, or of minutes, of every machine, container and tenant: metered where there is a
meter, else from accepted work, with which of the two it is and how far off it may be.

What a meter measured is divided over the machines behind it in proportion to what their work says, to the
joule: the sum is the meter's. Where tenants share it, no machine has more than its work may take by all
errors, and what is beyond is nobody's: nobody pays for a neighbour who mines elsewhere. Of a site's meter,
what the containers with meters of their own have is taken off before, and the rest is of all other machines
of the site, with all that the site draws besides. A meter counts for a span that it covers wholly; one that
says less than half of what the work behind it takes is not believed: no machine is twice as good as its
nameplate.

    basis METER: the error is of the meter's class, and of the division where several share it
    basis WORK: of the nameplate's tolerance, and of the number of shares (95 %)

An hour that is over answers the same whenever it is asked, but for shares that came late and for a container
that was moved to another site: who books it keeps what was answered. Done in the caller's transaction, in
memory some hundred bytes a machine. Must not know: what a kWh costs.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec
from sqlalchemy import Connection, select

from payouts.schemas.many import among
from payouts.schemas.money import containers, workers
from pool.power.energy.bounds import BPS, together_bps
from pool.power.energy.efficiencies import Efficiencies, efficiencies_at
from pool.power.energy.meters import Meter, list_meters, measured_by, readings_between
from pool.power.energy.readings import GAP_S, Metered, stands_still
from pool.power.energy.work import (
    MJ_HASHES_PER_J_TH,
    Work,
    estimate_error_bps,
    joules_of,
    spread_bps,
    work_of_hour,
    work_of_minutes,
)
from pool.power.figures import Basis

HOUR_S: Final = 3_600
BELIEVED_AT_LEAST: Final = 2  # a meter that says less than one of so many parts of the work is wrong


class EnergyRow(msgspec.Struct, frozen=True, kw_only=True):
    """Of a machine, or of all of a container (`worker_id` None). Without tenant and container it is what a
    meter of a site, or of several tenants, has and no machine's work explains. Of machines whose efficiency
    nobody knows there is nothing in the joules of basis WORK: `unknown_machines` of those that mined."""

    tenant_id: int | None
    container_id: int | None
    worker_id: int | None
    site_id: int | None
    joules: int
    basis: Basis
    error_bps: int
    hashes: int
    machines: int  # that mined
    unknown_machines: int = 0
    meter_id: int | None = None


class MeterSpan(msgspec.Struct, frozen=True, kw_only=True):
    """What a meter says of the span."""

    meter: Meter
    metered: Metered
    words: str  # why it does not count; empty where it does


class Energies(msgspec.Struct, frozen=True):
    """Rows by container, and of machines where they were asked for; what each meter had to do with it."""

    rows: tuple[EnergyRow, ...]
    meters: tuple[MeterSpan, ...]


class Fleet(msgspec.Struct, frozen=True):
    """Machines with their containers, by container and number, and how they draw: it is the same for all of
    an hour, so whoever asks for many minutes of it reads it once."""

    places: Sequence[tuple[int, int]]
    known: Efficiencies
    boxes: Collection[int] | None = None  # whose machines these are; None: all there are


class _Machine(msgspec.Struct):
    """While it is divided."""

    number: int
    container: int
    work: Work
    estimate: int  # joules; of an unknown one 0
    weight: int
    error_bps: int
    known: bool
    mj_per_th: int
    tolerance_bps: int
    joules: int | None = None  # of a meter
    meter: Meter | None = None


class _Box(msgspec.Struct, frozen=True):
    """A container. `there`: not removed before."""

    id: int
    tenant_id: int
    site_id: int | None
    there: bool


def energies_of_hour(connection: Connection, hour: int, *, by_worker: bool = False) -> Energies:
    """Of an hour (since 1970). It is final when no reading of the hour behind it is taken any more, which its
    last minutes are known by. `by_worker`: a row a machine that mined, and the container's own (worker_id
    None) only where a meter measured something and nobody mined."""
    fleet = fleet_at(connection, hour * HOUR_S)
    work = work_of_hour(connection, hour)
    return _energies(connection, fleet, work, hour * HOUR_S, (hour + 1) * HOUR_S, by_worker)


def energies_of_minutes(
    connection: Connection,
    from_minute: int,
    until_minute: int,
    *,
    by_worker: bool = False,
    fleet: Fleet | None = None,
) -> Energies:
    """Of minutes since 1970, half-open, while there are minutes: power is joules by their seconds. By a fleet
    of that hour, where it is given, in which only rows of its containers are right."""
    fleet = fleet or fleet_at(connection, from_minute * 60)
    work = work_of_minutes(connection, from_minute, until_minute, fleet.boxes)
    return _energies(connection, fleet, work, from_minute * 60, until_minute * 60, by_worker)


def fleet_at(connection: Connection, at_s: int, boxes: Collection[int] | None = None) -> Fleet:
    """All machines, or those of some containers: of such ones that all behind each of their meters are among
    them."""
    it = workers.c
    place = select(it.id, it.container_id).order_by(it.container_id, it.id)
    if boxes is not None:
        place = place.where(among(connection, it.container_id, boxes))
    places = [(number, container) for number, container in connection.execute(place)]
    return Fleet(places, efficiencies_at(connection, at_s), boxes)


def _energies(
    connection: Connection,
    fleet: Fleet,
    work: Mapping[int, Work],
    from_s: int,
    until_s: int,
    by_worker: bool,
) -> Energies:
    boxes = {
        row.id: _Box(
            row.id, row.tenant_id, row.site_id, row.removed_at_s is None or row.removed_at_s > from_s
        )
        for row in connection.execute(select(containers))
    }
    machines = _machines(fleet, work)
    of_box: dict[int, list[_Machine]] = {
        number: list(group) for number, group in groupby(machines, key=lambda it: it.container)
    }
    spans: list[MeterSpan] = []
    rows: list[EnergyRow] = []
    taken: dict[
        int, tuple[int, set[int]]
    ] = {}  # of each site: joules, and containers, of meters of their own
    astride: dict[int, str] = {}  # sites of which nobody knows what a meter has there, and its name
    meters = [it for it in list_meters(connection, at_s=until_s - 1) if it.created_at_s < until_s]
    for meter in sorted(meters, key=lambda it: it.site_id is not None):
        readings = readings_between(connection, meter.id, from_s - GAP_S, until_s + GAP_S)
        measured = measured_by(meter, readings, from_s, until_s)
        joules = measured.joules
        if meter.site_id is None:
            behind = list(meter.containers)
        else:
            less, apart = taken.get(meter.site_id, (0, set()))
            joules -= less
            behind = [it.id for it in boxes.values() if it.site_id == meter.site_id and it.id not in apart]
        here = [it for number in behind for it in of_box.get(number, ())]
        says = sum(it.estimate for it in here)
        words = _not_believed(measured, until_s - from_s, joules, says)
        if not words and meter.site_id in astride:
            words = f"the meter {astride[meter.site_id]} stands before its containers and those of elsewhere"
        if not words and says and stands_still([it for it in readings if from_s <= it.at_s <= until_s]):
            words = "it says the same all the time"
        spans.append(MeterSpan(meter=meter, metered=measured, words=words))
        if words:
            continue
        if meter.site_id is None:
            for number in behind:
                site = boxes[number].site_id
                if site is not None:
                    before, apart = taken.setdefault(site, (0, set()))
                    apart.add(number)
                    taken[site] = (before, apart)
            places = {boxes[it].site_id for it in behind}
            for site in places:
                if site is not None and len(places) > 1:  # one of them was moved
                    astride[site] = meter.name
                elif site is not None:
                    taken[site] = (taken[site][0] + joules, taken[site][1])
        rows += _divide(connection, meter, joules, here, [boxes[it] for it in behind])
    for number in sorted(of_box):
        rows += _rows_of(boxes[number], of_box[number], by_worker)
    return Energies(tuple(sorted(rows, key=_order)), tuple(spans))


def _order(it: EnergyRow) -> tuple[int, int, int]:
    return (it.tenant_id or 0, it.container_id or 0, it.worker_id or 0)


def _machines(fleet: Fleet, work: Mapping[int, Work]) -> list[_Machine]:
    """Of all that mined, by container and number."""
    found = []
    for number, container in fleet.places:
        its = work.get(number)
        if its is None:
            continue
        efficiency = fleet.known.get(number)
        mj = 0 if efficiency is None else efficiency.mj_per_th
        joules = joules_of(its.hashes, mj)
        found.append(
            _Machine(
                number=number,
                container=container,
                work=its,
                estimate=joules,
                weight=mj * its.hashes,
                error_bps=its.error_bps if efficiency is None else estimate_error_bps(its, efficiency),
                known=efficiency is not None,
                mj_per_th=mj,
                tolerance_bps=0 if efficiency is None else efficiency.error_bps,
            )
        )
    return found


def _not_believed(measured: Metered, span_s: int, joules: int, says: int) -> str:
    if measured.covered_s < span_s:
        why = sorted({gap.why for gap in measured.gaps})
        return f"it has {measured.covered_s} of {span_s} s: {', '.join(why)}"
    if joules < 0:
        return "the meters behind it measured more"
    if joules * BELIEVED_AT_LEAST < says:
        return "it says less than half of what the accepted work behind it takes"
    return ""


def _divide(
    connection: Connection, meter: Meter, joules: int, machines: Sequence[_Machine], boxes: Sequence[_Box]
) -> list[EnergyRow]:
    """To the machines; what is nobody's is in the rows that are returned."""
    shared = len({it.tenant_id for it in boxes if it.there}) > 1
    site = meter.site_id if meter.site_id is not None or not boxes else boxes[0].site_id
    estimated = _weigh(machines)
    if any(it.weight for it in machines):
        parts = divided(joules, [it.weight for it in machines])
        for it, part in zip(machines, parts, strict=True):
            most = (
                it.weight // MJ_HASHES_PER_J_TH * (BPS + together_bps(meter.error_bps, it.error_bps)) // BPS
            )
            it.joules, it.meter = min(part, most) if shared and estimated else part, meter
        joules -= sum(it.joules or 0 for it in machines)
        return [_nobodys(meter, joules, None, site)] if joules else []
    if meter.site_id is not None or shared:
        return [_nobodys(meter, joules, None, site)] if joules else []
    counts = [_count(connection, box) for box in boxes]
    parts = divided(joules, counts if any(counts) else [1] * len(boxes))
    return [_nobodys(meter, part, box, box.site_id) for box, part in zip(boxes, parts, strict=True) if part]


def _weigh(machines: Sequence[_Machine]) -> bool:
    """A machine whose efficiency nobody knows is taken for one like the others of its meter; whether weights
    are energy: of machines of which nobody knows any they are hashes."""
    hashes = sum(it.work.hashes for it in machines if it.known)
    weight = sum(it.weight for it in machines if it.known)
    for it in machines:
        if not weight:
            it.weight = it.work.hashes
        elif not it.known:
            it.weight = it.work.hashes * weight // hashes
    return weight > 0


def _count(connection: Connection, box: _Box) -> int:
    there = (workers.c.container_id == box.id) & workers.c.removed_at_s.is_(None)
    return len(connection.scalars(select(workers.c.id).where(there)).all())


def _nobodys(meter: Meter, joules: int, box: _Box | None, site_id: int | None) -> EnergyRow:
    return EnergyRow(
        tenant_id=None if box is None else box.tenant_id,
        container_id=None if box is None else box.id,
        worker_id=None,
        site_id=site_id,
        joules=joules,
        basis=Basis.METER,
        error_bps=meter.error_bps,
        hashes=0,
        machines=0,
        meter_id=meter.id,
    )


def _rows_of(box: _Box, machines: Sequence[_Machine], by_worker: bool) -> list[EnergyRow]:
    groups = [[it] for it in machines] if by_worker else [list(machines)]
    return [_row(box, group, worker=group[0].number if by_worker else None) for group in groups]


def _row(box: _Box, machines: Sequence[_Machine], worker: int | None) -> EnergyRow:
    meter = machines[0].meter  # of a container all machines have the same
    unknown = [it for it in machines if not it.known]
    estimate_bps = _estimate_bps(machines)
    if meter is None:
        joules, basis, error_bps = sum(it.estimate for it in machines), Basis.WORK, estimate_bps
    else:
        joules, basis = sum(it.joules or 0 for it in machines), Basis.METER
        alone = worker is None and meter.containers == (box.id,)
        error_bps = meter.error_bps if alone else together_bps(meter.error_bps, estimate_bps)
    return EnergyRow(
        tenant_id=box.tenant_id,
        container_id=box.id,
        worker_id=worker,
        site_id=box.site_id,
        joules=joules,
        basis=basis,
        error_bps=error_bps,
        hashes=sum(it.work.hashes for it in machines),
        machines=len(machines),
        unknown_machines=len(unknown),
        meter_id=None if meter is None else meter.id,
    )


def _estimate_bps(machines: Sequence[_Machine]) -> int:
    """Shares of many err each its own way, nameplates of one model all the same way."""
    weighed = [(it.mj_per_th or 1, it) for it in machines if it.known] or [(1, it) for it in machines]
    total = sum(mj * it.work.hashes for mj, it in weighed)
    squares = sum(mj * mj * it.work.squares for mj, it in weighed)
    tolerance = sum(mj * it.work.hashes * it.tolerance_bps for mj, it in weighed)
    return together_bps(spread_bps(total, squares), -(-tolerance // total) if total else 0)


def divided(total: int, weights: Sequence[int]) -> list[int]:
    """In proportion, to the last one: what is left over goes, one each, to the largest remainders; of equal
    ones to the first."""
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    left = total - sum(parts)
    by_remainder = sorted(range(len(weights)), key=lambda at: (-(total * weights[at] % whole), at))
    for at in by_remainder[:left]:
        parts[at] += 1
    return parts


def by_tenant(rows: Sequence[EnergyRow]) -> Mapping[int | None, int]:
    """Joules of each."""
    joules: defaultdict[int | None, int] = defaultdict(int)
    for row in rows:
        joules[row.tenant_id] += row.joules
    return joules
