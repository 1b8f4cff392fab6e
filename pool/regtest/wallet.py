"""The filler: coins of the embedded node's own, and the transactions it fills templates with.

Every coin pays to the same P2WSH program, whose witness script is OP_TRUE: spending it needs no
signature, only the script as witness, so thousands of real segwit transactions cost milliseconds. A
filler spends one coin to the same program, less a fee: once it is mined, its output is a coin for the
next template. Coins that have become too small to pay a fee are replaced by a fan-out of a mature
coinbase, which is itself a transaction of the template.

Invariants: transactions are a function of the coins alone, so the same chain gives the same fillers;
nothing is spent that the memory pool spends.
Must not know: the kernel, templates, JSON-RPC.
"""

import hashlib
import struct
from collections.abc import Container, Iterable, Iterator, Mapping

from pool.regtest.chain import Coin, sha256d
from pool.regtest.mempool import COINBASE_MATURITY, WITNESS_SCALE, PendingTx

WITNESS_SCRIPT = b"\x51"  # OP_TRUE
FILLER_SCRIPT = b"\x00\x20" + hashlib.sha256(WITNESS_SCRIPT).digest()
WITNESS = b"\x01" + bytes([len(WITNESS_SCRIPT)]) + WITNESS_SCRIPT
SEQUENCE = b"\xff\xff\xff\xff"
NO_LOCK_TIME = bytes(4)
# A filler weighs 381, 95.25 vB: a little over 2 sat/vB, what a quiet day costs.
FILLER_FEE_SAT = 200
# A coin below this is left alone: it could not pay two more fees and stay above dust (330 sat).
COIN_SAT_MIN = 2 * FILLER_FEE_SAT + 330
FAN_OUT_FEE_SAT_PER_VB = 2
# Outputs of one fan-out: 344,000 weight, under the 400,000 that Bitcoin Core relays.
FAN_OUT_OUTPUTS_MAX = 2_000
# 381 weight each: 10,000 fill 3.81 of the 4 million that a block may weigh.
TEMPLATE_TXS_MAX = 10_000


def fillers(
    coins: Mapping[bytes, Coin], spent: Container[bytes], height: int, wanted: int
) -> list[PendingTx]:
    """`wanted` transactions for the block at `height`, fewer where coins run short.

    Fan-outs come first: after the block that holds them there are coins enough again.
    """
    if not wanted:
        return []
    plain: list[tuple[bytes, Coin]] = []
    mature: list[tuple[bytes, Coin]] = []
    for key, coin in coins.items():
        if coin.script != FILLER_SCRIPT or coin.amount_sat < COIN_SAT_MIN or key in spent:
            continue
        if not coin.coinbase:
            plain.append((key, coin))
        elif height - coin.height >= COINBASE_MATURITY:
            mature.append((key, coin))
    fan_outs = list(_fan_outs(mature, wanted - len(plain), min(wanted, FAN_OUT_OUTPUTS_MAX)))
    return fan_outs + [_filler(key, coin) for key, coin in plain[: wanted - len(fan_outs)]]


def is_filler(raw: bytes) -> bool:
    """Whether a transaction is of this kind: worth nothing in the memory pool, it can be made again."""
    return FILLER_SCRIPT in raw and raw.endswith(WITNESS + NO_LOCK_TIME)


def _fan_outs(mature: Iterable[tuple[bytes, Coin]], missing: int, outputs: int) -> Iterator[PendingTx]:
    """Transactions that turn mature coinbases into `missing` coins or more, as far as they go."""
    for key, coin in mature:
        if missing <= 0:
            return
        fee_sat = FAN_OUT_FEE_SAT_PER_VB * (len(_stripped(key, [0] * outputs)) + len(WITNESS))
        each_sat = (coin.amount_sat - fee_sat) // outputs
        if each_sat < COIN_SAT_MIN:
            continue  # mined after many halvings
        yield _spend(key, coin, [each_sat] * outputs)
        missing -= outputs


def _filler(key: bytes, coin: Coin) -> PendingTx:
    return _spend(key, coin, [coin.amount_sat - FILLER_FEE_SAT])


def _spend(key: bytes, coin: Coin, amounts_sat: list[int]) -> PendingTx:
    """The transaction that spends one coin to outputs of the same program."""
    stripped = _stripped(key, amounts_sat)
    raw = stripped[:4] + b"\x00\x01" + stripped[4:-4] + WITNESS + stripped[-4:]
    return PendingTx(
        raw=raw,
        txid=sha256d(stripped),
        wtxid=sha256d(raw),
        fee_sat=coin.amount_sat - sum(amounts_sat),
        weight=len(stripped) * (WITNESS_SCALE - 1) + len(raw),
        sigops=0,
        spends=(key,),
    )


def _stripped(key: bytes, amounts_sat: list[int]) -> bytes:
    """Version 2, one input, outputs to the filler's program, no lock time; without the witness."""
    count = len(amounts_sat)
    outputs_count = bytes([count]) if count < 0xFD else b"\xfd" + struct.pack("<H", count)
    program = bytes([len(FILLER_SCRIPT)]) + FILLER_SCRIPT
    outputs = b"".join(struct.pack("<q", amount_sat) + program for amount_sat in amounts_sat)
    spend = b"\x02\x00\x00\x00\x01" + key + b"\x00" + SEQUENCE
    return spend + outputs_count + outputs + NO_LOCK_TIME
