"""The embedded node's HTTP/1.1 server: what bitcoind's libevent server does, on Trio and h11.

It authenticates, reads one request body at a time, hands it to `answer` and sends the reply. Every
wait has a limit: a peer that is silent, slow, oversized or talks nonsense is dropped, nobody else
notices. A peer that hangs up while its answer is being made (a long poll) cancels that answer, so
abandoned long polls hold nothing.

Must not know: JSON, RPC methods, the chain. Never logs credentials.
"""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable

import h11
import msgspec
import structlog
import trio

log = structlog.get_logger()

# A block of 4 MB is 8 MB of hex; the rest is room for a batch.
BODY_BYTES_MAX = 16 * 1024 * 1024
# A pool keeps a handful; more than this is a leak or an attack.
CONNECTIONS_MAX = 128
# bitcoind's rpcservertimeout: for a whole request to arrive, and for a connection to stay idle.
REQUEST_TIMEOUT_S = 30
SEND_TIMEOUT_S = 30
# bitcoind waits this long before it answers wrong credentials.
AUTH_DELAY_S = 0.25
# After a refusal before the end of a body: what is still read, so that the refusal arrives before a reset.
LINGER_S = 1
READ_BYTES = 65_536
TOO_BIG = f"the body is larger than {BODY_BYTES_MAX} bytes"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP response; `last` means that the server stops once it is sent."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    last: bool = False


class Refused(Exception):
    """A request that is answered with a bare status, whereupon the connection ends."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.reply = Reply(status=status, body=text.encode(), content_type="text/plain")


class HttpServer:
    """Serves connections. `answer` gets the body of every authenticated POST; `stop` ends the server."""

    def __init__(
        self,
        answer: Callable[[bytes], Awaitable[Reply]],
        credentials: bytes,
        stop: Callable[[], None],
    ) -> None:
        self.answer = answer
        self.stop = stop
        self._credentials = credentials  # "user:password"
        self._connections = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, until either side is done with it. The caller closes the stream."""
        conversation = _Conversation(self, stream)
        self._connections += 1
        try:
            if self._connections > CONNECTIONS_MAX:
                log.warning("regtest_rpc_connections_full", limit=CONNECTIONS_MAX)
                await conversation.refuse(Refused(503, "Too many connections"))
            else:
                await conversation.run()
        except trio.BrokenResourceError:
            pass  # the peer is gone; whatever it asked for was done or was cancelled
        finally:
            self._connections -= 1

    async def check(self, request: h11.Request) -> None:
        """Look at the head of a request, before its body is read. Raises Refused."""
        headers = dict(request.headers)
        if request.target.split(b"?")[0] != b"/":
            raise Refused(404)
        if request.method != b"POST":
            raise Refused(405, "JSONRPC server handles only POST requests")
        if not self._authorized(headers.get(b"authorization", b"")):
            log.warning("regtest_rpc_unauthorized")
            await trio.sleep(AUTH_DELAY_S)
            raise Refused(401)
        if int(headers.get(b"content-length", b"0")) > BODY_BYTES_MAX:
            raise Refused(413, TOO_BIG)

    def _authorized(self, header: bytes) -> bool:
        """Whether an Authorization header carries our credentials (RFC 7617)."""
        scheme, _, encoded = header.partition(b" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return scheme.lower() == b"basic" and hmac.compare_digest(given, self._credentials)


class _Conversation:
    """Requests and replies on one connection."""

    def __init__(self, server: HttpServer, stream: trio.SocketStream) -> None:
        self._server = server
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        """Answer requests until one side wants no more of them."""
        try:
            while True:
                with trio.move_on_after(REQUEST_TIMEOUT_S) as patience:
                    body = await self._receive()
                if patience.cancelled_caught or body is None:
                    return
                reply = await self._make_reply(body)
                if reply is None:
                    return
                await self._send(reply)
                if reply.last:
                    self._server.stop()
                if self._http.our_state is not h11.DONE:
                    return  # one side said that this was the last one
                self._http.start_next_cycle()
        except h11.RemoteProtocolError as nonsense:
            await self.refuse(Refused(nonsense.error_status_hint, str(nonsense)))
        except Refused as refused:
            await self.refuse(refused)

    async def _receive(self) -> bytes | None:
        """The body of the next request, None where there is none. Raises Refused, RemoteProtocolError."""
        event = await self._next_event()
        if not isinstance(event, h11.Request):
            return None  # the peer closed the connection between requests
        await self._server.check(event)
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > BODY_BYTES_MAX:
                raise Refused(413, TOO_BIG)
        return bytes(body)

    async def _next_event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                await self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._stream.receive_some(READ_BYTES))
        return event

    async def _make_reply(self, body: bytes) -> Reply | None:
        """What the node answers, None where the peer hung up before."""
        reply = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_on_hangup, nursery.cancel_scope)
            reply = await self._server.answer(body)
            nursery.cancel_scope.cancel()
        return reply

    async def _cancel_on_hangup(self, scope: trio.CancelScope) -> None:
        try:
            data = await self._stream.receive_some(READ_BYTES)
        except trio.BrokenResourceError:
            data = b""
        if data:
            self._http.receive_data(data)  # the peer does not wait for the reply before it asks again
        else:
            scope.cancel()

    async def _send(self, reply: Reply, *, close: bool = False) -> None:
        headers = []
        if reply.status != 204:  # which has no body to describe
            headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
        if reply.status == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="jsonrpc"'))
        if close:
            headers.append(("Connection", "close"))
        await self._write(
            h11.Response(status_code=reply.status, headers=headers),
            h11.Data(data=reply.body),
            h11.EndOfMessage(),
        )

    async def _write(self, *events: h11.Event) -> None:
        data = b"".join(self._http.send(event) or b"" for event in events)
        with trio.move_on_after(SEND_TIMEOUT_S) as patience:
            await self._stream.send_all(data)
        if patience.cancelled_caught:
            raise trio.BrokenResourceError("the peer does not read")

    async def refuse(self, refused: Refused) -> None:
        """Answer where the protocol still allows it, and end the connection so that the answer arrives."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self._send(refused.reply, close=True)
        await self._stream.send_eof()
        with trio.move_on_after(LINGER_S):
            while await self._stream.receive_some(READ_BYTES):
                pass
