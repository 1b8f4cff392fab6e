"""What the sessions of a server share, and what they expect of those around them.

Must not know: what a session does with it.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from stratum._engine import Engine
from stratum.job import Work
from stratum.miners.channel import Channel
from stratum.miners.decisions import Decisions, What
from stratum.miners.firmware import FirmwareBook
from stratum.miners.liveness import SessionLimits
from stratum.miners.owner import Owner
from stratum.miners.silent_machines import SilentMachines
from stratum.miners.uncharged import Uncharged
from stratum.miners.vardiff import VardiffPolicy


class Admitted(msgspec.Struct, frozen=True):
    """A worker, 1 or above, may mine. `difficulty_log2` is the one it had last, None at first contact.

    `channel`: what its connection is to mine; None: where it is. `party`: the workers of a connection have
    one and the same: they mine the same channel. `only_new_work`: no job that was there before it said who
    it is is its, for whoever has hashes by then could choose by them who he is.
    """

    worker: int
    difficulty_log2: int | None = None
    channel: Channel | None = None
    party: int = 0
    only_new_work: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A worker may not mine; the reason is for the miner's log. `passes`: it may later, by the same name."""

    reason: str
    passes: bool = False


class PlacementGuess(Protocol):
    """Where a miner goes before anybody knows who it is: extranonces are given before a name is said."""

    def guess(self, address: str) -> Channel | None:
        """What a miner at that address will probably mine; None: nobody knows."""

    def come_back(self, address: str, here: Channel, channel: Channel) -> bool:
        """Whether a miner that is `here` is to make a new connection, which it needs for `channel`."""


class Admission(Protocol):
    """Who may mine. Answers at once: it is asked in the middle of a handshake.

    The connection holds what it was admitted as until it leaves.
    """

    def admit(self, name: str, agent: str, owner: Owner) -> Admitted | Refusal: ...
    def leave(self, owner: Owner) -> None: ...


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """What every session of a server shares. `channel` is where a miner is that nobody knows yet.

    `usual_log2` is what most machines have: for work that cannot be made anew for who comes to it later.
    """

    engine: Engine
    channel: Channel
    admission: Admission
    placement_guess: PlacementGuess | None = None
    vardiff: VardiffPolicy
    start_difficulty_log2: int
    usual_log2: Callable[[], int] | None = None
    silent: SilentMachines | None = None  # None: who comes back stays where it is until it is heard
    limits: SessionLimits
    uncharged: Uncharged = msgspec.field(default_factory=Uncharged)
    firmware: FirmwareBook = msgspec.field(default_factory=FirmwareBook)
    decisions: Decisions | None = None  # whoever wants to know why

    def note(
        self, workers: Iterable[int], what: What, reason: str, difficulty_log2: int | None = None
    ) -> None:
        """That it was decided about them."""
        if self.decisions is not None:
            for worker in workers:
                self.decisions.note(worker, what, reason, difficulty_log2)

    def start_of(self, channel: Channel, work: Work) -> int:
        """The difficulty for who gets this work without having been there when it came."""
        start_log2 = self.start_difficulty_log2
        if work.anew is None and self.usual_log2 is not None:
            start_log2 = self.usual_log2()
        return (channel.vardiff or self.vardiff).clamp(start_log2)
