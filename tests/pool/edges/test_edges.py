"""Everybody who serves miners is asked as if they were one."""

from collections.abc import Iterator, Mapping
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from pool.edges.edge import EdgeRoutes
from pool.edges.edges import ANSWER_S, Edges, SiteProcess, merged_drain, merged_firmware, merged_unlisted
from pool.edges.figures import NOBODY
from pool.edges.traces import ANSWER_S as TRACE_ANSWER_S
from pool.fleet.registry import UnlistedWorker
from pool.fleet.registry_error import RegistryError
from pool.questions import AnsweredWithError
from pool.readiness import HubLook, Readiness
from pool.routing.drain import DrainStatus
from pool.routing.status import RouteStatus
from stratum.miners.firmware import ORDERS_MAX, OTHER, Firmware, FirmwareBook
from stratum.miners.traces.traces import (
    KEPT_BYTES_MAX,
    LINE_OVERHEAD_BYTES,
    TRACES_MAX,
    UNREAD_S,
    Tap,
    TooManyTraces,
    Traces,
    TraceView,
)
from tests.fakes.edges import edges_of


def unlisted(number: int, unit: str) -> UnlistedWorker:
    return UnlistedWorker(
        id=number,
        tenant_id=1,
        tenant="acme",
        container="c01",
        unit=unit,
        agent=None,
        first_seen_at_s=None,
        new=False,
    )


def test_machines_without_a_row_are_told_by_number_and_each_once() -> None:
    here = [unlisted(1, "u1"), unlisted(5, "u5"), unlisted(9, "both")]
    there = [unlisted(3, "u3"), unlisted(4, "both"), unlisted(6, "u6")]
    found = merged_unlisted([here, there], 9)
    assert [it.id for it in found] == [1, 3, 4, 5, 6]
    assert merged_unlisted([here, there], 4) == found[:4]


