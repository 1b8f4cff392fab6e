"""A token in a file: who gives a command, where several persons have one account of the host.

It is never on the command line, which everybody on the host can read. Must not know: whose it is.
"""

import os
import stat
from pathlib import Path
from typing import Final

from pool.settings_file import BadConfig

BYTES_MAX: Final = 1_024  # a token has 60, and may be followed by a line's end
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def token_in(path: Path) -> str:
    """Raises BadConfig, which never says what is in the file."""
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid():
                raise BadConfig(
                    f"--token-file: {path} is another account's: a token is read from one's own file"
                )
            if found.st_mode & OTHERS and not stat.S_ISCHR(found.st_mode):
                raise BadConfig(
                    f"--token-file: others may read {path}: `chmod 600 {path}`, and make a new token"
                )
            data = file.read(BYTES_MAX)
    except OSError as error:
        raise BadConfig(f"--token-file: cannot read {path}: {error.strerror}") from None
    try:
        token = data.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or not token:
        raise BadConfig(f"--token-file: there is no token in {path}")
    return token
