"""The file with the key that statements are signed with.

Must not know: what is signed.
"""

import secrets
from pathlib import Path
from typing import Final

from payouts.proof.key import SECRET_BYTES, NoSigning, ProofKey
from pool.key_file import from_hex, read_key, write_key
from pool.settings_file import BadConfig

SETTING: Final = "proof.key_file"


def read_proof_key(path: Path) -> ProofKey:
    """Raises BadConfig, which never says what is in the file."""
    secret = read_key(path, SETTING, from_hex, SECRET_BYTES, "angara proof key")
    try:
        return ProofKey(secret)
    except NoSigning as error:
        raise BadConfig(f"{SETTING}: {path}: {error}") from None


def make_proof_key(path: Path) -> ProofKey:
    """A new one. Raises BadConfig where there is a file already, NoSigning, and OSError."""
    key = ProofKey(secret := secrets.token_bytes(SECRET_BYTES))
    write_key(path, secret.hex().encode(), "what it signed is known by that key alone")
    return key
