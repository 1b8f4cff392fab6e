"""Simulated machines, natively: connections, handshakes, shares, and what is measured of them."""

from collections.abc import Sequence
from typing import Any

from pool.swarm.profiles import Spoken

class Swarm:
    """Machines that are off, until power is given to them. Used by one thread."""

    def __init__(
        self,
        address: str,
        port: int,
        profiles: Sequence[Spoken],
        machines: Sequence[tuple[str, int, int, bool]],
        *,
        shares_per_s: float,
        hashrate_hps: float,
        closed_loop: bool,
        hashing: float,
        connects_per_s: float,
        bad: float,
        late: float,
        tls: bool,
        seed: int,
        first_source: str = "",
    ) -> None:
        """`address` is numeric. A machine is its name as JSON has it between quotes, its profile's place, its
        container, and whether it reads slowly. `shares_per_s` and `hashrate_hps` are each machine's, and
        `hashing` is of a core. `first_source`: the first machine's own address on the loopback; the others
        have the next ones."""
    def run(self, seconds: float) -> None:
        """Move bytes and time on, so long, or until a signal comes."""
    def submitting(self, on: bool) -> None:
        """Whether shares are found."""
    def restore(self, container: int | None = None) -> None:
        """Power for all machines that are off or cut, of one container or of all."""
    def cut(self, container: int | None = None) -> None:
        """No power: they are silent, and the server is not told."""
    def pause(self, number: int) -> None:
        """One machine closes its connection, and stays away."""
    def wake(self, number: int, after_s: float) -> None:
        """One that stays away comes again, after so long."""
    def measure(self) -> None:
        """Count from now on."""
    def mining(self, container: int | None = None) -> int:
        """How many have work."""
    def snapshot(self) -> dict[str, Any]:
        """What was counted. Histograms are lists of (ns, count): so many took up to so long."""
