"""What a running pool adds to tenants, sites, containers and machines: hashrates and shares since its start.

Must not know: whose they are.
"""

from typing import Final

from pool.cli.output import Column, moment
from pool.reports.figures import grouped, hashrate

HPS_PER_THS: Final = 10**12


def of_hps(hps: float) -> str:
    return hashrate(int(hps))


def of_ths(ths: int) -> str:
    """A nameplate."""
    return hashrate(ths * HPS_PER_THS)


FIVE_MINUTES: Final = Column("hashrate 5 min", "hps_300s", of_hps, right=True, live=True)
HOUR: Final = Column("hashrate 1 h", "hps_3600s", of_hps, right=True, live=True)
DAY: Final = Column("hashrate 24 h", "hps_86400s", of_hps, right=True, live=True)
MACHINES: Final = Column("machines", "workers", grouped, right=True, live=True)
OFFLINE: Final = Column("offline", "offline", grouped, right=True, live=True)
ACCEPTED: Final = Column("accepted", "accepted", grouped, right=True, live=True)
STALE: Final = Column("stale", "stale", grouped, right=True, live=True)
LOW: Final = Column("below difficulty", "low", grouped, right=True, live=True)

ALL: Final = (
    Column("hashrate 1 min", "hps_60s", of_hps),
    FIVE_MINUTES,
    HOUR,
    DAY,
    ACCEPTED,
    STALE,
    LOW,
    Column("duplicate", "duplicate", grouped),
    Column("invalid", "invalid", grouped),
    Column("not taken upstream", "undelivered", grouped),
    Column("counted since", "counted_since_at", moment),
)
