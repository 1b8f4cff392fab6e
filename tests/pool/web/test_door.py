"""The door to the pool over HTTP: places, turns, TLS, and who is let in to what."""

import errno
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
import trustme
from starlette.requests import Request
from starlette.responses import Response
from structlog.testing import capture_logs

from pool.http_server import json_response
from pool.web import door as pool_door
from pool.web.access import Access, WebRoute, refusal, web_app
from pool.web.door import Caller, Door
from stratum.miners.listening.listeners import BadEndpoint, Endpoint
from stratum.miners.turns.connection_limits import ConnectionBounds
from stratum.miners.turns.turns import Lane
from tests.stages.waiting import PATIENCE_S

GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
HERE = Endpoint(host="127.0.0.1", port=0)


async def answer(_: Request) -> Response:
    return json_response("here")


APP = web_app([WebRoute("/open", Access.ANYBODY, answer), WebRoute("/inside", Access.THIS_HOST, answer)])


@asynccontextmanager
async def opened(endpoint: Endpoint = HERE) -> AsyncIterator[Door]:
    it = Door(endpoint)
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(it.run, APP)
            yield it
            nursery.cancel_scope.cancel()
    assert it.limits.sessions == 0, "everybody has left"


def url(it: Door, path: str = "open", scheme: str = "http") -> str:
    assert it.address is not None
    return f"{scheme}://127.0.0.1:{it.address[1]}/{path}"


@asynccontextmanager
async def connected(it: Door, *sources: str) -> AsyncIterator[list[trio.SocketStream]]:
    """A connection from each of these addresses, one after the other."""
    assert it.address is not None
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(await trio.open_tcp_stream(*it.address, local_address=source))
            for source in sources
        ]


async def status(stream: trio.SocketStream, path: bytes) -> int:
    await stream.send_all(GET % path)
    said = b""
    while b'"here"' not in said and b"error" not in said:
        part = await stream.receive_some()
        assert part
        said += part
    return int(said.split()[1])


async def has_left(stream: trio.SocketStream) -> bool:
    try:
        return not await stream.receive_some()
    except trio.BrokenResourceError:
        return True


def asked(address: str, **headers: str) -> Request:
    """A request of a caller from there, as a door's application sees it."""

    class Stranger:
        def __init__(self) -> None:
            self.address = address

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "state": {"caller": Stranger()}})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (asked("127.0.0.1", host="localhost:9"), None),
        (asked("127.9.9.9", host="127.9.9.9"), None),
        (asked("::1", host="[::1]:9"), None),
        (asked("192.0.2.1", host="localhost"), "own host alone"),
        (asked("2001:db8::1", host="[::1]"), "own host alone"),
        (asked("127.0.0.1", host="localhost", x_forwarded_for="127.0.0.1"), "through a proxy"),
        (asked("127.0.0.1", host="localhost", forwarded="for=127.0.0.1"), "through a proxy"),
        (asked("127.0.0.1", host="evil.example:9"), "by the name"),
        (asked("127.0.0.1"), "by the name"),
        (asked("127.0.0.1", host="localhost.evil.example"), "by the name"),
        (asked("127.0.0.1", host="[::ffff"), "by the name"),
    ],
)
def test_what_is_of_this_host_is_told_to_nobody_else(request_: Request, words: str | None) -> None:
    """Not to who comes through its proxy, nor to a page that points a name of its own at this host."""
    said = refusal(request_, Access.THIS_HOST)
    assert said is None if words is None else said is not None and words in said
    assert refusal(request_, Access.ANYBODY) is None


async def test_who_is_refused_hears_why() -> None:
    async with opened() as it, httpx.AsyncClient(timeout=PATIENCE_S) as client:
        assert (await client.get(url(it, "inside"))).json() == "here"
        refused = await client.get(url(it, "inside"), headers={"X-Forwarded-For": "192.0.2.1"})
        assert (refused.status_code, set(refused.json())) == (403, {"error", "code"})
        assert (await client.get(url(it))).json() == "here"
        for path in ("nowhere", "open/", "%00"):
            nowhere = await client.get(url(it, path))
            assert (nowhere.status_code, list(nowhere.json())) == (404, ["error", "code"])
        posted = await client.post(url(it), content=b"x")
        assert (posted.status_code, set(posted.headers["allow"].split(", "))) == (405, {"GET", "HEAD"})


async def test_with_a_certificate_it_speaks_tls_and_nothing_else(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "pool.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(pem))
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    async with opened(Endpoint(host="127.0.0.1", port=0, certificate=str(pem))) as it:
        async with httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=root), timeout=PATIENCE_S
        ) as client:
            answered = await client.get(url(it, scheme="https"))
            assert answered.json() == "here"
            assert answered.http_version == "HTTP/1.1"
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get(url(it))


