"""Machines as messages see them: who is usual, who mines, and who did not come back after an outage.

An outage of a container begins when at most half of those mine that mined within the hour before, and at a
start of the pool, for all that mined until it stopped. It is over when more than half mine; who is not back
RETURN_LOOKS after that is gone, which is told once.

Arrays by worker number. Must not know: the database, words.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np

from pool.fleet.hashrate import OFFLINE_S

USUAL_S: Final = 86_400.0  # who had a share in a day is missed
BEFORE_S: Final = 3_600.0  # who had a share in the hour before an outage was in it
# The books say of a machine when it had a share, give or take ten minutes.
BOOKED_S: Final = 600.0
RETURN_LOOKS: Final = 15  # a machine boots and tunes itself for some minutes

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Gone(msgspec.Struct, frozen=True):
    """Who did not come back to a container, of how many; numbers of workers."""

    container: int
    before: int
    workers: tuple[int, ...]


class _Outage(msgspec.Struct):
    """Of one container."""

    before: Ints  # workers
    back_looks: int = 0  # since more than half of them mine


class Machines:
    """`booked` are the times of their last shares as the books have them, at the start of the pool."""

    def __init__(self, booked: Mapping[int, int]) -> None:
        self._last_s = np.zeros(max(booked, default=0) + 1)
        for number, last_s in booked.items():
            self._last_s[number] = last_s
        self._until_s = float(self._last_s.max())  # when the pool before this one stopped
        self._outages: dict[int, _Outage] = {}
        self._first = True

    def look(
        self, workers: Ints, containers: Ints, ages_s: Floats, now_s: float, unheard: Bools | None = None
    ) -> tuple[Bools, Bools, list[Gone]]:
        """Of these workers, of which each is in a container, and whose last shares are so old: who is usual,
        who mines, and who is gone. Of the `unheard` nobody knows that."""
        known = np.ones(len(workers), dtype=np.bool_) if unheard is None else ~unheard
        self._make_room(int(workers.max(initial=0)))
        heard = np.isfinite(ages_s)
        self._last_s[workers[heard]] = now_s - ages_s[heard]
        last_s = self._last_s[workers]
        mining = ages_s < OFFLINE_S
        before = last_s >= now_s - BEFORE_S
        if self._first:
            before = (last_s > 0) & (last_s >= self._until_s - BEFORE_S - BOOKED_S)
        names, index = np.unique(containers, return_inverse=True)
        were = np.bincount(index, before, len(names))
        are = np.bincount(index, before & mining, len(names))
        begin = (were > 0) & ((2 * are <= were) | self._first)
        out = {*names[begin].tolist(), *self._outages}
        gone = []
        for container in sorted(out):
            here = containers == container
            found = self._container(container, workers[here], before[here], mining[here], known[here])
            if found is not None:
                gone.append(found)
        self._first = False
        return last_s >= now_s - USUAL_S, mining, gone

    def _container(
        self, container: int, workers: Ints, before: Bools, mining: Bools, known: Bools
    ) -> Gone | None:
        outage = self._outages.get(container)
        if outage is None:
            self._outages[container] = _Outage(workers[before])
            return None
        was = np.isin(workers, outage.before)
        if not was.any():  # all of them were removed
            del self._outages[container]
            return None
        outage.back_looks = outage.back_looks + 1 if 2 * mining[was].sum() > was.sum() else 0
        if outage.back_looks <= RETURN_LOOKS:
            return None
        del self._outages[container]
        missing = workers[was & ~mining & known]
        return Gone(container, int(was.sum()), tuple(missing.tolist())) if len(missing) else None

    def _make_room(self, worker_max: int) -> None:
        if worker_max >= len(self._last_s):
            self._last_s = np.concatenate((self._last_s, np.zeros(worker_max + 1 - len(self._last_s))))
