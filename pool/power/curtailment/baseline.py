"""What machines did before an event: accepted work of the hour before it was asked for, and not of later.

Whoever hears of an event could work for it: so the window ends before anybody could have heard, and no
machine is believed to have done more in it than its nameplate and its error bound allow. Who has mined under
two names has two halves of one machine's work, and who came back a minute ago has a minute of it.

The window is of whole minutes that the books have by then: it ends two before the event is asked for, because
shares wait for the books so long, and begins where minutes are still kept apart. Exact: shares by difficulty,
integers. Must not know: prices, and which machines are chosen.
"""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from math import isqrt
from typing import Final

from sqlalchemy import Connection, func, insert, select

from payouts.rates import BPS, HASHES_PER_DIFFICULTY
from payouts.schemas.money import containers, sites, tally_minutes, workers
from payouts.sums import ACCEPTED
from pool.power.curtailment.schema import power_event_work
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.figures import Efficiency

WINDOW_MIN: Final = 60
BEHIND_MIN: Final = 2  # minutes until a share is in the books
# Who did his nameplate's work had it by luck of the hashes too: 12 % more of 600 shares. Whoever has few
# shares, by a difficulty of his choosing, has a bound all the same.
LUCK_SIGMAS: Final = 3
LUCK_BPS_MAX: Final = 2_500

Work = Mapping[int, Mapping[int, int]]  # by worker: shares by the log2 of their difficulty


def window(asked_at_s: int) -> tuple[int, int]:
    """From when until when, in seconds, of an event that is asked for at that moment."""
    until = asked_at_s // 60 - BEHIND_MIN
    kept = (asked_at_s // 3600 - 1) * 60  # minutes of before may be hours already
    return max(until - WINDOW_MIN, kept) * 60, until * 60


def note_work(connection: Connection, event_id: int, site: str, now_s: int) -> None:
    """Keep what every machine of the site did."""
    from_s, until_s = window(now_s)
    known = efficiencies_at(connection, now_s)
    rows = [
        {"event_id": event_id, "worker_id": worker, "difficulty_log2": log2, "shares": shares}
        for worker, work in work_between(connection, site, from_s, until_s).items()
        for log2, shares in bounded(work, known.get(worker), until_s - from_s).items()
    ]
    if rows:
        connection.execute(insert(power_event_work), rows)


def work_between(connection: Connection, site: str, from_s: int, until_s: int) -> Work:
    """Accepted shares of whole minutes, of all machines of a site (empty: of all sites)."""
    of = tally_minutes.c
    summed = (
        select(of.worker_id, of.difficulty_log2, func.sum(of.shares).label("shares"))
        .where(of.minute >= from_s // 60, of.minute < until_s // 60, of.verdict == ACCEPTED)
        .group_by(of.worker_id, of.difficulty_log2)
    )
    if site:
        here = (
            select(workers.c.id)
            .join(containers, containers.c.id == workers.c.container_id)
            .join(sites, sites.c.id == containers.c.site_id)
            .where(sites.c.name == site)
        )
        summed = summed.where(of.worker_id.in_(here))
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for row in connection.execute(summed):
        found[row.worker_id][row.difficulty_log2] = int(row.shares)
    return found


def bounded(work: Mapping[int, int], known: Efficiency | None, seconds: int) -> Mapping[int, int]:
    """No more than a machine can do, with luck: cut in proportion, downwards. All, where nothing is known."""
    hashes = hashes_of(work)
    if known is None or hashes == 0:
        return work
    luck_bps = min(LUCK_SIGMAS * BPS // max(isqrt(sum(work.values())), 1), LUCK_BPS_MAX)
    most = Fraction(known.hashrate_hps * seconds * (BPS + known.error_bps + luck_bps), BPS)
    if hashes <= most:
        return work
    cut = {log2: int(shares * most / hashes) for log2, shares in work.items()}
    return {log2: shares for log2, shares in cut.items() if shares}


def hashes_of(work: Mapping[int, int]) -> Fraction:
    """Exactly how many hashes such shares stand for."""
    difficulty = sum((Fraction(2) ** log2 * shares for log2, shares in work.items()), Fraction(0))
    return difficulty * HASHES_PER_DIFFICULTY
