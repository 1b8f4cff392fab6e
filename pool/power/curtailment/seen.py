"""What is seen of machines' shares, and for how long nobody has seen any.

Silence is known only as far as somebody listened: since this process began, and of machines at another site
up to when all that is there was here. A machine whose site is cut off is not silent, it is unheard. What it
brings when it is back is of when it was made, and not of when it came.

A share under the name of a machine that is off may be anybody's. It is that machine's where it came from the
address that it was told to pause at, which whoever serves miners says every few seconds. Of what comes from
elsewhere, or while nobody has said yet from where, the work counts: a machine that moved, and one that was
told another address to get away, does again what it did; who wants it to seem to mine needs half of it, and
the work is its tenant's. That shows within RATE_S, and nobody is silent before as long as shares come under
its name. Where nobody knows from where it mined before, any share under its name counts. Must not know:
events.
"""

from collections.abc import Callable, Collection, Set
from functools import cache
from math import exp
from typing import Final, Protocol

import msgspec
import trio

from pool.fleet.hashrate import FIVE_MINUTES, WINDOWS_S, HashrateBook
from pool.fleet.registry import Registry
from pool.power.control.contract import MachineName
from pool.power.control.whereabouts import Seen, Whereabouts
from pool.power.curtailment.course import Look, Looks

MINES_S: Final = 300.0  # whoever had a share within it mines
NEVER: Final = Look(age_s=float("inf"), silent_s=0.0)
RATE_S: Final = float(WINDOWS_S[FIVE_MINUTES])  # what rates are averages of
SEEN_LATE_S: Final = 15.0  # a connection's last share is seen some seconds late: two looks at it
# Of what it did before: so much work under its name, from wherever, is the machine's.
MOVED: Final = 0.5


def nobody_is_late(container: int) -> float:
    """Of a pool whose miners are its own."""
    return 0.0


class Places(Protocol):
    """Who knows from where shares come."""

    @property
    def whereabouts(self) -> Whereabouts: ...

    async def look_around(self, names: Set[MachineName]) -> None: ...


class _Usual(msgspec.Struct, frozen=True):
    """What a machine did when it was told to pause."""

    rate_hps: float
    at_s: float


class SeenShares:
    """Of one pool. `behind`: by container, how late shares of its machines may be here now, in seconds;
    infinite where nobody knows. Any thread asks what it gives."""

    def __init__(
        self,
        registry: Registry,
        hashrates: HashrateBook,
        behind: Callable[[], Callable[[int], float]] = lambda: nobody_is_late,
        *,
        places: Places | None = None,
    ) -> None:
        self._registry, self._hashrates, self._behind = registry, hashrates, behind
        self._places = places
        self._known = -1  # of the whereabouts, their version
        self._names: dict[int, MachineName] = {}  # of machines that were told to pause
        self._usual: dict[int, _Usual] = {}
        self._since_s = trio.current_time()

    async def look_around(self, waited_for: Collection[int]) -> None:
        """From where the shares of these come now."""
        if self._places is not None:
            self._learn()
            await self._places.look_around({it for number, it in self._names.items() if number in waited_for})

    def looks(self) -> Looks:
        """As of now; any thread may ask it then."""
        now_s = trio.current_time()
        rates_hps, _, ages_s = self._hashrates.machines(now_s)
        made_ages_s = self._hashrates.made_ages_s(now_s)
        workers = self._registry.workers
        watched_s = now_s - self._since_s
        behind_s = cache(self._behind())
        self._learn()
        for number in self._names.keys() - self._usual.keys():
            self._usual[number] = _Usual(float(rates_hps[number]), now_s)
        names, usual, places = self._names, self._usual, self._places

        def look(worker: int) -> Look:
            record = workers.get(worker)
            if record is None or worker >= len(ages_s):
                return NEVER
            silent_s = min(float(ages_s[worker]), watched_s) - behind_s(record.container_id)
            by_name = Look(age_s=float(made_ages_s[worker]), silent_s=max(0.0, silent_s))
            if places is None or (name := names.get(worker)) is None:
                return by_name
            seen = places.whereabouts.seen(name, now_s)
            if seen is None:
                return by_name
            return _of_its_own(by_name, seen, usual[worker], float(rates_hps[worker]), now_s)

        return look

    def _learn(self) -> None:
        """Of whom it is known from where they mined when they were told to pause."""
        if self._places is None or self._known == self._places.whereabouts.version:
            return
        whereabouts = self._places.whereabouts
        self._known = whereabouts.version
        found = ((self._registry.number_of(it.tenant, it.container, it.unit), it) for it in whereabouts.names)
        self._names = {number: it for number, it in found if number is not None}
        self._usual = {number: it for number, it in self._usual.items() if number in self._names}


def _of_its_own(by_name: Look, seen: Seen, usual: _Usual, rate_hps: float, now_s: float) -> Look:
    """Of what there is under its name. What it did up to when it was told to pause was its own."""
    last_s = max(seen.last_s, usual.at_s)
    if now_s - by_name.age_s <= last_s + SEEN_LATE_S:
        return by_name
    elsewhere_hps = rate_hps - usual.rate_hps * exp((last_s - now_s) / RATE_S)
    if elsewhere_hps >= MOVED * usual.rate_hps:
        return by_name
    silent_s = by_name.silent_s
    if now_s - last_s >= RATE_S:
        silent_s = max(silent_s, seen.looked_s - last_s)
    return Look(age_s=now_s - last_s, silent_s=silent_s)
