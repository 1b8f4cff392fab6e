"""Which machines supply which order: once a minute, from every demand and every machine, the moves to make.

Pure: no clock, no state between two plans, the same answer to the same question. Invariants: a machine is in
one place; only movable machines move, and only to orders that they may supply; what an order of higher
priority needs to be in its tolerance is not taken from it; what is short is in the plan's shortages.

When. An order is left alone within ACT of its tolerance, on either side: a machine that fails keeps its
order and comes back to it, so that failures and repairs mostly cancel. And it is left alone within three
standard errors of what is known of it, for a single machine is known to 3 % after an hour, 1,000 machines
to 0.1 %. When it is acted on it is brought to its target, not to the edge, where the next fluctuation
would move machines again. An order that whole machines are too coarse for has one too many, not one too few.

Which. Small machines last, for they are many moves, then the one that fits the rest best. Estimates of
machines of one model differ mostly by luck, and who takes the luckiest is short afterwards: so smaller means
another class of speed, in steps of SIZE_STEP below the median. Nobody is first for being larger: two machines
that say one name are a larger one, and a seller would have all of an order that pays well. Within a class
those that may supply the fewest orders go first, then by a permutation of worker numbers: neighbours share a
breaker, and orders should not. Where that begins nobody knows before (`turn`): a seller could look for
numbers that come first.

From where, each only if those before did not suffice:
1. Free machines (those that must move anyway first), and what other orders have above their targets,
   wherever the chain of moves is shortest: an order may hand on a machine and be given another for it.
2. What any order has above HOLD of its tolerance below target; who gets it is brought to HOLD only.
3. Orders of lower priority, the last first, all that they have.
4. Orders of the same priority, until both are short in the same proportion.
What an order then has above its tolerance goes back to its tenants' own channel.

Silent machines supply nothing and stay where they are, unless their order has ended. So do those that are
about to be off: what they deliver is measured, and made up for before it is missing. Machines whose order
has ended, or may not be supplied by them any more, are free. Other moves are bounded a minute: what a bad
estimate does is seen before it has turned over the fleet, and a whole fleet is placed in four minutes.

Must not know: sessions, channels, the database, how speeds are estimated (pool/orders/machine_speed.py).
"""

import math
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any, Final

import msgspec
import numpy as np

