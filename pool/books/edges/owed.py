"""What shares of an edge come to, against all coins that there are: for chains where one machine may be more
than all others, and each share a block.

A ledger takes no more at once than there is. So of an hour, which is settled at once, all edges together may
be owed that much, and each of them a part of its own: whoever fills up his own holds his edge alone.

Must not know: who is paid what of it. It is as much as anybody could be, or a buyer charged.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from payouts.rates import MAX_MONEY_SAT, fee_basis_sat, ph_days, share_probability
from pool.books.journal.rate_epochs import unpacked_basis
from pool.books.journal.window import Part
from pool.journal.records import Rate
from stratum.difficulty import DIFFICULTY_LOG2_MAX, DIFFICULTY_LOG2_MIN
from stratum.tallies import MINED

HOUR_S: Final = 3600
# What was saved up, what it gains in the hour, and in a second one where settlements are late.
HOURS_AT_ONCE: Final = 3

Shares = Mapping[tuple[int, int], int]  # by rate number and binary logarithm of the difficulty


def shares_in(parts: Sequence[Part]) -> Shares:
    """Good ones, and those under way: of an edge that is over they are booked without an answer."""
    found: Counter[tuple[int, int]] = Counter()
    for part in parts:
        if part.tallies is not None:
            mined = part.tallies[np.isin(part.tallies["verdict"], MINED)]
            keys, of = np.unique(mined[["rate", "difficulty_log2"]], return_inverse=True)
            counts = np.zeros(len(keys), dtype=np.uint64)
            np.add.at(counts, of, mined["count"].astype(np.uint64))
            found.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
        for it in part.noted:
            if not it.counted:
                log2 = max(DIFFICULTY_LOG2_MIN, min(it.difficulty_log2, DIFFICULTY_LOG2_MAX))
                found[it.epoch, log2] += 1
    return found


def worth_sat(
    shares: Shares, meanings: Mapping[int, Rate], by_difficulty: Iterable[int], sold_at: Mapping[int, int]
) -> int:
    """What they come to. `by_difficulty`: rates at which somebody is paid for a share's chance to be a block;
    `sold_at`: what buyers pay for a PH/s in a day, where an order has the work."""
    blocks = frozenset(by_difficulty)
    total = Fraction(0)
    for (number, log2), count in shares.items():
        if (rate := meanings.get(number)) is None:
            continue
        difficulty = Fraction(2) ** log2
        if number in blocks:
            fees_sat = fee_basis_sat(unpacked_basis(rate.basis)) if rate.basis else 0
            total += share_probability(rate.nbits, difficulty) * count * (rate.subsidy_sat + fees_sat)
        total += ph_days(difficulty, count) * sold_at.get(number, 0)
    return int(total)


class Room:
    """How much more an edge may be owed now; something of it was taken last at `since_s`."""

    def __init__(self, since_s: int) -> None:
        self._since_s, self._owed_sat = since_s, MAX_MONEY_SAT  # a process before may have filled it up

    def takes(self, sat: int, edges: int, now_s: int) -> bool:
        """Whether so much more goes in, of one of so many edges."""
        most_sat = MAX_MONEY_SAT // (HOURS_AT_ONCE * edges)
        passed_s = max(0, now_s - self._since_s)
        self._since_s = max(now_s, self._since_s)
        self._owed_sat = max(0, min(self._owed_sat, most_sat) - most_sat * passed_s // HOUR_S)
        if self._owed_sat + sat > most_sat:
            return False
        self._owed_sat += sat
        return True
