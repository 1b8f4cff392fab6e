"""A report as CSV (RFC 4180, UTF-8): one file, every row of which begins with the name of its section.

    report,title,subject,period,content_sha256       the first section
    balance_sat,name,value                            facts: one a row, after such a header
    rates,rate,scheme,nbits,...                       a table: its header, its rows, its total
    timeline_credit_sat,from_utc,value                a chart's series

Sections are separated by an empty line, and each begins with its header. Values are exact, amounts in
satoshi, as the section's or column's name says. Text that a spreadsheet would take for a formula, split at
commas or semicolons, gets an apostrophe in front of it, and what has no shape is escaped. Must not know: what
a report is about.
"""

import csv
import io
from collections.abc import Iterable

from pool.reports.document import Block, Document, Facts, Prose, Series, Table, Tiles
from pool.reports.formulas import no_formula


def render_csv(document: Document) -> bytes:
    """All sections in their order."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("report", "title", "subject", "period", "content_sha256"))
    heads = (document.title, document.subject, document.period, document.content_hash or "")
    writer.writerow(_safe(("report", *heads)))
    for section in document.sections:
        for block in section.blocks:
            if not isinstance(block, Prose):
                writer.writerow(())
                for row in _rows(block):
                    writer.writerow(_safe((block.key, *row)))
    return out.getvalue().encode()


def _rows(block: Block) -> Iterable[tuple[int | str | None, ...]]:
    match block:
        case Facts() | Tiles():
            yield ("name", "value")
            yield from ((fact.key, fact.cell.value) for fact in block.facts)
        case Series():
            yield ("from_utc", "value")
            yield from zip(block.starts_utc, block.values, strict=True)
        case Table():
            yield tuple(column.key for column in block.columns)
            yield from (tuple(cell.value for cell in row) for row in block.rows)
            if block.total is not None:
                yield tuple(cell.value for cell in block.total)


def _safe(row: Iterable[int | str | None]) -> list[int | str]:
    return [no_formula(value) if isinstance(value, str) else "" if value is None else value for value in row]
