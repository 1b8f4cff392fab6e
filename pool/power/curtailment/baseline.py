"""What machines did before an event: accepted work of the hour before it was asked for, and not of later.

Whoever hears of an event could work for it: so the window ends before anybody could have heard, and no
machine is believed to have done more in it than its nameplate and its error bound allow. Who has mined under
two names has two halves of one machine's work, and who came back a minute ago has a minute of it.

The window is of whole minutes: it ends two before the event is asked for, because shares wait for the books
so long, and begins where minutes are still kept apart. Where a line is slow, or the books are, some of them
are not there yet: so what machines did is written down once the books say that nothing of before its end
comes any more, which is when it is asked for, or minutes later. Who is away for longer than the books wait
has not done what he brings then. Exact: shares by difficulty, integers; of minutes that have become hours
meanwhile, the same part of the hour's shares for each that had some. Must not know: prices, and which
machines are chosen.
"""

from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from math import isqrt
from typing import Any, Final

from sqlalchemy import Connection, Select, func, insert, select

from payouts.rates import BPS, HASHES_PER_DIFFICULTY
from payouts.schemas.money import containers, sites, tally_minutes, workers
from payouts.sums import ACCEPTED
from pool.books.journal.positions import taken_until_s
from pool.power.curtailment.schema import power_event_work
from pool.power.energy.efficiencies import efficiencies_at
from pool.power.energy.work import old_minutes
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
    return max(until - WINDOW_MIN, _kept(asked_at_s)) * 60, until * 60


def _kept(now_s: int) -> int:
    """Minutes of before may be hours already."""
    return (now_s // 3600 - 1) * 60


def complete(connection: Connection, asked_at_s: int) -> bool:
    """Whether the books have all that machines did before."""
    taken_s = taken_until_s(connection)
    return taken_s is None or taken_s >= window(asked_at_s)[1]


def note_work(connection: Connection, event_id: int, site: str, asked_at_s: int, now_s: int) -> bool:
    """Keep what every machine of the site did, once; whether the books have all of it."""
    if not complete(connection, asked_at_s):
        return False
    if not is_noted(connection, event_id):
        rows = [
            {"event_id": event_id, "worker_id": worker, "difficulty_log2": log2, "shares": shares}
            for worker, work in work_before(connection, site, asked_at_s, now_s).items()
            for log2, shares in work.items()
        ]
        if rows:
            connection.execute(insert(power_event_work), rows)
    return True


def is_noted(connection: Connection, event_id: int) -> bool:
    """Whether it is written down what machines did before; not where none did anything."""
    of = power_event_work.c.event_id
    return connection.scalar(select(of).where(of == event_id).limit(1)) is not None


def work_before(connection: Connection, site: str, asked_at_s: int, now_s: int) -> Work:
    """What counts of what every machine of a site did before an event that was asked for then."""
    from_s, until_s = window(asked_at_s)
    work = {worker: dict(of) for worker, of in work_between(connection, site, from_s, until_s).items()}
    if from_s // 60 < _kept(now_s):
        numbers = connection.scalars(_machines(site)).all()
        for worker, log2, shares in old_minutes(
            connection, numbers, from_s // 60, until_s // 60, [int(ACCEPTED)]
        ):
            its = work.setdefault(worker, {})
            its[log2] = its.get(log2, 0) + shares
    known = efficiencies_at(connection, asked_at_s)
    return {it: bounded(of, known.get(it), until_s - from_s) for it, of in work.items()}


def work_between(connection: Connection, site: str, from_s: int, until_s: int) -> Work:
    """Accepted shares of whole minutes, of all machines of a site (empty: of all sites)."""
    of = tally_minutes.c
    summed = (
        select(of.worker_id, of.difficulty_log2, func.sum(of.shares).label("shares"))
        .where(of.minute >= from_s // 60, of.minute < until_s // 60, of.verdict == ACCEPTED)
        .group_by(of.worker_id, of.difficulty_log2)
    )
    if site:
        summed = summed.where(of.worker_id.in_(_machines(site)))
    found: dict[int, dict[int, int]] = defaultdict(dict)
    for row in connection.execute(summed):
        found[row.worker_id][row.difficulty_log2] = int(row.shares)
    return found


def _machines(site: str) -> Select[Any]:
    """The numbers of all of a site."""
    numbers = select(workers.c.id)
    if not site:
        return numbers
    here = numbers.join(containers, containers.c.id == workers.c.container_id)
    return here.join(sites, sites.c.id == containers.c.site_id).where(sites.c.name == site)


def bounded(work: Mapping[int, int], known: Efficiency | None, seconds: int) -> Mapping[int, int]:
    """No more than a machine can do, with luck: cut in proportion, downwards. All, where nothing is known."""
    hashes, a_part = hashes_in_parts(work)
    if known is None or hashes == 0:
        return work
    luck_bps = min(LUCK_SIGMAS * BPS // max(isqrt(sum(work.values())), 1), LUCK_BPS_MAX)
    most = known.hashrate_hps * seconds * (BPS + known.error_bps + luck_bps) * a_part
    if hashes * BPS <= most:
        return work
    cut = {log2: shares * most // (hashes * BPS) for log2, shares in work.items()}
    return {log2: shares for log2, shares in cut.items() if shares}


def hashes_of(work: Mapping[int, int]) -> Fraction:
    """Exactly how many hashes such shares stand for."""
    return Fraction(*hashes_in_parts(work))


def hashes_in_parts(work: Mapping[int, int]) -> tuple[int, int]:
    """The same, as so many parts of a hash, and how many of them are one: integers, because whoever looks at
    a site asks it of thousands of machines."""
    easiest = min(work, default=0)
    parts, a_part = _hashes_at(easiest)
    return sum(shares << (log2 - easiest) for log2, shares in work.items()) * parts, a_part


@cache
def _hashes_at(difficulty_log2: int) -> tuple[int, int]:
    """Of one share."""
    return (Fraction(2) ** difficulty_log2 * HASHES_PER_DIFFICULTY).as_integer_ratio()
