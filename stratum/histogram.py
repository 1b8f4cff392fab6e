"""How long things took, counted by how long: what is asked of it later need not be known now.

Integers, so that two of them add up to exactly what one would have that had counted everything. Must not
know: what took so long.
"""

from bisect import bisect_left
from typing import Final

import msgspec

from stratum.figures import Count

# From an idle pool's commit to what makes firmware leave.
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
NS_PER_S: Final = 1_000_000_000


class Histogram(msgspec.Struct):
    """`counts` has one for each bound, of what took up to that and longer than the one before it, and a last
    one for what took longer than all. `count` at a time: whoever adds thousands adds them at once."""

    bounds_s: tuple[float, ...] = BOUNDS_S
    counts: list[Count] = []
    sum_ns: int = 0

    def __post_init__(self) -> None:
        if not self.counts:
            self.counts = [0] * (len(self.bounds_s) + 1)
        if len(self.counts) != len(self.bounds_s) + 1:
            raise ValueError("a histogram has a count for each bound, and one more")

    @property
    def sum_s(self) -> float:
        return self.sum_ns / NS_PER_S

    def add(self, took_s: float, count: int = 1) -> None:
        """So many took so long."""
        self.counts[bisect_left(self.bounds_s, took_s)] += count
        self.sum_ns += round(took_s * NS_PER_S) * count

    def plus(self, *others: "Histogram") -> "Histogram":
        """All of them together; a copy where there is no other. Raises ValueError where bounds differ."""
        if any(it.bounds_s != self.bounds_s for it in others):
            raise ValueError("histograms of different bounds do not add up")
        every = (self, *others)
        counts = [sum(column) for column in zip(*(it.counts for it in every), strict=True)]
        return Histogram(self.bounds_s, counts, sum(it.sum_ns for it in every))
