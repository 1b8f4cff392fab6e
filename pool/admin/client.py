"""How the command line executes a command: through the running pool, or on the data directory without one.

Whether a pool runs is known by the lock that it holds, not by its socket: a socket may be left behind.
"""

from pathlib import Path
from typing import Any, Final

import httpx
import msgspec

from pool.admin.commands import READING, execute
from pool.admin.desk import Desk
from pool.books.book import bound_network
from pool.books.store import Store, open_store
from pool.data_dir import DataDirError, admin_socket, held
from pool.fleet.rows import RegistryError

ANSWER_TIMEOUT_S: Final = 30.0  # a command waits for the journal at most, milliseconds


class NoAnswer(Exception):
    """A pool runs and does not answer commands."""


def ask(
    data_dir: Path, database_url: str, network: str | None, name: str, params: msgspec.Struct, by: str
) -> Any:
    """The command's result. `network` is what settings say; without settings the book's counts. `by` is whose
    change it is, unless a pool runs: that asks the kernel. Raises RegistryError, DataDirError, StoreError or
    NoAnswer, in words."""
    body = msgspec.json.encode(params)
    try:
        with held(data_dir, reading=name in READING):
            return _directly(database_url, network, name, body, by)
    except DataDirError:
        socket = admin_socket(data_dir)
        if not socket.exists():
            raise
    return _through(socket, name, body)


def borrow_lease(store: Store, data_dir: Path) -> None:
    """Write as the guest of the pool that runs on the data directory; as a visitor where none does."""
    try:
        socket = admin_socket(data_dir)
        epoch = _through(socket, "lease.show", b"{}") if socket.exists() else None
    except (DataDirError, NoAnswer):
        return  # where a pool runs all the same, every write is refused and says who it is
    if epoch is not None:
        store.borrow_lease(epoch)


def _directly(database_url: str, network: str | None, name: str, body: bytes, by: str) -> Any:
    store = open_store(database_url)
    try:
        return msgspec.to_builtins(execute(Desk(store, bound_network(store, network)), name, body, by))
    finally:
        store.close()


def _through(socket: Path, name: str, body: bytes) -> Any:
    transport = httpx.HTTPTransport(uds=str(socket))
    try:
        with httpx.Client(transport=transport, timeout=ANSWER_TIMEOUT_S) as client:
            response = client.post(f"http://angara/v1/{name}", content=body)
    except httpx.HTTPError as error:
        raise NoAnswer(f"the pool does not answer on {socket}: {error}") from None
    answer = msgspec.json.decode(response.content)
    if response.status_code != httpx.codes.OK:
        raise RegistryError(answer["error"])
    return answer
