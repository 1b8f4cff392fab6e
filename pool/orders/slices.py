"""What each order is to have now, so that its work comes out by the hour: exact where whole machines are not.

A machine is in one place, and an order is of so much work. What an order was given too little, or too much,
of late is carried: its target is what makes that good within an hour. Where one machine is less than the
allocator acts on, that is all. Where it is more, the order has the whole machines that it needs, and one more
for a part of each hour: until what it is owed by the end of the hour is done, and then that one goes home. So
a machine has two destinations, and moves twice an hour at most; an order may be smaller than any machine.

A slice is as long as a machine stays where it was moved to. What would take less is carried until it is half
of that; what is too much is carried too. Of what is carried no more is made good at once than the order's
tolerance, or half a machine: a shortage of hours does not take the site for the next one.

Pure: whether an order has its one machine more is seen by what it is supplied with. Must not know: which
machine it is, and who moves it.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import numpy as np

from pool.orders.allocation import ACT, Demand, Machine, doubt_hps
from pool.orders.delivered import Delivered

HOUR_S: Final = 3_600
LOOK_S: Final = (
    60.0  # between two plans, and about as long as a machine is on its way: less is not done any more
)
BEHIND_S_MAX: Final = 900.0  # books that are older say nothing: then whole machines have to do
HALF: Final = 0.5  # of a machine: how far from a whole number of them is as many as asked for
TINY_HPS: Final = 1.0  # of an order that is to have no machine now: a demand is for something


class Aim(msgspec.Struct, frozen=True, kw_only=True):
    """`demand` is what the plan is made from; `machine_hps` is of the machine with slices, None without."""

    demand: Demand
    machine_hps: float | None = None


def aims(
    demands: Sequence[Demand],
    machines: Sequence[Machine],
    given: Mapping[int, Delivered],
    ends_s: Mapping[int, int],
    now_s: float,
    slice_s: float,
) -> dict[int, Aim]:
    """By order, each with what it is to have now. `ends_s`: when orders are over; a slice is of `slice_s` at
    least."""
    fleet = _Fleet(machines)
    found = {}
    for it in demands:
        had, machine_hps = given.get(it.order), fleet.typical_hps(it.order)
        known = had is not None and 0 <= now_s - had.until_s <= BEHIND_S_MAX
        if had is None or machine_hps is None or not known or not it.served:
            found[it.order] = Aim(demand=it)
            continue
        behind = it.hashrate_hps * (had.until_s - had.from_s) - had.hashes
        most = max(it.tolerance * it.hashrate_hps, HALF * machine_hps) * HOUR_S
        behind = min(max(behind, -most), most)
        wanted_hps = max(it.hashrate_hps + behind / HOUR_S, TINY_HPS)
        if max(ACT * it.tolerance * it.hashrate_hps, doubt_hps(it.hashrate_hps, machine_hps)) >= machine_hps:
            found[it.order] = Aim(demand=msgspec.structs.replace(it, hashrate_hps=wanted_hps))
            continue
        supply_hps = fleet.supply_hps.get(it.order, 0.0)
        whole = int(wanted_hps / machine_hps)
        until_s = min((int(now_s) // HOUR_S + 1) * HOUR_S, ends_s[it.order])
        more = _one_more(
            owed=behind + it.hashrate_hps * (until_s - had.until_s) - supply_hps * (now_s - had.until_s),
            whole_hps=whole * machine_hps,
            machine_hps=machine_hps,
            has_it=supply_hps >= (whole + HALF) * machine_hps,
            left_s=until_s - now_s,
            slice_s=slice_s,
            last=until_s == ends_s[it.order],
        )
        asked_hps = max((whole + more) * machine_hps, TINY_HPS)
        # Acted on when it is half a machine off, which no estimate of a machine is.
        tolerance = max(it.tolerance, HALF * machine_hps / (ACT * asked_hps))
        found[it.order] = Aim(
            demand=msgspec.structs.replace(it, hashrate_hps=asked_hps, tolerance=tolerance),
            machine_hps=machine_hps,
        )
    return found


def _one_more(
    *,
    owed: float,
    whole_hps: float,
    machine_hps: float,
    has_it: bool,
    left_s: float,
    slice_s: float,
    last: bool,
) -> bool:
    """Whether the order has one machine more than the whole ones now. `owed`: hashes to the hour's end."""
    more_s = (owed - whole_hps * left_s) / machine_hps
    if has_it:
        # Home for less than a slice is not worth two moves, but at the order's end.
        return more_s > LOOK_S or (left_s < slice_s and not last)
    return more_s >= slice_s / 2 and left_s >= min(slice_s, more_s)


class _Fleet:
    """Speeds of those that mine, by where they are and may be: machines of a container are of one kind."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self._kinds: dict[tuple[frozenset[int], int | None], list[float]] = {}
        self.supply_hps: dict[int | None, float] = {}
        for it in machines:
            if it.hashrate_hps > 0:
                self._kinds.setdefault((it.supplies, it.order), []).append(it.hashrate_hps)
        for (_, order), speeds_hps in self._kinds.items():
            self.supply_hps[order] = self.supply_hps.get(order, 0.0) + sum(speeds_hps)

    def typical_hps(self, order: int) -> float | None:
        """Of the machines that an order has or may have; None where nobody mines."""
        mine = [
            speeds for (supplies, now), speeds in self._kinds.items() if now == order or order in supplies
        ]
        return float(np.median(np.concatenate(mine))) if mine else None
