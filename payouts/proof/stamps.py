"""What an OpenTimestamps file says of a hash: the way from it up to blocks of Bitcoin, or to calendars that
have promised one.

A calendar is a stranger: whatever it answers ends in a stamp that can be read again, or in BadStamp, and
however large it is there is room for those of the others. Reading and writing is the library's, bounds are
ours.

A way to a block says that the hash was there when the block was made, and no more: not whose it is, nor that
there is no other. Must not know: how calendars are asked, where files are, which blocks there are.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Self, TypeVar

import msgspec
from opentimestamps.core.notary import BitcoinBlockHeaderAttestation, PendingAttestation
from opentimestamps.core.op import OpSHA256
from opentimestamps.core.serialize import BytesDeserializationContext, BytesSerializationContext
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

CALENDARS_MAX: Final = 8
ANSWER_BYTES_MAX: Final = 10_000  # of a calendar: one of today has a thousand
PROMISES_MAX: Final = 4  # of one answer: each is a question, until a block is named for it
# Of each calendar the first answer, and one for each of its promises.
STAMP_BYTES_MAX: Final = CALENDARS_MAX * (1 + PROMISES_MAX) * ANSWER_BYTES_MAX + 1_000
HEIGHT_MAX: Final = 100_000_000  # two thousand years
HASH_BYTES: Final = 32
COMMITMENT_BYTES_MAX: Final = 64  # as calendars have it: a longer one is no question that any answers

_Read = TypeVar("_Read")


class BadStamp(Exception):
    """It is no stamp of that hash, or more than one is: in words, why."""


class Promise(msgspec.Struct, frozen=True):
    """A calendar's, to tell of a block for what it made of the hash, which it has not done yet."""

    calendar: str
    commitment: bytes


class InBlock(msgspec.Struct, frozen=True):
    """A block in whose merkle root the hash is, if the chain has it."""

    height: int
    merkle_root: bytes


class Stamp:
    """Of one hash, as it was read."""

    def __init__(self, tree: Any) -> None:
        self._tree = tree
        self.digest: bytes = tree.msg
        promises, blocks = set(), set()
        for node in _nodes(tree):
            named = [it.height for it in node.attestations if isinstance(it, BitcoinBlockHeaderAttestation)]
            blocks |= {InBlock(it, node.msg) for it in named}
            pending = [it for it in node.attestations if isinstance(it, PendingAttestation)]
            if pending and not _is_in_a_block(node):
                promises |= {Promise(it.uri.rstrip("/"), node.msg) for it in pending}
        self.promises = tuple(sorted(promises, key=lambda it: (it.calendar, it.commitment)))
        self.blocks = tuple(sorted(blocks, key=lambda it: (it.height, it.merkle_root)))

    @classmethod
    def read(cls, data: bytes, digest: bytes) -> Self:
        """A file, which is to be of that hash. Raises BadStamp."""
        if len(data) > STAMP_BYTES_MAX:
            raise BadStamp(f"it has more than {STAMP_BYTES_MAX} bytes")
        file = _read(data, DetachedTimestampFile.deserialize)
        if not isinstance(file.file_hash_op, OpSHA256) or file.file_digest != digest:
            raise BadStamp("it is of another hash")
        return cls(file.timestamp)._see_that_it_is_sound()

    @classmethod
    def promised(cls, digest: bytes, answer: bytes, before: Self | None = None) -> Self:
        """What a calendar says at once of a hash, beside what others said `before`. Raises BadStamp."""
        more = _answer(answer, digest)
        return cls(more) if before is None else before._with(more)

    def kept(self, promise: Promise, answer: bytes) -> Self:
        """With the block that a calendar names for what it promised. Raises BadStamp."""
        more = _answer(answer, promise.commitment)
        if Stamp(more).promises:
            raise BadStamp("it promises once more, in place of a block")
        return self._with(more)

    def _with(self, more: Any) -> Self:
        tree = _read(self.written(), DetachedTimestampFile.deserialize).timestamp
        places = [it for it in _nodes(tree) if it.msg == more.msg]
        if not places:
            raise BadStamp("it is of another hash")
        for it in places:
            it.merge(more)
        return self.read(type(self)(tree).written(), self.digest)

    def written(self) -> bytes:
        """As a file, as every program of OpenTimestamps reads it."""
        context = BytesSerializationContext()
        DetachedTimestampFile(OpSHA256(), self._tree).serialize(context)
        data: bytes = context.getbytes()
        return data

    def _see_that_it_is_sound(self) -> Self:
        """Raises BadStamp."""
        if not self.promises and not self.blocks:
            raise BadStamp("it names neither a block nor a calendar")
        if any(len(it.commitment) > COMMITMENT_BYTES_MAX for it in self.promises):
            raise BadStamp("it promises a block for what no calendar can be asked")
        if any(not 0 < it.height <= HEIGHT_MAX or len(it.merkle_root) != HASH_BYTES for it in self.blocks):
            raise BadStamp("it names a block that there cannot be")
        return self


def _answer(answer: bytes, of: bytes) -> Any:
    if len(answer) > ANSWER_BYTES_MAX:
        raise BadStamp(f"it has more than {ANSWER_BYTES_MAX} bytes")
    tree = _read(answer, lambda context: Timestamp.deserialize(context, of))
    pending = [it for _, it in tree.all_attestations() if isinstance(it, PendingAttestation)]
    if len(pending) > PROMISES_MAX:
        raise BadStamp(f"it promises more than {PROMISES_MAX} times")
    Stamp(tree)._see_that_it_is_sound()
    return tree


def _is_in_a_block(node: Any) -> bool:
    return any(isinstance(it, BitcoinBlockHeaderAttestation) for _, it in node.all_attestations())


def _read(data: bytes, how: Callable[[Any], _Read]) -> _Read:
    context = BytesDeserializationContext(data)
    try:
        found = how(context)
        context.assert_eof()
    except Exception as error:  # the library's, about what a stranger wrote
        raise BadStamp(f"it is no stamp: {type(error).__name__}") from None
    return found


def _nodes(tree: Any) -> Iterator[Any]:
    left = [tree]
    while left:
        node = left.pop()
        yield node
        left += node.ops.values()
