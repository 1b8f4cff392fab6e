"""MD5-crypt, by which Whatsminers prove their password: Poul-Henning Kamp's, of 1994, no protection today.

Must not know: what it is of.
"""

import hashlib
from typing import Final

BLOCK_BYTES: Final = 16
SALT_CHARS_MAX: Final = 8  # it looks at no more
ROUNDS: Final = 1000
ALPHABET: Final = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def md5_crypt(password: bytes, salt: str) -> str:
    """The hash of `openssl passwd -1`, without the salt before it."""
    some = salt[:SALT_CHARS_MAX].encode()
    inner = hashlib.md5(password + some + password, usedforsecurity=False).digest()
    text = password + b"$1$" + some + (inner * (len(password) // BLOCK_BYTES + 1))[: len(password)]
    bits = len(password)
    while bits:
        text += b"\0" if bits & 1 else password[:1]
        bits >>= 1
    result = hashlib.md5(text, usedforsecurity=False).digest()
    for turn in range(ROUNDS):
        text = password if turn & 1 else result
        text += some if turn % 3 else b""
        text += password if turn % 7 else b""
        text += result if turn & 1 else password
        result = hashlib.md5(text, usedforsecurity=False).digest()
    groups = [(result[at], result[at + 6], result[at + 12 if at < 4 else 5]) for at in range(5)]
    words = "".join(_base64(a << 16 | b << 8 | c, 4) for a, b, c in groups)
    return words + _base64(result[11], 2)


def _base64(value: int, chars: int) -> str:
    return "".join(ALPHABET[value >> 6 * at & 63] for at in range(chars))
