"""What the hub said, on the disk of who serves miners at a site: to begin with where the hub does not answer.

It is old when it is used, so it has a date, and whoever begins with it says how old it is. Beyond a bound it
is not begun with: tenants may be gone, and prices others.

Blocks. Must not know: how the hub is reached.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pool.hub import Begin, Plan
from pool.whole_file import write_whole
from stratum.unreadable import NOT_READ

VERSION: Final = 2
FILE: Final = "hub.msgpack"
COPY_BYTES_MAX: Final = 256 << 20  # of a million machines


class NoCopy(Exception):
    """There is nothing to begin with: in words."""


class Copy(msgspec.Struct, frozen=True):
    """Of an edge, and of when the hub said it."""

    version: int
    edge: str
    epoch: int
    said_at_s: int
    writer: str  # the journal that it is of
    begin: Begin
    plan: Plan


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Copy)


class CopyOnDisk:
    """In a data directory, for its owner alone."""

    def __init__(self, data_dir: Path, wall_clock: Callable[[], float]) -> None:
        self._path = data_dir / FILE
        self._wall_clock = wall_clock

    def keep(self, edge: str, epoch: int, writer: str, begin: Begin, plan: Plan) -> None:
        """In place of the one before. Raises OSError."""
        copy = Copy(VERSION, edge, epoch, int(self._wall_clock()), writer, begin, plan)
        write_whole(self._path, _ENCODER.encode(copy))

    def read(self, edge: str, writer: str, *, hours_max: int) -> Copy:
        """For who goes on with that journal. Raises NoCopy."""
        try:
            if self._path.stat().st_size > COPY_BYTES_MAX:
                raise NoCopy(f"{self._path} is larger than any copy of what a hub says")
            copy = _DECODER.decode(self._path.read_bytes())
        except FileNotFoundError:
            raise NoCopy(f"the hub has never been heard here: there is no {self._path}") from None
        except OSError as error:
            raise NoCopy(f"{self._path}: {error.strerror}") from None
        except NOT_READ:
            raise NoCopy(f"{self._path} is damaged, or of another version of Angara") from None
        if copy.version != VERSION:
            raise NoCopy(f"{self._path} is of another version of Angara")
        if copy.edge != edge:
            raise NoCopy(f"{self._path} is of edge {copy.edge}, and this is {edge}")
        if copy.writer != writer:
            raise NoCopy(f"{self._path} is of the journal {copy.writer}, and the one here is {writer}")
        hours = (int(self._wall_clock()) - copy.said_at_s) // 3600
        if hours >= hours_max:
            raise NoCopy(f"the hub was heard {hours} hours ago, and edge.alone_hours is {hours_max}")
        return copy
