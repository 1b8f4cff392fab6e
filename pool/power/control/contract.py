"""What is asked of machines on their own network, and what they answer: nothing of which is proof.

A machine that says it is paused may mine, and one that says it mines may not: who wants to know looks at
accepted shares, and at a meter. Must not know: how a machine is reached, and why it is asked.
"""

from enum import StrEnum
from typing import Protocol

import msgspec


class Action(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"


class Answer(StrEnum):
    """Of one machine to one action."""

    SAID_YES = "said_yes"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"  # its firmware cannot
    UNREACHED = "unreached"  # nothing was sent, or it has no address
    UNKNOWN = "unknown"  # sent, and not answered: it may have been done
    DRY_RUN = "dry_run"  # it would have been asked


class MachineName(msgspec.Struct, frozen=True, order=True):
    """A machine as everybody knows it, whatever its number is."""

    tenant: str
    container: str
    unit: str


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, told something. A pause ends by itself at `until_s` (Unix seconds), at whoever holds the
    machine off, unless it is said again: when nobody is heard any more no machine stays off."""

    machine: MachineName
    action: Action
    until_s: int = 0


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    machine: MachineName
    answer: Answer
    words: str = ""  # of the machine, cut; never a credential


class MachineControl(Protocol):
    """Whoever reaches the machines of a site: this process, or an edge."""

    async def control(self, asked: tuple[Asked, ...]) -> tuple[Answered, ...]:
        """Ask all of them, at most ASKED_MAX, beside each other. Takes as long as machines take, within
        bounds: who is cut off here does not know what was done."""
