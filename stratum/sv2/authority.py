"""Who a pool is: its authority key, and certificates that this key has signed for the keys of its servers.

Machines know the public half, base58check behind the address in their settings; whoever has the secret half
can be the pool to all of them. A server makes a static key of its own at every start, which no file has, and
has it certified for as long as the settings say: a certificate is renewed in time for connections to come,
and asks nothing of those that there are.

Must not know: handshakes, sockets, files.
"""

import hashlib
import time
from collections.abc import Callable
from struct import pack
from typing import Final

import msgspec

from stratum.sv2.secp256k1 import X_ONLY_BYTES, KeyPair, key_pair

CERTIFICATE_VERSION: Final = 0
PUBLIC_KEY_PREFIX: Final = bytes((1, 0))  # version 1, little-endian
# A machine whose clock is behind by less takes the certificate of a server that has just started.
CLOCK_SLACK_S: Final = 3_600
RENEWED_AFTER: Final = 2  # of so many parts of its time one
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58check(data: bytes) -> str:
    """Bitcoin's: the data and four bytes of its hash."""
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return _ALPHABET[0] * (len(data) - len(data.lstrip(b"\0"))) + text


def public_text(public_x_only: bytes) -> str:
    """An authority's public key as machines are told it (specification, 4.7)."""
    assert len(public_x_only) == X_ONLY_BYTES
    return base58check(PUBLIC_KEY_PREFIX + public_x_only)


class Certificate(msgspec.Struct, frozen=True):
    """What a server shows of itself: SIGNATURE_NOISE_MESSAGE. Times are Unix seconds."""

    valid_from: int
    not_valid_after: int
    signature: bytes

    @property
    def packed(self) -> bytes:
        return pack("<HII", CERTIFICATE_VERSION, self.valid_from, self.not_valid_after) + self.signature


def certified_hash(valid_from: int, not_valid_after: int, server_x_only: bytes) -> bytes:
    """What an authority signs."""
    fields = pack("<HII", CERTIFICATE_VERSION, valid_from, not_valid_after)
    return hashlib.sha256(fields + server_x_only).digest()


class Credentials:
    """The static key of a server and its certificate of now. `validity_s`: for how long one is."""

    def __init__(
        self, authority: KeyPair, *, validity_s: int, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self.static = key_pair()
        self.public = public_text(authority.x_only)
        self._authority, self._validity_s = authority, validity_s
        self._wall_clock = wall_clock
        self._made_s = 0
        self._certificate = self._certify()

    def certificate(self) -> Certificate:
        """One that is good for half of its time at least, whatever the clock did since it was made."""
        age_s = self._wall_clock() - self._made_s
        if not 0 <= age_s < self._validity_s / RENEWED_AFTER:
            self._certificate = self._certify()
        return self._certificate

    def _certify(self) -> Certificate:
        self._made_s = now_s = int(self._wall_clock())
        since_s, until_s = now_s - CLOCK_SLACK_S, now_s + self._validity_s
        signature = self._authority.sign(certified_hash(since_s, until_s, self.static.x_only))
        return Certificate(since_s, until_s, signature)
