"""The curve: key pairs, shared secrets, signatures. libsecp256k1 does the arithmetic, in the build that
coincurve brings; here it is called, and what it answers is checked.

Keys on the wire are ElligatorSwift (BIP 324), which looks like 64 random bytes; in certificates they are 32
bytes of an x coordinate (BIP 340). Secret keys never leave a `KeyPair` but where one is written to its file.
Must not know: handshakes, certificates, files.
"""

import secrets
from typing import Any, Final

import msgspec
from coincurve._libsecp256k1 import ffi as _ffi
from coincurve._libsecp256k1 import lib as _lib

SECRET_BYTES: Final = 32
ENCODED_BYTES: Final = 64
X_ONLY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class BadKey(ValueError):
    """Bytes that are no key of this curve."""


def _randomised() -> Any:
    """A context that is blinded: what an operation takes says nothing about the secret."""
    context = _ffi.gc(_lib.secp256k1_context_create(1), _lib.secp256k1_context_destroy)
    assert _lib.secp256k1_context_randomize(context, secrets.token_bytes(32))
    return context


_CONTEXT: Final = _randomised()


class KeyPair(msgspec.Struct, frozen=True):
    """A secret and its public key, encoded; of two encodings of one key each is as good as the other."""

    secret: bytes
    encoded: bytes

    def __repr__(self) -> str:
        return f"KeyPair({self.encoded.hex()[:16]}...)"

    @property
    def x_only(self) -> bytes:
        """Its public key as certificates and signatures have it."""
        return x_only(self.encoded)

    def shared_secret(self, theirs: bytes, *, initiates: bool) -> bytes:
        """With the owner of that encoded key, of whom one initiates (BIP 324, v2_ecdh). Any 64 bytes are
        somebody's key."""
        if len(theirs) != ENCODED_BYTES:
            raise BadKey(f"an encoded key has {ENCODED_BYTES} bytes")
        a, b = (self.encoded, theirs) if initiates else (theirs, self.encoded)
        out = _ffi.new("unsigned char[32]")
        party, hashed = 0 if initiates else 1, _lib.secp256k1_ellswift_xdh_hash_function_bip324
        if not _lib.secp256k1_ellswift_xdh(_CONTEXT, out, a, b, self.secret, party, hashed, _ffi.NULL):
            raise BadKey("the secret is none of this curve")
        return bytes(out)

    def sign(self, message_hash: bytes) -> bytes:
        """BIP 340, of 32 bytes."""
        if len(message_hash) != 32:
            raise ValueError("32 bytes are signed")
        pair, signature = _ffi.new("secp256k1_keypair *"), _ffi.new("unsigned char[64]")
        _must(_lib.secp256k1_keypair_create(_CONTEXT, pair, self.secret))
        _must(
            _lib.secp256k1_schnorrsig_sign32(_CONTEXT, signature, message_hash, pair, secrets.token_bytes(32))
        )
        return bytes(signature)


def _must(done: int) -> None:
    if not done:
        raise BadKey("the secret is none of this curve")


def key_pair(secret: bytes | None = None) -> KeyPair:
    """A new one, or the one of this secret. Raises BadKey where that is none."""
    secret = secrets.token_bytes(SECRET_BYTES) if secret is None else secret
    if len(secret) != SECRET_BYTES:
        raise BadKey(f"a secret has {SECRET_BYTES} bytes")
    out = _ffi.new("unsigned char[64]")
    _must(_lib.secp256k1_ellswift_create(_CONTEXT, out, secret, secrets.token_bytes(32)))
    return KeyPair(secret, bytes(out))


def x_only(encoded: bytes) -> bytes:
    """The x coordinate that an encoded key stands for."""
    if len(encoded) != ENCODED_BYTES:
        raise BadKey(f"an encoded key has {ENCODED_BYTES} bytes")
    point, x = _ffi.new("secp256k1_pubkey *"), _ffi.new("secp256k1_xonly_pubkey *")
    _must(_lib.secp256k1_ellswift_decode(_CONTEXT, point, encoded))
    _must(_lib.secp256k1_xonly_pubkey_from_pubkey(_CONTEXT, x, _ffi.NULL, point))
    out = _ffi.new("unsigned char[32]")
    _must(_lib.secp256k1_xonly_pubkey_serialize(_CONTEXT, out, x))
    return bytes(out)


def verifies(signature: bytes, message_hash: bytes, public_x_only: bytes) -> bool:
    """Whether who owns that key has signed these 32 bytes (BIP 340)."""
    if len(signature) != SIGNATURE_BYTES or len(public_x_only) != X_ONLY_BYTES or len(message_hash) != 32:
        return False
    x = _ffi.new("secp256k1_xonly_pubkey *")
    if not _lib.secp256k1_xonly_pubkey_parse(_CONTEXT, x, public_x_only):
        return False
    return bool(_lib.secp256k1_schnorrsig_verify(_CONTEXT, signature, message_hash, 32, x))
