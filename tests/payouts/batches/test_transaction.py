"""Transactions as bytes: read as other software reads them, and nothing read that is not one."""

import pytest
from bitcoin.core import CTransaction

from payouts.batches.transaction import (
    TX_BYTES_MAX,
    BadTransaction,
    Tx,
    TxInput,
    TxOutput,
    decode_transaction,
    dust_sat,
    is_segwit,
    outpoint,
    spender_in_block,
)

P2WPKH, P2TR, P2SH = b"\x00\x14" + bytes(20), b"\x51\x20" + bytes(32), b"\xa9\x14" + bytes(20) + b"\x87"
SEGWIT = Tx(
    2,
    (
        TxInput("22" * 32, 3, b"", 0xFFFFFFFD, (bytes(71), bytes(33))),
        TxInput("33" * 32, 0, b"\x16" + P2WPKH, 0xFFFFFFFE, (bytes(64),)),
        TxInput("44" * 32, 7, bytes(300), 5),
    ),
    (TxOutput(70_000, P2WPKH), TxOutput(80_000, P2TR), TxOutput(0, b"\x6a" + bytes(600))),
    900_000,
)


def test_size_is_bounded() -> None:
    with pytest.raises(BadTransaction, match="has 400000 at most"):
        decode_transaction(bytes(TX_BYTES_MAX + 1))


def test_every_truncation_is_refused() -> None:
    assert decode_transaction(SEGWIT.raw) == SEGWIT
    for length in range(len(SEGWIT.raw)):
        with pytest.raises(BadTransaction):
            decode_transaction(SEGWIT.raw[:length])


def test_a_transaction_is_read_as_other_software_reads_it() -> None:
    tx = SEGWIT
    other = CTransaction.deserialize(tx.raw)
    assert bytes(other.GetTxid())[::-1].hex() == tx.txid
    assert [it.nValue for it in other.vout] == [it.amount_sat for it in tx.outputs]
    assert other.serialize() == tx.raw
    assert tx.weight == other.calc_weight()


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\x02\x00\x00\x00\x00\x00" + bytes(4), "no inputs or no outputs"),
        (b"\x02\x00\x00\x00\x00\x01\x00\x00" + bytes(4), "no inputs or no outputs"),
        (b"\x02\x00\x00\x00\xfd\x01\x00" + bytes(60), "shortest way"),
        (b"\x02\x00\x00\x00\xff" + bytes(60), "shortest way"),
        (b"\x02\x00\x00\x00\xfe\x00\x00\x01\x00" + bytes(60), "cannot follow"),
        (b"\x02\x00\x00\x00\x01" + bytes(41) + b"\x01" + b"\xff" * 8 + b"\x00" + bytes(4), "all money"),
        (b"\x02\x00\x00\x00\x00\x01\x01" + bytes(41) + b"\x01" + bytes(9) + bytes(5), "has none"),
    ],
)
def test_what_is_no_transaction_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(BadTransaction, match=words):
        decode_transaction(raw)


def test_who_spends_a_coin_is_found_in_a_block() -> None:
    other = Tx(2, (TxInput("77" * 32, 1, b"\x51", 5),), (TxOutput(1, P2SH),), 0)
    coinbase = Tx(2, (TxInput("00" * 32, 0xFFFFFFFF, b"\x01\x01", 0, (bytes(32),)),), (TxOutput(5, P2SH),), 0)
    block = bytes(80) + b"\x03" + coinbase.raw + other.raw + SEGWIT.raw
    first = SEGWIT.inputs[0]
    assert spender_in_block(block, first.txid, first.vout) == SEGWIT
    assert spender_in_block(block, "77" * 32, 1) == other
    assert spender_in_block(block, first.txid, first.vout + 1) is None
    stray = outpoint("55" * 32, 0)  # the bytes are there, but as no input
    spoken = Tx(2, (TxInput("66" * 32, 1, b"", 5),), (TxOutput(1, b"\x6a\x24" + stray),), 0)
    assert spender_in_block(bytes(80) + b"\x01" + spoken.raw, "55" * 32, 0) is None
    with pytest.raises(BadTransaction):
        spender_in_block(block[: len(block) - len(SEGWIT.raw) + 50], first.txid, first.vout)


@pytest.mark.parametrize(
    ("script", "sat", "segwit"),
    [
        (P2WPKH, 294, True),
        (P2TR, 330, True),
        (b"\x00\x20" + bytes(32), 330, True),
        (P2SH, 540, False),
        (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", 546, False),
    ],
)
def test_dust_is_what_bitcoin_core_says_it_is(script: bytes, sat: int, segwit: bool) -> None:
    assert (dust_sat(script), is_segwit(script)) == (sat, segwit)
