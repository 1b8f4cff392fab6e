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
import structlog

from stratum._engine import Engine

log = structlog.get_logger()

# A real chain has 52,000 blocks a year; an upstream that makes up ten a second needs seven hours for these.
TIPS_MAX: Final = 1 << 18

# What a start is told of: the hub keeps more where it waits for an edge, 5 GB a day of the built-out site. An
# upstream's next work is on one of the newest, and is refused on any other. That many questions take half a
# minute where the hub is far away; an upstream that makes up ten blocks a second has as many kept in three.
BLOCKS_LOADED_MAX: Final = 2_000
LOADED_BYTES_MAX: Final = 256 << 20  # an hour of the built-out site; the block that goes beyond is told whole

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
        self._of_hub = frozenset(it.prevhash for it in tips)
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
        """At the start, before any upstream has work: tell the engine what was credited on the newest blocks.
        `page` has what is behind a number, and nothing at the end."""
        for prevhash, hashes in self._credited:
            if prevhash not in self._of_hub:
                self._engine.remember(prevhash, hashes)
        loaded, size = set[bytes](), 0
        for prevhash in reversed(self._kept[-BLOCKS_LOADED_MAX:]):
            if size >= LOADED_BYTES_MAX:
                log.warning("credits_not_loaded", blocks=len(self._kept) - len(loaded))
                break
            self._engine.remember(prevhash, b"")
            after = 0
            while rows := await page(prevhash, after):
                for _, hashes in rows:
                    self._engine.remember(prevhash, hashes)
                    size += len(hashes)
                after = rows[-1][0]
            loaded.add(prevhash)
        for prevhash, hashes in self._credited:
            if prevhash in loaded:  # of one that is not a part would be worse than nothing
                self._engine.remember(prevhash, hashes)
        self._credited, self._loaded = (), True
