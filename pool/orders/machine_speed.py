"""How fast each machine is, for the allocator: what it does while it runs, remembered while it does not.

A decayed average falls while a machine stands still, and needs as long again to come back: a fleet of which
1 % is down would look another half per cent slower than it is. So a machine's speed is the mean of its
five-minute average over an hour of the time that it ran. It is silent, and 0, after SILENT_AIMS without a
share; when it is back it has its former speed at once, and is measured again after WARM_S. A change that
cannot be chance (a board is lost, another machine has the name) is believed at once.

Arrays by worker number. Must not know: where the averages come from, and what the speeds are used for.
"""

from typing import Any, Final

import numpy as np

WINDOW_S: Final = 300.0  # of the average that this is given
WARM_S: Final = 900.0  # three windows: then 5 % of it are from before
MEMORY_S: Final = 3600.0
SILENT_AIMS: Final = 20.0  # not by chance: e^-20, and e^-12 for the slowest machine that vardiff leaves alone
CHANGE_SIGMAS: Final = 4.0  # one of 16,000 looks at a machine, and a fleet of 5,600 has 70,000 an hour

Floats = np.ndarray[Any, np.dtype[np.float64]]


class MachineSpeeds:
    """Updated about once a minute. `now_s` is monotonic; `aim_s` is how often a machine finds a share."""

    def __init__(self, now_s: float, aim_s: float = 6.0) -> None:
        self._updated_s = now_s
        self._silent_s = SILENT_AIMS * aim_s
        # A decaying average knows as much as two windows would.
        self._noise = float(np.sqrt(aim_s / (2 * WINDOW_S)))
        self._speeds = np.zeros(0)
        self._running_s = np.zeros(0)  # since it was silent
        self._measured_s = np.zeros(0)  # how long the mean is of; 0: never warm yet

    def update(self, rates_hps: Floats, ages_s: Floats, now_s: float) -> Floats:
        """Of every worker: its five-minute average and the age of its last share in, its speed out."""
        self._make_room(len(rates_hps))
        elapsed_s, self._updated_s = now_s - self._updated_s, now_s
        silent = ages_s > self._silent_s
        self._running_s = np.where(silent, 0.0, self._running_s + elapsed_s)
        warm = self._running_s >= WARM_S
        known = self._measured_s > 0
        changed = np.abs(rates_hps - self._speeds) > CHANGE_SIGMAS * self._noise * self._speeds
        anew = ~silent & np.where(warm, changed | ~known, ~known)
        self._measured_s += np.where(warm, elapsed_s, 0.0)
        self._measured_s[warm & anew] = WINDOW_S
        span_s = np.clip(self._measured_s, WINDOW_S, MEMORY_S)
        share = np.where(anew, 1.0, np.where(warm, np.minimum(elapsed_s / span_s, 1.0), 0.0))
        self._speeds += share * (rates_hps - self._speeds)
        return np.where(silent, 0.0, self._speeds)

    def _make_room(self, workers: int) -> None:
        more = max(0, workers - len(self._speeds))
        self._speeds = np.pad(self._speeds, (0, more))
        self._running_s = np.pad(self._running_s, (0, more))
        self._measured_s = np.pad(self._measured_s, (0, more))
