"""A secret in a file that its owner alone reads. It is read each time, so another one is in force at once.

Must not know: what it is for, and never says what is in it.
"""

import os
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES_MIN: Final = 32  # `openssl rand -hex 32` gives 64: nobody finds it by trying
SECRET_BYTES_MAX: Final = 1_024
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class BadSecret(Exception):
    """There is none that can be used; the text says why, and nothing of it."""


def secret_in(path: Path) -> bytes:
    """Without spaces and line ends around it. Raises BadSecret."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise BadSecret(f"{path} is no file")
            if found.st_uid not in (os.geteuid(), 0):
                raise BadSecret(f"{path} is another account's")
            if found.st_mode & OTHERS:
                raise BadSecret(f"others may read {path}: `chmod 600 {path}`, and make a new secret")
            secret = os.read(descriptor, SECRET_BYTES_MAX + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadSecret(f"cannot read {path}: {error.strerror}") from None
    secret = secret.strip()
    if not SECRET_BYTES_MIN <= len(secret) <= SECRET_BYTES_MAX:
        raise BadSecret(f"the secret in {path} has not {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes")
    return secret
