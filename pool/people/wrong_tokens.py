"""How long who shows wrong tokens is to wait: by his address, and by the token that he tries to guess.

The first few cost nothing, as people paste wrong; from then on the wait doubles, up to five minutes, and is
forgotten after ten without another. Who shows the right token never waits for who guesses: what is answered
to him is not decided here.

Invariants: no I/O, and no clock of its own; memory is bounded, the longest quiet goes first.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import msgspec

FREE_TRIES: Final = 5
WAIT_S_MAX: Final = 300.0
FORGOTTEN_S: Final = 600.0
KEPT_MAX: Final = 4_096  # addresses and tokens together; each is some 300 bytes


class Tries(msgspec.Struct):
    """Wrong ones in a row, and the last."""

    count: int
    last_s: float


class WrongTokens:
    """Counts them, by whatever they are to be counted by."""

    def __init__(self) -> None:
        self._tries: OrderedDict[Hashable, Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def wait_s(self, now_s: float, *keys: Hashable) -> float:
        """For how long nothing that any of these shows is to be looked at."""
        return max(0.0, *(self._wait_s(now_s, key) for key in keys))

    def count(self, now_s: float, *keys: Hashable) -> None:
        """One more wrong token of each of these."""
        for key in keys:
            tries = self._tries.pop(key, None)
            if tries is None or now_s - tries.last_s > FORGOTTEN_S:
                tries = Tries(0, now_s)
            self._tries[key] = Tries(tries.count + 1, now_s)
        while len(self._tries) > KEPT_MAX:
            self._tries.popitem(last=False)

    def _wait_s(self, now_s: float, key: Hashable) -> float:
        tries = self._tries.get(key)
        if tries is None or tries.count < FREE_TRIES:
            return 0.0
        wait_s: float = min(WAIT_S_MAX, 2.0 ** min(tries.count - FREE_TRIES, 16))
        return max(0.0, tries.last_s + wait_s - now_s)
