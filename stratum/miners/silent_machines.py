"""Machines that came back and have not been heard: how far their difficulties may come down meanwhile.

A remembered difficulty may be wrong: another machine has the name by now, or a stranger mined under it.
Then there is no share for hours, and silence has to bring it down. But a site that is dark is silent too,
and all of its machines must not be found at the least difficulty when it wakes up. Nobody can tell the two
apart; what can be bounded is what all who are silent would send together, if each were as fast as it was
remembered.

Invariant: that is never more than SHARES_PER_S_MAX. Must not know: sessions, clocks.
"""

import math
from typing import Final

import msgspec

# Beside one share an aim and machine. The built-out site, 22,400 machines at 6 s, may come down two steps:
# 11,200/s more for the seconds that vardiff needs. One machine alone may come down sixteen.
SHARES_PER_S_MAX: Final = 15_000.0
# Beyond these the oldest are forgotten: they start as remembered when they come back.
LOWERED_MAX: Final = 65_536


class _Lowered(msgspec.Struct, frozen=True):
    from_log2: int
    to_log2: int

    def shares_per_s(self, aim_s: float) -> float:
        """More than at what was remembered, if the machine is what it was."""
        return (math.ldexp(1.0, self.from_log2 - self.to_log2) - 1.0) / aim_s


class SilentMachines:
    """By worker number. `aim_s`: seconds a share."""

    def __init__(self, aim_s: float) -> None:
        self._aim_s = aim_s
        self._lowered: dict[int, _Lowered] = {}
        self._away: dict[int, None] = {}  # of those, who is not connected; gone longest first
        self.shares_per_s = 0.0

    def start_log2(self, worker: int, remembered_log2: int) -> int:
        """Where it starts: a firmware that connects again for want of shares must not begin anew."""
        lowered = self._lowered.get(worker)
        if lowered is None:
            return remembered_log2
        self._away.pop(worker, None)
        return min(remembered_log2, lowered.to_log2)

    def lower(self, worker: int, from_log2: int, to_log2: int) -> bool:
        """Whether a machine that is silent at one difficulty may be tried at a lower one."""
        before = self._lowered.get(worker)
        wanted = _Lowered(from_log2 if before is None else before.from_log2, to_log2)
        more = wanted.shares_per_s(self._aim_s) - (
            0.0 if before is None else before.shares_per_s(self._aim_s)
        )
        self._away.pop(worker, None)
        while self.shares_per_s + more > SHARES_PER_S_MAX or len(self._lowered) >= LOWERED_MAX:
            gone = next(iter(self._away), None)
            if gone is None:
                return False
            self.forget(gone)
        self._lowered[worker] = wanted
        self.shares_per_s += more
        return True

    def left(self, worker: int) -> None:
        """Its connection is gone; what it was lowered to is kept as long as nobody else needs the room."""
        if worker in self._lowered:
            self._away[worker] = None

    def heard(self, worker: int) -> None:
        """There was a share: from here on vardiff knows."""
        self.forget(worker)

    def forget(self, worker: int) -> None:
        """Also where its number is nobody's any more."""
        self._away.pop(worker, None)
        lowered = self._lowered.pop(worker, None)
        if lowered is not None:
            self.shares_per_s -= lowered.shares_per_s(self._aim_s)
