"""The journal of a running pool: tallies on disk before their replies leave, and taken by the books later.

`commit` appends what was judged since the last commit to the log as one record: the tallies, what became of
shares that were forwarded to upstreams and which of them wait for an answer, what was credited on upstreams'
work, and whom its numbers mean. No database is asked: what the books do, or do not, holds no commit up.
`fold` has the books take what was committed, once a minute, in bounded steps (`Taker`). Where they are away,
or cannot, it is tried again and the log grows, up to its bound. Rows of forwarded shares that a dead pool
left behind are resolved at the start, as unanswered.

Shares of a name that has had no accepted one are in no batch: their name is not worth a row.

A commit that fails is never tried again (what an fsync lost, a second one does not bring back): nothing of it
is acknowledged, JournalFailed is raised, and the pool stops. Must not know: sessions, prices, balances.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import structlog
import trio
from sqlalchemy import Row, select, text

from payouts.book_time import latest_s
from pool.books.database_waits import when_it_answers
from pool.books.journal import upstream_verdicts
from pool.books.journal.credit_book import CreditBook, Credits
from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares, SubmitChanges, unanswered
from pool.books.journal.schema import upstream_submits
from pool.books.journal.taker import Taken, Taker
from pool.books.journal.window import Mined, Window, accepted_in
from pool.books.lease import LeaseHeld, LeaseLost
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.registry import NewRows, Registry
from pool.fleet.rows import NumberTaken
from pool.journal.log import JournalLog
from pool.journal.records import Batch, Machine, Noted, packed
from stratum.histogram import Histogram
from stratum.tallies import MINED, RECORD

log = structlog.get_logger()

FOLD_S: Final = 60.0  # a row a worker and minute, written once
FOLD_CHECK_S: Final = 1.0
SEEN_S: Final = 600  # last_seen_at_s of a worker may be this old: a row a worker a minute would be too many
ROWS_MAX: Final = 1_000  # of workers whose row is out of date, in one statement
MACHINES_AT_ONCE: Final = 256  # looked at before miners get their turn: half a millisecond
STOP_WAIT_S: Final = 5.0  # for the books, when the pool is asked to stop: the next start takes what is left
AGAIN_S: Final = 30.0  # after an error of the database that does not pass by itself
STEP_PAUSE_S: Final = 0.02  # between two transactions of a fold, so that others come in between
# Whoever has written meanwhile has made what we know of the books wrong: no later attempt is better.
FATAL: Final = (LeaseLost, LeaseHeld, NumberTaken)
WORKER_OF_VERDICT: Final = np.dtype([("worker", "<u4"), ("rest", f"V{upstream_verdicts.RECORD_BYTES - 4}")])


class JournalFailed(Exception):
    """A commit is not on disk, or may not be: nothing more can be acknowledged."""


class Journal:
    """The switchboard's Journal on a log that has begun. `on_commit` gets every committed batch, for live
    figures.

    `submits` has the shares that are forwarded to upstreams, `credits` what was credited on their work.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        journal_log: JournalLog,
        taker: Taker,
        *,
        submits: ForwardedShares | None = None,
        credits: CreditBook | None = None,
        on_commit: Callable[[bytes], None] = lambda tallies: None,
        fold_s: float = FOLD_S,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._registry, self._log, self._taker = store, registry, journal_log, taker
        self._submits, self._credits = submits, credits
        self._on_commit = on_commit
        self._fold_s = fold_s
        self._wall_clock = wall_clock
        self.failed = False
        self.commits_since_s: float | None = None  # since when one is under way, monotonic
        self.folds = Histogram()  # how long each took of all that was there
        self.unfolded = 0  # batches that the books have not taken
        self.unfolded_since_s: float | None = None  # when the oldest such batch came
        self._stopping = False
        self._last_seen_s: dict[int, int] = {}
        self._accepted = taker.position.accepted
        self._named = np.zeros(1, dtype=bool)  # machines, by number, in the file that is appended to
        with store.read() as connection:
            self._moment_s = latest_s(connection)
            left = [_forwarded(row) for row in connection.execute(select(upstream_submits))]
        if left:
            changes = unanswered(left)
            self._append(self._batch(changes.tallies, NewRows(), changes, ()))
            self._note_unfolded()
            log.warning("forwarded_shares_unanswered", shares=len(left))

    @property
    def size_bytes(self) -> int:
        """Of the log, with what the books have taken already."""
        return self._log.size_bytes

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
            self.commits_since_s = trio.current_time()
            batch = self._batch(tallies, new, changes, credits)
            # Not cancellable half-way: a commit that may have happened must be waited for.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._append, batch)
            self.commits_since_s = None
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

    def _batch(self, tallies: bytes, new: NewRows, changes: SubmitChanges, credits: Credits) -> Batch:
        """What the next record says."""
        self._moment_s = max(self._moment_s, int(self._wall_clock()))
        if self._log.begins_a_file:
            self._named[:] = False
        records = np.frombuffer(tallies, dtype=RECORD)
        self._accepted += accepted_in(records)
        return Batch(
            moment_s=self._moment_s,
            accepted=self._accepted,
            tallies=tallies,
            upstream=changes.upstream,
            machines=self._machines(records["worker"], new, changes),
            resolved=changes.resolved,
            noted=tuple(_noted(share) for share in changes.noted),
            credits=tuple(credits),
        )

    def _machines(
        self, workers: np.ndarray[Any, Any], new: NewRows, changes: SubmitChanges
    ) -> tuple[Machine, ...]:
        """Those that the file has not named yet, and those that are new."""
        told = np.frombuffer(changes.upstream, dtype=WORKER_OF_VERDICT)["worker"]
        others = [it.id for it in new.workers] + [share.worker for share in changes.noted]
        numbers = np.concatenate((workers, told, np.array(others, dtype=np.uint32)))
        if not len(numbers):
            return ()
        if (most := int(numbers.max())) >= len(self._named):
            self._named = np.append(self._named, np.zeros(most + 1, dtype=bool))
        missing = set(np.unique(numbers[~self._named[numbers]]).tolist())
        if not missing and not others:
            return ()
        self._named[numbers] = True
        fresh = {it.id for it in new.workers}
        places = {it.id for it in new.containers}
        return tuple(self._machine(it, fresh, places) for it in sorted(missing | fresh))

    def _machine(self, number: int, fresh: set[int], places: set[int]) -> Machine:
        worker = self._registry.worker(number)
        container = self._registry.containers[worker.container_id]
        return Machine(
            number=number,
            tenant_id=worker.tenant_id,
            tenant=self._registry.tenants_by_id[worker.tenant_id].name,
            container_id=container.id,
            container=container.name,
            unit=worker.unit,
            agent=worker.agent,
            new=number in fresh,
            new_container=number in fresh and container.id in places,
        )

    def _append(self, batch: Batch) -> None:
        try:
            self._log.append(packed(batch), batch.moment_s, batch.accepted)
        except Exception as error:  # whatever it was: what is not known to be on disk is not acknowledged
            self.failed = True
            log.critical("journal_failed", reason=str(error))
            raise JournalFailed(
                f"the journal cannot be written: {error}. Every share that was acknowledged is on disk, and"
                " none that is not. See that the disk can write, and start the pool again"
            ) from error

    async def run(self) -> None:
        """Fold when a minute is over, until cancelled. At a stop, `fold` after the last commit."""
        folded = 0
        try:
            while True:
                span = int(self._wall_clock() // self._fold_s)
                if span != folded:  # a clock that steps, either way, only folds early
                    folded = span
                    await self._kept_folding()
                await trio.sleep(FOLD_CHECK_S)
        finally:
            self._stopping = True

    async def _kept_folding(self) -> None:
        """What the books do not take now they take later: no reason to stop miners, but for a mistake."""
        try:
            await self.fold()
            await self.forget_credits()
        except FATAL:
            raise
        except DATABASE_ERRORS as error:
            log.error("journal_not_taken", reason=words_of(error)[:300], again_in_s=AGAIN_S)
            await trio.sleep(AGAIN_S)

    async def stop(self) -> None:
        """After the last commit: have the books take what they take in a few seconds."""
        self._stopping = True
        try:
            await self.fold()
        except DATABASE_ERRORS as error:
            log.warning("journal_left_to_the_next_start", batches=self.unfolded, reason=words_of(error)[:300])

    def close(self) -> None:
        """Let another process have it."""
        self._log.close()

    async def fold(self) -> None:
        """Have the books take every batch that is committed by now."""
        until, begun_s, batches = self._log.at.number, trio.current_time(), self.unfolded
        # What comes after this is not dated before it; a commit that is under way has its moment.
        if self.commits_since_s is None:
            self._moment_s = max(self._moment_s, int(self._wall_clock()))
        moment_s = self._moment_s
        while True:
            taken: Taken | None = await self._in_thread(self._taker.step, until)
            if taken is None:
                break
            self._has_rows(taken)
            if taken.done is not None:
                await trio.to_thread.run_sync(self._log.trim, self._taker.position.at)
                await self._note_machines(taken.done)
            await trio.sleep(STEP_PAUSE_S)
        await self._in_thread(self._taker.note_moment, moment_s)
        self.folds.add(trio.current_time() - begun_s)
        self.unfolded -= batches
        self.unfolded_since_s = begun_s if self.unfolded else None

    def _has_rows(self, taken: Taken) -> None:
        for number in taken.machines:
            self._registry.rowless.pop(number, None)
        if self._credits is not None:
            self._credits.taken(taken.tips)

    def _note_unfolded(self) -> None:
        self.unfolded += 1
        if self.unfolded_since_s is None:
            self.unfolded_since_s = trio.current_time()

    async def forget_credits(self) -> None:
        """What was credited on blocks that are over."""
        if self._credits is not None and (forgotten := self._credits.forgotten()):
            await self._in_thread(self._forget, self._credits, forgotten)

    def _forget(self, credits: CreditBook, forgotten: list[bytes]) -> None:
        with self._store.write() as connection:
            credits.forget(connection, forgotten)

    async def _note_machines(self, window: Window) -> None:
        """When the workers of a window were seen, and at what difficulty they start again."""
        mined: list[Mined] = await trio.to_thread.run_sync(lambda: list(window.mined()))
        stale: set[int] = set()
        for at in range(0, len(mined), MACHINES_AT_ONCE):
            stale |= self._changed(mined[at : at + MACHINES_AT_ONCE])
            await trio.lowlevel.checkpoint()
        now_s, numbers = int(self._wall_clock()), sorted(stale)
        for at in range(0, len(numbers), ROWS_MAX):
            rows = [
                (number, now_s, self._registry.remembered_log2(number))
                for number in numbers[at : at + ROWS_MAX]
            ]
            await self._in_thread(self._write_seen, rows)
            await trio.sleep(STEP_PAUSE_S)

    def _changed(self, seen: Iterable[Mined]) -> set[int]:
        """Of the workers seen mining those whose row is out of date."""
        now_s, stale = int(self._wall_clock()), set()
        for it in seen:
            if it.worker not in self._registry.workers:
                continue  # removed since
            news = self._registry.note_difficulty(it.worker, it.minute, it.difficulty_log2, it.work)
            if news or abs(now_s - self._last_seen_s.get(it.worker, 0)) >= SEEN_S:
                self._last_seen_s[it.worker] = now_s
                stale.add(it.worker)
        return stale

    def _write_seen(self, rows: list[tuple[int, int, int]]) -> None:
        with self._store.write() as connection:
            statement = _SEEN[connection.dialect.name]
            connection.execute(statement, {"rows": msgspec.json.encode(rows).decode()})

    async def _in_thread(self, work: Callable[..., Any], *args: object) -> Any:
        return await when_it_answers("take the journal", partial(work, *args), wait_s=self._wait_s)

    def _wait_s(self) -> float:
        return STOP_WAIT_S if self._stopping else float("inf")


_SEEN: Final = {
    name: text(
        f"UPDATE workers SET last_seen_at_s = seen.at_s, difficulty_log2 = seen.log2"  # noqa: S608 - ours
        f" FROM (SELECT {fields[0]} AS id, {fields[1]} AS at_s, {fields[2]} AS log2 FROM {rows}) AS seen"
        " WHERE workers.id = seen.id"
    )
    for name, rows, fields in (
        ("sqlite", "json_each(:rows) AS it", [f"json_extract(it.value, '$[{at}]')" for at in range(3)]),
        (
            "postgresql",
            "json_array_elements(CAST(:rows AS json)) AS it(value)",
            [f"CAST(it.value ->> {at} AS bigint)" for at in range(3)],
        ),
    )
}


def _noted(share: Forwarded) -> Noted:
    return Noted(
        key=share.key,
        worker=share.worker,
        epoch=share.epoch,
        difficulty_log2=share.difficulty_log2,
        counted=share.counted,
        target=share.target.to_bytes(32, "big"),
    )


def _forwarded(row: Row[Any]) -> Forwarded:
    return Forwarded(
        key=bytes.fromhex(row.key),
        worker=row.worker_id,
        epoch=row.epoch,
        difficulty_log2=row.difficulty_log2,
        counted=bool(row.counted),
        target=int(row.target, 16),
    )
