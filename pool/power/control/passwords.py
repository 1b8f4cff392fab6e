"""Passwords of machines at rest: sealed with a key that is in a file of its own, and in nothing else.

    sealed    AES-256-GCM of user and password, bound to the firmware and the scope that they are for

The books, copies of them, NATS and the file of who is held off have what is sealed. The key is with whoever
speaks to machines: the pool, or the edge at their site. What is sealed for one firmware opens for no other:
an Antminer's password, which is proven, is not sent in clear because somebody says that it is a VNish.

Must not know: who is spoken to.
"""

import base64
import secrets
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pool.key_file import read_key, write_key
from pool.power.control.contract import Firmware
from pool.power.control.firmware import Credential

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
CHARS_MAX: Final = 128  # of a user, and of a password
SEALED_CHARS_MAX: Final = 1024
EVERYWHERE: Final = ""
CONTAINER: Final = "container:"


class BadKey(Exception):
    """What is sealed does not open: another key, or it was put in another's place."""


class Sealed(msgspec.Struct, frozen=True):
    """For machines of a firmware, in a scope: everywhere, site:NAME, container:TENANT.NAME."""

    firmware: Firmware
    scope: str
    text: str


def container_scope(tenant: str, container: str) -> str:
    """Of a container's machines."""
    return f"{CONTAINER}{tenant}.{container}"


class Keys:
    """One key."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        return "Keys(hidden)"

    def seal(self, firmware: Firmware, scope: str, credential: Credential) -> Sealed:
        """Raises ValueError for what no machine takes."""
        for text in (credential.user, credential.password):
            if len(text) > CHARS_MAX or not text.isprintable():
                raise ValueError(f"a user, and a password, has at most {CHARS_MAX} printable characters")
        nonce = secrets.token_bytes(NONCE_BYTES)
        said = msgspec.msgpack.encode((credential.user, credential.password))
        sealed = nonce + self._cipher.encrypt(nonce, said, _bound_to(firmware, scope))
        return Sealed(firmware, scope, base64.b64encode(sealed).decode())

    def open(self, sealed: Sealed) -> Credential:
        """Raises BadKey."""
        try:
            data = base64.b64decode(sealed.text, validate=True)
            said = self._cipher.decrypt(
                data[:NONCE_BYTES], data[NONCE_BYTES:], _bound_to(sealed.firmware, sealed.scope)
            )
            user, password = msgspec.msgpack.decode(said, type=tuple[str, str])
        except (InvalidTag, ValueError):
            raise BadKey("the password of these machines does not open with this key") from None
        return Credential(user, password)


def read_keys(path: Path) -> Keys:
    """Of a file that is its owner's alone. Raises BadConfig."""
    return Keys(read_key(path, "power.key_file", _from_base64, KEY_BYTES, "angara power credential key"))


def make_key(path: Path) -> None:
    """A new one. Raises BadConfig where there is a file already, and OSError."""
    text = base64.b64encode(secrets.token_bytes(KEY_BYTES))
    write_key(path, text, "passwords that it sealed open with it alone")


def _from_base64(text: bytes) -> bytes:
    return base64.b64decode(text, validate=True)


def _bound_to(firmware: Firmware, scope: str) -> bytes:
    return msgspec.msgpack.encode(("angara machine password 1", firmware.value, scope))
