"""What was credited on the work of upstreams, remembered for as long as a share of it could come again.

Work of our own carries a salt and is never the same after a restart. An upstream's is what the upstream says:
it may belong to who is credited for it, and it can give a job again after a restart of ours, with a coinbase
made up so that headers of before are headers of after, whatever prefix we hand out. So the header hashes that
were credited on an upstream's work go to disk in the commit that has their tallies, and the engine knows
them again at the next start (`pool.books.journal.credit_rows`). When it has forgotten a previous block its
rows go too, and what is left says that the block was there: work on it is refused (`PastTips`).

Must not know: upstreams, shares, prices, databases.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from stratum._engine import Engine

# A real chain has 52,000 blocks a year; an upstream that makes up ten a second needs seven hours for these.
TIPS_MAX: Final = 1 << 18

Credits = Sequence[tuple[bytes, bytes]]  # a previous block, and what was credited on it: hashes, or shares
CreditsPage = list[tuple[int, bytes]]  # numbered, some of a block


class Tip(msgspec.Struct, frozen=True):
    """A previous block on which something was credited; forgotten: what that was is not known any more."""

    prevhash: bytes
    forgotten: bool


class CreditBook:
    """For the task that has the engine. `tips` are those of earlier processes, oldest first; `credited` is
    what was credited since then, which nobody else can say yet."""

    def __init__(self, engine: Engine, tips: Sequence[Tip], credited: Credits = ()) -> None:
        self._engine = engine
        self._loaded = False
        self._credited = credited
        self._kept = [it.prevhash for it in tips if not it.forgotten]
        self.tips = tuple(
            dict.fromkeys([it.prevhash for it in tips] + [prevhash for prevhash, _ in credited])
        )

    def collect(self) -> Credits:
        """What was credited since the last time, by previous block, as stratum.tallies.CREDIT has it. Whoever
        collects it writes it, or stops the pool."""
        return self._engine.collect_credits()

    def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """Those that the engine does not know any more; none before it was told of those of earlier
        processes."""
        if not self._loaded:
            return []
        return [prevhash for prevhash in prevhashes if not self._engine.remembers(prevhash)]

    async def load(self, page: Callable[[bytes, int], Awaitable[CreditsPage]]) -> None:
        """At the start, before any upstream has work: tell the engine what was credited. `page` has what is
        behind a number, and nothing at the end."""
        for prevhash in self._kept:
            self._engine.remember(prevhash, b"")
            after = 0
            while rows := await page(prevhash, after):
                for _, hashes in rows:
                    self._engine.remember(prevhash, hashes)
                after = rows[-1][0]
        for prevhash, hashes in self._credited:
            self._engine.remember(prevhash, hashes)
        self._credited, self._loaded = (), True
