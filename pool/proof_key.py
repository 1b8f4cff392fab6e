"""The files with the key that statements are signed with, and with those before it.

Must not know: what is signed.
"""

import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from payouts.proof.key import SECRET_BYTES, NoSigning, ProofKey
from pool.key_file import from_hex, read_key, write_key
from pool.settings_file import BadConfig

SETTING: Final = "proof.key_file"
FORMER_SETTING: Final = "proof.former_key_files"


def read_proof_key(path: Path, former: Iterable[Path] = (), lost: str | None = None) -> ProofKey:
    """With those that signed before it. Raises BadConfig, which never says what is in a file."""
    before = tuple(_read(it, FORMER_SETTING) for it in former)
    return _read(path, SETTING, before, lost)


def _read(path: Path, setting: str, former: tuple[ProofKey, ...] = (), lost: str | None = None) -> ProofKey:
    secret = read_key(path, setting, from_hex, SECRET_BYTES, "angara proof key")
    try:
        return ProofKey(secret, former=former, lost=lost)
    except NoSigning as error:
        raise BadConfig(f"{setting}: {path}: {error}") from None


def make_proof_key(path: Path) -> ProofKey:
    """A new one. Raises BadConfig where there is a file already, NoSigning, and OSError."""
    key = ProofKey(secret := secrets.token_bytes(SECRET_BYTES))
    write_key(path, secret.hex().encode(), "what it signed is known by that key alone")
    return key
