"""An answer that goes on: events as they come, in the form of `text/event-stream`.

It ends when the page leaves, when it does not read, and when whoever looks on may no more: who that is is
asked every CHECK_S, and a tenant's page of yesterday that is another's today ends too.

Must not know: what is told.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from starlette.requests import Request
from starlette.responses import Response

from pool.books.store import DATABASE_ERRORS
from pool.dashboard.streams import Stream, Streams
from pool.dashboard.viewers import sees
from pool.http_server import Code, failure, without_end
from pool.people.roles import Caller, NotPermitted

BEAT_S: Final = 15.0  # a comment after so long without an event: a proxy in between lets a silent one go
CHECK_S: Final = 20.0  # with what the pool remembers of a caller, 10 s, within half a minute
AGAIN_S: Final = 30  # for whom there is no room
OPENED_AGAIN: Final = (
    b"retry: 1000\n\n"  # a browser would open a stream that broke after three seconds, or five
)
HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would keep events until it has a page of them
}


class EventStream(Response):
    """Of who asked with this request."""

    def __init__(self, streams: Streams, request: Request) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]
        self._streams, self._request = streams, request

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        caller: Caller = self._request.state.who
        last_id = self._request.headers.get("last-event-id", "")
        stream = self._streams.begin(caller.name, sees(caller), last_id)
        if isinstance(stream, str):
            refused = failure(503, stream, Code.FULL)
            refused.headers["Retry-After"] = str(AGAIN_S)
            await refused(scope, receive, send)
            return
        without_end(self._request)
        try:
            with stream.scope:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._serve(stream, receive, send)
        finally:
            self._streams.end(stream)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _serve(self, stream: Stream, receive: Any, send: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_left, receive, stream)
            nursery.start_soon(_until_not_permitted, self._request.state.again, stream)
            await send({"type": "http.response.body", "body": OPENED_AGAIN, "more_body": True})
            while True:
                lines = b": \n\n"
                with trio.move_on_after(BEAT_S):
                    lines = await stream.get()
                await send({"type": "http.response.body", "body": lines, "more_body": True})


async def _until_left(receive: Callable[[], Awaitable[dict[str, Any]]], stream: Stream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    stream.scope.cancel()


async def _until_not_permitted(again: Callable[[], Awaitable[Caller]], stream: Stream) -> None:
    while True:
        await trio.sleep(CHECK_S)
        try:
            caller = await again()
            if caller.name == stream.user and sees(caller) == stream.tenant:
                continue
        except DATABASE_ERRORS:  # nobody can have been shut out in it since
            continue
        except NotPermitted:
            pass
        stream.scope.cancel()
