"""HTTP as strangers speak it: nothing that they send, or do not, holds a connection for ever or ends us."""

import errno
import logging
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
import trio.testing
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from structlog.testing import capture_logs

from pool.http_server import (
    BODY_BYTES_MAX,
    HEAD_BYTES_MAX,
    HEAD_S,
    KEPT_S,
    LAST_WORDS_S,
    REQUEST_S,
    SEND_S,
    HttpListener,
    HttpServer,
    body_of,
    json_response,
    without_end,
)
from pool.web.access import Access, WebRoute, web_app

GET = b"GET /%s HTTP/1.1\r\nHost: pool\r\n\r\n"
UPGRADE = b"GET /short HTTP/1.1\r\nHost: pool\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n"
Client = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]
BEAT_S, BEATS = 15.0, 100
FOR_EVER_S = 10 * (REQUEST_S + LAST_WORDS_S + KEPT_S + SEND_S)


async def short(_: Request) -> Response:
    return json_response("here")


async def breaks(_: Request) -> Response:
    raise ValueError("of ours")


async def takes_for_ever(_: Request) -> Response:
    await trio.sleep_forever()
    raise AssertionError


async def stops_in_the_middle(_: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"so far"
        await trio.sleep_forever()

    return StreamingResponse(chunks())


async def goes_on(request: Request) -> Response:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BEATS):
            await trio.sleep(BEAT_S)
            yield b"beat"
        yield b"the end"

    without_end(request)
    return StreamingResponse(chunks())


async def large(_: Request) -> Response:
    return Response(b"x" * (1 << 20))


async def reads(request: Request) -> Response:
    return json_response(len(await body_of(request)))


WORDS = [
    *(b"GET ", b"POST ", b"PRI ", b"CONNECT ", b"/short", b"*", b"/%00", b"/%ff%fe", b"http://x/"),
    *(b" HTTP/1.1", b" HTTP/2.0", b" HTTP/1.0", b"\r\n", b"\n", b"\r\n\r\n", b"Host: x\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Expect: 100-continue\r\n"),
    *(b"0\r\n\r\n", b"ffffffffff\r\n", b"\x00", b"\xff\xfe", b"hello"),
]
ANSWERS = {
    "short": short,
    "breaks": breaks,
    "goes-on": goes_on,
    "takes-for-ever": takes_for_ever,
    "stops-in-the-middle": stops_in_the_middle,
    "large": large,
    "reads": reads,
}


@asynccontextmanager
async def connected() -> AsyncIterator[Client]:
    """A client of an application; in the end the connection must be over by itself."""
    routes = [WebRoute(f"/{name}", Access.ANYBODY, answer) for name, answer in ANSWERS.items()]
    client, served = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(HttpServer(web_app(routes)).serve, served, {})
        yield client
        with trio.fail_after(FOR_EVER_S):
            await rest_of(client)


async def rest_of(stream: trio.abc.ReceiveStream) -> bytes:
    """All that is said until the connection is over."""
    said = b""
    try:
        async for part in stream:
            said += part
    except trio.BrokenResourceError:
        pass
    return said


async def answer_of(stream: trio.abc.ReceiveStream, ends: bytes) -> bytes:
    said = b""
    while not said.endswith(ends):
        part = await stream.receive_some()
        assert part, said
        said += part
    return said


