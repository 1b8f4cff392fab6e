"""What an edge may have booked: shares of machines that it may count for, dated by no later clock than ours.

Looked at in the transaction that would book them, so that what a command has changed by then counts. An edge
that breaks a rule is held as a whole (`pool.books.edges.taking`): what is wrong is not booked, and what is
behind it not either, since a journal is taken in its order. More work than an edge's machines can do is told,
and booked: a nameplate is somebody's estimate, and the miners have worked. More than all machines of the
network can do nobody has worked: it would be owed more than all coins that there are, which no ledger takes.
On test chains, where one machine may be more than all others, that is looked at itself (`owed`).

What its prices may be is said in `pool.books.edges.prices`. Must not know: how frames come.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
import structlog
from sqlalchemy import Connection

from payouts.book_time import latest_s
from pool.books.edges.owed import Room
from pool.books.edges.prices import TH, EdgePrices, Heard, NotYet
from pool.books.edges.rows import PARTS, EdgeRecord, can_be_named, edge_of, load_edges
from pool.books.journal import upstream_verdicts
from pool.books.journal.hour_rows import BEFORE
from pool.books.journal.positions import Position
from pool.books.journal.window import Window, accepted_in
from pool.books.store import StoreError
from pool.journal.records import Machine, Rate
from stratum.difficulty import DIFFICULTY_LOG2_MAX
from stratum.tallies import CREDIT, MINED, Verdict

log = structlog.get_logger()

CLOCK_AHEAD_S: Final = 60  # of an edge: what it dates later waits until it is so late here
BEYOND: Final = 3, 2  # of its nameplate, before it is told: machines are run faster, and luck is luck
BURST_S: Final = 600  # of work at once, where it was heard of all the time
HASH_BYTES: Final = 32
HASHES_LOG2: Final = 32  # of a share of difficulty 1


def nobody_minds(machines: Sequence[Machine]) -> None:
    """How many there are."""


class Nameplate:
    """Work of an edge against what its machines can do: what it saves up while nothing comes it may send
    then."""

    def __init__(self, since_s: int) -> None:
        self._since_s = since_s  # when something was taken last
        self._saved_s = BURST_S

    def beyond(self, hashes: int, ths: int, now_s: int) -> bool:
        """Whether so much more is more than it can have done."""
        silent_s = max(0, now_s - self._since_s)
        self._since_s = max(now_s, self._since_s)
        self._saved_s = min(self._saved_s + silent_s, max(self._saved_s, BURST_S, silent_s))
        above, below = BEYOND
        spent_s = hashes * below // (ths * TH * above)
        beyond = spent_s > self._saved_s
        self._saved_s = max(0, self._saved_s - spent_s)
        return beyond


class EdgeLimits:
    """pool.books.journal.taker.Limits, of one journal of an edge. `on_beyond` is told of work beyond its
    nameplate; something was taken last at `since_s`, 0: never. `heard` is what the edge said of itself. What
    is behind one of the records `ends` is judged by itself."""

    def __init__(
        self,
        writer: str,
        part: int,
        since_s: int,
        *,
        prices: EdgePrices,
        heard: Heard,
        ends: Sequence[int] = (),
        wall_clock: Callable[[], float],
        on_beyond: Callable[[], None] = lambda: None,
    ) -> None:
        self._writer, self.numbers = writer, (part, PARTS)
        self._prices, self.not_before_s = prices, heard.not_before_s
        now_s = int(wall_clock())
        if since_s > now_s:  # books that our clock was ahead for do not say when that was
            since_s = 0
        began_s = since_s or now_s
        self._nameplate, self._network, self._room = Nameplate(began_s), Nameplate(began_s), Room(since_s)
        self._wall_clock, self._on_beyond, self._ends = wall_clock, on_beyond, sorted(ends)
        self._measured = 0  # up to that record its work is measured: a commit that failed is tried again
        # All machines of a window, before any of it is booked. Raises StoreError where there are too many.
        self.on_machines: Callable[[Sequence[Machine]], None] = nobody_minds

    def until(self, booked: int, until: int | None) -> int | None:
        """How far of that is taken next, behind what is booked."""
        end = next((it for it in self._ends if it > booked), None)
        return until if end is None else end if until is None else min(end, until)

    def look(self, window: Window, named: Mapping[int, Machine], meanings: Mapping[int, Rate]) -> None:
        """Raises as `check`."""
        self._prices.look(window, meanings, named)

    def check(
        self,
        connection: Connection,
        window: Window,
        named: Mapping[int, Machine],
        meanings: Mapping[int, Rate],
        before: Position,
    ) -> None:
        """Raises StoreError for what is not to be booked, NotYet for what is not yet."""
        edge = edge_of(connection, self._writer)
        assert edge is not None
        now_s = int(self._wall_clock())
        # The book's own moment is no edge's word: our clock was ahead once, and is right again.
        if window.moment_s > max(now_s + CLOCK_AHEAD_S, latest_s(connection)):
            raise NotYet(f"the clock of edge {edge.name} is {window.moment_s - now_s} s ahead of ours")
        _check_hours(window)
        _check_credits(window)
        self.on_machines(_check_places(edge, window, named))
        _check_counts(window, before)
        self._prices.check(connection, window, meanings, named)
        if window.last.number > self._measured:
            hashes = _hashes(window)
            done = hashes + _hashes_under_way(window)  # which is there again with what becomes of it
            ths = self._prices.network_ths(window, meanings)
            if ths is not None and self._network.beyond(done, ths, now_s):
                raise StoreError(
                    f"the journal has {done} hashes up to record {window.last.number}, and all machines of"
                    f" the network, which do {ths} TH/s, have not done so many since what was taken before"
                )
            self._check_owed(connection, window, named, meanings, now_s)
            self._measured = window.last.number
            if edge.ths and self._nameplate.beyond(hashes, edge.ths, now_s):
                log.error("edge_beyond_nameplate", edge=edge.name, ths=edge.ths, hashes=hashes)
                self._on_beyond()

    def _check_owed(
        self,
        connection: Connection,
        window: Window,
        named: Mapping[int, Machine],
        meanings: Mapping[int, Rate],
        now_s: int,
    ) -> None:
        """More than its part of what a settlement takes. Raises StoreError."""
        owed_sat = self._prices.owed_sat(connection, window, meanings, named)
        if owed_sat is None:
            return
        serving = sum(it.retired_at_s is None for it in load_edges(connection))
        if not self._room.takes(owed_sat, max(1, serving), now_s):
            raise StoreError(
                f"the journal has shares worth {owed_sat // 10**8} bitcoin up to record {window.last.number}:"
                " with those of the hour before they are more than a third of all coins that there are,"
                f" shared by {serving} edges"
            )


def _check_hours(window: Window) -> None:
    """What is not told apart by hours is nobody's to add to. Raises StoreError."""
    if any(it.hour <= BEFORE for it in window.hours):
        raise StoreError(
            f"the journal dates a record up to {window.last.number} at the hour that has what was booked"
            " before hours were noted"
        )


