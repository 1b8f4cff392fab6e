"""The latest of many values, handed on at most every so many seconds.

For what others may say without end: it must take neither our time nor anybody else's. A value that was
overtaken while it waited is never handed on. An urgent one waits less, and so does whatever overtakes it.

Must not know: what the values are, and who says them.
"""

import math
from typing import Generic, TypeVar

import trio

T = TypeVar("T")


class Paced(Generic[T]):
    """`gap_s` apart; `urgent_gap_s` where it is urgent. One task waits for what others put here."""

    def __init__(self, gap_s: float, *, urgent_gap_s: float | None = None) -> None:
        self._gap_s = gap_s
        self._urgent_gap_s = gap_s if urgent_gap_s is None else urgent_gap_s
        self._handed_on_s = -math.inf
        self._latest: tuple[T, bool] | None = None
        self._changed = trio.Event()

    @property
    def latest(self) -> T | None:
        """What waits to be handed on."""
        return None if self._latest is None else self._latest[0]

    def put(self, value: T, *, urgent: bool = False) -> None:
        """It takes the place of what waits."""
        self._latest = value, urgent or (self._latest is not None and self._latest[1])
        self._changed.set()

    def drop(self) -> None:
        """What waits is of no use any more."""
        self._latest = None

    async def due(self) -> T:
        """The latest value, once it may be handed on. It waits on, and may be overtaken, until `hand_on`."""
        await trio.lowlevel.checkpoint()
        while True:
            due_s = math.inf
            if self._latest is not None:
                value, urgent = self._latest
                due_s = self._handed_on_s + (self._urgent_gap_s if urgent else self._gap_s)
                if trio.current_time() >= due_s:
                    return value
            self._changed = trio.Event()
            with trio.move_on_at(due_s):
                await self._changed.wait()

    def hand_on(self) -> bool:
        """What waits is handed on now; whether it was urgent."""
        urgent = self._latest is not None and self._latest[1]
        self._latest, self._handed_on_s = None, trio.current_time()
        return urgent
