"""A journal's frames as they are in its files, for whoever sends them elsewhere: some at a time, whole ones.

It may be read while somebody writes it. What is not known to be on its disk is not sent: where that loses it
with the power, the hub would have more of the journal than there is, and take who goes on for one that was
put back from a copy. What a crash tore is not sent either; whether one record goes on behind the other is for
who receives them to see. Nothing of a journal is kept here, so it costs who writes it nothing.

Blocks. Must not know: what a record says, and where frames go.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from pool.journal.frames import BODY_BYTES_MAX, HEAD, MARK, Place, frame_at
from pool.journal.segments import segment_path, segments


class FramesGone(Exception):
    """What is asked for is in no file any more: in words."""


class Frames(msgspec.Struct, frozen=True):
    """Whole ones, one behind the other; `first` is the number of the first one, `last` where they end."""

    first: int
    last: Place
    data: bytes


class JournalReader:
    """Of one writer; `synced` says which is the last record that is known to be on disk."""

    def __init__(self, directory: Path, synced: Callable[[], int]) -> None:
        self._directory, self._writer, self._synced = directory, directory.name, synced
        self._file: int | None = None  # by its first record
        self._offset = 0
        self._number = 0  # the last record that was read

    def read(self, behind: int, bytes_max: int, *, whole_file: bool = False) -> Frames | None:
        """Those behind a record, as many as these bytes have, and one at least; None where there are none
        yet. `whole_file`: from the first record of its file on. Raises FramesGone, OSError."""
        if whole_file or self._file is None or self._number != behind:
            if not self._begin(behind):
                return None
            if whole_file:
                behind = self._number
        first, last, parts, size = 0, Place(), list[bytes](), 0
        synced = self._synced()
        while size < bytes_max:
            there = segments(self._directory)  # first: where there is a next file, this one is whole
            data, offset = self._data(bytes_max - size), 0
            while (frame := frame_at(self._writer, data, offset)) is not None:
                if frame.at.number > synced:
                    return Frames(first, last, b"".join(parts)) if parts else None
                length = frame.end - offset
                if frame.at.number > behind:
                    if parts and size + length > bytes_max:
                        return Frames(first, last, b"".join(parts))
                    first, last = first or frame.at.number, frame.at
                    parts.append(data[offset : frame.end])
                    size += length
                offset = frame.end
                self._offset += length
                self._number = frame.at.number
            if not offset:
                later = [it for it, _ in there if it > self._at_file]
                if not later:
                    break
                if later[0] > self._number + 1:
                    if parts:
                        break
                    raise self._gone(self._number + 1, later[0] - 1)
                self._file, self._offset = later[0], 0
        return Frames(first, last, b"".join(parts)) if parts else None

    def _begin(self, behind: int) -> bool:
        """Stand before the first record of the file that the next one is in; False where there is none."""
        there = [first for first, _ in segments(self._directory)]
        if not there:
            return False
        file = max((it for it in there if it <= behind + 1), default=there[0])
        if file > behind + 1:
            raise self._gone(behind + 1, file - 1)
        self._file, self._offset, self._number = file, 0, file - 1
        return True

    def _data(self, size: int) -> bytes:
        """So many bytes of the file, or as many as the record there has, where it has more."""
        try:
            with segment_path(self._directory, self._at_file).open("rb") as file:
                file.seek(self._offset)
                data = file.read(max(size, HEAD.size))
                if len(data) >= HEAD.size and data[: len(MARK)] == MARK:
                    length = min(HEAD.unpack_from(data)[1], BODY_BYTES_MAX)
                    data += file.read(max(0, HEAD.size + length - len(data)))
                return data
        except FileNotFoundError:
            raise FramesGone(f"a file of the journal {self._writer} is gone while it is read") from None

    def _gone(self, first: int, last: int) -> FramesGone:
        return FramesGone(f"records {first} to {last} of the journal {self._writer} are in no file any more")

    @property
    def _at_file(self) -> int:
        assert self._file is not None
        return self._file
