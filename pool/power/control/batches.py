"""Orders to machines that came together, and what has been answered to them, for whoever asks for it.

Must not know: what is ordered, and who is told.
"""

import secrets
from typing import Final

import msgspec
import trio

from pool.power.control.contract import Answered
from pool.questions import AnsweredWithError

BATCHES_MAX: Final = 64  # under way, or over and not asked for: one a second of an executor
KEPT_S: Final = 600.0  # answers, for who asked


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """Of a batch, from a place on; more come unless it is over."""

    answered: tuple[Answered, ...]
    over: bool


class Batch:
    """One that is under way, or over."""

    def __init__(self) -> None:
        self.answered: list[Answered] = []
        self.over = False
        self.touched_s = trio.current_time()

    def end(self) -> None:
        self.over = True
        self.touched_s = trio.current_time()


class Batches:
    """By their numbers."""

    def __init__(self) -> None:
        self._batches: dict[int, Batch] = {}
        self._number = secrets.randbelow(1 << 60)  # no two processes count from the same

    def begin(self) -> tuple[int, Batch]:
        """A new one. Raises AnsweredWithError where there are too many."""
        self._forget()
        if len(self._batches) >= BATCHES_MAX:
            raise AnsweredWithError(f"{BATCHES_MAX} batches are under way already")
        self._number += 1
        self._batches[self._number] = batch = Batch()
        return self._number, batch

    def answers(self, number: int, after: int) -> Answers:
        """Without the first `after` of them. Raises AnsweredWithError for a number that is nobody's."""
        found = self._batches.get(number)
        if found is None:
            raise AnsweredWithError("there is no such batch: this process began later")
        found.touched_s = trio.current_time()
        return Answers(answered=tuple(found.answered[max(0, after) :]), over=found.over)

    def _forget(self) -> None:
        now_s = trio.current_time()
        for number, it in list(self._batches.items()):
            if it.over and now_s - it.touched_s > KEPT_S:
                del self._batches[number]
        over = [number for number, it in self._batches.items() if it.over]
        for number in over[: max(0, len(self._batches) - BATCHES_MAX + 1)]:
            del self._batches[number]
