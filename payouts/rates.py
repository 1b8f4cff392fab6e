"""The price of a share: exact integers and fractions from nBits to picosatoshi.

A share of difficulty d is a block with probability p = min(1, d * T / DIFF1), where T is the target
of its job's nBits and DIFF1 the target of difficulty 1 (the shortcut d * 2^32 hashes is 15 ppm off).
PPS pays p of the subsidy, FPPS p of subsidy and usual block fees, both less the pool's fee. Work that an
order sells may be paid by the order's price instead: so many satoshi for the hashes of a PH/s in a day, of
which a share of difficulty d stands for d * 2^256 / DIFF1.

Invariants: nothing is rounded before `floor_to_psat`, and that is done once a settlement; an Amount
is never negative and its carry is below one satoshi. Height, nBits and difficulty are those of the
share's job. There is no float here.

Must not know: stratum (so it has its own copy of target and difficulty), the database, the clock.
"""

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction

import msgspec

DIFF1 = 0xFFFF << 208  # the target of nBits 1d00ffff
PSAT_PER_SAT = 10**12
HPS_PER_THS = 10**12
BPS = 10_000  # a fee of 100 %
INITIAL_SUBSIDY_SAT = 50 * 10**8
MAX_MONEY_SAT = 21 * 10**14  # more than there will ever be (Bitcoin Core, MAX_MONEY)
HALVING_INTERVAL = 210_000  # main, test, signet
HALVING_INTERVAL_REGTEST = 150
HALVINGS_MAX = 64  # from here the subsidy is 0 (Bitcoin Core, GetBlockSubsidy)
FEE_BASIS_BLOCKS = 144  # one day of blocks: evens out the hour of the day, follows the week
FEE_BASIS_BLOCKS_MAX = 2016  # one difficulty period: an older block says nothing of today's fees
TRIM_PERCENT = 5  # of the blocks, at each end
# 2^256 hashes meet the target of difficulty 1 DIFF1 times: 15 ppm more than 2^32.
HASHES_PER_DIFFICULTY = Fraction(1 << 256, DIFF1)
HASHES_PER_PH_DAY = 10**15 * 86_400


class BadRate(ValueError):
    """A price that cannot be: nBits, height, difficulty, count or fee out of its range."""


class Scheme(StrEnum):
    """How a tenant is paid for its shares."""

    PPS = "pps"
    FPPS = "fpps"
    SOLO = "solo"  # its blocks pay the tenant itself
    PROXY = "proxy"  # its upstream pays
    # Blocks that tenants of the scheme find are divided over their work: that of so many expected blocks.
    PPLNS1 = "pplns1"
    PPLNS2 = "pplns2"
    PPLNS4 = "pplns4"
    PPLNS8 = "pplns8"
    TIDES = "tides"  # of eight, measured at the difficulty of the block

    @property
    def accrues(self) -> bool:
        """Whether the pool owes the tenant anything for a share."""
        return self in (Scheme.PPS, Scheme.FPPS)

    @property
    def window_blocks(self) -> int:
        """How many expected blocks of work a block is divided over; 0: it is not divided."""
        return _WINDOW_BLOCKS.get(self, 0)

    @property
    def divides(self) -> bool:
        """Whether who has it carries the luck of all who have it: paid of the blocks that they find."""
        return self in _WINDOW_BLOCKS

    @property
    def group(self) -> "Scheme | None":
        """Whose the blocks are that its tenants find: theirs together who have it; None: the pool's."""
        return self if self.divides else None


_WINDOW_BLOCKS = {
    Scheme.PPLNS1: 1,
    Scheme.PPLNS2: 2,
    Scheme.PPLNS4: 4,
    Scheme.PPLNS8: 8,
    Scheme.TIDES: 8,
}
DIVIDING = tuple(_WINDOW_BLOCKS)


