"""The books take the journals: once a minute, all that is committed by then, in bounded steps (`Taker`).

Each journal has one step in its turn, and a round ends after ROUND_S: who has gigabytes waiting, after a
night or because he likes to, holds nobody else up. What a round has left is taken by the next one, which
comes at once.

Where the books are away, or cannot, it is tried again, and the journals grow. When all journals are taken up
to one moment, the books know it: nothing comes that is dated before it. A journal of which something is left
is waited for with that, but one of another site for WAITS_S only.

With what was taken machines have their rows, are known to mine, and where they begin when they come back; and
what was credited on blocks that nobody mines on any more is forgotten.

Must not know: who writes the journals, and where; sessions, prices, balances.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import structlog
import trio
from sqlalchemy import text

from pool.books.database_waits import AGAIN_S, when_it_answers
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.taker import Taken, Taker
from pool.books.journal.window import Mined, Window
from pool.books.lease import LeaseHeld, LeaseLost
from pool.books.store import DATABASE_ERRORS, Store, words_of
from pool.fleet.registry import Registry
from pool.fleet.rows import NumberTaken
from pool.journal.beginning import Mark
from pool.journal.frames import Place
from stratum.histogram import Histogram

log = structlog.get_logger()

FOLD_S: Final = 60.0  # a row a worker and minute, written once
FOLD_CHECK_S: Final = 1.0
ROUND_S: Final = 60.0  # as long as from one fold to the next, when all is well; nothing is begun after it
# After a night without the database: so long everybody's hours wait until all is dated when it was found.
# A site that has more than that waiting has it dated later, and is paid the same.
WAITS_S: Final = 3_600.0
EVERYTHING: Final = (1 << 63) - 1  # no journal has so many records
# last_seen_at_s of a worker may be this old: a row a worker a minute would be too many. Each has a moment of
# its own when that is due, also of those that a start knows again: no fold has all of them to write.
SEEN_S: Final = 600
ROWS_MAX: Final = 10_000  # of workers whose row is out of date, in one statement: 0.6 s of PostgreSQL
MACHINES_AT_ONCE: Final = 256  # looked at before miners get their turn: half a millisecond
STOP_WAIT_S: Final = 5.0  # for the books, when the pool is asked to stop: the next start takes what is left
STOP_ROUND_S: Final = 15.0  # and while they answer: whoever stops a pool ends it by force after 60 s
# Previous blocks of upstreams that every writer is asked for at a fold, the oldest first: 340 kB. An upstream
# gives 600 a minute at most, and they go at the third fold, so five such ones are kept up with.
BLOCKS_ASKED_MAX: Final = 10_000
BLOCKS_FORGOTTEN_MAX: Final = 10  # in one transaction: the hashes of an hour and a half of a real chain
STEP_PAUSE_S: Final = 0.02  # between two transactions of a fold, so that others come in between
# What is taken later. Of a file too: there may be no descriptor left.
NOT_TAKEN: Final = (OSError, *DATABASE_ERRORS)
# Whoever has written meanwhile has made what we know of the books wrong: no later attempt is better.
FATAL: Final = (LeaseLost, LeaseHeld, NumberTaken)


class Writer(Protocol):
    """Who writes a journal, as who takes it knows him."""

    async def mark(self) -> Mark:
        """How far it is."""

    async def trim(self, taken: Place) -> None:
        """The books have everything up to there."""

    async def folded(self, taken: Place) -> None:
        """A round is over, and they do: they know themselves how late it is."""

    async def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """Those of these previous blocks on which nothing can be credited any more."""


class WriterAway(Exception):
    """Nobody can say how far the writer is: it is about to end."""


class _Source(msgspec.Struct):
    """A journal: its writer, and who takes it. `left_since_s`: something of it is left since then."""

    writer: Writer
    taker: Taker
    left_since_s: float | None = None


def nobody_else(numbers: Sequence[int]) -> None:
    """Who knows machines is told by the registry."""


Booked = Callable[[Writer, Sequence[tuple[int, bytes]]], None]


class Folding:
    """Of all journals of a pool. `on_noted` is told of workers that were seen, or begin elsewhere now."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        credits: CreditRows,
        *,
        fold_s: float = FOLD_S,
        wall_clock: Callable[[], float] = time.time,
        on_noted: Callable[[Sequence[int]], None] = nobody_else,
    ) -> None:
        self._store, self._registry, self._credits = store, registry, credits
        self._sources: list[_Source] = []
        self.missing: set[str] = set()  # edges, or journals, that cannot be taken now: some may be there
        self._fold_s = fold_s
        self._wall_clock = wall_clock
        self.on_noted = on_noted
        self.on_booked: Booked | None = None  # told of tallies, by minute: who counts machines of others
        self.durations = Histogram()  # how long each fold took of all that was there
        self.turn = trio.Lock()  # of a fold, or of a writer that begins behind all that is taken
        self._stopping = False
        self._begun_s = int(wall_clock())
        self._seen: dict[int, int] = {}  # in which SEEN_S each was noted last, by how it counts them
        self._over: frozenset[bytes] = frozenset()  # blocks that were over at the last fold

    @property
    def kept_blocks(self) -> int:
        """Of upstreams, with what was credited on them: somebody has not left them, or does not say so."""
        return len(self._credits.kept)

    def take(self, writer: Writer, taker: Taker) -> None:
        """One more journal."""
        self._sources.append(_Source(writer, taker))

    def leave(self, taker: Taker) -> None:
        """Take this one no more: in our `turn`."""
        self._sources = [it for it in self._sources if it.taker is not taker]

    async def run(self) -> None:
        """Fold when a minute is over, until cancelled. At a stop, `stop` after the last commit."""
        folded = 0
        try:
            while True:
                span = int(self._wall_clock() // self._fold_s)
                if span != folded:  # a clock that steps, either way, only folds early
                    folded = span if await self._kept_folding() else 0
                await trio.sleep(FOLD_CHECK_S)
        finally:
            self._stopping = True

    async def _kept_folding(self) -> bool:
        """What the books do not take now they take later: no reason to stop miners, but for a mistake. False
        where that is at once."""
        try:
            if not await self.fold():
                return False
            await self.forget_credits()
        except FATAL:
            raise
        except WriterAway:
            return False
        except NOT_TAKEN as error:
            log.error("journal_not_taken", reason=words_of(error)[:300], again_in_s=AGAIN_S)
            await trio.sleep(AGAIN_S)
        return True

    async def stop(self) -> None:
        """After the last commit: have the books take what they take in a few seconds."""
        self._stopping = True
        try:
            if not await self.fold(within_s=STOP_ROUND_S):
                log.warning("journal_left_to_the_next_start", reason=f"{STOP_ROUND_S:.0f} s are over")
        except NOT_TAKEN as error:
            log.warning("journal_left_to_the_next_start", reason=words_of(error)[:300])

    async def fold(self, within_s: float = ROUND_S) -> bool:
        """Have the books take every batch that is committed by now, as far as they come in that time; whether
        that is all. Raises WriterAway."""
        async with self.turn:
            return await self._fold(within_s)

    async def _fold(self, within_s: float) -> bool:
        begun_s = trio.current_time()
        sources = tuple(self._sources)  # one that begins meanwhile is taken the next time
        marks = [await it.writer.mark() for it in sources]
        left = await self._take_in_turn(sources, marks, begun_s + within_s)
        moments = [
            self._left_moment_s(it, mark) if it in left else mark.moment_s
            for it, mark in zip(sources, marks, strict=True)
        ]
        for source in sources:
            await self._in_thread(source.taker.note_moment, min(moments))
            await source.writer.folded(source.taker.position.at)
        self.durations.add(trio.current_time() - begun_s)
        return not left

    async def _take_in_turn(
        self, sources: Sequence[_Source], marks: Sequence[Mark], until_s: float
    ) -> list[_Source]:
        """A step of each, again and again: those of which something is left when the time is over. What is
        begun then is taken to its end, so that the books may say how far they are; not where we stop."""
        left, late = list(zip(sources, marks, strict=True)), False
        while left:
            for source, mark in tuple(left):
                if late and not source.taker.under_way:
                    continue
                if not await self._step(source, mark):
                    left.remove((source, mark))
                    source.left_since_s = None
            late = trio.current_time() >= until_s
            if late and (self._stopping or not any(it.taker.under_way for it, _ in left)):
                break
        for source, _ in left:
            if source.left_since_s is None:
                source.left_since_s = trio.current_time()
        return [source for source, _ in left]

    def _left_moment_s(self, source: _Source, mark: Mark) -> int:
        """How far in time the books may say they are, while something is left of it."""
        known_s = source.taker.position.moment_s
        if source.taker.under_way or source.left_since_s is None:
            return known_s
        if trio.current_time() - source.left_since_s < WAITS_S:
            return known_s
        return max(known_s, mark.without_s)

    async def take_to_the_end(self, taker: Taker) -> None:
        """A journal that nobody writes, in our `turn`."""
        (source,) = (it for it in self._sources if it.taker is taker)
        await self._take(source, Mark(number=EVERYTHING, moment_s=0))

    async def _take(self, source: _Source, mark: Mark) -> None:
        while await self._step(source, mark):
            pass

    async def _step(self, source: _Source, mark: Mark) -> bool:
        """One transaction of it; False where all of it is taken."""
        taker = source.taker
        taken: Taken | None = await self._in_thread(taker.step, mark.number)
        if taken is None:
            return False
        for number in taken.machines:
            self._registry.rowless.pop(number, None)
        self._credits.taken(taken.tips)
        if taken.done is not None:
            await source.writer.trim(taker.position.at)
            await self._note_machines(taken.done, taker)
            await self._tell_booked(source, taken.done)
        await trio.sleep(STEP_PAUSE_S)
        return True

    async def forget_credits(self) -> None:
        """What was credited on blocks that were over for everybody at the fold before this one already.

        What was credited on them has been taken since. And an upstream that gives a block to some and takes
        it from all, before others have heard of it, would have what they do on it be too late.
        """
        over = asked = [] if self.missing else self._credits.kept[:BLOCKS_ASKED_MAX]
        for source in self._sources:  # each is asked for all: one may need several folds until it says so
            said = frozenset(await source.writer.forgotten(asked))
            over = [it for it in over if it in said]
        gone = [it for it in over if it in self._over]
        for at in range(0, len(gone), BLOCKS_FORGOTTEN_MAX):
            await self._in_thread(self._forget, gone[at : at + BLOCKS_FORGOTTEN_MAX])
            await trio.sleep(STEP_PAUSE_S)
        self._over = frozenset(over).difference(gone)

    def _forget(self, over: list[bytes]) -> None:
        with self._store.write() as connection:
            self._credits.forget(connection, over)

    async def _note_machines(self, window: Window, taker: Taker) -> None:
        """When the workers of a window were seen, and at what difficulty they start again."""
        mined: list[Mined] = await trio.to_thread.run_sync(lambda: list(taker.mined(window)))
        stale: dict[int, int] = {}
        for at in range(0, len(mined), MACHINES_AT_ONCE):
            stale |= self._changed(mined[at : at + MACHINES_AT_ONCE])
            await trio.lowlevel.checkpoint()  # from here on it may be removed
        now_s, numbers = int(self._wall_clock()), sorted(stale)
        for at in range(0, len(numbers), ROWS_MAX):
            rows = [(number, now_s, stale[number]) for number in numbers[at : at + ROWS_MAX]]
            await self._in_thread(self._write_seen, rows)
            self.on_noted(numbers[at : at + ROWS_MAX])
            await trio.sleep(STEP_PAUSE_S)

    async def _tell_booked(self, source: _Source, window: Window) -> None:
        if self.on_booked is not None:
            tallies = await trio.to_thread.run_sync(source.taker.tallies, window)
            self.on_booked(source.writer, tallies)

    def _changed(self, seen: Iterable[Mined]) -> dict[int, int]:
        """Of the workers seen mining those whose row is out of date, and where they start again."""
        now_s, stale = int(self._wall_clock()), dict[int, int]()
        for it in seen:
            if it.worker not in self._registry.workers:
                continue  # removed since
            news = self._registry.note_difficulty(it.worker, it.minute, it.difficulty_log2, it.work)
            span = (now_s + it.worker) // SEEN_S
            before = self._seen.get(it.worker, (self._begun_s + it.worker) // SEEN_S)
            if news or span != before:
                self._seen[it.worker] = span
                stale[it.worker] = self._registry.remembered_log2(it.worker)
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
