"""What is asked of machines on their own network, and what they answer: nothing of which is proof.

A machine that says it is paused may mine, and one that says it mines may not: who wants to know looks at
accepted shares, and at a meter. Must not know: how a machine is reached, and why it is asked.
"""

from enum import StrEnum
from typing import Final, Protocol

import msgspec

ASKED_MAX: Final = 20_000  # of one call: all machines of a large site
WORDS_CHARS_MAX: Final = 200  # of a machine
PERCENT_MIN: Final = 40  # of its usual power: what a machine keeps mining at


class Action(StrEnum):
    PAUSE = "pause"
    LIMIT = "limit"  # to a percentage of its usual power
    HOLD = "hold"  # stay off, or limited, until then: nothing is sent
    RESUME = "resume"
    READ = "read"  # what it says of itself


class Answer(StrEnum):
    """Of one machine to one action."""

    SAID_YES = "said_yes"
    REFUSED = "refused"
    UNSUPPORTED = "unsupported"  # its firmware cannot
    UNREACHED = "unreached"  # nothing was sent: it has no address, or does not listen
    UNKNOWN = "unknown"  # sent, and not answered: it may have been done
    DRY_RUN = "dry_run"  # it would have been asked


class Firmware(StrEnum):
    """What a machine runs, as far as that decides how it is spoken to."""

    ANTMINER = "antminer"  # Bitmain's own
    WHATSMINER = "whatsminer"
    AVALON = "avalon"
    BRAIINS = "braiins"
    LUXOS = "luxos"
    VNISH = "vnish"
    BITAXE = "bitaxe"
    OTHER = "other"


class MachineName(msgspec.Struct, frozen=True, order=True):
    """A machine as everybody knows it, whatever its number is."""

    tenant: str
    container: str
    unit: str

    def __str__(self) -> str:
        return ".".join(it for it in (self.tenant, self.container, self.unit) if it)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, told something. A pause ends by itself at `until_s` (Unix seconds), at whoever holds the
    machine off, unless it is said again, or held: when nobody is heard any more no machine stays off."""

    machine: MachineName
    action: Action
    until_s: int = 0
    percent: int = 100  # of a limit
    before_hps: int = 0  # of a limit: what it did when that was asked, by accepted work; 0: nobody knows


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine says of itself; None: nothing."""

    mines: bool | None = None
    hashrate_hps: int | None = None
    watts: int | None = None
    temperature_c: int | None = None
    limit_watts: int | None = None  # what it keeps to
    state: str = ""  # in its own words, cut: asleep, or which mode of power


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    machine: MachineName
    answer: Answer
    words: str = ""  # of the machine, or of why not; cut; never a credential
    telemetry: Telemetry | None = None


def in_words(said: str) -> str:
    """Of a machine, or of who speaks for it: cut, and without what no screen and no database takes."""
    return "".join(it for it in said if it.isprintable())[:WORDS_CHARS_MAX]


class MachineControl(Protocol):
    """Whoever reaches the machines, of this site or of all."""

    async def control(self, asked: tuple[Asked, ...]) -> tuple[Answered, ...]:
        """Ask all of them, at most ASKED_MAX, beside each other: an answer for each, in their order. Takes as
        long as machines take, within bounds: who is cut off here does not know what was done."""
