"""Why a machine does what it does: the last things that were decided about it, each with its reason.

Noted where something is decided, which is rare: a difficulty, a move, an end. Of each machine the last
KEPT_MAX, through all of its connections, packed: 3 MB for MACHINES_MAX machines, 2 MB for a site of 22,400.

Invariants: only who is known has a place, so nobody fills it with names; reasons are few and ours. Must not
know: who asks.
"""

import time
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import msgspec
import numpy as np

KEPT_MAX: Final = 12  # an evening of a machine that is moved and comes back
MACHINES_MAX: Final = 32_768  # four sites built out, and half as many: who came first stays
REASONS_MAX: Final = 1_024  # different ones: orders and upstreams have theirs
MORE: Final = "for one of too many reasons to keep"
GROWTH: Final = 1_024
NO_DIFFICULTY: Final = 127


class What(IntEnum):
    """What was decided."""

    CONNECTED = 0
    DIFFICULTY = 1
    MOVED = 2
    SENT_AWAY = 3
    ENDED = 4


class Decision(msgspec.Struct, frozen=True):
    """`difficulty_log2` of a difficulty alone."""

    at_s: int
    what: str
    reason: str
    difficulty_log2: int | None


_ROW: Final = np.dtype([("at_s", "<u4"), ("reason", "<u2"), ("what", "u1"), ("log2", "i1")])


class Decisions:
    """`known` says whether a number is a machine's that has mined."""

    def __init__(self, known: Callable[[int], bool], *, wall_clock: Callable[[], float] = time.time) -> None:
        self._known, self._wall_clock = known, wall_clock
        self._places: dict[int, int] = {}
        self._rows = np.zeros((0, KEPT_MAX), dtype=_ROW)
        self._counts = np.zeros(0, dtype=np.int64)
        self._reasons: dict[str, int] = {MORE: 0}

    def note(self, worker: int, what: What, reason: str, difficulty_log2: int | None) -> None:
        place = self._places.get(worker)
        if place is None:
            if len(self._places) >= MACHINES_MAX or not self._known(worker):
                return
            place = self._places[worker] = len(self._places)
            if place >= len(self._rows):
                self._rows = np.concatenate((self._rows, np.zeros((GROWTH, KEPT_MAX), dtype=_ROW)))
                self._counts = np.concatenate((self._counts, np.zeros(GROWTH, dtype=np.int64)))
        number = self._reasons.get(reason)
        if number is None:
            number = len(self._reasons) if len(self._reasons) < REASONS_MAX else 0
            self._reasons.setdefault(reason if number else MORE, number)
        log2 = NO_DIFFICULTY if difficulty_log2 is None else difficulty_log2
        row = int(self._wall_clock()), number, what, log2
        self._rows[place, self._counts[place] % KEPT_MAX] = row
        self._counts[place] += 1

    def of(self, worker: int) -> list[Decision]:
        """The newest first."""
        place = self._places.get(worker)
        if place is None:
            return []
        count, reasons = int(self._counts[place]), list(self._reasons)
        rows = [self._rows[place, at % KEPT_MAX] for at in range(count - 1, max(0, count - KEPT_MAX) - 1, -1)]
        return [
            Decision(
                int(it["at_s"]),
                What(it["what"]).name.lower(),
                reasons[it["reason"]],
                None if it["log2"] == NO_DIFFICULTY else int(it["log2"]),
            )
            for it in rows
        ]
