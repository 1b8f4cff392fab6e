"""What comes back from a signer: the one transaction that was given, or quarantine, and why."""

import base64
import hashlib
import random
from collections.abc import Callable

import bdkpython as bdk
import msgspec
import pytest

from payouts.batches.psbt import (
    PSBT_BYTES_MAX,
    Expected,
    Flaw,
    Psbt,
    Quarantined,
    Spend,
    check_body,
    check_psbt,
    check_signed,
    decode_psbt,
    fee_sat,
    read_signed,
)
from payouts.batches.transaction import (
    BadTransaction,
    Tx,
    TxInput,
    TxOutput,
    compact_size,
    decode_transaction,
)
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet, finalise
from tests.stages.payouts import ADDRESSES, MNEMONIC, Signer, private_descriptors

FEE_SAT = 1_000
P2WPKH, P2TR, P2SH = b"\x00\x14" + bytes(20), b"\x51\x20" + bytes(32), b"\xa9\x14" + bytes(20) + b"\x87"
PAYEES = (TxOutput(70_000, P2WPKH), TxOutput(80_000, P2TR), TxOutput(90_000, P2SH))
SEED = 20_090_103


class Given(msgspec.Struct, frozen=True):
    """A payout that is with the signer."""

    signer: Signer
    wallet: PayoutWallet
    expected: Expected
    psbt: bytes

    @property
    def signed(self) -> Tx:
        return decode_transaction(finalise(self.psbt, self.signer.sign(self.psbt)))


def given(kind: str = "wpkh") -> Given:
    """Two coins, three payees, change."""
    signer = Signer(*private_descriptors(kind, 0))
    receive, change = signer.public()
    wallet = PayoutWallet(
        PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES), "regtest"
    )
    sources = [coin_source(signer.script(0), 200_000), coin_source(signer.script(3, change=True), 300_000)]
    coins = tuple(Spend(tx.txid, 0, tx.outputs[0].amount_sat, tx.outputs[0].script) for tx in sources)
    left_sat = 500_000 - sum(it.amount_sat for it in PAYEES) - FEE_SAT
    change_output = TxOutput(left_sat, wallet.change_script(1))
    psbt = wallet.build(coins, {tx.txid: tx for tx in sources}, (*PAYEES, change_output))
    expected = Expected(
        inputs=coins,
        payees=PAYEES,
        change=change_output,
        txid=decode_psbt(psbt).tx.txid,
        fee_cap_sat=FEE_SAT,
    )
    return Given(signer, wallet, expected, psbt)


def coin_source(script: bytes, sat: int) -> Tx:
    """A transaction that makes a coin."""
    return Tx(2, (TxInput("11" * 32, sat, b"", 0),), (TxOutput(sat, script),), 0)


@pytest.fixture(scope="module", params=["wpkh", "tr"])
def payout(request: pytest.FixtureRequest) -> Given:
    return given(request.param)


@pytest.fixture(scope="module")
def wpkh() -> Given:
    return given("wpkh")


@pytest.fixture(scope="module")
def taproot() -> Given:
    return given("tr")


# What is right


def test_what_the_signer_returns_is_the_transaction_that_was_given(payout: Given) -> None:
    check_psbt(decode_psbt(payout.psbt), payout.expected)
    for complete in (True, False):
        back = payout.signer.sign(payout.psbt, finalise=complete)
        for form in (back, base64.b64encode(back), back.hex().encode(), base64.b64encode(back) + b"\n"):
            read = read_signed(form)
            assert isinstance(read, Psbt)
            check_psbt(read, payout.expected)
            tx = decode_transaction(finalise(payout.psbt, read.raw))
            check_signed(tx, payout.expected)
            assert tx.txid == payout.expected.txid
            assert fee_sat(tx, payout.expected.inputs) == FEE_SAT


def test_a_finished_transaction_is_taken_as_well(payout: Given) -> None:
    tx = payout.signed
    for form in (tx.raw, tx.raw.hex().encode(), tx.raw.hex().upper().encode() + b"\r\n"):
        assert read_signed(form) == tx


