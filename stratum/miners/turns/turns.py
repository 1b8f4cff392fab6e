"""Whose turn it is, where there is not enough for everybody at once: one source after the other, then one
connection of it after the other.

Who asks a thousand times at one source waits for its own thousand; who asks once at another is next. Nobody
is here more than once, nor when it has left, so the queue is as bounded as the connections are. A lane gives
turns in rounds, and leaves the time between them to others. Must not know: what a turn is for.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Generic, Protocol, TypeVar

import trio

Item = TypeVar("Item")
# Of those whose turn would be now but who are not to have one, so many are asked before others than them are
# served; in the next round the ones behind them are.
SOURCES_ASKED_MAX = 64
# A handshake has two turns where a miner waits for the answer to its first line: so many begin as end.
BEGUN_PER_ARRIVAL = 3


class Turns(Generic[Item]):
    """Items that wait, by source; whoever adds one sees to it that it is not here already."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()
        self._size = 0

    def add(self, source: str, item: Item) -> None:
        """To the end of those of its source."""
        waiting = self._waiting.get(source)
        if waiting is None:
            waiting = self._waiting[source] = OrderedDict()
        assert item not in waiting, "it waits already"
        waiting[item] = None
        self._size += 1

    def discard(self, source: str, item: Item) -> None:
        """It does not wait any more, if it did."""
        waiting = self._waiting.get(source)
        if waiting is not None and item in waiting:
            del waiting[item]
            self._size -= 1
            if not waiting:
                del self._waiting[source]

    def next(self, may: Callable[[str], bool] = lambda _: True) -> Item | None:
        """Take the one whose turn it is, of the sources that may have one; its source is the last one from
        here on. None where none of those that were asked may."""
        for _ in range(min(len(self._waiting), SOURCES_ASKED_MAX)):
            source, waiting = next(iter(self._waiting.items()))
            self._waiting.move_to_end(source)
            if may(source):
                item, _ = waiting.popitem(last=False)
                if not waiting:
                    del self._waiting[source]
                self._size -= 1
                return item
        return None

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(self._waiting.values())

    def __len__(self) -> int:
        return self._size


class Waiting(Protocol):
    """Somebody who takes turns."""

    def take_turn(self) -> int:
        """Do what was waited for; what it cost."""


class Lane:
    """Turns of one kind. A round of them costs so much, then the next one waits for so long, in proportion.

    While nobody mines there is nobody to leave time to, but for what `always_rests`. Who has begun goes
    before who arrives, three times out of four: in a rush what is begun must come to an end. Nobody who
    arrives has a turn unless its source says that they `may_arrive`.
    """

    def __init__(
        self, *, cost: int, cost_beside_miners: int, rest_s: float, always_rests: bool = False
    ) -> None:
        self.wanted = trio.Event()
        self._begun: Turns[Waiting] = Turns()
        self._arriving: Turns[Waiting] = Turns()
        self._since_arrival = 0
        self._cost, self._cost_beside_miners = cost, cost_beside_miners
        self._rest_s, self._always_rests = rest_s, always_rests
        self.may_arrive: Callable[[str], bool] = lambda _: True

    def add(self, source: str, waiting: Waiting, *, arrives: bool = False) -> None:
        """`arrives`: it has had no turn yet."""
        (self._arriving if arrives else self._begun).add(source, waiting)
        self.wanted.set()

    def discard(self, source: str, waiting: Waiting) -> None:
        """It has left: what nobody waits for must not be kept until its turn."""
        self._arriving.discard(source, waiting)
        self._begun.discard(source, waiting)

    @property
    def arriving(self) -> tuple[Waiting, ...]:
        """Those who have had no turn yet."""
        return tuple(self._arriving)

    def _next(self) -> Waiting | None:
        self._since_arrival += 1
        arrives = not len(self._begun) or self._since_arrival > BEGUN_PER_ARRIVAL
        if arrives and (waiting := self._arriving.next(self.may_arrive)) is not None:
            self._since_arrival = 0
            return waiting
        return self._begun.next()

    def round(self, *, beside_miners: bool) -> float:
        """Give some turns; how long the next ones are to wait."""
        cost, cost_max = 0, self._cost_beside_miners if beside_miners else self._cost
        while cost < cost_max and (waiting := self._next()) is not None:
            cost += waiting.take_turn()
        if not len(self):
            self.wanted = trio.Event()
        rests = beside_miners or self._always_rests or (cost < cost_max and len(self))
        return self._rest_s * max(1.0, cost / cost_max) if rests else 0.0

    def __len__(self) -> int:
        return len(self._begun) + len(self._arriving)
