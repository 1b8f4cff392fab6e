"""A report as a PDF on A4: vector charts, tables that repeat their head on every page, page numbers.

Same document, same bytes: its dates are the document's, the period's end. Must not know: what a report is
about.
"""

from pool.reports.document import Document, Facts, Prose, Series, Table, Tiles
from pool.reports.pdf_sheet import Sheet
from pool.reports.plots import plot


def render_pdf(document: Document) -> bytes:
    """The whole file."""
    sheet = Sheet(document)
    for section in document.sections:
        if section.title:
            sheet.draw_heading(section.title)
        for block in section.blocks:
            match block:
                case Facts():
                    sheet.draw_facts(block)
                case Tiles():
                    sheet.draw_tiles(block)
                case Table():
                    sheet.draw_table(block)
                case Series():
                    sheet.draw_chart(plot(block))
                case Prose():
                    sheet.draw_prose(block.text)
    return bytes(sheet.output())
