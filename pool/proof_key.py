"""The file with the key that statements are signed with: its owner's alone, and in no book, backup or log.

Must not know: what is signed.
"""

import os
import secrets
import stat
from pathlib import Path

from payouts.proof.key import SECRET_BYTES, NoSigning, ProofKey
from pool.settings_file import BadConfig
from pool.whole_file import write_whole


def read_proof_key(path: Path) -> ProofKey:
    """Raises BadConfig, which never says what is in the file."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            text = file.read(256)
    except OSError as error:
        raise BadConfig(f"proof.key_file: {path}: {error.strerror}") from None
    if about.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadConfig(f"proof.key_file: others may read {path}: chmod 600 it")
    try:
        secret = bytes.fromhex(text.decode("ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise BadConfig(f"proof.key_file: {path} is no key: `angara proof key` makes one")
    try:
        return ProofKey(secret)
    except NoSigning as error:
        raise BadConfig(f"proof.key_file: {path}: {error}") from None


def make_proof_key(path: Path) -> ProofKey:
    """A new one. Raises BadConfig where there is a file already, NoSigning, and OSError."""
    if path.exists() or path.is_symlink():
        raise BadConfig(f"there is {path} already: what it signed is known by that key alone")
    key = ProofKey(secret := secrets.token_bytes(SECRET_BYTES))
    write_whole(path, secret.hex().encode() + b"\n")
    return key
