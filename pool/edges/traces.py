"""Traces that run wherever a machine may come: each is one on every process that serves miners.

What they keep is fetched when somebody reads, put in the order of its time, and numbered anew: a line has a
number, whoever kept it, and a connection too. Where there is one process both are its own.

Invariants: as many traces as one process has, and of each what one of them would keep; all are asked at the
same time, so one that is silent, or will not, keeps what the others have from nobody. Must not know: what a
line means.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Final

import msgspec
import trio

from pool.edges.edge import Edge
from pool.link import LinkClosed
from pool.questions import AnsweredWithError
from stratum.miners.traces.traces import (
    KEPT_BYTES_MAX,
    TRACES_MAX,
    UNREAD_S,
    TooManyTraces,
    TracedLine,
    TraceView,
    kept_bytes,
)

ANSWER_S: Final = 10.0  # of the longest view, a megabyte, over a line of one megabit
FULL: Final = f"there are {TRACES_MAX} traces already: each ends when nobody reads it"

NOTHING_NEW: Final = TraceView(lines=(), missed=0)


class EdgesTrace:
    """One trace: the number that it has at each of them, and how far that is read."""

    def __init__(self, edges: Sequence[Edge], numbers: Sequence[int | None]) -> None:
        self.read_s = trio.current_time()
        self._edges = edges
        self._numbers: list[int | None] = list(numbers)  # None: over there
        self._after = [0] * len(numbers)
        self._lines: deque[TracedLine] = deque()
        self._bytes = 0
        self._next = 1
        self._one_at_a_time = trio.Lock()

    async def view(self, after: int) -> TraceView | None:
        """Lines with numbers above `after`; None when it is over everywhere."""
        async with self._one_at_a_time:
            self.read_s = trio.current_time()
            views = await self._views()
            new: list[list[TracedLine]] = []
            for at, view in enumerate(views):
                if view is None:
                    self._numbers[at] = None
                    continue
                if view.missed:  # more than is kept came since somebody read: what is kept has no gap
                    self._next += view.missed
                    self._lines.clear()
                    self._bytes = 0
                self._after[at] += view.missed + len(view.lines)
                new.append([_of_edge(it, at, len(self._edges)) for it in view.lines])
            if all(it is None for it in self._numbers):
                return None
            self._keep(heapq.merge(*new, key=lambda it: it.at_ms))
            first = self._lines[0].number if self._lines else self._next
            lines = tuple(it for it in self._lines if it.number > after)
            return TraceView(lines=lines, missed=max(0, first - after - 1))

    async def _views(self) -> list[TraceView | None]:
        """What is new at each; nothing of one that is silent, and None where it is over."""
        views: list[TraceView | None] = [None if it is None else NOTHING_NEW for it in self._numbers]

        async def view(at: int, number: int) -> None:
            with trio.move_on_after(ANSWER_S):
                try:
                    views[at] = await self._edges[at].trace(number, self._after[at])
                except (LinkClosed, AnsweredWithError):
                    views[at] = None

        async with trio.open_nursery() as nursery:
            for at, number in enumerate(self._numbers):
                if number is not None:
                    nursery.start_soon(view, at, number)
        return views

    def _keep(self, new: Iterable[TracedLine]) -> None:
        for line in new:
            self._lines.append(msgspec.structs.replace(line, number=self._next))
            self._next += 1
            self._bytes += kept_bytes(line)
        while self._bytes > KEPT_BYTES_MAX:
            self._bytes -= kept_bytes(self._lines.popleft())


class EdgesTraces:
    """All of them."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        self._edges = edges
        self._traces: dict[int, EdgesTrace] = {}
        self._number = 0

    async def start(self, name: str | None, address: str | None, seconds: int) -> int:
        """Its number. Raises TooManyTraces."""
        now_s = trio.current_time()
        for number in [it for it, trace in self._traces.items() if now_s - trace.read_s >= UNREAD_S]:
            del self._traces[number]
        if len(self._traces) >= TRACES_MAX:
            raise TooManyTraces(FULL)
        edges = tuple(self._edges)
        began: dict[int, int | None] = {}  # where somebody answered

        async def begin(at: int, edge: Edge) -> None:
            with trio.move_on_after(ANSWER_S), suppress(LinkClosed, AnsweredWithError):
                began[at] = await edge.start_trace(name, address, seconds)

        async with trio.open_nursery() as nursery:
            for at, edge in enumerate(edges):
                nursery.start_soon(begin, at, edge)
        numbers = [began.get(at) for at in range(len(edges))]
        if None in began.values() and all(it is None for it in numbers):
            raise TooManyTraces(FULL)
        self._number += 1
        self._traces[self._number] = EdgesTrace(edges, numbers)
        return self._number

    async def view(self, number: int, after: int) -> TraceView | None:
        """Its lines with numbers above `after`; None when it is over."""
        trace = self._traces.get(number)
        view = None if trace is None else await trace.view(after)
        if view is None:
            self._traces.pop(number, None)
        return view


def _of_edge(line: TracedLine, at: int, of: int) -> TracedLine:
    """No two connections of different edges have the same number."""
    return msgspec.structs.replace(line, connection=(line.connection - 1) * of + at + 1)
