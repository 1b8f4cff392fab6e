"""A file with a key of ours: its owner's alone, in no book, backup or log, and never made over another one.

Must not know: what the key is for, and never says what is in the file.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pool.settings_file import BadConfig
from pool.whole_file import write_whole

FILE_BYTES_MAX: Final = 256


def read_key(path: Path, setting: str, decoded: Callable[[bytes], bytes], size: int, made_by: str) -> bytes:
    """A key of so many bytes. `decoded` raises ValueError for what is none; `made_by` is the command that
    makes one. Raises BadConfig."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            text = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise BadConfig(f"{setting}: {path}: {error.strerror}") from None
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadConfig(f"{setting}: others may read {path}: chmod 600 it")
    try:
        key = decoded(text.strip())
    except ValueError:
        key = b""
    if len(key) != size:
        raise BadConfig(f"{setting}: {path} is no key: `{made_by}` makes one")
    return key


def write_key(path: Path, text: bytes, why: str) -> None:
    """A new one. Raises BadConfig where there is a file already, which is not written over for `why`, and
    OSError."""
    if path.exists() or path.is_symlink():
        raise BadConfig(f"there is {path} already: {why}")
    write_whole(path, text + b"\n")


def from_hex(text: bytes) -> bytes:
    """A key that is written so. Raises ValueError."""
    return bytes.fromhex(text.decode("ascii"))
