"""A report as a document: facts, tables, charts and prose, for any renderer.

A cell has two sides: text for eyes, and the exact value for a machine. Names that came from outside are
made visible here, once; a renderer still escapes what its own format needs.

Must not know: HTML, PDF, CSV, and what a report is about.
"""

from datetime import date, timedelta
from typing import Any

import msgspec

from pool.reports.figures import visible


class Cell(msgspec.Struct, frozen=True):
    """What is shown, and the value behind it (None: there is none)."""

    text: str
    value: int | str | None


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """`key` names it for machines."""

    key: str
    title: str
    right: bool = False


class Facts(msgspec.Struct, frozen=True, kw_only=True, tag="facts"):
    """Labelled values below each other. A strong one is a sum; a part is of the one before it."""

    key: str
    facts: tuple["Fact", ...]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    key: str
    label: str
    cell: Cell
    strong: bool = False
    part: bool = False


class Tiles(msgspec.Struct, frozen=True, kw_only=True, tag="tiles"):
    """A few values beside each other, large."""

    key: str
    facts: tuple[Fact, ...]


class Table(msgspec.Struct, frozen=True, kw_only=True, tag="table"):
    """Rows; `empty` is said where there are none."""

    key: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...] | None = None
    empty: str = "Nothing in this period."


class Series(msgspec.Struct, frozen=True, kw_only=True, tag="series"):
    """A value for each hour or day, one after the other, to be drawn."""

    key: str
    title: str
    kind: str  # bars or line
    quantity: str  # hashrate_hps or sat: decides the axis' unit
    step: str  # hour or day
    starts_utc: tuple[str, ...]
    values: tuple[int, ...]


class Prose(msgspec.Struct, frozen=True, kw_only=True, tag="prose"):
    """A paragraph for people."""

    text: str


Block = Facts | Tiles | Table | Series | Prose


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks under a heading; without one they belong to the document's head."""

    title: str | None
    blocks: tuple[Block, ...]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A whole report. `data` is what it was made from, for JSON."""

    title: str
    subject: str
    period: str
    ends: date  # its date of issue: the period's end, so that the same report has the same bytes
    sections: tuple[Section, ...]
    name: str  # of the data: statement, hashrate, payouts, pool
    data: Any
    content_hash: str | None = None
    proof: Any = None  # what makes the data checkable without whoever made it


def text(value: str) -> Cell:
    """A name or word from outside."""
    return Cell(visible(value), value)


def period_in_words(from_day: str, to_day: str) -> str:
    """The days that are in it, the last one included, as people say it."""
    first, last = date.fromisoformat(from_day), date.fromisoformat(to_day) - timedelta(days=1)
    if first == last:
        return f"{day_in_words(first)} (UTC)"
    return f"{day_in_words(first)} to {day_in_words(last)} (UTC)"


def day_in_words(day: date) -> str:
    """1 September 2026."""
    return f"{day.day} {MONTHS[day.month - 1]} {day.year}"


# Not strftime: a report must not depend on the machine's language.
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
