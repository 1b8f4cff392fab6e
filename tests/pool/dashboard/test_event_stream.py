"""A stream over HTTP: what is sent, and everything that ends it."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from sqlalchemy.exc import OperationalError
from starlette.requests import Request

from pool.dashboard.event_stream import BEAT_S, CHECK_S, EventStream
from pool.dashboard.streams import STREAMS_OF_USER_MAX, Streams
from pool.http_server import REQUEST_S
from pool.people.authentication import WrongToken
from pool.people.roles import Caller, Role

VERA = Caller(name="vera", source="token 1", role=Role.VIEWER)
ZOE = Caller(name="zoe", source="token 2", role=Role.TENANT, tenant="zeta")


def silent() -> Caller:
    raise OperationalError("select", {}, Exception("away"))


def ended() -> Caller:
    raise WrongToken


class Browser:
    """One that asked for a stream; `who` is what the books say of it."""

    def __init__(self, caller: Caller = VERA, last_id: str = "") -> None:
        self.who: Callable[[], Caller] = lambda: caller
        self.sent: list[dict[str, Any]] = []
        self.left = trio.Event()
        self.answering, self.connection = trio.CancelScope(), trio.CancelScope()
        state = {
            "who": caller,
            "again": self._again,
            "answering": self.answering,
            "connection": self.connection,
        }
        headers = [(b"last-event-id", last_id.encode())] if last_id else []
        self.scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "state": state}

    async def _again(self) -> Caller:
        return self.who()

    async def look_on(self, streams: Streams) -> None:
        """As the server has it: a request is over after a while, unless it was said to go on."""
        with self.answering, self.connection:
            self.answering.deadline = self.connection.deadline = trio.current_time() + REQUEST_S
            await EventStream(streams, Request(self.scope))(self.scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    @property
    def bodies(self) -> list[bytes]:
        return [it["body"] for it in self.sent if it["type"] == "http.response.body"]

    @property
    def over(self) -> bool:
        return not self.sent[-1].get("more_body", True)


async def test_events_are_sent_as_they_come_and_a_beat_where_none_do(autojump_clock: object) -> None:
    streams, browser = Streams(), Browser()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(browser.look_on, streams)
        await trio.sleep(1)
        streams.tell("figures", lambda tenant: {"height": 7})
        await trio.sleep(1 + 2 * BEAT_S + 10 * REQUEST_S)
        again, first, *rest = browser.bodies
        assert again == b"retry: 1000\n\n", "one that breaks is opened again before anybody is told"
        assert first == f'id: {streams.boot}-1\nevent: figures\ndata: {{"height":7}}\n\n'.encode()
        assert set(rest) == {b": \n\n"}
        assert len(rest) == 2 + 10 * REQUEST_S / BEAT_S
        headers = dict(browser.sent[0]["headers"])
        assert headers[b"content-type"] == b"text/event-stream"
        assert b"content-length" not in headers
        browser.left.set()
    assert not streams.open
    assert browser.over


@pytest.mark.parametrize(
    "becomes",
    [
        ended,
        lambda: Caller(name="vera", source="token 1", role=Role.TENANT, tenant="zeta"),
        lambda: Caller(name="vera", source="token 1", role=Role.TENANT),
    ],
)
async def test_it_ends_within_half_a_minute_when_who_looks_on_may_no_more(
    autojump_clock: object, becomes: Callable[[], Caller]
) -> None:
    streams, browser, stays = Streams(), Browser(), Browser(ZOE)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(browser.look_on, streams)
        nursery.start_soon(stays.look_on, streams)
        await trio.sleep(5 * CHECK_S)
        assert len(streams.open) == 2
        browser.who = silent  # in books that are away nobody is shut out either
        await trio.sleep(5 * CHECK_S)
        assert len(streams.open) == 2
        browser.who = becomes
        await trio.sleep(CHECK_S + 1)
        assert [it.user for it in streams.open] == ["zoe"]
        assert browser.over
        stays.left.set()


async def test_who_is_not_read_by_ends_and_who_finds_no_room_is_told_so(autojump_clock: object) -> None:
    streams = Streams()
    browsers = [Browser() for _ in range(STREAMS_OF_USER_MAX)]
    async with trio.open_nursery() as nursery:
        for it in browsers:
            nursery.start_soon(it.look_on, streams)
        await trio.sleep(1)
        late = Browser()
        await late.look_on(streams)
        assert (late.sent[0]["status"], late.over) == (503, False)
        for stream in list(streams.open):
            stream.scope.cancel()
    assert all(it.over for it in browsers)


async def test_a_stop_of_the_pool_ends_them_all(autojump_clock: object) -> None:
    streams = Streams()
    async with trio.open_nursery() as nursery:
        for user in ("vera", "zoe"):
            nursery.start_soon(Browser(Caller(name=user, source="", role=Role.VIEWER)).look_on, streams)
        await trio.sleep(1)
        assert len(streams.open) == 2
        nursery.cancel_scope.cancel()
    assert not streams.open