class EdgeThatKnows:
    """The answers to what it is asked."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, question: str) -> Any:
        async def answer(*arguments: Any) -> Any:
            self.asked.append((question, *arguments))
            return self._answers[question]

        return answer


async def test_what_is_in_no_tally_adds_up_and_a_machine_is_where_it_came_first() -> None:
    one = EdgeThatKnows(uncharged=[1, 2, 3], find_unlisted=unlisted(7, "u"))
    two = EdgeThatKnows(uncharged=[10, 20, 30], find_unlisted=unlisted(5, "u"))
    three = EdgeThatKnows(uncharged=[0, 0, 1], find_unlisted=None)
    edges = edges_of(one, two, three)
    assert await edges.uncharged("acme.c01.u", None, 20_000) == [11, 22, 34]
    assert one.asked == two.asked == [("uncharged", "acme.c01.u", None, 20_000)]
    assert await edges.find_unlisted("acme", "c01", "u") == unlisted(5, "u")
    assert await edges_of(three).find_unlisted("acme", "c01", "u") is None


def test_a_drain_lasts_until_the_last_of_all_has_left() -> None:
    going = DrainStatus(draining=True, left=5, of=50, ends_in_s=7)
    gone = DrainStatus(draining=True, left=0, of=40, ends_in_s=0)
    assert merged_drain([going, gone]) == DrainStatus(draining=True, left=5, of=90, ends_in_s=7)
    assert merged_drain([going]) == going


class EdgeThatHangs:
    """It never answers."""

    def __getattr__(self, question: str) -> Any:
        return self._asked

    async def _asked(self, *arguments: Any) -> None:
        await trio.sleep_forever()


async def test_one_that_hangs_keeps_the_answers_of_the_others_from_nobody(autojump_clock: MockClock) -> None:
    answers = edges_of(EdgeThatKnows(find_unlisted=unlisted(5, "u")), EdgeThatHangs())
    assert await answers.find_unlisted("acme", "c01", "u") == unlisted(5, "u")
    assert trio.current_time() == ANSWER_S


async def test_what_is_told_all_the_time_waits_once_for_one_that_hangs(autojump_clock: MockClock) -> None:
    """Prometheus gives up on who takes ten seconds, and a page says that nothing is live after 15."""
    answers = edges_of(
        EdgeThatKnows(figures=NOBODY, routes=EdgeRoutes(upstreams=(), misplaced={7: 3})), EdgeThatHangs()
    )
    assert await answers.now() == (NOBODY, RouteStatus())
    assert trio.current_time() == ANSWER_S


async def test_a_hub_says_at_once_whether_it_is_ready_while_a_site_hangs(autojump_clock: MockClock) -> None:
    lease = SimpleNamespace(held_s=trio.current_time(), books_away=False)
    look = HubLook(node=True, nats=True, edges=1, heard=0)
    conditions = await Readiness(cast(Any, lease), lambda: look).now(edges_of(EdgeThatHangs()))
    assert {it.name: it.good for it in conditions} == dict.fromkeys(("node", "nats", "edges", "lease"), True)
    assert trio.current_time() == 0


async def test_one_that_answers_with_an_error_is_as_one_that_is_away() -> None:
    class EdgeThatFails(EdgeThatKnows):
        def __getattr__(self, name: str) -> Any:
            async def ask(*given: object) -> Any:
                raise AnsweredWithError("what was answered is no answer")

            return ask

    answers = edges_of(EdgeThatFails(), EdgeThatKnows(find_unlisted=unlisted(5, "u")))
    assert await answers.find_unlisted("acme", "c01", "u") == unlisted(5, "u")


async def test_a_drain_that_runs_is_known_to_who_starts_another(autojump_clock: MockClock) -> None:
    gone = DrainStatus(draining=True, left=0, of=0, ends_in_s=0)
    edges = edges_of(EdgeThatKnows(drain=gone, end_drain=gone))
    assert edges.drains_s is None
    await edges.drain(60)
    await trio.sleep(20)
    assert edges.drains_s == 40
    await trio.sleep(100)
    assert edges.drains_s == 0, "all have been asked to go, and nobody is let in"
    await edges.end_drain()
    assert edges.drains_s is None


async def test_a_drain_of_one_edge_is_of_its_process_and_of_nobody_else(autojump_clock: MockClock) -> None:
    going = DrainStatus(draining=True, left=3, of=9, ends_in_s=60)
    north, south = EdgeThatKnows(drain=going, end_drain=going, drain_status=going), EdgeThatKnows()
    sites = {"north": north, "south": south}
    edges = Edges(list(sites.values()), orders=lambda _: (), named=sites.get)
    process = SiteProcess("north", "process 1 on host 1")
    assert await edges.drain(60, process) == going
    assert await edges.drain_status("north") == going
    await trio.sleep(20)
    assert (edges.drains_of(process), edges.drains_s) == (40, None)
    assert edges.drains_of(SiteProcess("north", "process 2 on host 1")) is None, "it was started again"
    assert edges.drains_of(SiteProcess("south", "process 1 on host 1")) is None
    assert south.asked == []
    assert await edges.end_drain("north") == going
    assert edges.drains_of(process) is None


async def test_an_edge_that_does_not_answer_is_not_said_to_be_empty(autojump_clock: MockClock) -> None:
    edges = Edges([], orders=lambda _: (), named={"north": EdgeThatHangs()}.get)
    for name in ("north", "west"):
        with pytest.raises(RegistryError, match=f"edge '{name}' does not answer"):
            await edges.drain_status(name)


def seen(book: FirmwareBook, agent: str, **counts: int) -> Firmware:
    kind = book.begin(agent)
    for name, value in counts.items():
        setattr(kind, name, value)
    return kind


def test_sessions_of_a_firmware_are_counted_together_wherever_they_are() -> None:
    books = FirmwareBook(), FirmwareBook()
    one = seen(books[0], "bmminer/2.0.0", accepted=5, rolled=0b0011)
    two = seen(books[1], "BMMiner/2.0.0", accepted=7, rolled=0b0110)
    seen(books[1], "cgminer/4.9")
    for order in range(ORDERS_MAX):
        one.asked_in_order(f"of one {order}")
    two.asked_in_order("of one 0")
    two.asked_in_order("of two")
    both, other = merged_firmware([copies(it) for it in books])
    assert (both.name, both.sessions, both.here, both.accepted) == ("bmminer 2.0.0", 2, 2, 12)
    assert both.rolled == 0b0111
    assert (both.orders["of one 0"], both.orders[OTHER], len(both.orders)) == (2, 1, ORDERS_MAX + 1)
    assert other.name == "cgminer 4.9"
    assert merged_firmware([copies(books[0])]) == books[0].kinds


def copies(book: FirmwareBook) -> list[Firmware]:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(book.kinds), type=list[Firmware])


# Traces


class EdgeThatTraces:
    """Real traces, and a machine with connections."""

    def __init__(self, clock: Iterator[float]) -> None:
        self.traces = Traces(lambda: next(clock))
        self.here: list[Machine] = []

    async def start_trace(self, name: str | None, address: str | None, seconds: int) -> int | None:
        try:
            return self.traces.start(1, None, self.here, seconds=seconds, now_s=trio.current_time())
        except TooManyTraces:
            return None

    async def trace(self, number: int, after: int) -> TraceView | None:
        return self.traces.view(number, after, trio.current_time())

    def comes(self, address: str) -> "Machine":
        machine = Machine(address)
        self.here.append(machine)
        self.traces.arrived(machine)
        self.traces.spoke(machine)
        return machine


class Machine:
    def __init__(self, address: str) -> None:
        self.address = address
        self.taps: tuple[Tap, ...] = ()
        self.workers = {1}

    def says(self, text: str) -> None:
        for tap in self.taps:
            tap.heard(text.encode() + b"\n")


@pytest.fixture
def two() -> tuple[Edges, EdgeThatTraces, EdgeThatTraces]:
    """Each line a second after the one before it, wherever it is."""
    clock = map(float, count(1))
    one, other = EdgeThatTraces(clock), EdgeThatTraces(clock)
    return edges_of(one, other), one, other


def texts(view: TraceView | None) -> Mapping[int, str]:
    assert view is not None
    return {it.number: it.text for it in view.lines if it.way == "in"}


async def test_a_machine_that_comes_back_elsewhere_is_traced_on(
    two: tuple[Edges, EdgeThatTraces, EdgeThatTraces], autojump_clock: trio.testing.MockClock
) -> None:
    edges, one, other = two
    number = await edges.start_trace("acme.c01.u", None, 60)
    before, after = one.comes("127.0.0.1"), other.comes("127.0.0.1")
    for at in range(4):
        (before, after)[at % 2].says(f"line {at}")
    view = await edges.trace(number, 0)
    assert list(texts(view).values()) == ["line 0", "line 1", "line 2", "line 3"]
    assert view is not None
    assert [it.number for it in view.lines] == list(range(1, len(view.lines) + 1))
    assert len({it.connection for it in view.lines}) == 2, "each has a number of its own"
    assert await edges.trace(number, 0) == view, "asked again they are told again"
    after.says("line 4")
    again = await edges.trace(number, len(view.lines))
    assert texts(again) == {len(view.lines) + 1: "line 4"}


async def test_those_that_are_silent_are_waited_for_together_and_only_for_so_long(
    two: tuple[Edges, EdgeThatTraces, EdgeThatTraces], autojump_clock: trio.testing.MockClock
) -> None:
    """Ten of them made who looks wait for five minutes at each second's look."""
    _, one, other = two
    edges = edges_of(*(EdgeThatHangs() for _ in range(5)), one, *(EdgeThatHangs() for _ in range(5)), other)
    number = await edges.start_trace("acme.c01.u", None, 60)
    assert trio.current_time() == TRACE_ANSWER_S
    one.comes("127.0.0.1").says("here")
    other.comes("127.0.0.1").says("there")
    assert list(texts(await edges.trace(number, 0)).values()) == ["here", "there"]
    assert trio.current_time() == TRACE_ANSWER_S, "what did not begin is not asked"


