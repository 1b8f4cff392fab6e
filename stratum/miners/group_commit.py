"""The group commit: answers to shares leave after the commit that holds their shares.

What is judged while a commit is under way waits for the next one, which takes all of it. It begins when
COMMIT_REPLIES wait, or `interval_s` after the one before it began, whichever is first: an idle pool answers
at once, a busy one groups, and fsyncs are bounded in between.

Invariants: what the engine has handed over is durable before anything of it is answered; where a commit fails
nothing of it is acknowledged, and the pool stops; a stop waits for the commit that is under way, and what was
read before it is committed; replies that wait are bounded, if readers ask for `room`.
Must not know: sockets, sessions, how something becomes durable.
"""

from collections.abc import Callable
from typing import Protocol

import trio

from stratum._engine import Engine
from stratum.histogram import Histogram
from stratum.miners.owner import Owner

# Of replies that wait for a commit: some two seconds of shares at full speed. Behind a slower commit nobody
# is read. As much again may be in the commit itself.
UNCOMMITTED_BYTES_MAX = 32 << 20
REPLY_OVERHEAD_BYTES = 128  # of a reply in the list of those that wait
REPLIES_PER_ROUND = 1024  # 5 ms of writing, then other tasks get their turn
HEARS_IN_ROUNDS = 8  # of tasks, until a commit hears of what its thread has done: three, most often
COMMIT_REPLIES = 32  # worth an fsync of their own: 9 ms of the built-out site's shares


class Journal(Protocol):
    """Makes tallies durable, and what else it has by then. Returns when they are; raises when they may not
    be, which ends the board. `durable`: they are, and it is about to return.

    Not cancelled: a stop waits for the commit that is under way.
    """

    @property
    def durable(self) -> bool: ...

    async def commit(self, tallies: bytes) -> None: ...


class GroupCommit:
    """`judge` has everything judged that was fed by then; whoever judges says so, with the replies.
    `on_uncharged` gets the rejected shares that are in no tally, which are not written down."""

    def __init__(
        self,
        engine: Engine,
        journal: Journal,
        *,
        judge: Callable[[], None],
        write_all: Callable[[list[tuple[Owner, bytes]]], None],
        on_uncharged: Callable[[bytes], None],
        interval_s: float,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._judge = judge
        self._write_all = write_all
        self._on_uncharged = on_uncharged
        self._interval_s = interval_s
        self.commits = Histogram()  # how long the journal took
        self.acknowledgements = Histogram()  # from a share's verdict to its reply's being written
        self._replies: list[tuple[Owner, bytes]] = []
        self._judged: list[tuple[float, int]] = []  # when how many of them were: a round of verdicts each
        self._replies_bytes = self._replies_count = 0
        self._journal_is_owed = False
        self._wanted = trio.Event()
        self._enough = trio.Event()  # replies for a commit that does not wait for its interval
        self._due_s = 0.0
        self._done = trio.Event()
        self._answers = False  # those of a commit are on their way

    def want(self) -> None:
        """There are tallies to commit."""
        self._wanted.set()

    def add(self, replies: list[tuple[Owner, bytes]]) -> None:
        """To be sent after the next commit, with those that the engine has kept."""
        count, size = self._engine.kept()
        count += len(replies)
        if not count:
            return
        self._judged.append((trio.current_time(), count))
        self._replies += replies
        self._replies_count += count
        if self._replies_count >= COMMIT_REPLIES:
            self._enough.set()
        self._replies_bytes += size + sum(len(data) for _, data in replies) + count * REPLY_OVERHEAD_BYTES

    def owe(self) -> None:
        """The journal has something to write or to forget, whether or not there are tallies."""
        self._journal_is_owed = True

    def soon(self) -> None:
        """The journal has something to write now."""
        self.owe()
        self.want()

    def want_what_is_owed(self) -> None:
        """Now and then: not everything that the journal is owed is worth a commit of its own at once."""
        if self._journal_is_owed:
            self._wanted.set()

    async def room(self) -> None:
        """Returns at once, or after a commit when too many replies wait for one."""
        while self._replies_bytes > UNCOMMITTED_BYTES_MAX:
            await self._done.wait()

    async def answered(self) -> None:
        """Returns at once, or when all that was committed is answered.

        Tasks have some rounds until a commit hears that it is durable: to read on in each of them makes the
        next one so much larger, and answers it later, when nothing of it is in the processor's caches.
        """
        for _ in range(HEARS_IN_ROUNDS):
            if not self._journal.durable:
                break
            await trio.lowlevel.checkpoint()
        while self._answers:
            await self._done.wait()

    async def run(self) -> None:
        """Until cancelled, or a commit fails."""
        try:
            while True:
                await self._wanted.wait()
                with trio.move_on_at(self._due_s):
                    await self._enough.wait()
                # Not to be interrupted: what the engine has handed over is nowhere else.
                with trio.CancelScope(shield=True):
                    await self._commit()
        except trio.Cancelled:
            if self._wanted.is_set():  # a stop: what was read still counts
                with trio.CancelScope(shield=True):
                    await self._commit()
            raise

    async def _commit(self) -> None:
        """Make everything durable that was said by now, then answer it."""
        self._judge()  # so that nothing is under way of who has left before
        self._wanted, self._enough = trio.Event(), trio.Event()
        self._due_s = trio.current_time() + self._interval_s
        self._engine.close_batch()
        replies, self._replies = self._replies, []
        self._replies_bytes = self._replies_count = 0
        judged, self._judged = self._judged, []
        tallies = self._engine.collect_tallies()
        if uncharged := self._engine.collect_uncharged():
            self._on_uncharged(uncharged)
        owed, self._journal_is_owed = self._journal_is_owed, False
        if tallies or owed:  # else nobody is to be charged with these: garbage is not worth an fsync
            since_s = trio.current_time()
            await self._journal.commit(tallies)
            self.commits.add(trio.current_time() - since_s)
        self._answers = more = True
        while more:
            more, rest = self._engine.send_batch(REPLIES_PER_ROUND)
            self._write_all(rest)
            await trio.lowlevel.checkpoint()
        for at in range(0, len(replies), REPLIES_PER_ROUND):
            self._write_all(replies[at : at + REPLIES_PER_ROUND])
            await trio.lowlevel.checkpoint()
        written_s = trio.current_time()
        for judged_s, count in judged:
            self.acknowledgements.add(written_s - judged_s, count)
        self._answers = False
        self._done.set()
        self._done = trio.Event()
