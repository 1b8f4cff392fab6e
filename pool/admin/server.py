"""The admin API of a running pool: commands as POST /v1/NAME over a Unix socket that only its owner may use.

JSON in, JSON out: 200 with the result; else {"error": words} with 400, or 500 and above where the mistake is
not the caller's. Commands run in a worker thread, one at a time: they are an operator's, and the journal must
not wait behind a queue of them.
Must not know: what a command does.
"""

from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.books.store import DATABASE_ERRORS, words_of
from pool.fleet.rows import RegistryError

log = structlog.get_logger()

BODY_BYTES_MAX: Final = 65_536  # a command is a line
OWNER_ONLY: Final = 0o177  # umask: mode 0600, without a moment in which it is anything else


def admin_app(desk: Desk) -> Starlette:
    """The application; commands change the desk's store and its live pool."""
    one_at_a_time = trio.CapacityLimiter(1)

    async def command(request: Request) -> Response:
        body = b""
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    return _json({"error": f"a command has at most {BODY_BYTES_MAX} bytes"}, 413)
        name = request.path_params["name"]
        try:
            run = partial(execute, desk, name, body)
            result = await trio.to_thread.run_sync(run, limiter=one_at_a_time)
        except RegistryError as error:
            return _json({"error": str(error)}, 400)
        except DATABASE_ERRORS as error:
            log.error("command_failed", name=name, reason=words_of(error)[:300])
            return _json({"error": f"the database does not do its work: {words_of(error)}"}, 503)
        except Exception:  # a mistake of ours in one command must not cost miners their work
            log.exception("command_failed", name=name)
            return _json({"error": f"{name} failed by a mistake of ours; it is in the pool's log"}, 500)
        log.info("command", name=name)
        return _json(result, 200)

    return Starlette(routes=[Route("/v1/{name}", command, methods=["POST"])])


async def serve_admin(
    desk: Desk, path: Path, *, task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED
) -> None:
    """Listen on the socket until cancelled; the caller holds the data directory."""
    _remove(path)  # left behind by a kill
    config = Config()
    config.bind = [f"unix:{path}"]
    config.umask = OWNER_ONLY
    config.accesslog = None
    config.errorlog = None
    config.h11_max_incomplete_size = BODY_BYTES_MAX
    try:
        await serve(
            cast(Any, admin_app(desk)), config, shutdown_trigger=trio.sleep_forever, task_status=task_status
        )
    finally:
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _json(value: object, status: int) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
