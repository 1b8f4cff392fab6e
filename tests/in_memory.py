"""Where the files of tests are: in memory where it has room.

Databases and journals are synchronised to disk at every commit, which is most of what a test costs on a slow
disk. Nothing here cuts the power, and a process that is killed leaves behind what it wrote on either.
"""

import os
import shutil
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108 (names there are those of `tempfile`, as in /tmp)
ROOM_BYTES = 2 << 30  # many times what the tests that run at the same time have there


def move_there() -> None:
    """All temporary files of this process and those that it starts. TMPDIR says otherwise."""
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # look again


def is_there(path: Path) -> bool:
    return path.is_relative_to(MEMORY)
