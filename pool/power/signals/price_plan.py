"""When which machines do not pay for their energy, by the prices of the coming hours.

Machines are known by what they need (mJ/TH); what the work of a kWh in one is worth is a satoshi figure
that moves with difficulty, fees and the exchange rate. A machine stops for hours that cost more than that,
and never flaps: it stops where it would lose BAND, and mines again where it would gain BAND; it is off for
LEAST_H at least, and stays off over GAP_H in between. An hour that has begun stays as it was planned.

Pure: exact fractions, hours by their number since 1970. Must not know: where prices are from, events.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Final

import msgspec

# Of what its kWh is worth: fees of a day move it by as much, and nobody stops a machine for that.
BAND: Final = Fraction(3, 100)
LEAST_H: Final = 2  # a machine boots and tunes itself for a quarter of an hour, which the first hour pays
GAP_H: Final = 1


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """Satoshi for a kWh in an hour; None where nobody has said."""

    hour: int
    sat: Fraction | None


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Hours in which something is off, `until` is the first in which nothing is. `limits`: from which mJ/TH
    on machines are off, by hour."""

    begin: int
    until: int
    limits: tuple[int, ...]


def limits(
    prices: Sequence[Price], worths: Mapping[int, Fraction], was: Mapping[int, int], begun: int
) -> dict[int, int]:
    """From which mJ/TH on machines are off, by hour; an hour that is not there stops nobody. `worths`:
    satoshi of a kWh by mJ/TH, of all machines that there are; `was`: the same as what is returned, of before;
    `begun`: the hour that it is. `prices` are of hours that follow each other, from `begun` on."""
    found: dict[int, int] = {}
    for mj_per_th in sorted(worths, reverse=True):  # a better one takes its hours out of the worse ones'
        for hour in _off(prices, worths[mj_per_th], mj_per_th, was):
            found[hour] = mj_per_th
    if begun in was:
        found[begun] = was[begun]
    elif was:  # it was planned, and nothing was to be off in this hour
        found.pop(begun, None)
    return found


def runs(found: Mapping[int, int], hours_max: int) -> list[Run]:
    """Hours that follow each other, as one; longer ones in several."""
    made: list[Run] = []
    for hour in sorted(found):
        last = made[-1] if made else None
        if last is not None and last.until == hour and hour - last.begin < hours_max:
            made[-1] = Run(begin=last.begin, until=hour + 1, limits=(*last.limits, found[hour]))
        else:
            made.append(Run(begin=hour, until=hour + 1, limits=(found[hour],)))
    return made


def between(worths: Mapping[int, Fraction], limit: int) -> Fraction:
    """A price that stops exactly those: above what theirs are worth, below what the next better one's is."""
    stopped = max((it for mj_per_th, it in worths.items() if mj_per_th >= limit), default=Fraction(0))
    better = min((it for mj_per_th, it in worths.items() if mj_per_th < limit), default=None)
    return stopped * (1 + BAND) if better is None else (stopped + better) / 2


def limit_at(worths: Mapping[int, Fraction], price: Fraction) -> int | None:
    """Whom a price stops."""
    return min((mj_per_th for mj_per_th, it in worths.items() if it < price), default=None)


def _off(prices: Sequence[Price], worth: Fraction, mj_per_th: int, was: Mapping[int, int]) -> list[int]:
    """The hours in which one is off."""
    off = [_loses(it, worth, stopped=was.get(it.hour, mj_per_th + 1) <= mj_per_th) for it in prices]
    _fill(off)
    hours: list[int] = []
    at = 0
    while at < len(off):
        end = at
        while end < len(off) and off[end]:
            end += 1
        before = was.get(prices[at].hour - 1, mj_per_th + 1) <= mj_per_th  # it is off already
        if end - at >= LEAST_H or (end > at and at == 0 and before):
            hours += [it.hour for it in prices[at:end]]
        at = max(end, at + 1)
    return hours


def _loses(price: Price, worth: Fraction, *, stopped: bool) -> bool:
    if price.sat is None:
        return False
    return price.sat > worth * (1 - BAND if stopped else 1 + BAND)


def _fill(off: list[bool]) -> None:
    """What is too short to mine in, in place."""
    at = 0
    while at < len(off):
        end = at
        while end < len(off) and not off[end]:
            end += 1
        if at > 0 and end < len(off) and end - at <= GAP_H:
            off[at:end] = [True] * (end - at)
        at = max(end, at) + 1
