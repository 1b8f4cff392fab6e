"""The file with the key that machines of Stratum V2 know the pool by.

Must not know: what is certified with it.
"""

from pathlib import Path
from typing import Final

from pool.key_file import from_hex, read_key, write_key
from pool.settings_file import BadConfig
from stratum.sv2.authority import public_text
from stratum.sv2.secp256k1 import SECRET_BYTES, BadKey, KeyPair, key_pair

SETTING: Final = "stratum.sv2.authority_file"


def read_authority(path: Path) -> KeyPair:
    """Raises BadConfig, which never says what is in the file."""
    secret = read_key(path, SETTING, from_hex, SECRET_BYTES, "angara sv2 key")
    try:
        return key_pair(secret)
    except BadKey:
        raise BadConfig(f"{SETTING}: {path} is no key: `angara sv2 key` makes one") from None


def make_authority(path: Path) -> str:
    """A new one; what machines are told of it. Raises BadConfig where there is a file already, OSError."""
    pair = key_pair()
    write_key(path, pair.secret.hex().encode(), "machines know the pool by that key alone")
    return public_text(pair.x_only)
