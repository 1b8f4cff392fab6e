"""The price of a share: published vectors, and laws that hold for every input."""

import ast
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import payouts
from payouts.rates import (
    BPS,
    DIFF1,
    FEE_BASIS_BLOCKS_MAX,
    HALVING_INTERVAL,
    HALVING_INTERVAL_REGTEST,
    PSAT_PER_SAT,
    Amount,
    BadRate,
    BlockFees,
    Price,
    Scheme,
    fee_basis_sat,
    floor_to_psat,
    ph_days,
    quote,
    share_probability,
    subsidy_sat,
    target_from_nbits,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "vectors" / "pps.json").read_text()
)
BTC = 10**8
NBITS = st.builds(lambda e, m: e << 24 | m, st.integers(4, 0x1C), st.integers(1, 0x7FFFFF))
DIFFICULTIES = st.integers(-32, 63).map(lambda log2: Fraction(2) ** log2) | st.fractions(
    min_value=Fraction(1, 2**32), max_value=2**63
).filter(bool)
SHARES = st.integers(0, 10**12)
FEES_BPS = st.integers(0, BPS)
SUBSIDIES_SAT = st.integers(0, 33).map(lambda halvings: 50 * BTC >> halvings)
PRICES = st.builds(
    Price,
    nbits=NBITS,
    subsidy_sat=SUBSIDIES_SAT,
    block_fees_sat=st.integers(0, 50 * BTC),
    fee_bps=FEES_BPS,
    scheme=st.sampled_from(Scheme),
)
# A loaded machine is not a failure, and the same examples come every time.
LAW = settings(deadline=None, derandomize=True)
EXACT_SAT = st.fractions(min_value=0, max_value=21_000_000 * BTC)


@pytest.mark.parametrize(
    "case", VECTORS, ids=lambda c: f"{c['nbits']}-{c['height']}-{c['difficulty']}x{c['shares']}"
)
def test_every_vector_holds(case: dict[str, Any]) -> None:
    nbits, difficulty = int(case["nbits"], 16), Fraction(case["difficulty"])
    assert subsidy_sat(case["height"]) == case["subsidy_sat"]
    price = Price(
        nbits=nbits,
        subsidy_sat=case["subsidy_sat"],
        block_fees_sat=case["block_fees_sat"],
        fee_bps=case["fee_bps"],
        scheme=Scheme.FPPS,
    )
    assert price.credit_sat(difficulty, case["shares"]) == Fraction(case["exact"])
    assert quote(
        nbits, case["height"], difficulty, case["shares"], case["fee_bps"], case["block_fees_sat"]
    ) == Amount(case["sat"], case["carry_psat"])


def test_a_network_with_another_halving_interval_is_quoted_with_its_own() -> None:
    """Regtest halves every 150 blocks."""
    before, after = (quote(0x207FFFFF, height, Fraction(1), 1, 0, 0, 150) for height in (149, 150))
    assert (before.sat, after.sat) == (5_000_000_000, 2_500_000_000)


def test_there_are_vectors() -> None:
    assert len(VECTORS) == 13


# Targets


@pytest.mark.parametrize(
    ("nbits", "target"),
    [
        (0x1D00FFFF, DIFF1),
        (0x207FFFFF, 0x7FFFFF << 232),
        (0x1B0404CB, 0x0404CB << 192),
        (0x03123456, 0x123456),
        (0x02123456, 0x1234),
        (0x01123456, 0x12),
        (0x220000FF, 0xFF << 248),
    ],
)
def test_a_target_is_the_mantissa_shifted_by_the_exponent(nbits: int, target: int) -> None:
    assert target_from_nbits(nbits) == target


@pytest.mark.parametrize(
    ("nbits", "reason"),
    [
        (-1, "not 32 bits"),
        (1 << 32, "not 32 bits"),
        (0x1D80FFFF, "sign bit"),
        (0x03800000, "sign bit"),
        (0x00000000, "zero"),
        (0x1D000000, "zero"),
        (0x00123456, "zero"),
        (0x01001234, "zero"),
        (0x21010000, "overflows"),
        (0x22000100, "overflows"),
        (0x23000001, "overflows"),
        (0xFF7FFFFF, "overflows"),
    ],
)
def test_an_nbits_that_no_block_can_have_is_refused(nbits: int, reason: str) -> None:
    with pytest.raises(BadRate, match=reason):
        target_from_nbits(nbits)
    with pytest.raises(BadRate, match=reason):
        quote(nbits, 0, Fraction(1), 1, 0)


# Subsidy


