"""The operator's settings for payouts: the table [payouts] of angara.toml.

    [payouts]
    descriptor = "wpkh([73c5da0a/84h/0h/0h]xpub.../0/*)"
    change_descriptor = "wpkh([73c5da0a/84h/0h/0h]xpub.../1/*)"
    fee_rate_sat_vb = 5          # left out: the node's estimate
    minimum_sat = 1000           # no tenant is paid less, whatever its own minimum
    addresses = 1000             # of each descriptor, that are looked at for coins
    deposit_descriptor = "wpkh([...]xpub.../0/*)"    # of another wallet, where buyers of orders pay
    deposit_confirmations = 6

Or one descriptor with `<0;1>`. Only public keys: a descriptor that could sign is refused, and not shown.

Must not know: what the descriptors are used for.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

ADDRESSES_MAX: Final = 100_000  # a node derives 10,000 a second and compares each coin with all
FEE_RATE_SAT_VB_MAX: Final = 10_000  # Bitcoin Core refuses to send more (maxfeerate)
MINIMUM_SAT_MAX: Final = 100_000_000
MINIMUM_SAT_DEFAULT: Final = 1_000  # more than dust, and than what spending it costs on most days
DESCRIPTOR_CHARS_MAX: Final = 4096


_Descriptor = Annotated[str, Meta(min_length=1, max_length=DESCRIPTOR_CHARS_MAX)]


class PayoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Paying out, watch-only: keys never live on this host.

    As written; what the descriptors say is checked by `payout_wallet`."""

    descriptor: Annotated[
        _Descriptor,
        Meta(description="Of the wallet's coins, public keys alone; `<0;1>`: of its change too"),
    ]
    change_descriptor: Annotated[
        _Descriptor | None, Meta(description="Of its change, where `descriptor` is not of both")
    ] = None
    fee_rate_sat_vb: Annotated[
        Annotated[int, Meta(ge=1, le=FEE_RATE_SAT_VB_MAX)] | None,
        Meta(description="Of payouts; without, the node's estimate for six blocks"),
    ] = None
    minimum_sat: Annotated[
        int, Meta(ge=0, le=MINIMUM_SAT_MAX, description="No tenant is paid less, whatever its own minimum")
    ] = MINIMUM_SAT_DEFAULT
    # bitcoind's own default for a descriptor with a wildcard
    addresses: Annotated[
        int, Meta(ge=1, le=ADDRESSES_MAX, description="Of each descriptor, that are looked at for coins")
    ] = 1_000
    deposit_descriptor: Annotated[
        _Descriptor | None,
        Meta(description="Where buyers of orders pay, an address an order: public keys of another wallet"),
    ] = None
    deposit_confirmations: Annotated[
        int, Meta(ge=1, le=100, description="From how many on what a buyer paid is booked")
    ] = 6
