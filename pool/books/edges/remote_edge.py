"""One edge at another site as the hub knows it: how far its journal is here and in the books, how late both
are, and when it was heard of.

Must not know: who asks, and which other edges there are.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog
import trio

from pool.books.edges.prices import Heard
from pool.books.edges.rows import EdgeRecord
from pool.books.edges.taking import EdgeTaker
from pool.books.edges.told import Told
from pool.journal.beginning import Forgotten, Mark
from pool.journal.frames import Place
from pool.journal.inbox import Inbox, Want

log = structlog.get_logger()

# Settlements and statements are so late while an edge is away; a line that is down for longer is down.
AWAY_S: Final = 15 * 60
TRIED_S: Final = 30.0  # what has no place here is tried again each two (pool.sites.nats.journal_stream)


class Line(Protocol):
    """What an edge is told. It may be lost: it is told again."""

    async def taken(self, edge: str, epoch: int, booked: Place) -> None:
        """The books have everything up to there."""

    async def send_again(self, edge: str, epoch: int, want: Want) -> None:
        """Something is missing."""

    async def forgotten(self, edge: str, epoch: int, prevhashes: Sequence[bytes]) -> Forgotten:
        """Those of these previous blocks on which nothing can be credited there any more; none where it does
        not answer."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an edge stands: `have` is here, `booked` in the books. Ages are in seconds; None: never."""

    edge: str
    epoch: int
    have: int
    booked: int
    heard_age_s: float | None
    moment_s: int  # nothing that it has not sent is of before it
    inbox_bytes: int
    untaken_bytes: int
    held: str | None
    waits: str | None  # why what came is not taken yet, or not written
    beyond_at_s: int | None  # when it last sent more work than its machines can do
    here_age_s: float  # all that it had so long ago is here
    booked_age_s: float  # and in the books
    hub: str  # whose copies these are
    unbooked: bool  # the books take more of what is here, or may

    @property
    def silent_s(self) -> float:
        """Since it was heard of, or since this hub waits for it."""
        return self.here_age_s if self.heard_age_s is None else self.heard_age_s

    @property
    def unbooked_s(self) -> float:
        """No share that is here and not in the books is older; 0: all that is here is booked."""
        return self.booked_age_s if self.have > self.booked else 0.0


