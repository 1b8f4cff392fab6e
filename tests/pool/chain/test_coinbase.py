"""Coinbases: what consensus asks of them, how they are cut around the extranonces, what is refused."""

import struct

import pytest
from bitcoin.core import CTransaction
from bitcoin.core.script import CScript
from hypothesis import given
from hypothesis import strategies as st

from pool.chain.addresses import script_for
from pool.chain.coinbase import (
    EXTRANONCE_BYTES_MAX,
    PAYOUTS_MAX,
    SCRIPT_SIG_BYTES_MAX,
    TAG_BYTES_MAX,
    BadCoinbase,
    CoinbaseHalves,
    build_coinbase,
    compact_size,
    push_height,
    with_witness,
)
from tests.fakes.bitcoinds import COMMITMENT

PAYOUT = script_for("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "regtest")
EXTRANONCES = bytes.fromhex("e1e1e1e1e2e2e2e2e2e2e2e2")


def halves(
    *,
    height: int = 840_000,
    value_sat: int = 312_500_000,
    payouts: list[tuple[bytes, int]] | None = None,
    salt: bytes = b"saltsalt",
    tag: str = "/angara/",
    extranonce_size: int = len(EXTRANONCES),
    witness_commitment: bytes | None = None,
) -> CoinbaseHalves:
    return build_coinbase(
        height=height,
        value_sat=value_sat,
        payouts=[(PAYOUT, value_sat)] if payouts is None else payouts,
        salt=salt,
        tag=tag,
        extranonce_size=extranonce_size,
        witness_commitment=witness_commitment,
    )


def joined(cut: CoinbaseHalves, extranonces: bytes = EXTRANONCES) -> CTransaction:
    return CTransaction.deserialize(cut.coinbase1 + extranonces + cut.coinbase2)


@pytest.mark.parametrize(
    ("height", "push_hex"),
    [
        # CScript() << nHeight, as ContextualCheckBlock compares it: small numbers are opcodes of their own.
        (0, "00"),
        (1, "51"),
        (16, "60"),
        (17, "0111"),
        (127, "017f"),
        (128, "028000"),
        (255, "02ff00"),
        (256, "020001"),
        (32767, "02ff7f"),
        (32768, "03008000"),
        (840_000, "0340d10c"),
        (8_388_607, "03ffff7f"),
        (8_388_608, "0400008000"),
        (2**31 - 1, "04ffffff7f"),
    ],
)
def test_the_height_is_pushed_as_bip34_compares_it(height: int, push_hex: str) -> None:
    assert push_height(height).hex() == push_hex
    assert joined(halves(height=height)).vin[0].scriptSig.startswith(bytes.fromhex(push_hex))


@given(st.integers(min_value=0, max_value=2**31 - 1))
def test_the_height_push_is_the_one_of_an_independent_implementation(height: int) -> None:
    assert push_height(height) == bytes(CScript([height]))


@pytest.mark.parametrize("height", [-1, 2**31])
def test_what_is_no_height_is_refused(height: int) -> None:
    with pytest.raises(BadCoinbase, match="not a block height"):
        push_height(height)


def test_a_coinbase_reads_height_salt_tag_extranonces_and_pays_everything() -> None:
    transaction = joined(halves(witness_commitment=bytes.fromhex(COMMITMENT)))
    assert transaction.is_coinbase()
    assert transaction.nVersion == 2
    assert transaction.nLockTime == 0
    assert transaction.vin[0].nSequence == 0xFFFFFFFF
    assert list(transaction.vin[0].scriptSig) == [
        bytes.fromhex("40d10c"),
        b"saltsalt",
        b"/angara/",
        EXTRANONCES,
    ]
    assert [(out.nValue, bytes(out.scriptPubKey)) for out in transaction.vout] == [
        (312_500_000, PAYOUT),
        (0, bytes.fromhex(COMMITMENT)),
    ]


@pytest.mark.parametrize(
    "address",
    [
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
        "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "bcrt1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvseswlauz7",
        "bcrt1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesyga46z",
    ],
)
def test_every_address_kind_can_be_paid(address: str) -> None:
    script = script_for(address, "regtest")
    transaction = joined(halves(payouts=[(script, 312_500_000)]))
    assert [bytes(out.scriptPubKey) for out in transaction.vout] == [script]


def test_a_coinbase_without_commitment_has_none() -> None:
    assert len(joined(halves(witness_commitment=None)).vout) == 1


def test_several_payouts_keep_their_order_and_amounts() -> None:
    payouts = [(b"\x51" * (1 + n), n) for n in range(PAYOUTS_MAX)]
    value_sat = sum(value for _, value in payouts)
    transaction = joined(halves(payouts=payouts, value_sat=value_sat))
    assert [(bytes(out.scriptPubKey), out.nValue) for out in transaction.vout] == payouts


@given(salts=st.lists(st.binary(min_size=4, max_size=8), min_size=2, max_size=2, unique=True))
def test_different_salts_never_give_the_same_transaction(salts: list[bytes]) -> None:
    first, second = (joined(halves(salt=salt)).GetTxid() for salt in salts)
    assert first != second


def test_the_witness_is_marked_and_holds_32_zero_bytes() -> None:
    cut = halves(witness_commitment=bytes.fromhex(COMMITMENT))
    plain = cut.coinbase1 + EXTRANONCES + cut.coinbase2
    transaction = CTransaction.deserialize(with_witness(plain))
    assert [bytes(item) for item in transaction.wit.vtxinwit[0].scriptWitness] == [bytes(32)]
    assert transaction.GetTxid() == CTransaction.deserialize(plain).GetTxid()
    assert transaction.serialize() == with_witness(plain)


def test_the_largest_script_sig_is_allowed_and_one_byte_more_is_not() -> None:
    room = SCRIPT_SIG_BYTES_MAX - len(bytes.fromhex("0340d10c")) - (1 + 8) - (1 + TAG_BYTES_MAX) - 1
    tag = "t" * TAG_BYTES_MAX
    largest = joined(halves(tag=tag, extranonce_size=room), bytes(room))
    assert len(largest.vin[0].scriptSig) == SCRIPT_SIG_BYTES_MAX
    with pytest.raises(BadCoinbase) as refused:
        halves(tag=tag, extranonce_size=room + 1)
    assert str(refused.value) == (
        "the coinbase's scriptSig would have 101 bytes, 100 are allowed: "
        "shorten the tag (40 bytes) or the extranonces (46 bytes)"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tag": "t" * (TAG_BYTES_MAX + 1)}, "the tag has 41 bytes, at most 40 are allowed"),
        ({"tag": "line\nbreak"}, r"the tag 'line\\nbreak' is not printable ASCII"),
        ({"tag": "ангара"}, "the tag 'ангара' is not printable ASCII"),
        ({"salt": b"123"}, "the salt has 3 bytes, not 4 to 8"),
        ({"salt": b"123456789"}, "the salt has 9 bytes, not 4 to 8"),
        ({"extranonce_size": 0}, "extranonces of 0 bytes: 1 to 75 can be pushed"),
        ({"extranonce_size": EXTRANONCE_BYTES_MAX + 1}, "extranonces of 76 bytes: 1 to 75 can be pushed"),
        ({"payouts": []}, "0 payouts: a coinbase has 1 to 250"),
        ({"payouts": [(PAYOUT, 1)] * 251}, "251 payouts: a coinbase has 1 to 250"),
        (
            {"payouts": [(PAYOUT, 312_499_999)]},
            "the payouts are 312499999 sat together, the block is worth 312500000",
        ),
        (
            {"payouts": [(PAYOUT, 312_500_001)]},
            "the payouts are 312500001 sat together, the block is worth 312500000",
        ),
        ({"payouts": [(PAYOUT, 312_500_001), (PAYOUT, -1)]}, "a payout is negative"),
        ({"payouts": [(b"", 312_500_000)]}, "a payout script has 1 to 10000 bytes"),
    ],
)
def test_what_consensus_would_refuse_is_refused_with_a_reason(
    changes: dict[str, object], reason: str
) -> None:
    with pytest.raises(BadCoinbase, match=reason):
        halves(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 252, 253, 65_535])
def test_compact_size_is_bitcoins_variable_length_integer(count: int) -> None:
    data = compact_size(count)
    assert (data[0] if len(data) == 1 else struct.unpack("<H", data[1:])[0]) == count
    assert len(data) == (1 if count < 253 else 3)
    assert len(data) == 1 or data[0] == 0xFD