class OrderCredit(StrEnum):
    """How a tenant is paid for work that an order sells."""

    PPS = "pps"  # by the pool's own rate, whatever the order brings
    ORDER = "order"  # by the order's price


class UpstreamRisk(StrEnum):
    """Who bears a good share that an upstream did not take: rejected, never answered, or out of reach."""

    TENANT = "tenant"
    POOL = "pool"


class Amount(msgspec.Struct, frozen=True):
    """Whole satoshi and what is left of one, 0 <= carry_psat < 10^12."""

    sat: int = 0
    carry_psat: int = 0

    def __post_init__(self) -> None:
        if self.sat < 0 or not 0 <= self.carry_psat < PSAT_PER_SAT:
            raise BadRate(f"{self.sat} sat and {self.carry_psat} psat is not an amount")

    @property
    def psat(self) -> int:
        """All of it in 10^-12 sat."""
        return self.sat * PSAT_PER_SAT + self.carry_psat

    def plus(self, other: "Amount") -> "Amount":
        """The sum, with a full satoshi of carry made a satoshi."""
        return Amount(*divmod(self.psat + other.psat, PSAT_PER_SAT))


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a block is worth to a tenant, and how likely a share is to be one."""

    nbits: int
    subsidy_sat: int
    block_fees_sat: int  # the fee basis; used by FPPS only
    fee_bps: int
    scheme: Scheme
    sat_per_ph_day: int | None = None  # an order's price: replaces what a block is worth

    def __post_init__(self) -> None:
        target_from_nbits(self.nbits)
        if self.sat_per_ph_day is not None and not 0 <= self.sat_per_ph_day <= MAX_MONEY_SAT:
            raise BadRate(f"{self.sat_per_ph_day} satoshi per PH-day is no price")
        if self.subsidy_sat < 0 or self.block_fees_sat < 0:
            raise BadRate(f"subsidy {self.subsidy_sat} and fees {self.block_fees_sat} must not be negative")
        if not 0 <= self.fee_bps <= BPS:
            raise BadRate(f"a fee of {self.fee_bps} basis points is not between 0 and {BPS}")

    @property
    def block_sat(self) -> int:
        """What a whole block is worth under the scheme, before the pool's fee; an order's price has none."""
        if not self.scheme.accrues or self.sat_per_ph_day is not None:
            return 0
        return self.subsidy_sat + (self.block_fees_sat if self.scheme is Scheme.FPPS else 0)

    def worth_sat(self, difficulty: Fraction, shares: int) -> Fraction:
        """What `shares` shares of one difficulty are worth before the pool's fee, exactly, in satoshi."""
        if self.sat_per_ph_day is None or not self.scheme.accrues:
            return self.expected_blocks(difficulty, shares) * self.block_sat
        return ph_days(difficulty, shares) * self.sat_per_ph_day

    def credit_sat(self, difficulty: Fraction, shares: int) -> Fraction:
        """What the tenant gets for them, exactly, in satoshi."""
        return self.worth_sat(difficulty, shares) * (BPS - self.fee_bps) / BPS

    def pool_fee_sat(self, difficulty: Fraction, shares: int) -> Fraction:
        """What the pool keeps of their worth, exactly, in satoshi."""
        return self.worth_sat(difficulty, shares) * self.fee_bps / BPS

    def expected_blocks(self, difficulty: Fraction, shares: int) -> Fraction:
        """The sum of the probabilities of `shares` shares of one difficulty."""
        return share_probability(self.nbits, difficulty) * _count(shares)


class BlockFees(msgspec.Struct, frozen=True):
    """One block of a fee basis: total fees of its transactions, in satoshi."""

    height: int
    hash: str
    fees_sat: int


