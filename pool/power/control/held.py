"""Which machines are held off here, and until when: in a file, written before anything is sent.

So whoever comes after a crash knows every machine that may be off. Times in the file are Unix seconds; while
the process runs monotonic ones count, so that no step of a clock leaves a machine off. A clock that was set
back before a restart makes a pause last again as long as it was asked for, and no longer.

Must not know: how machines are told.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from pool.power.control.contract import Action, MachineName
from pool.power.control.network import Reached
from pool.whole_file import write_whole
from stratum.unreadable import NOT_READ

log = structlog.get_logger()

FILE: Final = "machines_held.json"
DAMAGED: Final = "machines_held.damaged"
HELD_MAX: Final = 100_000  # machines: as many as connections of a process
HOLD_S_MAX: Final = 86_400  # of one pause: who wants longer says it again
GIVEN_UP_NAMED_MAX: Final = 100  # of a site: what a message names, many times over
PLACES_MAX: Final = 4  # of a machine that is paused again elsewhere, and was not back between


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a machine is told. `paused`: it was, or may have been, there: its networks were named then."""

    reached: Reached
    paused: bool = False


class Held(msgspec.Struct, kw_only=True):
    """A machine that was told to pause, or to draw less. `released_s` is when its time was over, or somebody
    said resume: from then on it is told, at each of its places, until it mines. `woken`: it said yes to that
    wherever it was paused; before, nothing that is done under its name says that it is back."""

    places: list[Place]  # one at least; the first is where it was paused first
    action: Action
    percent: int = 100  # of a limit
    before_hps: int = 0  # what it did when it was limited
    since_s: int
    until_s: int
    released_s: int | None = None
    tries: int = 0  # to resume it
    may_be_off: bool = True  # whatever becomes of what it is being told
    woken: bool = False
    given_up_s: int | None = None  # it is told no more, and is kept until it mines

    @property
    def reached(self) -> Reached:
        return self.places[0].reached

    @property
    def was_paused(self) -> bool:
        """Else it was only told to resume, for all that is known here."""
        return any(it.paused for it in self.places)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How many machines are kept here, and how they stand; `given_up`: the first names of those."""

    off: int = 0
    limited: int = 0  # they mine, and draw less
    resuming: int = 0
    given_up_machines: int = 0
    given_up: tuple[MachineName, ...] = ()


def standing(machines: Iterable[Held]) -> Standing:
    """Of all of them."""
    known = list(machines)
    gone = sorted(it.reached.machine for it in known if it.given_up_s is not None)
    held = [it.action for it in known if it.released_s is None]
    limited = held.count(Action.LIMIT)
    return Standing(
        off=len(held) - limited,
        limited=limited,
        resuming=len(known) - len(held) - len(gone),
        given_up_machines=len(gone),
        given_up=tuple(gone[:GIVEN_UP_NAMED_MAX]),
    )


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
    except (OSError, *NOT_READ) as error:
        log.error("machines_held_not_read", path=str(path), reason=str(error)[:200])
        with contextlib.suppress(OSError):
            path.replace(directory / DAMAGED)
        return {}
    if len(machines) > HELD_MAX:
        log.error("machines_held_not_kept", path=str(path), machines=len(machines) - HELD_MAX)
    for it in machines:
        it.may_be_off = True  # it may have been told a moment before the end
    return {it.reached.machine: it for it in machines[:HELD_MAX] if it.places}


def places_to_pause(known: Held | None, reached: Reached, *, allowed: bool) -> list[Place]:
    """Where it will have been paused. None is forgotten: who mines under its name from elsewhere, for once,
    would have it paused there, and woken there alone. Empty: nowhere."""
    before = [] if known is None else [it for it in known.places if it.paused]
    if not allowed:
        return before
    after = [it for it in before if not _is(it.reached, reached)]
    if len(after) < len(before):
        return [Place(reached=_newer(it.reached, reached), paused=True) for it in before]
    return [*before, Place(reached=reached, paused=True)]


def places_to_resume(known: Held, reached: Reached, *, allowed: bool) -> list[Place]:
    """Where it was paused, and besides where the operator says now that it is."""
    if any(_is(it.reached, reached) for it in known.places):
        return [Place(reached=_newer(it.reached, reached), paused=it.paused) for it in known.places]
    paused = [it for it in known.places if it.paused]
    if not allowed or (paused and not reached.by_hand):
        return known.places
    return [*paused, Place(reached=reached)]


def _is(one: Reached, other: Reached) -> bool:
    return (one.address, one.port, one.firmware) == (other.address, other.port, other.firmware)


def _newer(old: Reached, new: Reached) -> Reached:
    """Its password may be another by now; what the operator said stays."""
    by_hand = new.by_hand >= old.by_hand and new.firmware_by_hand >= old.firmware_by_hand
    knows_more = new.sealed is not None and by_hand
    return new if _is(old, new) and knows_more else old


def packed(machines: dict[MachineName, Held]) -> bytes:
    """The file's content."""
    return msgspec.json.encode(_File(1, list(machines.values())))


def save(directory: Path, content: bytes) -> None:
    """Raises OSError."""
    write_whole(directory / FILE, content)


def left_s(held: Held, wall_s: float) -> float:
    """How long it is still to be held, after a restart."""
    return max(0.0, min(held.until_s - wall_s, held.until_s - held.since_s, HOLD_S_MAX))
