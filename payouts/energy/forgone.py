"""What a machine that was told to draw nothing would have been paid: the exact price of the work that it did
before, for the time that it was off.

Its accepted shares in the window before are so many a second of each difficulty; each second that it was off
forgoes that much, at the pool's own price of that second. A machine is off from its last accepted share to
the first one after, so each end that a share marks is one mean interval between its shares further out than
the truth: that is taken off again. (A machine with few, hard shares would otherwise be off for longer than it
was.) What it mined meanwhile all the same is subtracted, and it was off for so much less; work beyond its
nameplate does not count. A machine chooses how hard its shares are: where it has so few of them that its
silence may be chance, that proves nothing, and it forgoes nothing.

What is stated beside it is an error of three standard deviations: shares are found by chance, n of them are
known to one part in the square root of n, and each end to an interval. And one that is the same way for all,
which no number of machines makes smaller: from when a machine was told to stop it counts as off, and it may
have mined on until it was to have a share, or had finished what it had.

Invariants: exact fractions; never below nothing. Must not know: the database, and who was asked.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import ceil, isqrt
from typing import Final

import msgspec

from payouts.rates import Price, Scheme

DEVIATIONS: Final = 3  # 99.7 % of what chance does
STOPS_S_MAX: Final = (
    30  # who obeys has finished what it has by then; who has shares later counts as off later
)
# Of machines that mine, one in so many may seem to be off for so long by chance.
CHANCE: Final = 100
# More of them would prove fewer seconds than a minute has: no larger numbers are needed.
PROVING_SHARES_MAX: Final = 1_000


class Off(msgspec.Struct, frozen=True, kw_only=True):
    """A machine that was off, and what it had done in `before_s` seconds: accepted shares by the difficulty's
    exponent. `marked`: how many ends of its time are those of shares, two at most."""

    before_s: int
    before: Mapping[int, int]
    from_s: int
    until_s: int
    marked: int = 1

    @property
    def shares(self) -> int:
        return sum(self.before.values())


class Mined(msgspec.Struct, frozen=True):
    """Work that it did all the same."""

    at_s: int
    difficulty_log2: int
    shares: Fraction


class Forgone(msgspec.Struct, frozen=True, kw_only=True):
    """Exact; `variance` is in satoshi, squared. By `late_sat` it is too much where all machines stop late."""

    off_s: Fraction = Fraction(0)
    difficulty: Fraction = Fraction(0)
    sat: Fraction = Fraction(0)
    variance: Fraction = Fraction(0)
    late_sat: Fraction = Fraction(0)

    def plus(self, other: "Forgone") -> "Forgone":
        return Forgone(
            off_s=self.off_s + other.off_s,
            difficulty=self.difficulty + other.difficulty,
            sat=self.sat + other.sat,
            variance=self.variance + other.variance,
            late_sat=self.late_sat + other.late_sat,
        )

    @property
    def error_sat(self) -> int:
        """By so much it may be off, both ways, in whole satoshi."""
        if not self.variance:
            return 0
        return isqrt(int(self.variance) * DEVIATIONS**2) + 1 + ceil(self.late_sat)


Prices = Sequence[tuple[int, Price]]  # each from a second on, in their order


def forgone(off: Off, prices: Prices, mined: Sequence[Mined] = ()) -> Forgone:
    """Of one machine."""
    span_s = off.until_s - off.from_s
    if off.shares == 0 or span_s <= 0 or not prices:
        return Forgone()
    off_s = max(span_s - off.marked * Fraction(off.before_s, off.shares), Fraction(0))
    a_second = {log2: Fraction(shares, off.before_s) for log2, shares in off.before.items()}
    found_sat = sum(
        (
            seconds * _worth_sat(price, log2, shares)
            for price, seconds in _spans(off.from_s, off.until_s, prices)
            for log2, shares in a_second.items()
        ),
        Fraction(0),
    )
    share_sat = found_sat / span_s / Fraction(off.shares, off.before_s)
    counted = Fraction(off_s, span_s)
    less_sat = sum(
        (_worth_sat(_price_at(prices, it.at_s), it.difficulty_log2, it.shares) for it in mined), Fraction(0)
    )
    less = sum((it.shares * Fraction(2) ** it.difficulty_log2 for it in mined), Fraction(0))
    work = off_s * sum(shares * Fraction(2) ** log2 for log2, shares in a_second.items())
    if work <= less:
        return Forgone()
    rest_s = off_s * (1 - less / work)
    if _by_chance(off, rest_s):
        return Forgone()
    return Forgone(
        off_s=rest_s,
        difficulty=work - less,
        sat=max(found_sat * counted - less_sat, Fraction(0)),
        late_sat=found_sat
        / span_s
        * min(Fraction(off.before_s, off.shares), Fraction(min(STOPS_S_MAX, span_s))),
        variance=(found_sat * counted) ** 2 / off.shares + off.marked * share_sat**2,
    )


def _by_chance(off: Off, silent_s: Fraction) -> bool:
    """Whether a machine that mines is silent for so long once in CHANCE times. By n shares in T seconds the
    chance of silence for t more is (T / (T + t)) ** n: nobody knows its pace any better."""
    shares = min(off.shares, PROVING_SHARES_MAX)
    mined: int = off.before_s**shares
    waited: int = (off.before_s + int(silent_s)) ** shares
    return waited < CHANCE * mined


def accrues(price: Price) -> Price:
    """The pool's own price of the same work, for a tenant whose work accrues nothing (solo, proxy)."""
    if price.scheme.accrues:
        return price
    return msgspec.structs.replace(price, scheme=Scheme.FPPS)


def _worth_sat(price: Price, difficulty_log2: int, shares: Fraction) -> Fraction:
    return price.credit_sat(Fraction(2) ** difficulty_log2, 1) * shares


def _spans(from_s: int, until_s: int, prices: Prices) -> list[tuple[Price, int]]:
    """Each price with the seconds that it held in; the first one also before it was said."""
    ends = [*(at_s for at_s, _ in prices[1:]), until_s]
    begins = [from_s, *(at_s for at_s, _ in prices[1:])]
    spans = zip(prices, begins, ends, strict=True)
    return [
        (price, min(end, until_s) - max(begin, from_s))
        for (_, price), begin, end in spans
        if min(end, until_s) > max(begin, from_s)
    ]


def _price_at(prices: Prices, at_s: int) -> Price:
    return next((price for from_s, price in reversed(prices) if from_s <= at_s), prices[0][1])
