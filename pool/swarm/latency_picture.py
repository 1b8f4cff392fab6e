"""The histogram of a run's latencies as a picture, SVG. Both axes are logarithmic, so that one answer in a
hundred thousand is seen.

Must not know: where the latencies are from.
"""

import math
from html import escape
from typing import Final

from pool.swarm.load_report import PERCENTILES, Buckets, percentile_ms

WIDTH, HEIGHT = 800, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 44
BARS_A_DECADE: Final = 20
FONT: Final = "font-family='sans-serif' font-size='12'"


def picture(title: str, buckets: Buckets) -> str:
    """One document. Without any latency it says so."""
    body = [_text(LEFT, 20, title, anchor="start")]
    counts = _bars(buckets)
    if not counts:
        body.append(_text(WIDTH / 2, HEIGHT / 2, "no answers"))
    else:
        body += _drawn(counts, buckets)
    return "\n".join(
        (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
            f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
            *body,
            "</svg>\n",
        )
    )


def _bars(buckets: Buckets) -> dict[int, int]:
    """How many, by the place of their bar: twenty for each power of ten of a nanosecond."""
    counts: dict[int, int] = {}
    for up_to_ns, number in buckets:
        bar = math.floor(math.log10(max(1, up_to_ns)) * BARS_A_DECADE)
        counts[bar] = counts.get(bar, 0) + number
    return counts


def _drawn(counts: dict[int, int], buckets: Buckets) -> list[str]:
    first = min(counts) // BARS_A_DECADE * BARS_A_DECADE
    last = (max(counts) // BARS_A_DECADE + 1) * BARS_A_DECADE
    top = max(1, math.ceil(math.log10(max(counts.values()))))

    def x(bar: float) -> float:
        return LEFT + (bar - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(count: float) -> float:
        """One has a height already: from a half on."""
        share = (math.log10(count) + 0.3) / (top + 0.3)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    floor = HEIGHT - BOTTOM
    drawn = [f"<line x1='{LEFT}' y1='{floor}' x2='{WIDTH - RIGHT}' y2='{floor}' stroke='black'/>"]
    for power in range(top + 1):
        at = y(10**power)
        drawn.append(f"<line x1='{LEFT}' y1='{at:.1f}' x2='{WIDTH - RIGHT}' y2='{at:.1f}' stroke='#ddd'/>")
        drawn.append(_text(LEFT - 6, at + 4, f"{10**power:,}", anchor="end"))
    for decade in range(first, last + 1, BARS_A_DECADE):
        drawn.append(_text(x(decade), floor + 18, _duration(decade // BARS_A_DECADE)))
    width = x(first + 1) - x(first)
    for bar, count in sorted(counts.items()):
        height = floor - y(count)
        place = f"x='{x(bar):.1f}' y='{y(count):.1f}' width='{width:.1f}' height='{height:.1f}'"
        drawn.append(f"<rect {place} fill='#3572b0'/>")
    for share in PERCENTILES.values():
        at_ms = percentile_ms(buckets, share)
        at = x(math.log10(max(1e-6, at_ms) * 1e6) * BARS_A_DECADE)
        drawn.append(
            f"<line x1='{at:.1f}' y1='{TOP}' x2='{at:.1f}' y2='{floor}' stroke='#c33' stroke-dasharray='3'/>"
        )
    marks = "   ".join(
        f"{name} {percentile_ms(buckets, share):,.1f} ms" for name, share in PERCENTILES.items()
    )
    drawn.append(_text(LEFT, 40, f"{marks}   max {buckets[-1][0] / 1e6:,.1f} ms", anchor="start"))
    drawn.append(_text(WIDTH / 2, HEIGHT - 8, "from a share to its answer; answers, by how long they took"))
    return drawn


def _duration(power: int) -> str:
    """10 to this, in nanoseconds."""
    unit = min(power // 3, 3)
    return f"{10 ** (power - 3 * unit):,} {('ns', 'us', 'ms', 's')[unit]}"


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"
