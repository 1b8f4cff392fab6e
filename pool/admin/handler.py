"""A command over HTTP, however its caller is known: the same answer through the socket and over TCP.

JSON in, JSON out: 200 with the result, 202 with the request that it became; else {"error": words, "code": one
of pool.http_server.Code}. Commands run in a worker thread, one at a time: they are an operator's, and the
journal must not wait behind a queue of them; what waits for nodes, or for machines, has turns of its own, so
that nobody who is to be suspended hides behind one that is slow. A change has a key where who asks for it
wants to be able to ask again.

Must not know: what a command does, what a role may do, and how a caller is known.
"""

import hashlib
import re
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import Final

import msgspec
import structlog
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from pool.admin.command import Change
from pool.admin.commands import (
    COMMANDS,
    Answer,
    DoneBefore,
    KeyReused,
    UnknownCommand,
    answer_to,
    asks_machines,
    asks_nodes,
)
from pool.admin.desk import Desk
from pool.books.store import DATABASE_ERRORS, words_of
from pool.fleet.rows import RegistryError
from pool.http_server import OURS, Code, body_of, failure
from pool.people.authentication import WrongToken
from pool.people.roles import Caller, NotPermitted
from pool.requests.made import GLASS, REQUEST_MADE, RequestMade

log = structlog.get_logger()


NEXT_CURSOR: Final = "Next-Cursor"  # of a list: what to ask for with, for what is behind it
TAG_CHARS: Final = 32  # of a hash: 128 bits, by which nobody finds two answers with one tag
AUTHORIZATION: Final = "authorization"
KEY_HEADER: Final = "Idempotency-Key"  # draft-ietf-httpapi-idempotency-key-header
KEY: Final = re.compile(r"[!#-\[\]-~]{1,128}", re.ASCII)


def bearer(request: Request) -> str:
    """The token that it shows; nothing for none, or more than one."""
    headers = request.headers.getlist(AUTHORIZATION)
    scheme, _, token = headers[0].partition(" ") if len(headers) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


class CommandHandler:
    """Of one desk, for every door."""

    def __init__(self, desk: Desk) -> None:
        COMMANDS.read()
        self._desk = desk
        self._one_at_a_time = trio.CapacityLimiter(1)
        self._asking_nodes = trio.CapacityLimiter(1)
        self._asking_machines = trio.CapacityLimiter(1)

    async def answer(self, request: Request, name: str, caller_of: Callable[[Desk], Caller]) -> Response:
        """Execute the command that the request's body has the parameters of, or for a question its URL.
        `caller_of` is called in the worker thread, and may raise NotPermitted."""
        by_url = request.method != "POST"
        try:
            body = _params_of(request, name) if by_url else await body_of(request)
            key = _key_of(request)
        except HTTPException as error:
            refused = failure(error.status_code, error.detail)
            refused.headers.update(error.headers or {})
            return refused
        try:
            run = partial(self._run, name, body, key, request.query_params.get(GLASS), caller_of, by_url)
            limiter = self._one_at_a_time
            if asks_nodes(name):
                limiter = self._asking_nodes
            elif asks_machines(name):
                limiter = self._asking_machines
            answer, tag, by = await trio.to_thread.run_sync(run, limiter=limiter)
        except RequestMade as made:
            log.info("request_made", name=name, request=made.answer["request"]["id"])
            return Response(msgspec.json.encode(made.answer), REQUEST_MADE, media_type="application/json")
        except WrongToken as error:
            return wrong_token(error)
        except NotPermitted as error:
            log.warning("command_not_permitted", name=name[:80], reason=str(error)[:300])
            return failure(403, str(error))
        except UnknownCommand as error:
            return failure(404, str(error), Code.UNKNOWN_COMMAND)
        except DoneBefore as error:
            return failure(409, str(error))
        except KeyReused as error:
            return failure(422, str(error))
        except RegistryError as error:
            return failure(400, str(error))
        except DATABASE_ERRORS as error:
            log.error("command_failed", name=name, reason=words_of(error)[:300])
            return failure(503, f"the database does not do its work: {words_of(error)}")
        except Exception:  # a mistake of ours in one command must not cost miners their work
            log.exception("command_failed", name=name)
            return failure(500, f"{name} failed by {OURS}")
        # Not of a question: a page asks some every few seconds, and they would leave no line for a change.
        told = log.info if isinstance(COMMANDS[name], Change) else log.debug
        told("command", name=name, by=by)
        headers = {} if answer.cursor is None else {NEXT_CURSOR: answer.cursor}
        if by_url:
            headers |= {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Cookie"}
            if answer.cursor is not None:
                behind = request.url.include_query_params(cursor=answer.cursor)
                headers["Link"] = f'<{behind.path}?{behind.query}>; rel="next"'
            if tag in request.headers.get("if-none-match", "").replace("W/", "").split(", "):
                return Response(None, 304, headers)
        return Response(answer.body, headers=headers, media_type="application/json")

    def _run(
        self,
        name: str,
        body: bytes,
        key: str | None,
        glass: str | None,
        caller_of: Callable[[Desk], Caller],
        by_url: bool,
    ) -> tuple[Answer, str, str]:
        """The answer, the tag of it and of what is behind it, and whose command it was."""
        caller = caller_of(self._desk)
        answer = answer_to(self._desk, name, body, caller, key, glass=glass, all_text=by_url)
        whole = answer.body + (answer.cursor or "").encode()
        return answer, f'"{hashlib.sha256(whole).hexdigest()[:TAG_CHARS]}"' if by_url else "", caller.name


def wrong_token(error: WrongToken, words: str | None = None) -> Response:
    """401, or 429 for who is to wait; the connection is over, so that the next guess is a stranger's.
    `words`: of what stands for a token."""
    response = failure(401 if error.wait_s == 0.0 else 429, words or str(error))
    response.headers["Connection"] = "close"
    response.headers["WWW-Authenticate"] = "Bearer"
    if error.wait_s > 0.0:
        response.headers["Retry-After"] = str(ceil(error.wait_s))
    return response


def _params_of(request: Request, name: str) -> bytes:
    """What the URL asks a question for. Raises HTTPException."""
    command = COMMANDS.get(name)
    if isinstance(command, Change) or (command is not None and command.tells):
        raise HTTPException(405, f"{name} is to be asked for with POST", {"Allow": "POST"})
    params = dict(request.query_params)
    if len(params) < len(request.query_params.multi_items()):
        raise HTTPException(400, "a parameter is there twice")
    return msgspec.json.encode(params)


def _key_of(request: Request) -> str | None:
    """What the caller calls this change, with the quotes of a structured header or without. Raises
    HTTPException."""
    said = request.headers.getlist(KEY_HEADER)
    if not said:
        return None
    key = said[0][1:-1] if said[0][:1] == said[0][-1:] == '"' else said[0]
    if len(said) > 1 or KEY.fullmatch(key) is None:
        raise HTTPException(400, f"one {KEY_HEADER} has up to 128 characters of ASCII without spaces")
    return key
