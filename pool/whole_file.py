"""A file that is complete or not there, for its owner alone: what a client earns is nobody else's
business.
"""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
    prefix = f".{path.name}."
    draft = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)  # mode 0600
        draft = Path(name)
        try:
            yield draft
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        draft.replace(path)
        sync_directory(path.parent)
    except BaseException as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and _is_of_draft(error.filename, prefix):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _is_of_draft(name: Any, prefix: str) -> bool:
    """A disk that is full names no file, and the draft's name is nobody's who asked for the file."""
    return name is None or Path(str(name)).name.startswith(prefix)


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
