"""Event streams: once for all who see the same, bounded in every way, and what was missed is told."""

from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from pool.dashboard.streams import (
    KEPT_MAX,
    QUEUE_MAX,
    STREAMS_MAX,
    STREAMS_OF_TENANTS_MAX,
    STREAMS_OF_USER_MAX,
    Stream,
    Streams,
)

OWN = {None: "all of it", "acme": "of acme", "zeta": None}


def begun(streams: Streams, user: str = "vera", tenant: str | None = None, last_id: str = "") -> Stream:
    stream = streams.begin(user, tenant, last_id)
    assert isinstance(stream, Stream)
    return stream


def read(stream: Stream) -> list[tuple[str, str, Any]]:
    """What waits there: id, kind, and what is told."""
    lines = []
    while stream._receive.statistics().current_buffer_used:
        lines.append(stream._receive.receive_nowait())
    return [parsed(it) for it in lines]


def parsed(lines: bytes) -> tuple[str, str, Any]:
    number, kind, data, *rest = lines.decode().split("\n")
    assert rest == ["", ""]
    told = msgspec.json.decode(data.removeprefix("data: "))
    return number.removeprefix("id: "), kind.removeprefix("event: "), told


def whole(it: Any, tenant: str | None) -> Any:
    """For those who see everything."""
    return it if tenant is None else None


def seen(it: Any, tenant: str | None) -> Any:
    return tenant, it


def told(read_events: Iterable[tuple[str, str, Any]]) -> list[Any]:
    return [it for _, _, it in read_events]


def test_each_is_told_what_he_may_know_and_that_is_made_once_for_all_who_see_the_same() -> None:
    streams, made = Streams(), []
    tenants = (None, None, "acme", "acme", "zeta")
    looking = [begun(streams, f"user{at}", tenant) for at, tenant in enumerate(tenants)]

    def narrow(tenant: str | None) -> Any:
        made.append(tenant)
        return OWN[tenant]

    streams.tell("figures", narrow)
    assert [told(read(it)) for it in looking] == [["all of it"]] * 2 + [["of acme"]] * 2 + [[]]
    assert sorted(made, key=str) == [None, "acme", "zeta"]


def test_streams_are_bounded_in_all_of_a_user_and_of_tenants_together() -> None:
    streams = Streams()
    for _ in range(STREAMS_OF_USER_MAX):
        begun(streams, "vera")
    assert streams.begin("vera", None, "") == "10 pages of this user look on already"
    for at in range(STREAMS_OF_TENANTS_MAX):
        begun(streams, f"tenant{at}", f"tenant{at}")
    assert streams.begin("another", "another", "") == "50 pages of tenants look on already"
    operators = [begun(streams, f"operator{at}") for at in range(STREAMS_MAX - len(streams.open))]
    assert streams.begin("late", None, "") == "100 pages look on already"
    streams.end(operators[0])
    begun(streams, "late")


async def test_who_does_not_read_is_let_go_and_costs_the_others_nothing() -> None:
    streams = Streams()
    slow, good = begun(streams, "slow"), begun(streams, "good")
    for _ in range(QUEUE_MAX + 1):
        streams.tell("figures", lambda tenant: "x")
        assert len(read(good)) == 1
    assert slow.scope.cancel_called
    assert not good.scope.cancel_called
    assert streams.open == {good}


def test_who_comes_back_is_told_what_he_missed_and_else_to_get_everything_anew() -> None:
    streams = Streams()
    stream = begun(streams)
    for at in range(6):
        streams.tell("block", partial(whole, at))
    events = read(stream)
    assert told(events) == list(range(6))
    last_id = events[2][0]
    assert told(read(begun(streams, last_id=last_id))) == [3, 4, 5]
    assert told(read(begun(streams, "of acme", "acme", last_id=last_id))) == []
    assert told(read(begun(streams, last_id=events[5][0]))) == []
    for unknown in ("abcdef-3", f"{streams.boot}-7", f"{streams.boot}-x", "-", f"{streams.boot}-" + "9" * 40):
        assert [kind for _, kind, _ in read(begun(streams, "other", last_id=unknown))] == ["reset"]
        streams.open.clear()
    for _ in range(KEPT_MAX):
        streams.tell("figures", lambda tenant: "new")
    back = read(begun(streams, last_id=last_id))
    assert [(kind, it) for _, kind, it in back] == [("reset", {}), ("figures", "new")]
    assert back[0][0] == f"{streams.boot}-{6 + KEPT_MAX}"


def test_who_missed_more_than_a_queue_has_gets_everything_anew() -> None:
    streams = Streams()
    stream = begun(streams)
    streams.tell("block", lambda tenant: "first")
    [(last_id, *_)] = read(stream)
    streams.open.clear()
    for at in range(QUEUE_MAX + 1):
        streams.tell("block", partial(whole, at))
    assert told(read(begun(streams, last_id=last_id))) == [{}]


async def test_whoever_waits_for_somebody_hears_of_the_next_who_looks_on() -> None:
    """A page that had missed much left behind who made figures, and so did one that ended twice: nobody was
    told any until the next start."""
    streams, heard = Streams(), list[bool]()

    async def wait() -> None:
        await streams.somebody.wait()
        heard.append(True)

    stream = begun(streams)
    streams.tell("block", partial(whole, "first"))
    [(last_id, *_)] = read(stream)
    streams.end(stream)
    for at in range(QUEUE_MAX + 1):
        streams.tell("block", partial(whole, at))
    async with trio.open_nursery() as nursery:
        for last in (last_id, ""):
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            streams.end(stream)
            stream = begun(streams, last_id=last)
            await trio.testing.wait_all_tasks_blocked()
            streams.end(stream)
        nursery.cancel_scope.cancel()
    assert heard == [True, True]


@pytest.mark.parametrize("tenant", [None, "acme"])
def test_who_is_new_gets_the_newest_figures_at_once(tenant: str | None) -> None:
    streams = Streams()
    for at in range(2):
        streams.tell("figures", partial(seen, at))
        streams.tell("block", lambda tenant: "block")
    assert told(read(begun(streams, "new", tenant))) == [[tenant, 1]]
