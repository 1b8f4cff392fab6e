"""`POST /api/v1/NAME`: the operator's commands, the same as through the socket, for who shows a token.

    Authorization: Bearer angara_...        JSON in the body, JSON in the answer

A wrong token is known by a hash and a look into memory, before anything of the body is read: it costs no
thread, and nothing of the books. Its connection stays among strangers, which have a tenth of a core together,
and ends with the answer. A proxy in front of the pool makes one address of many: who shows the right token
waits for nobody behind it.

Must not know: what a command does, and what a role may do.
"""

from functools import partial
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from pool.admin.desk import Desk
from pool.admin.handler import CommandHandler, wrong_token
from pool.people.authentication import Authentication, WrongToken
from pool.people.roles import Caller
from pool.web.access import Access, WebRoute

PATH: Final = "/api/v1/{name}"
SCHEME: Final = "bearer"


def command_routes(desk: Desk, authentication: Authentication) -> tuple[WebRoute, ...]:
    handler = CommandHandler(desk)

    async def command(request: Request) -> Response:
        address = request.state.caller.address
        try:
            number = authentication.recognised(address, shown(request))
        except WrongToken as error:
            return wrong_token(error)
        request.state.caller.let_in()
        known = partial(_caller, authentication, number, address)
        return await handler.answer(request, request.path_params["name"], known)

    return (WebRoute(PATH, Access.BEARER, command, method="POST"),)


def shown(request: Request) -> str:
    """The token that comes with it; nothing where there is none, or more than one."""
    headers = request.headers.getlist("authorization")
    scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == SCHEME else ""


def _caller(authentication: Authentication, number: int, address: str, _: Desk) -> Caller:
    return authentication.caller(number, address)
