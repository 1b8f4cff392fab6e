"""Three readers of the same bytes, none of which knows another: ours, which judges what may be sent; bdk's
(rust-bitcoin), which builds and finalises it; and python-bitcoinlib's.

What ours takes, the others read as the same transaction: nobody is paid by a transaction of which the judge
saw another. What ours refuses though both others take it has its reason here.
"""

import base64
import random
import re
import struct
from collections import Counter
from typing import Any, Final

import bdkpython as bdk
import msgspec
import pytest
from bitcoin.core import CTransaction
from bitcoin.core.serialize import SerializationError
from hypothesis import given, settings
from hypothesis import strategies as st

from payouts.batches.psbt import (
    IN_FINAL_SCRIPT_SIG,
    IN_PARTIAL_SIG,
    IN_SIGHASH_TYPE,
    IN_TAP_KEY_SIG,
    IN_WITNESS_UTXO,
    Psbt,
    decode_psbt,
)
from payouts.batches.transaction import (
    MONEY_SAT_MAX,
    BadTransaction,
    Tx,
    TxInput,
    TxOutput,
    decode_transaction,
)
from tests.payouts.batches.test_psbt import given as payout_with_the_signer

# A seed and how many forgeries; more of them, of a new seed each time, in `make soak`.
HOW_MANY: Final = [
    (20_110_622, 800),
    pytest.param(random.SystemRandom().getrandbits(32), 50_000, marks=pytest.mark.soak, id="soak"),
]
U32: Final = st.integers(0, 0xFFFFFFFF)
SCRIPTS: Final = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([252, 253, 254, 600]).map(bytes),
    st.binary(min_size=20, max_size=20).map(lambda program: b"\x00\x14" + program),
)
TXIDS: Final = st.binary(min_size=32, max_size=32).map(bytes.hex)
INPUTS: Final = st.builds(TxInput, TXIDS, U32, SCRIPTS, U32, st.lists(SCRIPTS, max_size=3).map(tuple))
OUTPUTS: Final = st.builds(TxOutput, st.integers(0, MONEY_SAT_MAX), SCRIPTS)
TRANSACTIONS: Final = st.builds(
    Tx,
    U32,
    st.lists(INPUTS, min_size=1, max_size=3).map(tuple),
    st.lists(OUTPUTS, min_size=1, max_size=3).map(tuple),
    U32,
)
# What a forger puts in: markers, counts that are not the shortest, lengths without end, amounts beyond all.
PIECES: Final = (b"", b"\x00", b"\x01", b"\x00\x01", b"\xfd\x01\x00", b"\xfe\x01\x00\x00\x00", b"\xff" * 8)


def of_ours(raw: bytes) -> tuple[Any, ...] | None:
    try:
        tx = decode_transaction(raw)
    except BadTransaction:
        return None
    inputs = [(it.txid, it.vout, it.script_sig, it.sequence, it.witness) for it in tx.inputs]
    outputs = [(it.amount_sat, it.script) for it in tx.outputs]
    return tx.version, inputs, outputs, tx.lock_time, tx.txid, tx.weight, tx.raw


def of_bdk(raw: bytes) -> tuple[Any, ...] | None:
    try:
        tx = bdk.Transaction(raw)
    except bdk.TransactionError:
        return None
    version = tx.version() & 0xFFFFFFFF
    body = _body_of_bdk(tx)
    return version, *body, tx.lock_time(), str(tx.compute_txid()), tx.weight(), tx.serialize()


def _body_of_bdk(tx: Any) -> tuple[list[Any], list[Any]]:
    spent = [(it.previous_output, it.script_sig.to_bytes(), it.sequence, it.witness) for it in tx.input()]
    inputs = [(str(out.txid), out.vout, script, number, tuple(wit)) for out, script, number, wit in spent]
    return inputs, [(it.value.to_sat(), it.script_pubkey.to_bytes()) for it in tx.output()]


