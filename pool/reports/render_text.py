"""A report for a terminal. Must not know: what a report is about."""

import io
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from pool.reports.document import Document, Facts, Prose, Series, Table, Tiles
from pool.reports.plots import plot

WIDTH_MIN: Final = 80
SPARKS: Final = " ▁▂▃▄▅▆▇█"


def render_text(document: Document, width: int) -> bytes:
    """Plain text for a terminal of so many columns."""
    out = io.StringIO()
    console = Console(file=out, width=max(width, WIDTH_MIN), highlight=False, color_system=None)
    console.print(Text(f"{document.title}: {document.subject}"))
    console.print(Text(document.period))
    for section in document.sections:
        if section.title:
            console.print(Text(f"\n{section.title.upper()}"))
        for block in section.blocks:
            match block:
                case Facts() | Tiles():
                    console.print(_facts(block))
                case Table():
                    console.print(_table(block) if block.rows else Text(block.empty))
                case Series():
                    console.print(_sparks(block, console.width))
                case Prose():
                    console.print(Text(block.text, style="dim"))
    return out.getvalue().encode()


def _facts(block: Facts | Tiles) -> Grid:
    grid = Grid(box=None, show_header=False, padding=(0, 2, 0, 0))
    grid.add_column()
    grid.add_column(justify="right")
    for fact in block.facts:
        grid.add_row(Text(fact.label), Text(fact.cell.text, overflow="fold"))
    return grid


def _table(table: Table) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_footer=table.total is not None, padding=(0, 1, 0, 0))
    for index, column in enumerate(table.columns):
        grid.add_column(
            Text(column.title),
            footer=Text(table.total[index].text) if table.total else "",
            justify="right" if column.right else "left",
            overflow="fold",
        )
    for row in table.rows:
        grid.add_row(*(Text(cell.text) for cell in row))
    return grid


def _sparks(series: Series, width: int) -> Text:
    """One character a span, as many as fit from the end."""
    drawn = plot(series)
    heights = drawn.heights[-width:]
    line = "".join(SPARKS[min(int(height * len(SPARKS)), len(SPARKS) - 1)] for height in heights)
    return Text(f"{drawn.title} (top: {drawn.ticks_y[-1].label} {drawn.unit})\n{line}")
