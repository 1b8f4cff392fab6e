"""Target, difficulty and work as exact integers and fractions: what a share has to reach.

Difficulty here is pool difficulty: DIFF1 / target, with DIFF1 = 0xffff * 2^208, the target of
difficulty 1 (Bitcoin's genesis nBits 1d00ffff). Assigned difficulties are powers of two, kept as
their exponent (`difficulty_log2`), so that targets, sums and prices are exact. No float anywhere.
"""

from fractions import Fraction

import msgspec

DIFF1 = 0xFFFF << 208
# 2^-32 is the smallest difficulty whose target still fits 256 bits (nearly every hash reaches it);
# 2^63 is 9.2 * 10^18, ten thousand times today's whole network.
DIFFICULTY_LOG2_MIN = -32
DIFFICULTY_LOG2_MAX = 63


class BadTarget(ValueError):
    """An nBits that no block can have: negative, zero or more than 256 bits."""


def target_from_nbits(nbits: int) -> int:
    """The 256-bit target of a compact nBits (Bitcoin Core, arith_uint256::SetCompact).

    Raises BadTarget for the sign bit, a zero target and an overflow.
    """
    exponent, mantissa = nbits >> 24, nbits & 0x7FFFFF
    if not 0 <= nbits <= 0xFFFFFFFF:
        raise BadTarget(f"nBits {nbits:x} is not 32 bits")
    if nbits & 0x800000:
        raise BadTarget(f"nBits {nbits:08x} has the sign bit set")
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if target == 0:
        raise BadTarget(f"nBits {nbits:08x} is a target of zero")
    if target >> 256:
        raise BadTarget(f"nBits {nbits:08x} overflows 256 bits")
    return target


def target_from_difficulty_log2(difficulty_log2: int) -> int:
    """The largest hash that is a share of difficulty 2**difficulty_log2."""
    if not DIFFICULTY_LOG2_MIN <= difficulty_log2 <= DIFFICULTY_LOG2_MAX:
        raise BadTarget(f"difficulty 2^{difficulty_log2} is out of range")
    return DIFF1 >> difficulty_log2 if difficulty_log2 >= 0 else DIFF1 << -difficulty_log2


def difficulty_of_target(target: int) -> Fraction:
    """DIFF1 / target, exactly."""
    if target <= 0:
        raise BadTarget("a target must be positive")
    return Fraction(DIFF1, target)


def difficulty_from_log2(difficulty_log2: int) -> Fraction:
    """2**difficulty_log2, exactly."""
    return Fraction(2) ** difficulty_log2


def wire_difficulty(difficulty_log2: int) -> msgspec.Raw:
    """How mining.set_difficulty says it, exactly: an integer from 1 upwards, a decimal fraction below.

    Without an exponent, which small miners do not read.
    """
    if difficulty_log2 >= 0:
        return msgspec.Raw(b"%d" % (1 << difficulty_log2))
    digits = -difficulty_log2  # 2**-n is 5**n / 10**n
    return msgspec.Raw(f"0.{5**digits:0{digits}d}".encode())


def ceil_log2(difficulty: Fraction | int | float) -> int:
    """The smallest power of two not below `difficulty`, as its exponent, clamped to the range."""
    if not difficulty > 0:
        return DIFFICULTY_LOG2_MIN
    exact = Fraction(difficulty)
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    while Fraction(2) ** exponent < exact:
        exponent += 1
    while Fraction(2) ** (exponent - 1) >= exact:
        exponent -= 1
    return max(DIFFICULTY_LOG2_MIN, min(DIFFICULTY_LOG2_MAX, exponent))


def floor_log2(difficulty: Fraction | int | float) -> int:
    """The largest power of two not above `difficulty`, as its exponent, clamped to the range."""
    up = ceil_log2(difficulty)
    return up if Fraction(2) ** up <= Fraction(difficulty) else max(DIFFICULTY_LOG2_MIN, up - 1)
