"""How a record stands in a file: framed, numbered, and chained to the one before it by a keyed hash.

    mark     4   where a record may begin
    length   4   of its body
    number   8   counts the writer's records, from 1
    before  16   digest of the record before it
    digest  16   of all this and the body
    body

Each record proves itself, so one that is good is told from what was torn wherever it is found; and each names
the one before it, so what was left out, put elsewhere or put back is found by its neighbours. The key is the
writer's name, which no miner ever sees: what miners choose (names of machines) is in the bodies, and nobody
can write a record into a name.

Must not know: files, and what a body says.
"""

import struct
from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import msgspec

MARK: Final = b"\xa7\x4a\x4c\x01"
DIGEST_BYTES: Final = 16
HEAD: Final = struct.Struct(f"<4sIQ{DIGEST_BYTES}s{DIGEST_BYTES}s")
# A commit of all replies that may wait for one (stratum.miners.group_commit) is some 3 MiB.
BODY_BYTES_MAX: Final = 64 << 20
_START: Final = bytes(DIGEST_BYTES)


class Place(msgspec.Struct, frozen=True):
    """A record as whoever goes on behind it has to know it; number 0 is before the first."""

    number: int = 0
    digest: bytes = _START


class Frame(msgspec.Struct, frozen=True):
    """A record that was found whole."""

    at: Place
    before: bytes  # digest of the one before it
    body: bytes
    end: int  # offset behind it


def framed(writer: str, before: Place, body: bytes) -> tuple[bytes, Place]:
    """The bytes of the record that follows, and its place."""
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"a record of {len(body)} bytes: no commit has as many")
    number = before.number + 1
    digest = _digest(writer, number, before.digest, body)
    return HEAD.pack(MARK, len(body), number, before.digest, digest) + body, Place(number, digest)


def frame_at(writer: str, data: bytes | memoryview, offset: int) -> Frame | None:
    """The record that begins there, whole; None where there is none, or not all of it."""
    if offset + HEAD.size > len(data):
        return None
    mark, length, number, before, digest = HEAD.unpack_from(data, offset)
    end = offset + HEAD.size + length
    if mark != MARK or length > BODY_BYTES_MAX or end > len(data):
        return None
    body = bytes(data[offset + HEAD.size : end])
    if digest != _digest(writer, number, before, body):
        return None
    return Frame(Place(number, digest), before, body, end)


def frames_behind(writer: str, data: bytes, offset: int) -> Iterator[Frame]:
    """Whole records anywhere behind an offset: in what a torn record left there are none."""
    while (offset := data.find(MARK, offset)) >= 0:
        frame = frame_at(writer, data, offset)
        if frame is not None:
            yield frame
        offset = offset + 1 if frame is None else frame.end


def _digest(writer: str, number: int, before: bytes, body: bytes) -> bytes:
    hashed = blake2b(key=writer.encode(), digest_size=DIGEST_BYTES)
    hashed.update(struct.pack("<Q", number))
    hashed.update(before)
    hashed.update(body)
    return hashed.digest()