async def test_one_that_falls_silent_is_asked_again_and_what_it_has_is_not_lost(
    two: tuple[Edges, EdgeThatTraces, EdgeThatTraces],
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edges, one, other = two
    number = await edges.start_trace("acme.c01.u", None, 60)
    one.comes("127.0.0.1").says("here")
    other.comes("127.0.0.1").says("there")
    with monkeypatch.context() as silent:
        silent.setattr(one, "trace", EdgeThatHangs()._asked)
        assert list(texts(await edges.trace(number, 0)).values()) == ["there"]
    assert list(texts(await edges.trace(number, 0)).values()) == ["there", "here"]


async def test_one_that_begins_no_trace_denies_it_at_no_other(
    two: tuple[Edges, EdgeThatTraces, EdgeThatTraces], autojump_clock: trio.testing.MockClock
) -> None:
    """Whoever has taken over a site said that there were too many, and nobody traced a machine anywhere."""
    _, one, _ = two
    edges = edges_of(EdgeThatKnows(start_trace=None), one)
    number = await edges.start_trace("acme.c01.u", None, 60)
    one.comes("127.0.0.1").says("here")
    assert list(texts(await edges.trace(number, 0)).values()) == ["here"]
    with pytest.raises(TooManyTraces):
        await edges_of(EdgeThatKnows(start_trace=None)).start_trace("acme.c01.u", None, 60)


async def test_of_one_a_trace_is_what_it_kept(autojump_clock: trio.testing.MockClock) -> None:
    one = EdgeThatTraces(map(float, count(1)))
    edges = edges_of(one)
    number = await edges.start_trace("acme.c01.u", None, 60)
    machine = one.comes("127.0.0.1")
    machine.says("a line")
    kept = one.traces.view(1, 0, trio.current_time())
    assert await edges.trace(number, 0) == kept
    for _ in range(3 * KEPT_BYTES_MAX // (4_096 + LINE_OVERHEAD_BYTES) // 2):
        machine.says("x" * 4_096)
    assert await edges.trace(number, 0) == one.traces.view(1, 0, trio.current_time())
    assert (await edges.trace(number, 0) or TraceView(lines=(), missed=0)).missed > 0


async def test_it_is_over_when_it_is_over_everywhere_and_makes_room_unread(
    two: tuple[Edges, EdgeThatTraces, EdgeThatTraces], autojump_clock: trio.testing.MockClock
) -> None:
    edges, one, other = two
    numbers = [await edges.start_trace("acme.c01.u", None, 600) for _ in range(TRACES_MAX)]
    with pytest.raises(TooManyTraces):
        await edges.start_trace("acme.c01.u", None, 600)
    await trio.sleep(UNREAD_S)
    one.traces.expire(trio.current_time())
    assert await edges.trace(numbers[0], 0) is not None, "one has it still"
    other.traces.expire(trio.current_time() + UNREAD_S)
    assert await edges.trace(numbers[0], 0) is None
    assert await edges.start_trace("acme.c01.u", None, 600) == TRACES_MAX + 1
