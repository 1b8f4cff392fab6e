"""From where machines mined when they were told to pause, and when each had a share from there last.

A name may be said by anybody, from anywhere, so a share under it proves little of a machine that is off.
Where it mined from before is known, and whoever serves miners says which connection a share came by. Who was
at several addresses is at none that counts: one of them may be anybody.

Must not know: who asks machines, and what follows of a share.
"""

from collections.abc import Callable, Collection, Iterable, Set
from typing import Final

import msgspec

from pool.power.control.contract import MachineName
from pool.power.control.peers import Peers, accepted_by

NAMES_MAX: Final = 100_000  # as many machines as may be held off
STALE_S: Final = 60.0  # what was seen before says nothing of now: six looks were missed


class Seen(msgspec.Struct, frozen=True):
    """Of one machine, by trio's clock: its last accepted share from where it was told to pause (minus
    infinity for none since), as far as was looked."""

    last_s: float
    looked_s: float


class Whereabouts:
    """Of machines that were told to pause, until they are forgotten."""

    def __init__(self) -> None:
        self._from: dict[MachineName, str | None] = {}
        self._last_s: dict[MachineName, float] = {}
        self._looked_s: dict[MachineName, float] = {}
        self.version = 0  # another one whenever the names are others

    @property
    def names(self) -> Collection[MachineName]:
        return self._from.keys()

    def paused(self, name: MachineName, addresses: Collection[str]) -> None:
        """It is told to, and mined from these. What was known of it first stays: whoever mines under its name
        while it is off does not get its place."""
        if addresses and name not in self._from and len(self._from) < NAMES_MAX:
            (address,) = addresses if len(addresses) == 1 else (None,)
            self._from[name] = address
            self.version += 1

    def saw(self, told: Iterable[Peers], heard: Callable[[str, str], bool], now_s: float) -> None:
        """What those say who serve miners, as of then; of which containers all of them have been heard."""
        for name, ages_s in accepted_by(told).items():
            age_s = ages_s.get(self._from.get(name) or "")
            if age_s is not None:
                self._last_s[name] = max(now_s - age_s, self._last_s.get(name, now_s - age_s))
        looked = (name for name in list(self._from) if heard(name.tenant, name.container))
        self._looked_s |= dict.fromkeys(looked, now_s)

    def keep(self, names: Set[MachineName]) -> None:
        """The others are nobody's any more."""
        if self._from.keys() <= names:
            return
        self.version += 1
        self._from = {name: it for name, it in self._from.items() if name in names}
        self._last_s = {name: it for name, it in self._last_s.items() if name in names}
        self._looked_s = {name: it for name, it in self._looked_s.items() if name in names}

    def seen(self, name: MachineName, now_s: float) -> Seen | None:
        """None where nobody has looked lately: then a name is all that is known of a share. Any thread."""
        looked_s = self._looked_s.get(name)
        if looked_s is None or now_s - looked_s >= STALE_S:
            return None
        return Seen(self._last_s.get(name, float("-inf")), looked_s)
