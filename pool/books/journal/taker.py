"""The books take the journal: each record once, in bounded steps, at their own pace.

A window of records is added up and taken some rows at a time. Each transaction writes its rows and how far
it came, so a kill at any moment leaves books that know where to go on; who goes on reads the same records and
finds the same rows. A transaction whose answer was lost is found to have happened by the position that it
would have left.

The journal says what its numbers mean by names, and those are what counts: a machine or a price that the
books do not have gets its row here. While the pool runs, its numbers are the rows' too, since it alone makes
rows; what another machine's journal brings at the start may get others.

Everything blocks: one thread at a time. Must not know: who commits, sessions, balances.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec
import numpy as np
from sqlalchemy import Connection

from payouts.book_time import book_time
from pool.books.journal.bookings import Bookings
from pool.books.journal.hour_rows import note_hours
from pool.books.journal.machine_rows import MachineRows, Numbering
from pool.books.journal.positions import Position, position_of, positions, uid_of, write_position
from pool.books.journal.rate_rows import RateRows
from pool.books.journal.window import Mined, Part, Window, window_of
from pool.books.lease import LeaseLost
from pool.books.store import Store, StoreError
from pool.journal.frames import Frame, Place
from pool.journal.records import BY_ROWS, Batch, Machine, Opening, Rate, unpacked
from pool.journal.segments import JournalDamaged, Walk

# Written in one transaction: some 30 ms on SQLite, 45 on PostgreSQL, for which commands and settlements wait;
# commits do not.
ROWS_MAX: Final = 3_000
# Added up at once: more than a minute of the built-out site.
BATCHES_MAX: Final = 10_000
BATCH_BYTES_MAX: Final = 16 << 20
# Who begins again goes on from where they are, whatever that is.
TAKEN_BY_ANOTHER: Final = (
    "the books are not where we left them with the journal: another process has taken it, or they were put"
    " back or failed over to an older copy"
)


class Taken(msgspec.Struct, frozen=True):
    """What one transaction took: machines that have their rows now, blocks that were credited on, and the
    window where it is done."""

    machines: tuple[int, ...]
    tips: tuple[bytes, ...]
    done: Window | None


class Limits(Protocol):
    """What a writer may say that is not this pool's own process."""

    @property
    def numbers(self) -> tuple[int, int]:
        """Which of how many parts its new machines are numbered in."""

    def not_before_s(self, number: int) -> int:
        """That record is of no earlier moment."""

    def look(self, window: Window, named: Mapping[int, Machine], meanings: Mapping[int, Rate]) -> None:
        """Before the transaction; `meanings` are those of rate numbers. Raises as `check`."""

    def check(
        self,
        connection: Connection,
        window: Window,
        named: Mapping[int, Machine],
        meanings: Mapping[int, Rate],
        before: Position,
    ) -> None:
        """Before anything of it is booked; `named` is what numbers of machines mean in it. Raises StoreError
        for what the books are not to have, in words."""


