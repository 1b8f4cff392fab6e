"""What the books are told of power: what each container drew in an hour, and curtailments that are over.

Invariants: reads only, in the caller's transaction. Must not know: prices, and what is booked.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, select

from payouts.energy.events import BOOKED_AFTER_S, Event, EventMachine
from payouts.energy.hours import ContainerEnergy
from payouts.schemas.money import sites, workers
from pool.power.curtailment.baseline import hashes_of, work_before
from pool.power.curtailment.candidates import MJ_HPS_PER_W
from pool.power.curtailment.drawn_off import Off, drawn_off
from pool.power.curtailment.schema import power_event_machines, power_event_work, power_events
from pool.power.curtailment.states import EventState, MachineState
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.energy.energies import HOUR_S, MeterSpan, energies_of_hour
from pool.power.energy.meters import Meter, list_meters, measured_by, readings_between
from pool.power.energy.readings import GAP_S, Metered
from pool.power.figures import Basis, Efficiency

BPS: Final = 10_000


class MeterHour(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a meter counted in an hour (since 1970); why not, in words, empty where it did."""

    meter: str
    hour: int
    why: str


class ToldBooks:
    """As the books ask it (`pool.books.energy_books.PowerTold`). They look at an hour anew when the next one
    is over: from then on no reading of it is taken, and whether its meters counted is known."""

    def __init__(self) -> None:
        self._hours: dict[int, tuple[MeterHour, ...]] = {}  # the newest two

    @property
    def meters(self) -> tuple[MeterHour, ...] | None:
        """Of the last hour that is known for good; None: no such hour was looked at since the start."""
        return self._hours.get(max(self._hours, default=0) - 1)

    def drawn(self, connection: Connection, hour: int) -> Sequence[ContainerEnergy]:
        """What a meter of a site has and nobody's work explains is no container's, and not in it."""
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        found = energies_of_hour(connection, hour)
        self._note(hour, found.meters)
        for row in found.rows:
            if row.container_id is not None:
                it = sums[row.container_id]
                it[0 if row.basis is Basis.METER else 1] += row.joules
                it[2] += -(-row.joules * row.error_bps // BPS)
        return [
            ContainerEnergy(container_id=number, metered_j=metered, estimated_j=estimated, error_j=error)
            for number, (metered, estimated, error) in sorted(sums.items())
        ]

    def _note(self, hour: int, spans: Sequence[MeterSpan]) -> None:
        judged = tuple(
            MeterHour(meter=it.meter.name, hour=hour, why=it.words)
            for it in spans
            if it.meter.created_at_s <= hour * HOUR_S and it.meter.removed_at_s is None
        )
        newest = max((hour, *self._hours))
        known = self._hours | {hour: judged}
        self._hours = {at: of for at, of in known.items() if at >= newest - 1}

    def ended(self, connection: Connection, before_s: int) -> Sequence[int]:
        """The numbers of all curtailments that were over by then and were no rehearsals."""
        it = power_events.c
        over = (it.state == EventState.OVER.value) & (it.dry_run == 0) & (it.ended_at_s <= before_s)
        return connection.scalars(select(it.id).where(over).order_by(it.id)).all()

    def event(self, connection: Connection, number: int) -> tuple[Event, Sequence[EventMachine]]:
        """One of them, with its machines."""
        row = connection.execute(select(power_events).where(power_events.c.id == number)).one()
        machines = _metered(connection, row, _machines(connection, row, min(row.from_s, row.ended_at_s)))
        event = Event(
            event_id=number,
            site=row.site,
            source=row.source,
            reference=row.reference,
            asked_by=row.asked_by,
            from_s=min(row.from_s, row.ended_at_s),
            ended_at_s=row.ended_at_s,
            watts_asked=row.watts_asked,
            watts_metered=_metered_watts(connection, row),
        )
        return event, machines


def _work_before(connection: Connection, event: Row[Any]) -> Mapping[int, Mapping[int, int]]:
    """By worker. As it was written down; where no process ran when the books had it, as they have it now."""
    work: dict[int, dict[int, int]] = defaultdict(dict)
    of = power_event_work.c
    for row in connection.execute(select(power_event_work).where(of.event_id == event.id)):
        work[row.worker_id][row.difficulty_log2] = row.shares
    return work or work_before(connection, event.site, event.asked_at_s, event.ended_at_s + BOOKED_AFTER_S)


def _machines(connection: Connection, event: Row[Any], from_s: int) -> list[EventMachine]:
    known = efficiencies_at(connection, from_s)
    work = _work_before(connection, event)
    it = power_event_machines.c
    rows = connection.execute(
        select(power_event_machines, workers.c.tenant_id)
        .join(workers, workers.c.id == it.worker_id)
        .where(it.event_id == event.id)
        .order_by(it.worker_id)
    )
    return [
        EventMachine(
            worker_id=row.worker_id,
            tenant_id=row.tenant_id,
            before_s=row.before_until_s - row.before_from_s,
            before=dict(work.get(row.worker_id, {})),
            watts_before=_watts_before(row, work.get(row.worker_id, {}), known.get(row.worker_id)),
            watts_idle=row.watts_idle,
            off_from_s=row.off_from_s,
            off_until_s=row.off_until_s,
            before_until_s=row.before_until_s,
            came_back=row.state == MachineState.RESTORED,
        )
        for row in rows
    ]


def _metered(
    connection: Connection, event: Row[Any], machines: Sequence[EventMachine]
) -> Sequence[EventMachine]:
    """With what meters before their containers have of those that were off by work: by a meter of several
    tenants nobody knows whose that is. Who was off for a part of the time saves that part, so that no share
    at the end of it has the meter say nothing."""
    span = event.from_s + event.ramp_s, event.restore_asked_at_s or min(event.until_s, event.ended_at_s)
    off = {}
    for it in machines:
        if (seconds := _seconds_off(it, span)) > 0:
            part = Fraction(seconds, span[1] - span[0])
            saves_watts = max(it.watts_before - it.watts_idle, 0)
            off[it.worker_id] = Off(int(saves_watts * part), int(it.watts_idle * part))
    closed_s = event.ended_at_s + BOOKED_AFTER_S
    found = drawn_off(connection, event.id, event.site, event.asked_at_s, off, span, closed_s) if off else []
    saved_bps = {worker: it.saved_bps for it in found if not it.shared for worker in it.machines}
    return [
        msgspec.structs.replace(it, saved_bps=saved_bps.get(it.worker_id, it.saved_bps)) for it in machines
    ]


def _seconds_off(it: EventMachine, span: tuple[int, int]) -> int:
    """Of that time."""
    if it.off_from_s is None:
        return 0
    until_s = span[1] if it.off_until_s is None else min(it.off_until_s, span[1])
    return until_s - max(it.off_from_s, span[0])


def _watts_before(row: Row[Any], work: Mapping[int, int], known: Efficiency | None) -> int:
    """What it drew when it was chosen, and no more than its work takes over all of the time before the event
    was asked for: who mined in one minute of that hour has drawn a sixtieth. Of one whose efficiency was not
    known when the event began, what was noted."""
    if known is None:
        return int(row.watts_before)
    seconds = row.before_until_s - row.before_from_s
    return min(int(row.watts_before), int(hashes_of(work) * known.mj_per_th / (MJ_HPS_PER_W * seconds)))


def _metered_watts(connection: Connection, event: Row[Any]) -> int | None:
    """By how much less the meters of its site were given while its target was to be met, than for as long
    before it was asked for; None where they do not cover both times wholly."""
    site_id = connection.scalar(select(sites.c.id).where(sites.c.name == event.site))
    meters = [
        it
        for it in list_meters(connection, at_s=event.asked_at_s)
        if it.site_id is not None and site_id in (None, it.site_id)
    ]
    until_s = event.restore_asked_at_s or min(event.until_s, event.ended_at_s)
    from_s = event.from_s + event.ramp_s
    span_s = until_s - from_s
    if not meters or span_s <= 0:
        return None
    less_j: int = 0
    for meter in meters:
        before = _measured(connection, meter, event.asked_at_s - span_s, event.asked_at_s)
        during = _measured(connection, meter, from_s, until_s)
        if before.covered_s < span_s or during.covered_s < span_s:
            return None
        less_j += before.joules - during.joules
    return int(less_j // span_s)


def _measured(connection: Connection, meter: Meter, from_s: int, until_s: int) -> Metered:
    readings = readings_between(connection, meter.id, from_s - GAP_S, until_s + GAP_S)
    return measured_by(meter, readings, from_s, until_s)
