"""Whose turn it is, where there is not enough for everybody at once: one source after the other, then one
connection of it after the other.

Who asks a thousand times at one source waits for its own thousand; who asks once at another is next. Nobody
is here more than once, so the queue is as bounded as the connections are. Must not know: what a turn is for.
"""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Items that wait, by source; whoever adds one sees to it that it is not here already."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[Item]] = OrderedDict()
        self._size = 0

    def add(self, source: str, item: Item) -> None:
        """To the end of those of its source."""
        waiting = self._waiting.get(source)
        if waiting is None:
            waiting = self._waiting[source] = deque()
        waiting.append(item)
        self._size += 1

    def next(self) -> Item:
        """Take the one whose turn it is; its source is the last one from here on."""
        source, waiting = next(iter(self._waiting.items()))
        item = waiting.popleft()
        if waiting:
            self._waiting.move_to_end(source)
        else:
            del self._waiting[source]
        self._size -= 1
        return item

    def __len__(self) -> int:
        return self._size
