"""JSON-RPC to one bitcoind over HTTP: one call, one answer, or one readable error.

Invariants: every call ends within its time-out, reads no more than a bounded answer and raises nothing but
a NodeError; no credential and no request body ever appears in an error's text.

Must not know: what the calls mean, other nodes, whether this one is healthy.
"""

import base64
import enum
import itertools
from collections import deque
from collections.abc import Sequence
from contextlib import aclosing
from decimal import Decimal, InvalidOperation
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Final, Self

import httpx
import msgspec
import trio

from pool.redirections import leads_nowhere
from stratum.unreadable import NOT_READ

CONNECT_TIMEOUT_S: Final = 5.0
# A node that validates a block or builds a template holds its lock for seconds, not for half a minute.
ANSWER_TIMEOUT_S: Final = 30.0
# bitcoind closes idle connections after 30 s (-rpcservertimeout); ours go before they can go under us.
IDLE_CONNECTION_S: Final = 20.0
# A template of 4,000,000 weight units is at most 8 MB of hex plus 300 bytes of JSON per transaction.
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024
COOKIE_BYTES_MAX: Final = 1024
REASON_CHARS_MAX: Final = 200  # of what a node says about an error; it ends up in a log line

RPC_IN_WARMUP: Final = -28


class Lane(enum.Enum):
    """Calls of one kind wait for each other, and for nobody else."""

    ORDINARY = "ordinary"
    BLOCKS = "blocks"
    LONGPOLL = "longpoll"


# bitcoind answers with 4 threads (-rpcthreads) by default: the longpoll keeps one, ordinary calls get two,
# so that a block finds a free one. More than four blocks at once are a test chain's.
CALLS_MAX: Final = {Lane.ORDINARY: 2, Lane.BLOCKS: 4, Lane.LONGPOLL: 1}


class NodeError(Exception):
    """A node that did not do what it was asked; the text says why, for an operator."""


class NodeUnreachable(NodeError):
    """No connection, no answer in time, or a connection closed before the answer was complete."""


class NodeTimedOut(NodeUnreachable):
    """No complete answer in time."""


class NodeRefused(NodeError):
    """HTTP 401 or 403: wrong credentials, or an address that rpcallowip does not name."""


class NodeBusy(NodeError):
    """HTTP 503: the node's work queue is full."""


class NodeWarmingUp(NodeError):
    """The node is starting: it loads its block index, or rescans."""


class NodeSpokeNonsense(NodeError):
    """An answer that no bitcoind gives: truncated or malformed JSON, HTML, too many bytes."""