async def test_who_came_in_the_moment_of_a_stop_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_door, "ACCEPT_REST_S", float("inf"))
    async with AsyncExitStack() as stack:
        async with opened() as it:
            (stream,) = await stack.enter_async_context(connected(it, "127.0.0.1"))
            await trio.testing.wait_all_tasks_blocked()
        assert await has_left(stream)
        gc.collect()  # what is still open is told of, as an error


async def test_an_address_that_is_taken_is_told_in_words() -> None:
    async with opened() as it:
        assert it.address is not None
        with pytest.raises(BadEndpoint, match="cannot listen on"):
            await Door(Endpoint(host="127.0.0.1", port=it.address[1])).run(APP)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"nonsense\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /open HTTP/1.1\r\nHost: " + b"x" * 20_000, b"HTTP/1.1 431 "),
        (b"POST /open HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na", b"HTTP/1.1 411 "),
    ],
    ids=["no request", "a head without end", "chunks"],
)
async def test_who_is_refused_at_his_first_words_leaves_no_trace(sent: bytes, answer: bytes) -> None:
    """His connection is closed by us while it is being read."""
    with capture_logs() as logs:
        async with opened() as it, connected(it, "127.0.0.1") as (stream,):
            await stream.send_all(sent)
            said = b""
            with suppress(trio.BrokenResourceError):  # what was not read is cut off
                async for part in stream:
                    said += part
            assert said.startswith(answer)
            await stream.aclose()
            while it.limits.sessions:
                await trio.testing.wait_all_tasks_blocked()
    assert [line["event"] for line in logs] == ["web_listening"]


async def test_who_has_been_let_in_to_nothing_makes_room_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds = ConnectionBounds(sessions_max=4, sessions_per_address_max=4, half_open_per_address_max=4)
    monkeypatch.setattr(pool_door, "BOUNDS", bounds)
    strangers = [f"127.0.1.{number}" for number in range(1, 7)]
    async with opened() as it, connected(it, "127.0.0.2", "127.0.0.2") as inside:
        assert [await status(stream, b"inside") for stream in inside] == [200, 200]
        async with connected(it, *strangers) as outside:
            assert await status(outside[-1], b"open") == 200
            assert await has_left(outside[0])
            assert [await status(stream, b"inside") for stream in inside] == [200, 200]


async def test_where_everybody_has_been_let_in_the_next_one_hears_that_it_is_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bounds = ConnectionBounds(sessions_max=8, sessions_per_address_max=2, half_open_per_address_max=2)
    monkeypatch.setattr(pool_door, "BOUNDS", bounds)
    async with opened() as it, connected(it, "127.0.0.2", "127.0.0.2") as inside:
        assert [await status(stream, b"inside") for stream in inside] == [200, 200]
        async with connected(it, "127.0.0.2") as (third,):
            said = b""
            async for part in third:
                said += part
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"too many connections" in said
        assert it.refused == {"too many connections from this address": 1}


async def test_turns_go_round_by_address_and_who_is_inside_waits_behind_no_stranger(
    nursery: trio.Nursery,
) -> None:
    it, order = Door(HERE), []

    async def waits(address: str, *, inside: bool = False) -> Lane:
        place = it.limits.enter(address)
        assert not isinstance(place, str)
        caller = place.holder = Caller(None, address, place, it)  # type: ignore[arg-type]
        it.limits.begin(place)
        if inside:
            caller.let_in()

        async def turn() -> None:
            await caller.turn()
            order.append(address)

        nursery.start_soon(turn)
        await trio.testing.wait_all_tasks_blocked()
        return it.lane_of(place)

    lanes = [await waits(address) for address in 5 * ["192.0.2.1"] + ["192.0.2.2"]]
    known = await waits("192.0.2.1", inside=True)
    assert len(set(lanes)) == 1
    strangers = lanes[0]
    assert known is not strangers
    rests_s = []
    for _ in range(2):
        rests_s.append(strangers.round(beside_miners=True))
        await trio.testing.wait_all_tasks_blocked()
    assert order == ["192.0.2.1", "192.0.2.2"], "one address after the other"
    assert min(rests_s) >= 0.019, "a request is a millisecond: nineteen times as much is left to others"
    assert known.round(beside_miners=True) < min(rests_s)
    await trio.testing.wait_all_tasks_blocked()
    assert len(order) == 3
    nursery.cancel_scope.cancel()


async def test_where_no_descriptor_is_left_a_browser_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    accept, faults = trio.SocketListener.accept, [OSError(errno.EMFILE, "Too many open files")] * 20

    async def starved(listener: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if faults:
            raise faults.pop()
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", starved)
    async with opened() as it, connected(it, "127.0.0.1") as (browser,):
        assert await status(browser, b"open") == 200
    assert not faults
    assert caplog.records == [], "Trio writes nothing of its own"