@pytest.mark.parametrize(
    ("height", "sat"),
    [
        (0, 50 * BTC),
        (209_999, 50 * BTC),
        (210_000, 25 * BTC),
        (839_999, 625_000_000),
        (840_000, 312_500_000),
        (32 * 210_000, 1),
        (33 * 210_000, 0),
        (64 * 210_000, 0),
        (10**12, 0),
    ],
)
def test_the_subsidy_halves(height: int, sat: int) -> None:
    assert subsidy_sat(height) == sat
    assert subsidy_sat(height // HALVING_INTERVAL * 150, HALVING_INTERVAL_REGTEST) == sat


def test_all_subsidies_are_what_bitcoin_will_ever_have() -> None:
    assert (
        sum(subsidy_sat(i * HALVING_INTERVAL) * HALVING_INTERVAL for i in range(70)) == 2_099_999_997_690_000
    )


def test_a_negative_height_has_no_subsidy() -> None:
    with pytest.raises(BadRate):
        subsidy_sat(-1)
    with pytest.raises(BadRate):
        subsidy_sat(1, 0)


# Price


@LAW
@given(nbits=NBITS, difficulty=DIFFICULTIES)
def test_a_probability_is_a_probability(nbits: int, difficulty: Fraction) -> None:
    p = share_probability(nbits, difficulty)
    assert 0 < p <= 1
    assert p == 1 or p * DIFF1 == difficulty * target_from_nbits(nbits)


def test_a_share_as_hard_as_a_block_is_a_block() -> None:
    network_difficulty = Fraction(DIFF1, target_from_nbits(0x17034219))
    assert share_probability(0x17034219, network_difficulty) == 1
    assert share_probability(0x17034219, network_difficulty * 2) == 1
    assert share_probability(0x17034219, network_difficulty / 2) == Fraction(1, 2)


@LAW
@given(price=PRICES, difficulty=DIFFICULTIES, first=SHARES, second=SHARES)
def test_credit_is_additive_in_shares(price: Price, difficulty: Fraction, first: int, second: int) -> None:
    together = price.credit_sat(difficulty, first + second)
    assert price.credit_sat(difficulty, first) + price.credit_sat(difficulty, second) == together


@LAW
@given(price=PRICES, difficulty=DIFFICULTIES, shares=SHARES, more=st.fractions(min_value=1, max_value=2**32))
def test_credit_grows_with_work_and_never_exceeds_the_reward(
    price: Price, difficulty: Fraction, shares: int, more: Fraction
) -> None:
    credit_sat = price.credit_sat(difficulty, shares)
    assert credit_sat <= price.credit_sat(difficulty * more, shares)
    assert credit_sat <= price.credit_sat(difficulty, shares + 1)
    assert 0 <= credit_sat <= shares * price.block_sat
    assert price.block_sat <= price.subsidy_sat + price.block_fees_sat


@LAW
@given(price=PRICES, difficulty=DIFFICULTIES, shares=SHARES)
def test_only_pps_and_fpps_accrue_and_only_fpps_pays_fees(
    price: Price, difficulty: Fraction, shares: int
) -> None:
    pays_sat = {
        Scheme.PPS: price.subsidy_sat,
        Scheme.FPPS: price.subsidy_sat + price.block_fees_sat,
    }.get(price.scheme, 0)
    worth_sat = share_probability(price.nbits, difficulty) * shares * pays_sat
    assert price.credit_sat(difficulty, shares) == worth_sat * (BPS - price.fee_bps) / BPS
    assert price.pool_fee_sat(difficulty, shares) == worth_sat - price.credit_sat(difficulty, shares)
    assert price.scheme.accrues == (price.scheme in ("pps", "fpps"))


@LAW
@given(nbits=NBITS, difficulty=DIFFICULTIES, shares=SHARES, low=FEES_BPS, high=FEES_BPS)
def test_a_higher_fee_pays_no_more(
    nbits: int, difficulty: Fraction, shares: int, low: int, high: int
) -> None:
    low, high = sorted((low, high))
    assert quote(nbits, 0, difficulty, shares, high).psat <= quote(nbits, 0, difficulty, shares, low).psat


def test_a_fee_of_everything_leaves_nothing() -> None:
    assert quote(0x1D00FFFF, 0, Fraction(1), 5, BPS) == Amount(0, 0)


@pytest.mark.parametrize(
    ("difficulty", "shares", "fee_bps", "fees_sat", "height"),
    [
        (0, 1, 0, 0, 0),
        (-1, 1, 0, 0, 0),
        (1, -1, 0, 0, 0),
        (1, 1, -1, 0, 0),
        (1, 1, BPS + 1, 0, 0),
        (1, 1, 0, -1, 0),
        (1, 1, 0, 0, -1),
    ],
)
def test_a_quote_out_of_range_is_refused(
    difficulty: int, shares: int, fee_bps: int, fees_sat: int, height: int
) -> None:
    with pytest.raises(BadRate):
        quote(0x1D00FFFF, height, Fraction(difficulty), shares, fee_bps, fees_sat)


# An order's price


def sold(
    sat_per_ph_day: int, fee_bps: int = 0, scheme: Scheme = Scheme.PPS, nbits: int = 0x17034219
) -> Price:
    """What a block is worth is nothing to it."""
    return Price(
        nbits=nbits,
        subsidy_sat=312_500_000,
        block_fees_sat=0,
        fee_bps=fee_bps,
        scheme=scheme,
        sat_per_ph_day=sat_per_ph_day,
    )


# A PH-day is 864 * 10^17 hashes = 2^22 * 675 * 5^15, and a share of difficulty 2^-26 stands for 2^22 / 65535.
PH_DAY_SHARES = 65_535 * 675 * 5**15


def test_a_ph_day_is_worth_its_price_exactly() -> None:
    price = sold(61_234, 250)
    difficulty = Fraction(1, 1 << 26)
    assert ph_days(difficulty, PH_DAY_SHARES) == 1
    assert price.worth_sat(difficulty, PH_DAY_SHARES) == 61_234
    assert price.credit_sat(difficulty, PH_DAY_SHARES) == Fraction(5_970_315, 100)
    assert price.pool_fee_sat(difficulty, PH_DAY_SHARES) == Fraction(153_085, 100)


@pytest.mark.parametrize(
    ("shares", "difficulty_log2", "sat_per_ph_day", "fee_bps", "credit"),
    [  # shares * 2^(48 + log2) * price * (10000 - fee) / (65535 * 864 * 10^17 * 10000), by hand
        (1, 16, 50_000, 0, Amount(0, 162_893_097_073)),
        (1_000_000, 18, 50_000, 200, Amount(638_540, 940_529_211_157)),
        (262_144, 18, 4_500, 250, Amount(14_988, 208_261_797_302)),
        (123_456_789, 17, 47_123, 175, Amount(37_242_869, 852_067_775_023)),
        (3, -4, 1, 0, Amount(0, 9)),
        (864, 43, 61_234, 10_000, Amount(0, 0)),
        (10**6, 18, 0, 0, Amount(0, 0)),
    ],
)
def test_work_at_an_orders_price_in_exact_figures(
    shares: int, difficulty_log2: int, sat_per_ph_day: int, fee_bps: int, credit: Amount
) -> None:
    price = sold(sat_per_ph_day, fee_bps)
    assert floor_to_psat(price.credit_sat(Fraction(2) ** difficulty_log2, shares)) == credit


@LAW
@given(nbits=NBITS, difficulty=DIFFICULTIES, first=SHARES, second=SHARES, sat=st.integers(0, BTC))
def test_an_orders_price_pays_every_hash_alike_and_knows_no_blocks(
    nbits: int, difficulty: Fraction, first: int, second: int, sat: int
) -> None:
    price, other = sold(sat, 123, nbits=nbits), sold(sat, 123, Scheme.FPPS, 0x207FFFFF)
    apart = price.credit_sat(difficulty, first) + price.credit_sat(difficulty, second)
    together = other.credit_sat(difficulty / 2, 2 * (first + second))
    assert apart == together
    assert together + other.pool_fee_sat(difficulty, first + second) == other.worth_sat(
        difficulty, first + second
    )
    assert price.block_sat == 0


def test_an_orders_price_pays_no_tenant_whose_scheme_does_not_accrue() -> None:
    assert sold(50_000, scheme=Scheme.PROXY).worth_sat(Fraction(1), 10**9) == 0


@pytest.mark.parametrize("sat_per_ph_day", [-1, 21 * 10**14 + 1])
def test_an_orders_price_that_cannot_be_is_refused(sat_per_ph_day: int) -> None:
    with pytest.raises(BadRate, match="per PH-day"):
        sold(sat_per_ph_day)


@pytest.mark.parametrize(("difficulty", "shares"), [(0, 1), (-1, 1), (1, -1)])
def test_work_that_cannot_be_is_no_ph_day(difficulty: int, shares: int) -> None:
    with pytest.raises(BadRate):
        ph_days(Fraction(difficulty), shares)


# Rounding and carry


@LAW
@given(exact_sat=EXACT_SAT)
def test_flooring_loses_less_than_a_picosatoshi(exact_sat: Fraction) -> None:
    amount = floor_to_psat(exact_sat)
    assert 0 <= exact_sat * PSAT_PER_SAT - amount.psat < 1
    assert 0 <= amount.carry_psat < PSAT_PER_SAT


@LAW
@given(parts=st.lists(EXACT_SAT, max_size=20))
def test_settling_apart_with_carry_equals_settling_together(parts: list[Fraction]) -> None:
    """To less than one psat a settlement, never in anyone's favour but the pool's."""
    apart = Amount()
    for part in parts:
        apart = apart.plus(floor_to_psat(part))
    lost_psat = floor_to_psat(sum(parts, Fraction(0))).psat - apart.psat
    assert 0 <= lost_psat <= max(0, len(parts) - 1)


@LAW
@given(psat=st.lists(st.integers(0, 10**20), max_size=20))
def test_whole_picosatoshi_are_carried_without_any_loss(psat: list[int]) -> None:
    apart = Amount()
    for amount in psat:
        apart = apart.plus(floor_to_psat(Fraction(amount, PSAT_PER_SAT)))
    assert apart == floor_to_psat(Fraction(sum(psat), PSAT_PER_SAT))


def test_flooring_each_share_would_lose_what_settling_keeps() -> None:
    together = quote(0x17034219, 840_000, Fraction(500_000), 10_000_000, 400)
    one = quote(0x17034219, 840_000, Fraction(500_000), 1, 400)
    assert together == Amount(17_363_410, 371_265_556_487)
    assert one.sat * 10_000_000 * 100 // together.sat == 57  # whole satoshi a share: 42 % lost


@pytest.mark.parametrize(("sat", "carry_psat"), [(-1, 0), (0, -1), (0, PSAT_PER_SAT)])
def test_an_amount_has_no_debt_and_no_whole_satoshi_in_its_carry(sat: int, carry_psat: int) -> None:
    with pytest.raises(BadRate):
        Amount(sat, carry_psat)


def test_a_negative_credit_is_refused() -> None:
    with pytest.raises(BadRate):
        floor_to_psat(Fraction(-1, 10**20))


# Fee basis


def blocks_of(fees_sat: list[int]) -> list[BlockFees]:
    return [BlockFees(height=i, hash=f"{i:064x}", fees_sat=fees) for i, fees in enumerate(fees_sat)]


@pytest.mark.parametrize(
    ("fees_sat", "basis_sat"),
    [
        ([7], 7),
        ([1, 2], 1),  # floor of 1.5
        ([0] * 18 + [1000], 52),  # 19 blocks: 5 % is less than one, nothing is trimmed
        ([0] + [10] * 18 + [10**9], 10),  # 20: the highest and the lowest go
        ([0, 0, *[10] * 36, 10**9, 10**9], 10),
        ([10**9, *[10] * 18, 0], 10),  # in any order
    ],
)
def test_the_fee_basis_is_the_floored_mean_without_extremes(fees_sat: list[int], basis_sat: int) -> None:
    assert fee_basis_sat(blocks_of(fees_sat)) == basis_sat


@LAW
@given(fees_sat=st.lists(st.integers(0, 10**10), min_size=1, max_size=60))
def test_the_fee_basis_lies_between_the_extremes(fees_sat: list[int]) -> None:
    assert min(fees_sat) <= fee_basis_sat(blocks_of(fees_sat)) <= max(fees_sat)


def test_a_fee_basis_may_be_of_a_whole_difficulty_period() -> None:
    assert fee_basis_sat(blocks_of([7] * FEE_BASIS_BLOCKS_MAX)) == 7


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        blocks_of([1] * (FEE_BASIS_BLOCKS_MAX + 1)),
        blocks_of([5, -1]),
        [BlockFees(height=1, hash="aa", fees_sat=1), BlockFees(height=1, hash="aa", fees_sat=1)],
    ],
    ids=["none", "too many", "negative", "twice the same"],
)
def test_a_fee_basis_that_cannot_be_is_refused(blocks: list[BlockFees]) -> None:
    with pytest.raises(BadRate):
        fee_basis_sat(blocks)


# All of it


def test_payouts_has_no_float() -> None:
    sources = sorted(Path(payouts.__file__).parent.glob("**/*.py"))
    assert sources
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text())):
            is_float = isinstance(node, ast.Constant) and isinstance(node.value, float)
            is_float |= isinstance(node, ast.Name) and node.id == "float"
            assert not is_float, f"{source.name}:{getattr(node, 'lineno', 0)} is a float"
