"""How deep JSON from others may be nested: our bound, before any decoder recurses into it.

What an interpreter's own recursion limit lets through differs from one Python to the next, and is far more
than anybody who means well sends. Must not know: what the JSON says.
"""

import re
from typing import Final

DEPTH_MAX: Final = 32  # Stratum needs 4, a JSON-RPC batch with descriptors 8

_ESCAPED: Final = re.compile(rb"\\.", re.DOTALL)
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def too_deep(text: bytes) -> bool:
    """Whether it has more than DEPTH_MAX levels; text that is no JSON may have twice as many."""
    if text.count(b"[") + text.count(b"{") <= DEPTH_MAX:
        return False
    if b"\\" in text:
        text = _ESCAPED.sub(b"", text)
    outside_strings = b"".join(text.split(b'"')[::2])
    brackets = outside_strings.translate(_SQUARE, _NO_BRACKETS)
    for _ in range(DEPTH_MAX):  # each time round, the innermost level goes
        brackets = brackets.replace(b"[]", b"")
    return b"[]" in brackets or brackets.count(b"[") > DEPTH_MAX
