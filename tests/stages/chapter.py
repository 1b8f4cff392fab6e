"""A chapter of a document as the steps that a reader takes, in order: what he types, writes, and clicks.

A block is what its fence says: ```sh regtest terminal. A list item that begins with "* ann, on the page:" is
clicked through: **what** is a link or a button, `label` = `value` a field.
"""

import re
from pathlib import Path
from typing import Final, NamedTuple

_FENCE: Final = re.compile(r"^```(\w+) ?([\w ]*)$")
_ON_THE_PAGE: Final = re.compile(r"^\* (\w+), on the page: ")
_CLICKED: Final = re.compile(r"\*\*(.+?)\*\*|`([^`]+)` = `([^`]+)`")


class Block(NamedTuple):
    """What is between two fences."""

    language: str
    words: tuple[str, ...]
    text: str


class Click(NamedTuple):
    """On a link or a button; or what a field gets."""

    name: str
    value: str | None


class Visit(NamedTuple):
    """What somebody does on the page."""

    user: str
    clicks: tuple[Click, ...]


def steps_of(document: Path, title: str) -> list[Block | Visit]:
    """Of the chapter of that title."""
    _, found, rest = document.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert found, f"there is no chapter {title!r}"
    lines = iter(rest.partition("\n## ")[0].splitlines())
    steps: list[Block | Visit] = []
    item: list[str] = []
    for line in lines:
        if fence := _FENCE.match(line):
            body = list(iter(lambda: next(lines), "```"))
            steps.append(Block(fence[1], tuple(fence[2].split()), "\n".join(body) + "\n"))
        elif _ON_THE_PAGE.match(line) or (item and line.startswith("  ")):
            item.append(line.strip() if item else line)
            continue
        if item:
            steps.append(_visit(" ".join(item)))
            item = []
    return steps


def _visit(text: str) -> Visit:
    who = _ON_THE_PAGE.match(text)
    assert who is not None
    found = _CLICKED.findall(text)
    return Visit(who[1], tuple(Click(name or label, value or None) for name, label, value in found))
