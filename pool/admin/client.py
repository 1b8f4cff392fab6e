"""How the command line executes a command: through the running pool, or on the data directory without one.

Whether a pool runs is known by the lock that it holds, not by its socket: a socket may be left behind.

Must not know: what it takes to execute a command without a pool, which is seconds of imports; the table of
commands is as many, so it is asked where no pool runs, or none has answered.
"""

import json
import socket
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from pool.data_dir import DataDirError, admin_socket, held
from pool.fleet.registry_error import RegistryError
from pool.requests.made import GLASS, REQUEST_MADE, RequestMade

ANSWER_TIMEOUT_S: Final = 30.0  # a command waits for the journal at most, milliseconds
ANSWER_BYTES_MAX: Final = 1 << 26  # a thousand machines are half a megabyte, as many tenants are less
HTTP_OK: Final = 200


class NoAnswer(Exception):
    """A pool runs and does not answer commands."""


def ask(
    data_dir: Path | None,
    without_pool: Callable[[str, bytes], Any],
    name: str,
    params: Mapping[str, Any],
    token: str | None = None,
    glass: str | None = None,
) -> Any:
    """The command's result: from the pool that runs on the data directory, which is shown the token, and told
    why the command must not wait (`glass`); from `without_pool` where none does, or where there is a database
    alone. Raises RegistryError, DataDirError or NoAnswer, in words, and RequestMade for what waits."""
    body = json.dumps(params).encode()
    if data_dir is None:
        return without_pool(name, body)
    try:
        with held(data_dir, reading=True):
            pass  # no pool runs
        with held(data_dir, reading=not changes_something(name)):
            return without_pool(name, body)
    except DataDirError:
        path = admin_socket(data_dir)
        if not path.exists():
            raise
    return _through(path, name, body, token, glass)


def changes_something(name: str) -> bool:
    """Whether a command does, as it is described; of those that do not, several may be given at a time."""
    from pool.admin.command import Question
    from pool.admin.commands import COMMANDS

    return not isinstance(COMMANDS.get(name), Question)


def lent_epoch(data_dir: Path) -> int | None:
    """The epoch of the pool that runs on the data directory, for who writes beside it as its guest; None
    where none does."""
    try:
        path = admin_socket(data_dir)
        epoch: int | None = _through(path, "lease.show", b"{}") if path.exists() else None
    except (DataDirError, NoAnswer):
        return None  # where a pool runs all the same, every write is refused and says who it is
    return epoch


class _Connection(HTTPConnection):
    """HTTP over the pool's Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("angara", timeout=ANSWER_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(ANSWER_TIMEOUT_S)
        self.sock.connect(str(self._path))


def _through(path: Path, name: str, body: bytes, token: str | None = None, glass: str | None = None) -> Any:
    """A change is asked for twice where the pool does not say what became of it: under one key, so that it is
    made once. To a question the key says nothing."""
    shown = {} if token is None else {"Authorization": f"Bearer {token}"}
    headers = {"Idempotency-Key": str(uuid4())} | shown
    target = f"/v1/{name}" + ("" if glass is None else f"?{urlencode({GLASS: glass})}")
    try:
        status, answer = _asked(path, target, body, headers)
    except NoAnswer:
        if not changes_something(name):
            raise
        status, answer = _asked(path, target, body, headers)
    if status == REQUEST_MADE:
        raise RequestMade(answer)
    if status != HTTP_OK:
        raise RegistryError(answer["error"])
    return answer


def _asked(path: Path, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Any]:
    """Status and answer. Raises NoAnswer."""
    connection = _Connection(path)
    try:
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read(ANSWER_BYTES_MAX))
    except PermissionError:
        raise NoAnswer(
            f"this account may not connect to {path}: root may, the account that runs the pool, and who is in"
            " the group of [admin]"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NoAnswer(f"the pool does not answer on {path}: {reason}") from None
    finally:
        connection.close()
