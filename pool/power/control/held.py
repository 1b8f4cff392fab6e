"""Which machines are held off here, and until when: in a file, written before anything is sent.

So whoever comes after a crash knows every machine that may be off. Times in the file are Unix seconds; while
the process runs monotonic ones count, so that no step of a clock leaves a machine off. A clock that was set
back before a restart makes a pause last again as long as it was asked for, and no longer.

Must not know: how machines are told.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pool.power.control.contract import Action, MachineName
from pool.power.control.network import Reached
from pool.whole_file import write_whole

log = structlog.get_logger()

FILE: Final = "machines_held.json"
DAMAGED: Final = "machines_held.damaged"
HELD_MAX: Final = 100_000  # machines: as many as connections of a process
HOLD_S_MAX: Final = 86_400  # of one pause: who wants longer says it again


class Held(msgspec.Struct, kw_only=True):
    """A machine that was told to pause, or to draw less. `released_s` is when its time was over, or somebody
    said resume: from then on it is told until it mines."""

    reached: Reached
    action: Action
    percent: int = 100
    since_s: int
    until_s: int
    released_s: int | None = None
    tries: int = 0  # to resume it
    may_be_off: bool = True  # whatever becomes of what it is being told


class _File(msgspec.Struct):
    version: int
    machines: list[Held]


def load(directory: Path) -> dict[MachineName, Held]:
    """What the file says. One that cannot be read is put aside: the pool serves miners all the same, and
    whoever asked for the pauses asks for their end."""
    path = directory / FILE
    try:
        machines = msgspec.json.decode(path.read_bytes(), type=_File).machines
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        log.error("machines_held_not_read", path=str(path), reason=str(error)[:200])
        with contextlib.suppress(OSError):
            path.replace(directory / DAMAGED)
        return {}
    for it in machines:
        it.may_be_off = True  # it may have been told a moment before the end
    return {it.reached.machine: it for it in machines[:HELD_MAX]}


def packed(machines: dict[MachineName, Held]) -> bytes:
    """The file's content."""
    return msgspec.json.encode(_File(1, list(machines.values())))


def save(directory: Path, content: bytes) -> None:
    """Raises OSError."""
    write_whole(directory / FILE, content)


def left_s(held: Held, wall_s: float) -> float:
    """How long it is still to be held, after a restart."""
    return max(0.0, min(held.until_s - wall_s, held.until_s - held.since_s, HOLD_S_MAX))