class RemoteEdge:
    """One that has a journal, or had it: `over`. pool.books.journal.folding.Writer."""

    def __init__(
        self,
        edge: EdgeRecord,
        inbox: Inbox,
        taker: EdgeTaker,
        line: Line,
        lateness: Heard,
        told: Told,
        wall_clock: Callable[[], float],
    ) -> None:
        self.edge, self.inbox, self.taker, self._lateness = edge, inbox, taker, lateness
        self.told = told
        self._line, self._wall_clock = line, wall_clock
        self.over = False
        self.waited_since_s = trio.current_time()  # it was heard of, or we began to wait for it
        # By our clock, whatever its own says; before it was heard of for the first time nobody knows better.
        self.here_s = self.booked_s = self.waited_since_s
        self.heard_s: float | None = None
        self.renewed_s: float | None = None
        self.renewing = False  # that waits for the books
        self.beyond_at_s: int | None = None
        self.unwritten: str | None = None  # why what came is not on disk
        self.unwritten_s = 0.0  # when that was found last
        self.follows = trio.CancelScope()  # of who looks at what comes, for eyes
        self.alone = False  # nobody else has what is not here
        self._has: int | None = None  # so many records it had when it had heard of this hub
        self._moment_s = 0
        self._ahead: Mark | None = None  # what it said that we do not have all of yet
        self._ahead_s = 0.0  # when
        self._clock_late_s = 0.0  # its own, as it said last; it may be ahead
        self._step: tuple[int, float] | None = None  # of the books: to that record, all of then
        self._forgot: frozenset[bytes] = frozenset()  # blocks, as it said at the last fold
        self._forgotten_at: dict[bytes, int] = {}  # of these, what was credited is up to that record

    def heard(self, at_s: int | None, mark: Mark | None = None) -> None:
        """From its process, which lived at that moment and was told what was changed before; None: it does
        not follow from this when it did."""
        self.heard_s = self.waited_since_s = trio.current_time()
        if mark is not None:
            self._clock_late_s = self._wall_clock() - mark.moment_s
        if mark is not None and self._ahead is None:
            self._ahead, self._ahead_s = mark, self.heard_s
        if self._ahead is not None and self._ahead.number <= self.inbox.have.number:
            self._moment_s = max(self._moment_s, self._ahead.moment_s)
            self.here_s, self._ahead = self._ahead_s, None
        if at_s is not None:
            self._lateness.note(self.inbox.have.number, at_s)
            self.told.note(at_s)
        self.follow_books()

    def says(self, number: int) -> None:
        """How far its journal is, having heard of this hub: no hub of before was told more."""
        if self._has is None:
            self._has = number

    @property
    def has_come(self) -> bool:
        """What is missing is tried again by whoever carries it: it has no place here now."""
        return self.unwritten is not None and trio.current_time() - self.unwritten_s < TRIED_S

    @property
    def all_is_here(self) -> bool:
        """All that any hub before this one can have."""
        return self._has is not None and self.inbox.have.number >= self._has

    def follow_books(self) -> None:
        """How far in time they are: step by step, each to what is here at its beginning."""
        if self._step is not None and self._step[0] <= self.taker.position.at.number:
            self.booked_s, self._step = self._step[1], None
        if self._step is None:
            self._step = self.inbox.have.number, self.here_s

    def age_s(self, moment_s: int) -> float:
        """How long ago that was, which it dates so by its own clock. Late by as much as its last word was on
        the way, and by what its clock was set since."""
        return max(0.0, self._wall_clock() - self._clock_late_s - moment_s)

    @property
    def moment_s(self) -> int:
        """What is not here yet is of then or later, as far as it said."""
        return max(self._moment_s, self.inbox.moment_s)

    async def mark(self) -> Mark:
        now_s, number = int(self._wall_clock()), self.inbox.have.number
        silent = trio.current_time() - self.waited_since_s >= AWAY_S
        if silent or self.over or self.inbox.held is not None or self.taker.wrong is not None:
            return Mark(number=number, moment_s=now_s, without_s=now_s - AWAY_S)
        moment_s = min(max(self.moment_s, now_s - AWAY_S), now_s)
        return Mark(number=number, moment_s=moment_s, without_s=now_s - AWAY_S)

    async def trim(self, taken: Place) -> None:
        try:
            await trio.to_thread.run_sync(self.inbox.taken, taken)
        except OSError as error:  # what the books have is not needed: it is tried again behind the next
            log.error("inbox_not_trimmed", edge=self.edge.name, reason=error.strerror or str(error))

    async def folded(self, taken: Place) -> None:
        """What is in the books it may let go of. Told each time: it may not have heard."""
        if not self.over:
            await self._line.taken(self.edge.name, self.edge.epoch, taken)

    async def forgotten(self, prevhashes: Sequence[bytes]) -> list[bytes]:
        """Those that it has forgotten, and of which the books have all that it credited. That may come long
        after its word: what it publishes gets lost, or waits here for its turn, while its answers come."""
        if self.over:
            said = Forgotten(number=self.inbox.have.number, prevhashes=tuple(prevhashes))
        else:
            said = await self._line.forgotten(self.edge.name, self.edge.epoch, prevhashes)
        now = frozenset(prevhashes).intersection(said.prevhashes)  # it says what it likes
        both = self._forgot & now  # what was under way to its disk at its first word is there at the second
        self._forgot = now
        self._forgotten_at = {it: self._forgotten_at.get(it, said.number) for it in both}
        booked = self.taker.position.at.number
        return [it for it in prevhashes if self._forgotten_at.get(it, booked + 1) <= booked]

    @property
    def taken(self) -> bool:
        """Whether the books have all that is here, or take no more of it."""
        return self.taker.wrong is not None or self.taker.position.at.number >= self.inbox.have.number

    def standing(self, hub: str) -> Standing:
        """As it is now, at that hub."""
        now_s = trio.current_time()
        self.follow_books()
        return Standing(
            edge=self.edge.name,
            epoch=self.edge.epoch,
            have=self.inbox.have.number,
            booked=self.taker.position.at.number,
            heard_age_s=None if self.heard_s is None else now_s - self.heard_s,
            moment_s=self.moment_s,
            inbox_bytes=self.inbox.size_bytes,
            untaken_bytes=self.inbox.untaken_bytes,
            held=self.inbox.held,
            waits=self.unwritten or self.taker.waits,
            beyond_at_s=self.beyond_at_s,
            here_age_s=now_s - self.here_s,
            booked_age_s=now_s - self.booked_s,
            hub=hub,
            unbooked=not self.taken,
        )


def unopened(edge: EdgeRecord, reason: str, since_s: float, hub: str) -> Standing:
    """How one stands of which nothing can be read here: nothing is known of how far it is."""
    age_s = trio.current_time() - since_s
    return Standing(
        edge=edge.name,
        epoch=edge.epoch,
        have=0,
        booked=0,
        heard_age_s=0.0,  # it is not for its silence that nothing comes
        moment_s=0,
        inbox_bytes=0,
        untaken_bytes=0,
        held=edge.held,
        waits=reason,
        beyond_at_s=None,
        here_age_s=age_s,
        booked_age_s=age_s,
        hub=hub,
        unbooked=True,
    )