def _check_credits(window: Window) -> None:
    """Every engine is told of them, and takes nothing else. Raises StoreError."""
    blocks = [it.prevhash for part in window.parts for it in part.credited]
    before = [it for part in window.parts for it in part.credits]
    blocks += [prevhash for prevhash, _ in before]
    whole = not any(len(hashes) % CREDIT["hash"].itemsize for _, hashes in before)
    if not whole or any(len(it) != HASH_BYTES for it in blocks):
        raise StoreError(
            f"the journal has credits up to record {window.last.number} on what is no block, or of no shares"
        )


def _check_places(edge: EdgeRecord, window: Window, named: Mapping[int, Machine]) -> list[Machine]:
    """Whoever is counted for, and is named, is the edge's to count for: who that is. Raises StoreError."""
    used = {it.number: it for part in window.parts for it in part.machines}
    if not all(map(can_be_named, used.values())):
        raise StoreError(f"the journal has names up to record {window.last.number} that no machine has")
    for number in _used(window):
        if number not in named:
            raise StoreError(f"the journal has shares of machine {number}, and does not name it")
        used[number] = named[number]
    places = {(it.tenant, it.container) for it in used.values()}  # of 18,700 machines: 47
    foreign = {place for place in places if not edge.has(*place)}
    for it in used.values() if foreign else ():
        if (it.tenant, it.container) in foreign:
            raise StoreError(
                f"edge {edge.name} may not count for {it.tenant}.{it.container}.{it.unit}: it may for"
                f" {', '.join(place.words for place in edge.places)[:500]}"
            )
    return list(used.values())


def _used(window: Window) -> set[int]:
    found: set[int] = set()
    for part in window.parts:
        if part.tallies is not None:
            found.update(np.unique(part.tallies["worker"]).tolist())
        if part.upstream:
            found.update(it.worker for it in upstream_verdicts.unpack([part.upstream]))
        found.update(it.worker for it in part.noted)
    return found


def _check_counts(window: Window, before: Position) -> None:
    """It counts as it says, in verdicts that there are. Raises StoreError."""
    counted = before.accepted
    for part in window.parts:
        if part.tallies is not None:
            counted += accepted_in(part.tallies)
            if int(part.tallies["verdict"].max(initial=0)) > max(Verdict):
                raise StoreError("the journal has a verdict that there is none of")
    if counted != window.accepted:
        raise StoreError(
            f"the journal says that it has {window.accepted} accepted shares up to record"
            f" {window.last.number}, and {counted} are in it"
        )


def _hashes(window: Window) -> int:
    """Behind the good shares, whether an upstream took them or not."""
    return sum(
        shares << log2 + HASHES_LOG2
        for hour in window.hours
        for (log2, verdict), shares in hour.shares.items()
        if verdict in MINED and log2 + HASHES_LOG2 >= 0
    )


def _hashes_under_way(window: Window) -> int:
    """Behind shares that an upstream has not answered: of an edge that is over they are booked without."""
    noted = (it.difficulty_log2 for part in window.parts for it in part.noted if not it.counted)
    return sum(1 << min(log2, DIFFICULTY_LOG2_MAX) + HASHES_LOG2 for log2 in noted if log2 + HASHES_LOG2 >= 0)
