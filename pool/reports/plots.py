"""Where everything of a chart goes: a series becomes heights, ticks and labels in a unit square.

Coordinates are floats from 0 to 1, left to right and bottom to top; nobody is paid by them. Must not
know: SVG and PDF.
"""

from datetime import datetime
from typing import Final

import msgspec

from pool.reports.document import MONTHS, Series
from pool.reports.figures import HASHRATE_UNITS, SAT_PER_BTC, hashrate_unit

TICKS_Y: Final = 4  # about so many lines across
LABELS_X_MAX: Final = 9
STRIDES: Final = {
    "hour": (1, 2, 3, 6, 12, 24),
    "day": (1, 2, 7, 14, 28, 56, 91, 182, 365, 730),
}
SAT_AS_SAT_MAX: Final = 100_000  # below 0.001 BTC an axis in BTC is nothing but zeros


class Tick(msgspec.Struct, frozen=True):
    """A label at a place along an axis."""

    at: float
    label: str


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """What to draw."""

    title: str
    unit: str
    kind: str
    heights: tuple[float, ...]
    ticks_x: tuple[Tick, ...]
    ticks_y: tuple[Tick, ...]


def plot(series: Series) -> Plot:
    """The series as a chart."""
    largest = max(series.values, default=0)
    unit, scale = _unit(series.quantity, largest)
    step, decimals = _tick_step(largest / scale)
    top = step
    while top < largest / scale:
        top += step
    ticks = round(top / step)
    return Plot(
        title=series.title,
        unit=unit,
        kind=series.kind,
        heights=tuple(value / scale / top for value in series.values),
        ticks_x=_ticks_x(series),
        ticks_y=tuple(Tick(i / ticks, f"{i * step:,.{decimals}f}") for i in range(ticks + 1)),
    )


def _unit(quantity: str, largest: int) -> tuple[str, int]:
    if quantity == "hashrate_hps":
        power = hashrate_unit(largest)
        return HASHRATE_UNITS[power], 1000**power
    return ("sat", 1) if largest < SAT_AS_SAT_MAX else ("BTC", SAT_PER_BTC)


def _tick_step(largest: float) -> tuple[float, int]:
    """A round step of which about TICKS_Y reach the largest value, and the decimals it needs."""
    if largest <= 0:
        return 1.0, 0
    power = 0
    while 10.0**power * TICKS_Y < largest:
        power += 1
    while 10.0 ** (power - 1) * TICKS_Y >= largest:
        power -= 1
    for part, more in ((0.2, 1), (0.25, 2), (0.5, 1), (1.0, 0)):
        step = part * 10.0**power
        if step * TICKS_Y >= largest:
            return step, max(more - power, 0)
    raise AssertionError("the loop above ends at a step that reaches")


def _ticks_x(series: Series) -> tuple[Tick, ...]:
    count = len(series.starts_utc)
    strides = STRIDES[series.step]
    stride = next((it for it in strides if count <= it * LABELS_X_MAX), strides[-1])
    return tuple(
        Tick((i + 0.5) / count, _label(series.starts_utc[i], series.step, count))
        for i in range(0, count, stride)
    )


def _label(start_utc: str, step: str, count: int) -> str:
    at = datetime.fromisoformat(start_utc)
    day = f"{at.day} {MONTHS[at.month - 1][:3]}"
    if step == "day":
        return day if count <= 366 else f"{day} {at.year}"
    if count > 24 and at.hour == 0:
        return day
    return f"{at.hour:02d}:00"
