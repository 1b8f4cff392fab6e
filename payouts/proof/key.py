"""The key that statements and roots are signed with, and what follows from it.

Signatures are BIP340's, with no randomness of their own, so that the same statement has the same bytes. What
blinds the leaves of a day follows from the key and the book alone.

Invariants: the secret is in no message, no repr and no book. Who verifies is not who signs: verification is
`angara_verify`'s. Must not know: files.
"""

import hashlib
import hmac
from typing import Final

from payouts.proof.angara_verify import signed_by, tagged

SECRET_BYTES: Final = 32


class NoSigning(ValueError):
    """Nothing can be signed: why, in words."""


class ProofKey:
    """The key that signs now. `former`: those that signed before it, as far as they are still there; `lost`:
    the public key, in hex, of one that nobody has any more. Raises NoSigning where it is none."""

    def __init__(
        self, secret: bytes, *, former: tuple["ProofKey", ...] = (), lost: str | None = None
    ) -> None:
        from coincurve import PrivateKey  # read only where something is signed

        if len(secret) != SECRET_BYTES:
            raise NoSigning(f"a key is {SECRET_BYTES} bytes")
        try:
            self._key = PrivateKey(secret)
        except ValueError:
            raise NoSigning("it is no key") from None
        self.public = self._key.public_key.format(compressed=True)[1:]
        self.former, self.lost = former, lost

    def __repr__(self) -> str:
        return f"ProofKey({self.public.hex()})"

    def of(self, public: str) -> "ProofKey | None":
        """The one of that public key, in hex: itself, or one before it."""
        return next((it for it in (self, *self.former) if it.public.hex() == public), None)

    def sign(self, message: bytes) -> bytes:
        """Of 32 bytes, which are a tagged hash. A wrong one could tell the key: it is looked at."""
        signature = bytes(self._key.sign_schnorr(message, bytes(32)))
        if not signed_by(self.public, message, signature):
            raise NoSigning("the signature that was made is wrong: this machine computes wrongly")
        return signature

    def blinding(self, book: str, day: int) -> "Blinding":
        """What leaves of that day of that book are blinded with."""
        secret = tagged("angara/blinding", self._key.secret + bytes.fromhex(book) + day.to_bytes(8, "big"))
        return Blinding(secret)


class Blinding:
    """Numbers that nobody can guess, and that are the same whenever they are asked for."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def of(self, *names: str | int) -> bytes:
        """32 bytes."""
        return hmac.new(self._secret, "|".join(map(str, names)).encode(), hashlib.sha256).digest()
