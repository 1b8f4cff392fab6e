"""Curves as a picture, SVG: several over one axis of x, which is logarithmic, as their axis of y is.

Must not know: what they show.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 800, 360
LEFT, RIGHT, TOP, BOTTOM = 72, 150, 40, 48
COLOURS: Final = ("#3572b0", "#c33", "#2a8a4a", "#a60", "#7a4fa0")
STEPS: Final = (1, 2, 5)  # of a decade
FONT: Final = "font-family='sans-serif' font-size='12'"


def curves(title: str, x_words: str, y_words: str, lines: Mapping[str, Points]) -> str:
    """One document. Every coordinate is above zero."""
    xs = sorted({x for points in lines.values() for x, _ in points})
    ticks = _ticks([y for points in lines.values() for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = _share(x, xs[0], xs[-1])
        up = _share(y, ticks[0], ticks[-1])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    drawn = [_text(LEFT, 20, title, "start")]
    for y in ticks:
        _, at = place(xs[0], y)
        drawn.append(f"<line x1='{LEFT}' y1='{at:.1f}' x2='{WIDTH - RIGHT}' y2='{at:.1f}' stroke='#ddd'/>")
        drawn.append(_text(LEFT - 6, at + 4, f"{y:,g}", "end"))
    for x in xs:
        drawn.append(_text(place(x, ticks[0])[0], HEIGHT - BOTTOM + 18, f"{x:,g}"))
    drawn.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_words))
    drawn.append(f"<g transform='rotate(-90 14 {HEIGHT / 2:.0f})'>{_text(14, HEIGHT / 2, y_words)}</g>")
    for at, (name, points) in enumerate(lines.items()):
        colour = COLOURS[at % len(COLOURS)]
        places = [place(x, y) for x, y in points]
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f"<polyline points='{joined}' fill='none' stroke='{colour}' stroke-width='2'/>")
        drawn += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>" for x, y in places]
        drawn.append(_text(WIDTH - RIGHT + 24, TOP + 8 + 18 * at, name, "start"))
        drawn.append(f"<circle cx='{WIDTH - RIGHT + 14}' cy='{TOP + 4 + 18 * at}' r='4' fill='{colour}'/>")
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>"
    return "\n".join((head, f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>", *drawn, "</svg>\n"))


def _share(value: float, least: float, most: float) -> float:
    return math.log(value / least) / math.log(most / least) if most > least else 0.5


def _ticks(values: list[float]) -> list[float]:
    """1, 2, 5, 10 and so on, from below the least to above the most."""
    decades = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
    all_ticks = [step * 10.0**decade for decade in decades for step in STEPS]
    first = max(at for at, it in enumerate(all_ticks) if it <= min(values) * (1 + 1e-9))
    last = min(at for at, it in enumerate(all_ticks) if it >= max(values) * (1 - 1e-9))
    return all_ticks[first : last + 1]


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}'>{escape(words)}</text>"
