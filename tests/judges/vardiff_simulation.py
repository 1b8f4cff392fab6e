"""A machine that finds shares as a Poisson process, and vardiff that follows it, on virtual time.

Time goes as in stratum/miners/switchboard.py: a retarget when the engine counts enough shares and every 5 s,
a new difficulty with other work, which is made at once, but not twice a second. Every run is a
function of its seed.
"""

import math
import random
from typing import Final

import msgspec

from stratum.miners import vardiff
from stratum.miners.distribution import ANEW_INTERVAL_S
from stratum.miners.switchboard import TICK_BUCKETS, TICK_S
from stratum.miners.vardiff import History, VardiffPolicy

LOOK_S: Final = TICK_S * TICK_BUCKETS
POLICY: Final = VardiffPolicy(difficulty_log2_min=-31, difficulty_log2_max=31)
HOUR_S: Final = 3600.0


class Run(msgspec.Struct):
    """What happened. `rates`: (from when, the machine's true rate there, in units of the aim)."""

    shares: int = 0
    moves: list[tuple[float, int]] = msgspec.field(default_factory=list)  # (when, by how many powers of two)
    rates: list[tuple[float, float]] = msgspec.field(default_factory=list)

    def settled_s(self, low: float = 0.5, high: float = 2.0) -> float:
        """When the rate came within the bounds, to stay there; infinity if it never did."""
        since_s = math.inf
        for from_s, rate in self.rates:
            if not low <= rate <= high:
                since_s = math.inf
            elif since_s == math.inf:
                since_s = from_s
        return since_s

    def directions(self, after_s: float = 0.0) -> str:
        """The moves as + and -."""
        return "".join("+" if by > 0 else "-" for at_s, by in self.moves if at_s > after_s)


def simulate(
    seed: int,
    rate: float,
    *,
    for_s: float,
    changes: tuple[tuple[float, float], ...] = (),
    steady: bool = False,
    policy: VardiffPolicy = POLICY,
) -> Run:
    """A machine that finds `rate` shares per aim at the difficulty it starts at; later changes of that."""
    rng = random.Random(seed)
    run = Run(rates=[(0.0, rate)])
    log2, pending_log2, now_s = 0, 0, 0.0
    count, next_retarget = 0, vardiff.next_retarget(0)
    history = History(from_s=0.0, steady=steady)
    look_s, served_s, serve_s = rng.uniform(0, LOOK_S), rng.uniform(0, ANEW_INTERVAL_S), math.inf
    to_change = [*changes, (math.inf, 0.0)]

    def next_share_s() -> float:
        return now_s + rng.expovariate(rate / 2.0**log2 / policy.aim_s) if rate else math.inf

    share_s = next_share_s()
    while (now_s := min(share_s, look_s, serve_s, to_change[0][0])) < for_s:
        if now_s == to_change[0][0]:
            rate = to_change.pop(0)[1]
            run.rates.append((now_s, rate / 2.0**log2))
            share_s = next_share_s()
            continue
        if now_s == serve_s:
            served_s, serve_s = now_s, math.inf
            history = vardiff.moved(policy, history, difficulty_log2=log2, shares=count, now_s=now_s)
            run.moves.append((now_s, pending_log2 - log2))
            log2, count, next_retarget = pending_log2, 0, vardiff.next_retarget(0)
            run.rates.append((now_s, rate / 2.0**log2))
            share_s = next_share_s()
            continue
        if now_s == share_s:
            run.shares += 1
            count += 1
            share_s = next_share_s()
            if count < next_retarget:
                continue
        else:
            look_s += LOOK_S
        if pending_log2 == log2:
            pending_log2, history = vardiff.retarget(
                policy, history, difficulty_log2=log2, floor_log2=None, shares=count, now_s=now_s
            )
            next_retarget = history.shares_before + vardiff.next_retarget(count - history.shares_before)
            if pending_log2 != log2:
                serve_s = max(now_s, served_s + ANEW_INTERVAL_S)
    return run
