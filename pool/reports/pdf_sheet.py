"""A4 pages, and how each kind of block of a report is drawn on them.

The font is Source Sans Pro (SIL Open Font License; Latin, Greek, Cyrillic), embedded as far as it is used;
a character it does not have is shown as its escape.

Invariants: nothing is drawn below the bottom margin; no text is cut off: what is too wide is wrapped, and
a row that is taller than a page goes on on the next. Must not know: what a report is about.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, time
from importlib import resources
from typing import Final

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import TTFFont

from pool.reports.document import Cell, Column, Document, Facts, Table, Tiles
from pool.reports.figures import escaped
from pool.reports.plots import Plot

FONT: Final = "source sans pro"
# In millimetres.
MARGIN: Final = 14.0
BOTTOM: Final = 18.0
TABLE_LINE: Final = 3.7
ROW_PADDING: Final = 0.85
CELL_PADDING: Final = 1.1
GAP: Final = 4.0  # between figures at the right of a column and text at the left of the next
TOTAL_HEIGHT: Final = 6.0
FACT_HEIGHT: Final = 5.6
FACTS_WIDTH: Final = 128.0
PART_INDENT: Final = 4.0
TILE_HEIGHT: Final = 14.5
TILE_GAP: Final = 3.0
PROSE_LINE: Final = 4.1
CHART_HEIGHT: Final = 36.0
AXIS_WIDTH: Final = 14.0
BAR_SHARE: Final = 0.72
BAR_WIDTH_MAX: Final = 9.0
ROOM_BELOW_HEADING: Final = 30.0  # a heading with less room than this goes to the next page
# In points.
TABLE_SIZE: Final = 7.6
PROSE_SIZE: Final = 8.6
TEXT_SIZE: Final = 9.6
LINES_OF_ROW_MAX: Final = 55  # what fits on a page
BOLD_WIDTH: Final = 1.06  # how much wider a sum is than the same figures in a row
INK: Final = (22, 32, 44)
SOFT: Final = (91, 104, 117)
RULE: Final = (213, 219, 225)
FAINT: Final = (244, 246, 248)
DEEP: Final = (18, 66, 107)
BAR: Final = (61, 122, 176)
AREA: Final = (224, 234, 243)


class Sheet(FPDF):
    """Draws from top to bottom; begins a page where something does not fit."""

    def __init__(self, document: Document) -> None:
        super().__init__(format="A4")
        self._document = document
        files = resources.files("font_source_sans_pro") / "files"
        for style, weight in (("", "Regular"), ("B", "Semibold")):
            with resources.as_file(files / f"SourceSansPro-{weight}.ttf") as path:
                self.add_font(FONT, style, path)
        # What both weights can show.
        self._known = frozenset.intersection(
            *(frozenset(map(chr, font.cmap)) for font in self.fonts.values() if isinstance(font, TTFFont))
        )
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.set_auto_page_break(False, BOTTOM)
        self.set_creation_date(datetime.combine(document.ends, time(), UTC))
        self.set_title(f"{document.title}: {document.subject}, {document.period}")
        self.set_author("Angara")
        self.set_lang("en")
        self.add_page()

    def header(self) -> None:
        """The masthead on the first page, a line on the others."""
        if self.page_no() == 1:
            self._masthead()
            return
        self._style("", 8, SOFT)
        self._line(self._drawable(f"{self._document.title}, {self._document.subject}"), 4.5, left=True)
        self._line(self._document.period, 4.5)
        self._rule(self.get_y() + 5.2, RULE)
        self.set_y(self.get_y() + 8.5)

    def footer(self) -> None:
        self.set_y(-12)
        self._style("", 7.2, SOFT)
        # At the left: how wide the number of pages is gets known too late to align it at the right.
        self._line(f"Page {self.page_no()} of {{nb}}", 4, left=True)
        if self._document.content_hash is not None:
            self._line(f"Content hash {self._document.content_hash}", 4)

    def draw_heading(self, title: str) -> None:
        self._need(ROOM_BELOW_HEADING)
        self.set_y(self.get_y() + 4)
        self._style("B", 12.5, DEEP)
        self._line(title, 6.5, left=True)
        self.set_y(self.get_y() + 8)

    def draw_prose(self, text: str) -> None:
        self._style("", PROSE_SIZE, SOFT)
        lines = self._wrapped(self._drawable(text), self.epw)
        self._need(len(lines) * PROSE_LINE)
        for line in lines:
            self._line(line, PROSE_LINE, left=True)
            self.set_y(self.get_y() + PROSE_LINE)
        self.set_y(self.get_y() + 2.5)

    def draw_facts(self, block: Facts) -> None:
        self._style("B", TEXT_SIZE, INK)
        labels = max(self.get_string_width(self._drawable(fact.label)) for fact in block.facts)
        values = max(self.get_string_width(self._drawable(fact.cell.text)) for fact in block.facts)
        width = min(max(labels + values + 12, FACTS_WIDTH), self.epw)
        self._need(len(block.facts) * FACT_HEIGHT)  # they are read as one
        for fact in block.facts:
            self._style("B" if fact.strong else "", TEXT_SIZE, SOFT if fact.part else INK)
            lines = self._wrapped(self._drawable(fact.cell.text), max(width - labels - 6, width / 2))
            height = FACT_HEIGHT + (len(lines) - 1) * TABLE_LINE
            self._need(height)
            y = self.get_y()
            if fact.strong:
                self._rule(y, INK, width)
            indent = PART_INDENT if fact.part else 0.0
            self._cell(MARGIN + indent, y, width, FACT_HEIGHT, self._drawable(fact.label))
            for i, line in enumerate(lines):
                self._cell(MARGIN, y + i * TABLE_LINE, width, FACT_HEIGHT, line, right=True)
            self._rule(y + height, INK if fact.strong else RULE, width)
            self.set_y(y + height)
        self.set_y(self.get_y() + 3.5)

    def draw_tiles(self, block: Tiles) -> None:
        self._need(TILE_HEIGHT + 4)
        count = len(block.facts)
        width = (self.epw - TILE_GAP * (count - 1)) / count
        y = self.get_y() + 1
        for i, fact in enumerate(block.facts):
            x = MARGIN + i * (width + TILE_GAP)
            self.set_fill_color(*FAINT)
            self.rect(x, y, width, TILE_HEIGHT, style="F", round_corners=True, corner_radius=1.2)
            self._style("", 8, SOFT)
            self._cell(x + 1.6, y + 1.4, width, 4.6, self._drawable(fact.label))
            self._style("B", 12.5, INK)
            self._cell(x + 1.6, y + 6.3, width, 6.5, self._drawable(fact.cell.text))
        self.set_y(y + TILE_HEIGHT + 3)

    def draw_chart(self, plot: Plot) -> None:
        self._need(CHART_HEIGHT + 17)
        self._style("", 8.4, SOFT)
        self._line(f"{plot.title}, {plot.unit}", 5, left=True)
        left, top, width = MARGIN + AXIS_WIDTH, self.get_y() + 7.5, self.epw - AXIS_WIDTH
        ground = top + CHART_HEIGHT
        self._style("", 7, SOFT)
        for tick in plot.ticks_y:
            y = ground - CHART_HEIGHT * tick.at
            self._rule(y, RULE, width, left)
            self._cell(MARGIN, y - 2, AXIS_WIDTH - 1, 4, tick.label, right=True)
        count = len(plot.heights)
        middles = [left + width * (i + 0.5) / count for i in range(count)]
        tops = [ground - CHART_HEIGHT * height for height in plot.heights]
        if plot.kind == "bars":
            self._bars(middles, tops, ground, min(width / max(count, 1) * BAR_SHARE, BAR_WIDTH_MAX))
        else:
            if count == 1:  # a line needs two ends
                middles, tops = [left, left + width], tops * 2
            self._curve(list(zip(middles, tops, strict=True)), ground)
        self._rule(ground, INK, width, left)
        self.set_draw_color(*INK)
        for tick in plot.ticks_x:
            x = left + width * tick.at
            self.line(x, ground, x, ground + 0.9)
            self._cell(x - 15, ground + 1.2, 30, 4, tick.label, centre=True)
        self.set_y(ground + 8)

    def draw_table(self, table: Table) -> None:
        if not table.rows:
            self._style("", TEXT_SIZE, SOFT)
            self._need(6)
            self._line(table.empty, 5, left=True)
            self.set_y(self.get_y() + 8)
            return
        widths = self._widths(table)
        self._table_head(table.columns, widths)
        for row in table.rows[:-1]:
            self._style("", TABLE_SIZE, INK)
            self._row(table.columns, widths, row)
        self._style("", TABLE_SIZE, INK)
        # A sum is not left alone on a page.
        self._row(table.columns, widths, table.rows[-1], kept_free=TOTAL_HEIGHT if table.total else 0.0)
        if table.total is not None:
            self._style("B", TABLE_SIZE, INK)
            self._rule(self.get_y(), INK)
            self._row(table.columns, widths, table.total)
        self.set_y(self.get_y() + 4)

    # Parts of blocks

    def _masthead(self) -> None:
        self._style("B", 8.6, DEEP)
        self.set_char_spacing(1.6)
        self._line("ANGARA", 5, left=True)
        self.set_char_spacing(0)
        y = self.get_y() + 5
        self._style("B", 19, INK)
        self._cell(MARGIN, y, self.epw, 10, self._document.title)
        self._style("B", 13, INK)
        lines = self._wrapped(self._drawable(self._document.subject), self.epw * 0.55)
        for line in lines:
            self._cell(MARGIN, y - 2.5, self.epw, 6, line, right=True)
            y += 6
        self._style("", 9, SOFT)
        self._cell(MARGIN, y - 2.5, self.epw, 5, self._document.period, right=True)
        y += 5.5
        self.set_line_width(0.7)
        self._rule(y, DEEP)
        self.set_line_width(0.2)
        self.set_y(y + 5)

    def _table_head(self, columns: Sequence[Column], widths: Sequence[float]) -> None:
        self._style("B", TABLE_SIZE - 0.2, SOFT)
        titles = [
            self._wrapped(self._drawable(column.title), inner)
            for column, (_, inner) in zip(columns, _places(columns, widths), strict=True)
        ]
        lines = max(len(title) for title in titles)
        height = lines * TABLE_LINE + 2 * ROW_PADDING
        self._need(height + 2 * TABLE_LINE)
        y = self.get_y()
        self._style("B", TABLE_SIZE - 0.2, SOFT)  # a new page has drawn its own header
        for (x, inner), column, title in zip(_places(columns, widths), columns, titles, strict=True):
            for i, line in enumerate(title):
                at = y + ROW_PADDING + (lines - len(title) + i) * TABLE_LINE
                self._cell(x, at, inner, TABLE_LINE, line, right=column.right)
        self._rule(y + height, INK)
        self.set_y(y + height)

    def _row(
        self,
        columns: Sequence[Column],
        widths: Sequence[float],
        row: Sequence[Cell],
        *,
        kept_free: float = 0.0,
    ) -> None:
        cells = [
            self._wrapped(self._drawable(cell.text), inner)
            for cell, (_, inner) in zip(row, _places(columns, widths), strict=True)
        ]
        tallest = max(len(cell) for cell in cells)
        for start in range(0, tallest, LINES_OF_ROW_MAX):
            part = [cell[start : start + LINES_OF_ROW_MAX] for cell in cells]
            self._row_part(columns, widths, part, kept_free)
        self._rule(self.get_y(), RULE)

    def _row_part(
        self,
        columns: Sequence[Column],
        widths: Sequence[float],
        cells: Sequence[Sequence[str]],
        kept_free: float,
    ) -> None:
        height = max(len(cell) for cell in cells) * TABLE_LINE + 2 * ROW_PADDING
        if self.get_y() + height + kept_free > self.page_break_trigger:
            style, colour = self.font_style, self.text_color
            self.add_page()
            self._table_head(columns, widths)
            self.set_font(FONT, style, TABLE_SIZE)
            self.text_color = colour
        y = self.get_y()
        for (x, inner), column, cell in zip(_places(columns, widths), columns, cells, strict=True):
            for i, line in enumerate(cell):
                at = y + ROW_PADDING + i * TABLE_LINE
                self._cell(x, at, inner, TABLE_LINE, line, right=column.right)
        self.set_y(y + height)

    def _widths(self, table: Table) -> list[float]:
        """As wide as the content needs. What is left goes to all alike; what is missing is taken from the
        widest, whose text is wrapped."""
        rows = [*table.rows, table.total] if table.total else list(table.rows)
        widths = []
        for i, column in enumerate(table.columns):
            self._style("", TABLE_SIZE, INK)
            lines = [line for row in rows for line in self._drawable(row[i].text).split("\n")]
            widest = max(self.get_string_width(line) for line in lines) * BOLD_WIDTH
            self._style("B", TABLE_SIZE, INK)
            title = max(self.get_string_width(word) for word in self._drawable(column.title).split())
            after_right = i > 0 and not column.right and table.columns[i - 1].right
            widths.append(max(widest, title) + 2 * CELL_PADDING + (GAP if after_right else 0.1))
        spare = self.epw - sum(widths)
        if spare >= 0:
            return [width + spare / len(widths) for width in widths]
        room, bound = self.epw, 0.0
        for done, width in enumerate(sorted(widths)):
            bound = room / (len(widths) - done)
            if width > bound:
                break
            room -= width
        return [min(width, bound) for width in widths]

    def _bars(self, middles: list[float], tops: list[float], ground: float, width: float) -> None:
        self.set_fill_color(*BAR)
        for x, y in zip(middles, tops, strict=True):
            if y < ground:
                self.rect(x - width / 2, y, width, ground - y, style="F")

    def _curve(self, points: list[tuple[float, float]], ground: float) -> None:
        if not points:
            return
        self.set_fill_color(*AREA)
        self.polygon([(points[0][0], ground), *points, (points[-1][0], ground)], style="F")
        self.set_draw_color(*DEEP)
        self.set_line_width(0.35)
        self.polyline(points)
        self.set_line_width(0.2)

    # Text and lines

    def _need(self, height: float) -> None:
        """Begin a page where this much does not fit."""
        if self.get_y() + height > self.page_break_trigger:
            self.add_page()

    def _style(self, style: str, size: float, colour: tuple[int, int, int]) -> None:
        self.set_font(FONT, style, size)
        self.set_text_color(*colour)

    def _line(self, text: str, height: float, *, left: bool = False) -> None:
        """Across the page, at the left or at the right."""
        self._cell(MARGIN, self.get_y(), self.epw, height, text, right=not left)

    def _cell(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        text: str,
        *,
        right: bool = False,
        centre: bool = False,
    ) -> None:
        padding, self.c_margin = self.c_margin, 0.0
        self.set_xy(x, y)
        align = "R" if right else "C" if centre else "L"
        self.cell(width, height, text, align=align, new_x=XPos.LEFT, new_y=YPos.TOP)
        self.c_margin = padding

    def _rule(
        self, y: float, colour: tuple[int, int, int], width: float | None = None, left: float = MARGIN
    ) -> None:
        self.set_draw_color(*colour)
        self.line(left, y, left + (self.epw if width is None else width), y)

    def _drawable(self, text: str) -> str:
        if text.isascii():
            return text
        return "".join(it if it in self._known or it == "\n" else escaped(it) for it in text)

    def _wrapped(self, text: str, width: float) -> list[str]:
        """Lines that fit, in the present font; broken between words, and within one that is too long."""
        lines = []
        for paragraph in text.split("\n"):
            if self.get_string_width(paragraph) <= width:
                lines.append(paragraph)
                continue
            line = ""
            for word in paragraph.split(" "):
                longer = f"{line} {word}" if line else word
                if self.get_string_width(longer) <= width:
                    line = longer
                    continue
                if line:
                    lines.append(line)
                *full, line = self._broken(word, width)
                lines += full
            lines.append(line)
        return lines

    def _broken(self, word: str, width: float) -> list[str]:
        """A word in pieces that fit."""
        pieces, start = [], 0
        while start < len(word):
            low, high = 1, len(word) - start  # the longest piece that fits, but one character at least
            while low < high:
                middle = (low + high + 1) // 2
                fits = self.get_string_width(word[start : start + middle]) <= width
                low, high = (middle, high) if fits else (low, middle - 1)
            pieces.append(word[start : start + low])
            start += low
        return pieces or [""]


def _places(columns: Sequence[Column], widths: Sequence[float]) -> list[tuple[float, float]]:
    """Where the text of each column begins, and how wide it may be."""
    places, left = [], MARGIN
    for i, (column, width) in enumerate(zip(columns, widths, strict=True)):
        gap = GAP if i and columns[i - 1].right and not column.right else 0.0
        places.append((left + CELL_PADDING + gap, width - 2 * CELL_PADDING - gap))
        left += width
    return places
