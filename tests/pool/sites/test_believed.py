"""What a captured edge answers takes nothing from what the hub says of all others: no figures, no list."""

from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
import pytest

from pool.edges.edge import Edge, EdgeRoutes
from pool.edges.edges import Edges
from pool.edges.figures import NOBODY, EdgeFigures, NodeFigures
from pool.questions import asking
from pool.sites.believed import believed
from pool.upstreams.status import EndpointStatus, UpstreamStatus
from stratum.histogram import Histogram
from stratum.miners.firmware import Family
from stratum.miners.traces.traces import TracedLine, TraceView
from stratum.upstream.shares import SubmitVerdict

other: Final = msgspec.structs.replace
NODE: Final = NodeFigures(
    name="main", up=True, reason="", current=True, tip_height=840_000, template_times=Histogram()
)
HONEST: Final = other(NOBODY, sessions={"mining": 5}, nodes=(NODE,), template_age_s=3.0, refuses=None)
UPSTREAM: Final = UpstreamStatus(
    upstream_id=1,
    order_id=None,
    number=2,
    serving=None,
    since_s=5.0,
    endpoints=(EndpointStatus("a:1", "idle", "", 1.0),),
    sessions=3,
    prefix_bytes=4,
    miner_bytes=4,
    limits="",
    unanswered=0,
    diverted=False,
)
ROUTES: Final = EdgeRoutes(upstreams=(UPSTREAM,), misplaced={})
LINE: Final = TracedLine(number=1, at_ms=5, connection=1, address="", way="in", text="", words="")


class CapturedEdge:
    """It says what a test gives it, in the bytes that a line brings."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    async def ask(self, method: str, content: bytes) -> bytes:
        return msgspec.msgpack.encode(self._answers[method])


class HonestEdge:
    async def figures(self) -> EdgeFigures:
        return HONEST

    async def routes(self) -> EdgeRoutes:
        return ROUTES

    async def uncharged(self, name: str | None, tenant_id: int | None, since_day: int) -> list[int]:
        return NOBODY.uncharged

    async def start_trace(self, name: str | None, address: str | None, seconds: int) -> int:
        return 7

    async def trace(self, number: int, after: int) -> TraceView:
        return TraceView(lines=(LINE,), missed=0)


def with_a_captured_one(**answers: Any) -> Edges:
    captured = believed(asking(CapturedEdge(**answers), Edge), lambda: None)
    return Edges([captured, cast(Edge, HonestEdge())], orders=lambda elsewhere: ())


FIGURES: Final[dict[str, Callable[[], EdgeFigures]]] = {
    "an age that is no number": lambda: other(HONEST, without_node_s=float("nan")),
    "an age without end": lambda: other(HONEST, template_age_s=float("inf")),
    "an age before it": lambda: other(HONEST, commit_age_s=-1.0),
    "more than there is": lambda: other(HONEST, sessions={"mining": 2**63}),
    "less than nothing": lambda: other(HONEST, firmware={"bmminer": Family(-1, 0, 0)}),
    "a thousand reasons": lambda: other(HONEST, ended={str(it): 1 for it in range(2_000)}),
    "a book for a reason": lambda: other(HONEST, moved={"x" * 10_000: 1}),
    "a thousand nodes": lambda: other(HONEST, nodes=tuple(other(NODE, name=str(it)) for it in range(1_000))),
    "answers of upstreams that nobody has": lambda: other(
        HONEST, answers={(it, SubmitVerdict.ACCEPTED, None): 1 for it in range(9_000)}
    ),
    "a node of other bounds": lambda: other(
        HONEST, nodes=(other(NODE, template_times=Histogram((1.0,), [1, 2])),)
    ),
    "commits of other bounds": lambda: other(HONEST, commits=Histogram((1.0,), [1, 2])),
    "too little of what is in no tally": lambda: other(HONEST, uncharged=[1]),
}


@pytest.mark.parametrize("said", FIGURES.values(), ids=FIGURES)
async def test_figures_that_are_none_are_left_out(said: Callable[[], EdgeFigures]) -> None:
    """They were added to those of the others: messages, metrics and the page said nothing of any edge."""
    assert await with_a_captured_one(figures=said()).figures() == HONEST


async def test_a_histogram_that_is_cut_off_is_none() -> None:
    cut = msgspec.to_builtins(HONEST)
    cut["commits"]["counts"] = [1, 2]
    assert await with_a_captured_one(figures=cut).figures() == HONEST


@pytest.mark.parametrize("since_s", [float("nan"), float("inf"), -1.0])
async def test_upstreams_since_no_time_are_left_out(since_s: float) -> None:
    odd = other(ROUTES, upstreams=(other(UPSTREAM, since_s=since_s),))
    assert (await with_a_captured_one(routes=odd).routes()).upstreams == (UPSTREAM,)


@pytest.mark.parametrize("said", [[], [1], [1] * 99])
async def test_what_is_in_no_tally_is_counted_as_we_count_it(said: list[int]) -> None:
    assert await with_a_captured_one(uncharged=said).uncharged("acme", None, 1) == NOBODY.uncharged


@pytest.mark.parametrize("number", ["seven", 2**64 - 1, [7]])
async def test_a_trace_goes_on_where_it_is_one(number: Any) -> None:
    """By each process's own number, which may be any."""
    edges = with_a_captured_one(start_trace=number, trace={"lines": [], "missed": 2**63})
    trace = await edges.start_trace("acme", None, 60)
    view = await edges.trace(trace, 0)
    assert view is not None
    assert [it.text for it in view.lines] == [LINE.text]
