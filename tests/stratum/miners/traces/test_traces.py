"""What passes between a machine and the pool is kept for who looks: all of his machine, nothing of others,
and no more than so much."""

import pytest

from stratum.miners.traces.traces import (
    KEPT_BYTES_MAX,
    TAPS_MAX,
    TRACES_MAX,
    UNNAMED_BYTES_MAX,
    UNREAD_S,
    Tap,
    TooManyTraces,
    Traces,
    TraceView,
)

SUBSCRIBE = b'{"id":1,"method":"mining.subscribe","params":["cgminer/4.12"]}\n'
AUTHORIZE = b'{"id":2,"method":"mining.authorize","params":["acme.c01.u1","x"]}\n'
ME, ANOTHER = 7, 8


class Miner:
    """A connection, without a socket."""

    def __init__(self, address: str = "10.0.0.1", workers: tuple[int, ...] = ()) -> None:
        self.address, self.workers = address, workers
        self.taps: tuple[Tap, ...] = ()

    def says(self, data: bytes) -> None:
        for tap in self.taps:
            tap.heard(data)

    def hears(self, data: bytes) -> None:
        for tap in self.taps:
            tap.said(data)

    def is_named(self, traces: Traces, worker: int) -> None:
        self.workers = (worker,)
        traces.spoke(self)


class Clock:
    now_s = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now_s


def seen(traces: Traces, number: int, after: int = 0) -> list[tuple[str, str]]:
    view = traces.view(number, after, 0.0)
    assert view is not None
    return [(line.way, line.text) for line in view.lines]


def test_lines_of_a_machine_that_is_here_are_kept_from_now_on_both_ways() -> None:
    traces, miner, other = Traces(Clock()), Miner(workers=(ME,)), Miner(workers=(ANOTHER,))
    miner.says(b'{"id":1}\n')
    number = traces.start(ME, None, [miner, other], seconds=60, now_s=0.0)
    miner.says(b'{"id":2}\n{"id"')
    other.says(b'{"id":9}\n')
    miner.hears(b'{"id":2,"result":true,"error":null}\n')
    miner.says(b":3}\n")
    assert seen(traces, number) == [
        ("note", "is here already"),
        ("in", '{"id":2}'),
        ("out", '{"id":2,"result":true,"error":null}'),
        ("in", '{"id":3}'),
    ]
    assert seen(traces, number, after=3) == [("in", '{"id":3}')]
    assert other.taps == ()


def test_a_machine_that_comes_back_is_kept_from_its_first_line_on_and_a_neighbour_is_forgotten() -> None:
    traces, miner = Traces(Clock()), Miner(workers=(ME,))
    number = traces.start(ME, None, [miner], seconds=60, now_s=0.0)
    traces.left(miner, "left")
    again, neighbour, stranger = Miner(), Miner(), Miner("10.9.9.9")
    for it in (again, neighbour, stranger):
        traces.arrived(it)
        it.says(SUBSCRIBE)
    assert stranger.taps == ()
    assert len(seen(traces, number)) == 2
    neighbour.is_named(traces, ANOTHER)
    again.says(AUTHORIZE)
    again.is_named(traces, ME)
    assert neighbour.taps == ()
    assert seen(traces, number)[1:] == [
        ("note", "the connection ends: left"),
        ("note", "connects"),
        ("in", SUBSCRIBE.decode().strip()),
        ("in", AUTHORIZE.decode().strip()),
    ]


def test_a_machine_that_comes_from_elsewhere_is_kept_from_its_name_on() -> None:
    traces, miner = Traces(Clock()), Miner("10.2.2.2")
    number = traces.start(ME, None, [], seconds=60, now_s=0.0)
    traces.arrived(miner)
    miner.says(SUBSCRIBE)
    miner.is_named(traces, ME)
    miner.says(b"{}\n")
    assert seen(traces, number) == [("note", "has come from another address"), ("in", "{}")]


def test_of_an_address_all_is_kept_named_or_not() -> None:
    traces, miner = Traces(Clock()), Miner()
    number = traces.start(None, "10.0.0.1", [], seconds=60, now_s=0.0)
    traces.arrived(miner)
    miner.says(b"GET / HTTP/1.1\r\n")
    traces.left(miner, "no subscribe")
    assert seen(traces, number) == [
        ("note", "connects"),
        ("in", "GET / HTTP/1.1\r"),
        ("note", "the connection ends: no subscribe"),
    ]


def test_two_may_look_at_one_machine() -> None:
    traces, miner = Traces(Clock()), Miner(workers=(ME,))
    one = traces.start(ME, None, [miner], seconds=60, now_s=0.0)
    two = traces.start(None, "10.0.0.1", [miner], seconds=60, now_s=0.0)
    miner.says(b"{}\n")
    assert seen(traces, one) == seen(traces, two) == [("note", "is here already"), ("in", "{}")]


def test_a_trace_ends_after_its_time_or_when_nobody_reads_it() -> None:
    traces, miner = Traces(Clock()), Miner(workers=(ME,))
    timed = traces.start(ME, None, [miner], seconds=int(3 * UNREAD_S), now_s=0.0)
    unread = traces.start(ME, None, [miner], seconds=3600, now_s=0.0)
    for now_s in (UNREAD_S * 0.9, UNREAD_S * 1.8, UNREAD_S * 2.7):
        traces.view(timed, 0, now_s)
        traces.expire(now_s)
    assert traces.view(unread, 0, 0.0) is None
    assert len(miner.taps) == 1
    traces.expire(3 * UNREAD_S)
    assert traces.view(timed, 0, 0.0) is None
    assert not miner.taps
    assert not traces


def test_traces_their_bytes_and_their_connections_are_bounded() -> None:
    traces, crowd = Traces(Clock()), [Miner() for _ in range(TAPS_MAX + 1)]
    number = traces.start(None, "10.0.0.1", crowd, seconds=60, now_s=0.0)
    assert sum(len(it.taps) for it in crowd) == TAPS_MAX
    for _ in range(300):
        crowd[0].says(b"x" * 20_000 + b"\n")  # longer than any line that the pool reads
    view = traces.view(number, 0, 0.0)
    assert isinstance(view, TraceView)
    assert sum(len(line.text) for line in view.lines) <= KEPT_BYTES_MAX
    assert view.missed == view.lines[0].number - 1 > 0
    for _ in range(TRACES_MAX - 1):
        traces.start(ME, None, [], seconds=60, now_s=0.0)
    with pytest.raises(TooManyTraces, match="8 traces already"):
        traces.start(ME, None, [], seconds=60, now_s=0.0)
    traces.start(ME, None, [], seconds=60, now_s=UNREAD_S)  # nobody has read the others


def test_who_never_says_a_name_keeps_no_more_than_a_handshake() -> None:
    traces, miner = Traces(Clock()), Miner(workers=(ME,))
    number = traces.start(ME, None, [miner], seconds=60, now_s=0.0)
    nameless = Miner()
    traces.arrived(nameless)
    for _ in range(100):
        nameless.says(b"x" * 1000 + b"\n")
    nameless.is_named(traces, ME)
    assert sum(len(text) for _, text in seen(traces, number)) <= UNNAMED_BYTES_MAX
