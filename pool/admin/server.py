"""The admin API of a running pool: commands as POST /v1/NAME over a Unix socket.

Whose command it is, the kernel says, which knows who connected; who is somebody may show a token as well,
and is its user (`pool.admin.operators`). The socket is the pool's account's alone, or its group's too where
the settings name one; that alone lets nobody give a command.

Must not know: what a command does, and what a role may do.
"""

import os
from collections.abc import Callable, Collection
from math import inf
from pathlib import Path
from typing import Final

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.admin.desk import Desk
from pool.admin.handler import CommandHandler, bearer
from pool.admin.operators import UnknownAccount, caller_of, hosts, operator_of
from pool.admin.peers import Peers, peer_uid
from pool.http_server import HttpListener, HttpServer, in_words
from pool.people.authentication import WrongToken
from pool.people.roles import Caller

CONNECTIONS_MAX: Final = 64  # one a command, and one command at a time; the others wait until there is room
OWNER_ONLY: Final = 0o177  # umask: mode 0600, without a moment in which it is open to more than it will be
OF_GROUP: Final = 0o660


def admin_app(
    desk: Desk, without_user: Collection[int], guessed: Callable[[str], None] = lambda account: None
) -> Starlette:
    """The application; commands change the desk's store and its live pool. A connection's state has the `uid`
    of who connected, and the `peers` to be told when that is nobody. `guessed` is told which account showed a
    wrong token, in a worker thread."""
    handler = CommandHandler(desk)

    async def command(request: Request) -> Response:
        uid = request.state.uid
        token = bearer(request) or None

        def known(desk: Desk) -> Caller:
            try:
                return caller_of(desk, uid, without_user, token)
            except UnknownAccount:
                trio.from_thread.run_sync(request.state.peers.nobody, uid)
                raise
            except WrongToken:
                guessed(operator_of(uid))
                raise

        return await handler.answer(request, request.path_params["name"], known)

    return Starlette(
        routes=[Route("/v1/{name}", command, methods=["POST"])], exception_handlers={HTTPException: in_words}
    )


async def serve_admin(
    desk: Desk,
    path: Path,
    group: int | None = None,
    *,
    without_user: Collection[int] | None = None,
    refused: Callable[[int], None] = lambda uid: None,
    guessed: Callable[[str], None] = lambda account: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen on the socket until cancelled; the caller holds the data directory. `group`: whose accounts may
    connect besides the pool's own. `without_user`: accounts, by number, that need no user. `refused` is told
    of each connection of an account that is nobody's, `guessed` of each account that shows a wrong token."""
    without_user = hosts() if without_user is None else without_user
    _remove(path)  # left behind by a kill
    config = Config()
    config.bind = [f"unix:{path}"]
    config.umask = OWNER_ONLY
    # Who gave a command hears what became of it, however long the database takes.
    server = HttpServer(admin_app(desk, without_user, guessed), request_s=inf)
    places = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        uid = peer_uid(stream)
        try:
            async with places:
                await server.serve(stream, {"uid": uid, "peers": peers})
        finally:
            peers.left(uid)

    try:
        (listening,) = config.create_sockets().insecure_sockets
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, OF_GROUP)
        listening.listen(config.backlog)
        peers = Peers(HttpListener(listening, "commands"), without_user, refused)
        task_status.started()  # who connects from now on is answered, if a moment later
        await trio.serve_listeners(answer, [peers])
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
