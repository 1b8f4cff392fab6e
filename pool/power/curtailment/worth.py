"""What a kWh in a machine is worth now: the work that it does with it, by our own price of work.

Exact: fractions. It is what the work is worth as a whole, before the pool's fee: whether it pays for its
energy is a question about the machine, and not about who has which part of it. Must not know: which machines
there are, and what energy costs.
"""

from fractions import Fraction
from typing import Final

from sqlalchemy import Connection, select

from payouts.rates import HASHES_PER_DIFFICULTY, Price, Scheme
from payouts.schemas.money import fee_bases, rates

HASHES_PER_TH: Final = 10**12
MJ_PER_KWH: Final = 3_600_000 * 1_000  # millijoules
HOUR_S: Final = 3_600


def price_now(connection: Connection) -> Price | None:
    """FPPS as of the newest work of our own that anybody was paid for, without a fee; None where there was
    none yet."""
    own = select(rates.c.nbits, rates.c.subsidy_sat).where(rates.c.upstream_id.is_(None))
    newest = connection.execute(own.order_by(rates.c.id.desc()).limit(1)).one_or_none()
    if newest is None:
        return None
    fees = connection.scalar(select(fee_bases.c.block_fees_sat).order_by(fee_bases.c.id.desc()).limit(1))
    return Price(
        nbits=newest.nbits,
        subsidy_sat=newest.subsidy_sat,
        block_fees_sat=fees or 0,
        fee_bps=0,
        scheme=Scheme.FPPS,
    )


def sat_per_kwh(price: Price, mj_per_th: int) -> Fraction:
    """Of a machine of that efficiency, at the wall."""
    ths = Fraction(MJ_PER_KWH, mj_per_th)
    return price.credit_sat(Fraction(1), 1) * ths * HASHES_PER_TH / HASHES_PER_DIFFICULTY


def sat_per_hour(price: Price, hashrate_hps: int) -> int:
    """What so much work is worth, rounded down."""
    return int(price.credit_sat(Fraction(1), 1) * hashrate_hps * HOUR_S / HASHES_PER_DIFFICULTY)