ACT: Final = 0.6  # of the tolerance; 1,120 machines of which 1 % are down fluctuate by 0.15 of one of 2 %
HOLD: Final = 0.35  # of the tolerance; between here and ACT is room not to be short again at once
EVEN: Final = 0.25  # of the tolerance: orders of one priority may be short by different proportions
SPEED_NOISE: Final = 0.03  # of one machine's estimate after an hour: 600 shares, decaying
NOISE_SIGMAS: Final = 3.0  # once in 700 looks, and looks are an hour apart
SIZE_STEP: Final = 1.5  # two models of one generation differ by less, two generations by more
MOVES_SHARE_MAX: Final = 0.25  # of all machines in one plan
MOVES_MIN: Final = 100  # that a plan may always make: small sites need not wait
PASSES_MAX: Final = 8  # two do nearly always; what is left then is done a minute later
SCRAMBLE: Final = 2_654_435_761  # odd, so a permutation of 32 bits; Knuth's golden ratio

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.intp]]


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """An order in force. `served` False: its upstream is away. It neither gets nor gives machines then."""

    order: int
    hashrate_hps: float
    tolerance: float
    priority: int  # 1 is served first
    served: bool = True


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker; `supplies` are the orders that it may supply (one object for a whole container).

    `order` is where it is, or is on its way to; None is its tenant's own channel.
    """

    worker: int
    hashrate_hps: float  # the best estimate; 0: silent, or not connected
    order: int | None
    movable: bool  # connected, and its last move is long enough ago
    supplies: frozenset[int]
    leaves: bool = False  # soon, or already: it delivers as long as it does, and is counted on no more


class Move(msgspec.Struct, frozen=True):
    """Where a worker is to go; None: back to its tenant's own channel."""

    worker: int
    order: int | None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Moves by worker number. `measured_hps` is what every order is supplied with now, `supply_hps` with the
    moves made; `shortages_hps` is what then is missing to the target of those that are below tolerance.
    """

    moves: tuple[Move, ...]
    measured_hps: dict[int, float]
    supply_hps: dict[int, float]
    shortages_hps: dict[int, float]


def plan(demands: Sequence[Demand], machines: Sequence[Machine], turn: int = 0) -> Plan:
    """The fewest moves that bring every order into its tolerance, as far as there are machines for it.

    `turn`: 32 bits that say which machines of a class are chosen first.
    """
    ordered = sorted(demands, key=lambda demand: (demand.priority, demand.order))
    board = _Board(ordered, machines, turn)
    for _ in range(PASSES_MAX):
        before = board.at.copy()
        first = 0
        for _priority, group in groupby(ordered, key=lambda demand: demand.priority):
            members = range(first, first + len(list(group)))
            first = members.stop
            for row in members:
                board.fill(row)
            for row in members:
                board.share(row, members)
        for row in range(len(ordered)):
            board.release(row)
        if np.array_equal(before, board.at):
            break
    return Plan(
        moves=board.moves(),
        measured_hps={it.order: float(hps) for it, hps in zip(ordered, board.measured_hps, strict=True)},
        supply_hps={it.order: float(hps) for it, hps in zip(ordered, board.supply_hps, strict=True)},
        shortages_hps={
            it.order: it.hashrate_hps - float(hps)
            for it, hps in zip(ordered, board.supply_hps, strict=True)
            if hps < it.hashrate_hps * (1 - it.tolerance)
        },
    )


def doubt_hps(hashrate_hps: float, machine_hps: float) -> float:
    """How far the sum of so many machines may be off by what is not known of each."""
    return NOISE_SIGMAS * SPEED_NOISE * math.sqrt(hashrate_hps * machine_hps)


class _Board:
    """Where every machine would be: at the row of a demand, `free`, or `gone` (at an order that has ended).

    Arrays of machines are in the order in which machines are chosen.
    """

    def __init__(self, demands: Sequence[Demand], machines: Sequence[Machine], turn: int) -> None:
        self._orders: list[int | None] = [*(it.order for it in demands), None]
        self._free, self._gone = len(demands), len(demands) + 1
        rows = {order: row for row, order in enumerate(self._orders)}
        assert len(rows) == len(self._orders), "an order is demanded once"
        kinds: dict[frozenset[int], int] = {}
        kind = np.array([kinds.setdefault(it.supplies, len(kinds)) for it in machines], dtype=np.intp)
        may = np.array([[it.order in supplies for it in demands] for supplies in kinds], dtype=bool)
        may = may.reshape(len(kinds), len(demands))
        worker = np.array([it.worker for it in machines], dtype=np.int64)
        movable = np.array([it.movable for it in machines], dtype=bool)
        hps = np.array([it.hashrate_hps for it in machines], dtype=float)
        now = np.array([rows.get(it.order, self._gone) for it in machines], dtype=np.intp)

        served = np.array([*(it.served for it in demands), True, True])
        stays = np.column_stack((may, np.ones(len(kinds), dtype=bool), np.zeros(len(kinds), dtype=bool)))
        must = movable & ~stays[kind, now]
        counted = ~np.array([it.leaves for it in machines], dtype=bool)
        at = np.where(must, self._free, now)
        scrambled = (worker * SCRAMBLE + turn) % 2**32
        choice = np.lexsort((scrambled, may.sum(axis=1)[kind], -_sizes(hps), ~must))
        # In that order everywhere, so that not even sums depend on the order of what is given.
        self.measured_hps = np.bincount(now[choice], (hps * served[now])[choice], len(served))[: self._free]
        self.at = at[choice]
        self._start = np.where(must, self._gone, now)[choice]
        self._must = must[choice]
        self._worker = worker[choice]
        self._hps = (hps * served[at] * counted)[choice]
        self.supply_hps = np.bincount(self.at, self._hps, self._gone + 1)[: self._free]
        self._ready = (movable & counted)[choice] & (self._hps > 0)
        self._kind = kind[choice]
        self._may = may & served[: self._free]  # (kind of machine, order)
        self._moves_max = max(MOVES_MIN, int(MOVES_SHARE_MAX * len(machines)))
        self._set_levels(demands, hps[choice])

    def _set_levels(self, demands: Sequence[Demand], hps: Floats) -> None:
        """Of every order: its target, what it can be asked to go down to, and beyond what it is acted on."""
        self._priority = [it.priority for it in demands]
        self._target = np.array([it.hashrate_hps for it in demands])
        tolerance = np.array([it.tolerance for it in demands]) * self._target
        typical = float(hps[hps > 0].mean()) if (hps > 0).any() else 0.0
        doubt = np.array([doubt_hps(hashrate_hps, typical) for hashrate_hps in self._target])
        self._hold = self._target - HOLD * tolerance
        self._low = self._target - np.maximum(ACT * tolerance, doubt)
        self._high = self._target + np.maximum(ACT * tolerance, doubt)
        self._uneven = np.maximum(EVEN * tolerance, doubt) / self._target

    def _place(self, machines: Ints, row: int) -> None:
        self.at[machines] = row
        self.supply_hps = np.bincount(self.at, self._hps, self._gone + 1)[: self._free]

    def moves(self) -> tuple[Move, ...]:
        """From where the machines are now to where they are on the board."""
        moved = np.flatnonzero(self.at != self._start)
        moved = moved[np.argsort(self._worker[moved])]
        pairs = zip(self._worker[moved].tolist(), self.at[moved].tolist(), strict=True)
        return tuple(Move(worker, self._orders[row]) for worker, row in pairs)

    def fill(self, row: int) -> None:
        """Bring an order that is short to its target, or as far as it goes without anybody else's need."""
        supply = self.supply_hps
        if supply[row] >= self._low[row]:
            return
        others = [other for other in range(self._free) if other != row]
        others.sort(key=lambda other: -self._priority[other])
        above = [other for other in others if supply[other] > self._target[other]]
        self._draw(row, self._target[row], [self._free, *above], self._target)
        if self.supply_hps[row] < self._low[row]:
            self._draw(row, self._hold[row], others, self._hold)
        lower = [other for other in others if self._priority[other] > self._priority[row]]
        for _priority, group in groupby(lower, key=lambda other: self._priority[other]):
            if self.supply_hps[row] < self._low[row]:
                self._draw(row, self._hold[row], list(group), np.zeros(self._free))

    def share(self, row: int, members: Sequence[int]) -> None:
        """Let those of the same priority that are better off be as short as this order is."""
        supply = self.supply_hps
        if supply[row] >= self._low[row]:
            return
        filled = supply / self._target
        chains = self._chains(row)
        better = [
            it for it in members if it in chains and filled[it] - filled[row] > self._uneven[[it, row]].max()
        ]
        if better:
            better.sort(key=lambda it: -filled[it])
            level = supply[[row, *better]].sum() / self._target[[row, *better]].sum()
            self._draw(row, level * self._target[row], better, level * self._target)

    def release(self, row: int) -> None:
        """What an order has too much goes back to its tenants' channel."""
        supply = self.supply_hps[row]
        if supply <= self._high[row]:
            return
        own = np.flatnonzero((self.at == row) & self._ready)
        surplus, most = supply - self._target[row], supply - self._hold[row]
        self._place(self._choose(own, surplus, most, 0.0, self._moves_left()), self._free)

    def _draw(self, row: int, goal_hps: float, sources: Sequence[int], floor_hps: Floats) -> None:
        """Bring an order up to a goal, from the nearest source first; an order gives down to its floor."""
        chains = self._chains(row)
        tried: set[int] = set()
        while self._moves_left() > 0:
            supply = np.append(self.supply_hps, np.inf)
            spare = supply - np.append(floor_hps, 0.0)
            near = [it for it in sources if it in chains and spare[it] > 0 and it not in tried]
            if goal_hps <= supply[row] or not near:
                return
            source = min(near, key=lambda it: len(chains[it]))
            short = self._hold[row] - supply[row]
            if self._move_along(chains[source], goal_hps - supply[row], spare[source], short):
                chains = self._chains(row)
            else:
                tried.add(source)

    def _chains(self, row: int) -> dict[int, list[int]]:
        """The shortest chain to an order from wherever there is one, both ends included.

        Along a chain each order can hand on machines to the next.
        """
        cells = np.bincount(
            self.at * len(self._may) + self._kind, self._ready, (self._gone + 1) * len(self._may)
        )
        hands_on = (cells.reshape(self._gone + 1, len(self._may)) @ self._may) > 0
        chains = {row: [row]}
        reached = [row]
        while reached:
            after, reached = reached, []
            for to in after:
                for before in np.flatnonzero(hands_on[:, to]).tolist():
                    if before not in chains:
                        chains[before] = [before, *chains[to]]
                        if before < self._free:
                            reached.append(before)
        return chains

    def _move_along(self, chain: list[int], need_hps: float, most_hps: float, short_hps: float) -> bool:
        """Move about what is needed from the head of a chain to its tail; False when no machine fits.

        Orders in between are given at least what they hand on.
        """
        count_max = self._moves_left() // (len(chain) - 1)
        steps = [
            (np.flatnonzero((self.at == before) & self._ready & self._may[self._kind, to]), to)
            for before, to in pairwise(chain)
        ]
        need_hps = min([need_hps, most_hps, *(self._hps[machines].sum() for machines, _ in steps)])
        taken = []
        for machines, to in steps:
            chosen = self._choose(machines, need_hps, most_hps, short_hps, count_max)
            if not len(chosen):
                return False
            taken.append((chosen, to))
            most_hps = self._hps[chosen].sum()
            need_hps = min(need_hps, most_hps)
        for chosen, to in taken:
            self._place(chosen, to)
        return True

    def _choose(
        self, machines: Ints, need_hps: float, most_hps: float, short_hps: float, count_max: int
    ) -> Ints:
        """The first machines that add up to less than is needed, and one that fits the rest best.

        Together never above most_hps. That one may be too big by more than is missing without it, if it is
        short_hps that is missing.
        """
        hps = self._hps[machines]
        total = np.cumsum(hps)
        whole = int(np.searchsorted(total, need_hps))
        if whole >= min(len(machines), count_max):
            return machines[:count_max]
        before = total[whole - 1] if whole else 0.0
        rest = need_hps - before
        misfit = np.where(hps[whole:] <= most_hps - before, np.abs(hps[whole:] - rest), np.inf)
        best = int(misfit.argmin())
        if misfit[best] < rest or (before < short_hps and misfit[best] < np.inf):
            return np.append(machines[:whole], machines[whole + best])
        return machines[:whole]

    def _moves_left(self) -> int:
        """Machines that must move anyway are not counted."""
        return self._moves_max - int(np.count_nonzero((self.at != self._start) & ~self._must))


def _sizes(hps: Floats) -> Floats:
    """Classes of speed: 0 is around the median of those that mine, and above it."""
    mining = hps > 0
    if not mining.any():
        return np.zeros(len(hps))
    ratio = np.where(mining, hps, 1.0) / np.median(hps[mining])
    return np.where(mining, np.minimum(np.rint(np.log(ratio) / np.log(SIZE_STEP)), 0.0), -np.inf)
