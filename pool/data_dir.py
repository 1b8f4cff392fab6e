"""The data directory of one pool: who holds it, where its database and its socket are.

    <data_dir>/lock        held (flock) by the pool, or by a command that works without one
    <data_dir>/angara.db   the database, unless a URL names another
    <data_dir>/admin.sock  where a running pool takes commands, mode 0600
    <data_dir>/blocks/     found blocks

Must not know: what is in the database.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un.sun_path, with its NUL


class DataDirError(Exception):
    """A data directory that cannot be used; the text says why."""


def database_url(data_dir: Path) -> str:
    """The default database of a data directory."""
    return f"sqlite:///{data_dir / 'angara.db'}"


def admin_socket(data_dir: Path) -> Path:
    """Raises DataDirError where the path is too long for a socket."""
    path = data_dir.absolute() / "admin.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise DataDirError(f"{path} is too long for a Unix socket: use a shorter data directory")
    return path


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Hold the directory, made where it is missing: one process at a time. Raises DataDirError."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(f"cannot use the data directory {data_dir}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataDirError(f"another process is using {data_dir}") from None
        yield
    finally:
        os.close(descriptor)
