"""What messages remember over a restart: <data_dir>/messages.json.

Not in the books: it says nothing about money, it must be written while the database is away, and books that
are restored from a copy must not make everything be told again. Written to a new file that takes the place of
the old one; one that cannot be read is an empty one, and then everything that is wrong is told once more.

Must not know: what the states mean.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pool.messages.booked import Cursors
from pool.messages.teller import Memory
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

FILE_BYTES_MAX: Final = 1 << 26  # 50,000 conditions are 10 MiB


class Remembered(msgspec.Struct):
    """`cursors` None: there was no pool before this one; `journal_failed`: that is how it ended."""

    memory: Memory = msgspec.field(default_factory=Memory)
    cursors: Cursors | None = None
    journal_failed: bool = False


class MemoryFile:
    """Blocks: called from a worker thread."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "messages.json"
        self._written = b""
        self._failed = False

    def read(self) -> Remembered:
        try:
            with self._path.open("rb") as file:
                self._written = file.read(FILE_BYTES_MAX)
            return msgspec.json.decode(self._written, type=Remembered)
        except FileNotFoundError:
            pass
        except (OSError, *NOT_READ) as error:
            log.error("messages_forgotten", reason=str(error)[:200])
        return Remembered()

    def write(self, remembered: Remembered) -> None:
        """If it is another. A full disk is a reason to be told of it, not to stop."""
        text = msgspec.json.encode(remembered)
        if text == self._written:
            return
        draft = self._path.with_suffix(".new")
        try:
            draft.write_bytes(text)
            draft.replace(self._path)
        except OSError as error:
            if not self._failed:
                log.error("messages_not_remembered", reason=error.strerror or str(error))
            self._failed = True
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            return
        self._written, self._failed = text, False
