"""How long things took, counted by how long: what is asked of it later need not be known now.

Must not know: what took so long.
"""

from bisect import bisect_left
from typing import Final

# From an idle pool's commit to what makes firmware leave.
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """`counts` has one for each bound, of what took up to that and longer than the one before it, and a last
    one for what took longer than all. `count` at a time: whoever adds thousands adds them at once."""

    def __init__(self, bounds_s: tuple[float, ...] = BOUNDS_S) -> None:
        self.bounds_s = bounds_s
        self.counts = [0] * (len(bounds_s) + 1)
        self.sum_s = 0.0

    def add(self, took_s: float, count: int = 1) -> None:
        """So many took so long."""
        self.counts[bisect_left(self.bounds_s, took_s)] += count
        self.sum_s += took_s * count
