"""What a machine does, in a letter: mining, slow, rejecting, offline. The one definition of it.

    o  offline: no good share for five minutes, or none since the pool began (pool.fleet.hashrate.OFFLINE_S)
    r  rejecting: so much of its work of five minutes is good for nothing as is told of a container
    s  slow: it does less of its nameplate than is told of a container, in five minutes and in an hour
    m  mining: none of these

The first that holds. A machine finds a share in six seconds, so its average of five minutes is off by 10 %
and that of an hour by 3 %: by the first alone one in fourteen would be slow at any moment, of which none is;
by the second alone who comes back would be slow for an hour. Of usual rejects, 0.5 %, one machine in 500 is
rejecting by chance.

Thresholds are those of messages. Must not know: names, places.
"""

from typing import Any, Final

import numpy as np

from pool.fleet.hashrate import OFFLINE_S, WINDOWS_S, MachineLooks
from pool.messages.conditions import Thresholds

MINING, SLOW, REJECTING, OFFLINE = b"msro"
WORDS: Final = {"m": "mining", "s": "slow", "r": "rejecting", "o": "offline"}
FIVE_MINUTES: Final = WINDOWS_S.index(300)
HOUR: Final = WINDOWS_S.index(3600)

Floats = np.ndarray[Any, np.dtype[np.float64]]
Letters = np.ndarray[Any, np.dtype[np.uint8]]


def rejected_share(looks: MachineLooks) -> Floats:
    """Of the work of five minutes, 0 to 1; 0 of none."""
    work = looks.rates_hps[:, FIVE_MINUTES] + looks.rejected_hps
    share: Floats = np.divide(looks.rejected_hps, work, out=np.zeros(len(work)), where=work > 0)
    return share


def letters(looks: MachineLooks, nameplates_hps: Floats, limits: Thresholds) -> Letters:
    """One for each; a nameplate that nobody has said is NaN."""
    rates = looks.rates_hps
    best = np.maximum(rates[:, FIVE_MINUTES], rates[:, HOUR])
    slow = best < nameplates_hps * (limits.nameplate_percent / 100)  # never of NaN
    rejecting = rejected_share(looks) >= limits.rejected_percent / 100
    found = np.full(len(best), MINING, dtype=np.uint8)
    found[slow] = SLOW
    found[rejecting] = REJECTING
    found[looks.ages_s > OFFLINE_S] = OFFLINE
    return found
