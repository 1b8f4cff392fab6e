"""What the readings of a meter come to between two moments: joules, and for how much of the time.

A counter tells more than watts: between two readings it has all that was drawn, so a reading that is missing
costs nothing. Of watts it is the mean of both ends. Between readings that are further apart than GAP_S, where
a counter began anew, and where it says more than the meter can measure, nothing is known, and nothing is made
up. Who asks for two halves is told what the whole has: parts are cut off at whole joules from its beginning.

Exact integers. Must not know: the database, whose meter it is.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

J_PER_WH: Final = 3_600
# A reading is asked for once a minute. Within so long nobody gains by what a load did in between: it is an
# hour that is charged, and machines take minutes to start.
GAP_S: Final = 900
# What has the same figure so long is broken, or held: a hall of machines differs by more than a watt.
STILL_S: Final = 3_600
STILL_READINGS_MIN: Final = 12


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """At a moment: what it drew, and what its counter had."""

    at_s: int
    watts: int | None = None
    counter_wh: int | None = None


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Half-open; nothing is known of it, and why."""

    from_s: int
    until_s: int
    why: str  # no readings, counter began anew, more than it can measure


class Metered(msgspec.Struct, frozen=True, kw_only=True):
    joules: int
    covered_s: int
    gaps: tuple[Gap, ...]


NO_READINGS: Final = "no readings"
BEGAN_ANEW: Final = "its counter began anew"
BEYOND: Final = "more than it can measure"


def metered(
    readings: Sequence[Reading],
    from_s: int,
    until_s: int,
    *,
    max_watts: int,
    rolls_at_wh: int | None = None,
) -> Metered:
    """In the order of their times; those before `from_s` and after `until_s` are needed where they are within
    GAP_S."""
    joules = covered_s = 0
    gaps: list[Gap] = []
    at_s = from_s
    for a, b in pairwise(readings):
        low, high = max(a.at_s, from_s), min(b.at_s, until_s)
        if low >= high:
            continue
        if low > at_s:
            gaps.append(Gap(from_s=at_s, until_s=low, why=NO_READINGS))
        at_s = high
        whole = _between(a, b, max_watts, rolls_at_wh)
        if isinstance(whole, str):
            gaps.append(Gap(from_s=low, until_s=high, why=whole))
            continue
        twice, span_s = whole, b.at_s - a.at_s
        until_high = twice * (high - a.at_s) // (2 * span_s)
        joules += until_high - twice * (low - a.at_s) // (2 * span_s)
        covered_s += high - low
    if at_s < until_s:
        gaps.append(Gap(from_s=at_s, until_s=until_s, why=NO_READINGS))
    return Metered(joules=joules, covered_s=covered_s, gaps=_joined(gaps))


def _between(a: Reading, b: Reading, max_watts: int, rolls_at_wh: int | None) -> int | str:
    """Twice the joules, or why nobody knows."""
    span_s = b.at_s - a.at_s
    if span_s > GAP_S:
        return NO_READINGS
    if a.counter_wh is not None and b.counter_wh is not None:
        counted_wh = b.counter_wh - a.counter_wh
        if counted_wh < 0 and rolls_at_wh is not None:
            counted_wh += rolls_at_wh
            if _beyond_wh(counted_wh, span_s, max_watts) < 0:
                return BEGAN_ANEW
        if counted_wh < 0:
            return BEGAN_ANEW
        if _beyond_wh(counted_wh, span_s, max_watts) < 0:
            return BEYOND
        return 2 * counted_wh * J_PER_WH
    if a.watts is not None and b.watts is not None:
        return (a.watts + b.watts) * span_s if max(a.watts, b.watts) <= max_watts else BEYOND
    return NO_READINGS


def _beyond_wh(counted_wh: int, span_s: int, max_watts: int) -> int:
    """What it could have counted besides; a whole Wh may have been about to come before."""
    return (max_watts * span_s + J_PER_WH) // J_PER_WH + 1 - counted_wh


def _joined(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    joined: list[Gap] = []
    for gap in gaps:
        if joined and joined[-1].until_s == gap.from_s and joined[-1].why == gap.why:
            joined[-1] = msgspec.structs.replace(joined[-1], until_s=gap.until_s)
        else:
            joined.append(gap)
    return tuple(joined)


def stands_still(readings: Sequence[Reading]) -> bool:
    """Whether the last of them, over STILL_S and more, all say the same: no hall of machines does."""
    if len(readings) < STILL_READINGS_MIN:
        return False
    last = readings[-1]
    same = last
    for it in reversed(readings):
        if (it.watts, it.counter_wh) != (last.watts, last.counter_wh):
            break
        same = it
    count = sum(same.at_s <= it.at_s for it in readings)
    drew_nothing = last.watts == 0 and last.counter_wh is None
    return not drew_nothing and count >= STILL_READINGS_MIN and last.at_s - same.at_s >= STILL_S
