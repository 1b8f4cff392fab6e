"""The journal: tallies on disk before their replies leave, and folded into minutes once.

`commit` writes what was judged since the last commit as one row: the tallies, with the names of workers whose
first accepted shares are among them, and what became of shares that were forwarded to upstreams; of those a
row for each that waits for its answer, gone when the answer is in a batch.
`fold` moves committed batches into the minutes of `payouts.tallies`, and the upstreams' verdicts into hours,
in the transaction that deletes them, so that after a crash at any moment every acknowledged share is in
exactly one place. No transaction of it has more than some rows, so that a commit never waits long: what is
more is first written back as batches of that size. Rows of forwarded shares that a dead pool left behind are
resolved at the start, as unanswered.

Shares of a name that has had no accepted one are in no batch: their name is not worth a row.

A database that is busy or away is waited for, up to COMMIT_WAIT_S; nothing is acknowledged meanwhile, and
whoever asked again finds out first whether the commit had happened. A commit that fails otherwise is never
tried again (what an fsync lost, a second one does not bring back): nothing of it is acknowledged,
JournalFailed is raised, and the pool stops. Must not know: sessions, prices, balances.
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import structlog
import trio
from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from payouts.book_time import book_time
from payouts.rates import UpstreamRisk
from payouts.schemas.money import journal_writers, workers
from payouts.tallies import ACCEPTED, Tally, record
from pool.books.database_waits import when_it_answers
from pool.books.journal import upstream_verdicts
from pool.books.journal.credit_book import CreditBook, Credits
from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares, SubmitChanges, unanswered
from pool.books.journal.rate_epochs import TenantRate
from pool.books.journal.schema import journal_batches, upstream_submits
from pool.books.store import Store, StoreError, words_of
from pool.fleet.registry import NewRows, Registry, WorkerRecord
from pool.fleet.rows import insert_new
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.histogram import Histogram
from stratum.tallies import MINED, NOT_TAKEN, RECORD, Records, merge

log = structlog.get_logger()

FOLD_S: Final = 60.0  # a row a worker and minute, written once
FOLD_CHECK_S: Final = 1.0
FOLDER: Final = "fold"  # the writer's name in journal_writers
SEEN_S: Final = 600  # last_seen_at_s of a worker may be this old: a row a worker a minute would be too many
SEQ_MAX: Final = (1 << 63) - 1
ROWS_MAX: Final = 1_000  # written in one transaction: some 20 ms that a commit may have to wait
# Miners stay and wait for their replies; most firmware goes to its next pool after some minutes without any.
COMMIT_WAIT_S: Final = 300.0
STOP_WAIT_S: Final = 5.0  # the same when the pool is asked to stop
STEP_PAUSE_S: Final = 0.02  # between two transactions of a fold, so that a commit comes in between
# Read at once for a fold: more than a minute of the built-out site.
BATCHES_MAX: Final = 10_000
BATCH_BYTES_MAX: Final = 16 << 20
# Engine rate number and tenant to the rate that the shares are booked under.
RateOf = Callable[[Connection, int, int], TenantRate]


class JournalFailed(Exception):
    """A commit is not on disk, or may not be: nothing more can be acknowledged."""


class Window(msgspec.Struct, frozen=True):
    """Batches of the journal, added up: for each minute its tallies and what upstreams said."""

    first: int
    last: int
    batches: int
    minutes: tuple[tuple[int, Records, bytes], ...]
    workers: tuple[tuple[int, WorkerRecord], ...]  # new ones, each with its minute

    @property
    def rows(self) -> int:
        """How many a fold of it writes, at most."""
        upstream = sum(len(packed) for _, _, packed in self.minutes) // upstream_verdicts.RECORD_BYTES
        return sum(len(records) for _, records, _ in self.minutes) + 2 * upstream


class Mined(NamedTuple):
    """Most of the good work of a worker in a minute was at this difficulty, and it was so much."""

    worker: int
    minute: int
    difficulty_log2: int
    work: int


class Journal:
    """The switchboard's Journal on a store. `on_commit` gets every committed batch, for live figures.

    `submits` has the shares that are forwarded to upstreams, `credits` what was credited on their work.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        rate_of: RateOf,
        submits: ForwardedShares | None = None,
        credits: CreditBook | None = None,
        on_commit: Callable[[bytes], None] = lambda tallies: None,
        fold_s: float = FOLD_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._registry = registry
        self._rate_of = rate_of
        self._submits = submits
        self._credits = credits
        self._on_commit = on_commit
        self._fold_s = fold_s
        self._wall_clock = wall_clock
        self.failed = False
        self.commits_since_s: float | None = None  # since when one is under way, monotonic
        self.folds = Histogram()  # how long each took of all that was there
        self.unfolded_since_s: float | None = None  # when the oldest such batch came
        self._stopping = False
        self._last_seen_s: dict[int, int] = {}
        with store.read() as connection:
            self._committed: int = connection.scalar(select(func.max(journal_batches.c.seq))) or 0
            self.unfolded: int = connection.scalar(select(func.count()).select_from(journal_batches)) or 0
            for names in connection.scalars(
                select(journal_batches.c.names).where(journal_batches.c.names.is_not(None))
            ):
                for worker in names_in(names):
                    registry.put_rowless(worker)
            left = [_forwarded(row) for row in connection.execute(select(upstream_submits))]
        self._seqs = itertools.count(self._committed + 1)  # two threads take numbers from it
        if left:
            self._committed = next(self._seqs)
            changes = unanswered(left)
            self._commit(self._committed, changes.tallies, NewRows(), changes, again=iter((False,)))
            self._note_unfolded()
            log.warning("forwarded_shares_unanswered", shares=len(left))

    async def commit(self, tallies: bytes) -> None:
        """Return when the tallies, and what the book of submits has, are on disk; nothing is no commit.

        Raises JournalFailed, and is not to be called again then.
        """
        # Whoever has left by now has nothing under way: it is all in here.
        gone = self._registry.newcomers.gone
        changes = self._submits.collect() if self._submits is not None else SubmitChanges()
        tallies = self._earned(tallies + changes.tallies)
        for share in changes.noted:
            self._registry.prove(share.worker)
        new = self._registry.collect_new()
        credits = self._credits.collect() if self._credits is not None else ()
        if tallies or changes or credits or new.containers or new.workers:
            # Not cancellable half-way: a commit that may have happened must be waited for.
            with trio.CancelScope(shield=True):
                seq, again = next(self._seqs), itertools.chain((False,), itertools.repeat(True))
                self.commits_since_s = trio.current_time()
                await self._in_thread(
                    "commit", partial(self._commit, seq, tallies, new, changes, credits, again=again)
                )
            self._committed, self.commits_since_s = seq, None
            if tallies or changes.upstream:
                self._note_unfolded()
            self._on_commit(tallies)
        self._registry.newcomers.forget(gone)

    def _earned(self, tallies: bytes) -> bytes:
        """The tallies of workers, and of newcomers that are workers from now on, by an accepted share."""
        newcomers = self._registry.newcomers
        if not newcomers or not tallies:
            return tallies
        records = np.frombuffer(tallies, dtype=RECORD)
        new = newcomers.among(records["worker"])
        if not new.any():
            return tallies
        for worker in np.unique(records["worker"][new & np.isin(records["verdict"], MINED)]).tolist():
            self._registry.prove(worker)
        return records[~newcomers.among(records["worker"])].tobytes()

    def _commit(
        self,
        seq: int,
        tallies: bytes,
        new: NewRows,
        changes: SubmitChanges,
        credits: Credits = (),
        *,
        again: Iterator[bool],
    ) -> None:
        """`again` says at each attempt whether there was one before it."""
        now_s = int(self._wall_clock())
        rowless = self._registry.rowless
        batch = bool(tallies or changes.upstream)
        # Whose rows cannot wait: shares on their way refer to them, or there is no batch to take their names.
        waiting = {it.worker for it in changes.noted} | (set() if batch else {it.id for it in new.workers})
        rows = tuple(worker for number in waiting if (worker := rowless.get(number)) is not None)
        with self._store.write() as connection:
            if next(again):
                if connection.scalar(select(journal_batches.c.seq).where(journal_batches.c.seq == seq)):
                    return  # it had happened
                if changes.noted:  # and without a batch these are all that may be there
                    connection.execute(_RESOLVED, [{"of": share.key.hex()} for share in changes.noted])
            now_s = book_time(connection, now_s)
            insert_new(connection, NewRows(new.containers, rows), now_s)
            if credits and self._credits is not None:
                self._credits.write(connection, credits)
            if changes.resolved:
                connection.execute(_RESOLVED, [{"of": key.hex()} for key in changes.resolved])
            if changes.noted:
                submits = [_submit_row(share, now_s) for share in changes.noted]
                connection.execute(insert(upstream_submits), submits)
            if batch:
                connection.execute(
                    insert(journal_batches).values(
                        seq=seq,
                        minute=now_s // 60,
                        tallies=tallies,
                        upstream=changes.upstream or None,
                        names=_pack_names(new.workers),
                    )
                )
        for worker in rows:
            rowless.pop(worker.id, None)

    async def run(self) -> None:
        """Fold when a minute is over, until cancelled. At a stop, `fold` after the last commit."""
        folded = 0
        try:
            while True:
                span = int(self._wall_clock() // self._fold_s)
                if span != folded:  # a clock that steps, either way, only folds early
                    folded = span
                    await self.fold()
                    await self.forget_credits()
                await trio.sleep(FOLD_CHECK_S)
        finally:
            self._stopping = True

    async def fold(self) -> None:
        """Move every batch that is committed by now into the minutes. Raises JournalFailed."""
        # Not a commit that is under way: it is looked for where nobody knows whether it has happened.
        until = SEQ_MAX if self._stopping else self._committed
        begun_s, batches = trio.current_time(), self.unfolded
        while True:
            window: Window | None = await self._in_thread("fold", self._read, until)
            if window is None:
                self.folds.add(trio.current_time() - begun_s)
                self.unfolded -= batches
                self.unfolded_since_s = begun_s if self.unfolded else None
                return
            for at in range(0, len(window.workers), ROWS_MAX):
                await self._step(self._insert_workers, window.workers[at : at + ROWS_MAX])
            parts = [window]
            if window.rows > ROWS_MAX:
                parts = [
                    Window(seq, seq, 1, (piece,), ())
                    for seq, piece in zip(self._seqs, pieces(window), strict=False)
                ]
                await self._step(self._cut, window, parts)
            for part in parts:
                await self._step(self._fold, part)
            changes = self._changes(mined_at(window))
            for at in range(0, len(changes), ROWS_MAX):
                await self._step(self._note_workers, changes[at : at + ROWS_MAX])

    def _note_unfolded(self) -> None:
        self.unfolded += 1
        if self.unfolded_since_s is None:
            self.unfolded_since_s = trio.current_time()

    async def forget_credits(self) -> None:
        """What was credited on blocks that are over."""
        if self._credits is not None and (forgotten := self._credits.forgotten()):
            await self._step(self._forget, self._credits, forgotten)

    def _forget(self, credits: CreditBook, forgotten: Sequence[bytes]) -> None:
        with self._store.write() as connection:
            credits.forget(connection, forgotten)

    async def _step(self, work: Callable[..., Any], *args: object) -> Any:
        """One transaction of a fold, and time for a commit behind it."""
        done = await self._in_thread("fold", work, *args)
        await trio.sleep(STEP_PAUSE_S)
        return done

    def _read(self, until: int) -> Window | None:
        with self._store.read() as connection:
            return read_window(connection, until)

    def _insert_workers(self, new: tuple[tuple[int, WorkerRecord], ...]) -> None:
        with self._store.write() as connection:
            for minute in sorted({minute for minute, _ in new}):
                rows = tuple(worker for since, worker in new if since == minute)
                insert_new(connection, NewRows(workers=rows), minute * 60)
        for _, worker in new:
            self._registry.rowless.pop(worker.id, None)

    def _cut(self, window: Window, parts: list[Window]) -> None:
        """Replace the batches by some that are small enough to be folded one at a time."""
        with self._store.write() as connection:
            if not delete_batches(connection, window):
                return
            for part in parts:
                ((minute, records, packed),) = part.minutes
                connection.execute(
                    insert(journal_batches).values(
                        seq=part.first, minute=minute, tallies=records.tobytes(), upstream=packed or None
                    )
                )

    def _fold(self, window: Window) -> None:
        with self._store.write() as connection:
            fold(connection, window, self._registry.tenant_of, self._rate_of)

    def _changes(self, seen: Iterable[Mined]) -> list[dict[str, int]]:
        """Of the workers seen mining those whose row is out of date, each with its difficulty."""
        now_s, stale = int(self._wall_clock()), set()
        for it in seen:
            news = self._registry.note_difficulty(it.worker, it.minute, it.difficulty_log2, it.work)
            if news or abs(now_s - self._last_seen_s.get(it.worker, 0)) >= SEEN_S:
                self._last_seen_s[it.worker] = now_s
                stale.add(it.worker)
        return [
            {"of": worker, "at": now_s, "log2": self._registry.remembered_log2(worker)} for worker in stale
        ]

    def _note_workers(self, rows: list[dict[str, int]]) -> None:
        with self._store.write() as connection:
            connection.execute(_NOTE, rows)

    async def _in_thread(self, what: str, work: Callable[..., Any], *args: object) -> Any:
        try:
            return await when_it_answers(what, work, *args, wait_s=self._wait_s)
        except Exception as error:  # whatever it was: what is not known to be on disk is not acknowledged
            reason = _short(error)
            self.failed = True
            log.critical("journal_failed", doing=what, reason=reason)
            raise JournalFailed(
                f"the journal cannot {what}: {reason}. Every share that was acknowledged is on disk, and none"
                " that is not. See that the database can write, and start the pool again"
            ) from error

    def _wait_s(self) -> float:
        return STOP_WAIT_S if self._stopping else COMMIT_WAIT_S


def read_window(connection: Connection, until: int) -> Window | None:
    """The oldest batches up to that number, as many as are folded at once; None when there is none."""
    sizes = connection.execute(
        select(journal_batches.c.seq, func.length(journal_batches.c.tallies))
        .where(journal_batches.c.seq <= until)
        .order_by(journal_batches.c.seq)
        .limit(BATCHES_MAX)
    ).all()
    if not sizes:
        return None
    count, size = 1, sizes[0][1]
    while count < len(sizes) and size + sizes[count][1] <= BATCH_BYTES_MAX:
        size += sizes[count][1]
        count += 1
    first, last = sizes[0].seq, sizes[count - 1].seq
    rows = connection.execute(
        select(journal_batches).where(journal_batches.c.seq.between(first, last)).order_by("seq")
    ).all()
    minutes = []
    for minute in sorted({row.minute for row in rows}):
        mine = [row for row in rows if row.minute == minute]
        said = upstream_verdicts.unpack(row.upstream for row in mine if row.upstream)
        minutes.append((minute, merge(row.tallies for row in mine), upstream_verdicts.pack(said)))
    new = tuple((row.minute, worker) for row in rows if row.names for worker in names_in(row.names))
    return Window(first, last, count, tuple(minutes), new)


def pieces(window: Window) -> Iterator[tuple[int, Records, bytes]]:
    """The same in parts, none of which writes more than ROWS_MAX rows."""
    nothing = np.zeros(0, dtype=RECORD)
    bytes_max = ROWS_MAX // 2 * upstream_verdicts.RECORD_BYTES
    for minute, records, packed in window.minutes:
        for at in range(0, len(records), ROWS_MAX):
            yield minute, records[at : at + ROWS_MAX], b""
        for at in range(0, len(packed), bytes_max):
            yield minute, nothing, packed[at : at + bytes_max]


def delete_batches(connection: Connection, window: Window) -> bool:
    """Whoever does so writes them elsewhere, in the same transaction; False where that has happened."""
    theirs = journal_batches.c.seq.between(window.first, window.last)
    gone = connection.execute(delete(journal_batches).where(theirs)).rowcount
    if gone not in (0, window.batches):
        raise StoreError(f"of {window.batches} batches there are {gone}: somebody else writes to the journal")
    return gone > 0


def mined_at(window: Window) -> Iterator[Mined]:
    """Who has good shares, minute for minute, with the difficulty of most of its work."""
    for minute, records, _ in window.minutes:
        seen: dict[int, tuple[int, int]] = {}
        for worker, _, log2, verdict, _, count in records.tolist():
            work = count << log2 - DIFFICULTY_LOG2_MIN
            if verdict in MINED and work > seen.get(worker, (0, 0))[1]:
                seen[worker] = (log2, work)
        for worker, (log2, work) in seen.items():
            yield Mined(worker, minute, log2, work)


def fold(connection: Connection, window: Window, tenant_of: Callable[[int], int], rate_of: RateOf) -> None:
    """Move the batches of a window into the minutes, and the upstreams' verdicts into hours."""
    if not delete_batches(connection, window):
        return
    tallies: list[Tally] = []
    rates: dict[tuple[int, int], TenantRate] = {}
    for minute, records, _ in window.minutes:
        for worker, rate, log2, verdict, _, count in records.tolist():
            rate_id, at_our_risk = 0, False
            if rate:
                key = (rate, tenant_of(worker))
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
    upstream_verdicts.record(
        connection, ((minute, packed) for minute, _, packed in window.minutes if packed), tenant_of
    )


_NOTE = (
    update(workers)
    .where(workers.c.id == bindparam("of"))
    .values(last_seen_at_s=bindparam("at"), difficulty_log2=bindparam("log2"))
)


_RESOLVED = delete(upstream_submits).where(upstream_submits.c.key == bindparam("of"))


def _pack_names(new: tuple[WorkerRecord, ...]) -> bytes | None:
    return msgspec.msgpack.encode(new) if new else None


def names_in(packed: bytes) -> tuple[WorkerRecord, ...]:
    return msgspec.msgpack.decode(packed, type=tuple[WorkerRecord, ...])


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
