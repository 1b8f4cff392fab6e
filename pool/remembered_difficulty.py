"""The difficulty that a machine starts at when it comes back: what hours have said, whatever minutes say.

Anybody can mine under anybody's name for a while. One with a thousand times the hash power would leave the
machine without a share for hours; a slow one that goes through the names of a dark site would bring all of
its machines back at the least difficulty, and them down on the pool. So what is remembered moves a step at
a time, each after so many minutes in a row that had a share of the name: up after ten, for a machine that
starts too high is soon brought down by its silence; down after sixty, for a whole site that starts too low
is a flood.

Must not know: the registry, the database.
"""

from typing import Final

UP_MINUTES: Final = 10
DOWN_MINUTES: Final = 60


class Drift:
    """Minutes in a row that a worker's shares said something else than what is remembered; down: negative."""

    def __init__(self) -> None:
        self._minutes: dict[int, int] = {}

    def after(self, worker: int, remembered_log2: int | None, mined_log2: int) -> int:
        """What is remembered after one more minute, most of whose work was at this difficulty."""
        minutes = self._minutes.pop(worker, 0)
        if remembered_log2 is None:
            return mined_log2
        if mined_log2 > remembered_log2:
            minutes = max(minutes, 0) + 1
        elif mined_log2 < remembered_log2:
            minutes = min(minutes, 0) - 1
        else:
            return remembered_log2
        if minutes >= UP_MINUTES:
            return remembered_log2 + 1
        if minutes <= -DOWN_MINUTES:
            return remembered_log2 - 1
        self._minutes[worker] = minutes
        return remembered_log2