class Taker:
    """Of one writer's journal. Raises JournalDamaged, StoreError, and what a database raises."""

    def __init__(
        self, store: Store, writer: str, walk: Callable[[Place], Walk], limits: Limits | None = None
    ) -> None:
        self._store, self._writer, self._limits = store, writer, limits
        with store.read() as connection:
            self.position = position_of(connection, writer)
            self._book = uid_of(connection)
            others = [it.moment_s for it in positions(connection) if it.writer != writer]
        # A journal that was put away with records in it: others went on since, and what was stated stays so.
        # The same where the books went on without one whose writer was silent.
        self._floor_s = max([0, *others])
        self._said_s = 0  # the latest moment that a record has said
        self._said_before_s = 0  # the same, before what is read now
        self._walk_behind = walk
        self._walk = walk(self.position.at)
        self._ahead: Frame | None = None  # read, and of the next window
        self._window: Window | None = None
        self._intended: Position | None = None  # what a transaction leaves whose answer was lost
        self._machines = MachineRows(None if limits is None else limits.numbers)
        self._rates = RateRows()
        self._bookings = Bookings(writer, self._machines, self._rates)

    def take_all(self, until: int | None = None) -> int:
        """Everything that is there, or up to that number, before anybody knows machines by numbers; how many
        records.

        A window is one transaction then: what is only in the kernel's memory, because a sync had failed, may
        be gone at the next start, and must be in the books as a whole or not at all.
        """
        first = self.position.at.number
        while self.step(until, whole=True) is not None:
            pass
        return self.position.at.number - first

    def serve(self) -> None:
        """From here on machines and prices have the numbers of their rows: the pool counts by them."""
        self._machines.numbers_are_rows = self._rates.numbers_are_rows = True

    def number_by(self, numbering: Numbering) -> None:
        """From here on machines that several processes name have the rows that it says; it is asked in the
        thread that takes."""
        self._machines.numbering = numbering

    @property
    def under_way(self) -> bool:
        """Whether a part of a window is in the books, and the rest of it not."""
        return self.position.rows_done > 0

    def mined(self, window: Window) -> Iterator[Mined]:
        """Who has good shares in a window that was just done, by the numbers of their rows."""
        for it in window.mined():
            yield msgspec.structs.replace(it, worker=self._machines.row(it.worker))

    def tallies(self, window: Window) -> list[tuple[int, bytes]]:
        """Of a window that was just done, by the numbers of their rows; each with its minute."""
        found = []
        for part in window.parts:
            if part.tallies is not None:
                records = part.tallies.copy()
                numbers, index = np.unique(records["worker"], return_inverse=True)
                records["worker"] = np.array([self._machines.row(it) for it in numbers.tolist()])[index]
                found.append((part.minute, records.tobytes()))
        return found

    def step(self, until: int | None = None, *, whole: bool = False) -> Taken | None:
        """Take some rows, of records up to that number, in one transaction; None where all of it is taken.

        After an error it may be tried again: what had happened is found out first.
        """
        if self._passed:
            self._read_again()
        if self._window is None:
            try:
                self._window = self._read(until)
            except OSError:  # of the next file: what was read before it is in no window yet
                self._read_again()
                raise
            if self._window is None:
                return None
        window, before = self._window, self.position
        if self._limits is not None and before.rows_done == 0:
            self._limits.look(window, self._machines.named, self._rates.meanings)
        parts = tuple(window.cut(before.rows_done, None if whole else ROWS_MAX))
        try:
            with self._store.write() as connection:
                found = position_of(connection, self._writer)
                if found not in (before, self._intended):
                    raise LeaseLost(TAKEN_BY_ANOTHER)
                if found == before:
                    found = self._intended = self._take(connection, window, parts)
                else:
                    self._know(connection, window, parts, whole=found.at == window.last)
        except BaseException:
            self._machines.forget()
            self._rates.forget()
            raise
        self.position, self._intended = found, None
        done = window if found.at == window.last else None
        if done is not None:
            self._window = None
        return Taken(
            tuple(self._machines.row(it.number) for part in parts for it in part.machines),
            tuple(_credited_on(parts)),
            done,
        )

    def note_moment(self, moment_s: int) -> None:
        """Whatever any journal says from here on is of that moment or later."""
        if moment_s <= self.position.moment_s:
            return
        after = msgspec.structs.replace(self.position, moment_s=moment_s)
        with self._store.write() as connection:
            if position_of(connection, self._writer) not in (self.position, after):
                raise LeaseLost(TAKEN_BY_ANOTHER)
            book_time(connection, moment_s)  # nothing in the book is of a later moment than the book
            write_position(connection, after)
        self.position = after

    def _take(self, connection: Connection, window: Window, parts: tuple[Part, ...]) -> Position:
        before = self.position
        if self._limits is not None and before.rows_done == 0:
            self._limits.check(connection, window, self._machines.named, self._rates.meanings, before)
        transaction = before.transactions + 1
        now_s = book_time(connection, window.moment_s)
        booked = self._bookings.book(connection, transaction, parts, now_s)
        if booked is None:
            raise StoreError(f"transaction {transaction} of the journal {self._writer} was booked before")
        after = msgspec.structs.replace(
            before,
            until=window.last.number,
            rows_done=before.rows_done + sum(len(part) for part in parts),
            transactions=transaction,
            accepted=before.accepted + booked.accepted,
            refused=before.refused + booked.refused,
            floor_s=window.floor_s,
        )
        if after.rows_done == window.rows:
            after = _behind(window, after)
            note_hours(connection, self._writer, window.hours)
            self._machines.know(connection, window.workers, now_s)
            self._bookings.taken(connection)
        write_position(connection, after)
        return after

    def _know(self, connection: Connection, window: Window, parts: tuple[Part, ...], *, whole: bool) -> None:
        """Machines of what a transaction has booked whose answer was lost, as if there had been one."""
        numbers = {it.number for part in parts for it in part.machines}
        now_s = book_time(connection, window.moment_s)
        self._machines.know(connection, numbers | window.workers if whole else numbers, now_s)

    @property
    def _passed(self) -> bool:
        """Whether the books have come to a later moment than what was read for them is dated at."""
        window = self._window
        idle = not self.under_way and self._intended is None
        return window is not None and idle and window.floor_s < self.position.moment_s

    def _read_again(self) -> None:
        self._walk, self._ahead, self._window = self._walk_behind(self.position.at), None, None
        self._said_s = self._said_before_s

    def _read(self, until: int | None) -> Window | None:
        """The next records, of one file. What is half taken is read as far as it was before."""
        under_way = self.under_way
        until = self.position.until if under_way else until
        batches: list[tuple[Place, Batch]] = []
        moments: list[int] = []
        accepted, size = self.position.accepted, 0
        self._said_before_s = self._said_s
        for frame in self._frames(until):
            said = self._said(frame)
            if isinstance(said, Opening):
                if batches:
                    self._ahead = frame
                    break
                self._machines.begin()
                self._rates.begin(said.version)
                said = Batch(moment_s=said.moment_s, accepted=said.accepted)
            self._said_s = max(self._said_s, said.moment_s)
            self._machines.name(said.machines)
            self._rates.define(said.rates)
            if frame.at.number <= self.position.at.number:
                continue
            accepted = said.accepted
            batches.append((frame.at, said))
            if self._limits is not None:
                moments.append(max(self._said_s, self._limits.not_before_s(frame.at.number)))
            size += len(frame.body)
            if not under_way and (len(batches) >= BATCHES_MAX or size >= BATCH_BYTES_MAX):
                break
        if under_way and (not batches or batches[-1][0].number != until):
            raise JournalDamaged(
                f"the books have a part of what is up to record {until} of the journal {self._writer}, and it"
                f" ends with record {batches[-1][0].number if batches else self.position.at.number}"
            )
        if not batches:
            return None
        floor_s = max(self._floor_s, self.position.moment_s)
        if under_way:
            floor_s = self.position.floor_s or floor_s
        return window_of(batches, last=self.position.at, accepted=accepted, floor_s=floor_s, moments=moments)

    def _frames(self, until: int | None) -> Iterator[Frame]:
        if (ahead := self._ahead) is not None:
            if until is not None and ahead.at.number > until:
                return
            self._ahead = None
            yield ahead
        yield from self._walk.frames(until)

    def _said(self, frame: Frame) -> Batch | Opening:
        try:
            said = unpacked(frame.body)
        except ValueError as error:
            raise JournalDamaged(
                f"record {frame.at.number} of the journal {self._writer} cannot be read: {error}"
            ) from error
        if isinstance(said, Opening) and said.book != self._book:
            raise JournalDamaged(f"the journal {self._writer} has the shares of another book than this one")
        if isinstance(said, Opening) and said.version <= BY_ROWS and self._limits is not None:
            raise JournalDamaged(f"the journal {self._writer} does not say what its rates are")
        return said


def _credited_on(parts: Iterable[Part]) -> Iterator[bytes]:
    for part in parts:
        yield from (prevhash for prevhash, _ in part.credits)
        yield from (it.prevhash for it in part.credited)


def _behind(window: Window, position: Position) -> Position:
    """All of the window is in the books."""
    if position.accepted != window.accepted:
        raise StoreError(
            f"the journal {position.writer} has {window.accepted} accepted shares up to record"
            f" {window.last.number}, and {position.accepted} of it are in the books"
        )
    return msgspec.structs.replace(position, at=window.last, rows_done=0)
