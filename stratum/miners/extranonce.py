"""Extranonce1 allocation: which prefix of the search space belongs to which session.

Two sessions with one prefix would do each other's work, and their shares would be duplicates. So a prefix
on which work was credited is free again only when no job that was out while it was in use is live any more.
Others are kept for a while, in case their session comes back, and go first: whoever only comes and goes costs
no prefix and no memory.

A prefix is given before a name is said. Where there is none left, who has one and does not say its name makes
room: the space of an upstream may have 256 places, and anybody can ask for one.
"""

import itertools
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, Protocol

# Difficulties of sessions that left, and prefixes without work, for those that resume: one reconnect of the
# largest site.
PARKED_MAX = 65_536
# A machine says its name as soon as it has its extranonces; in the rush of a whole site within some seconds.
UNNAMED_S = 3.0

# What stays with an extranonce1: from which job on work has which difficulty, as Engine.pins() says it.
Pins = Sequence[tuple[int, int]]
PIN: Final = struct.Struct("<Qb")  # as it is parked: crowds come and go, and leave ten each at most


class ExtranonceExhausted(Exception):
    """Every prefix is in use, or still on a live job."""


class Sharer(Protocol):
    """A channel: somebody whose jobs carry prefixes."""

    @property
    def oldest_live_seq(self) -> int: ...


class Holder(Protocol):
    """The connection of a session that has a prefix."""

    def make_room(self) -> None:
        """Give it back now."""


