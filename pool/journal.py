"""The journal: tallies on disk before their replies leave, and folded into minutes once.

`commit` writes what was judged since the last commit as one row, in one transaction with the rows of
workers seen for the first time, and with what became of shares that were forwarded to upstreams: a row for
each that waits for its answer, gone when the answer is in a batch.
`fold` moves committed batches into the minutes of `payouts.tallies`, and the upstreams' verdicts into hours,
in the transaction that deletes them, so that after a crash at any moment every acknowledged share is in
exactly one place. Rows of forwarded shares that a dead pool left behind are settled at the start, as
unanswered.

A commit that fails is never tried again (what an fsync lost, a second one does not bring back): nothing of
it is acknowledged, JournalFailed is raised, and the pool stops. Must not know: sessions, prices, balances.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import structlog
import trio
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from payouts.rates import UpstreamRisk
from payouts.schema import journal_writers, workers
from payouts.tallies import ACCEPTED, Tally, record
from pool import upstream_tallies
from pool.journal_schema import journal_batches, upstream_submits
from pool.price_book import TenantRate
from pool.registry import NewRows, Registry
from pool.registry_store import insert_new
from pool.store import Store, words_of
from pool.submit_book import Forwarded, SubmitBook, SubmitChanges, unanswered
from stratum.verdict import Verdict

log = structlog.get_logger()

FOLD_S: Final = 60.0  # a row a worker and minute, written once
FOLD_CHECK_S: Final = 1.0
FOLDER: Final = "fold"  # the writer's name in journal_writers
SEEN_S: Final = 600  # last_seen_at_s of a worker may be this old: a row a worker a minute would be too many
ROWS_MAX: Final = 2_000  # changed in one transaction: some 10 ms that a commit may have to wait
BATCHES_MAX: Final = 10_000  # folded in one transaction: more than a minute holds
RECORD: Final = np.dtype(
    [
        ("worker", "<u4"),
        ("rate", "<u4"),
        ("difficulty_log2", "i1"),
        ("verdict", "u1"),
        ("zero", "<u2"),
        ("count", "<u4"),
    ]
)
Records = np.ndarray[Any, np.dtype[np.void]]
# Engine rate number and tenant to the rate that the shares are booked under.
RateOf = Callable[[Connection, int, int], TenantRate]
NOT_TAKEN: Final = (Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED)  # by an upstream; good to us
MINED: Final = (Verdict.ACCEPTED, *NOT_TAKEN)  # the machine did what it should


class JournalFailed(Exception):
    """A commit is not on disk, or may not be: nothing more can be acknowledged."""


class Journal:
    """stratum.switchboard.Journal on a store. `on_commit` gets every committed batch, for live figures.

    `submits` has the shares that are forwarded to upstreams.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        rate_of: RateOf,
        submits: SubmitBook | None = None,
        on_commit: Callable[[bytes], None] = lambda tallies: None,
        fold_s: float = FOLD_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._registry = registry
        self._rate_of = rate_of
        self._submits = submits
        self._on_commit = on_commit
        self._fold_s = fold_s
        self._wall_clock = wall_clock
        self.failed = False
        self._last_seen_s: dict[int, int] = {}
        with store.read() as connection:
            self._seq: int = connection.scalar(select(func.max(journal_batches.c.seq))) or 0
            left = [_forwarded(row) for row in connection.execute(select(upstream_submits))]
        if left:
            self._commit(b"", NewRows((), ()), unanswered(left))
            log.warning("forwarded_shares_unanswered", shares=len(left))

    async def commit(self, tallies: bytes) -> None:
        """Return when the tallies, and what the book of submits has, are on disk; nothing is no commit.

        Raises JournalFailed, and is not to be called again then.
        """
        new = self._registry.take_new()
        changes = self._submits.take() if self._submits is not None else SubmitChanges()
        if not (tallies or changes or new.containers or new.workers):
            return
        # Not cancellable half-way: a commit that may have happened must be waited for.
        with trio.CancelScope(shield=True):
            await self._in_thread("commit", self._commit, tallies, new, changes)
        self._on_commit(tallies + changes.tallies)

    def _commit(self, tallies: bytes, new: NewRows, changes: SubmitChanges) -> None:
        now_s = int(self._wall_clock())
        tallies += changes.tallies
        with self._store.write() as connection:
            insert_new(connection, new, now_s)
            if changes.settled:
                connection.execute(_SETTLED, [{"of": key.hex()} for key in changes.settled])
            if changes.noted:
                rows = [_submit_row(share, now_s) for share in changes.noted]
                connection.execute(insert(upstream_submits), rows)
            if tallies or changes.upstream:
                self._seq += 1
                connection.execute(
                    insert(journal_batches).values(
                        seq=self._seq,
                        minute=now_s // 60,
                        tallies=tallies,
                        upstream=changes.upstream or None,
                    )
                )

    async def run(self) -> None:
        """Fold when a minute is over, until cancelled. At a stop, `fold` after the last commit."""
        folded = 0
        while True:
            span = int(self._wall_clock() // self._fold_s)
            if span != folded:  # a clock that steps, either way, only folds early
                folded = span
                await self.fold()
            await trio.sleep(FOLD_CHECK_S)

    async def fold(self) -> None:
        """Move every committed batch into the minutes. Raises JournalFailed."""
        while True:
            seen: dict[int, int] | None = await self._in_thread("fold", self._fold)
            if seen is None:
                return
            await self._in_thread("fold", self._note_workers, self._changes(seen))

    def _fold(self) -> dict[int, int] | None:
        with self._store.write() as connection:
            return fold(connection, self._registry, self._rate_of)

    def _changes(self, seen: dict[int, int]) -> list[dict[str, int]]:
        """Of the workers seen mining, each with its difficulty: those whose row is out of date."""
        now_s = int(self._wall_clock())
        rows = []
        for worker_id, log2 in seen.items():
            news = self._registry.note_difficulty(worker_id, log2)
            if news or abs(now_s - self._last_seen_s.get(worker_id, 0)) >= SEEN_S:
                self._last_seen_s[worker_id] = now_s
                rows.append({"of": worker_id, "at": now_s, "log2": log2})
        return rows

    def _note_workers(self, rows: list[dict[str, int]]) -> None:
        for at in range(0, len(rows), ROWS_MAX):
            with self._store.write() as connection:
                connection.execute(_NOTE, rows[at : at + ROWS_MAX])

    async def _in_thread(self, what: str, work: Callable[..., Any], *args: object) -> Any:
        try:
            return await trio.to_thread.run_sync(work, *args)
        except Exception as error:  # whatever it was: what is not known to be on disk is not acknowledged
            reason = _short(error)
            self.failed = True
            log.critical("journal_failed", doing=what, reason=reason)
            raise JournalFailed(f"the journal cannot {what}: {reason}") from error


def fold(connection: Connection, registry: Registry, rate_of: RateOf) -> dict[int, int] | None:
    """Fold up to BATCHES_MAX batches; None when there was none.

    Returns the workers with good shares, each with the difficulty of most of them.
    """
    rows = connection.execute(
        select(journal_batches).order_by(journal_batches.c.seq).limit(BATCHES_MAX)
    ).all()
    if not rows:
        return None
    tallies: list[Tally] = []
    seen: dict[int, tuple[int, int]] = {}
    rates: dict[tuple[int, int], TenantRate] = {}
    for minute in sorted({row.minute for row in rows}):
        for worker, rate, log2, verdict, _, count in merge(
            row.tallies for row in rows if row.minute == minute
        ).tolist():
            if verdict in MINED and count > seen.get(worker, (0, 0))[1]:
                seen[worker] = (log2, count)
            rate_id, at_our_risk = 0, False
            if rate:
                key = (rate, registry.workers[worker].tenant_id)
                if key not in rates:
                    rates[key] = rate_of(connection, *key)
                rate_id = rates[key].rate_id
                at_our_risk = verdict in NOT_TAKEN and rates[key].upstream_risk is UpstreamRisk.POOL
            tallies.append(
                Tally(
                    worker_id=worker,
                    rate_id=rate_id,
                    minute=minute,
                    difficulty_log2=log2,
                    verdict=ACCEPTED if at_our_risk else verdict,
                    shares=count,
                    undelivered=at_our_risk,
                )
            )
    folds = connection.scalar(select(journal_writers.c.batch).where(journal_writers.c.writer == FOLDER)) or 0
    record(connection, FOLDER, folds + 1, tallies)
    upstream_tallies.record(
        connection,
        ((row.minute, row.upstream) for row in rows if row.upstream),
        lambda worker: registry.workers[worker].tenant_id,
    )
    connection.execute(delete(journal_batches).where(journal_batches.c.seq <= rows[-1].seq))
    return {worker: log2 for worker, (log2, _) in seen.items()}


_NOTE = (
    update(workers)
    .where(workers.c.id == bindparam("of"))
    .values(last_seen_at_s=bindparam("at"), difficulty_log2=bindparam("log2"))
)


_SETTLED = delete(upstream_submits).where(upstream_submits.c.key == bindparam("of"))


def merge(batches: Iterable[bytes]) -> Records:
    """The records of many batches, added up: one for each worker, rate, difficulty and verdict."""
    records = np.frombuffer(b"".join(batches), dtype=RECORD)
    key = records["worker"].astype(np.uint64) << np.uint64(32) | records["rate"].astype(np.uint64)
    rest = (records["difficulty_log2"].astype(np.int16) + 32).astype(np.uint16) << np.uint16(8)
    rest |= records["verdict"].astype(np.uint16)
    order = np.lexsort((rest, key))
    key, rest = key[order], rest[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (key[1:] != key[:-1]) | (rest[1:] != rest[:-1])
    starts = np.flatnonzero(first)
    merged = records[order][starts]
    if len(starts):
        merged["count"] = np.add.reduceat(records["count"][order].astype(np.uint64), starts)
    return merged


def _submit_row(share: Forwarded, now_s: int) -> dict[str, int | str]:
    return {
        "key": share.key.hex(),
        "worker_id": share.worker,
        "epoch": share.epoch,
        "difficulty_log2": share.difficulty_log2,
        "counted": int(share.counted),
        "target": f"{share.target:064x}",
        "noted_at_s": now_s,
    }


def _forwarded(row: Row[Any]) -> Forwarded:
    return Forwarded(
        key=bytes.fromhex(row.key),
        worker=row.worker_id,
        epoch=row.epoch,
        difficulty_log2=row.difficulty_log2,
        counted=bool(row.counted),
        target=int(row.target, 16),
    )


def _short(error: BaseException) -> str:
    return words_of(error)[:300]
