"""What whoever begins to write a journal has to know, from who has the books: behind what, and what was left.

It travels: numbers, bytes and names. Must not know: who says it, files.
"""

import msgspec

from pool.journal.frames import Place
from pool.journal.records import Noted


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """Everything up to `behind` is in the books, or in the writer's own files behind what they have, with so
    many accepted shares of this writer."""

    book: str  # whose shares are to be written
    behind: Place
    moment_s: int  # nothing is dated before it
    accepted: int
    taken: Place | None = None  # up to where the books have it, where that is not all
    left: tuple[Noted, ...] = ()  # shares of a process that died: on their way to upstreams, for ever


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """How far a writer is: what it commits behind record `number` is of `moment_s` or later. Who has waited
    long enough for what is up to there goes on with `without_s`: what is left is dated then, or later."""

    number: int
    moment_s: int
    without_s: int = 0


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """Previous blocks of upstreams' work on which a writer credits nothing any more; its journal ended with
    record `number` when it said so."""

    number: int = 0
    prevhashes: tuple[bytes, ...] = ()
