"""Whose a share on an upstream's work is: of the writer whose journal was taken first with its hash.

Writers do not know of each other what they credit. On our own work that needs nothing, since each hands out
prefixes of its own. An upstream says coinbases and prefixes itself, for each connection, so one that is evil
can have one share be good at several of our processes. All of them are in journals with their hashes, and the
books refuse all but one: it is a duplicate in the tallies of who sent it there, and is paid once. A share
on a block that is over for everybody, of which no hash is known any more, is stale.

A forwarded share is in no tally before its answer: that it will be refused is a row until then.

Invariants: all that is claimed in a window is, before any tally of that window is booked; what is refused is
a row in the transaction that claims, so a kill between two transactions changes nothing. Everything is done
in the caller's transaction, which must be the only writer. Must not know: prices, engines.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import structlog
from sqlalchemy import Connection, Table, delete, func, insert, select

from payouts.schemas.upsert import Insert, upserts
from pool.books.journal.credit_rows import tip_of
from pool.books.journal.schema import refused_credits, refused_shares, upstream_credits, upstream_tips
from pool.books.journal.window import Answered, Credited
from stratum.tallies import CREDIT, Records, Verdict

log = structlog.get_logger()

_Key = tuple[int, int, int, int, int, int]  # minute, worker, rate, difficulty_log2, verdict, reason


class Claims:
    """Of one writer."""

    def __init__(self, writer: str) -> None:
        self._writer = writer

    def credit(self, connection: Connection, credited: Iterable[Credited]) -> None:
        """Claim shares, and note which of them are to be refused."""
        by_block: dict[bytes, list[Credited]] = {}
        for it in credited:
            by_block.setdefault(it.prevhash, []).append(it)
        refused: Counter[_Key] = Counter()
        waiting: dict[bytes, Verdict] = {}
        for prevhash, of_block in by_block.items():
            shares, minutes = _together(of_block)
            tip = tip_of(connection, prevhash)
            reason = Verdict.STALE if tip is None else Verdict.DUPLICATE
            theirs = np.ones(len(shares), dtype=bool)
            if tip is not None:
                theirs = _among(shares["hash"], self._others(connection, tip))
                self._claim(connection, tip, shares["hash"][~theirs])
            if theirs.any():
                counted = theirs & (shares["forwarded"] == 0)
                refused += _keys(shares[counted], minutes[counted], [reason] * len(shares))
                late = shares["hash"][theirs & (shares["forwarded"] != 0)]
                waiting |= dict.fromkeys(map(bytes, late), reason)
                self._tell(prevhash, reason, shares[theirs])
        self._refuse(connection, refused)
        if waiting:
            rows = [
                {"writer": self._writer, "hash": it.hex(), "reason": int(reason)}
                for it, reason in waiting.items()
            ]
            connection.execute(_NEW[connection.dialect.name][refused_credits.name], rows)

    def answer(self, connection: Connection, answered: Sequence[Answered]) -> None:
        """Forwarded shares are in tallies: note those that are to be refused."""
        of = refused_credits.c
        rows = connection.execute(select(of.hash, of.reason).where(of.writer == self._writer)).all()
        if not rows or not answered:
            return
        reasons = {bytes.fromhex(row.hash): row.reason for row in rows}
        shares, minutes = _together(answered)
        found = [at for at, it in enumerate(shares["hash"]) if bytes(it) in reasons]
        hashes = [bytes(it) for it in shares["hash"][found]]
        refused = _keys(shares[found], minutes[found], [reasons[it] for it in hashes])
        self._refuse(connection, refused)
        for it in hashes:
            connection.execute(delete(refused_credits).where(of.writer == self._writer, of.hash == it.hex()))

    def without_refused(self, connection: Connection, minute: int, records: Records) -> Records:
        """Tallies of a minute of the window, and what is refused of them as that."""
        of = refused_shares.c
        rows = connection.execute(
            select(refused_shares).where(of.writer == self._writer, of.minute == minute)
        ).all()
        if not rows:
            return records
        records = records.copy()
        extra = []
        for row in rows:
            same = (
                (records["worker"] == row.worker)
                & (records["rate"] == row.rate)
                & (records["difficulty_log2"] == row.difficulty_log2)
                & (records["verdict"] == row.verdict)
            )
            for at in np.flatnonzero(same):
                # Never more than there is, whatever a journal says.
                count = min(int(records["count"][at]), row.shares)
                records["count"][at] -= count
                extra.append((row.worker, 0, 0, row.reason, 0, count))
        more = np.array(extra, dtype=records.dtype)
        both = np.concatenate((records, more))
        kept: Records = both[both["count"] > 0]
        return kept

    def refused(self, connection: Connection, prevhash: bytes, hashes: Sequence[bytes]) -> list[bool]:
        """Which of these, that were claimed here or are to be refused, are refused."""
        tips = upstream_tips.c
        query = select(tips.id, tips.forgotten).where(tips.prevhash == prevhash.hex())
        row = connection.execute(query).one_or_none()
        if row is None or row.forgotten:
            return [row is not None] * len(hashes)
        mine = np.frombuffer(b"".join(hashes), dtype="V16")
        found: list[bool] = _among(mine, self._others(connection, row.id)).tolist()
        return found

    def taken(self, connection: Connection) -> None:
        """All of the window is booked."""
        connection.execute(delete(refused_shares).where(refused_shares.c.writer == self._writer))

    def _others(self, connection: Connection, tip: int) -> bytes:
        credits = upstream_credits.c
        query = select(credits.hashes).where(credits.tip_id == tip, credits.writer != self._writer)
        return b"".join(connection.scalars(query))

    def _claim(self, connection: Connection, tip: int, hashes: np.ndarray[Any, Any]) -> None:
        if len(hashes):
            seq = int(connection.scalar(select(func.max(upstream_credits.c.seq))) or 0) + 1
            row = {"seq": seq, "tip_id": tip, "hashes": hashes.tobytes(), "writer": self._writer}
            connection.execute(insert(upstream_credits).values(row))

    def _refuse(self, connection: Connection, refused: Counter[_Key]) -> None:
        names = [it.name for it in refused_shares.columns]
        rows = [
            dict(zip(names, (self._writer, *key, shares), strict=True)) for key, shares in refused.items()
        ]
        if rows:
            connection.execute(_NEW[connection.dialect.name][refused_shares.name], rows)

    def _tell(self, prevhash: bytes, reason: Verdict, shares: Records) -> None:
        log.error(
            "shares_of_another_writer_refused" if reason is Verdict.DUPLICATE else "shares_too_late_refused",
            shares=len(shares),
            machines=len(np.unique(shares["worker"])),
            previous_block=prevhash[::-1].hex(),
            writer=self._writer,
        )


def _together(parts: Sequence[Credited] | Sequence[Answered]) -> tuple[Records, np.ndarray[Any, Any]]:
    """All shares, and the minute of each."""
    shares = np.frombuffer(b"".join(it.shares for it in parts), dtype=CREDIT)
    counts = [len(it.shares) // CREDIT.itemsize for it in parts]
    return shares, np.repeat(np.array([it.minute for it in parts], dtype=np.int64), counts)


def _keys(shares: Records, minutes: np.ndarray[Any, Any], reasons: Sequence[int]) -> Counter[_Key]:
    said = zip(
        minutes.tolist(),
        shares["worker"].tolist(),
        shares["rate"].tolist(),
        shares["difficulty_log2"].tolist(),
        shares["verdict"].tolist(),
        map(int, reasons),
        strict=False,
    )
    return Counter(said)


def _among(mine: np.ndarray[Any, Any], packed: bytes) -> np.ndarray[Any, Any]:
    """Which of these hashes are in there too."""
    found = np.zeros(len(mine), dtype=bool)
    if not packed:
        return found
    theirs = np.frombuffer(packed, dtype="V16")
    beginnings, others = (np.ascontiguousarray(it).view("<u8")[::2] for it in (mine, theirs))
    maybe = np.isin(beginnings, others)
    if maybe.any():
        alike = {bytes(it) for it in theirs[np.isin(others, beginnings[maybe])]}
        for at in np.flatnonzero(maybe):
            found[at] = bytes(mine[at]) in alike
    return found


def _adding(table: Table, new: Insert) -> Insert:
    if table is refused_credits:
        return new.on_conflict_do_nothing()
    return new.on_conflict_do_update(
        index_elements=list(table.primary_key), set_={"shares": table.c.shares + new.excluded.shares}
    )


_NEW: Final = upserts(refused_credits, refused_shares, on=_adding)
