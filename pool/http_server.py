"""An application and the bounds that its connections have, whoever listens for them.

Every wait has an end, that for somebody who does not read as well: Hypercorn by itself waits for him for
ever, and not even a stop ends that. Whatever goes wrong ends this connection and nothing else.

Must not know: what is asked, who may ask, where the connection is from.
"""

import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from enum import StrEnum
from math import inf
from typing import Any, Final, cast

import msgspec
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

from pool.http_connection import HttpConnection
from stratum.miners.listening.listeners import DESCRIPTORS_RETRY_S, EXHAUSTED

log = structlog.get_logger()

# Of one listener: a hundred browsers with an event stream each, and as many connections of strangers.
CONNECTIONS_MAX: Final = 256
HEAD_BYTES_MAX: Final = 16_384  # of a request's line and headers: a browser's cookies are far below
BODY_BYTES_MAX: Final = 65_536  # a command is a line
# Each piece is a round of the loop, whether it has one byte or all: a network's are a kilobyte.
BODY_PIECES_MAX: Final = 256
BODY_S: Final = 10.0  # for all of it, which whoever asks has at hand
HEAD_S: Final = 10.0  # from the connection to the end of its first head
KEPT_S: Final = 75.0  # from an answer to the end of the next head: a scrape a minute keeps its connection
# From a head to the end of its answer: longer than that nobody waits in front of a page. Behind it there is
# a while to say so.
REQUEST_S: Final = 30.0
LAST_WORDS_S: Final = 5.0
SEND_S: Final = 10.0  # for what is sent at once to be taken by the other side
CLOSE: Final = {"Connection": "close"}
OURS: Final = "a mistake of ours; it is in the pool's log"


class HttpListener(trio.abc.Listener[trio.SocketStream]):
    """A listening socket. Where no descriptor is left for who connects he waits, and one line says so: Trio
    would write a traceback ten times a second. `of`: what that line calls it."""

    def __init__(self, listening: socket.socket, of: str) -> None:
        self._listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        self._of = of

    async def accept(self) -> trio.SocketStream:
        is_said = False
        while True:
            try:
                return await self._listener.accept()
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    raise
            if not is_said:
                log.error("descriptors_exhausted", listener=self._of)
                is_said = True
            await trio.sleep(DESCRIPTORS_RETRY_S)

    async def aclose(self) -> None:
        await self._listener.aclose()


class Code(StrEnum):
    """What went wrong, for programs; the words beside it are for people, and may change."""

    REFUSED = "refused"
    UNAUTHORISED = "unauthorised"
    NOT_PERMITTED = "not_permitted"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_COMMAND = "unknown_command"
    METHOD = "method"
    BODY = "body"
    DONE_BEFORE = "done_before"
    KEY_REUSED = "key_reused"
    OURS = "ours"
    DATABASE = "database"
    LATE = "late"
    FULL = "full"


# By HTTP status: what it is where nobody says more, first.
FAILURES: Final[dict[int, tuple[Code, ...]]] = {
    400: (Code.REFUSED,),
    401: (Code.UNAUTHORISED,),
    403: (Code.NOT_PERMITTED,),
    404: (Code.UNKNOWN_PATH, Code.UNKNOWN_COMMAND),
    405: (Code.METHOD,),
    408: (Code.BODY,),
    409: (Code.DONE_BEFORE,),
    411: (Code.BODY,),  # as pool.http_connection has it
    413: (Code.BODY,),
    422: (Code.KEY_REUSED,),
    429: (Code.UNAUTHORISED,),
    500: (Code.OURS,),
    503: (Code.DATABASE, Code.LATE, Code.FULL),
}


def failure(status: int, words: str, code: Code | None = None) -> Response:
    """What went wrong, in words, and in the one word of it that stays."""
    return json_response({"error": words, "code": FAILURES[status][0] if code is None else code}, status)


def without_end(request: Request) -> None:
    """Its answer is a stream, and goes on for as long as whoever answers lets it. What is sent must still be
    taken in SEND_S, and whoever lets streams be has bounds of his own."""
    request.state.answering.deadline = inf
    request.state.connection.deadline = inf


