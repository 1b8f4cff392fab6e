"""The operator's risk: PPS moves the luck of mining from the tenants to the pool.

Reserve and ruin after Rosenfeld, Analysis of Bitcoin Pooled Mining Reward Systems, 2.2; luck with the
exact (Garwood 1936) confidence interval of a Poisson count.

Invariants: statistics are Decimal with PRECISION digits, the reserve in satoshi is rounded up. No
float. Must not know: where its counts come from.
"""

from collections.abc import Callable
from decimal import MAX_EMAX, MIN_EMIN, ROUND_CEILING, Context, Decimal, localcontext
from fractions import Fraction

import msgspec

# Digits of every step. The sums below lose at most log10(FOUND_MAX) of them, the answers need 12.
PRECISION = 50
# exp(-lambda) and k! leave the default exponent range long before FOUND_MAX.
CONTEXT = Context(prec=PRECISION, Emax=MAX_EMAX, Emin=MIN_EMIN)
TAIL = Decimal("0.025")  # at each end of the 95 % interval
INTERVAL_WIDTH = Decimal("1e-12")  # how closely a limit is bracketed, relative to it
NEGLIGIBLE = Decimal("1e-30")  # a term this small beside the sum, and every later one, cannot matter
# 1.9 years of every block of Bitcoin: no pool finds more, and it bounds the work of an interval.
FOUND_MAX = 100_000


class BadRisk(ValueError):
    """A question about risk that has no answer."""


class Luck(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks found against the sum of p; `low` and `high` bound the true ratio with 95 % confidence."""

    found: int
    expected: Fraction
    luck: Decimal
    low: Decimal
    high: Decimal


def effective_fee(fee: Fraction, orphaned: Fraction) -> Fraction:
    """What a fee is worth when the fraction `orphaned` of the blocks pays nothing: 1 - (1-f)/(1-o)."""
    if not 0 <= fee <= 1 or not 0 <= orphaned < 1:
        raise BadRisk(f"fee {fee} and orphaned fraction {orphaned} must be fractions of one")
    return 1 - (1 - fee) / (1 - orphaned)


def reserve_sat(block_sat: int, ruin: Fraction, fee: Fraction) -> int:
    """The reserve with which the pool is ruined with probability `ruin`: B * ln(1/delta) / (2 f), rounded up.

    Raises BadRisk for a fee that is not positive: no reserve is enough then.
    """
    if block_sat <= 0 or not 0 < ruin <= 1 or not 0 < fee <= 1:
        raise BadRisk(f"no reserve for blocks of {block_sat} sat, ruin {ruin} and fee {fee}")
    with localcontext(CONTEXT):
        exact = block_sat * -_decimal(ruin).ln() / (2 * _decimal(fee))
        return int(exact.to_integral_value(ROUND_CEILING))


def ruin_probability(block_sat: int, reserve_sat: int, fee: Fraction) -> Decimal:
    """The probability that a pool with this reserve is ever ruined: exp(-2 f R / B), 1 without a fee."""
    if block_sat <= 0 or reserve_sat < 0 or fee > 1:
        raise BadRisk(f"no ruin for blocks of {block_sat} sat, reserve {reserve_sat} sat and fee {fee}")
    if fee <= 0:
        return Decimal(1)
    with localcontext(CONTEXT):
        return (-2 * _decimal(fee) * reserve_sat / block_sat).exp()


def luck(found: int, expected: Fraction) -> Luck:
    """Blocks found over blocks expected, with its exact 95 % interval.

    Raises BadRisk where nothing was expected.
    """
    if expected <= 0:
        raise BadRisk("no luck without work")
    low, high = poisson_interval(found)
    with localcontext(CONTEXT):
        exact = _decimal(expected)
        return Luck(found=found, expected=expected, luck=found / exact, low=low / exact, high=high / exact)


def poisson_interval(found: int) -> tuple[Decimal, Decimal]:
    """Garwood's 95 % limits of the mean of a Poisson count of which `found` were seen."""
    if not 0 <= found <= FOUND_MAX:
        raise BadRisk(f"{found} blocks is not between 0 and {FOUND_MAX}")
    with localcontext(CONTEXT):
        factorial = _factorial(found)
        low = Decimal(0)
        if found:
            low = _solve(lambda mean: _at_least(found, mean, factorial) > TAIL, Decimal(0), Decimal(found))
        # The upper limit is below found + 4 sqrt(found) + 4 (3.69 for none, 5.57 for one).
        bound = found + 4 * Decimal(found).sqrt() + 4
        return low, _solve(lambda mean: _at_most(found, mean, factorial) < TAIL, Decimal(found), bound)


def tails(found: int, expected: Fraction) -> tuple[Decimal, Decimal]:
    """The probabilities that chance alone finds so few blocks, and so many, where `expected` are expected."""
    if not 0 <= found <= FOUND_MAX or expected < 0:
        raise BadRisk(f"{found} blocks where {expected} are expected is no count of at most {FOUND_MAX}")
    with localcontext(CONTEXT):
        mean, one, factorial = _decimal(expected), Decimal(1), _factorial(found)
        if not mean:
            return one, Decimal(0) if found else one
        this = (-mean).exp() * mean**found / factorial  # the probability of just so many
        if found < mean:
            few = _at_most(found, mean, factorial)
            return few, one - few + this
        many = _at_least(found, mean, factorial)
        return one - many + this, many


def _factorial(count: int) -> Decimal:
    factorial = Decimal(1)
    for i in range(2, count + 1):
        factorial *= i
    return factorial


def _solve(beyond: Callable[[Decimal], bool], low: Decimal, high: Decimal) -> Decimal:
    """Where `beyond` becomes true between low and high, by bisection."""
    while high - low > high * INTERVAL_WIDTH:
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) else (middle, high)
    return high


def _at_least(count: int, mean: Decimal, factorial: Decimal) -> Decimal:
    """P(X >= count) for mean < count: the terms fall from the first on."""
    term = total = (-mean).exp() * mean**count / factorial
    i = count
    while term > total * NEGLIGIBLE:
        i += 1
        term = term * mean / i
        total += term
    return total


def _at_most(count: int, mean: Decimal, factorial: Decimal) -> Decimal:
    """P(X <= count) for mean >= count: the terms fall from the last on, and end at 0."""
    term = total = (-mean).exp() * mean**count / factorial
    i = count
    while i and term > total * NEGLIGIBLE:
        term = term * i / mean
        total += term
        i -= 1
    return total


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)
