"""The chains that a pool can mine on, by the names that bitcoind has for them, and what tells them apart.

Must not know: nodes, addresses.
"""

from typing import Final

import msgspec

from payouts.rates import HALVING_INTERVAL, HALVING_INTERVAL_REGTEST


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """Constants of one chain (Bitcoin Core, kernel/chainparams.cpp)."""

    genesis: str  # hash of the first block, as a person writes it
    easiest_nbits: int  # the proof-of-work limit
    halving_interval: int = HALVING_INTERVAL
    retargets: bool = True  # else every block has the easiest bits, and templates of tests have any
    easy_after_a_gap: bool = False  # a block that comes late may have the easiest bits


NETWORKS: Final = {
    "main": Network(
        genesis="000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f", easiest_nbits=0x1D00FFFF
    ),
    "test": Network(
        genesis="000000000933ea01ad0ee984209779baaec3ced90fa3f408719526f8d77f4943",
        easiest_nbits=0x1D00FFFF,
        easy_after_a_gap=True,
    ),
    "testnet4": Network(
        genesis="00000000da84f2bafbbc53dee25a72ae507ff4914b867c565be350b0da8bf043",
        easiest_nbits=0x1D00FFFF,
        easy_after_a_gap=True,
    ),
    # Every signet begins with the same block; its challenge tells one from another.
    "signet": Network(
        genesis="00000008819873e925422c1ff0f99f7cc9bbb232af63a077a480a3633bee1ef6", easiest_nbits=0x1E0377AE
    ),
    "regtest": Network(
        genesis="0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
        easiest_nbits=0x207FFFFF,
        halving_interval=HALVING_INTERVAL_REGTEST,
        retargets=False,
    ),
}
