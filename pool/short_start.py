"""What a process does not wait for when it begins: libraries that others read where they are there and that
nothing here needs of them, and looking for garbage among what it has only begun to read.

structlog and httpx read rich, for colours and for a command of their own; nats-py reads aiohttp, for web
sockets. With both a pool takes a fifth longer, and so does every process that serves miners, an edge, and a
command.

Must not know: what begins.
"""

import gc
import sys
from typing import Final

SPARED: Final = ("rich", "aiohttp")
# Before they are looked through: a pool has made a million when it has read all that it is made of.
YOUNG_OBJECTS_MAX: Final = 20_000
_YOUNG_OBJECTS: Final = gc.get_threshold()[0]


def begin() -> None:
    """Before anything is read."""
    for name in SPARED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # as the import system knows it
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])


def begun() -> None:
    """By who runs on: garbage is looked for as ever, in a millisecond each time."""
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def wanted(library: str) -> None:
    """Whoever reads it from now on finds it."""
    if sys.modules.get(library, library) is None:
        del sys.modules[library]
