"""What is seen of machines' shares, and for how long nobody has seen any.

Silence is known only as far as somebody listened: since this process began, and of machines at another site
up to when all that is there was here. A machine whose site is cut off is not silent, it is unheard.
Must not know: events.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

import trio

from pool.fleet.hashrate import HashrateBook
from pool.fleet.registry import Registry
from pool.power.curtailment.course import Look, Looks

MINES_S: Final = 300.0  # whoever had a share within it mines
NEVER: Final = Look(age_s=float("inf"), silent_s=0.0)


def nobody_is_late(container: int) -> float:
    """Of a pool whose miners are its own."""
    return 0.0


class SeenShares:
    """Of one pool. `behind`: by container, how late shares of its machines may be here now, in seconds;
    infinite where nobody knows. Any thread asks what it gives."""

    def __init__(
        self,
        registry: Registry,
        hashrates: HashrateBook,
        behind: Callable[[], Callable[[int], float]] = lambda: nobody_is_late,
    ) -> None:
        self._registry, self._hashrates, self._behind = registry, hashrates, behind
        self._since_s = trio.current_time()

    def looks(self) -> Looks:
        """As of now; any thread may ask it then."""
        now_s = trio.current_time()
        _, _, ages = self._hashrates.machines(now_s)
        workers = self._registry.workers
        watched_s = now_s - self._since_s
        behind_s = cache(self._behind())

        def look(worker: int) -> Look:
            record = workers.get(worker)
            if record is None or worker >= len(ages):
                return NEVER
            age_s = float(ages[worker])
            silent_s = min(age_s, watched_s) - behind_s(record.container_id)
            return Look(age_s=age_s, silent_s=max(0.0, silent_s))

        return look
