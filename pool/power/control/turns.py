"""Turns: orders to one machine are carried out one after the other, as they came.

Must not know: what is ordered.
"""

import trio

from pool.power.control.contract import MachineName


class Turn:
    """Of one order to a machine."""

    def __init__(self, name: MachineName, before: trio.Event | None) -> None:
        self.name, self._before, self.is_over = name, before, trio.Event()

    async def begins(self) -> None:
        if self._before is not None:
            await self._before.wait()


class Turns:
    """Of all machines."""

    def __init__(self) -> None:
        self._last: dict[MachineName, trio.Event] = {}  # of each the end of the order that came last

    def next_of(self, name: MachineName) -> Turn:
        """Behind whatever it was told before."""
        turn = Turn(name, self._last.get(name))
        self._last[name] = turn.is_over
        return turn

    def over(self, turn: Turn) -> None:
        """Also again."""
        turn.is_over.set()
        if self._last.get(turn.name) is turn.is_over:
            del self._last[turn.name]
