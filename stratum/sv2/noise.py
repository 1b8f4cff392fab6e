"""The encrypted connection, on the server's side: the handshake, and frames in both directions.

    WAITING  -- 64 bytes: the machine's ephemeral key -->  OPEN, with 234 bytes to send
    OPEN     -- frames --

Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256 (specification, 4.5): `-> e`, then `<- e, ee, s, es` and the
certificate. A machine proves nothing about itself; who it is it says later. Each frame is a header of 6 bytes
and a payload, encrypted apart; a payload in blocks of at most 65,535 bytes.

Invariants: a nonce is used once; what does not decrypt, or is longer than it may be, ends the connection; a
handshake that is sent again meets another ephemeral key, so that nothing that was recorded is worth anything.
Must not know: what frames say, sockets.
"""

import hashlib
import hmac
from struct import Struct
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from stratum.sv2.authority import Credentials
from stratum.sv2.secp256k1 import ENCODED_BYTES, key_pair

PROTOCOL_NAME: Final = b"Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256"
MAC_BYTES: Final = 16
HEADER_BYTES: Final = 6
BLOCK_BYTES_MAX: Final = 65_535  # encrypted
PLAIN_BYTES_MAX: Final = BLOCK_BYTES_MAX - MAC_BYTES
# The longest that a machine has to say is who it is, five texts of 255 bytes; a share is 60. As a line of V1.
PAYLOAD_BYTES_MAX: Final = 8_192
_HEADER: Final = Struct("<HBHB")  # the length has 24 bits


class BadPeer(Exception):
    """What came is not the protocol: the connection is over."""


class Frame(msgspec.Struct, frozen=True):
    """A message: which, and its payload. `extension` has the bit that says whether it is a channel's."""

    extension: int
    kind: int
    payload: bytes

    @property
    def packed(self) -> bytes:
        size = len(self.payload)
        return _HEADER.pack(self.extension, self.kind, size & 0xFFFF, size >> 16) + self.payload


def unpack_header(header: bytes) -> tuple[int, int, int]:
    """Extension, kind, length of the payload."""
    extension, kind, low, high = _HEADER.unpack_from(header)
    return extension, kind, low | high << 16


def encrypted_size(plain_size: int) -> int:
    """Bytes of a payload on the wire."""
    whole, rest = divmod(plain_size, PLAIN_BYTES_MAX)
    return whole * BLOCK_BYTES_MAX + (rest + MAC_BYTES if rest else 0)


class CipherState:
    """One direction, from one key."""

    __slots__ = ("_cipher", "_nonce")

    def __init__(self, key: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._nonce = 0

    def encrypt(self, plain: bytes, associated: bytes | None = None) -> bytes:
        return self._cipher.encrypt(self._next(), plain, associated)

    def decrypt(self, data: bytes, associated: bytes | None = None) -> bytes:
        """Raises BadPeer."""
        try:
            return self._cipher.decrypt(self._next(), data, associated)
        except InvalidTag:
            raise BadPeer("decryption failed") from None

    def _next(self) -> bytes:
        nonce = self._nonce
        self._nonce += 1
        return b"\0\0\0\0" + nonce.to_bytes(8, "little")


def hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """Two keys of 32 bytes."""
    temporary = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(temporary, b"\x01", "sha256")
    return first, hmac.digest(temporary, first + b"\x02", "sha256")


class SymmetricState:
    """The hash of all that was said, and the keys that follow from it."""

    def __init__(self) -> None:
        self.chaining_key = hashlib.sha256(PROTOCOL_NAME).digest()
        self.hash = hashlib.sha256(self.chaining_key).digest()
        self._cipher: CipherState | None = None

    def mix_hash(self, data: bytes) -> None:
        self.hash = hashlib.sha256(self.hash + data).digest()

    def mix_key(self, material: bytes) -> None:
        self.chaining_key, key = hkdf(self.chaining_key, material)
        self._cipher = CipherState(key)

    def encrypt_and_hash(self, plain: bytes) -> bytes:
        assert self._cipher is not None
        data = self._cipher.encrypt(plain, self.hash)
        self.mix_hash(data)
        return data

    def split(self) -> tuple[CipherState, CipherState]:
        """What the machine says is encrypted with the first, what it hears with the second."""
        first, second = hkdf(self.chaining_key, b"")
        return CipherState(first), CipherState(second)


class NoiseServer:
    """One connection. `shake` once, with the first 64 bytes; then `feed`, `next_frame` and `encrypt`."""

    __slots__ = ("_header", "_heard", "_received", "_said")

    def __init__(self) -> None:
        self._received = bytearray()
        self._heard: CipherState | None = None
        self._said: CipherState | None = None
        self._header: tuple[int, int, int] | None = None  # of the frame whose payload is not whole

    def shake(self, theirs: bytes, credentials: Credentials) -> bytes:
        """Answer the machine's ephemeral key; open from here on."""
        assert self._heard is None
        if len(theirs) != ENCODED_BYTES:
            raise BadPeer("no key")
        state, ephemeral, static = SymmetricState(), key_pair(), credentials.static
        state.mix_hash(theirs)
        state.mix_hash(b"")  # its payload
        state.mix_hash(ephemeral.encoded)
        state.mix_key(ephemeral.shared_secret(theirs, initiates=False))
        said = ephemeral.encoded + state.encrypt_and_hash(static.encoded)
        state.mix_key(static.shared_secret(theirs, initiates=False))
        said += state.encrypt_and_hash(credentials.certificate().packed)
        self._heard, self._said = state.split()
        return said

    def feed(self, data: bytes) -> None:
        """What has come; nothing of it is looked at before `next_frame`."""
        self._received += data

    @property
    def has_more(self) -> bool:
        """Whether `next_frame` has anything to do."""
        header = self._header
        needed = HEADER_BYTES + MAC_BYTES if header is None else encrypted_size(header[2])
        return len(self._received) >= needed

    def next_frame(self) -> Frame | None:
        """The next one that is whole by now. Raises BadPeer."""
        heard = self._heard
        assert heard is not None
        if self._header is None:
            if not self.has_more:
                return None
            self._header = unpack_header(heard.decrypt(self._take(HEADER_BYTES + MAC_BYTES)))
            if self._header[2] > PAYLOAD_BYTES_MAX:
                raise BadPeer("message too long")
        if not self.has_more:
            return None
        extension, kind, size = self._header
        payload = heard.decrypt(self._take(size + MAC_BYTES)) if size else b""
        self._header = None
        return Frame(extension, kind, payload)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def encrypt(self, frames: bytes) -> bytes:
        """Whole frames, one behind the other, as they go on the wire."""
        said, at, out = self._said, 0, []
        assert said is not None
        while at < len(frames):
            header = frames[at : at + HEADER_BYTES]
            out.append(said.encrypt(header))
            at, end = at + HEADER_BYTES, at + HEADER_BYTES + unpack_header(header)[2]
            for start in range(at, end, PLAIN_BYTES_MAX):
                out.append(said.encrypt(frames[start : min(end, start + PLAIN_BYTES_MAX)]))
            at = end
        return b"".join(out)
