"""A list a page at a time: up to `limit` rows, and a cursor for those behind them where there are more.

A cursor says behind which row the next page begins, by what no command changes of a row: its number, or its
name. So rows that come and go between two pages make none appear twice, and hide none that was there all the
time. It is of the list and of what else was asked for, which it has the hash of: another's is refused. It is
no secret and no proof: who makes one up sees no more than what he may ask for anyway.

Must not know: what is in a list.
"""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec

from pool.fleet.registry_error import RegistryError

LIMIT_MAX: Final = 1_000  # half a megabyte of machines
CURSOR_CHARS_MAX: Final = 512  # names have 63 characters, and a row is known by two of them at most
Row = TypeVar("Row")
Place = tuple[int | str, ...]


class Paged(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is asked of a list besides what it is about."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None = None
    cursor: Annotated[str, msgspec.Meta(max_length=CURSOR_CHARS_MAX)] | None = None


class Page(msgspec.Struct, Generic[Row], frozen=True):
    """Rows, and the cursor of those behind them; None where there are none."""

    rows: Sequence[Row]
    cursor: str | None = None


def page_of(it: Paged, rows: Sequence[Row], place: Callable[[Row], Place]) -> Page[Row]:
    """Of a list that is at hand: in the order of their places, which are all of one shape; as they are where
    all of it is asked for. Raises RegistryError."""
    if it.limit is None and it.cursor is None:
        return Page(rows)
    ordered = sorted(rows, key=place)
    if it.cursor is not None:
        shape = tuple(map(type, place(ordered[0]))) if ordered else None
        behind = begin_of(it, shape)
        ordered = [row for row in ordered if place(row) > behind]
    if it.limit is None or len(ordered) <= it.limit:
        return Page(ordered)
    shown = ordered[: it.limit]
    return Page(shown, cursor_behind(it, place(shown[-1])))


def cursor_behind(it: Paged, place: Place) -> str:
    """Of the page that begins behind the row at that place."""
    return urlsafe_b64encode(msgspec.json.encode((_asked(it), *place))).decode().rstrip("=")


def begin_of(it: Paged, shape: tuple[type, ...] | None) -> Place:
    """The place that its cursor has; `shape` is what places of the list are made of, None where nobody can
    tell. Raises RegistryError for a cursor of something else."""
    cursor = it.cursor or ""
    try:
        raw = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        asked, *place = msgspec.json.decode(raw, type=list[int | str])
    except ValueError:  # no base64, no JSON, nothing in it
        asked, place = "", []
    right = shape is None or tuple(map(type, place)) == shape
    if asked != _asked(it) or not right or any(isinstance(part, int) and part >> 63 for part in place):
        raise RegistryError("the cursor is not one of this list, asked for in this way: begin without one")
    return tuple(place)


def _asked(it: Any) -> str:
    """What was asked for, but for how much of it and from where on: eight characters of its hash."""
    rest = msgspec.structs.replace(it, limit=None, cursor=None)
    words = type(it).__name__.encode() + msgspec.json.encode(rest)
    return hashlib.sha256(words).hexdigest()[:8]
