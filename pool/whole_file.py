"""A file that is complete or not there, for its owner alone: what a client earns is nobody else's
business.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """All of it or nothing. Raises OSError."""
    with whole_file(path) as draft:
        draft.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to fill, which is the one at `path` when that is done, and gone where it fails. What is no file
    does not become one (/dev/stdout, a pipe), and no link is followed: somebody else may have put it there.

    Raises OSError."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise OSError(errno.EINVAL, "written over is a file, and neither a link nor anything else", str(path))
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        try:
            yield Path(name)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(name, path)
        sync_directory(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def sync_directory(path: Path) -> None:
    """What was renamed in it stays so when the power goes. One that may only be written to cannot be."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """What was written to it is on disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
