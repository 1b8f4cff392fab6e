"""What was mined since the start, by tenant: counted in memory, from the tallies that the journal gets.

Invariant: work is exact; an accepted share counts the difficulty of its job.
"""

from collections import deque
from fractions import Fraction
from typing import Final

import msgspec
import trio

from pool.tenants import Registry
from stratum.difficulty import difficulty_from_log2
from stratum.verdict import Verdict, unpack_tallies

HASHES_PER_DIFFICULTY: Final = 1 << 32  # within 15 ppm; for display, never for money
RATE_WINDOW_S: Final = 300.0
SAMPLE_S: Final = 5.0  # 60 samples a window


class TenantCount(msgspec.Struct):
    """Shares and work (in difficulty) of one tenant since the start."""

    accepted: int = 0
    rejected: int = 0
    work: Fraction = Fraction(0)


class TallyBook:
    """stratum.switchboard.Journal without durability: a commit is done as soon as it is counted."""

    def __init__(self, registry: Registry) -> None:
        self.tenants = {tenant: TenantCount() for tenant in registry.tenants}
        self.rejected: dict[Verdict, int] = {}
        self._registry = registry
        self._samples: deque[tuple[float, dict[str, Fraction]]] = deque()

    async def commit(self, tallies: bytes) -> None:
        counts: dict[tuple[str, int], int] = {}
        for tally in unpack_tallies(tallies):
            tenant = self._registry.workers[tally.worker - 1].tenant
            count = self.tenants[tenant]
            if tally.verdict is Verdict.ACCEPTED:
                count.accepted += tally.count
                key = (tenant, tally.difficulty_log2)
                counts[key] = counts.get(key, 0) + tally.count
            else:
                count.rejected += tally.count
                self.rejected[tally.verdict] = self.rejected.get(tally.verdict, 0) + tally.count
        for (tenant, difficulty_log2), shares in counts.items():
            self.tenants[tenant].work += shares * difficulty_from_log2(difficulty_log2)
        await trio.lowlevel.checkpoint()

    def hashrates_hps(self, now_s: float) -> dict[str, float]:
        """Average of each tenant over the last five minutes, in hashes a second; call it now and then."""
        samples = self._samples
        if not samples or now_s - samples[-1][0] >= SAMPLE_S:
            samples.append((now_s, {tenant: count.work for tenant, count in self.tenants.items()}))
        while len(samples) > 1 and now_s - samples[0][0] > RATE_WINDOW_S:
            samples.popleft()
        since_s, then = samples[0]
        elapsed_s = max(now_s - since_s, 1.0)
        return {
            tenant: float((count.work - then[tenant]) * HASHES_PER_DIFFICULTY) / elapsed_s
            for tenant, count in self.tenants.items()
        }
