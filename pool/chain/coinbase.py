"""The coinbase transaction of our blocks, in two halves around the extranonces.

Layout of the scriptSig: height (BIP-34), salt, pool tag, extranonces; each a push of its own. Miners
hash the non-witness serialisation (its hash is the txid, which the merkle root commits to); the witness
that BIP-141 asks of a coinbase is added when a block is assembled.

Invariants: the scriptSig stays within consensus' 100 bytes, the outputs pay exactly the coinbase value,
and no two calls with different salts can give the same transaction.

Must not know: templates, jobs, who mines.
"""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

# Consensus (bad-cb-length): 2 to 100 bytes.
SCRIPT_SIG_BYTES_MAX: Final = 100
# Eight bytes by chance are met twice once in 2^64, and nobody guesses the next ones.
SALT_BYTES_MIN: Final = 4
SALT_BYTES_MAX: Final = 8
# What is left of the scriptSig beside height (5), salt (9) and extranonces (13) is 73; a tag is a name.
TAG_BYTES_MAX: Final = 40
# The longest push whose opcode is its length (OP_PUSHBYTES_75).
EXTRANONCE_BYTES_MAX: Final = 75
# Standard payout scripts have 22 to 34 bytes; consensus refuses to spend more than this.
PAYOUT_SCRIPT_BYTES_MAX: Final = 10_000
PAYOUTS_MAX: Final = 250  # one-byte output count, the commitment included

_VERSION: Final = struct.pack("<i", 2)
_LOCKTIME: Final = bytes(4)
_SEQUENCE: Final = b"\xff\xff\xff\xff"
_NULL_OUTPOINT: Final = bytes(32) + b"\xff\xff\xff\xff"
_MARKER_AND_FLAG: Final = b"\x00\x01"
# BIP-141: the coinbase's witness is one item, 32 bytes, which default_witness_commitment takes as zero.
_WITNESS_RESERVED: Final = b"\x01\x20" + bytes(32)


class BadCoinbase(ValueError):
    """A coinbase that consensus would refuse, or that would pay other than asked; the text says why."""


class CoinbaseHalves(msgspec.Struct, frozen=True):
    """Non-witness serialisation before the extranonce1 and after the extranonce2."""

    coinbase1: bytes
    coinbase2: bytes


def build_coinbase(
    *,
    height: int,
    value_sat: int,
    payouts: Sequence[tuple[bytes, int]],
    salt: bytes,
    tag: str,
    extranonce_size: int,
    witness_commitment: bytes | None,
) -> CoinbaseHalves:
    """The halves of a coinbase at `height` that pays `payouts` (script, satoshi): together `value_sat`.

    `salt` must differ for every boot and job, and nobody may know it before the job is out. Extranonces are
    handed out from the beginning at each boot, and two pools may share a node and a payout script: without it
    a restarted pool would have miners hash headers that were hashed (and credited) before. And who could hash
    a job before he has it could choose its difficulty by what he has found. `tag` is printable ASCII.
    `extranonce_size` is the length of extranonce1 and extranonce2 together. `witness_commitment` is the
    template's script.

    Raises BadCoinbase.
    """
    if not SALT_BYTES_MIN <= len(salt) <= SALT_BYTES_MAX:
        raise BadCoinbase(f"the salt has {len(salt)} bytes, not {SALT_BYTES_MIN} to {SALT_BYTES_MAX}")
    if not 1 <= extranonce_size <= EXTRANONCE_BYTES_MAX:
        raise BadCoinbase(
            f"extranonces of {extranonce_size} bytes: 1 to {EXTRANONCE_BYTES_MAX} can be pushed"
        )
    prefix = push_height(height) + _push(salt) + _push(_checked_tag(tag)) + bytes([extranonce_size])
    script_sig_bytes = len(prefix) + extranonce_size
    if script_sig_bytes > SCRIPT_SIG_BYTES_MAX:
        raise BadCoinbase(
            f"the coinbase's scriptSig would have {script_sig_bytes} bytes, {SCRIPT_SIG_BYTES_MAX} are "
            f"allowed: shorten the tag ({len(tag)} bytes) or the extranonces ({extranonce_size} bytes)"
        )
    return CoinbaseHalves(
        coinbase1=_VERSION + b"\x01" + _NULL_OUTPOINT + bytes([script_sig_bytes]) + prefix,
        coinbase2=_SEQUENCE + _outputs(value_sat, payouts, witness_commitment) + _LOCKTIME,
    )


def with_witness(coinbase: bytes) -> bytes:
    """The witness serialisation (BIP-144) of a coinbase in non-witness serialisation."""
    return coinbase[:4] + _MARKER_AND_FLAG + coinbase[4:-4] + _WITNESS_RESERVED + coinbase[-4:]


def push_height(height: int) -> bytes:
    """The first push of the scriptSig, as BIP-34 is enforced: byte for byte `CScript() << nHeight`.

    That is OP_0 and OP_1 to OP_16 for the smallest heights, else a minimal little-endian number whose top
    bit is its sign.
    """
    if not 0 <= height < 1 << 31:
        raise BadCoinbase(f"{height} is not a block height")
    if height == 0:
        return b"\x00"
    if height <= 16:
        return bytes([0x50 + height])
    return _push(height.to_bytes(height.bit_length() // 8 + 1, "little"))


def compact_size(count: int) -> bytes:
    """Bitcoin's variable-length integer, below 65,536."""
    return bytes([count]) if count < 0xFD else b"\xfd" + struct.pack("<H", count)


def _checked_tag(tag: str) -> bytes:
    if not tag.isascii() or not tag.isprintable():
        raise BadCoinbase(f"the tag {tag!r} is not printable ASCII")
    if len(tag) > TAG_BYTES_MAX:
        raise BadCoinbase(f"the tag has {len(tag)} bytes, at most {TAG_BYTES_MAX} are allowed")
    return tag.encode("ascii")


def _push(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _outputs(value_sat: int, payouts: Sequence[tuple[bytes, int]], witness_commitment: bytes | None) -> bytes:
    if not 1 <= len(payouts) <= PAYOUTS_MAX:
        raise BadCoinbase(f"{len(payouts)} payouts: a coinbase has 1 to {PAYOUTS_MAX}")
    if any(value < 0 for _, value in payouts):
        raise BadCoinbase("a payout is negative")
    paid_sat = sum(value for _, value in payouts)
    if paid_sat != value_sat:
        raise BadCoinbase(f"the payouts are {paid_sat} sat together, the block is worth {value_sat} sat")
    if any(not 1 <= len(script) <= PAYOUT_SCRIPT_BYTES_MAX for script, _ in payouts):
        raise BadCoinbase(f"a payout script has 1 to {PAYOUT_SCRIPT_BYTES_MAX} bytes")
    outputs = list(payouts) if witness_commitment is None else [*payouts, (witness_commitment, 0)]
    parts = [struct.pack("<q", value) + compact_size(len(script)) + script for script, value in outputs]
    return compact_size(len(parts)) + b"".join(parts)
