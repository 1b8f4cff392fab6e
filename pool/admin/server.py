"""The admin API of a running pool: commands as POST /v1/NAME over a Unix socket that only its owner may use.

JSON in, JSON out: 200 with the result; else {"error": words} with 400, or 500 and above where the mistake is
not the caller's. Commands run in a worker thread, one at a time: they are an operator's, and the journal must
not wait behind a queue of them. Whose command it is, is not in it: the kernel says who connected.

Must not know: what a command does.
"""

import socket
import struct
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final

import structlog
import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.admin.commands import SOCKET, execute
from pool.admin.desk import Desk
from pool.admin.operators import operator_of
from pool.books.store import DATABASE_ERRORS, words_of
from pool.fleet.rows import RegistryError
from pool.http_server import HttpServer, body_of, in_words, json_response

log = structlog.get_logger()

CONNECTIONS_MAX: Final = 64  # one a command, and one command at a time; the others wait until there is room
UCRED: Final = struct.Struct("3i")  # process, user, group
OWNER_ONLY: Final = 0o177  # umask: mode 0600, without a moment in which it is anything else


def admin_app(desk: Desk) -> Starlette:
    """The application; commands change the desk's store and its live pool. A connection's state has the `uid`
    of who connected."""
    one_at_a_time = trio.CapacityLimiter(1)

    async def command(request: Request) -> Response:
        body = await body_of(request)
        name = request.path_params["name"]
        try:
            run = partial(_run, desk, name, body, request.state.uid)
            result, by = await trio.to_thread.run_sync(run, limiter=one_at_a_time)
        except RegistryError as error:
            return json_response({"error": str(error)}, 400)
        except DATABASE_ERRORS as error:
            log.error("command_failed", name=name, reason=words_of(error)[:300])
            return json_response({"error": f"the database does not do its work: {words_of(error)}"}, 503)
        except Exception:  # a mistake of ours in one command must not cost miners their work
            log.exception("command_failed", name=name)
            return json_response(
                {"error": f"{name} failed by a mistake of ours; it is in the pool's log"}, 500
            )
        log.info("command", name=name, by=by)
        return json_response(result, 200)

    return Starlette(
        routes=[Route("/v1/{name}", command, methods=["POST"])], exception_handlers={HTTPException: in_words}
    )


def _run(desk: Desk, name: str, body: bytes, uid: int) -> tuple[Any, str]:
    """In a worker thread: the command's result, and whose command it was."""
    by = operator_of(uid)
    return execute(desk, name, body, by, SOCKET), by


async def serve_admin(
    desk: Desk, path: Path, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen on the socket until cancelled; the caller holds the data directory."""
    _remove(path)  # left behind by a kill
    config = Config()
    config.bind = [f"unix:{path}"]
    config.umask = OWNER_ONLY
    # Who gave a command hears what became of it, however long the database takes.
    server = HttpServer(admin_app(desk), request_s=inf)

    places = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def answer(stream: trio.SocketStream) -> None:
        async with places:
            await server.serve(stream, {"uid": _peer_uid(stream.socket)})

    try:
        (listening,) = config.create_sockets().insecure_sockets
        listening.listen(config.backlog)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
        task_status.started()  # who connects from now on is answered, if a moment later
        await trio.serve_listeners(answer, [listener])
    finally:
        _remove(path)


def _peer_uid(connection: trio.socket.SocketType) -> int:
    """Whose process is at the other end; the kernel took it down when that connected (unix(7))."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size)
    _, uid, _ = UCRED.unpack(credentials)
    return int(uid)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
