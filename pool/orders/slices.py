"""What each order is to have now, so that its work comes out by the hour: exact where whole machines are not.

A machine is in one place, and an order is of so much work. What an order was given too little, or too much,
of late is carried: its target is what makes that good within an hour. Where one machine is less than the
allocator acts on, that is all. Where it is more, the order has the whole machines that it needs, and one more
for a part of each hour: until what it is owed by the end of the hour is done, and then that one goes home. So
a machine has two destinations, and moves twice an hour at most; an order may be smaller than any machine.

A slice is as long as a machine stays where it was moved to. What would take less is carried until it is half
of that; what is too much is carried too. Of what is carried no more is made good at once than the order's
tolerance, or by one machine, and never by a second one: a shortage of hours does not take the site for the
next ones. Orders of one priority that want the same machine take turns.

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
# Between two plans, and about as long as a machine is on its way: what takes less is not done any more.
LOOK_S: Final = 60.0
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
    fleet = _Fleet(demands, machines)
    found, slices = {}, []
    for it in demands:
        had, machine_hps = given.get(it.order), fleet.typical_hps(it.order)
        known = had is not None and 0 <= now_s - had.until_s <= BEHIND_S_MAX
        if had is None or machine_hps is None or not known or not it.served:
            found[it.order] = Aim(demand=it)
            continue
        missed = it.hashrate_hps * (had.until_s - had.from_s) - had.hashes
        most = max(it.tolerance * it.hashrate_hps, HALF * machine_hps) * HOUR_S
        behind = min(max(missed, -most), most)
        wanted_hps = max(it.hashrate_hps + behind / HOUR_S, TINY_HPS)
        if max(ACT * it.tolerance * it.hashrate_hps, doubt_hps(it.hashrate_hps, machine_hps)) >= machine_hps:
            found[it.order] = Aim(demand=msgspec.structs.replace(it, hashrate_hps=wanted_hps))
            continue
        supply_hps = fleet.supply_hps.get(it.order, 0.0)
        # What is owed makes the slice longer, and never two of them.
        whole = int(min(wanted_hps, it.hashrate_hps) / machine_hps)
        has_it = supply_hps >= (whole + HALF) * machine_hps
        until_s = min((int(now_s) // HOUR_S + 1) * HOUR_S, ends_s[it.order])
        more = _one_more(
            owed=behind + it.hashrate_hps * (until_s - had.until_s) - supply_hps * (now_s - had.until_s),
            whole_hps=whole * machine_hps,
            machine_hps=machine_hps,
            has_it=has_it,
            left_s=until_s - now_s,
            slice_s=slice_s,
            last=until_s == ends_s[it.order],
        )
        slices.append(_Slice(it, machine_hps, whole, more, has_it, missed / it.hashrate_hps))
    _share(slices, fleet, slice_s)
    for of in slices:
        asked_hps = max((of.whole + of.more) * of.machine_hps, TINY_HPS)
        # Acted on when it is half a machine off, which no estimate of a machine is.
        tolerance = max(of.demand.tolerance, HALF * of.machine_hps / (ACT * asked_hps))
        demand = msgspec.structs.replace(of.demand, hashrate_hps=asked_hps, tolerance=tolerance)
        found[of.demand.order] = Aim(demand=demand, machine_hps=of.machine_hps)
    return found


class _Slice(msgspec.Struct):
    """An order with one machine more than `whole` for a part of each hour: now, or not. `missed_s`: for how
    long it would have to be served to be given what it was not, of the last day."""

    demand: Demand
    machine_hps: float
    whole: int
    more: bool
    has_it: bool
    missed_s: float


def _share(slices: Sequence[_Slice], fleet: "_Fleet", slice_s: float) -> None:
    """Where orders of one priority want more machines than there are, those have them that missed most; who
    has one keeps it until it is a slice better off."""
    for priority in {it.demand.priority for it in slices}:
        wanting = [it for it in slices if it.more and it.demand.priority == priority]
        wanting.sort(key=lambda it: -(it.missed_s + slice_s * it.has_it))
        left = fleet.free({it.demand.order for it in wanting}) + sum(it.has_it for it in wanting)
        for it in wanting[left:]:
            it.more = False


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

    def __init__(self, demands: Sequence[Demand], machines: Sequence[Machine]) -> None:
        self._priority = {it.order: it.priority for it in demands}
        self._kinds: dict[tuple[frozenset[int], int | None], list[float]] = {}
        self.supply_hps: dict[int | None, float] = {}
        for it in machines:
            if it.hashrate_hps > 0:
                self._kinds.setdefault((it.supplies, it.order), []).append(it.hashrate_hps)
        for (_, order), speeds_hps in self._kinds.items():
            self.supply_hps[order] = self.supply_hps.get(order, 0.0) + sum(speeds_hps)

    def free(self, orders: set[int]) -> int:
        """Machines that are nobody's now, and may be one of these orders'."""
        return sum(
            len(speeds)
            for (supplies, now), speeds in self._kinds.items()
            if now is None and supplies & orders
        )

    def typical_hps(self, order: int) -> float | None:
        """Of the machines that an order has or may be given; None where nobody mines. What is sold to who
        is served before it is no measure."""
        mine = [
            speeds
            for (supplies, now), speeds in self._kinds.items()
            if now == order or (order in supplies and not self._goes_first(now, order))
        ]
        if not mine:
            return None
        # Half of the work is of machines as big: by heads anybody could make it as small as he has names.
        speeds = np.sort(np.concatenate(mine))
        done = np.cumsum(speeds)
        return float(speeds[np.searchsorted(done, done[-1] / 2)])

    def _goes_first(self, other: int | None, order: int) -> bool:
        return other is not None and self._priority.get(other, 0) < self._priority[order]
