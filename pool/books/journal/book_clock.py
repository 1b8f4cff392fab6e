"""The moment that one journal is of: the clock's, but it only grows, whatever the clock does.

What is opened and what is committed is dated by the same one. So nothing that is opened after somebody was
told a moment is dated before that. Must not know: what is dated.
"""

from collections.abc import Callable


class BookClock:
    """Seconds since 1970, never before `moment_s`."""

    def __init__(self, wall_clock: Callable[[], float], moment_s: int) -> None:
        self._wall_clock, self._moment_s = wall_clock, moment_s

    def now_s(self) -> int:
        """Never before what it said before."""
        self._moment_s = max(self._moment_s, int(self._wall_clock()))
        return self._moment_s

    def reach(self, moment_s: int) -> None:
        """The books said that it is so late."""
        self._moment_s = max(self._moment_s, moment_s)
