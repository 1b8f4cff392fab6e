"""How a report is written, and where: to standard output, or to a file that is complete or not there.

A format's renderer is imported when it is asked for: one of PDF is half a second, of which
no other needs any.

Must not know: what is in a report.
"""

import shutil
import sys
from enum import StrEnum
from pathlib import Path

from pool.cli.output import Form, write_out
from pool.reports.document import Document
from pool.settings_file import BadConfig


class Format(StrEnum):
    """How a report is written."""

    TEXT = "text"
    CSV = "csv"
    JSON = "json"
    HTML = "html"
    PDF = "pdf"


def format_of(written: Format, form: Form) -> Format:
    """--json and --csv are as everywhere. Raises BadConfig where they contradict --format."""
    if form is Form.TEXT:
        return written
    if written is not Format.TEXT:
        raise BadConfig(f"give --format {written} or --{form.value}, not both")
    return Format(form.value)


def write_report(document: Document, written: Format, out: Path | None) -> None:
    """To the file, or to standard output without. Raises BadConfig, OSError."""
    named = None if out is None else out.suffix.lower().removeprefix(".")
    if named in set(Format) and named != written:
        raise BadConfig(f"--out: {out} would be {written}: give --format {named}, or the file another name")
    content = _render(document, written, to_terminal=out is None and sys.stdout.isatty())
    write_out(content, out)


def _render(document: Document, written: Format, *, to_terminal: bool) -> bytes:
    match written:
        case Format.TEXT:
            from pool.reports.render_text import render_text

            return render_text(document, shutil.get_terminal_size().columns if to_terminal else None)
        case Format.CSV:
            from pool.reports.render_csv import render_csv

            return render_csv(document)
        case Format.JSON:
            from pool.reports.render_json import render_json

            return render_json(document)
        case Format.HTML:
            from pool.reports.render_html import render_html

            return render_html(document)
        case Format.PDF:
            if to_terminal:
                raise BadConfig("a PDF is not for a terminal: say where with --out FILE")
            from pool.reports.render_pdf import render_pdf

            return render_pdf(document)
