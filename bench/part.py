"""A part of the benchmark: what it measures as JSON, and what the report says of that."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec


class Section(msgspec.Struct, frozen=True):
    """Of the report: lines of Markdown, and the pictures in them by the names of their files."""

    lines: tuple[str, ...]
    pictures: dict[str, str] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """`run` takes about so many seconds, and gives what `section` is made of, now or later."""

    title: str
    seconds: int
    run: Callable[[], dict[str, Any]]
    section: Callable[[dict[str, Any]], Section]


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> tuple[str, ...]:
    """Of Markdown; all columns but the first are figures."""
    heads = tuple(heads)
    lines = [heads, ("---", *("---:" for _ in heads[1:])), *rows]
    return tuple(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def picture(name: str, words: str) -> str:
    """Where a picture is shown."""
    return f"![{words}]({name})"
