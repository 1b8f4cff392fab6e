"""Traces: the lines between machines and the pool, kept as they pass for somebody who looks at them.

A trace is of a worker, or of an address for a machine that does not come as far as its name. Of a worker's
connections lines are kept from the first one on where it comes from the address that it was last at; what
turns out to be another's is forgotten.

Invariants: a connection that nobody traces costs a look at nothing; traces are few, keep a bounded number of
bytes, and end by themselves: after their time, or when nobody reads them. A miner never waits for one.
Must not know: what is done with lines, who may look.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol

import msgspec

from stratum.figures import Count
from stratum.miners.traces.line_words import LineWords

TRACES_MAX: Final = 8  # people that look at the same time
TRACE_S_MAX: Final = 3_600
UNREAD_S: Final = 60.0  # who looks asks every second
TAPS_MAX: Final = 512  # connections of a trace: a container behind one address
KEPT_BYTES_MAX: Final = 1 << 20  # of a trace: an hour of a machine; the oldest leave first
LINE_BYTES_MAX: Final = 8_192  # of a line that is kept, as of one that the pool reads
LINE_OVERHEAD_BYTES: Final = 256
UNNAMED_BYTES_MAX: Final = 16_384  # of a connection before it has said its name: a handshake and its answers


class TooManyTraces(Exception):
    """In words."""


class TracedLine(msgspec.Struct, frozen=True, kw_only=True):
    """`way` is in (from the miner), out, or note (from nobody: what became of the connection)."""

    number: Count
    at_ms: Count  # since 1970
    connection: Count
    address: str
    way: str
    text: str
    words: str


def kept_bytes(line: TracedLine) -> int:
    """What it counts for among those that are kept."""
    return len(line.text) + len(line.words) + LINE_OVERHEAD_BYTES


class TraceView(msgspec.Struct, frozen=True, kw_only=True):
    """What a trace has after a line; `missed` were there and had to leave."""

    lines: tuple[TracedLine, ...]
    missed: Count


class Trace:
    """What is kept of one worker, or of one address."""

    def __init__(self, worker: int | None, address: str | None, until_s: float, now_s: float) -> None:
        self.worker, self.address, self.until_s = worker, address, until_s
        self.read_s = now_s
        self.taps = 0
        self._lines: deque[TracedLine] = deque()
        self._bytes = 0
        self._next = 1

    def keep(self, at_ms: int, tap: "Tap", way: str, text: str, words: str) -> None:
        line = TracedLine(
            number=self._next,
            at_ms=at_ms,
            connection=tap.number,
            address=tap.address,
            way=way,
            text=text,
            words=words,
        )
        self._lines.append(line)
        self._next += 1
        self._bytes += kept_bytes(line)
        while self._bytes > KEPT_BYTES_MAX:
            self._bytes -= kept_bytes(self._lines.popleft())

    def wants(self, connection: "Traced") -> bool:
        if self.worker is None:
            return connection.address == self.address
        return self.worker in connection.workers

    def view(self, after: int) -> TraceView:
        first = self._lines[0].number if self._lines else self._next
        lines = tuple(it for it in self._lines if it.number > after)
        return TraceView(lines=lines, missed=max(0, first - after - 1))


class Tap:
    """On one connection: makes lines of what passes, and keeps them for one trace.

    Before the connection has said a name that is traced they wait here.
    """

    __slots__ = (
        "_parts",
        "_waiting",
        "_waiting_bytes",
        "_wall_clock",
        "_words",
        "address",
        "number",
        "trace",
    )

    def __init__(
        self, trace: Trace, number: int, address: str, *, named: bool, wall_clock: Callable[[], float]
    ) -> None:
        self.trace, self.number, self.address = trace, number, address
        self._wall_clock = wall_clock
        self._parts = {"in": b"", "out": b""}
        self._words = LineWords()
        self._waiting: list[tuple[int, str, str, str]] | None = None if named else []
        self._waiting_bytes = 0

    @property
    def named(self) -> bool:
        return self._waiting is None

    def name(self) -> None:
        """It is who is traced: what waited is kept."""
        waiting, self._waiting = self._waiting or [], None
        for at_ms, way, text, words in waiting:
            self.trace.keep(at_ms, self, way, text, words)

    def heard(self, data: bytes) -> None:
        self._pass("in", data)

    def said(self, data: bytes) -> None:
        self._pass("out", data)

    def note(self, text: str) -> None:
        """What became of the connection."""
        self.keep("note", text, "")

    def _pass(self, way: str, data: bytes) -> None:
        *lines, rest = (self._parts[way] + data).split(b"\n")
        for line in lines:
            now_s = self._wall_clock()
            words = self._words.heard(line, now_s) if way == "in" else self._words.said(line, now_s)
            self.keep(way, line[:LINE_BYTES_MAX].decode(errors="backslashreplace"), words)
        self._parts[way] = rest[:LINE_BYTES_MAX]

    def keep(self, way: str, text: str, words: str) -> None:
        """What passed, and what it means: of a protocol that has no lines."""
        at_ms = int(self._wall_clock() * 1000)
        if self._waiting is None:
            self.trace.keep(at_ms, self, way, text, words)
            return
        self._waiting_bytes += len(text) + len(words) + LINE_OVERHEAD_BYTES
        if self._waiting_bytes <= UNNAMED_BYTES_MAX:
            self._waiting.append((at_ms, way, text, words))


class Traced(Protocol):
    """What is traced of a connection: where it comes from, and the taps that are told what passes."""

    address: str
    taps: tuple[Tap, ...]

    @property
    def workers(self) -> Collection[int]:
        """Numbers of those that it is authorised for."""


class Traces:
    """All of a switchboard's; times are of its own clock, those of lines are `wall_clock`'s."""

    def __init__(self, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._traces: dict[int, Trace] = {}
        self._number = self._connections = 0
        self._tapped: dict[Traced, None] = {}

    def __len__(self) -> int:
        return len(self._traces)

    def start(
        self,
        worker: int | None,
        address: str | None,
        connections: Iterable[Traced],
        *,
        seconds: int,
        now_s: float,
    ) -> int:
        """Of a worker, and of who comes from its address; or of an address alone. Returns its number. Raises
        TooManyTraces."""
        self.expire(now_s)
        if len(self._traces) >= TRACES_MAX:
            raise TooManyTraces(f"there are {TRACES_MAX} traces already: each ends when nobody reads it")
        self._number += 1
        trace = Trace(worker, address, now_s + min(seconds, TRACE_S_MAX), now_s)
        self._traces[self._number] = trace
        for connection in connections:
            if trace.wants(connection):
                self._tap(trace, connection, "is here already")
        return self._number

    def view(self, number: int, after: int, now_s: float) -> TraceView | None:
        """Lines with numbers above `after`; None where there is no such trace any more."""
        trace = self._traces.get(number)
        if trace is None:
            return None
        trace.read_s = now_s
        return trace.view(after)

    def arrived(self, connection: Traced) -> None:
        """Before it has said anything."""
        for trace in self._traces.values():
            if trace.address == connection.address:
                self._tap(trace, connection, "connects", named=trace.worker is None)

    def spoke(self, connection: Traced) -> None:
        """It may have said a name."""
        for trace in self._traces.values():
            tap = next((it for it in connection.taps if it.trace is trace), None)
            if tap is None:
                if trace.worker is not None and trace.worker in connection.workers:
                    self._tap(trace, connection, "has come from another address")
            elif not tap.named and trace.worker in connection.workers:
                tap.name()
            elif not tap.named and connection.workers:
                self._untap(connection, tap)

    def left(self, connection: Traced, reason: str) -> None:
        for tap in connection.taps:
            tap.note(f"the connection ends: {reason}")
            self._untap(connection, tap)

    def expire(self, now_s: float) -> None:
        """Traces whose time is over, and those that nobody reads."""
        over = [
            number
            for number, it in self._traces.items()
            if now_s >= it.until_s or now_s - it.read_s >= UNREAD_S
        ]
        gone = [self._traces.pop(number) for number in over]
        for connection in list(self._tapped) if gone else ():
            for tap in connection.taps:
                if tap.trace in gone:
                    self._untap(connection, tap)

    def _tap(self, trace: Trace, connection: Traced, note: str, *, named: bool = True) -> None:
        if trace.taps >= TAPS_MAX:
            return
        trace.taps += 1
        self._connections += 1
        tap = Tap(trace, self._connections, connection.address, named=named, wall_clock=self._wall_clock)
        connection.taps = (*connection.taps, tap)
        self._tapped[connection] = None
        tap.note(note)
        if named:
            trace.address = connection.address

    def _untap(self, connection: Traced, tap: Tap) -> None:
        tap.trace.taps -= 1
        connection.taps = tuple(it for it in connection.taps if it is not tap)
        if not connection.taps:
            del self._tapped[connection]
