"""Payout addresses: from what an operator typed to the script that a coinbase pays.

Invariants: an address that comes out as a script is spendable by its owner alone, on the network that
was asked for. Addresses of another network are refused by name, and so are witness programs that no
rule guards yet (BIP-141: anyone may spend those).

Must not know: who is paid, or how much.
"""

from typing import Final

# A bech32 string has at most 90 characters (BIP-173). Anything longer is not shown to the parser.
ADDRESS_CHARS_MAX: Final = 90

# As bitcoind names them in getblockchaininfo, in words, and as bdkpython names them; in the order in which an
# address is recognised.
_NETWORKS: Final = {
    "main": ("mainnet", "BITCOIN"),
    "test": ("testnet", "TESTNET"),
    "testnet4": ("testnet4", "TESTNET4"),
    "signet": ("signet", "SIGNET"),
    "regtest": ("regtest", "REGTEST"),
}
_BECH32_PREFIXES: Final = ("bc1", "tb1", "bcrt1")

_OP_1: Final = 0x51
_OP_16: Final = 0x60
_P2TR_SCRIPT_BYTES: Final = 34


class BadAddress(ValueError):
    """An address that we cannot pay to; the text says why, for the person who typed it."""


def script_for(address: str, network: str) -> bytes:
    """The scriptPubKey that pays `address`: P2PKH, P2SH, P2WPKH, P2WSH or P2TR.

    `network` is getblockchaininfo's "chain". Raises BadAddress.
    """
    if network not in _NETWORKS:
        raise BadAddress(f"network {network!r} is unknown, there are: {', '.join(_NETWORKS)}")
    if not address:
        raise BadAddress("the address is empty")
    if len(address) > ADDRESS_CHARS_MAX:
        raise BadAddress(f"an address has at most {ADDRESS_CHARS_MAX} characters, this has {len(address)}")
    if not address.isascii() or not address.isalnum():
        raise BadAddress(f"{address!r} is not an address: letters and digits only")
    script = _parse(address, network)
    if script is None:
        raise BadAddress(_why_not(address, network))
    if _OP_1 <= script[0] <= _OP_16 and (script[0] != _OP_1 or len(script) != _P2TR_SCRIPT_BYTES):
        raise BadAddress(
            f"{address} is a witness program of version {script[0] - _OP_1 + 1} that is not taproot: "
            "anyone could spend what it is paid"
        )
    return script


def _parse(address: str, network: str) -> bytes | None:
    from bdkpython import Address, AddressParseError, Network  # large: who lists machines needs none

    try:
        return bytes(Address(address, Network[_NETWORKS[network][1]]).script_pubkey().to_bytes())
    except AddressParseError:
        return None


def _why_not(address: str, network: str) -> str:
    for other, (other_name, _) in _NETWORKS.items():
        if _parse(address, other) is not None:
            return f"{address} is a {other_name} address, the node is on {_NETWORKS[network][0]}"
    if address.lower().startswith(_BECH32_PREFIXES):
        return f"{address} is not a valid bech32 address (checksum, length or mixed case): mistyped?"
    return f"{address} is not a valid address (checksum or length): mistyped?"