def of_bitcoinlib(raw: bytes) -> tuple[Any, ...] | None:
    try:
        tx = CTransaction.deserialize(raw)
        weight = tx.calc_weight()  # asserts that there are inputs and outputs
    except (SerializationError, struct.error, ValueError, AssertionError):
        return None
    witnesses = [tuple(it.scriptWitness.stack) for it in tx.wit.vtxinwit] or [()] * len(tx.vin)
    inputs = [
        (it.prevout.hash[::-1].hex(), it.prevout.n, bytes(it.scriptSig), it.nSequence, witness)
        for it, witness in zip(tx.vin, witnesses, strict=True)
    ]
    outputs = [(it.nValue, bytes(it.scriptPubKey)) for it in tx.vout]
    txid = tx.GetTxid()[::-1].hex()
    return tx.nVersion & 0xFFFFFFFF, inputs, outputs, tx.nLockTime, txid, weight, tx.serialize()


class Forger:
    """Changes good bytes in up to three places."""

    def __init__(self, seed: int) -> None:
        print(f"seed {seed}")
        self.rng = random.Random(seed)

    def forge(self, raw: bytes, reach: int) -> bytes:
        for _ in range(self.rng.randrange(4)):
            at = self.rng.randrange(min(len(raw), reach) + 1)
            piece = self.rng.choice([*PIECES, self.rng.randbytes(self.rng.randrange(4))])
            raw = raw[:at] + piece + raw[at + self.rng.randrange(4) :]
        return raw

    def script(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 22, 253, self.rng.randrange(40)]))

    def transaction(self) -> Tx:
        rng, segwit = self.rng, self.rng.random() < 0.6
        inputs = []
        for _ in range(rng.randint(1, 3)):
            witness = tuple(self.script() for _ in range(rng.randrange(3))) if segwit else ()
            txid = rng.randbytes(32).hex()
            inputs.append(TxInput(txid, rng.getrandbits(32), self.script(), rng.getrandbits(32), witness))
        amounts = [rng.choice([0, 546, MONEY_SAT_MAX]) for _ in range(rng.randint(1, 3))]
        outputs = tuple(TxOutput(sat, self.script()) for sat in amounts)
        return Tx(rng.getrandbits(32), tuple(inputs), outputs, rng.getrandbits(32))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(TRANSACTIONS)
def test_what_we_write_all_three_read_alike(tx: Tx) -> None:
    assert decode_transaction(tx.raw) == tx
    assert of_ours(tx.raw) == of_bdk(tx.raw) == of_bitcoinlib(tx.raw)


@pytest.mark.parametrize(("seed", "forgeries"), HOW_MANY)
def test_what_a_forger_gets_past_us_is_what_the_others_read(seed: int, forgeries: int) -> None:
    forger, taken = Forger(seed), 0
    for _ in range(forgeries):
        good = forger.transaction().raw
        raw = forger.forge(good, forger.rng.choice([12, len(good)]))
        ours, others = of_ours(raw), [of_bdk(raw), of_bitcoinlib(raw)]
        if ours is not None:
            assert others == [ours, ours], raw.hex()
            taken += raw != good
        elif others[0] is not None and others[0] == others[1]:
            with pytest.raises(BadTransaction, match="worth more than all money"):
                decode_transaction(raw)
    assert taken > forgeries // 20


@pytest.mark.parametrize(
    ("raw", "taken_by"),
    [
        # Nothing that is nobody's: no inputs, no outputs.
        (b"\x02\x00\x00\x00\x00\x00" + bytes(4), []),
        # Witnesses that are announced and are not there: another id for who hashes the whole.
        (b"\x02\x00\x00\x00\x00\x01\x01" + bytes(41) + b"\x01" + bytes(9) + bytes(5), ["bitcoinlib"]),
        # A count of one in three bytes: the same transaction in other bytes.
        (b"\x02\x00\x00\x00\xfd\x01\x00" + bytes(41) + b"\x01" + bytes(9) + bytes(4), ["bitcoinlib"]),
        (b"\x02\x00\x00\x00\x01" + bytes(41) + b"\x01" + bytes(9) + bytes(4) + b"\x00", []),
        # More than all money.
        (
            b"\x02\x00\x00\x00\x01" + bytes(41) + b"\x01" + struct.pack("<qBI", MONEY_SAT_MAX + 1, 0, 0),
            ["bdk", "bitcoinlib"],
        ),
    ],
)
def test_what_we_refuse_and_who_does_not(raw: bytes, taken_by: list[str]) -> None:
    assert of_ours(raw) is None
    found = {"bdk": of_bdk(raw), "bitcoinlib": of_bitcoinlib(raw)}
    assert [name for name, read in found.items() if read is not None] == taken_by


