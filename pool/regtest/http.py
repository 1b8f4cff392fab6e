"""The embedded node's HTTP server: what bitcoind's libevent server does, on Starlette and Hypercorn.

It authenticates, reads a request's body, hands it to `answer` and sends the reply. Every wait has a limit: a
peer that is silent, slow, oversized or talks nonsense is dropped, nobody else notices. A peer that hangs up
while its answer is being made (a long poll) cancels that answer, so abandoned long polls hold nothing.

Must not know: JSON, RPC methods, the chain. Never logs credentials.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pool.http_connection import HttpConnection

log = structlog.get_logger()

# A block of 4 MB is 8 MB of hex; the rest is room for a batch.
BODY_BYTES_MAX = 16 * 1024 * 1024
# A pool keeps a handful; more than this is a leak or an attack.
CONNECTIONS_MAX = 128
# bitcoind's rpcservertimeout: for a connection to stay idle, or half a head to be there, and for a body.
IDLE_TIMEOUT_S = 30
BODY_TIMEOUT_S = 30
# For a reply to be taken, 8 MB at most and by somebody near; a stop waits as long for who does not read.
SEND_TIMEOUT_S = 10
# bitcoind waits this long before it answers wrong credentials.
AUTH_DELAY_S = 0.25
# What is still read of a request that is refused, so that the refusal arrives before a reset.
LINGER_S = 1
READ_BYTES = 65_536
TOO_BIG = f"the body is larger than {BODY_BYTES_MAX} bytes"
TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NO_REASON = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) \r\n")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP response; `last` means that the server stops once it is sent."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    last: bool = False


class HttpServer:
    """Serves connections. `answer` gets the body of every authenticated POST; `stop` ends the server."""

    def __init__(
        self,
        answer: Callable[[bytes], Awaitable[Reply]],
        credentials: bytes,
        stop: Callable[[], None],
    ) -> None:
        self._answer = answer
        self._stop = stop
        self._credentials = credentials  # "user:password"
        self._connections = 0
        route = Route("/", self._call, methods=["POST"])
        self._app = ASGIWrapper(
            cast(Any, Starlette(routes=[route], exception_handlers={405: _not_a_post, 404: _not_here}))
        )
        self._config = Config()
        self._config.accesslog = None
        self._config.errorlog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = IDLE_TIMEOUT_S
        self._config.keep_alive_max_requests = 1 << 62  # a pool asks for years
        self._context = WorkerContext(None)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, until either side is done with it."""
        self._connections += 1
        try:
            if self._connections > CONNECTIONS_MAX:
                log.warning("regtest_rpc_connections_full", limit=CONNECTIONS_MAX)
                await _turn_away(stream)
            else:
                spoken = cast(Any, _Spoken(stream))
                await HttpConnection(self._app, self._config, self._context, ConnectionState({}), spoken)
        finally:
            self._connections -= 1

    async def _call(self, request: Request) -> Response:
        """One request, from its head to its response."""
        refusal = await self._refusal(request)
        body = bytearray()
        try:
            with trio.move_on_after(BODY_TIMEOUT_S if refusal is None else LINGER_S) as patience:
                async with aclosing(request.stream()) as chunks:
                    async for chunk in chunks:
                        if refusal is None:
                            body += chunk
                        if len(body) > BODY_BYTES_MAX:
                            refusal, body = _text(413, TOO_BIG), bytearray()
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody reads
        if refusal is None and patience.cancelled_caught:
            refusal = _text(408, f"no whole request within {BODY_TIMEOUT_S} s")
        if refusal is not None:
            refusal.headers["Connection"] = "close"
            return refusal
        return await self._reply(request, bytes(body))

    async def _refusal(self, request: Request) -> Response | None:
        """What speaks against a request, of which no more than the head is known yet."""
        if not self._authorized(request.headers.get("authorization", "")):
            log.warning("regtest_rpc_unauthorized")
            await trio.sleep(AUTH_DELAY_S)
            return Response(status_code=401, headers={"WWW-Authenticate": 'Basic realm="jsonrpc"'})
        if int(request.headers.get("content-length", "0")) > BODY_BYTES_MAX:
            return _text(413, TOO_BIG)
        return None

    async def _reply(self, request: Request, body: bytes) -> Response:
        """What the node answers, nothing where the peer hung up before."""
        reply = Reply(status=400)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_hangup, request, nursery.cancel_scope)
            reply = await self._answer(body)
            nursery.cancel_scope.cancel()
        last = BackgroundTask(self._end) if reply.last else None
        if reply.status == HTTPStatus.NO_CONTENT:  # which has no body to describe
            return Response(status_code=reply.status, background=last)
        return Response(reply.body, reply.status, media_type=reply.content_type, background=last)

    async def _end(self) -> None:
        self._stop()

    def _authorized(self, header: str) -> bool:
        """Whether an Authorization header carries our credentials (RFC 7617)."""
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, self._credentials)


class _Spoken(trio.abc.HalfCloseableStream):
    """A connection on which every status has its reason, and whoever does not read is gone.

    HTTP/1.1 lets a server leave the reason out, and Hypercorn does; ckpool takes only `HTTP/1.1 200 OK`.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """A head is sent in one piece, apart from its body."""
        if (head := NO_REASON.match(data)) is not None:
            reason = HTTPStatus(int(head[1])).phrase.encode()
            data = b"".join((b"HTTP/1.1 ", head[1], b" ", reason, b"\r\n", data[head.end() :]))
        with trio.move_on_after(SEND_TIMEOUT_S) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the peer does not read")

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _cancel_on_hangup(request: Request, scope: trio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _turn_away(stream: trio.SocketStream) -> None:
    async with stream:
        with trio.move_on_after(LINGER_S):
            try:
                await stream.send_all(TOO_MANY)
                await stream.send_eof()
                while await stream.receive_some(READ_BYTES):
                    pass
            except trio.BrokenResourceError:
                pass  # gone already


async def _not_a_post(request: Request, error: Exception) -> Response:
    return _text(405, "JSONRPC server handles only POST requests")


async def _not_here(request: Request, error: Exception) -> Response:
    return Response(status_code=404)


def _text(status: int, words: str) -> Response:
    return Response(words, status, media_type="text/plain")
