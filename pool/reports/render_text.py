"""A report as text: for a terminal of some width, or without one, where a row is a line.

Must not know: what a report is about.
"""

from collections.abc import Iterator
from textwrap import wrap
from typing import Final

from pool.reports.document import Document, Facts, Prose, Series, Table, Tiles
from pool.reports.plots import plot
from pool.reports.text_table import GAP, Head, TextTable, cells, padded

WIDTH_MIN: Final = 80
SPARKS_WITHOUT_WIDTH: Final = 200  # of a chart that is not for a terminal
SPARKS: Final = " ▁▂▃▄▅▆▇█"


def render_text(document: Document, width: int | None) -> bytes:
    """Plain text in lines of so many columns; without a width a row of a table is a line."""
    lines = _lines(document, None if width is None else max(width, WIDTH_MIN))
    return "".join(f"{line}\n" for line in lines).encode()


def _lines(document: Document, width: int | None) -> Iterator[str]:
    yield f"{document.title}: {document.subject}"
    yield document.period
    for section in document.sections:
        if section.title:
            yield ""
            yield section.title.upper()
        for block in section.blocks:
            match block:
                case Facts() | Tiles():
                    yield from _facts(block)
                case Table():
                    yield from _table(block, width) if block.rows else (block.empty,)
                case Series():
                    yield from _sparks(block, width or SPARKS_WITHOUT_WIDTH)
                case Prose():
                    yield from [block.text] if width is None else wrap(block.text, width)


def _facts(block: Facts | Tiles) -> Iterator[str]:
    labels = max((cells(fact.label) for fact in block.facts), default=0)
    values = max((cells(fact.cell.text) for fact in block.facts), default=0)
    for fact in block.facts:
        yield f"{padded(fact.label, labels)}{GAP}{padded(fact.cell.text, values, right=True)}"


def _table(table: Table, width: int | None) -> Iterator[str]:
    """Its total is the last row."""
    grid = TextTable([Head(column.title, column.right) for column in table.columns], width)
    rows = table.rows if table.total is None else (*table.rows, table.total)
    return grid.lines([[cell.text for cell in row] for row in rows])


def _sparks(series: Series, width: int) -> Iterator[str]:
    """One character a span, as many as fit from the end."""
    drawn = plot(series)
    heights = drawn.heights[-width:]
    yield f"{drawn.title} (top: {drawn.ticks_y[-1].label} {drawn.unit})"
    yield "".join(SPARKS[min(int(height * len(SPARKS)), len(SPARKS) - 1)] for height in heights)