# PSBTs


class Seen(msgspec.Struct, frozen=True):
    """What a judge looks at of a PSBT."""

    body: tuple[list[Any], list[Any]]
    coins: list[tuple[int, bytes] | None]
    sighash_types: list[bool]
    signatures: list[list[bytes]]
    script_sigs: list[bool]


def seen_by_us(psbt: Psbt) -> Seen:
    coins = [fields.get(IN_WITNESS_UTXO) for fields in psbt.inputs]
    return Seen(
        body=(
            [(it.txid, it.vout, it.script_sig, it.sequence, it.witness) for it in psbt.tx.inputs],
            [(it.amount_sat, it.script) for it in psbt.tx.outputs],
        ),
        coins=[None if it is None else (int.from_bytes(it[:8], "little"), it[9:]) for it in coins],
        sighash_types=[IN_SIGHASH_TYPE in fields for fields in psbt.inputs],
        signatures=[
            sorted(
                value for key, value in fields.items() if key[0] == IN_PARTIAL_SIG or key == IN_TAP_KEY_SIG
            )
            for fields in psbt.inputs
        ],
        script_sigs=[IN_FINAL_SCRIPT_SIG in fields for fields in psbt.inputs],
    )


def seen_by_bdk(psbt: Any) -> Seen:
    inputs = psbt.input()
    spent, outputs = _body_of_bdk(psbt.extract_tx_unchecked_fee_rate())
    coins = [it.witness_utxo for it in inputs]
    return Seen(
        # What is final already stands in the transaction that bdk gives; the judge finds it in the maps.
        body=([(txid, vout, b"", number, ()) for txid, vout, _, number, _ in spent], outputs),
        coins=[None if it is None else (it.value.to_sat(), it.script_pubkey.to_bytes()) for it in coins],
        sighash_types=[it.sighash_type is not None for it in inputs],
        signatures=[
            sorted([*it.partial_sigs.values(), *([it.tap_key_sig] if it.tap_key_sig else [])])
            for it in inputs
        ],
        script_sigs=[it.final_script_sig is not None for it in inputs],
    )


@pytest.mark.parametrize(("seed", "forgeries"), HOW_MANY)
def test_of_a_forged_psbt_the_judge_sees_what_the_builder_sees(seed: int, forgeries: int) -> None:
    forger, both, bdk_alone = Forger(seed), 0, Counter[str]()
    good = []
    for kind in ("wpkh", "tr"):
        payout = payout_with_the_signer(kind)
        signed = [payout.signer.sign(payout.psbt, finalise=final) for final in (False, True)]
        good += [payout.psbt, *signed]
    for _ in range(forgeries // 4):
        base = forger.rng.choice(good)
        raw = forger.forge(base, len(base))
        try:
            theirs = bdk.Psbt(base64.b64encode(raw).decode())
        except bdk.PsbtParseError:
            continue  # then there is nothing that bdk could finalise
        try:
            ours = decode_psbt(raw)
        except BadTransaction as error:
            bdk_alone[re.sub(r"\d+ ", "", str(error))] += 1
            continue
        try:
            seen = seen_by_bdk(theirs)
        except TypeError as error:  # bdkpython's own, of a field that it does not know; we ask it for none
            if "unhashable type: 'Key'" not in str(error):
                raise
            continue
        assert seen_by_us(ours) == seen, raw.hex()
        both += 1
    assert both > forgeries // 20
    assert bdk_alone["bytes follow the PSBT"] > 0
    assert set(bdk_alone) <= {"bytes follow the PSBT", "an output is worth more than all money"}
