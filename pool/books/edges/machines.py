"""At which edge at another site each machine had its last good share, as the books have it: how many machines
each edge has, and who is not missed while nothing is heard of his.

Arrays by worker number, one thread. Must not know: how journals come, what is told.
"""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec
import numpy as np

from pool.fleet.hashrate import GROWTH, OFFLINE_S, Bools, Ints
from stratum.tallies import MINED, RECORD

COUNTED_S: Final = 5.0  # a count is so old at most: of a fifth of the world's machines it takes milliseconds
MISSED_S: Final = 86_400.0  # who had no share in a day is not missed any more, and no edge's


class Counted(msgspec.Struct, frozen=True):
    """Machines whose last good share, within a day, came by an edge; `mining`: within minutes."""

    machines: int = 0
    mining: int = 0


class EdgeMachines:
    """Of all edges of a hub, since it began. `now_s` is monotonic."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # of edges, from 1; 0: no edge's
        self._edge_of = np.zeros(0, dtype=np.int16)
        self._last_s = np.zeros(0)
        self._counted: Mapping[str, Counted] = {}
        self._counted_s = -np.inf

    def count(self, edge: str, tallies: bytes, now_s: float) -> None:
        """What the books took of it. A bad share, which anybody can send under any name, takes no machine
        from one edge to another."""
        records = np.frombuffer(tallies, dtype=RECORD)
        number = self._numbers.setdefault(edge, len(self._numbers) + 1)
        mined = records["worker"][np.isin(records["verdict"], MINED)].astype(np.intp)
        self._make_room(int(mined.max(initial=0)))
        self._edge_of[mined], self._last_s[mined] = number, now_s

    def counted(self, now_s: float) -> Mapping[str, Counted]:
        """By edge, as of some seconds ago."""
        if now_s - self._counted_s >= COUNTED_S:
            ages_s, size = now_s - self._last_s, len(self._numbers) + 1
            machines = np.bincount(self._edge_of[ages_s < MISSED_S], minlength=size)
            mining = np.bincount(self._edge_of[ages_s < OFFLINE_S], minlength=size)
            self._counted = {
                name: Counted(int(machines[number]), int(mining[number]))
                for name, number in self._numbers.items()
            }
            self._counted_s = now_s
        return self._counted

    def last_at(self, edges: Collection[str], workers: Ints) -> Bools:
        """Whether the last good share of each came by one of these."""
        self._make_room(int(workers.max(initial=0)))
        numbers = [self._numbers[name] for name in edges if name in self._numbers]
        found: Bools = np.isin(self._edge_of[workers], numbers)
        return found

    def _make_room(self, worker_max: int) -> None:
        if worker_max < len(self._edge_of):
            return
        more = worker_max + GROWTH - len(self._edge_of)
        self._edge_of = np.concatenate((self._edge_of, np.zeros(more, dtype=np.int16)))
        self._last_s = np.concatenate((self._last_s, np.full(more, -np.inf)))
