"""The difficulty that a machine starts at when it comes back: what hours have said, whatever minutes say.

Anybody can mine under anybody's name for a while. One with a thousand times the hash power would leave the
machine without a share for hours; a slow one that goes through the names of a dark site would bring all of
its machines back at the least difficulty, and them down on the pool. So what is remembered moves a step at
a time, each after so many minutes in a row that had a share of the name: up after ten, for a machine that
starts too high is soon brought down by its silence; down after sixty, for a whole site that starts too low
is a flood.

A minute is one of the clock, by which the journal dates its batches, however often and however late they are
folded: what a minute says is known when there is a later one.

Must not know: the registry, the database.
"""

from typing import Final

import msgspec

UP_MINUTES: Final = 10
DOWN_MINUTES: Final = 60


class _Said(msgspec.Struct):
    """So many `minutes` in a row said something else than what is remembered; down: negative."""

    minutes: int
    present: int  # the minute after these, which may go on
    log2: int  # at which most of its work was, so far
    work: int


class Drift:
    """What the shares of each worker say, minute for minute."""

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}

    def after(self, worker: int, remembered_log2: int | None, minute: int, log2: int, work: int) -> int:
        """What is remembered, now that there was so much more work of this minute at this difficulty."""
        said = self._said.get(worker)
        if said is None or remembered_log2 is None:
            self._said[worker] = _Said(0, minute, log2, work)
            return log2 if remembered_log2 is None else remembered_log2
        if minute <= said.present:
            if work > said.work:
                said.log2, said.work = log2, work
            return remembered_log2
        minutes, remembered_log2 = _step(said.minutes, said.log2, remembered_log2)
        self._said[worker] = _Said(minutes, minute, log2, work)
        return remembered_log2


def _step(minutes: int, said_log2: int, remembered_log2: int) -> tuple[int, int]:
    """After one more minute: how many there are in a row, and what is remembered."""
    if said_log2 > remembered_log2:
        minutes = max(minutes, 0) + 1
    elif said_log2 < remembered_log2:
        minutes = min(minutes, 0) - 1
    else:
        return 0, remembered_log2
    if minutes >= UP_MINUTES:
        return 0, remembered_log2 + 1
    if minutes <= -DOWN_MINUTES:
        return 0, remembered_log2 - 1
    return minutes, remembered_log2
