"""The operator's socket with somebody at it who sends too much, or at once, or too many of them."""

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Final

import pytest
import trio

from pool.admin.desk import Desk
from pool.admin.server import CONNECTIONS_MAX, serve_admin
from pool.data_dir import admin_socket
from pool.http_server import BODY_BYTES_MAX, HEAD_BYTES_MAX
from tests.fixtures.databases import store_in

QUESTION: Final = b"POST /v1/tenant.list HTTP/1.1\r\nHost: pool\r\nContent-Length: %d\r\n\r\n"
CHUNKED: Final = b"POST /v1/tenant.list HTTP/1.1\r\nHost: pool\r\nTransfer-Encoding: chunked\r\n\r\n"
ASKED: Final = QUESTION % 2 + b"{}"


@asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[None]:
    with closing(store_in(data_dir)) as store:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_admin, Desk(store, "regtest"), admin_socket(data_dir))
            yield
            nursery.cancel_scope.cancel()


async def connected(data_dir: Path) -> trio.SocketStream:
    stream = trio.socket.socket(socket.AF_UNIX)
    await stream.connect(str(admin_socket(data_dir)))
    return trio.SocketStream(stream)


async def said(stream: trio.SocketStream, until: bytes = b"") -> bytes:
    """All of it, or so far as `until`."""
    heard = b""
    try:
        while part := await stream.receive_some():
            heard += part
            if until and heard.endswith(until):
                break
    except trio.BrokenResourceError:
        pass
    return heard


async def test_who_holds_every_place_is_waited_for_and_no_longer(tmp_path: Path) -> None:
    async with running(tmp_path):
        streams = [await connected(tmp_path) for _ in range(CONNECTIONS_MAX + 1)]
        await streams[0].send_all(ASKED)
        assert (await said(streams[0], b"[]")).startswith(b"HTTP/1.1 200 ")
        await streams[-1].send_all(ASKED)
        for stream in streams[:-1]:
            await stream.aclose()
        assert (await said(streams[-1], b"[]")).startswith(b"HTTP/1.1 200 ")
        await streams[-1].aclose()


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (CHUNKED + b"1\r\n{\r\n" * 65_537, b"HTTP/1.1 411 "),
        (QUESTION % (BODY_BYTES_MAX + 1) + b"a" * (BODY_BYTES_MAX + 1), b"HTTP/1.1 413 "),
        (b"POST /v1/tenant.list HTTP/1.1\r\nHost: " + b"x" * HEAD_BYTES_MAX, b"HTTP/1.1 431 "),
        (b"POST /v1/tenant.list HTTP/1.1\r\n" + b"A: b\r\n" * 4_000, b"HTTP/1.1 4"),
        (b"GET /v1/tenant.list HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n", b"HTTP/1.1 405 "),
    ],
    ids=["a body in chunks", "a body", "a header", "headers", "another method"],
)
async def test_what_is_too_much_is_refused(tmp_path: Path, sent: bytes, answer: bytes) -> None:
    async with running(tmp_path), await connected(tmp_path) as stream, trio.open_nursery() as nursery:
        nursery.start_soon(_sent, stream, sent)
        assert (await said(stream)).startswith(answer)
        nursery.cancel_scope.cancel()


async def _sent(stream: trio.SocketStream, data: bytes) -> None:
    with suppress(trio.BrokenResourceError):  # refused before the end
        await stream.send_all(data)


async def test_who_asks_whether_he_may_send_is_told_so(tmp_path: Path) -> None:
    asked = (QUESTION % 2).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    async with running(tmp_path), await connected(tmp_path) as stream:
        await stream.send_all(asked)
        assert (await said(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        await stream.send_all(b"{}")
        assert (await said(stream, b"[]")).startswith(b"HTTP/1.1 200 ")


async def test_a_command_after_the_other_on_one_connection_and_both_are_answered(tmp_path: Path) -> None:
    async with running(tmp_path), await connected(tmp_path) as stream:
        await stream.send_all(ASKED * 2)
        assert (await said(stream, b"[]")).startswith(b"HTTP/1.1 200 ")
        assert (await said(stream, b"[]")).startswith(b"HTTP/1.1 200 ")


async def test_where_no_descriptor_is_left_an_operator_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept, faults = trio.SocketListener.accept, [OSError(errno.EMFILE, "Too many open files")] * 3

    async def starved(listener: trio.SocketListener) -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if faults:
            raise faults.pop()
        return await accept(listener)

    monkeypatch.setattr(trio.SocketListener, "accept", starved)
    async with running(tmp_path), await connected(tmp_path) as stream:
        await stream.send_all(ASKED)
        assert (await said(stream, b"[]")).startswith(b"HTTP/1.1 200 ")
    assert not faults
    assert caplog.records == [], "Trio writes nothing of its own"
