"""The data types of Stratum V2: read from a payload, and written.

Numbers are little-endian. Texts are bytes that should be UTF-8: what is not, and what cannot be printed, is
no name of anybody. Behind the fields of a message stand TLV fields of extensions, which are big-endian.

Must not know: messages.
"""

from struct import Struct, error, pack
from typing import Final

TLV_HEADER: Final = Struct(">HBH")
_F32: Final = Struct("<f")


class BadPayload(ValueError):
    """Bytes that are not the message that they say they are."""


class Reader:
    """Takes one field after the other off a payload. Each raises BadPayload."""

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, size: int) -> bytes:
        data = self._payload[self._at : self._at + size]
        if len(data) != size:
            raise BadPayload("the payload is too short")
        self._at += size
        return data

    def unpack(self, layout: Struct) -> tuple[int, ...]:
        """Several numbers at once."""
        try:
            values = layout.unpack_from(self._payload, self._at)
        except error:
            raise BadPayload("the payload is too short") from None
        self._at += layout.size
        return values

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def f32(self) -> float:
        """It may be no number, and infinite."""
        value: float = _F32.unpack(self.take(4))[0]
        return value

    def sized(self, most: int) -> bytes:
        """Bytes behind a length of one byte: STR0_255, B0_255, B0_32."""
        size = self.number(1)
        if size > most:
            raise BadPayload("a field is too long")
        return self.take(size)

    def text(self) -> str:
        try:
            text = self.sized(255).decode()
        except UnicodeDecodeError:
            raise BadPayload("a text is not UTF-8") from None
        if not text.isprintable():
            raise BadPayload("a text cannot be printed")
        return text

    def numbers16(self) -> tuple[int, ...]:
        """SEQ0_64K[U16]"""
        count = self.number(2)
        data = self.take(2 * count)
        return tuple(int.from_bytes(data[at : at + 2], "little") for at in range(0, 2 * count, 2))

    def tlv(self) -> dict[tuple[int, int], bytes]:
        """What stands behind the fields, by extension and field. Of two alike the first counts."""
        found: dict[tuple[int, int], bytes] = {}
        while self._at < len(self._payload):
            extension, field, size = TLV_HEADER.unpack(self.take(TLV_HEADER.size))
            found.setdefault((extension, field), self.take(size))
        return found


def sized(data: bytes) -> bytes:
    """B0_255, B0_32"""
    assert len(data) <= 255
    return bytes((len(data),)) + data


def code(value: str) -> bytes:
    """STR0_255 of ours: an error or a reason, in printable ASCII."""
    return sized(value.encode("ascii", "replace")[:255])


def sized64k(data: bytes) -> bytes:
    """B0_64K"""
    return pack("<H", len(data)) + data


def number256(value: int) -> bytes:
    """U256"""
    return value.to_bytes(32, "little")


def numbers16(values: tuple[int, ...]) -> bytes:
    """SEQ0_64K[U16]"""
    return pack(f"<H{len(values)}H", len(values), *values)
