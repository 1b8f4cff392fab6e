"""Whether machines that are waited for have had an accepted share: the only proof that they are back.

Told of everything that is committed; what nobody waits for costs nothing. What was made before a machine is
waited for proves nothing, whenever it comes: a line that was cut brings it minutes late. Must not know: why
they are waited for.
"""

from collections.abc import Callable, Collection
from typing import Final

import numpy as np
import trio

from pool.power.control.contract import MachineName
from stratum.tallies import MINED, RECORD

LEARN_S: Final = (
    5.0  # between two looks at the machines' numbers, which a new machine gets with its first share
)


class AcceptedShares:
    """`number_of` is of a machine's name, as tallies have it here; None for one without."""

    def __init__(self, number_of: Callable[[str, str, str], int | None]) -> None:
        self._number_of = number_of
        self._watched: Collection[MachineName] = ()
        self._numbers: dict[int, MachineName] = {}
        self._learnt_s = -LEARN_S
        self._mined: set[MachineName] = set()
        self._since_s: dict[MachineName, float] = {}  # what was made before does not count

    def watch(self, names: Collection[MachineName]) -> None:
        """Look out for these, until others are told."""
        self._watched = names
        self._mined.intersection_update(names)
        now_s = trio.current_time()
        if now_s - self._learnt_s >= LEARN_S or len(names) != len(self._numbers):
            self._learnt_s = now_s
            found = ((self._number_of(it.tenant, it.container, it.unit), it) for it in names)
            self._numbers = {number: it for number, it in found if number is not None}
            self._since_s = {it: self._since_s[it] for it in names if it in self._since_s}

    def forget(self, name: MachineName) -> None:
        """What it had until now does not count."""
        self._mined.discard(name)
        self._since_s[name] = trio.current_time()

    def has_mined(self, name: MachineName) -> bool:
        return name in self._mined

    def count(self, tallies: bytes, age_s: float = 0.0) -> None:
        """Of a commit; its shares were made so long ago."""
        if not self._numbers:
            return
        made_s = trio.current_time() - age_s
        records = np.frombuffer(tallies, dtype=RECORD)
        mined = records["worker"][np.isin(records["verdict"], MINED)]
        for number in np.unique(mined).tolist():
            name = self._numbers.get(number)
            if name is not None and made_s >= self._since_s.get(name, made_s):
                self._mined.add(name)
