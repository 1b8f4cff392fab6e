"""`angara`, on a host whose wall clock is wrong: by so many seconds as a file says, at any moment.

    python -P other_clock.py FILE COMMAND...

Whatever asks for the time gets the wrong one, as where somebody has set it; what waits does not. Imports
nothing of ours before that.
"""

import mmap
import struct
import sys
import time
from pathlib import Path

SECONDS = struct.Struct("<d")


class Clock:
    """Of the programs that are begun with it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        file.write_bytes(SECONDS.pack(0.0))
        self.program = (sys.executable, "-P", __file__, str(file))

    def step_to(self, ahead_s: float) -> None:
        """So far ahead from now on; negative: behind."""
        with self._file.open("r+b") as file:
            file.write(SECONDS.pack(ahead_s))


def main(file: Path) -> None:
    with file.open("rb") as opened:
        ahead = mmap.mmap(opened.fileno(), SECONDS.size, prot=mmap.PROT_READ)
    right = time.time
    time.time = lambda: right() + SECONDS.unpack(ahead)[0]
    from pool.cli.main import main as angara

    angara()


if __name__ == "__main__":
    _, at, *command = sys.argv
    sys.argv = ["angara", *command]
    main(Path(at))
