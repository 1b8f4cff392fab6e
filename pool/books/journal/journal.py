"""The journal of who serves miners: tallies on disk before their replies leave.

`commit` appends what was judged since the last commit to the log as one record: the tallies, what became of
shares that were forwarded to upstreams and which of them wait for an answer, what was credited on upstreams'
work, and what its numbers mean: machines by their names, prices by their terms. No database is asked: what
the books do, or do not, holds no commit up. They take what was committed later
(`pool.books.journal.folding`), and where they are away the log grows, up to its bound. Forwarded shares that
a dead pool left behind are resolved at the start, as unanswered.

Shares of a name that has had no accepted one are in no batch: their name is not worth a row.

A commit that fails is never tried again (what an fsync lost, a second one does not bring back): nothing of it
is acknowledged, JournalFailed is raised, and the pool stops. Must not know: sessions, what a price comes to,
balances.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
import structlog
import trio

from pool.books.journal import upstream_verdicts
from pool.books.journal.credit_book import CreditBook, Credits
from pool.books.journal.forwarded_shares import (
    Forwarded,
    ForwardedShares,
    SubmitChanges,
    forwarded,
    unanswered,
)
from pool.books.journal.prices import Prices
from pool.books.journal.window import accepted_in
from pool.fleet.registry import NewRows, Registry
from pool.journal.beginning import Beginning, Mark
from pool.journal.frames import Place
from pool.journal.log import JournalLog
from pool.journal.records import Batch, Machine, Noted, Rate, packed
from stratum.tallies import KEPT, MINED, RECORD

log = structlog.get_logger()

KEYS_OF_VERDICT: Final = np.dtype(
    [("worker", "<u4"), ("epoch", "<u4"), ("rest", f"V{upstream_verdicts.RECORD_BYTES - 8}")]
)


MARKS_MAX: Final = 1_000  # of books that are away: hours of them


class _Marked(msgspec.Struct, frozen=True):
    """How far it was at a mark: the last record, and how many batches that were."""

    number: int
    batches: int
    at_s: float


class JournalFailed(Exception):
    """A commit is not on disk, or may not be: nothing more can be acknowledged."""


class Journal:
    """The switchboard's Journal, and its writer for who takes it, on a log that begins with it, dated by the
    clock of `prices`. `on_commit`
    gets every committed batch, for live figures.

    `blocks_stored` returns when every block of ours that was found by then is on disk: a share
    that is one is not acknowledged before.

    `submits` has the shares that are forwarded to upstreams, `credits` what was credited on their work,
    `kept` the shares that are kept, and from which difficulty on, where they are. Raises JournalUnusable.
    """

    def __init__(
        self,
        registry: Registry,
        journal_log: JournalLog,
        beginning: Beginning,
        prices: Prices,
        *,
        submits: ForwardedShares | None = None,
        credits: CreditBook | None = None,
        kept: tuple[Callable[[], bytes], int] | None = None,
        on_commit: Callable[[bytes], None] = lambda tallies: None,
        blocks_stored: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        self._registry, self._log, self._prices = registry, journal_log, prices
        self._submits, self._credits, self._kept = submits, credits, kept
        self._on_commit, self._blocks_stored = on_commit, blocks_stored
        # Of its own: all others may wait for a database, or for a name server.
        self._thread = trio.CapacityLimiter(1)
        self.failed = False
        self.durable = False  # the commit that is under way is, and has not heard of it
        self.commits_since_s: float | None = None  # since when one is under way, monotonic
        self.unfolded = 0  # batches that the books have not taken
        self.unfolded_since_s: float | None = None  # when the oldest such batch came
        self._batches = 0  # all of them
        self._marks: deque[_Marked] = deque(maxlen=MARKS_MAX)  # that the books have not reached
        self._accepted = beginning.accepted
        self._named = np.zeros(1, dtype=bool)  # machines, by number, in the file that is appended to
        self._defined: set[int] = set()  # the same of rate numbers
        self._under_way_s: int | None = None  # nothing in the commit that is under way is dated before it
        journal_log.begin(beginning.behind, beginning.moment_s, beginning.accepted, taken=beginning.taken)
        if left := [forwarded(it) for it in beginning.left]:
            changes = unanswered(left)
            self._append(self._batch(changes.tallies, NewRows(), changes, (), (), b""))
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
        kept = b"" if self._kept is None else self._kept[0]()
        opened = self._prices.opened()
        if tallies or changes or credits or new.containers or new.workers or opened or kept:
            batch = self._batch(tallies, new, changes, credits, opened, kept)
            self.commits_since_s = trio.current_time()
            self._under_way_s = min([batch.moment_s, *(it.opened_at_s for it in opened)])
            # Not cancellable half-way: a commit that may have happened must be waited for.
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._make_durable, batch, limiter=self._thread)
                self.durable = False
                await self._blocks_stored()
            self.commits_since_s = self._under_way_s = None
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
        mined = np.isin(records["verdict"], MINED)
        for worker in np.unique(records["worker"][new & mined]).tolist():
            self._registry.prove(worker)
        # Whatever else is wrong with a number, what is acknowledged is written down.
        return records[mined | ~newcomers.among(records["worker"])].tobytes()

    def _batch(
        self,
        tallies: bytes,
        new: NewRows,
        changes: SubmitChanges,
        credits: Credits,
        opened: tuple[Rate, ...],
        kept: bytes,
    ) -> Batch:
        """What the next record says."""
        if self._log.begins_a_file:
            self._named[:] = False
            self._defined.clear()
        records, shares = np.frombuffer(tallies, dtype=RECORD), np.frombuffer(kept, dtype=KEPT)
        workers, rates = records["worker"], records["rate"]
        if len(shares):
            workers, rates = np.append(workers, shares["worker"]), np.append(rates, shares["rate"])
        self._accepted += accepted_in(records)
        return Batch(
            moment_s=self._prices.clock.now_s(),
            accepted=self._accepted,
            tallies=tallies,
            upstream=changes.upstream,
            machines=self._machines(workers, new, changes),
            resolved=changes.resolved,
            noted=tuple(_noted(share) for share in changes.noted),
            rates=self._rates(rates, changes, opened),
            credited=tuple(credits),
            answered=changes.answered,
            kept=kept,
            kept_log2=0 if self._kept is None else self._kept[1],
        )

    def _rates(
        self, numbers: np.ndarray[Any, Any], changes: SubmitChanges, opened: tuple[Rate, ...]
    ) -> tuple[Rate, ...]:
        """Those that are new, and those that the file has not defined yet."""
        told = np.frombuffer(changes.upstream, dtype=KEYS_OF_VERDICT)["epoch"]
        first = set(numbers[:1].tolist())
        used = first if (numbers == numbers[:1]).all() else set(np.unique(numbers).tolist())  # most often one
        used |= set(told.tolist()) | {share.epoch for share in changes.noted}
        missing = {it.number: it for it in opened}
        missing |= {it: self._prices.meaning(it) for it in used - self._defined - missing.keys() - {0}}
        self._defined |= missing.keys()
        return tuple(missing[number] for number in sorted(missing))

    def _machines(
        self, workers: np.ndarray[Any, Any], new: NewRows, changes: SubmitChanges
    ) -> tuple[Machine, ...]:
        """Those that the file has not named yet, and those that are new."""
        told = np.frombuffer(changes.upstream, dtype=KEYS_OF_VERDICT)["worker"]
        others = [it.id for it in new.workers] + [share.worker for share in changes.noted]
        numbers = workers
        if others or len(told):
            numbers = np.concatenate((workers, told, np.array(others, dtype=np.uint32)))
        if not len(numbers):
            return ()
        if (most := int(numbers.max())) >= len(self._named):
            self._named = np.append(self._named, np.zeros(most + 1, dtype=bool))
        missing = set(numbers[~self._named[numbers]].tolist())
        if not missing and not others:
            return ()
        self._named[numbers] = True
        fresh = {it.id for it in new.workers}
        places = {it.id for it in new.containers}
        return tuple(self._machine(it, fresh, places) for it in sorted(missing | fresh))

    def _machine(self, number: int, fresh: set[int], places: set[int]) -> Machine:
        new = number in fresh
        place = self._registry.worker(number).container_id
        return self._registry.machine(number, new=new, new_container=new and place in places)

    def _make_durable(self, batch: Batch) -> None:
        self._append(batch)
        self.durable = True

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

    def _note_unfolded(self) -> None:
        self._batches += 1
        self.unfolded += 1
        if self.unfolded_since_s is None:
            self.unfolded_since_s = trio.current_time()

    def close(self) -> None:
        """Let another process have it."""
        self._log.close()

    # For who takes it

    async def mark(self) -> Mark:
        """How far it is."""
        # What comes after this is not dated before it, but for what was opened or is under way already.
        before_s = self._prices.opened_since_s, self._under_way_s
        moment_s = min([self._prices.clock.now_s(), *(it for it in before_s if it is not None)])
        self._marks.append(_Marked(self._log.at.number, self._batches, trio.current_time()))
        return Mark(number=self._log.at.number, moment_s=moment_s)

    async def trim(self, taken: Place) -> None:
        """The books have everything up to there."""
        try:
            await trio.to_thread.run_sync(self._log.trim, taken)
        except OSError as error:  # what the books have is not needed: it is tried again behind the next
            log.error("journal_not_trimmed", reason=error.strerror or str(error))

    async def folded(self, taken: Place) -> None:
        """The books have everything up to there."""
        self.taken_up_to(taken.number)

    def taken_up_to(self, number: int) -> None:
        """The books have that record, whenever they say so."""
        while self._marks and self._marks[0].number <= number:
            mark = self._marks.popleft()
            self.unfolded = self._batches - mark.batches
            self.unfolded_since_s = mark.at_s if self.unfolded else None

    async def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """Those of these previous blocks on which nothing can be credited any more."""
        return list(prevhashes) if self._credits is None else self._credits.forgotten(prevhashes)


def _noted(share: Forwarded) -> Noted:
    return Noted(
        key=share.key,
        worker=share.worker,
        epoch=share.epoch,
        difficulty_log2=share.difficulty_log2,
        counted=share.counted,
        target=share.target.to_bytes(32, "big"),
    )
