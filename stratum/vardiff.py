"""Variable difficulty as a pure function: what a session did at its difficulty in, a new one out.

Shares are a Poisson process, so the count says how sure we may be. A difficulty is left only when
the exact (Garwood) confidence interval of the rate lies wholly beyond a bound, and the bounds are
further apart than the factor of two of one step: a move can never justify the move back, so there is no
oscillation however long a session lives. Rejected shares must not be counted by the caller.
"""

import math

import msgspec

# Rates are in units of the aim. Steady state is anywhere between; a step up from just above HIGH lands
# at HIGH / 2 > LOW, and a step down from just below LOW at 2 * LOW < HIGH.
RATE_HIGH = 1.4
RATE_LOW = 0.62
Z_SETTLED = 3.0  # one false move in 700 looks, and looks are minutes apart
Z_LADDER = 1.3  # after connect a wrong step costs seconds, waiting costs more
STEP_UP_MAX = 10  # a thousand times too low is found at once; more is not plausible from one burst
STEP_DOWN_MAX = 3  # nothing heard is a weak witness: go down in stages
SILENCE_FIRST = 2.0  # aims without any share before the first stage down (13 % false alarm, cheap)
SHARES_PER_LOOK = 8  # the first look; each further look waits for twice as many
LOOK_SHARES_MAX = 256


class VardiffPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """aim_s: seconds a share; the range of difficulties as powers of two."""

    aim_s: float = 6.0
    difficulty_log2_min: int
    difficulty_log2_max: int

    def clamp(self, difficulty_log2: int, floor_log2: int | None = None) -> int:
        """Into the range, and not below what the miner asked for, unless that is above the range."""
        low = self.difficulty_log2_min if floor_log2 is None else max(self.difficulty_log2_min, floor_log2)
        return min(max(difficulty_log2, low), self.difficulty_log2_max)


def _count_low(count: int, z: float) -> float:
    """Lower bound of a Poisson mean after `count` events (Wilson-Hilferty approximation of Garwood)."""
    if count == 0:
        return 0.0
    root = 1 - 1 / (9 * count) - z / (3 * math.sqrt(count))
    return float(count * max(root, 0.0) ** 3)


def _count_high(count: int, z: float) -> float:
    """Upper bound of a Poisson mean after `count` events."""
    more = count + 1
    return float(more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3)


def step(policy: VardiffPolicy, *, shares: int, elapsed_s: float, settled: bool) -> int:
    """By how many powers of two to move: positive is harder, 0 is stay.

    shares: accepted at the current difficulty during elapsed_s. settled: the session has been through
    its ladder.
    """
    if elapsed_s <= 0:
        return 0
    expected = elapsed_s / policy.aim_s
    if not settled and shares == 0:
        return -STEP_DOWN_MAX if expected >= SILENCE_FIRST else 0
    z = Z_SETTLED if settled else Z_LADDER
    if shares >= SHARES_PER_LOOK and _count_low(shares, z) > RATE_HIGH * expected:
        return min(max(1, round(math.log2(shares / expected))), STEP_UP_MAX)
    if _count_high(shares, z) < RATE_LOW * expected:
        return -min(max(1, round(math.log2(expected / (shares + 0.5)))), STEP_DOWN_MAX)
    return 0


def next_look(shares: int) -> int:
    """At how many accepted shares the engine should call for the next look."""
    return max(SHARES_PER_LOOK, min(2 * shares, shares + LOOK_SHARES_MAX))