def test_a_multisig_of_two_is_taken_when_both_have_signed() -> None:
    keys = [
        bdk.DescriptorSecretKey(bdk.NetworkKind.TEST, bdk.Mnemonic.from_string(words), None)
        for words in ("legal winner thank year wave sausage worth useful legal winner thank yellow", MNEMONIC)
    ]
    roots = [str(key).removesuffix("/*") for key in keys]
    both = [f"wsh(sortedmulti(2,{','.join(f'{root}/{branch}/*' for root in roots)}))" for branch in (0, 1)]
    signer = Signer(*both)
    receive, change = signer.public()
    wallet = PayoutWallet(PayoutSettings(descriptor=receive, change_descriptor=change), "regtest")
    source = coin_source(signer.script(0), 500_000)
    coin = Spend(source.txid, 0, 500_000, signer.script(0))
    left = TxOutput(500_000 - sum(it.amount_sat for it in PAYEES) - FEE_SAT, wallet.change_script(1))
    psbt = wallet.build([coin], {source.txid: source}, (*PAYEES, left))
    expected = Expected(inputs=(coin,), payees=PAYEES, change=left, txid=None, fee_cap_sat=FEE_SAT)
    check_signed(decode_transaction(finalise(psbt, signer.sign(psbt))), expected)
    publics = [str(bdk.Descriptor(f"wpkh({root}/0/*)", bdk.NetworkKind.TEST).as_public()) for root in roots]
    one_key = [text.replace(f"{roots[1]}/", f"{publics[1][5:].split('/')[0]}/") for text in both]
    with pytest.raises(Quarantined) as wrong:
        finalise(psbt, Signer(*one_key).sign(psbt, finalise=False))
    assert wrong.value.flaw is Flaw.WITNESS


# What is wrong: one row for each flaw, in the order in which they are looked at


def change_tx(**changes: object) -> Callable[[Tx], Tx]:
    return lambda tx: msgspec.structs.replace(tx, **changes)


def change_output(position: int, **changes: object) -> Callable[[Tx], Tx]:
    def change(tx: Tx) -> Tx:
        outputs = list(tx.outputs)
        outputs[position] = msgspec.structs.replace(outputs[position], **changes)
        return msgspec.structs.replace(tx, outputs=tuple(outputs))

    return change


def change_input(position: int, **changes: object) -> Callable[[Tx], Tx]:
    def change(tx: Tx) -> Tx:
        inputs = list(tx.inputs)
        inputs[position] = msgspec.structs.replace(inputs[position], **changes)
        return msgspec.structs.replace(tx, inputs=tuple(inputs))

    return change


def with_inputs(change: Callable[[tuple[TxInput, ...]], tuple[TxInput, ...]]) -> Callable[[Tx], Tx]:
    return lambda tx: msgspec.structs.replace(tx, inputs=change(tx.inputs))


def with_outputs(change: Callable[[tuple[TxOutput, ...]], tuple[TxOutput, ...]]) -> Callable[[Tx], Tx]:
    return lambda tx: msgspec.structs.replace(tx, outputs=change(tx.outputs))