class RpcError(NodeError):
    """The node understood and said no. `code` is from Bitcoin Core's rpc/protocol.h."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.message = message


class Credentials:
    """User and password, or a cookie file: bitcoind writes a new cookie at each start."""

    def __init__(
        self, *, user: str | None = None, password: str | None = None, cookie_file: Path | None = None
    ) -> None:
        self._cookie_file = cookie_file
        self._header = None if user is None else _basic(f"{user}:{password or ''}".encode())

    def __repr__(self) -> str:
        return "Credentials(hidden)"

    async def header(self) -> str | None:
        """The Authorization header. Raises NodeUnreachable or NodeRefused when the cookie cannot be read."""
        if self._header is None and self._cookie_file is not None:
            self._header = _basic(await trio.to_thread.run_sync(_read_cookie, self._cookie_file))
        return self._header

    async def renewed(self, refused: str | None) -> bool:
        """Whether there is another header to try now that the node refused this one."""
        if self._cookie_file is None:
            return False
        self._header = _basic(await trio.to_thread.run_sync(_read_cookie, self._cookie_file))
        return self._header != refused


class RpcClient:
    """Calls to one node. `transport` replaces the network in tests."""

    def __init__(
        self, url: str, credentials: Credentials, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._lanes = {lane: trio.CapacityLimiter(calls_max) for lane, calls_max in CALLS_MAX.items()}
        self._ids = itertools.count(1)
        connections = sum(CALLS_MAX.values())
        # trust_env: a proxy or netrc of the environment must not get to see a node's password.
        self._http = httpx.AsyncClient(
            transport=transport
            or httpx.AsyncHTTPTransport(
                limits=httpx.Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections,
                    keepalive_expiry=IDLE_CONNECTION_S,
                ),
                trust_env=False,
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),  # the rest is bounded by each call
            headers={"Content-Type": "application/json", "Accept-Encoding": "identity"},
            trust_env=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # bitcoind sets none
            event_hooks={"response": [leads_nowhere]},
        )

    async def call(
        self,
        method: str,
        *params: object,
        lane: Lane = Lane.ORDINARY,
        timeout_s: float = ANSWER_TIMEOUT_S,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Any:
        """The result of a call, within `timeout_s` of now, waiting its turn included. Raises NodeError.

        A number that is no integer is a Decimal, as it was written.
        """
        call_id = next(self._ids)
        body = _body(call_id, method, params)
        return await self._call(call_id, method, _Pieces((body,)), lane, timeout_s, answer_bytes_max)

    async def call_with_hex(
        self, method: str, digits: Sequence[bytes], *, lane: Lane, ends_after: trio.Event | None = None
    ) -> Any:
        """As `call`, with a single string, of hex digits, which is sent from the pieces that it is in: to put
        together the megabytes of a block takes milliseconds. The node has the end of the call, without which
        it is none, `ends_after` that."""
        call_id = next(self._ids)
        begin, end = _body(call_id, method, ("|",)).split(b"|")
        body = _Pieces((begin, *digits, end), ends_after)
        return await self._call(call_id, method, body, lane, ANSWER_TIMEOUT_S, ANSWER_BYTES_MAX)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def _call(
        self, call_id: int, method: str, body: "_Pieces", lane: Lane, timeout_s: float, bytes_max: int
    ) -> Any:
        with trio.move_on_after(timeout_s):
            async with self._lanes[lane]:
                header = await self._credentials.header()
                status, answer = await self._post(body, header, bytes_max)
                if status == httpx.codes.UNAUTHORIZED and await self._credentials.renewed(header):
                    status, answer = await self._post(body, await self._credentials.header(), bytes_max)
                return _result(status, answer, call_id)
        raise NodeTimedOut(f"no complete answer to {method} within {timeout_s:g} s")

    async def _post(self, body: "_Pieces", authorization: str | None, bytes_max: int) -> tuple[int, bytes]:
        # A thread that read a cookie is waited for, whatever was cancelled meanwhile; and then the client,
        # which a pool closes when it stops, must not be asked.
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._http.is_closed:
            raise NodeUnreachable("the connections to the node are closed: the pool stops")
        headers = {"Content-Length": str(sum(map(len, body.pieces)))}
        if authorization is not None:
            headers["Authorization"] = authorization
        stream = _Body(body)
        request = self._http.build_request("POST", self._url, content=stream, headers=headers)
        request.stream = stream
        try:
            async with aclosing(await self._http.send(request, stream=True)) as response:
                answer = bytearray()
                with trio.CancelScope() as reading:
                    async for chunk in response.aiter_raw():
                        answer += chunk
                        if len(answer) > bytes_max:
                            reading.cancel()  # leaving the loop would leave httpx's generators open
                if len(answer) > bytes_max:
                    raise NodeSpokeNonsense(f"the answer has more than {bytes_max} bytes")
                return response.status_code, bytes(answer)
        except httpx.ConnectTimeout:
            raise NodeUnreachable(f"no connection within {CONNECT_TIMEOUT_S:g} s") from None
        except (httpx.ConnectError, UnicodeError) as error:  # the latter of bitcoind..lan, which is no name
            raise NodeUnreachable(f"cannot connect: {_reason(error)}") from None
        except httpx.TransportError as error:
            raise NodeUnreachable(f"the connection broke: {_reason(error)}") from None


class _Pieces(msgspec.Struct, frozen=True):
    """What a request says; its last piece is sent when the event has come."""

    pieces: tuple[bytes, ...]
    ends_after: trio.Event | None = None


class _Body(httpx.AsyncByteStream):
    """A request's body.

    httpx's own is an async generator, which a connection that breaks in mid-request leaves behind unfinished.
    """

    def __init__(self, body: _Pieces) -> None:
        self._rest, self._ends_after = deque(body.pieces), body.ends_after

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._rest:
            raise StopAsyncIteration
        if len(self._rest) == 1 and self._ends_after is not None:
            await self._ends_after.wait()
        return self._rest.popleft()


def _body(call_id: int, method: str, params: tuple[object, ...]) -> bytes:
    return msgspec.json.encode({"jsonrpc": "1.0", "id": call_id, "method": method, "params": params})


class _RpcFailure(msgspec.Struct):
    code: int
    message: str = ""


class _Answer(msgspec.Struct):
    result: Any = None
    error: _RpcFailure | None = None
    id: int | None = None


def _exact(number: str) -> Decimal:
    try:
        return Decimal(number)
    except InvalidOperation:
        raise ValueError("a number beyond all bounds") from None


# What has a point or an exponent is an amount more often than not, and no amount is ever a float.
_answers: Final = msgspec.json.Decoder(_Answer, float_hook=_exact)


def _result(status: int, answer: bytes, call_id: int) -> Any:
    if status == httpx.codes.UNAUTHORIZED:
        raise NodeRefused("HTTP 401: the node does not accept this user and password, or this cookie")
    if status == httpx.codes.FORBIDDEN:
        raise NodeRefused("HTTP 403: the node's rpcallowip does not name this host")
    if status == httpx.codes.SERVICE_UNAVAILABLE:
        raise NodeBusy(f"HTTP 503: {one_line(answer.decode(errors='replace')) or 'the node is too busy'}")
    try:
        parsed = _answers.decode(answer)
    except NOT_READ as error:
        raise NodeSpokeNonsense(
            f"HTTP {status} with {len(answer)} bytes that are no answer: {error}"
        ) from None
    if parsed.error is not None:
        if parsed.error.code == RPC_IN_WARMUP:
            raise NodeWarmingUp(f"the node is starting: {one_line(parsed.error.message)}")
        raise RpcError(parsed.error.code, one_line(parsed.error.message))
    if status != httpx.codes.OK or parsed.id != call_id:
        raise NodeSpokeNonsense(f"HTTP {status} with an answer to call {parsed.id}, which was not asked")
    return parsed.result


def _basic(user_and_password: bytes) -> str:
    return "Basic " + base64.b64encode(user_and_password).decode("ascii")


def _read_cookie(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            cookie = file.read(COOKIE_BYTES_MAX).strip()
    except FileNotFoundError:
        raise NodeUnreachable(f"there is no cookie file {path}: is the node running?") from None
    except OSError as error:
        raise NodeRefused(f"cannot read the cookie file {path}: {error.strerror}") from None
    if b":" not in cookie:
        raise NodeRefused(f"the cookie file {path} holds no user and password")
    return cookie


def _reason(error: Exception) -> str:
    """The first in its causes that says anything: of TLS that is none httpx itself says nothing."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):
        cause = cause.__cause__ or cause.__context__
    return one_line(cause or type(error).__name__)


def one_line(text: object) -> str:
    """One line of bounded length that a terminal may show, whatever a node or the system said."""
    line = " ".join(str(text)[: 2 * REASON_CHARS_MAX].split())[:REASON_CHARS_MAX]
    return line if line.isprintable() else ascii(line)[1:-1][:REASON_CHARS_MAX]
