"""Files as the journal writes them; the tests have one that tears, lies and loses what was not synced.

Must not know: what is written.
"""

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

CROWDED: Final = frozenset({errno.EMFILE, errno.ENFILE})  # no descriptor is left: others have them all


class Disk:
    """The operating system's. Everything here blocks, and raises OSError."""

    def create(self, path: Path) -> int:
        """An empty file to append to, of which nobody else may read; its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def reopen(self, path: Path, size: int) -> int:
        """A file to append to behind so many bytes, without whatever is behind them; its descriptor."""
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        """How much of it was taken."""
        return os.write(descriptor, data)

    def write_all(self, descriptor: int, data: bytes) -> None:
        """In as many writes as it takes."""
        rest = memoryview(data)
        while rest:
            written = self.write(descriptor, rest)
            if written <= 0:
                raise OSError(f"{len(rest)} bytes were not written")
            rest = rest[written:]

    def sync(self, descriptor: int) -> None:
        """Return when what was written survives a power cut."""
        if (full := getattr(fcntl, "F_FULLFSYNC", None)) is not None:  # macOS: fsync alone stops at the drive
            fcntl.fcntl(descriptor, full)
        else:
            os.fdatasync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """The same of the names in it."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, path: Path, by: Path) -> None:
        """The file has the other one's content, or its own: nothing in between."""
        by.replace(path)

    def put(self, path: Path, draft: Path, data: bytes) -> None:
        """The file with that content, on disk before it has its name."""
        descriptor = self.create(draft)
        try:
            self.write_all(descriptor, data)
            self.sync(descriptor)
        finally:
            self.close(descriptor)
        self.replace(path, draft)

    def remove(self, path: Path) -> None:
        """A file, if it is there."""
        path.unlink(missing_ok=True)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def free_bytes(self, path: Path) -> int:
        """That the disk has for us."""
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize
