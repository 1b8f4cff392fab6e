"""The files of found blocks: what became of a block is in the name of its file.

`<height>-<hash>.blk` has no final result; the first lasting result renames it to `.accepted`,
`.inconclusive` or `.refused`, or to `.sibling` where another of ours had its parent. A file cut short by a
crash is refused by every node, and a rename lost in one costs a "duplicate". Behind the block a file may have
a note of whoever found it.

Everything blocks. Must not know: nodes, what a note says.
"""

import contextlib
import os
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pool.data_dir import paths_in

NOTE_BYTES_MAX: Final = 4096  # names
_NOTE: Final = struct.Struct("<I8s")  # its length, and that there is one: the end of the file
_NOTED: Final = b"ang-note"

PENDING: Final = ".blk"
SIBLING: Final = ".sibling"
_ACCEPTED: Final = ".accepted"
PARENT: Final = slice(4, 36)  # of a header: the hash of the block before it
# Each was found while no node answered for an hour: a handful at most. The rest waits for another start.
PENDING_BLOCKS_MAX: Final = 1000


def blocks_directory(data_dir: Path) -> Path:
    """Where found blocks are."""
    return data_dir / "blocks"


def pending_path(directory: Path, height: int, hash_hex: str) -> Path:
    """Where a block is until there is a result."""
    return directory / f"{height}-{hash_hex}{PENDING}"


def noted(block: bytes, note: bytes) -> bytes:
    """A file's content."""
    return block + packed_note(note)


def packed_note(note: bytes) -> bytes:
    """What is behind the block in its file."""
    return note + _NOTE.pack(len(note), _NOTED) if note else b""


def block_and_note(content: bytes) -> tuple[bytes, bytes]:
    """What a file has; no note in one of before."""
    if content[-_NOTE.size :][4:] != _NOTED:
        return content, b""
    (length, _), end = _NOTE.unpack(content[-_NOTE.size :]), len(content) - _NOTE.size
    return content[: end - length], content[end - length : end]


def note_of(path: Path) -> bytes:
    """That of a file, which may be of megabytes. Raises OSError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - NOTE_BYTES_MAX - _NOTE.size))
        return block_and_note(file.read())[1]


def write_durably(path: Path, content: Sequence[bytes], written: Callable[[], None]) -> None:
    """Returns when it is on disk. `written` is called when it is whole, and outlives us. Raises OSError."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        _fsync_directory(path.parent.parent)
    with path.open("wb") as file:
        try:
            file.writelines(content)
            file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)  # half a block must not look like a pending one
            raise
        written()  # from here on a node may have it: the file stays, whatever the disk makes of it
        os.fsync(file.fileno())
    _fsync_directory(path.parent)


def _fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hashes_stored(directory: Path, mine: Callable[[bytes], bool]) -> frozenset[str]:
    """Of all blocks there, with a result and without, that are ours by their note. Raises OSError."""
    found = set()
    for path in paths_in(directory):
        if "-" not in path.stem or not path.suffix:
            continue
        try:
            note = note_of(path)
        except FileNotFoundError:
            continue  # its owner has renamed it, with a result
        except OSError:
            note = b""  # whoever is to submit it says why it cannot be read
        if mine(note):
            found.add(path.stem.partition("-")[2])
    return frozenset(found)


def without_result(directory: Path, earlier: frozenset[str]) -> list[tuple[int, str, Path]]:
    """Height, hash and file of these blocks, where they have none; the lowest first. Raises OSError."""
    found = []
    for path in paths_in(directory):
        height, _, hash_hex = path.stem.partition("-")
        pending = path.suffix == PENDING and height.isdecimal() and len(hash_hex) == 64
        if pending and hash_hex in earlier:
            found.append((int(height), hash_hex, path))
    return sorted(found)[:PENDING_BLOCKS_MAX]


def count_by_parent(paths: Sequence[Path]) -> Counter[bytes]:
    """How many of these blocks follow which one; not of what cannot be read."""
    found = Counter[bytes]()
    for path in paths:
        with contextlib.suppress(OSError), path.open("rb") as file:
            found[file.read(PARENT.stop)[PARENT]] += 1
    return found


def has_sibling(path: Path, parent: bytes) -> bool:
    """Whether another block of ours on this parent, of the same height, was accepted in an earlier run.

    Raises OSError."""
    height, _, _ = path.stem.partition("-")
    for other in paths_in(path.parent):
        if other.suffix != _ACCEPTED or not other.stem.startswith(f"{height}-"):
            continue
        with other.open("rb") as file:
            if file.read(PARENT.stop)[PARENT] == parent:
                return True
    return False
