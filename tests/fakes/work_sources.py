"""Work sources: what is found on their channels they keep, or tell."""

from collections.abc import Callable

from stratum.job import Solution
from stratum.miners.channel import WorkSource


class SourceThatKeeps:
    """Keeps what was found; it goes nowhere."""

    def __init__(self) -> None:
        self.solutions: list[Solution] = []

    def on_solution(self, solution: Solution) -> None:
        self.solutions.append(solution)


class SourceThatTells:
    """Tells what was found before it gives it on."""

    def __init__(self, tell: Callable[[Solution], object], source: WorkSource) -> None:
        self._tell = tell
        self._source = source

    def on_solution(self, solution: Solution) -> None:
        self._tell(solution)
        self._source.on_solution(solution)
