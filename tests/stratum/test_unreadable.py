"""Whatever bytes somebody else sends, there is one name for what reading them raises."""

from typing import Any

import msgspec
import pytest

from stratum.unreadable import NOT_READ


class Thing(msgspec.Struct):
    """As a message is read: `any` may be anything, and what it does not know is passed over."""

    whole: int = 0
    share: float = 0.0
    words: str = ""
    any: Any = None


JSON = {
    "nothing": b"",
    "cut off": b'{"whole": 1',
    "no JSON": b"\x00",
    "another type": b'{"whole": "1"}',
    "no text": b'{"words": "\xff"}',
    "half a character": rb'{"words": "\ud800"}',
    "deep": b'{"any": ' + b"[" * 100_000,
    "deep where nobody looks": b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "5,000 digits": b'{"whole": ' + b"1" * 5_000 + b"}",
    "5,000 digits of anything": b'{"any": ' + b"1" * 5_000 + b"}",
    "beyond a float": b'{"share": 1e999}',
    "no number": b'{"share": NaN}',
}
MSGPACK = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "a list of 4 GiB": b"\xdd\xff\xff\xff\xff",
    "no text": b"\x81\xa5words\xa1\xff",
    "half a character": b"\x81\xa5words\xa3\xed\xa0\x80",
    "deep": b"\x81\xa3any" + b"\x91" * 100_000,
    "deep where nobody looks": b"\x81\xa1x" + b"\x91" * 100_000,
    "a key that is none": b"\x81\xa3any\x81\x91\x80\x01",
    "a moment that never is": b"\x81\xa3any\xc7\x0c\xff" + b"\xff" * 12,
}


@pytest.mark.parametrize("data", JSON.values(), ids=JSON)
def test_what_is_no_json_is_not_read(data: bytes) -> None:
    with pytest.raises(NOT_READ):
        msgspec.json.decode(data, type=Thing)


@pytest.mark.parametrize("data", MSGPACK.values(), ids=MSGPACK)
def test_what_is_no_msgpack_is_not_read(data: bytes) -> None:
    with pytest.raises(NOT_READ):
        msgspec.msgpack.decode(data, type=Thing)
