"""What miners sent that is in no tally: rejected shares that charge nobody, and lines that were no shares.

Anybody can say any name, so most of this is not written down (`Engine.collect_uncharged`). It is counted all
the same, by the name that was said and by day, so that what a machine calls rejected can be found here where
the books have none of it.

Invariants: in memory only, for DAYS_KEPT days; the number of a name that is nobody's any more is forgotten
with what was counted under it, which stays in the sum as nobody's.
Must not know: sessions, sockets, who a number is.
"""

import time
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy as np

from stratum.tallies import RECORD, Verdict

DAYS_KEPT: Final = 2  # today and yesterday: 3 MB a day for a site that is built out
GROWTH: Final = 1024  # numbers that room is made for at a time
NOBODY: Final = 0  # of no name, or of one that is forgotten
# What is counted: shares by verdict, and then lines that were answered with an error, or could not be read.
REFUSED: Final = len(Verdict)
UNREADABLE: Final = REFUSED + 1
_COLUMNS: Final = UNREADABLE + 1

Counts = np.ndarray[Any, np.dtype[np.int64]]


def _utc_day() -> int:
    return int(time.time() // 86_400)


class Uncharged:
    """`today` is the day since 1970, UTC."""

    def __init__(self, today: Callable[[], int] = _utc_day) -> None:
        self._today = today
        self._days: dict[int, Counts] = {}  # by number and what is counted
        self.since_start = np.zeros(_COLUMNS, dtype=np.int64)  # whoever's, which nothing takes back

    def add_shares(self, packed: bytes) -> None:
        """As Engine.collect_uncharged() gives them."""
        records = np.frombuffer(packed, dtype=RECORD)
        if len(records):
            counts = self._counts(int(records["worker"].max()))
            np.add.at(counts, (records["worker"], records["verdict"]), records["count"])
            np.add.at(self.since_start, records["verdict"], records["count"])

    def add_line(self, worker: int, what: int) -> None:
        """A line that was REFUSED or UNREADABLE, of a connection that mines for this number."""
        self._counts(worker)[worker, what] += 1
        self.since_start[what] += 1

    def forget(self, worker: int) -> None:
        """The number is nobody's, and will be somebody else's."""
        for counts in self._days.values():
            if NOBODY < worker < len(counts):
                counts[NOBODY] += counts[worker]
                counts[worker] = 0

    def of(self, workers: Collection[int], since_day: int) -> list[int]:
        """Shares by verdict, then lines REFUSED and UNREADABLE: since that day, as far as is known."""
        ids = np.fromiter(workers, dtype=np.intp, count=len(workers))
        total = np.zeros(_COLUMNS, dtype=np.int64)
        for day, counts in self._days.items():
            if day >= since_day:
                total += counts[ids[ids < len(counts)]].sum(axis=0)
        found: list[int] = total.tolist()
        return found

    def _counts(self, worker_max: int) -> Counts:
        """Those of today, with room for that number."""
        day = self._today()
        counts = self._days.get(day)
        if counts is None or len(counts) <= worker_max:
            grown = np.zeros((worker_max + GROWTH, _COLUMNS), dtype=np.int64)
            if counts is not None:
                grown[: len(counts)] = counts
            counts = self._days[day] = grown
            while len(self._days) > DAYS_KEPT:  # a clock that steps makes other days, and no more of them
                del self._days[min(self._days)]
        return counts
