"""`POST /api/v1/NAME`: the operator's commands, the same as through the socket, for who shows a token.

    Authorization: Bearer angara_...        JSON in the body, JSON in the answer

What they are is told to anybody, in the words of the table of commands itself: `GET /api/v1/openapi.json`.

Must not know: what a command does, and what a role may do.
"""

from functools import partial
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.desk import Desk
from pool.admin.handler import CommandHandler
from pool.people.authentication import Authentication
from pool.people.roles import Caller
from pool.web.access import Access, WebRoute
from pool.web.openapi import openapi

PATH: Final = "/api/v1/{name}"
DOCUMENT_PATH: Final = "/api/v1/openapi.json"


def command_routes(desk: Desk, authentication: Authentication) -> tuple[WebRoute, ...]:
    handler = CommandHandler(desk)
    described = msgspec.json.encode(openapi())

    async def command(request: Request) -> Response:
        known = partial(_caller, authentication, request.state.token, request.state.caller.address)
        return await handler.answer(request, request.path_params["name"], known)

    async def document(_: Request) -> Response:
        return Response(described, media_type="application/json")

    return (
        WebRoute(DOCUMENT_PATH, Access.ANYBODY, document),
        WebRoute(PATH, Access.BEARER, command, method="POST"),
    )


def _caller(authentication: Authentication, number: int, address: str, _: Desk) -> Caller:
    return authentication.caller(number, address)
