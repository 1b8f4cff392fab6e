"""What the rooms of power tell each other of machines: how they draw, and how that is known.

Units: W, J (a kWh is 3,600,000), mJ/TH; integers, because money is computed of them. Must not know: where a
figure comes from.
"""

from enum import StrEnum
from typing import Final

import msgspec

J_PER_KWH: Final = 3_600_000

# A machine that is simulated makes some hundred hashes a second, and draws as much as a real one.
MJ_PER_TH_MAX: Final = 10**18


class Basis(StrEnum):
    """How a power or an energy is known."""

    METER = "meter"
    WORK = "work"  # accepted work times the efficiency of the machine
    NAMEPLATE = "nameplate"  # of a machine whose work nobody has counted


class Efficiency(msgspec.Struct, frozen=True, kw_only=True):
    """A machine at the wall, at its nameplate's point. `error_bps` bounds `mj_per_th` both ways."""

    mj_per_th: int
    hashrate_hps: int
    watts: int
    idle_watts: int  # paused: fans and control board
    error_bps: int
    source: str
