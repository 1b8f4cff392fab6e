"""What was credited on the work of upstreams, on disk for as long as a share of it could come again.

Work of our own carries a salt and is never the same after a restart. An upstream's is what the upstream says:
it may belong to who is credited for it, and it can give a job again after a restart of ours, with a coinbase
made up so that headers of before are headers of after, whatever prefix we hand out. So the header hashes that
were credited on an upstream's work go to disk in the commit that has their tallies, and the engine knows
them again at the next start. When it has forgotten a previous block its rows go too, and what is left says
that the block was there: work on it is refused (`PastTips`).

Invariants: a credit is on disk if and only if its share is; a block whose hashes are not all known is
forgotten, never half remembered. Must not know: upstreams, shares, prices.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import trio
from sqlalchemy import Connection, delete, func, insert, select, update

from pool.books.journal.schema import upstream_credits, upstream_tips
from pool.books.store import Store
from stratum._engine import Engine

# A real chain has 52,000 blocks a year; an upstream that makes up ten a second needs seven hours for these.
TIPS_MAX: Final = 1 << 18
ROWS_READ: Final = 256  # of hashes at once: each has those of some 20 ms

Credits = Sequence[tuple[bytes, bytes]]  # a previous block, and the hashes that were credited on it


class CreditBook:
    """`collect` and `forgotten` are for the task that has the engine, the rest for worker threads.

    `tips` are the blocks of earlier processes, forgotten or not, oldest first.
    """

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine = engine
        self._loaded = False
        rows = connection.execute(select(upstream_tips).order_by(upstream_tips.c.id)).all()
        self.tips = tuple(bytes.fromhex(row.prevhash) for row in rows)
        self._kept = {bytes.fromhex(row.prevhash): None for row in rows if not row.forgotten}  # on disk

    def collect(self) -> Credits:
        """What was credited since the last time. Whoever collects it writes it, or stops the pool."""
        return self._engine.collect_credits()

    def taken(self, prevhashes: Iterable[bytes]) -> None:
        """What was credited on these blocks is in the books."""
        self._kept.update(dict.fromkeys(prevhashes))

    def forgotten(self) -> list[bytes]:
        """Blocks whose credits are on disk, though the engine does not know them any more; none before it was
        told of those of earlier processes."""
        if not self._loaded:
            return []
        return [prevhash for prevhash in list(self._kept) if not self._engine.remembers(prevhash)]

    def forget(self, connection: Connection, prevhashes: Sequence[bytes]) -> None:
        """Their hashes are not needed: nothing is credited on them again."""
        tips = upstream_tips.c
        for prevhash in prevhashes:
            ids = select(tips.id).where(tips.prevhash == prevhash.hex()).scalar_subquery()
            connection.execute(delete(upstream_credits).where(upstream_credits.c.tip_id == ids))
            connection.execute(
                update(upstream_tips).where(tips.prevhash == prevhash.hex()).values(forgotten=1)
            )
            self._kept.pop(prevhash, None)
        newest = int(connection.scalar(select(func.max(tips.id))) or 0)
        # As many names as PastTips keeps.
        connection.execute(delete(upstream_tips).where(tips.id <= newest - TIPS_MAX, tips.forgotten == 1))

    async def load(self, store: Store) -> None:
        """At the start, before any upstream has work: tell the engine what was credited."""
        for prevhash in list(self._kept):
            self._engine.remember(prevhash, b"")
            after = 0
            while rows := await trio.to_thread.run_sync(self._read, store, prevhash, after):
                for _, hashes in rows:
                    self._engine.remember(prevhash, hashes)
                after = rows[-1][0]
        self._loaded = True

    @staticmethod
    def _read(store: Store, prevhash: bytes, after: int) -> list[tuple[int, bytes]]:
        credits = upstream_credits.c
        query = (
            select(credits.seq, credits.hashes)
            .join(upstream_tips)
            .where(upstream_tips.c.prevhash == prevhash.hex(), credits.seq > after)
            .order_by(credits.seq)
            .limit(ROWS_READ)
        )
        with store.read() as connection:
            return [(row.seq, row.hashes) for row in connection.execute(query)]


def write_credits(connection: Connection, credits: Credits) -> None:
    """In the transaction of the tallies."""
    if not credits:
        return
    seq: int = connection.scalar(select(func.max(upstream_credits.c.seq))) or 0
    rows = []
    for prevhash, hashes in credits:
        tip = _tip(connection, prevhash)
        if tip is not None:
            seq += 1
            rows.append({"seq": seq, "tip_id": tip, "hashes": hashes})
    if rows:
        connection.execute(insert(upstream_credits), rows)


def _tip(connection: Connection, prevhash: bytes) -> int | None:
    """The number of a block; None for one that is forgotten: half of it would be worse than nothing."""
    tips, name = upstream_tips.c, prevhash.hex()
    row = connection.execute(select(tips.id, tips.forgotten).where(tips.prevhash == name)).one_or_none()
    if row is not None:
        return None if row.forgotten else int(row.id)
    number = int(connection.scalar(select(func.max(tips.id))) or 0) + 1
    connection.execute(insert(upstream_tips).values(id=number, prevhash=name, forgotten=0))
    return number
