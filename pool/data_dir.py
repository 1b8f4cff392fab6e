"""The data directory of one pool: who holds it, where its database and its socket are.

    <data_dir>/lock        held (flock) by the pool, or by commands that work without one
    <data_dir>/angara.db   the database, unless a URL names another
    <data_dir>/admin.sock  where a running pool takes commands, mode 0600
    <data_dir>/blocks/     found blocks
    <data_dir>/journal/    what was acknowledged, until the books have taken it
    <data_dir>/inbox/      the same of edges at other sites, as it comes
    <data_dir>/network     which chain they are of: name and hash of its first block

Must not know: what is in the database.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

READERS_WAIT_S: Final = 10.0  # a list of 100,000 machines
READERS_PAUSE_S: Final = 0.02
NETWORK_BYTES_MAX: Final = 256
SOCKET_PATH_BYTES_MAX: Final = 107  # sockaddr_un.sun_path, with its NUL


class DataDirError(Exception):
    """A data directory that cannot be used; the text says why."""


def database_url(data_dir: Path) -> str:
    """The default database of a data directory."""
    return f"sqlite:///{data_dir / 'angara.db'}"


def paths_in(directory: Path) -> list[Path]:
    """All that is there; nothing where the directory is not. Raises OSError: to Path.glob what cannot be read
    is empty, in Python 3.11 where that is not allowed, and in later ones whatever the disk says."""
    try:
        return [directory / name for name in os.listdir(directory)]
    except FileNotFoundError:
        return []


def admin_socket(data_dir: Path) -> Path:
    """Raises DataDirError where the path is too long for a socket."""
    path = data_dir.absolute() / "admin.sock"
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise DataDirError(f"{path} is too long for a Unix socket: use a shorter data directory")
    return path


def bind_directory(data_dir: Path, network: str, genesis: str) -> None:
    """See that the directory is of this network; one that is of none yet is from now on. Raises
    DataDirError."""
    if is_of(data_dir, network, genesis):
        return
    data_dir.mkdir(parents=True, exist_ok=True)
    draft = data_dir / "network.new"
    with draft.open("w") as file:
        file.write(f"{network} {genesis}\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(data_dir / "network")


def is_of(data_dir: Path, network: str, genesis: str) -> bool:
    """True: the directory is of this network; False: of none yet. Raises DataDirError."""
    try:
        found = (data_dir / "network").read_bytes()[:NETWORK_BYTES_MAX].decode("ascii", "replace")
    except FileNotFoundError:
        return False
    if found != f"{network} {genesis}\n":
        known = " ".join(found.split())[:80]
        raise DataDirError(
            f"the data directory {data_dir} is of {known!r}, the settings say {network}:"
            " every network has its own"
        )
    return True


def is_held(data_dir: Path) -> bool:
    """Whether a pool has the directory now, or who works as if it were one. Nothing is made."""
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def held(data_dir: Path, *, reading: bool = False) -> Iterator[None]:
    """Hold the directory, made where it is missing: one process at a time, or several that only read.

    Raises DataDirError. Readers are waited for; they take seconds, and nobody has to know of them.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DataDirError(f"cannot use the data directory {data_dir}: {error.strerror}") from None
    try:
        give_up_s = time.monotonic() + READERS_WAIT_S
        while not _locked(descriptor, fcntl.LOCK_SH if reading else fcntl.LOCK_EX):
            only_readers = _locked(descriptor, fcntl.LOCK_SH)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            if not only_readers or time.monotonic() >= give_up_s:
                raise DataDirError(f"another process is using {data_dir}")
            time.sleep(READERS_PAUSE_S)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int, kind: int) -> bool:
    """Raises DataDirError where the file system locks nothing, as NFS without its lock service."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise DataDirError(f"files in the data directory cannot be locked: {error.strerror}") from error
    return True
