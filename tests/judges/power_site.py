"""A site of machines as physics has it: who mines, who draws what, who lies; and what a pool sees of it.

Nothing here is taken from the code that is judged: watts are added up machine by machine, and shares come by
chance (dice with a printed seed), once in six seconds of whoever mines. Time is the clock of the play.
"""

from collections.abc import Callable, Collection, Sequence
from enum import Enum
from typing import Any

import numpy as np
import trio

from pool.power.control.contract import Action, Answer, Answered, Asked, MachineName
from pool.power.curtailment.course import Look, Looks

SHARE_S = 6.0
FOREVER = float("inf")


class Nature(Enum):
    """What a machine does when it is told something."""

    HONEST = "honest"
    LIAR = "liar"  # says yes, and mines on
    REFUSES = "refuses"
    AWAY = "away"  # nobody reaches it
    WAKES_ITSELF = "wakes itself"  # ten minutes after it was paused
    SLEEPS_ON = "sleeps on"  # says yes to resume, and does not until it was told four times
    LATE = "late"  # obeys a minute later
    SILENT = "silent"  # obeys, and never answers


class PowerSite:
    """Of machines by number. `epoch_s` is the wall clock when the play begins. Also who reaches them
    (pool.power.control.contract.MachineControl) and who sees their shares."""

    def __init__(
        self,
        names: dict[int, MachineName],
        watts: Sequence[int],
        idle_watts: int,
        seed: int,
        epoch_s: int,
    ) -> None:
        self.names = names
        self.numbers = list(names)
        self._row = {name: row for row, name in enumerate(names.values())}
        self._row_of = {number: row for row, number in enumerate(names)}
        self.dice = np.random.default_rng(seed)
        count = len(names)
        self.watts = np.array(watts)
        self.idle_watts = idle_watts
        self.nature = [Nature.HONEST] * count
        self._off_from = np.full(count, FOREVER)  # it mines until then
        self._on_from = np.full(count, -FOREVER)  # and from then on
        self._held_until = np.full(count, FOREVER)  # no step of a clock makes it longer
        self._told_to_mine = np.zeros(count, dtype=int)
        self._epoch_s = epoch_s - trio.current_time()
        self._looked_s = trio.current_time()
        self._last_share = self._looked_s - self.dice.exponential(SHARE_S, count)
        self.asked: list[tuple[float, Asked]] = []
        self.cut = False  # the line to the site: nothing is told and nothing is seen
        self._cut_since: float | None = None
        self.before_control: Callable[[Sequence[Asked]], None] = lambda asked: None
        self.share_listeners: list[Callable[[int, float], None]] = []

    def wall_s(self) -> float:
        return trio.current_time() + self._epoch_s

    def step_clock(self, by_s: int) -> None:
        """The pool's and the site's."""
        self._epoch_s += by_s

    def lets(self, nature: Nature, rows: Sequence[int]) -> None:
        for row in rows:
            self.nature[row] = nature

    def switch_off(self, row: int) -> None:
        """By hand: whatever it is told."""
        self._off_from[row], self._on_from[row] = trio.current_time(), FOREVER

    def has_share(self, rows: Sequence[int]) -> None:
        """Under its name, whatever it does otherwise."""
        self._last_share[list(rows)] = trio.current_time()

    # Truth

    def mining(self) -> Any:
        """Which of them mine now, as truth has it."""
        now = trio.current_time()
        self._dead_man()
        return (now < self._off_from) | (now >= self._on_from)

    def drawn_watts(self) -> int:
        return int(np.where(self.mining(), self.watts, self.idle_watts).sum())

    def off(self) -> int:
        return int((~self.mining()).sum())

    def row_of(self, number: int) -> int:
        return self._row_of[number]

    # MachineControl

    async def control(self, asked: tuple[Asked, ...]) -> tuple[Answered, ...]:
        self.before_control(asked)
        assert len({it.machine for it in asked}) == len(asked)
        answers = []
        for it in asked:
            if it.action is not Action.HOLD:
                self.asked.append((trio.current_time(), it))
            answers.append(Answered(machine=it.machine, answer=self._told(it)))
        await trio.sleep(2)
        return tuple(answers)

    def _told(self, it: Asked) -> Answer:
        row = self._row[it.machine]
        nature = self.nature[row]
        if self.cut:
            return Answer.UNKNOWN
        if nature is Nature.AWAY:
            return Answer.UNREACHED
        if it.action is Action.HOLD:
            if self._off_from[row] == FOREVER:
                return Answer.REFUSED
            self._held_until[row] = it.until_s - self._epoch_s
            return Answer.SAID_YES
        if nature is Nature.REFUSES:
            return Answer.REFUSED
        if it.action is Action.PAUSE:
            self._pause(row, nature, it.until_s - self._epoch_s)
        else:
            self._resume(row, nature, trio.current_time())
        return Answer.UNKNOWN if nature is Nature.SILENT else Answer.SAID_YES

    def _pause(self, row: int, nature: Nature, until_s: float) -> None:
        if nature is Nature.LIAR:
            return
        now = trio.current_time()
        after_s = 60.0 if nature is Nature.LATE else self.dice.uniform(1, 10)
        if not (now < self._off_from[row] or now >= self._on_from[row]):
            self._held_until[row] = until_s  # it is off already
            return
        self._off_from[row], self._on_from[row] = now + after_s, FOREVER
        self._held_until[row] = until_s
        self._told_to_mine[row] = 0
        if nature is Nature.WAKES_ITSELF:
            self._on_from[row] = now + 600

    def _resume(self, row: int, nature: Nature, at: float) -> None:
        if self._off_from[row] == FOREVER or self._on_from[row] < FOREVER:
            return
        self._told_to_mine[row] += 1
        if nature is Nature.SLEEPS_ON and self._told_to_mine[row] < 4:
            return
        self._on_from[row] = at + self.dice.uniform(60, 180)
        self._held_until[row] = FOREVER

    def _dead_man(self) -> None:
        """Whoever is held by nobody any more is told to mine, by who holds it at the site."""
        for row in np.flatnonzero(self._held_until <= trio.current_time()):
            if self.nature[row] is Nature.AWAY:
                continue  # it cannot be told; its time is over all the same, and it is tried again
            self._resume(int(row), self.nature[row], self._held_until[row])
            if self.nature[row] is Nature.SLEEPS_ON:
                self._held_until[row] = trio.current_time() + 60  # told again

    # Shares, as the pool sees them

    async def look_around(self, waited_for: Collection[int]) -> None:
        """They come from where its machines are."""

    def looks(self) -> Looks:
        now = trio.current_time()
        if self.cut and self._cut_since is None:
            self._see(now)
            self._cut_since = now
        if not self.cut:
            self._cut_since = None
            self._see(now)
        seen_s = now if self._cut_since is None else self._cut_since
        ages = now - self._last_share
        silent = np.maximum(seen_s - self._last_share, 0.0)
        if self._cut_since is not None:  # what came since nobody knows
            silent = np.minimum(silent, np.maximum(self._cut_since - self._last_share, 0.0))
        rows = self._row_of

        def look(worker: int) -> Look:
            row = rows[worker]
            return Look(age_s=float(ages[row]), silent_s=float(silent[row]))

        return look

    def _see(self, now: float) -> None:
        """Shares since the last look: the last one before the machine stopped, or before now."""
        since, self._looked_s = self._looked_s, now
        self._dead_man()
        gaps = self.dice.exponential(SHARE_S, len(self._last_share))
        came = self._on_from > since
        last = np.where(now < self._off_from, now, np.where(now >= self._on_from, now, self._off_from))
        first = np.where((now >= self._on_from) & came, np.maximum(since, self._on_from), since)
        at = last - gaps
        fresh = (at > first) & (last > since)
        self._last_share = np.where(fresh, np.maximum(at, self._last_share), self._last_share)
        back = now >= self._on_from
        self._off_from[back], self._on_from[back] = FOREVER, -FOREVER
