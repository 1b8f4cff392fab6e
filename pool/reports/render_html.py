"""A report as one HTML page that needs nothing else: no script, no picture, no font from elsewhere.

Everything goes through Jinja2's autoescaping, and a content security policy lets nothing load or run.
Charts are inline SVG. Must not know: what a report is about.
"""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pool.reports.document import Document, Facts, Prose, Series, Table, Tiles
from pool.reports.plots import Plot, plot

TEMPLATES: Final = Path(__file__).parent / "templates"
# Of a chart, in SVG units; the axis labels are outside of it.
PLOT_WIDTH: Final = 900.0
PLOT_HEIGHT: Final = 190.0
BAR_SHARE: Final = 0.72  # of a span's width
BAR_WIDTH_MAX: Final = 48.0


def render_html(document: Document) -> bytes:
    """The whole page."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests |= {
        "facts": lambda block: isinstance(block, Facts),
        "tiles": lambda block: isinstance(block, Tiles),
        "table": lambda block: isinstance(block, Table),
        "series": lambda block: isinstance(block, Series),
        "prose": lambda block: isinstance(block, Prose),
    }
    template = environment.get_template("report.html.j2")
    page = template.render(
        document=document,
        plot=plot,
        line=_line,
        area=_area,
        bars=_bars,
        width=PLOT_WIDTH,
        height=PLOT_HEIGHT,
    )
    return page.encode()


def _line(plot: Plot) -> str:
    """A point for each span, at its middle."""
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in _points(plot))


def _area(plot: Plot) -> str:
    """The same, closed along the ground."""
    points = _points(plot)
    if not points:
        return ""
    ground = f"{PLOT_HEIGHT:.1f}"
    return f"{points[0][0]:.1f},{ground} {_line(plot)} {points[-1][0]:.1f},{ground}"


def _points(plot: Plot) -> list[tuple[float, float]]:
    count = len(plot.heights)
    if count == 1:  # a line needs two ends
        y = PLOT_HEIGHT * (1 - plot.heights[0])
        return [(0.0, y), (PLOT_WIDTH, y)]
    return [
        (PLOT_WIDTH * (i + 0.5) / count, PLOT_HEIGHT * (1 - height)) for i, height in enumerate(plot.heights)
    ]


def _bars(plot: Plot) -> list[tuple[str, str, str, str]]:
    """x, y, width and height of each bar that is not nothing."""
    count = len(plot.heights)
    bar_width = min(PLOT_WIDTH / max(count, 1) * BAR_SHARE, BAR_WIDTH_MAX)
    return [
        (
            f"{PLOT_WIDTH * (i + 0.5) / count - bar_width / 2:.1f}",
            f"{PLOT_HEIGHT * (1 - height):.1f}",
            f"{bar_width:.1f}",
            f"{PLOT_HEIGHT * height:.1f}",
        )
        for i, height in enumerate(plot.heights)
        if height > 0
    ]
