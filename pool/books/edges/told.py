"""When an edge at another site was told of what was changed here: since then it works by that.

Whoever has taken over an edge would have its shares paid by terms of before, and its blocks divided by those
of now, or the other way round, and be paid twice. Each time that an edge is heard of it is told of all
changes; while nothing is heard of it, it is not. So by which terms it worked at a moment follows from when we
heard of it, whatever it says, but for some hours around that.

Known since this hub began; of a change before that as much as the last sign of life before it says. Must not
know: terms, shares, blocks.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final

SILENT_S: Final = 120  # between two signs of life, which come every ten seconds
# A job is mined until the next block, for which one has to wait for longer in 160,000 cases, and the time in
# a header is two hours off at most.
JOB_S: Final = 2 * 3_600
HEADER_S: Final = 2 * 3_600
# Of each time without a sign of life that is looked at: the longest that an edge serves on alone, and a day.
REMEMBERED_S: Final = 9 * 86_400
NEVER: Final = 1 << 62


class Told:
    """Of one edge, that was heard of last at `last_s`, before this hub began."""

    def __init__(self, last_s: int, *, wall_clock: Callable[[], float]) -> None:
        self._wall_clock = wall_clock
        self._since_s = self._last_s = last_s
        # From one sign of life to the next, ascending; replaced, for other threads ask.
        self._alone: tuple[tuple[int, int], ...] = ()

    def note(self, now_s: int) -> None:
        """It lives. Times without a sign are of SILENT_S or more: of nine days no more than 6,480."""
        if now_s - self._last_s > SILENT_S:
            if self._alone and self._alone[0][1] < now_s - REMEMBERED_S:
                self._since_s, self._alone = self._alone[0][1], self._alone[1:]
            self._alone = (*self._alone, (self._last_s, now_s))
        self._last_s = max(self._last_s, now_s)

    def between(self, changed_s: int) -> tuple[int, int]:
        """Of what was changed then it was told no sooner than the first moment, and no later than the second;
        NEVER: it was not."""
        if changed_s < self._since_s:
            return changed_s, self._since_s
        last_s, alone = self._last_s, self._alone  # in this order: what comes between is noted the other way
        at = bisect_left(alone, changed_s, key=lambda it: it[1])
        if at < len(alone) and alone[at][0] <= changed_s:
            from_s, until_s = alone[at]
            # What came right behind the last sign of life may have been told.
            return changed_s if changed_s - from_s <= SILENT_S else until_s, until_s
        if changed_s > last_s:
            # The books' time may be ahead of our clock: what is dated so was made, and nothing is of later.
            may_be = changed_s - last_s <= SILENT_S or changed_s > self._wall_clock()
            return (changed_s if may_be else NEVER), NEVER
        return changed_s, changed_s + SILENT_S

    def worked_by_it(self, at_s: int, since_s: int | None, until_s: int | None) -> bool:
        """Whether a share of that moment, or a block whose header says it, may be of a job by what held from
        then until then; None: there was nothing before it, or after it."""
        begins = -NEVER if since_s is None else self.between(since_s)[0]
        ends = NEVER if until_s is None else self.between(until_s)[1]
        return begins - HEADER_S <= at_s <= ends + JOB_S + HEADER_S
