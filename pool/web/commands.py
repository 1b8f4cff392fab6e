"""`POST /api/v1/NAME`: the operator's commands, the same as through the socket, for who shows a token.

    Authorization: Bearer angara_...        JSON in the body, JSON in the answer

What changes nothing is answered to `GET /api/v1/NAME?PARAMETERS` too, with a tag, and who has that of what he
would be answered is told that nothing changed.

What they are, and all other paths, is told to anybody, in the words of the table of commands and of the
routes themselves: `GET /api/v1/openapi.json`.

Must not know: what a command does, and what a role may do.
"""

from collections.abc import Sequence
from functools import lru_cache, partial
from hashlib import sha256
from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.desk import Desk
from pool.admin.handler import CommandHandler
from pool.people.authentication import Authentication
from pool.people.roles import Caller
from pool.web.access import Access, Told, WebRoute
from pool.web.files import PageFile, packed_file, sent_anew
from pool.web.openapi import openapi

PREFIX: Final = "/api/v1/"
PATH: Final = f"{PREFIX}{{name}}"
QUESTION_PATH: Final = f"{PREFIX}{{noun}}.{{verb}}"
DOCUMENT_PATH: Final = "/api/v1/openapi.json"
DOCUMENTS_MAX: Final = 4  # of pools that one process has after each other
DOCUMENT: Final = Told(words="This document.", result=dict)


def command_routes(
    desk: Desk, authentication: Authentication, others: Sequence[WebRoute] = ()
) -> tuple[WebRoute, ...]:
    """`others`: all other paths, which the document has as well."""
    handler = CommandHandler(desk)

    async def command(request: Request) -> Response:
        known = partial(_caller, authentication, request.state.token, request.state.caller.address)
        return await handler.answer(request, request.scope["path"].removeprefix(PREFIX), known)

    async def document(request: Request) -> Response:
        return sent_anew(request, file, digest)

    told = WebRoute(DOCUMENT_PATH, Access.ANYBODY, document, told=DOCUMENT)
    file, digest = _document(tuple(msgspec.structs.replace(it, answer=_nobody) for it in (*others, told)))
    return (
        told,
        WebRoute(PATH, Access.BEARER, command, method="POST"),
        WebRoute(QUESTION_PATH, Access.BEARER, command),
    )


@lru_cache(DOCUMENTS_MAX)
def _document(routes: tuple[WebRoute, ...]) -> tuple[PageFile, str]:
    """As it is sent, and what it is known by: of these routes, whoever answers them. It takes a tenth of a
    second of a processor."""
    described = msgspec.json.encode(openapi(routes))
    return packed_file("application/json", described), sha256(described).hexdigest()[:16]


async def _nobody(request: Request) -> Response:
    raise AssertionError("this route is for the document alone")


def _caller(authentication: Authentication, number: int, address: str, _: Desk) -> Caller:
    return authentication.caller(number, address)