def json_response(value: object, status: int = 200) -> Response:
    """The value as JSON."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def in_words(_: Request, error: Exception) -> Response:
    """Starlette's answer to what is nowhere, or not so to be had, as all our answers are."""
    assert isinstance(error, HTTPException)
    response = failure(error.status_code, error.detail)
    response.headers.update(error.headers or {})
    return response


async def body_of(request: Request) -> bytes:
    """What was sent with it. Raises HTTPException for more than a command may have, in more pieces, or too
    slowly."""
    body, pieces = b"", 0
    with trio.move_on_after(BODY_S) as patience:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                pieces += 1
                if pieces > BODY_PIECES_MAX:
                    raise HTTPException(413, f"a command comes in at most {BODY_PIECES_MAX} pieces", CLOSE)
                if len(body) > BODY_BYTES_MAX:
                    raise HTTPException(413, f"a command has at most {BODY_BYTES_MAX} bytes", CLOSE)
    if patience.cancelled_caught:
        raise HTTPException(408, f"no whole command within {BODY_S:g} s", CLOSE)
    return body


class HttpServer:
    """What the connections of one application have in common. `request_s`: REQUEST_S, or no end at all."""

    def __init__(self, app: ASGIApp, *, request_s: float = REQUEST_S) -> None:
        self.request_s = request_s
        self.app = ASGIWrapper(cast(Any, _InTime(app, request_s)))
        self.context = WorkerContext(None)
        self.config = Config()
        self.config.accesslog = None
        self.config.errorlog = None
        self.config.h11_max_incomplete_size = HEAD_BYTES_MAX
        self.config.include_server_header = False
        self.config.read_timeout = None  # reading is bounded with the request, or with the pause before it

    async def serve(
        self,
        stream: trio.abc.Stream,
        state: dict[str, Any],
        *,
        turn: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        """Until it is over, one way or another; raises nothing. Requests find `state` in theirs, and each
        waits for its `turn`: many of them may be in one packet."""
        try:
            await _Bounded(self, stream, state, turn)
        except* OSError:  # it is gone
            pass
        except* Exception:
            log.exception("http_connection_failed")


class _InTime:
    """An application that is given so long for each request."""

    def __init__(self, app: ASGIApp, request_s: float) -> None:
        self._app, self._request_s = app, request_s

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def noted(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with trio.move_on_after(self._request_s) as time:
            scope["state"]["answering"] = time
            try:
                await self._app(scope, receive, noted)
            except ClientDisconnect:  # before all was said
                return
            except Exception:  # a mistake of ours in one request must not cost miners their work
                log.exception("request_failed")
                if not begun:
                    await failure(500, OURS)(scope, receive, send)
        if time.cancelled_caught and not begun:
            words = f"this took longer than {self._request_s:g} s"
            await failure(503, words, Code.LATE)(scope, receive, send)


class _Bounded(HttpConnection):
    """With an end to every wait."""

    def __init__(
        self,
        server: HttpServer,
        stream: trio.abc.Stream,
        state: dict[str, Any],
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        self._scope = trio.CancelScope()
        state = {**state, "connection": self._scope}
        super().__init__(server.app, server.config, server.context, ConnectionState(state), cast(Any, stream))
        self._request_s = server.request_s
        self._turn = turn
        self._answered = False

    async def run(self) -> None:
        with self._scope:
            await super().run()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            try:
                with trio.fail_after(SEND_S):
                    async with self.send_lock:
                        await self.stream.send_all(event.data)
            except (trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError):
                self._scope.cancel()
            return
        if isinstance(event, Updated):
            if not event.idle:
                await self._turn()
            self._answered = self._answered or event.idle
            self._scope.deadline = inf if event.idle else trio.current_time() + self._request_s + LAST_WORDS_S
        await super().protocol_send(event)

    async def _idle_timeout(self) -> None:
        await trio.sleep(KEPT_S if self._answered else HEAD_S)
        self._scope.cancel()
