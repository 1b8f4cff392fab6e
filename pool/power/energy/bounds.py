"""How far off a figure may be: of counted shares, of several errors together. In basis points, both ways.

Shares of steady work come as a Poisson process. Whatever is computed here bounds the exact interval of 95 %
from above, in integers. Must not know: what is counted.
"""

from math import isqrt
from typing import Final

BPS: Final = 10_000
ERROR_BPS_MAX: Final = 100 * BPS  # of one share, five times what it says: more nobody needs to know


def shares_error_bps(shares: int) -> int:
    """Of what so many shares say: twice the square root of one more, and two, is beyond the exact upper end
    (Garwood) for every count, and the lower end is nearer."""
    if shares <= 0:
        return ERROR_BPS_MAX
    # The root is taken of a hundred-fold, so that the whole number above it is no tenth too high.
    root_x100 = isqrt((shares + 1) * 10_000) + 1
    return min(-(-(2 * root_x100 + 200) * BPS // (100 * shares)), ERROR_BPS_MAX)


def together_bps(*errors_bps: int) -> int:
    """Of a product whose factors are off by so much each."""
    factor = BPS
    for error in errors_bps:
        factor = -(-factor * (BPS + error) // BPS)
    return min(factor - BPS, ERROR_BPS_MAX)
