"""Making good: what an order was given too little by its seller's fault, beyond the tolerance of its terms.

An order of these terms is paid for as it was sold, and what is missing is made good, priced as it was sold.
Not missing is what was given and not taken: the time in which nobody could reach the buyer's upstream, and
work that it rejected or never answered. That is not billed either, so that nobody gains by it.

The tolerance is a schedule, as 5 % over an hour and 1 % over a day. Of each there are periods one after the
other, from the order's first hour on; at the end of one, or of the order, what is short in it and was not
made good is, but for what its tolerance allows. A surplus makes up for what was short before in its period,
and never for what comes later: it is not billed, and not kept.

An extension is a credit that can be worked off: what was made good is owed as work, and what is delivered
of it after the order's end, within so many hours, is billed then. What its buyer does not take of it,
refused or away, is owed no more, and what nobody delivers stays credited. So neither is ever worse off than
by credit.

Invariants: pure; whole numbers of work (`payouts.receipts.receipt`); no more is made good than was billed,
and no more is worked off than was made good.
Must not know: what work costs.
"""

from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final

import msgspec

from payouts.rates import BPS

TOLERANCES_MAX: Final = 4
HOURS_MAX: Final = 30 * 24
EXTENSION_H_MAX: Final = 30 * 24  # what is not delivered by then stays credited


class MakeGood(StrEnum):
    """How it is made good."""

    NONE = "none"  # it is not: what was delivered is paid for, and nothing else
    CREDIT = "credit"  # it lowers what the buyer owes
    REFUND = "refund"  # it is due to the buyer, who owes all that was sold
    EXTENSION = "extension"  # as credit; and it is delivered after the order's end, and billed then


class Tolerance(msgspec.Struct, frozen=True):
    """What may be missing of what was sold over so many hours."""

    bps: int
    hours: int


class MakeGoodTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How an order makes good what is missing; `extension_h`: for how long after its end."""

    how: MakeGood
    tolerances: tuple[Tolerance, ...]
    extension_h: int = 0


class Carried(msgspec.Struct, frozen=True, kw_only=True):
    """Of the period of one tolerance that is not over: work that was billed, that is short, and of that what
    was made good."""

    billed: int = 0
    short: int = 0
    granted: int = 0


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """Of an hour: work that was sold while the buyer could take it, was delivered, and was refused by him;
    and of an hour after the order's end what he could have had while nobody could reach his upstream."""

    expected: int
    delivered: int
    refused: int
    missed: int = 0


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What an hour comes to: work that is billed, that is short or too much, and that is made good now; of
    the work that was owed what is delivered now, and what was not taken."""

    billed: int
    short: int
    surplus: int
    granted: int
    carried: tuple[Carried, ...]
    extended: int = 0
    forgone: int = 0


def check_tolerances(tolerances: Sequence[Tolerance]) -> None:
    """Raises ValueError, in words."""
    if not 1 <= len(tolerances) <= TOLERANCES_MAX:
        raise ValueError(f"a tolerance has 1 to {TOLERANCES_MAX} steps")
    if any(not 1 <= it.bps <= BPS for it in tolerances):
        raise ValueError("a tolerance is 0.01 to 100 percent")
    if any(not 1 <= it.hours <= HOURS_MAX for it in tolerances):
        raise ValueError(f"a tolerance is over 1 to {HOURS_MAX} hours")
    for shorter, longer in pairwise(tolerances):
        if longer.hours % shorter.hours or longer.hours == shorter.hours or longer.bps >= shorter.bps:
            raise ValueError(
                "each step of a tolerance is over several times the hours of the one before it, and smaller"
            )


def settled(
    tolerances: Sequence[Tolerance],
    before: Sequence[Carried],
    of: Given,
    hours: int,
    *,
    over: bool,
    owed: int = 0,
    after: bool = False,
) -> Settled:
    """An hour, which is the order's so-manieth, from 1; 0 is what came later than its hour. `over`: it is the
    last one. `owed`: work that may be delivered in it of what was made good before; `after`: the hour is
    wholly after the order's end."""
    missing = max(of.expected - of.delivered, 0)
    excused = min(of.refused, missing)
    billed, short = of.expected - excused, missing - excused
    surplus = max(of.delivered - of.expected, 0)
    # What is short and not made good yet is billed already: a surplus is that first.
    extended = min(owed, max(surplus - max(0, *(it.short - it.granted for it in before)), 0))
    forgone = min(owed - extended, of.refused + of.missed) if after else 0
    made_up = surplus - extended
    granted = 0
    carried = [
        Carried(billed=it.billed + billed, short=max(it.short + short - made_up, 0), granted=it.granted)
        for it in before
    ]
    ends = [hours > 0 and (over or hours % it.hours == 0) for it in tolerances]
    for at, tolerance in enumerate(tolerances):
        it = carried[at]
        if ends[at] and (more := it.short - it.granted - it.billed * tolerance.bps // BPS) > 0:
            granted += more
            carried = [msgspec.structs.replace(one, granted=one.granted + more) for one in carried]
    return Settled(
        billed=billed,
        short=short,
        surplus=surplus,
        granted=granted,
        carried=tuple(Carried() if end else it for end, it in zip(ends, carried, strict=True)),
        extended=extended,
        forgone=forgone,
    )
