"""What commands print: words for people, and the same as JSON or CSV for programs.

    text    words for headings, units for figures, UTC for times; on a terminal it fits or wraps, in a pipe a
            row is a line, and nothing is ever cut
    JSON    one document of exact values: integers for satoshi, ISO 8601 for times
    CSV     the columns of the text with the values of the JSON; no cell is a formula

A list is told page by page, so that 100,000 machines take the memory of a thousand. What a stranger chose (a
worker's name, a user agent, what a node said) has a shape in all three, and moves no cursor.

Must not know: what a command is about.
"""

import csv
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import typer

from pool.reports.figures import visible
from pool.reports.formulas import no_formula
from pool.reports.text_table import GAP, Head, TextTable, cells, padded
from pool.whole_file import write_whole

PAGE_ROWS: Final = 1_000
NO_ROWS: Final = "none"  # for a person; who reads from a pipe gets the headings, as always
EARLIEST_S: Final = -62_135_596_800  # of calendars: year 1
LATEST_S: Final = 253_402_300_799  # and the end of year 9999
HASH_BITS: Final = 256
NOTHING: Final = "-"  # what a table has where there is no value

Row = dict[str, Any]


class Form(Enum):
    """How something is shown."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class Column(NamedTuple):
    """A heading in words, the name of its value in rows, and how a person reads it. One that only a running
    pool has is left out of the text where none does."""

    title: str
    key: str
    text: Callable[[Any], str] = str
    right: bool = False
    live: bool = False


def show(rows: Iterable[Row], columns: Sequence[Column], form: Form = Form.TEXT) -> None:
    """A list. JSON has all that the rows have."""
    pages = _pages(map(exact, rows))
    match form:
        case Form.JSON:
            _write_json_list(chain.from_iterable(pages), sys.stdout)
        case Form.CSV:
            _write_csv(chain.from_iterable(pages), columns, sys.stdout)
        case Form.TEXT:
            _write_text(pages, columns, sys.stdout)
    sys.stdout.flush()


def show_one(row: Row, facts: Sequence[Column], form: Form = Form.TEXT) -> None:
    """One thing: a line for each fact that there is."""
    if form is Form.JSON:
        print_json(row)
        return
    row = exact(row)
    told = [(it.title, _cell(it, row)) for it in facts if row.get(it.key) is not None]
    width = max((cells(title) for title, _ in told), default=0)
    for title, cell in told:
        sys.stdout.write(f"{padded(title, width)}{GAP}{cell}\n")
    sys.stdout.flush()


def print_json(value: object) -> None:
    """One document. What is beyond ASCII is escaped, so that no name moves a cursor here either."""
    typer.echo(json.dumps(exact(value), indent=2))


def say(words: str, *, err: bool = False) -> None:
    """A line of words, some of which others chose: a node, an upstream, whoever typed a name. What would move
    the cursor or change what is read has a shape."""
    typer.echo(visible(words), err=err)


def write_out(content: bytes, out: Path | None) -> None:
    """To a file, which is complete or not there, or to standard output without one. Raises OSError."""
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        write_whole(out, content)


def tell(words: str, row: Row, form: Form) -> None:
    """What was done."""
    if form is Form.JSON:
        print_json(row)
    else:
        say(words)


def exact(value: Any) -> Any:
    """A pool's answer as programs want it: times in ISO 8601, difficulties as numbers."""
    if isinstance(value, dict):
        told = {}
        for name, it in value.items():
            said, convert = _said(name)
            told[said] = convert(it) if isinstance(it, int) else exact(it)
        return told
    return [exact(it) for it in value] if isinstance(value, (list, tuple)) else value


@cache
def _said(name: str) -> tuple[str, Callable[[Any], Any]]:
    """What a value is called, and how it is told."""
    if name.endswith("_at_s") or name in ("from_s", "until_s"):
        return name.removesuffix("_s"), iso_time
    return ("difficulty", two_to_the) if name == "difficulty_log2" else (name, exact)


def two_to_the(log2: int) -> int | float | str:
    """Whole, or exact all the same: floats have powers of two. In words where it is beyond all hashes."""
    if abs(log2) > HASH_BITS:
        return f"2^{log2}"
    return 2**log2 if log2 >= 0 else 2.0**log2


def moment(iso: str) -> str:
    """2026-11-22 00:00:00Z."""
    return iso.replace("T", " ")


def iso_time(at_s: int) -> str:
    """2026-11-22T00:00:00Z. Books that somebody tampered with may have a moment that no calendar has."""
    if not EARLIEST_S <= at_s <= LATEST_S:
        return f"{at_s} s after 1970"
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def moment_by(at_s: int, who: str) -> str:
    """2026-11-22 00:00:00Z by ann."""
    return f"{moment(iso_time(at_s))} by {who}"


def duration(seconds: float) -> str:
    """The two largest units of it: 3 d 4 h, 12 min 5 s."""
    left = int(seconds)
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def yes_or_no(value: object) -> str:
    return "yes" if value else "no"


def _pages(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """At least one, for its headings."""
    left = iter(rows)
    page = list(islice(left, PAGE_ROWS))
    yield page
    while page := list(islice(left, PAGE_ROWS)):
        yield page


def _cell(column: Column, row: Row) -> str:
    value = row.get(column.key)
    return NOTHING if value is None else visible(column.text(value))


def _write_text(pages: Iterable[list[Row]], columns: Sequence[Column], out: TextIO) -> None:
    table, shown = None, list(columns)
    for page in pages:
        if table is None:
            shown = [it for it in columns if not it.live or any(row.get(it.key) is not None for row in page)]
            heads = [Head(it.title, it.right) for it in shown]
            table = TextTable(heads, shutil.get_terminal_size().columns if out.isatty() else None)
        if not page and out.isatty():
            out.write(f"{NO_ROWS}\n")
            return
        lines = table.lines([[_cell(it, row) for it in shown] for row in page])
        out.writelines(f"{line}\n" for line in lines)


def _write_json_list(rows: Iterable[Row], out: TextIO) -> None:
    """A row a line: a document that is read whole, and that a person and `grep` can look at too."""
    between = "\n"
    out.write("[")
    for row in rows:
        out.write(f"{between}  {json.dumps(row)}")
        between = ",\n"
    out.write("\n]\n" if between != "\n" else "]\n")


def _write_csv(rows: Iterable[Row], columns: Sequence[Column], out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([it.key for it in columns])
    writer.writerows([_csv_cell(row.get(it.key)) for it in columns] for row in rows)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return no_formula(value) if isinstance(value, str) else value
