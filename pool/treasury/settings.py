"""The operator's settings for payouts: the table [payouts] of angara.toml.

    [payouts]
    descriptor = "wpkh([73c5da0a/84h/0h/0h]xpub.../0/*)"
    change_descriptor = "wpkh([73c5da0a/84h/0h/0h]xpub.../1/*)"
    fee_rate_sat_vb = 5          # left out: the node's estimate
    minimum_sat = 1000           # no tenant is paid less, whatever its own minimum
    addresses = 1000             # of each descriptor, that are looked at for coins

Or one descriptor with `<0;1>`. Only public keys: a descriptor that could sign is refused, and not shown.

Must not know: what the descriptors are used for.
"""

from typing import Annotated, Final

import msgspec

ADDRESSES_MAX: Final = 100_000  # a node derives 10,000 a second and compares each coin with all
FEE_RATE_SAT_VB_MAX: Final = 10_000  # Bitcoin Core refuses to send more (maxfeerate)
MINIMUM_SAT_MAX: Final = 100_000_000
MINIMUM_SAT_DEFAULT: Final = 1_000  # more than dust, and than what spending it costs on most days
DESCRIPTOR_CHARS_MAX: Final = 4096


_Descriptor = Annotated[str, msgspec.Meta(min_length=1, max_length=DESCRIPTOR_CHARS_MAX)]


class PayoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written; what the descriptors say is checked by `payout_wallet`."""

    descriptor: _Descriptor
    change_descriptor: _Descriptor | None = None
    fee_rate_sat_vb: Annotated[int, msgspec.Meta(ge=1, le=FEE_RATE_SAT_VB_MAX)] | None = None
    minimum_sat: Annotated[int, msgspec.Meta(ge=0, le=MINIMUM_SAT_MAX)] = MINIMUM_SAT_DEFAULT
    # bitcoind's own default for a descriptor with a wildcard
    addresses: Annotated[int, msgspec.Meta(ge=1, le=ADDRESSES_MAX)] = 1_000
