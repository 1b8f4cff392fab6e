"""A key that an edge or a hub shows itself to NATS with: an Ed25519 seed in a file, whose public half is
what the servers' settings name. The file is the owner's alone, and what is in it is never said.

Must not know: what a key may do.
"""

import base64
import os
import stat
from pathlib import Path
from typing import Final

from pool.settings_file import BadConfig

SEED_BYTES_MAX: Final = 256  # a seed is a line of 58 characters
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
PUBLIC_CHARS: Final = 56
PUBLIC_BYTES: Final = 35  # that those are: what it is of, the key, and a checksum


def new_key(path: Path) -> str:
    """Writes a new seed where there is no file yet; the public half of it. Raises BadConfig."""
    import nkeys

    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(seed + b"\n")
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise BadConfig(f"{path} is there: a key is never written over another") from None
    except OSError as error:
        raise BadConfig(f"cannot write {path}: {error.strerror}") from None
    return public_of(seed.decode())


def seed_in(path: Path) -> str:
    """Raises BadConfig, which never says what is in the file."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid not in (os.geteuid(), 0):
                raise BadConfig(f"{path} is another account's: a key is read from one's own file, or root's")
            if found.st_mode & OTHERS and not (found.st_uid == 0 and os.geteuid() != 0):
                raise BadConfig(f"others may read {path}: `chmod 600 {path}`, and make a new key")
            if found.st_mode & stat.S_IRWXO:
                raise BadConfig(f"everybody may read {path}: `chmod o= {path}`, and make a new key")
            data = file.read(SEED_BYTES_MAX)
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from None
    try:
        seed = data.decode("ascii").strip()
        public_of(seed)
    except (UnicodeDecodeError, BadConfig):
        raise BadConfig(f"there is no key of NATS in {path}: `angara nats key` makes one") from None
    return seed


def public_of(seed: str) -> str:
    """What the servers know of it. Raises BadConfig for what is no seed of a user."""
    import nkeys

    try:
        prefix, raw = nkeys.decode_seed(seed.encode())
        again = nkeys.encode_seed(bytes(raw), prefix).decode()
    except Exception as error:  # whatever its decoder stumbles over
        raise BadConfig("that is no seed of a key") from error
    if prefix != nkeys.PREFIX_BYTE_USER or again != seed:
        raise BadConfig("that is no seed of a user's key")
    public: str = nkeys.from_seed(seed.encode()).public_key.decode()
    return public


def checked_public(text: str) -> str:
    """A public key as `angara nats key` prints it. Raises BadConfig, which says no word of what may be a
    secret again."""
    import nkeys

    if text.startswith("SU"):
        raise BadConfig("that is the secret half of a key: the public one begins with U; make a new key")
    if len(text) != PUBLIC_CHARS or not text.startswith("U"):
        raise BadConfig(f"that is no public key: one begins with U and has {PUBLIC_CHARS} characters")
    try:
        data = base64.b32decode(text)
    except ValueError:
        data = b""
    body, checksum = data[:-2], data[-2:]
    good = body[:1] == bytes([nkeys.PREFIX_BYTE_USER]) and len(data) == PUBLIC_BYTES
    if not good or nkeys.crc16(bytearray(body)).to_bytes(2, "little") != checksum:
        raise BadConfig(f"{text!r} is no public key: a character of it is wrong")
    return text
