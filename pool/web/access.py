"""Who may ask what over HTTP: the one place where a request is let in, or refused in words.

Whoever sits on this host may ask for what is of the pool's business. What came through a proxy is not from
this host, whatever the socket says; nor is what a page made a browser on it ask, by a name that somebody else
gave this address.

Must not know: what is asked.
"""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pool.http_server import OURS, in_words, json_response
from stratum.miners.listeners import is_this_host

PROXY_HEADERS: Final = ("forwarded", "via", "x-forwarded-for", "x-real-ip")


class Access(Enum):
    """Who may ask."""

    ANYBODY = "anybody"
    THIS_HOST = "whoever is on this host"
    BEARER = "who shows a token"  # which the route itself looks at, before it reads anything else


class WebRoute(msgspec.Struct, frozen=True):
    """A path that is answered."""

    path: str
    access: Access
    answer: Callable[[Request], Awaitable[Response]]
    method: str = "GET"


def web_app(routes: Sequence[WebRoute]) -> ASGIApp:
    """The application; a connection's state has its `caller` (pool.web.door)."""
    app = Starlette(
        routes=[Route(it.path, _guarded(it), methods=[it.method]) for it in routes],
        exception_handlers={HTTPException: in_words, Exception: _failed},
    )
    app.router.redirect_slashes = False  # a path has one spelling
    return app


def _guarded(route: WebRoute) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        words = refusal(request, route.access)
        if words is not None:
            return json_response({"error": words}, 403)
        if route.access is Access.THIS_HOST:
            request.state.caller.let_in()
        return await route.answer(request)

    return answer


def refusal(request: Request, access: Access) -> str | None:
    """Why this one may not ask; None: he may."""
    if access is not Access.THIS_HOST:
        return None
    if not is_this_host(request.state.caller.address):
        return "this is answered to callers on the pool's own host alone"
    if any(name in request.headers for name in PROXY_HEADERS):
        return "this is answered to callers on the pool's own host alone, and this came through a proxy"
    if not is_this_host(_host_of(request)):
        return "this is answered by the name of the pool's own host alone: localhost, 127.0.0.1 or [::1]"
    return None


def _host_of(request: Request) -> str:
    """The name that was asked for, without its port."""
    name = request.headers.get("host", "")
    return name.partition("]")[0].removeprefix("[") if name.startswith("[") else name.partition(":")[0]


async def _failed(_: Request, __: Exception) -> Response:
    return json_response({"error": OURS}, 500)
