"""What each machine draws now, one by one: by its own accepted work of five minutes, or its part of a meter.

A container's watts, as pool.power.energy.live has them, are divided by what the work of each machine takes,
so that together they are the container's. Of a machine nothing is said that nobody knows: one without a
model, and one that does not mine, has no watts. Of one that nobody hears (its site is away) the nameplate
alone is known, and it may be off.

Pure. Must not know: the database, names.
"""

from collections.abc import Collection
from typing import Final

import msgspec
import numpy as np

from pool.fleet.hashrate import OFFLINE_S
from pool.power.energy.bounds import BPS, ERROR_BPS_MAX, shares_error_bps, together_bps
from pool.power.energy.live import MJ_HPS_PER_W, WINDOW_S, Drawn, Known, MachinesNow, PowerNow
from pool.power.figures import MJ_PER_TH_MAX, Basis, Efficiency

UNHEARD_BPS: Final = BPS  # down to nothing: it may be off


class MachineDrawn(msgspec.Struct, frozen=True, kw_only=True):
    """`watts` None: nobody knows. `error_bps` bounds them both ways, `work_error_bps` the hashrate, which is
    of five minutes; `nameplate_watts` is what it draws by its model when it does all it can."""

    watts: int | None
    basis: Basis | None
    error_bps: int
    work_watts: int | None
    hashrate_hps: int
    work_error_bps: int
    nameplate_watts: int | None
    mines: bool

    @property
    def mj_per_th(self) -> int | None:
        """W/TH is J/TH, of what it draws and does; None where one of the two is not known."""
        if self.watts is None or not self.mines or not self.hashrate_hps:
            return None
        found = self.watts * 10**15 // self.hashrate_hps
        return found if found <= MJ_PER_TH_MAX else None


def drawn_by_machine(
    known: Known, machines: MachinesNow, now: PowerNow, numbers: Collection[int]
) -> dict[int, MachineDrawn]:
    """Those of these numbers that there are."""
    wanted = np.isin(machines.numbers, np.fromiter(numbers, dtype=np.int64, count=len(numbers)))
    found: dict[int, MachineDrawn] = {}
    for at in np.flatnonzero(wanted).tolist():
        place = known.places.get(int(machines.containers[at]))
        box = None if place is None else now.containers.get((place.tenant, place.name))
        number = int(machines.numbers[at])
        found[number] = _drawn(machines, at, known.efficiencies.get(number), box)
    return found


def _drawn(machines: MachinesNow, at: int, model: Efficiency | None, box: Drawn | None) -> MachineDrawn:
    rate_hps, each = float(machines.rates_hps[at]), float(machines.share_hashes[at])
    mines = bool(machines.ages_s[at] <= OFFLINE_S) and rate_hps > 0
    shares_bps = shares_error_bps(int(rate_hps * WINDOW_S / each)) if each > 0 else ERROR_BPS_MAX
    watts: int | None = None
    basis: Basis | None = None
    error_bps, work_watts = ERROR_BPS_MAX, None
    if model is not None and machines.unheard[at]:
        watts, basis, error_bps = model.watts, Basis.NAMEPLATE, UNHEARD_BPS
    elif model is not None and mines:
        work_watts = round(model.mj_per_th * rate_hps / MJ_HPS_PER_W)
        watts, basis, error_bps = work_watts, Basis.WORK, together_bps(shares_bps, model.error_bps)
        if box is not None and box.basis is Basis.METER and box.work_watts:
            watts, basis = box.watts * work_watts // box.work_watts, Basis.METER
            error_bps = together_bps(box.error_bps, error_bps)
    return MachineDrawn(
        watts=watts,
        basis=basis,
        error_bps=error_bps,
        work_watts=work_watts,
        hashrate_hps=round(rate_hps),
        work_error_bps=shares_bps,
        nameplate_watts=None if model is None or not model.watts else model.watts,
        mines=mines,
    )
