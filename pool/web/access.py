"""Who may ask what over HTTP: the one place where a request is let in, or refused in words.

Whoever sits on this host may ask for what is of the pool's business. What came through a proxy is not from
this host, whatever the socket says; nor is what a page made a browser on it ask, by a name that somebody else
gave this address.

A browser that has logged in is known by its cookie where a program shows its token. It sends that along with
whatever any page of this host makes it ask, so what may change something must say that our page asks: by a
header that no page of another origin can add, and by the origin that the browser itself says.

Must not know: what is asked.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pool.admin.handler import AUTHORIZATION, bearer, wrong_token
from pool.books.store import DATABASE_ERRORS, words_of
from pool.http_server import OURS, failure, in_words
from pool.people.authentication import Authentication, WrongToken
from pool.people.roles import Caller, NotPermitted, Role
from pool.people.sessions import Sessions
from pool.web.callers import Callers
from pool.web.headers import Careful
from stratum.miners.listening.listeners import is_this_host

COOKIE: Final = "angara_session"
# Ours alone is read: `http.cookies` takes half a second of the loop for 16 KB of quotes, of who is nobody.
OURS_AMONG_COOKIES: Final = re.compile(rf"(?:^|;)[ \t]*{COOKIE}=([^;]*)", re.ASCII)
OUR_PAGE: Final = "x-angara"
PROXY_HEADERS: Final = ("forwarded", "via", "x-forwarded-for", "x-real-ip")


Answer = Callable[[Request], Awaitable[Response]]


class Access(Enum):
    """Who may ask."""

    ANYBODY = "anybody"
    THIS_HOST = "whoever is on this host"
    SCRAPER = "whoever is on this host, or shows a token for metrics"
    BEARER = "who shows a token"  # what its user may, the route itself asks


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What is answered, for the document of the API. `result`: the type of an answer in JSON, also with the
    status `not_so`; of a stream `events` has that of each event, by name. `takes`: the type of what is asked
    for, in the URL or in the body. `tagged`: who has the answer by its ETag is told so."""

    words: str
    result: Any = None
    events: tuple[tuple[str, Any], ...] = ()
    media: str = "application/json"
    takes: type[msgspec.Struct] | None = None
    not_so: int | None = None
    tagged: bool = False


class WebRoute(msgspec.Struct, frozen=True):
    """A path that is answered. `least`: the role that it takes, of who shows a token; None: that is asked for
    behind it. Where there is one, a request has its pool.people.roles.Caller in `who`, and in `again` a
    function that asks anew who that is, for an answer that goes on."""

    path: str
    access: Access
    answer: Answer
    method: str = "GET"
    least: Role | None = None
    told: Told | None = None  # None: commands, which the document has one by one


def web_app(
    routes: Sequence[WebRoute],
    authentication: Authentication | None = None,
    sessions: Sessions | None = None,
) -> ASGIApp:
    """The application; a connection's state has its `caller` (pool.web.door). A request that showed a token,
    or a session's cookie, has the token's number in `token`; without an `authentication` every token is
    wrong, and without `sessions` every cookie."""
    callers = None if authentication is None else Callers(authentication)
    app = Starlette(
        routes=[
            Route(it.path, _guarded(it, authentication, sessions, callers), methods=[it.method])
            for it in routes
        ],
        exception_handlers={HTTPException: in_words, Exception: _failed},
    )
    app.router.redirect_slashes = False  # a path has one spelling
    return Careful(app)


def _guarded(
    route: WebRoute,
    authentication: Authentication | None,
    sessions: Sessions | None,
    callers: Callers | None,
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        words = refusal(request, route.access)
        if route.access is Access.ANYBODY:
            return await route.answer(request)
        by_token = route.access is Access.BEARER or (
            route.access is Access.SCRAPER and words is not None and AUTHORIZATION in request.headers
        )
        if by_token:
            if authentication is None or callers is None:
                return wrong_token(WrongToken())
            try:
                request.state.token = recognised(request, authentication, sessions)
                if route.access is Access.SCRAPER:
                    words = await _not_to_scrape(request, callers)
                elif route.least is not None:
                    request.state.again = partial(
                        _who, route.least, request, authentication, sessions, callers
                    )
                    request.state.who = await request.state.again()
            except WrongToken as error:
                return wrong_token(error)
            except NotPermitted as error:
                return failure(403, str(error))
            except DATABASE_ERRORS as error:
                return failure(503, f"the database does not do its work: {words_of(error)}")
        if words is not None:
            return failure(403, words)
        request.state.caller.let_in()
        try:
            return await route.answer(request)
        except NotPermitted as error:
            return failure(403, str(error))

    return answer


def recognised(request: Request, authentication: Authentication, sessions: Sessions | None) -> int:
    """The number of the token that it shows, or that its session stands for. A wrong one is known by a hash
    and a look into memory, before anything of the body is read. Raises WrongToken, for none or more than one
    too, and NotPermitted."""
    secret = None if AUTHORIZATION in request.headers else session_shown(request)
    if sessions is not None and secret is not None:
        if request.method != "GET":
            asked_by_our_page(request)
        number = sessions.token_of(secret)
        authentication.check_ended(request.state.caller.address, number)
        return number
    return authentication.recognised(request.state.caller.address, bearer(request))


def session_shown(request: Request) -> str | None:
    """What its cookie has, the last where there are several; None where there is none."""
    found = OURS_AMONG_COOKIES.findall(";".join(request.headers.getlist("cookie")))
    return found[-1].strip() if found else None


async def _who(
    least: Role,
    request: Request,
    authentication: Authentication,
    sessions: Sessions | None,
    callers: Callers,
) -> Caller:
    """Who asks, at this moment. Raises NotPermitted and WrongToken."""
    number = recognised(request, authentication, sessions)
    who = await callers.who(number, request.state.caller.address)
    who.demand(least, request.url.path)
    return who


def asked_by_our_page(request: Request) -> None:
    """Raises NotPermitted where the page of somebody else may have made a browser ask."""
    origin = request.headers.get("origin", "").partition("://")[2]
    if not origin or origin != request.headers.get("host") or request.headers.get(OUR_PAGE) != "1":
        raise NotPermitted("a browser's request is taken from the pool's own page alone")


async def _not_to_scrape(request: Request, callers: Callers) -> str | None:
    caller = await callers.who(request.state.token, request.state.caller.address, holds_s=0.0)
    return None if caller.may_scrape else f"{caller.name} may not see the pool's metrics"


def refusal(request: Request, access: Access) -> str | None:
    """Why this one may not ask; None: he may."""
    if access not in (Access.THIS_HOST, Access.SCRAPER):
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
    return failure(500, OURS)
