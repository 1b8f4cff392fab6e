"""Targets and difficulties, exactly: Bitcoin Core's vectors, and laws."""

from fractions import Fraction

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratum.difficulty import (
    DIFF1,
    DIFFICULTY_LOG2_MAX,
    DIFFICULTY_LOG2_MIN,
    BadTarget,
    ceil_log2,
    difficulty_from_log2,
    difficulty_of_target,
    floor_log2,
    target_from_difficulty_log2,
    target_from_nbits,
    wire_difficulty,
)

LAW = settings(deadline=None, derandomize=True)
EXPONENTS = st.integers(DIFFICULTY_LOG2_MIN, DIFFICULTY_LOG2_MAX)
IN_RANGE = st.fractions(min_value=Fraction(1, 2**32), max_value=2**63)


@pytest.mark.parametrize(
    ("nbits", "target"),
    [
        (0x01123456, 0x12),
        (0x02123456, 0x1234),
        (0x03123456, 0x123456),
        (0x04123456, 0x12345600),
        (0x05009234, 0x92340000),
        (0x20123456, 0x123456 << 232),
        (0x1D00FFFF, DIFF1),  # mainnet's easiest
        (0x207FFFFF, 0x7FFFFF << 232),  # regtest
        (0x1B0404CB, 0x0404CB << 192),
        (0x2100FFFF, 0xFFFF << 240),  # the largest of each size that still fits 256 bits
        (0x220000FF, 0xFF << 248),
    ],
)
def test_compact_targets(nbits: int, target: int) -> None:
    assert target_from_nbits(nbits) == target


ZERO = [0x00000000, 0x00123456, 0x01003456, 0x02000056, 0x03000000, 0x04000000]
NEGATIVE = [0x00923456, 0x01803456, 0x02800056, 0x03800000, 0x04800000, 0x01FEDCBA, 0x04923456]
OVERFLOW = [0xFF123456, 0x23000001, 0x22000100, 0x21010000, 0x22123456]


@pytest.mark.parametrize(
    ("nbits", "reason"),
    [(nbits, "zero") for nbits in ZERO]
    + [(nbits, "sign") for nbits in NEGATIVE]
    + [(nbits, "overflows") for nbits in OVERFLOW]
    + [(-1, "32 bits"), (1 << 32, "32 bits"), (1 << 300, "32 bits")],
    ids=lambda value: f"{value:08x}" if isinstance(value, int) and value < 1 << 40 else None,
)
def test_compact_targets_that_no_block_can_have(nbits: int, reason: str) -> None:
    """The vectors of Bitcoin Core's arith_uint256 tests, and the edges of 256 bits."""
    with pytest.raises(BadTarget, match=reason):
        target_from_nbits(nbits)


def test_a_share_target_is_the_largest_hash_of_its_difficulty() -> None:
    assert target_from_difficulty_log2(0) == DIFF1
    assert target_from_difficulty_log2(16) == DIFF1 >> 16
    assert target_from_difficulty_log2(-32) == 0xFFFF << 240
    assert target_from_difficulty_log2(63) == DIFF1 >> 63
    for exponent in (-33, 64):
        with pytest.raises(BadTarget, match="out of range"):
            target_from_difficulty_log2(exponent)


@given(EXPONENTS)
@LAW
def test_target_and_difficulty_are_each_others_inverse(exponent: int) -> None:
    target = target_from_difficulty_log2(exponent)
    assert difficulty_of_target(target) == difficulty_from_log2(exponent)
    assert 0 < target < 1 << 256


@pytest.mark.parametrize("target", [0, -1])
def test_no_difficulty_without_a_target(target: int) -> None:
    with pytest.raises(BadTarget, match="positive"):
        difficulty_of_target(target)


@given(IN_RANGE)
@LAW
def test_powers_of_two_around_a_difficulty(difficulty: Fraction) -> None:
    up, down = ceil_log2(difficulty), floor_log2(difficulty)
    assert difficulty_from_log2(down) <= difficulty <= difficulty_from_log2(up)
    assert up - down == (0 if difficulty_from_log2(up) == difficulty else 1)


@given(EXPONENTS)
@LAW
def test_a_power_of_two_is_its_own_neighbour(exponent: int) -> None:
    assert ceil_log2(Fraction(2) ** exponent) == floor_log2(Fraction(2) ** exponent) == exponent


@given(st.fractions(min_value=0))
@LAW
def test_neighbours_stay_in_the_range(difficulty: Fraction) -> None:
    for exponent in (ceil_log2(difficulty), floor_log2(difficulty)):
        assert DIFFICULTY_LOG2_MIN <= exponent <= DIFFICULTY_LOG2_MAX


@pytest.mark.parametrize(
    ("difficulty", "down", "up"),
    [
        (0, -32, -32),
        (-5, -32, -32),
        (1e-300, -32, -32),
        (1e300, 63, 63),
        (10**1000, 63, 63),
        (1, 0, 0),
        (0.3, -2, -1),
        (100_000, 16, 17),
        (2**40 + 1, 40, 41),
        (2**40 - 1, 39, 40),
    ],
)
def test_neighbours_of_odd_difficulties(difficulty: int | float, down: int, up: int) -> None:
    assert (floor_log2(difficulty), ceil_log2(difficulty)) == (down, up)


@given(EXPONENTS)
@LAW
def test_on_the_wire_a_difficulty_is_exact_and_an_integer_from_1_upwards(exponent: int) -> None:
    wire = msgspec.json.encode(wire_difficulty(exponent)).decode()
    assert wire.isdigit() == (exponent >= 0)
    assert Fraction(wire) == Fraction(msgspec.json.decode(wire)) == difficulty_from_log2(exponent)
