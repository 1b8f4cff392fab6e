"""The days that a statement or a report is about: whole UTC days, the first in, the last out.

Invariants: at least one day and at most DAYS_MAX. Whole days are also whole hours and minutes, so that
a period cuts no row of a tally. Must not know: the time it is.
"""

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import msgspec

from payouts.rates import HASHES_PER_DIFFICULTY

DAYS_MAX = 3653  # ten years: more is a typing mistake, and would be one page a day
EPOCH = date(1970, 1, 1)


class BadPeriod(ValueError):
    """A period that cannot be reported on, in words."""


class Period(msgspec.Struct, frozen=True):
    """Half-open: from the start of `from_day` to the start of `to_day`, UTC."""

    from_day: date
    to_day: date

    def __post_init__(self) -> None:
        if self.from_day < EPOCH:
            raise BadPeriod(f"a period does not start before {EPOCH}")
        if self.from_day >= self.to_day:
            raise BadPeriod(
                f"the period from {self.from_day} to {self.to_day} is empty: the last day is not part of it,"
                f" one day is from {self.from_day} to {_day_after(self.from_day)}"
            )
        if self.days > DAYS_MAX:
            raise BadPeriod(f"a period of {self.days} days is longer than {DAYS_MAX}")

    @property
    def days(self) -> int:
        return (self.to_day - self.from_day).days

    @property
    def hours(self) -> int:
        return self.days * 24

    @property
    def minutes(self) -> int:
        return self.days * 1440

    @property
    def from_s(self) -> int:
        return (self.from_day - EPOCH).days * 86400

    @property
    def to_s(self) -> int:
        return (self.to_day - EPOCH).days * 86400


def utc(at_s: int) -> str:
    """Unix seconds as text: 2026-09-01T06:00:00Z."""
    return f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


def hashrate_hps(work: Fraction, seconds: int) -> int:
    """The average hashrate that found shares of this summed difficulty, rounded down."""
    return int(work * HASHES_PER_DIFFICULTY / seconds)


def work_text(work: Fraction) -> str:
    """A sum of difficulties, exactly: powers of two, so that the decimals end."""
    halvings = work.denominator.bit_length() - 1
    if work.denominator != 1 << halvings or work < 0:
        raise ValueError(f"{work} is not a sum of difficulties")
    digits = str(work.numerator * 5**halvings).rjust(halvings + 1, "0")
    return f"{digits[:-halvings]}.{digits[-halvings:]}" if halvings else digits


def _day_after(day: date) -> str:
    return str(day + timedelta(days=1)) if day < date.max else "the day after"
