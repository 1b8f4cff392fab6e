"""A machine that is off under one name and mines under another one: what a tenant's other machines did beyond
what they did before is work that he did not forgo.

A name is a word that a machine says. Whoever has one asked to pause, and mines on with it under a name that
nobody asked, would be paid twice for it: for the work, and for not doing it. So the accepted work of all of
his machines that were not off, at whatever site, is held against what the same machines did in the window
before, for as long as the event lasted; what is more than chance makes of it comes off what his machines are
said to have forgone. Nobody is asked why: machines that he bought meanwhile come off too, and are paid for
what they mine.

What chance does is three standard deviations of shares, which is what a thief may hide; and a quarter of the
work at most, for he chooses how hard his shares are, and nine of them could hide themselves. Invariants:
exact integers and fractions. Must not know: prices.
"""

from fractions import Fraction
from math import isqrt
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select

from payouts.schemas.many import among
from payouts.schemas.money import tally_hours, tally_minutes, workers
from payouts.tallies import ACCEPTED

DEVIATIONS: Final = 3
CHANCE_PART: Final = 4  # one part of so many: three deviations of 288 shares, half an hour of a machine's


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Accepted work; `squares` are of each share's difficulty: the variance of what chance makes of it."""

    difficulty: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)

    def plus(self, log2: int, shares: Fraction) -> "Done":
        share = Fraction(2) ** log2
        return Done(
            difficulty=self.difficulty + shares * share, squares=self.squares + shares * share * share
        )


def done_elsewhere(
    connection: Connection,
    tenant_id: int,
    off: set[int],
    before: tuple[int, int],
    during: tuple[int, int],
) -> Fraction:
    """Difficulty that a tenant's machines other than those that were off did in `during` beyond what they did
    in `before` (both in seconds, half-open), and beyond chance."""
    earlier, now = _whole_minutes(*before), _whole_minutes(*during)
    if earlier[0] >= earlier[1] or now[0] >= now[1]:
        return Fraction(0)
    of_tenant = select(workers.c.id).where(workers.c.tenant_id == tenant_id)
    others = sorted(set(connection.scalars(of_tenant)) - off)
    was, did = _done(connection, others, *earlier), _done(connection, others, *now)
    times = Fraction(now[1] - now[0], earlier[1] - earlier[0])
    variance = did.squares + was.squares * times * times
    expected = was.difficulty * times
    chance = min(
        Fraction(isqrt(int(variance) * DEVIATIONS**2) + 1), max(did.difficulty, expected) / CHANCE_PART
    )
    return max(did.difficulty - expected - chance, Fraction(0))


def _whole_minutes(from_s: int, until_s: int) -> tuple[int, int]:
    return -(-from_s // 60), until_s // 60


def _done(connection: Connection, ids: list[int], first: int, after: int) -> Done:
    """In these minutes. Of an hour that has grown old it is known which minutes had shares, and not how many
    each."""
    found = Done()
    of = tally_minutes.c
    young = (
        select(of.difficulty_log2, func.sum(of.shares))
        .where(
            of.minute >= first,
            of.minute < after,
            of.verdict == ACCEPTED,
            among(connection, of.worker_id, ids),
        )
        .group_by(of.difficulty_log2)
    )
    for log2, shares in connection.execute(young):
        found = found.plus(log2, Fraction(int(shares)))
    old = tally_hours.c
    hours = select(old.hour, old.difficulty_log2, old.minutes, func.sum(old.shares).label("shares")).where(
        old.hour.between(first // 60, (after - 1) // 60),
        old.verdict == ACCEPTED,
        among(connection, old.worker_id, ids),
    )
    for row in connection.execute(hours.group_by(old.hour, old.difficulty_log2, old.minutes)):
        minutes = [row.hour * 60 + bit for bit in range(60) if row.minutes >> bit & 1]
        inside = sum(first <= it < after for it in minutes)
        if inside:
            found = found.plus(row.difficulty_log2, Fraction(int(row.shares) * inside, len(minutes)))
    return found
