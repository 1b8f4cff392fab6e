"""Shares that were kept, as books have them, and their Merkle tree.

Which ones are kept nobody chooses: those whose hash is of some difficulty or more, whatever they are credited
as. A miner finds no more of them than his machines' work is, and each proves as much of it; a pool cannot
leave out others than it said beforehand. They stand in the order of their hashes, each once.

    share       tagged("angara/share", header | difficulty's exponent, 1 byte | minute, 8 bytes | worker)
    above two   tagged("angara/pair", left | right); beside the last leaf stands NOTHING

Must not know: the database.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from payouts.proof.angara_verify import NOTHING, pair, reaches, sha256d

_SHARE: Final = struct.Struct("<80sIIb3x")
SHARE_BYTES: Final = _SHARE.size
# Of one settlement: half a megabyte of paths, and 25 MB of memory. Where there are more, those are left whose
# hash is of twice the difficulty, and again.
SHARES_MAX: Final = 1 << 18


class Share(msgspec.Struct, frozen=True, gc=False):  # numbers and bytes: nothing to collect
    """A share that was kept, by the number of its machine's row."""

    header: bytes
    worker_id: int
    minute: int  # since 1970
    difficulty_log2: int  # that it was credited as

    @property
    def hash(self) -> bytes:
        return sha256d(self.header)


def packed(shares: Iterable[Share]) -> bytes:
    """For the books: headers of one block differ in some forty bytes."""
    records = (_SHARE.pack(it.header, it.worker_id, it.minute, it.difficulty_log2) for it in shares)
    return zlib.compress(b"".join(records))


def unpacked(data: bytes) -> list[Share]:
    """What was packed. Raises ValueError."""
    try:
        return [Share(*fields) for fields in _SHARE.iter_unpack(zlib.decompress(data))]
    except (zlib.error, struct.error) as error:
        raise ValueError(f"these are no shares: {error}") from None


def in_order(
    parts: Iterable[tuple[int, bytes]], from_log2: int, *, at_most: int = SHARES_MAX
) -> tuple[int, list[Share]]:
    """All shares of some parts whose hash is of difficulty 2**from_log2 or more, in the order of their
    hashes, each once; and that exponent, which is larger where a part has none below, or there are more."""
    found: dict[bytes, Share] = {}
    least = from_log2
    for part_log2, data in parts:
        least = max(least, part_log2)
        found.update((it.hash, it) for it in unpacked(data))
        while len(found) > at_most:
            least += 1
            found = _hard(found, least)
    found = _hard(found, least)
    return least, [found[hash_] for hash_ in sorted(found)]


class Tree:
    """Of leaves' hashes, in their order."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self._levels = [list(leaves)]
        while len(below := self._levels[-1]) > 1:
            if len(below) % 2:
                below.append(NOTHING)
            self._levels.append([pair(below[at], below[at + 1]) for at in range(0, len(below), 2)])

    @property
    def root(self) -> bytes:
        """NOTHING where there is no leaf."""
        return self._levels[-1][0] if self._levels[-1] else NOTHING

    def path(self, index: int) -> tuple[bytes, ...]:
        """Beside the way of that leaf, from below; bit i of `index` says that it comes from the right."""
        return tuple(nodes[index >> level ^ 1] for level, nodes in enumerate(self._levels[:-1]))


def _hard(shares: dict[bytes, Share], from_log2: int) -> dict[bytes, Share]:
    return {hash_: it for hash_, it in shares.items() if reaches(hash_, from_log2)}