async def test_a_connection_answers_one_request_after_the_other(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as client:
        for _ in range(3):
            await client.send_all(GET % b"short")
            assert (await answer_of(client, b'"here"')).startswith(b"HTTP/1.1 200 ")
        await client.send_all(GET % b"short" + GET % b"short")
        await answer_of(client, b'"here"')


async def test_each_of_many_requests_in_one_packet_waits_for_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Else a packet of a hundred of them would be a hundred turns."""
    turns = 0

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns > 3:
            await trio.sleep_forever()

    client, served = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        server = HttpServer(web_app([WebRoute("/short", Access.ANYBODY, short)]))
        nursery.start_soon(partial(server.serve, served, {}, turn=turn))
        await client.send_all(10 * (GET % b"short"))
        said = await rest_of(client)
    assert (turns, said.count(b'"here"')) == (4, 3)


@pytest.mark.parametrize("sent", [b"", b"GET /short HTTP/1.1\r\nHost: po"], ids=["nothing", "half a head"])
async def test_who_says_nothing_is_listened_to_for_a_while(
    sent: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with connected() as client:
        since_s = trio.current_time()
        await client.send_all(sent)
        assert await rest_of(client) == b""
        assert trio.current_time() - since_s == HEAD_S


async def test_who_has_had_an_answer_may_come_again_for_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as client:
        await client.send_all(GET % b"short")
        await answer_of(client, b'"here"')
        since_s = trio.current_time()
        assert await rest_of(client) == b""
        assert trio.current_time() - since_s == KEPT_S


async def test_a_request_that_takes_too_long_is_told_so(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as client:
        since_s = trio.current_time()
        await client.send_all(GET % b"takes-for-ever")
        assert (await answer_of(client, b'"late"}')).startswith(b"HTTP/1.1 503 ")
        assert trio.current_time() - since_s == REQUEST_S


async def test_a_stream_goes_on_and_the_next_request_has_an_end_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as client:
        since_s = trio.current_time()
        await client.send_all(GET % b"goes-on")
        said = await answer_of(client, b"the end\r\n0\r\n\r\n")
        assert said.count(b"beat") == BEATS
        assert trio.current_time() - since_s == BEATS * BEAT_S
        await client.send_all(GET % b"takes-for-ever")
        assert (await answer_of(client, b'late"}')).startswith(b"HTTP/1.1 503 ")
        assert trio.current_time() - since_s == BEATS * BEAT_S + REQUEST_S


async def test_an_answer_that_stops_in_the_middle_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as client:
        await client.send_all(GET % b"stops-in-the-middle")
        said = await rest_of(client)
        assert b"so far" in said
        assert not said.endswith(b"0\r\n\r\n"), "nobody takes it for the whole"


async def test_who_does_not_read_is_left(autojump_clock: trio.testing.MockClock) -> None:
    client, served = trio.testing.lockstep_stream_pair()  # takes nothing before it is read
    with trio.fail_after(FOR_EVER_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                HttpServer(web_app([WebRoute("/large", Access.ANYBODY, large)])).serve, served, {}
            )
            await client.send_all(GET % b"large")


async def test_a_stop_does_not_wait_for_who_does_not_read(autojump_clock: trio.testing.MockClock) -> None:
    client, served = trio.testing.lockstep_stream_pair()
    since_s = trio.current_time()
    async with trio.open_nursery() as nursery:
        app = web_app([WebRoute("/large", Access.ANYBODY, large)])
        nursery.start_soon(HttpServer(app).serve, served, {})
        await client.send_all(GET % b"large")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert trio.current_time() == since_s


async def test_a_mistake_of_ours_is_a_line_in_the_log_and_the_connection_goes_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with connected() as client:
        with capture_logs() as logs:
            await client.send_all(GET % b"breaks")
            said = await answer_of(client, b'"ours"}')
            await trio.testing.wait_all_tasks_blocked()
        assert said.startswith(b"HTTP/1.1 500 ")
        assert b"of ours" not in said.replace(b"a mistake of ours", b"")
        assert [it["event"] for it in logs] == ["request_failed"]
        await client.send_all(GET % b"short")
        await answer_of(client, b'"here"')


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE
        % (b"websocket", b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        UPGRADE % (b"h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n"),
    ],
    ids=["websocket", "h2c"],
)
async def test_an_upgrade_is_not_heard(request_bytes: bytes, autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as client:
        await client.send_all(request_bytes)
        assert (await answer_of(client, b'"here"')).startswith(b"HTTP/1.1 200 ")


async def test_http_2_is_not_spoken(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as client:
        await client.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
        said = await rest_of(client)
        assert said.startswith(b"HTTP/1.1 404 ")
        assert b"HTTP/1.1 400 " in said


async def test_a_head_without_end_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as client:
        await client.send_all(b"GET /short HTTP/1.1\r\nHost: " + b"x" * HEAD_BYTES_MAX)
        assert (await rest_of(client)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("path", [b"reads", b"short", b"nowhere"])
async def test_a_body_without_end_is_left(path: bytes, autojump_clock: trio.testing.MockClock) -> None:
    """Also by who does not read it."""
    head = b"POST /%s HTTP/1.1\r\nHost: pool\r\nContent-Length: 9\r\n\r\n" % path
    async with connected() as client:
        await client.send_all(head + b"a")
        assert (await rest_of(client)).startswith(b"HTTP/1.1 40")


@pytest.mark.parametrize("path", [b"reads", b"short", b"nowhere"])
async def test_a_body_in_chunks_is_refused_before_any(
    path: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    """Seven hundred are in a packet, for which one turn is waited for."""
    head = b"POST /%s HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: Chunked\r\n\r\n" % path
    async with connected() as client:
        await client.send_all(head + b"1\r\na\r\n" * 600)
        said = await rest_of(client)
    assert said.startswith(b"HTTP/1.1 411 ")
    assert b"a body says its length first" in said


async def test_a_body_has_few_pieces() -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x", "more_body": True}

    with pytest.raises(HTTPException, match="in at most 256 pieces"):
        await body_of(Request({"type": "http", "method": "POST", "headers": []}, receive))


@pytest.mark.parametrize("size", [BODY_BYTES_MAX, BODY_BYTES_MAX + 1])
async def test_a_body_has_its_size(size: int) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)
    if size > BODY_BYTES_MAX:
        with pytest.raises(HTTPException, match="413"):
            await body_of(request)
    else:
        assert await body_of(request) == b"x" * size


async def test_nothing_that_can_be_sent_is_a_mistake_of_ours(autojump_clock: trio.testing.MockClock) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    with capture_logs() as logs:
        for _ in range(100):
            async with connected() as client:
                for _ in range(dice.randrange(1, 4)):
                    with trio.move_on_after(1):
                        try:
                            await client.send_all(b"".join(dice.choices(WORDS, k=dice.randrange(1, 12))))
                        except trio.BrokenResourceError:
                            break
                await client.send_eof()
    assert not logs


async def test_where_no_descriptor_is_left_who_connects_waits_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    """Trio's own says it ten times a second, with a traceback each, where a pool's log is not written."""
    accept, faults = trio.SocketListener.accept, [OSError(errno.EMFILE, "Too many open files")] * 600

    async def starved(listener: trio.SocketListener) -> trio.SocketStream:
        if faults:
            await trio.lowlevel.checkpoint()
            raise faults.pop()
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", starved)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(b"here")
        nursery.cancel_scope.cancel()

    with (
        capture_logs() as logs,
        caplog.at_level(logging.DEBUG),
        socket.create_connection(listening.getsockname()),
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, greet, [HttpListener(listening, "web")])
    assert not faults
    assert logs == [{"event": "descriptors_exhausted", "listener": "web", "log_level": "error"}]
    assert caplog.records == []