def target_from_nbits(nbits: int) -> int:
    """The 256-bit target of a compact nBits (Bitcoin Core, arith_uint256::SetCompact).

    Raises BadRate for the sign bit, a zero target and an overflow.
    """
    if not 0 <= nbits <= 0xFFFFFFFF:
        raise BadRate(f"nBits {nbits:x} is not 32 bits")
    if nbits & 0x800000:
        raise BadRate(f"nBits {nbits:08x} has the sign bit set")
    exponent, mantissa = nbits >> 24, nbits & 0x7FFFFF
    target = mantissa << 8 * (exponent - 3) if exponent >= 3 else mantissa >> 8 * (3 - exponent)
    if target == 0:
        raise BadRate(f"nBits {nbits:08x} is a target of zero")
    if target >> 256:
        raise BadRate(f"nBits {nbits:08x} overflows 256 bits")
    return target


def subsidy_sat(height: int, halving_interval: int = HALVING_INTERVAL) -> int:
    """New coins of the block at `height`, in satoshi."""
    if height < 0 or halving_interval <= 0:
        raise BadRate(f"no subsidy at height {height} with halvings every {halving_interval} blocks")
    halvings = height // halving_interval
    return INITIAL_SUBSIDY_SAT >> halvings if halvings < HALVINGS_MAX else 0


def share_probability(nbits: int, difficulty: Fraction) -> Fraction:
    """The probability that a share of the assigned `difficulty` is a block, exactly."""
    if difficulty <= 0:
        raise BadRate(f"difficulty {difficulty} must be positive")
    return min(Fraction(1), difficulty * target_from_nbits(nbits) / DIFF1)


def ph_days(difficulty: Fraction, shares: int) -> Fraction:
    """The work of `shares` shares of one difficulty: the hashes that find so many, in PH/s for a day."""
    if difficulty <= 0:
        raise BadRate(f"difficulty {difficulty} must be positive")
    return difficulty * _count(shares) * HASHES_PER_DIFFICULTY / HASHES_PER_PH_DAY


def floor_to_psat(exact_sat: Fraction) -> Amount:
    """The largest Amount that is not above `exact_sat` satoshi."""
    if exact_sat < 0:
        raise BadRate(f"a credit of {exact_sat} satoshi is negative")
    return Amount(*divmod(exact_sat.numerator * PSAT_PER_SAT // exact_sat.denominator, PSAT_PER_SAT))


def fee_basis_sat(blocks: Sequence[BlockFees]) -> int:
    """Floor of the mean of the blocks' total fees, TRIM_PERCENT of them (rounded down) left out at each end.

    Raises BadRate without blocks, with too many, with one twice, and for negative fees.
    """
    if not 0 < len(blocks) <= FEE_BASIS_BLOCKS_MAX:
        raise BadRate(f"a fee basis of {len(blocks)} blocks is not between 1 and {FEE_BASIS_BLOCKS_MAX}")
    if len({block.hash for block in blocks}) < len(blocks):
        raise BadRate("a fee basis names a block twice")
    fees_sat = sorted(block.fees_sat for block in blocks)
    if fees_sat[0] < 0:
        raise BadRate(f"block fees of {fees_sat[0]} satoshi are negative")
    cut = len(fees_sat) * TRIM_PERCENT // 100
    kept = fees_sat[cut : len(fees_sat) - cut]
    return sum(kept) // len(kept)


def quote(
    nbits: int,
    height: int,
    difficulty: Fraction,
    shares: int,
    fee_bps: int,
    block_fees_sat: int = 0,
    halving_interval: int = HALVING_INTERVAL,
) -> Amount:
    """The credit for shares settled together from a carry of nothing: FPPS, which without fees is PPS."""
    price = Price(
        nbits=nbits,
        subsidy_sat=subsidy_sat(height, halving_interval),
        block_fees_sat=block_fees_sat,
        fee_bps=fee_bps,
        scheme=Scheme.FPPS,
    )
    return floor_to_psat(price.credit_sat(difficulty, shares))


def _count(shares: int) -> int:
    if shares < 0:
        raise BadRate(f"{shares} shares is not a count")
    return shares