THIEF = b"\x00\x14" + b"\x66" * 20
HOSTILE = {
    "another coin": (change_input(0, txid="22" * 32), Flaw.INPUTS),
    "another output of the coin's transaction": (change_input(0, vout=1), Flaw.INPUTS),
    "one coin more": (with_inputs(lambda it: (*it, TxInput("33" * 32, 0, b"", 0xFFFFFFFD))), Flaw.INPUTS),
    "one coin less": (with_inputs(lambda it: it[:1]), Flaw.INPUTS),
    "the anchor is not first": (with_inputs(lambda it: it[::-1]), Flaw.INPUTS),
    "a legacy input": (change_input(1, script_sig=b"\x16" + P2WPKH), Flaw.LEGACY),
    "one output more": (with_outputs(lambda it: (*it, TxOutput(1_000, THIEF))), Flaw.OUTPUTS),
    "no change": (with_outputs(lambda it: it[:-1]), Flaw.OUTPUTS),
    "a payee left out": (with_outputs(lambda it: it[1:]), Flaw.OUTPUTS),
    "a swapped address": (change_output(1, script=THIEF), Flaw.PAYEE),
    "a satoshi less": (change_output(0, amount_sat=69_999), Flaw.PAYEE),
    "a satoshi more": (change_output(2, amount_sat=90_001), Flaw.PAYEE),
    "two payees swapped": (with_outputs(lambda it: (it[1], it[0], *it[2:])), Flaw.PAYEE),
    "the change to somebody else": (change_output(-1, script=THIEF), Flaw.CHANGE),
    "less change, more fee": (change_output(-1, amount_sat=258_999), Flaw.CHANGE),
    "another version": (change_tx(version=1), Flaw.TXID),
    "a lock time": (change_tx(lock_time=900_000), Flaw.TXID),
    "not replaceable": (change_input(0, sequence=0xFFFFFFFF), Flaw.TXID),
    "a relative lock": (change_input(1, sequence=144), Flaw.TXID),
    "not signed": (change_input(1, witness=()), Flaw.WITNESS),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_differs_from_what_was_given_is_quarantined(payout: Given, name: str) -> None:
    change, flaw = HOSTILE[name]
    with pytest.raises(Quarantined) as wrong:
        check_signed(change(payout.signed), payout.expected)
    assert wrong.value.flaw is flaw
    if flaw not in (Flaw.LEGACY, Flaw.WITNESS):  # nothing of a PSBT's transaction can be signed
        with pytest.raises(Quarantined) as wrong:
            check_psbt(decode_psbt(rewritten(payout.psbt, change)), payout.expected)
        assert wrong.value.flaw is flaw


def test_the_rows_are_in_the_order_of_the_flaws() -> None:
    order = list(Flaw)
    positions = [order.index(flaw) for _, flaw in HOSTILE.values()]
    assert positions == sorted(positions)


def test_the_first_flaw_is_the_one_that_is_told(payout: Given) -> None:
    tx = payout.signed
    for change in (change_input(0, witness=()), change_output(0, script=THIEF), change_input(0, vout=7)):
        tx = change(tx)
    with pytest.raises(Quarantined) as wrong:
        check_signed(tx, payout.expected)
    assert wrong.value.flaw is Flaw.INPUTS


def test_a_fee_above_the_cap_is_quarantined(payout: Given) -> None:
    lower = msgspec.structs.replace(payout.expected, fee_cap_sat=FEE_SAT - 1)
    with pytest.raises(Quarantined) as wrong:
        check_signed(payout.signed, lower)
    assert wrong.value.flaw is Flaw.FEE
    with pytest.raises(Quarantined) as wrong:
        check_psbt(decode_psbt(payout.psbt), lower)
    assert wrong.value.flaw is Flaw.FEE


def test_money_out_of_nothing_is_quarantined(payout: Given) -> None:
    poorer = tuple(msgspec.structs.replace(it, amount_sat=100_000) for it in payout.expected.inputs)
    with pytest.raises(Quarantined) as wrong:
        check_body(payout.signed, msgspec.structs.replace(payout.expected, inputs=poorer))
    assert wrong.value.flaw is Flaw.FEE


def test_a_coin_that_is_not_segwit_is_never_spent(payout: Given) -> None:
    legacy = tuple(msgspec.structs.replace(it, script=P2SH) for it in payout.expected.inputs)
    with pytest.raises(Quarantined) as wrong:
        check_body(payout.signed, msgspec.structs.replace(payout.expected, inputs=legacy))
    assert wrong.value.flaw is Flaw.LEGACY


# Signatures


@pytest.mark.parametrize("sighash", [0x00, 0x02, 0x03, 0x81, 0x82, 0x83, 0x41])
def test_an_ecdsa_signature_for_less_than_everything_is_quarantined(wpkh: Given, sighash: int) -> None:
    signature, key = wpkh.signed.inputs[0].witness
    witness = (signature[:-1] + bytes([sighash]), key)
    with pytest.raises(Quarantined) as wrong:
        check_signed(change_input(0, witness=witness)(wpkh.signed), wpkh.expected)
    assert wrong.value.flaw is Flaw.SIGHASH


@pytest.mark.parametrize("sighash", [0x00, 0x02, 0x03, 0x81, 0x82, 0x83])
def test_a_schnorr_signature_for_less_than_everything_is_quarantined(taproot: Given, sighash: int) -> None:
    [signature] = taproot.signed.inputs[1].witness
    with pytest.raises(Quarantined) as wrong:
        check_signed(
            change_input(1, witness=(signature + bytes([sighash]),))(taproot.signed), taproot.expected
        )
    assert wrong.value.flaw is Flaw.SIGHASH
    check_signed(change_input(1, witness=(signature + b"\x01",))(taproot.signed), taproot.expected)


def test_another_witness_than_a_key_spend_is_quarantined(wpkh: Given, taproot: Given) -> None:
    signature, key = wpkh.signed.inputs[0].witness
    [schnorr] = taproot.signed.inputs[0].witness
    for payout, witness in (
        (wpkh, (signature,)),
        (wpkh, (signature, key, key)),
        (wpkh, (signature, b"\x04" + bytes(64))),
        (wpkh, (b"", key)),
        (wpkh, (bytes(71), key)),
        (taproot, (schnorr, b"\x50annex")),
        (taproot, (schnorr, b"\x51", b"\xc0" + bytes(32))),
        (taproot, (schnorr[:-1],)),
    ):
        with pytest.raises(Quarantined) as wrong:
            check_signed(change_input(0, witness=witness)(payout.signed), payout.expected)
        assert wrong.value.flaw is Flaw.WITNESS


def test_a_script_that_the_coin_is_not_locked_by_is_quarantined(wpkh: Given) -> None:
    signature, _ = wpkh.signed.inputs[0].witness
    script = b"\x51"
    locked = b"\x00\x20" + hashlib.sha256(script).digest()
    inputs = tuple(msgspec.structs.replace(it, script=locked) for it in wpkh.expected.inputs)
    expected = msgspec.structs.replace(wpkh.expected, inputs=inputs)
    both = with_inputs(
        lambda it: tuple(msgspec.structs.replace(i, witness=(b"", signature, script)) for i in it)
    )
    check_signed(both(wpkh.signed), expected)
    for witness in ((b"", signature, b"\x52"), (b"", script), (script,), (b"", signature, b"\x07x", script)):
        with pytest.raises(Quarantined) as wrong:
            check_signed(change_input(0, witness=witness)(both(wpkh.signed)), expected)
        assert wrong.value.flaw is Flaw.WITNESS


def test_a_psbt_that_asks_for_or_holds_other_signatures_is_quarantined(wpkh: Given, taproot: Given) -> None:
    partial = decode_psbt(wpkh.signer.sign(wpkh.psbt, finalise=False))
    [(key, signature)] = [(key, value) for key, value in partial.inputs[0].items() if key[0] == 0x02]
    for payout, field, value, flaw in (
        (wpkh, b"\x03", (2).to_bytes(4, "little"), Flaw.SIGHASH),
        (wpkh, b"\x03", (0).to_bytes(4, "little"), Flaw.SIGHASH),
        (wpkh, b"\x03", (0x81).to_bytes(4, "little"), Flaw.SIGHASH),
        (taproot, b"\x03", (0x83).to_bytes(4, "little"), Flaw.SIGHASH),
        (wpkh, b"\x03", b"\x02" * 2_000, Flaw.SIGHASH),  # a number that Python does not write
        (wpkh, b"\x03", b"", Flaw.SIGHASH),
        (wpkh, key, signature[:-1] + b"\x83", Flaw.SIGHASH),
        (taproot, b"\x13", bytes(64) + b"\x02", Flaw.SIGHASH),
        (wpkh, b"\x07", b"\x16" + P2WPKH, Flaw.LEGACY),
        (wpkh, b"\x01", (1).to_bytes(8, "little") + b"\x16" + P2WPKH, Flaw.AMOUNT),
    ):
        with pytest.raises(Quarantined) as wrong:
            check_psbt(with_field(decode_psbt(payout.psbt), field, value), payout.expected)
        assert wrong.value.flaw is flaw
    for payout, sighash in ((wpkh, 1), (taproot, 0), (taproot, 1)):
        asking = with_field(decode_psbt(payout.psbt), b"\x03", sighash.to_bytes(4, "little"))
        check_psbt(asking, payout.expected)


def test_a_psbt_whose_signature_is_forged_is_quarantined(payout: Given) -> None:
    back = payout.signer.sign(payout.psbt, finalise=False)
    fields = decode_psbt(back).inputs[0]
    [signature] = [value for key, value in fields.items() if key[0] in (0x02, 0x13)]
    forged = back.replace(signature, signature[:20] + bytes([signature[20] ^ 1]) + signature[21:])
    with pytest.raises(Quarantined) as wrong:
        finalise(payout.psbt, forged)
    assert wrong.value.flaw is Flaw.WITNESS


def test_a_psbt_that_nobody_signed_is_quarantined(payout: Given) -> None:
    with pytest.raises(Quarantined) as wrong:
        finalise(payout.psbt, payout.psbt)
    assert wrong.value.flaw is Flaw.WITNESS


# Bytes that are nothing


def test_every_truncation_is_refused(wpkh: Given) -> None:
    back = wpkh.signer.sign(wpkh.psbt)
    for length in range(len(back)):
        with pytest.raises(Quarantined) as wrong:
            read_signed(back[:length])
        assert wrong.value.flaw is Flaw.FORMAT
    raw = wpkh.signed.raw
    for length in range(len(raw)):
        with pytest.raises(BadTransaction):
            decode_transaction(raw[:length])


def test_junk_of_any_size_is_refused(wpkh: Given) -> None:
    rng = random.Random(SEED)
    for junk in (
        b"",
        b"\x00",
        b"psbt\xff",
        b"not base64 !",
        b"ab" * 3,
        rng.randbytes(5_000_000),
        b"psbt\xff" + rng.randbytes(5_000_000),
        b"psbt\xff" + bytes(1_000_000),
        rng.randbytes(2_500_000).hex().encode(),
        base64.b64encode(rng.randbytes(3_000_000)),
        b"\x02\x00\x00\x00" + b"\xfe\xff\xff\xff\xff" * 1_000,
        wpkh.psbt + b"\x00",
        wpkh.signed.raw + b"\x00",
    ):
        with pytest.raises(Quarantined) as wrong:
            read_signed(junk)
        assert wrong.value.flaw is Flaw.FORMAT


def test_flipped_bytes_are_never_taken_for_the_payout(wpkh: Given) -> None:
    """Any byte changed: refused, or still this transaction (in a field that says nothing about it)."""
    rng = random.Random(SEED)
    back = wpkh.signer.sign(wpkh.psbt)
    for _ in range(300):
        at = rng.randrange(len(back))
        changed = back[:at] + bytes([back[at] ^ rng.randrange(1, 256)]) + back[at + 1 :]
        try:
            read = read_signed(changed)
            assert isinstance(read, Psbt)
            check_psbt(read, wpkh.expected)
            tx = decode_transaction(finalise(wpkh.psbt, read.raw))
            check_signed(tx, wpkh.expected)
        except Quarantined:
            continue
        assert tx.txid == wpkh.expected.txid
        assert tx.outputs == (*PAYEES, wpkh.expected.change)


@pytest.mark.parametrize(
    ("global_map", "words"),
    [
        (b"\x01\xfb\x04\x02\x00\x00\x00", "a version that is not ours"),
        (b"\x01\xfb\x04\x00\x00\x00\x00\x01\xfb\x04\x00\x00\x00\x00", "there twice"),
        (b"\x01\xfc\x01\x00", "without its transaction"),
    ],
)
def test_psbts_of_another_kind_are_refused(global_map: bytes, words: str) -> None:
    with pytest.raises(BadTransaction, match=words):
        decode_psbt(b"psbt\xff" + global_map + b"\x00")


def test_a_psbt_around_a_signed_transaction_is_refused(wpkh: Given) -> None:
    raw = wpkh.signed.raw
    wrapped = b"psbt\xff\x01\x00" + compact_size(len(raw)) + raw + b"\x00" + bytes(2 + 4)
    with pytest.raises(BadTransaction, match="signatures outside of its maps"):
        decode_psbt(wrapped)


def test_a_psbt_is_bounded() -> None:
    with pytest.raises(BadTransaction, match="at most"):
        decode_psbt(b"psbt\xff" + bytes(PSBT_BYTES_MAX))


def with_field(psbt: Psbt, key: bytes, value: bytes) -> Psbt:
    """The PSBT with a field of its first input set."""
    return msgspec.structs.replace(psbt, inputs=({**psbt.inputs[0], key: value}, *psbt.inputs[1:]))


def rewritten(psbt: bytes, change: Callable[[Tx], Tx]) -> bytes:
    """A PSBT of the changed transaction, with as many empty maps as it needs."""
    tx = change(decode_psbt(psbt).tx)
    raw = tx.stripped
    head = b"psbt\xff\x01\x00" + compact_size(len(raw)) + raw + b"\x00"
    return head + bytes(len(tx.inputs) + len(tx.outputs))
