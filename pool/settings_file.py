"""The settings file as far as it says where the books are: all that a command needs that asks a running pool.

Read in milliseconds, without the parts that the other settings are for. `pool.config` reads the same file
whole and checks it; where no pool runs, a command goes by that.

Must not know: what else is in the file.
"""

import tomllib
from pathlib import Path
from typing import Any, Final

SETTINGS_BYTES_MAX: Final = 1 << 20  # settings are a page; more is the wrong file


class BadConfig(Exception):
    """The settings cannot be used; the text says what is wrong and where."""


def read_settings(path: Path) -> dict[str, Any]:
    """The file's tables, unchecked. Raises BadConfig."""
    try:
        with path.open("rb") as file:
            text = file.read(SETTINGS_BYTES_MAX + 1)
    except OSError as error:
        raise BadConfig(f"cannot read {path}: {error.strerror}") from None
    if len(text) > SETTINGS_BYTES_MAX:
        raise BadConfig(f"{path} is larger than {SETTINGS_BYTES_MAX} bytes")
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, no TOML, or a number beyond reason
        raise BadConfig(f"{path} is not TOML: {error}") from None


def data_dir_in(path: Path) -> Path:
    """The data directory that the settings name. Raises BadConfig."""
    pool = read_settings(path).get("pool")
    named = pool.get("data_dir") if isinstance(pool, dict) else None
    if not isinstance(named, str):
        raise BadConfig(f"{path}: pool.data_dir is missing, or is not text")
    return path_in(path.parent, named, "pool.data_dir")


def path_in(base: Path, text: str, what: str) -> Path:
    """Relative to the settings file; ~ is the home of whoever runs the pool."""
    if not text or "\0" in text:
        raise BadConfig(f"{what}: {text!r} is not a path")
    try:
        return base / Path(text).expanduser()
    except RuntimeError:
        raise BadConfig(f"{what}: {text!r}: there is no such home directory") from None
