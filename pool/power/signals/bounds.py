"""What a signal may ask for, whoever sends it: the most that somebody gains who has got hold of its secret.

By one source no site is asked to be down for more than `hours_a_day` of any 24 hours, for more than `longest`
at once, or to less than `least_w`; and no more than `calls_a_day` are taken, so that machines are not told to
stop and go all day. What is asked for beyond that is refused, never cut: who asks has to know.

Pure. Must not know: how a call came, and what is done by it.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from pool.power.signals.call import Called

DAY_S: Final = 86_400
HOUR_S: Final = 3_600
AHEAD_S_MAX: Final = 7 * DAY_S  # grids plan for tomorrow; by next week somebody has looked
STANDING_MAX: Final = 64  # events of one source that are not over: a week of nine a day
# Tariffs are the operator's own: of these the sites are bounded, and a plan that is none.
PRICES_LONGEST_S: Final = 6 * DAY_S
PRICES_STANDING_MAX: Final = 160
PRICES_CALLS_A_DAY: Final = 4_096  # 75 sites whose plans change each hour, twice


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Of each source by itself. `sites`: those that may be named; none: any of them, and all at once."""

    sites: tuple[str, ...] = ()
    least_w: int = 0
    longest_s: int = 4 * HOUR_S
    hours_a_day: int = 8
    calls_a_day: int = 12
    standing_max: int = STANDING_MAX

    @property
    def of_prices(self) -> "Bounds":
        """Of the source that is the operator's own tariffs."""
        return Bounds(
            sites=self.sites,
            longest_s=PRICES_LONGEST_S,
            hours_a_day=24,
            calls_a_day=PRICES_CALLS_A_DAY,
            standing_max=PRICES_STANDING_MAX,
        )


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the same source has asked for before. `until_s` is when it was over, where it is;
    `replaced`: by the next one of its reference; `dropped`: the source itself has ended it."""

    called: Called
    over: bool
    asked_at_s: int
    until_s: int
    replaced: bool = False
    dropped: bool = False

    @property
    def spent(self) -> bool:
        """Whether it was cancelled before it began."""
        return self.until_s <= self.called.from_s


def refused(
    bounds: Bounds,
    call: Called,
    standing: Sequence[Standing],
    now_s: int,
    *,
    changes: int = 0,
    watts: int | None = None,
) -> str | None:
    """Why it is not asked for, in words; None: it is. `standing`: of the same source, those over within a day
    as well; `changes` of them within a day; `watts`: of the site, as far as that is known."""
    if bounds.sites and call.site not in bounds.sites:
        return (
            f"signals may not stop {call.site or 'all sites at once'}: signals.sites has those that they may"
        )
    if call.until_s <= now_s:
        return "it is over already"
    if call.from_s > now_s + AHEAD_S_MAX:
        return f"it begins in more than {AHEAD_S_MAX // DAY_S} days"
    if call.until_s - call.from_s > bounds.longest_s:
        return f"it is longer than {bounds.longest_s / HOUR_S:g} h, the longest that a signal may ask for"
    if (words := _too_low(bounds, call, watts)) is not None:
        return words
    others = [it for it in standing if it.called.reference != call.reference]
    if sum(not it.over for it in others) >= bounds.standing_max:
        return f"{bounds.standing_max} events of this source are not over yet"
    calls = sum(it.asked_at_s > now_s - DAY_S for it in standing) + changes
    if calls >= bounds.calls_a_day:
        return f"{calls} calls of this source were taken within a day, and there may be {bounds.calls_a_day}"
    most_s = _most_in_a_day(
        [(call.from_s, call.until_s)]
        + [
            (it.called.from_s, it.until_s)
            for it in others
            if not it.spent and (not it.called.site or not call.site or it.called.site == call.site)
        ]
    )
    if most_s > bounds.hours_a_day * HOUR_S:
        return (
            f"with what this source has asked for before it is {most_s / HOUR_S:.1f} h of 24, and there may"
            f" be {bounds.hours_a_day}"
        )
    return None


def _too_low(bounds: Bounds, call: Called, watts: int | None) -> str | None:
    """What a site draws afterwards. A part of what nobody knows is nothing that can be asked for."""
    if not bounds.least_w:
        return None
    kept: int | None = 0
    if call.target == "limit":
        kept = call.target_value
    elif call.target == "share" and call.target_value is not None:
        kept = None if watts is None else watts * (10_000 - call.target_value) // 10_000
    if kept is None:
        return "what the site draws is not known, so neither is what a share of it leaves"
    if kept < bounds.least_w:
        return f"it leaves {kept // 1000} kW, and signals may ask for no less than {bounds.least_w // 1000}"
    return None


def _most_in_a_day(spans: Iterable[tuple[int, int]]) -> int:
    """The seconds that are in any of these, in the 24 hours that have the most of them."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    most = 0
    for first in (it for begin, end in merged for it in (begin, end - DAY_S)):
        most = max(most, sum(max(0, min(end, first + DAY_S) - max(begin, first)) for begin, end in merged))
    return most
