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

from typing import Final

import msgspec

ADDRESSES_MAX: Final = 100_000  # a node derives 10,000 a second and compares each coin with all
FEE_RATE_SAT_VB_MAX: Final = 10_000  # Bitcoin Core refuses to send more (maxfeerate)
MINIMUM_SAT_MAX: Final = 100_000_000
MINIMUM_SAT_DEFAULT: Final = 1_000  # more than dust, and than what spending it costs on most days
DESCRIPTOR_CHARS_MAX: Final = 4096


class PayoutSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As written. Raises ValueError; what the descriptors say is checked by `payout_wallet`."""

    descriptor: str
    change_descriptor: str | None = None
    fee_rate_sat_vb: int | None = None
    minimum_sat: int = MINIMUM_SAT_DEFAULT
    addresses: int = 1_000  # bitcoind's own default for a descriptor with a wildcard

    def __post_init__(self) -> None:
        for name, text in (("descriptor", self.descriptor), ("change_descriptor", self.change_descriptor)):
            if text is not None and not 1 <= len(text) <= DESCRIPTOR_CHARS_MAX:
                raise ValueError(f"{name}: 1 to {DESCRIPTOR_CHARS_MAX} characters")
        for name, value, least, most in (
            ("fee_rate_sat_vb", self.fee_rate_sat_vb, 1, FEE_RATE_SAT_VB_MAX),
            ("minimum_sat", self.minimum_sat, 0, MINIMUM_SAT_MAX),
            ("addresses", self.addresses, 1, ADDRESSES_MAX),
        ):
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name}: {least} to {most}")
