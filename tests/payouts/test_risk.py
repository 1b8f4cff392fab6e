"""The operator's risk: published examples, and laws that hold for every input."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payouts.rates import BPS
from payouts.risk import (
    FOUND_MAX,
    BadRisk,
    effective_fee,
    luck,
    poisson_interval,
    reserve_sat,
    ruin_probability,
)

BTC = 10**8
LAW = settings(deadline=None, derandomize=True)


def test_the_reserve_of_the_published_example() -> None:
    reserve = reserve_sat(50 * BTC, Fraction(1, 1000), Fraction(5, 100))
    assert reserve == 345_387_763_950  # 50 * ln(1000) / 0.1 BTC, up to the next satoshi
    assert round(Fraction(reserve, BTC)) == 3454


def test_the_ruin_of_the_published_example() -> None:
    ruin = ruin_probability(50 * BTC, 500 * BTC, Fraction(1, 100))
    assert round(ruin, 3) == Decimal("0.819")
    assert str(ruin).startswith("0.81873075307798185866")  # e^-0.2


@LAW
@given(
    block_sat=st.integers(1, 100 * BTC),
    ruin=st.fractions(min_value=Fraction(1, 10**9), max_value=1),
    fee=st.fractions(min_value=Fraction(1, BPS), max_value=1),
)
def test_the_reserve_is_just_enough(block_sat: int, ruin: Fraction, fee: Fraction) -> None:
    reserve = reserve_sat(block_sat, ruin, fee)
    bound = Decimal(ruin.numerator) / Decimal(ruin.denominator) * (1 + Decimal("1e-25"))
    assert ruin_probability(block_sat, reserve, fee) <= bound
    assert reserve == 0 or ruin_probability(block_sat, reserve - 1, fee) * (1 + Decimal("1e-25")) > bound


def test_orphans_eat_the_fee() -> None:
    assert effective_fee(Fraction(2, 100), Fraction(0)) == Fraction(2, 100)
    assert effective_fee(Fraction(2, 100), Fraction(1, 100)) == Fraction(1, 99)
    assert effective_fee(Fraction(1, 100), Fraction(2, 100)) < 0
    assert ruin_probability(50 * BTC, 10**15, effective_fee(Fraction(1, 100), Fraction(2, 100))) == 1


def test_no_reserve_is_enough_without_a_fee() -> None:
    with pytest.raises(BadRisk):
        reserve_sat(50 * BTC, Fraction(1, 1000), Fraction(0))
    with pytest.raises(BadRisk):
        reserve_sat(50 * BTC, Fraction(0), Fraction(1, 100))
    with pytest.raises(BadRisk):
        effective_fee(Fraction(1, 100), Fraction(1))


@pytest.mark.parametrize(
    ("found", "low", "high"),
    [
        (0, "0.000", "3.689"),
        (1, "0.025", "5.572"),
        (5, "1.623", "11.668"),
        (10, "4.795", "18.390"),
        (100, "81.364", "121.627"),
    ],
)
def test_the_interval_is_garwoods(found: int, low: str, high: str) -> None:
    """As in the published tables of the exact limits of a Poisson mean, to their three digits."""
    exact_low, exact_high = poisson_interval(found)
    assert (round(exact_low, 3), round(exact_high, 3)) == (Decimal(low), Decimal(high))


@pytest.mark.parametrize("found", [1, 2, 3, 17, 100, 400])
def test_the_tails_beyond_the_limits_are_two_and_a_half_percent(found: int) -> None:
    def at_most(count: int, mean: Decimal) -> Decimal:
        term = total = (-mean).exp()
        for i in range(1, count + 1):
            term = term * mean / i
            total += term
        return total

    low, high = poisson_interval(found)
    assert abs(at_most(found, high) - Decimal("0.025")) < Decimal("1e-9")
    assert abs(1 - at_most(found - 1, low) - Decimal("0.025")) < Decimal("1e-9")


def test_the_interval_is_bounded_and_symmetric_for_many_blocks() -> None:
    low, high = poisson_interval(FOUND_MAX)
    assert FOUND_MAX - low == pytest.approx(Decimal("619.5"), abs=Decimal(2))  # 1.96 sqrt(100,000)
    assert high - FOUND_MAX == pytest.approx(Decimal("619.5"), abs=Decimal(4))
    with pytest.raises(BadRisk):
        poisson_interval(FOUND_MAX + 1)
    with pytest.raises(BadRisk):
        poisson_interval(-1)


def test_luck_is_found_over_expected_with_its_interval() -> None:
    answer = luck(10, Fraction(20))
    assert (answer.found, answer.luck) == (10, Decimal("0.5"))
    assert (round(answer.low, 4), round(answer.high, 4)) == (Decimal("0.2398"), Decimal("0.9195"))
    with pytest.raises(BadRisk):
        luck(0, Fraction(0))
