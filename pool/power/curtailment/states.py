"""The states of an event and of each of its machines, and which may follow which.

A machine is confirmed by silence, restored by an accepted share, and by nothing that it says. Who mines
against what he was told is refused, if he never stopped, or drifted, if he began again. Must not know: when a
machine is in which, and what is done then.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class MachineState(StrEnum):
    """Of one machine in one event."""

    PENDING = "pending"  # chosen; nothing was sent
    ASKED = "asked"  # to pause: it may be off, or be about to be
    CONFIRMED = "confirmed"  # off: no accepted share for so long that this is no chance
    REFUSED = "refused"  # mines on, says no, or is out of reach: others make up for it
    DRIFTED = "drifted"  # was off, and mines again: about to be asked again
    WAKING = "waking"  # asked to mine, and not seen to
    RESTORED = "restored"  # mines again
    LOST = "lost"  # did not come back in its time; asked again until it does
    RELEASED = "released"  # no more the event's


class EventState(StrEnum):
    """Of an event."""

    PLANNED = "planned"  # it begins later
    CURTAILING = "curtailing"  # machines are asked
    HOLDING = "holding"  # the target is met
    RESTORING = "restoring"
    OVER = "over"  # who did not come back is lost, and asked again all the same
    CANCELLED = "cancelled"  # before it began


MACHINE_MOVES: Final[Mapping[MachineState, frozenset[MachineState]]] = {
    MachineState.PENDING: frozenset({MachineState.ASKED, MachineState.RELEASED}),
    MachineState.ASKED: frozenset(
        {MachineState.CONFIRMED, MachineState.REFUSED, MachineState.WAKING, MachineState.RELEASED}
    ),
    MachineState.CONFIRMED: frozenset({MachineState.DRIFTED, MachineState.WAKING, MachineState.RELEASED}),
    MachineState.REFUSED: frozenset(),
    MachineState.DRIFTED: frozenset(
        {MachineState.ASKED, MachineState.REFUSED, MachineState.WAKING, MachineState.RELEASED}
    ),
    MachineState.WAKING: frozenset({MachineState.RESTORED, MachineState.LOST, MachineState.RELEASED}),
    # An event that needs more again may choose it anew.
    MachineState.RESTORED: frozenset({MachineState.PENDING}),
    MachineState.LOST: frozenset({MachineState.RESTORED, MachineState.RELEASED}),
    MachineState.RELEASED: frozenset(),
}
EVENT_MOVES: Final[Mapping[EventState, frozenset[EventState]]] = {
    EventState.PLANNED: frozenset({EventState.CURTAILING, EventState.OVER, EventState.CANCELLED}),
    EventState.CURTAILING: frozenset({EventState.HOLDING, EventState.RESTORING}),
    EventState.HOLDING: frozenset({EventState.CURTAILING, EventState.RESTORING}),
    EventState.RESTORING: frozenset({EventState.OVER}),
    EventState.OVER: frozenset(),
    EventState.CANCELLED: frozenset(),
}
ENDED: Final = frozenset({EventState.OVER, EventState.CANCELLED})
# An event's own: no other event has it in these, which an index of the books holds.
OWNED: Final = frozenset(
    {
        MachineState.PENDING,
        MachineState.ASKED,
        MachineState.CONFIRMED,
        MachineState.DRIFTED,
        MachineState.WAKING,
        MachineState.LOST,
    }
)
OFF: Final = frozenset({MachineState.ASKED, MachineState.CONFIRMED})  # held off, as far as is known
HELD: Final = OFF | {MachineState.DRIFTED}  # whose pause is said again
SETTLED: Final = frozenset(
    {MachineState.REFUSED, MachineState.RESTORED, MachineState.LOST, MachineState.RELEASED}
)


class WrongMove(AssertionError):
    """A bug: a state that may not follow."""


def check_machine(before: MachineState, after: MachineState) -> None:
    """Raises WrongMove."""
    if after not in MACHINE_MOVES[before]:
        raise WrongMove(f"a machine that is {before} does not become {after}")


def check_event(before: EventState, after: EventState) -> None:
    """Raises WrongMove."""
    if after not in EVENT_MOVES[before]:
        raise WrongMove(f"an event that is {before} does not become {after}")
