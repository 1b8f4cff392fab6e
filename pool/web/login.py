"""Logging in on the page: a token is shown once, and a cookie stands for it until logging out.

    POST /api/v1/login      {"token": "angara_..."}     a wrong one costs what a wrong bearer token costs
    POST /api/v1/logout
    GET  /api/v1/session    who that is; nobody: a name of null

The cookie is for this host's own pages: no script reads it, no other site's page has it sent. What changes
something by it must say besides that it is our page that asks (`pool.web.access.asked_by_our_page`).

Must not know: what a role may do.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec
import structlog
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.handler import AUTHORIZATION, wrong_token
from pool.books.store import DATABASE_ERRORS, words_of
from pool.http_server import body_of, failure, json_response
from pool.people.authentication import Authentication, WrongToken
from pool.people.roles import Caller, NotPermitted, Role
from pool.people.sessions import LIFE_S, Sessions
from pool.web.access import COOKIE, Access, Told, WebRoute, asked_by_our_page, recognised, session_shown
from pool.web.callers import THREADS_MAX
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

LOGIN_PATH: Final = "/api/v1/login"
LOGOUT_PATH: Final = "/api/v1/logout"
SESSION_PATH: Final = "/api/v1/session"


class Shown(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What logging in takes."""

    token: str


class Session(msgspec.Struct, frozen=True):
    """Who that is; nobody where nothing was shown. It ends with the token, or with the session."""

    name: str | None = None
    role: Role | None = None
    tenant: str | None = None
    expires_at_s: int | None = None


NOBODY: Final = Session()
LOGIN: Final = Told(
    words="Show a token once; a cookie stands for it from now on.", result=Session, takes=Shown
)
LOGOUT: Final = Told(words="End the session.", result=Session)
SESSION: Final = Told(words="Who asks.", result=Session)


def login_routes(
    authentication: Authentication, sessions: Sessions, wall_clock: Callable[[], float] = time.time
) -> tuple[WebRoute, ...]:
    threads = trio.CapacityLimiter(THREADS_MAX)

    async def known(number: int, request: Request) -> Caller:
        return await trio.to_thread.run_sync(
            authentication.caller, number, request.state.caller.address, limiter=threads
        )

    async def login(request: Request) -> Response:
        asked_by_our_page(request)
        try:
            shown = msgspec.json.decode(await body_of(request), type=Shown)
        except HTTPException as error:
            return failure(error.status_code, error.detail)
        except NOT_READ as error:
            return failure(400, f"login: {error}")
        caller = await known(
            authentication.recognised(request.state.caller.address, shown.token.strip()), request
        )
        if caller.role is Role.METRICS:
            return failure(403, "this token is for a program that scrapes metrics, and shows no page")
        request.state.caller.let_in()
        secret = sessions.begin(caller)
        log.info("logged_in", name=caller.name, source=caller.source)
        response = json_response(_told(caller, int(wall_clock() + LIFE_S)))
        _set_cookie(request, response, secret, LIFE_S)
        return response

    async def logout(request: Request) -> Response:
        asked_by_our_page(request)
        sessions.end(session_shown(request) or "")
        response = json_response(NOBODY)
        _set_cookie(request, response, "", 0)
        return response

    async def session(request: Request) -> Response:
        secret = session_shown(request)
        if AUTHORIZATION not in request.headers and secret is None:
            return json_response(NOBODY)  # who has not logged in has shown nothing wrong
        number = recognised(request, authentication, sessions)
        caller = await known(number, request)
        request.state.caller.let_in()
        by_cookie = AUTHORIZATION not in request.headers and secret is not None
        left_s = sessions.left_s(secret) if by_cookie and secret is not None else None
        return json_response(_told(caller, None if left_s is None else int(wall_clock() + left_s)))

    async def in_words(answer: Callable[[Request], Any], request: Request) -> Response:
        try:
            response: Response = await answer(request)
        except WrongToken as error:
            return wrong_token(error)
        except NotPermitted as error:
            return failure(403, str(error))
        except DATABASE_ERRORS as error:
            return failure(503, f"the database does not do its work: {words_of(error)}")
        return response

    return (
        WebRoute(LOGIN_PATH, Access.ANYBODY, partial(in_words, login), method="POST", told=LOGIN),
        WebRoute(LOGOUT_PATH, Access.ANYBODY, partial(in_words, logout), method="POST", told=LOGOUT),
        WebRoute(SESSION_PATH, Access.ANYBODY, partial(in_words, session), told=SESSION),
    )


def _told(caller: Caller, session_ends_at_s: int | None) -> Session:
    """Who that is. It ends with the token, or with the session, whichever is first."""
    ends = [it for it in (caller.expires_at_s, session_ends_at_s) if it is not None]
    return Session(caller.name, caller.role, caller.tenant, min(ends, default=None))


def _set_cookie(request: Request, response: Response, secret: str, life_s: int) -> None:
    # What the page was asked by, with a proxy in front of the pool too: our page's own browser says so.
    secure = request.headers.get("origin", "").startswith("https://")
    response.set_cookie(COOKIE, secret, max_age=life_s, httponly=True, samesite="strict", secure=secure)