class ExtranonceSpace:
    """Prefixes of `size` bytes, 1 to 4, for one channel or for several that sessions move between.

    Job seqs are the clock: they only grow, across all channels. `sharers` are those channels. `parked` is
    what a session left behind with its prefix: the difficulties pinned to its jobs. `share` is which of how
    many equal parts of the prefixes is given out here, beginning with its `first`. `unnamed`
    their sessions see to that.
    """

    def __init__(self, size: int, *, first: int = 0, share: tuple[int, int] = (0, 1)) -> None:
        if not 1 <= size <= 4:
            raise ValueError("an extranonce1 has 1 to 4 bytes")
        self.size = size
        self.sharers: list[Sharer] = []
        self.parked: OrderedDict[bytes, bytes] = OrderedDict()
        self._left = b""  # by who left last: whoever leaves with him leaves the same
        self._parties: dict[bytes, int] = {}  # whose those sessions were, of whom that is known
        self.unnamed: OrderedDict[Holder, float] = OrderedDict()  # longest first
        part, of = share
        self.capacity = (1 << 8 * size) // of
        self._base = part * self.capacity
        self._first = first
        self._next = 0  # never handed out so far, from here on, counted from the first
        self._in_use: dict[bytes, bool] = {}  # whether work was credited on it by an earlier session
        self.unworked: OrderedDict[int, None] = OrderedDict()  # given back without work, longest ago first
        # Prefix -> the newest job at its release; longest rested first. As many as left while one job lives:
        # whoever comes later takes one of these.
        self.resting: OrderedDict[int, int] = OrderedDict()

    def _rested(self) -> int | None:
        """The prefix that rested longest, if that was long enough."""
        prefix = next(iter(self.resting), None)
        if prefix is None or not self.sharers:
            return None
        seq = self.resting[prefix]
        return prefix if all(seq < sharer.oldest_live_seq for sharer in self.sharers) else None

    @property
    def _exhausted(self) -> bool:
        return self._next >= self.capacity and not self.unworked and self._rested() is None

    def _overdue(self, now_s: float) -> Holder | None:
        """Who should have said its name by now."""
        holder, since_s = next(iter(self.unnamed.items()), (None, now_s))
        return holder if now_s - since_s >= UNNAMED_S else None

    def full(self, now_s: float) -> bool:
        """Whether there is no prefix to be had."""
        return self._exhausted and self._overdue(now_s) is None

    def make_room(self, now_s: float) -> None:
        """For one more, if there is none and somebody can."""
        if self._exhausted and (holder := self._overdue(now_s)) is not None:
            holder.make_room()

    def has_room(self, prefixes: int) -> bool:
        """Whether there are so many to be had."""
        oldest_live_seq = min((sharer.oldest_live_seq for sharer in self.sharers), default=0)
        rested = itertools.takewhile(lambda seq: seq < oldest_live_seq, self.resting.values())
        wanted = prefixes - (self.capacity - self._next) - len(self.unworked)
        return wanted <= 0 or sum(1 for _ in itertools.islice(rested, wanted)) == wanted

    def allocate(self) -> bytes:
        """A prefix that no live job carries. Raises ExtranonceExhausted."""
        rested = self._rested()
        if rested is not None:
            del self.resting[rested]
            self._take(rested.to_bytes(self.size, "big"))
            prefix = rested
        elif self._next < self.capacity and len(self.unworked) < PARKED_MAX:
            prefix = self._base + (self._first + self._next) % self.capacity
            self._next += 1
        elif self.unworked:
            prefix, _ = self.unworked.popitem(last=False)  # what was in force for it goes on: see `inherited`
        else:
            raise ExtranonceExhausted(f"all {self.capacity} extranonce1 values are in use")
        extranonce1 = prefix.to_bytes(self.size, "big")
        self._in_use[extranonce1] = False
        return extranonce1

    def party_of(self, extranonce1: bytes) -> int | None:
        """Whose a prefix was that is to be resumed; None: nobody's that is known."""
        return self._parties.get(extranonce1)

    def resume(self, extranonce1: bytes) -> Pins | None:
        """Give a resting prefix back to the session that had it, with what it left behind.

        None if it is in use or gone, or if that is not known any more: the difficulty of its work would be
        decided again.
        """
        prefix = int.from_bytes(extranonce1, "big")
        if len(extranonce1) != self.size or not (prefix in self.resting or prefix in self.unworked):
            return None
        pins = self._take(extranonce1)
        if pins is None:
            return None
        self._in_use[extranonce1] = self.resting.pop(prefix, None) is not None
        self.unworked.pop(prefix, None)
        return pins

    def inherited(self, extranonce1: bytes) -> Pins:
        """What somebody who had no share left behind with a prefix that was allocated; nothing for a new one.

        Work that came meanwhile has a difficulty for it already.
        """
        return self._take(extranonce1) or ()

    def release(
        self,
        extranonce1: bytes,
        last_seq: int,
        pins: Pins,
        *,
        worked: bool = True,
        party: int | None = None,
        resumes: bool = True,
    ) -> None:
        """The session is gone; `last_seq` is the newest job that anybody has been given.

        `worked`: a share of it was credited, or may be yet. `party`: whose it was; `resumes`: whether it may
        come back.
        """
        prefix = int.from_bytes(extranonce1, "big")
        worked = self._in_use.pop(extranonce1) or worked or not resumes
        if worked:
            self.resting[prefix] = last_seq
        else:
            self.unworked[prefix] = None
        if not resumes:
            return
        left = b"".join(PIN.pack(*it) for it in pins)
        if left != self._left:
            self._left = left
        self.parked[extranonce1] = self._left
        if party is not None:
            self._parties[extranonce1] = party
        if len(self.parked) > PARKED_MAX:
            oldest = next(iter(self.parked))
            self._take(oldest)
            forgotten = int.from_bytes(oldest, "big")
            if forgotten in self.unworked:  # not to be had while work lives that it has a difficulty for
                del self.unworked[forgotten]
                self.resting[forgotten] = last_seq

    def _take(self, extranonce1: bytes) -> Pins | None:
        """What was left behind with it; it is not any more."""
        self._parties.pop(extranonce1, None)
        left = self.parked.pop(extranonce1, None)
        return None if left is None else list(PIN.iter_unpack(left))

    def __len__(self) -> int:
        return len(self._in_use)
