"""The rows of what was credited on upstreams' work: as the journals have them, until a block is forgotten.

Invariants: a credit is a row if and only if its share is counted; a block whose hashes are not all known is
forgotten, never half remembered. Must not know: the engine, upstreams, prices.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, delete, func, insert, select, update

from pool.books.journal.credit_book import TIPS_MAX, Credits, CreditsPage, Tip
from pool.books.journal.schema import upstream_credits, upstream_tips

ROWS_READ: Final = 8  # of hashes at once: each has those of a minute, and never more than a window


class CreditRows:
    """`tips` are the blocks of earlier processes, forgotten or not, oldest first; `forget` and `page` are for
    worker threads."""

    def __init__(self, connection: Connection) -> None:
        rows = connection.execute(select(upstream_tips).order_by(upstream_tips.c.id)).all()
        self.tips = tuple(Tip(bytes.fromhex(row.prevhash), forgotten=bool(row.forgotten)) for row in rows)
        self._kept = {it.prevhash: None for it in self.tips if not it.forgotten}

    @property
    def kept(self) -> list[bytes]:
        """Blocks whose credits are in the books."""
        return list(self._kept)

    def taken(self, prevhashes: Iterable[bytes]) -> None:
        """What was credited on these blocks is in the books."""
        self._kept.update(dict.fromkeys(prevhashes))

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


def credits_page(connection: Connection, prevhash: bytes, after: int) -> CreditsPage:
    """Some of what was credited on a block, behind that number."""
    credits = upstream_credits.c
    query = (
        select(credits.seq, credits.hashes)
        .join(upstream_tips)
        .where(upstream_tips.c.prevhash == prevhash.hex(), credits.seq > after)
        .order_by(credits.seq)
        .limit(ROWS_READ)
    )
    return [(row.seq, row.hashes) for row in connection.execute(query)]


def write_credits(connection: Connection, credits: Credits) -> None:
    """As a version of before has them in its journal, in the transaction of the tallies."""
    if not credits:
        return
    seq: int = connection.scalar(select(func.max(upstream_credits.c.seq))) or 0
    rows = []
    for prevhash, hashes in credits:
        tip = tip_of(connection, prevhash)
        if tip is not None:
            seq += 1
            rows.append({"seq": seq, "tip_id": tip, "hashes": hashes})
    if rows:
        connection.execute(insert(upstream_credits), rows)


def tip_of(connection: Connection, prevhash: bytes) -> int | None:
    """The number of a block; None for one that is forgotten: half of it would be worse than nothing."""
    tips, name = upstream_tips.c, prevhash.hex()
    row = connection.execute(select(tips.id, tips.forgotten).where(tips.prevhash == name)).one_or_none()
    if row is not None:
        return None if row.forgotten else int(row.id)
    number = int(connection.scalar(select(func.max(tips.id))) or 0) + 1
    connection.execute(insert(upstream_tips).values(id=number, prevhash=name, forgotten=0))
    return number
