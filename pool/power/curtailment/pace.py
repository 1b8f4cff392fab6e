"""How often a machine has a share, and for how long it is silent until that is no chance.

Its pace is its work while it mined, in shares of the hardest difficulty that it had: a machine that came five
minutes ago has shares as often as one that mined for an hour, and easy shares of its first minute promise no
hard ones. A pace that is too quick would have silence believed that is chance: so work counts by its
nameplate at most, minutes without a share count where it has few, and a pace of few shares is not trusted
far. Must not know: rows, states.
"""

from collections.abc import Mapping
from math import ceil, expm1, log
from typing import Final

import msgspec

# Of a machine that mines, the silence of one in so many is taken for a pause.
CHANCE: Final = 10_000
PROOF_LAG_S: Final = 10  # from a share to when it is seen here
PROOF_S_MIN: Final = 45
PROOF_S_MAX: Final = 900  # of one that hardly had a share before


class Pace(msgspec.Struct, frozen=True):
    """So many shares in so many seconds of mining."""

    shares: float
    seconds: int


def pace_of(work: Mapping[int, int], believed: Mapping[int, int], seconds: int) -> Pace:
    """`work`: shares by the log2 of their difficulty; `believed`: no more of it than the machine can do."""
    if seconds <= 0 or not work:
        return Pace(0.0, max(seconds, 0))
    hardest = max(work)
    return Pace(sum(shares * 2.0 ** (log2 - hardest) for log2, shares in believed.items()), seconds)


def proof_s(pace: Pace) -> int:
    """By chance a machine that mines is silent for so long once in CHANCE times.

    Of n shares in T seconds nobody knows the pace but by chance too. By what they say of it silence for t
    more has the chance (T / (T + t)) ** n: 9.2 mean waits where n is large, and more where it is small.
    """
    if pace.shares <= 0:
        return PROOF_S_MAX
    most = log(1 + PROOF_S_MAX / max(pace.seconds, 1)) * pace.shares
    if most <= log(CHANCE):
        return PROOF_S_MAX  # before the power of a very few shares is too large for a number
    wait_s = ceil(pace.seconds * expm1(log(CHANCE) / pace.shares)) + PROOF_LAG_S
    return min(max(wait_s, PROOF_S_MIN), PROOF_S_MAX)
