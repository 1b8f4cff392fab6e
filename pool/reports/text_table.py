"""Tables as lines of text: aligned columns, no box, and no cell that is ever cut.

Into a pipe a row is a line, however long it is. Where lines have a width, sentences wrap between their words,
and where that is not enough (a payout address beside a hash), each row is told as a block of its cells one
below the other. What has no space in it, a name, an address, a hash, is in one piece in all three.

Must not know: what is in a table. Its cells have no controls: see `pool.reports.figures.visible`.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

GAP: Final = "  "  # between two columns


class Head(NamedTuple):
    """A column's heading; figures stand on its right."""

    title: str
    right: bool = False


class TextTable:
    """Rows come in pages, so that a list of any length is told in the memory of one; a column is never
    narrower than it was on the page before."""

    def __init__(self, heads: Sequence[Head], width: int | None = None) -> None:
        self._heads = heads
        self._width = width
        self._widths = [cells(head.title) for head in heads]
        self._headed = False

    def lines(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        """A page: its headings, where they were not told yet, and its rows."""
        self._widths = _widest(self._widths, rows)
        widths = self._fitting(rows)
        if widths is None:
            yield from self._blocks(rows)
            return
        if not self._headed:
            yield from _row([head.title for head in self._heads], self._heads, widths)
        self._headed = True
        for row in rows:
            yield from _row(row, self._heads, widths)

    def _fitting(self, rows: Sequence[Sequence[str]]) -> list[int] | None:
        """The widths to tell this page in; None where words alone are wider than a line."""
        over = sum(self._widths) + len(GAP) * (len(self._widths) - 1) - (self._width or 0)
        if self._width is None or over <= 0:
            return self._widths
        words = [
            max((cells(word) for cell in column for word in cell.split(" ")), default=0)
            for column in zip([head.title for head in self._heads], *rows, strict=True)
        ]
        widths = list(self._widths)
        while over > 0:  # the widest that can give gives a character: at most the width of a page in all
            at = max(
                (at for at in range(len(widths)) if widths[at] > words[at]),
                key=widths.__getitem__,
                default=None,
            )
            if at is None:
                return None
            widths[at] -= 1
            over -= 1
        return widths

    def _blocks(self, rows: Sequence[Sequence[str]]) -> Iterator[str]:
        label = max(cells(head.title) for head in self._heads)
        for row in rows:
            if self._headed:
                yield ""
            self._headed = True
            for head, cell in zip(self._heads, row, strict=True):
                for at, line in enumerate(_wrapped(cell, (self._width or 0) - label - len(GAP))):
                    yield f"{padded(head.title if at == 0 else '', label)}{GAP}{line}"


def cells(text: str) -> int:
    """How many character cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(it) else 2 if unicodedata.east_asian_width(it) in "WF" else 1
        for it in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    space = " " * (width - cells(text))
    return space + text if right else text + space


def _widest(widths: Sequence[int], rows: Sequence[Sequence[str]]) -> list[int]:
    columns = zip(*rows, strict=True) if rows else [()] * len(widths)
    return [max((before, *map(cells, column))) for before, column in zip(widths, columns, strict=True)]


def _row(row: Sequence[str], heads: Sequence[Head], widths: Sequence[int]) -> Iterator[str]:
    """One line, or as many as the cell with the most words needs."""
    if all(cells(cell) <= width for cell, width in zip(row, widths, strict=True)):
        parts = [
            padded(cell, width, right=head.right)
            for cell, width, head in zip(row, widths, heads, strict=True)
        ]
        yield GAP.join(parts).rstrip()
        return
    wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    for at in range(max(map(len, wrapped))):
        parts = [
            padded(lines[at] if at < len(lines) else "", width, right=head.right)
            for lines, width, head in zip(wrapped, widths, heads, strict=True)
        ]
        yield GAP.join(parts).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    if cells(text) <= width:
        return [text]
    lines: list[str] = []
    for word in _words(text):
        if lines and cells(lines[-1]) + 1 + cells(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _words(text: str) -> Iterable[str]:
    return text.split(" ")
