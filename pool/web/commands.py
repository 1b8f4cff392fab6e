"""`POST /api/v1/NAME`: the operator's commands, the same as through the socket, for who shows a token.

    Authorization: Bearer angara_...        JSON in the body, JSON in the answer

What changes nothing is answered to `GET /api/v1/NAME?PARAMETERS` too, with a tag, and who has that of what he
would be answered is told that nothing changed.

What they are is told to anybody, in the words of the table of commands itself: `GET /api/v1/openapi.json`.

Must not know: what a command does, and what a role may do.
"""

from functools import partial
from hashlib import sha256
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.desk import Desk
from pool.admin.handler import CommandHandler
from pool.people.authentication import Authentication
from pool.people.roles import Caller
from pool.web.access import Access, WebRoute
from pool.web.files import packed_file, sent_anew
from pool.web.openapi import openapi

PREFIX: Final = "/api/v1/"
PATH: Final = f"{PREFIX}{{name}}"
QUESTION_PATH: Final = f"{PREFIX}{{noun}}.{{verb}}"
DOCUMENT_PATH: Final = "/api/v1/openapi.json"


def command_routes(desk: Desk, authentication: Authentication) -> tuple[WebRoute, ...]:
    handler = CommandHandler(desk)
    described = msgspec.json.encode(openapi())
    file, digest = packed_file("application/json", described), sha256(described).hexdigest()[:16]

    async def command(request: Request) -> Response:
        known = partial(_caller, authentication, request.state.token, request.state.caller.address)
        return await handler.answer(request, request.scope["path"].removeprefix(PREFIX), known)

    async def document(request: Request) -> Response:
        return sent_anew(request, file, digest)

    return (
        WebRoute(DOCUMENT_PATH, Access.ANYBODY, document),
        WebRoute(PATH, Access.BEARER, command, method="POST"),
        WebRoute(QUESTION_PATH, Access.BEARER, command),
    )


def _caller(authentication: Authentication, number: int, address: str, _: Desk) -> Caller:
    return authentication.caller(number, address)
