"""Who draws and does not mine, or mines and is not paid for; and meters that cannot be right.

A machine by itself is named by what it sends: work that is rejected, work that no upstream took, work of a
tenant that is suspended or whose fee takes all, more than a machine of its model can do, work that nobody can
charge energy for. That a machine draws
and sends nothing, only a meter knows, of all machines behind it together: then those that are silent there
are named, and by how much the meter says more than all work explains; and who of them is off for an event.

Pure. Must not know: the database, connections.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from pool.fleet.hashrate import OFFLINE_S, Bools, Floats, Ints
from pool.power.energy.live import MJ_HPS_PER_W, Drawn, Known, MachinesNow, MeterNow, PowerNow

# More than half of what it does is good for nothing: usual are 0.5 %.
REJECTED_SHARE: Final = 0.5
# An average of an hour at a share in ten seconds is off by 10 %; what is overclocked does 20 % more.
OVER_NAMEPLATE: Final = 1.4
# Pumps, fans and losses of a site that its machines do not draw.
SITES_OWN_BPS: Final = 1_000
NAMED_MAX: Final = 1_000  # machines; the others are a number


class Counted(msgspec.Struct, frozen=True):
    """Counts some minutes ago, by machine."""

    numbers: Ints
    accepted: Ints
    undelivered: Ints


class Suspect(msgspec.Struct, frozen=True, kw_only=True):
    """A machine (its number), else a container or a meter. `watts`: what is drawn for nothing, or unpaid."""

    kind: str
    worker: int | None
    container: int | None
    meter: str | None
    watts: int | None
    words: str


def suspects(
    known: Known,
    machines: MachinesNow,
    now: PowerNow,
    before: Counted | None,
    off: Collection[int] = frozenset(),
) -> tuple[Suspect, ...]:
    """All of them, meters first. `off`: machines that events have."""
    found = [*_meters(now.meters), *_unexplained(known, machines, now, off), *_crowded(known, now)]
    for kind, which, words in _machines(known, machines, before):
        found += _named(known, machines, kind, which, words)
    return tuple(found)


def _machines(
    known: Known, machines: MachinesNow, before: Counted | None
) -> Iterator[tuple[str, Bools, str]]:
    alive = (machines.ages_s <= OFFLINE_S) & (machines.rates_hps > 0)
    done = machines.rates_hps + machines.rejected_hps
    yield (
        "rejected",
        (machines.rejected_hps > 0) & (machines.rejected_hps > REJECTED_SHARE * done),
        "more than half of its work is rejected",
    )
    yield "untaken", alive & _untaken(machines, before), "no upstream takes most of its work"
    off = [number for number, it in known.places.items() if not it.tenant_active]
    yield "suspended", alive & np.isin(machines.containers, off), "its tenant is suspended"
    taken = [number for number, it in known.places.items() if it.fee_bps >= 10_000]
    yield "whole-fee", alive & np.isin(machines.containers, taken), "the fee takes all of what it earns"
    plate: Floats = known.efficiencies.column("hashrate_hps", machines.numbers).astype(float)
    yield (
        "over-nameplate",
        alive & (plate > 0) & (machines.hour_hps > OVER_NAMEPLATE * plate),
        "it does more than a machine of its model can: it is another one, or several under one name",
    )
    yield (
        "uncharged",
        alive & (plate == 0) & np.isin(machines.containers, _charged_by_models(known)),
        "its tenant pays for energy, and nobody has said what it draws under this name: nothing is charged",
    )


def _charged_by_models(known: Known) -> list[int]:
    """Containers whose tenant pays for energy, and which no meter has."""
    metered = {it for meter in known.meters for it in meter.containers}
    at = {meter.site for meter in known.meters if meter.site is not None}
    return [
        number
        for number, it in known.places.items()
        if it.pays_energy and number not in metered and it.site not in at
    ]


def _untaken(machines: MachinesNow, before: Counted | None) -> Bools:
    if before is None or not len(before.numbers) or not len(machines.numbers):
        return np.zeros(len(machines.numbers), dtype=np.bool_)
    size = int(max(machines.numbers.max(), before.numbers.max())) + 1

    def since(now: Ints, then: Ints) -> Ints:
        were = np.zeros(size, dtype=np.int64)
        were[before.numbers] = then
        more: Ints = now - were[machines.numbers]
        return more

    untaken = since(machines.undelivered, before.undelivered)
    most: Bools = (untaken > 0) & (untaken > since(machines.accepted, before.accepted))
    return most


def _named(known: Known, machines: MachinesNow, kind: str, which: Bools, words: str) -> list[Suspect]:
    mj = known.efficiencies.column("mj_per_th", machines.numbers).astype(float)
    watts = mj * (machines.rates_hps + machines.rejected_hps) / MJ_HPS_PER_W
    at = np.flatnonzero(which)[:NAMED_MAX].tolist()
    return [
        Suspect(
            kind=kind,
            worker=int(machines.numbers[it]),
            container=int(machines.containers[it]),
            meter=None,
            watts=round(watts[it]) if mj[it] else None,
            words=words,
        )
        for it in at
    ]


def _meters(meters: Sequence[MeterNow]) -> Iterator[Suspect]:
    for it in meters:
        words = None
        if it.watts is None:
            words = "it has read nothing for minutes"
            kind = "meter-silent"
        elif it.still:
            kind, words = "meter-still", "it says the same for an hour and more: it stands still, or is held"
        elif not it.believed:
            kind = "meter-low"
            words = f"it says {it.watts} W, and the accepted work behind it takes {it.work_watts} W"
        elif it.watts * (10_000 + it.meter.error_bps) * (10_000 + it.work_error_bps) < it.work_watts * 10**8:
            kind = "meter-low"
            words = (
                f"it says {it.watts} W, and the accepted work behind it {it.work_watts} W: beyond both"
                " errors; a model is set wrong, or the meter is held back"
            )
        if words is not None:
            yield Suspect(
                kind=kind, worker=None, container=None, meter=it.meter.name, watts=it.watts, words=words
            )


def _unexplained(
    known: Known, machines: MachinesNow, now: PowerNow, off: Collection[int]
) -> Iterator[Suspect]:
    """What a meter has beyond all that the work behind it can take, and who is silent there."""
    silent = (machines.ages_s > OFFLINE_S) & ~machines.unheard
    of = {(it.tenant, it.name): number for number, it in known.places.items()}
    for it in now.meters:
        if it.watts is None or it.still or not it.believed:
            continue
        own_bps = SITES_OWN_BPS if it.meter.site_id is not None else 0
        least = it.watts * 10_000 // (10_000 + it.meter.error_bps + own_bps)
        most = it.work_watts * (10_000 + it.work_error_bps) // 10_000 if it.work_watts else 0
        boxes = [number for key, number in of.items() if _stands_before(it, known, number)]
        if least <= most or _any_unknown(now.containers, known, boxes):
            continue
        beyond = it.watts - it.work_watts
        here = silent & np.isin(machines.containers, boxes)
        yield Suspect(
            kind="unexplained",
            worker=None,
            container=boxes[0] if len(boxes) == 1 else None,
            meter=it.meter.name,
            watts=beyond,
            words=f"{beyond} W more than all work behind it explains, and {int(here.sum())} machines are"
            " silent there",
        )
        yield from _silent(machines, here, beyond, off)


def _silent(machines: MachinesNow, here: Bools, beyond: int, off: Collection[int]) -> Iterator[Suspect]:
    for at in np.flatnonzero(here)[:NAMED_MAX].tolist():
        is_off = int(machines.numbers[at]) in off
        yield Suspect(
            kind="off-unexplained" if is_off else "silent",
            worker=int(machines.numbers[at]),
            container=int(machines.containers[at]),
            meter=None,
            watts=None,
            words=("it is off for a power event" if is_off else "it sends nothing")
            + f", and the meter before it has {beyond} W that no work explains",
        )


def _crowded(known: Known, now: PowerNow) -> Iterator[Suspect]:
    """Where more mine than there are machines some are others', and charged by a model that is not theirs."""
    for number in _charged_by_models(known):
        it = known.places[number]
        drawn = now.containers.get((it.tenant, it.name))  # None: the books have it since
        mine = 0 if drawn is None else drawn.machines
        if it.units and mine > it.units:
            yield Suspect(
                kind="crowded",
                worker=None,
                container=number,
                meter=None,
                watts=None,
                words=f"{mine} machines mine under its name, and {it.units} stand there: the others are"
                " charged by its model for what they draw",
            )


def _stands_before(it: MeterNow, known: Known, number: int) -> bool:
    if it.meter.site_id is None:
        return number in it.meter.containers
    return known.places[number].site == it.meter.site


def _any_unknown(drawn: Mapping[tuple[str, str], Drawn], known: Known, boxes: Sequence[int]) -> bool:
    """Of machines of which nobody knows what they take nothing can be said."""
    names = {(known.places[it].tenant, known.places[it].name) for it in boxes}
    return any(drawn[it].unknown_machines for it in names & drawn.keys())
