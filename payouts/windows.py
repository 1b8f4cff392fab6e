"""Windows: which work a block pays, where blocks are divided over the work that was done before them.

Work of the tenants of one scheme is one line, from the first of it to the newest, and a block is found at a
place on it. It pays the work between LAG and LAG + window behind that place, all alike. So each share is paid
by the blocks of as much work to come as the window is: whatever there was before, whoever comes and goes,
whatever the difficulty becomes. That is Rosenfeld's condition (Analysis of Bitcoin Pooled Mining Reward
Systems, 2011): what a share is worth is the same whenever it is sent.

Work is measured in expected blocks: by the chance that each share had (unit-PPLNS), or, in TIDES, by that
which it would have at the difficulty of the block.

The line is known by the hour. What was booked of the hour in which a block was found, and of the one before
it, is never paid by it, so nobody adds to what a block pays who has heard of it. LAG keeps that from pulling
at the window when the group grows or shrinks: as long as two hours of it are no more work than LAG.

A window that the group has not filled yet divides only what there is: the rest of the block is the pool's,
else the first share of a group would be paid a block.

Invariants: exact; the parts of a block are never more than the block. Must not know: the database, the clock.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final

import msgspec

from payouts.rates import BPS, Price, Scheme, target_from_nbits

# Expected blocks. Two hours of a group that has 4 % of Bitcoin; what is larger is paid by hours, not by LAG.
LAG: Final = Fraction(1, 2)
# The hour in which a block was found and the one before it: edges that lag are a quarter of an hour late.
HOURS_NOT_PAID: Final = 2


class HourWork(msgspec.Struct, frozen=True, kw_only=True):
    """Work of one rate, of an hour or of what a window has of it."""

    rate_id: int
    tenant_id: int
    fee_bps: int
    blocks: Fraction  # expected


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What a block pays, by rate in the order of their numbers."""

    first_hour: int | None  # None, and no works: nobody had worked
    last_hour: int | None
    works: tuple[HourWork, ...]

    @property
    def blocks(self) -> Fraction:
        """Expected blocks: the window's size where it is full."""
        return sum((it.blocks for it in self.works), Fraction(0))


class Worth(msgspec.Struct, frozen=True):
    """A tenant's part of a block, and what the pool keeps of that work, in satoshi, exactly."""

    credit_sat: Fraction = Fraction(0)
    fee_sat: Fraction = Fraction(0)


def measured(scheme: Scheme, nbits: int, price: Price, difficulty: Fraction, shares: int) -> Fraction:
    """The work of shares as a block of these bits counts it, in expected blocks."""
    expected = price.expected_blocks(difficulty, shares)
    if scheme is Scheme.TIDES:
        return expected * target_from_nbits(nbits) / target_from_nbits(price.nbits)
    return expected


def window(hours: Iterable[tuple[int, Iterable[HourWork]]], ahead: Fraction, size: Fraction) -> Window:
    """Of hours that may be paid, the newest first; `ahead` is what was worked behind them when the block was
    booked. An hour that is in it in part counts in proportion."""
    lag, left = max(LAG - ahead, Fraction(0)), size
    first_hour = last_hour = None
    found: dict[int, HourWork] = {}
    for hour, works in hours:
        listed = tuple(works)
        total = sum((it.blocks for it in listed), Fraction(0))
        passed = min(lag, total)
        paid = min(total - passed, left)
        lag, left = lag - passed, left - paid
        if paid:
            first_hour, last_hour = hour, hour if last_hour is None else last_hour
            for it in listed:
                before = found[it.rate_id].blocks if it.rate_id in found else Fraction(0)
                found[it.rate_id] = msgspec.structs.replace(it, blocks=before + it.blocks * paid / total)
        if not left:
            break
    return Window(
        first_hour=first_hour,
        last_hour=last_hour,
        works=tuple(found[rate_id] for rate_id in sorted(found) if found[rate_id].blocks),
    )


def divided(income_sat: int, size: int, works: Iterable[HourWork]) -> Mapping[int, Worth]:
    """By tenant, in the order of their numbers."""
    found: dict[int, Worth] = {}
    for it in works:
        worth, before = it.blocks * income_sat / size, found.get(it.tenant_id, Worth())
        found[it.tenant_id] = Worth(
            before.credit_sat + worth * (BPS - it.fee_bps) / BPS, before.fee_sat + worth * it.fee_bps / BPS
        )
    return dict(sorted(found.items()))
