"""A process that can be killed at any moment, and what tells the outside world that it is.

A kill is a moment after which nothing of the process has any effect: its disk takes nothing, its books commit
nothing, its connections are gone. What its tasks do while Trio unwinds them is done by a dead process.

Moments are counted in three kinds, and a fuse goes off at one of them: before a step of any of its tasks (so
at every await), in the middle of the disk's work, and on both sides of a commit of the books.
"""

from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum

import trio


class Moment(Enum):
    STEP = "a step of a task"
    DISK = "the disk"
    BOOKS = "a commit of the books"


class Killed(BaseException):
    """Raised where a dead process would go on. Not an Exception: nobody recovers from it."""


class Process:
    """`on_kill` is told at once, while what was said before is still on its way."""

    def __init__(self, name: str, on_kill: Callable[[], None]) -> None:
        self.name = name
        self.alive = True
        self.failure_expected = False  # its disk has failed it, or it lost its lease: it is to stop by itself
        self.moments: Counter[Moment] = Counter()
        self.scope = trio.CancelScope()
        self._on_kill = on_kill
        self._fuse: tuple[Moment, int] | None = None

    def light(self, moment: Moment, after: int) -> None:
        """Be killed at a moment of that kind, so many of them from now."""
        self._fuse = moment, self.moments[moment] + after

    def passes(self, moment: Moment) -> None:
        """A moment of that kind. Raises Killed, now or because it has been."""
        if self.counts(moment) or not self.alive:
            raise Killed(self.name)

    def counts(self, moment: Moment) -> bool:
        """Whether that moment kills it."""
        if not self.alive:
            return False
        self.moments[moment] += 1
        if self._fuse is None or self._fuse[0] is not moment or self.moments[moment] < self._fuse[1]:
            return False
        self.kill()
        return True

    def kill(self) -> None:
        """Nothing that it does from here on has any effect."""
        if self.alive:
            self.alive = False
            self._on_kill()
            self.scope.cancel()


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Steps(trio.abc.Instrument):
    """Counts the steps of the tasks of all processes."""

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        process = task.context.get(PROCESS)
        if process is not None:
            process.counts(Moment.STEP)
