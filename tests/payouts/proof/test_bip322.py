"""Signed messages are those of BIP-322, by its own vectors: as far as `angara_verify.py` knows the scripts,
it finds what it should, and of others it says that it does not know."""

import base64
import hashlib
import json
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from payouts.batches.psbt import IN_FINAL_WITNESS, IN_WITNESS_UTXO, Spend, decode_psbt
from payouts.batches.transaction import BadTransaction, Reader, decode_transaction, outpoint
from payouts.proof.angara_verify import (
    ORDER,
    Output,
    Spent,
    ToSign,
    der_numbers,
    ecdsa_signed_by,
    hash160,
    outputs_of,
    ripemd160,
    sha256d,
    tagged,
    to_spend,
)
from payouts.proof.reserves import to_sign as as_made
from payouts.proof.reserves import to_spend as message_as_made
from pool.chain.addresses import script_for

VECTORS = Path(__file__).parents[2] / "vectors" / "bip322"
BASIC: dict[str, Any] = json.loads((VECTORS / "basic-test-vectors.json").read_text())
GENERATED: dict[str, Any] = json.loads((VECTORS / "generated-test-vectors.json").read_text())
KNOWN = ("p2wpkh", "p2tr", "p2wsh-multisig-2of2", "p2wsh-multisig-3of3")
# RIPEMD-160, of its authors' page.
RIPEMD160 = {
    b"": "9c1185a5c5e9fc54612808977ee8f548b2258d31",
    b"abc": "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc",
    b"message digest": "5d0689ef49d2fae572b881b123a85ffa21595f36",
}


def message_of(case: dict[str, Any]) -> bytes:
    """One of them is written with its surrogates apart."""
    text: str = case["message"]
    return text.encode("utf-16", "surrogatepass").decode("utf-16").encode()


def script_of(case: dict[str, Any]) -> bytes:
    return script_for(case["address"], "main")


def found(case: dict[str, Any], signature: str) -> bool | None:
    """What is found of a signature, simple or full."""
    script, raw = script_of(case), base64.b64decode(signature.removeprefix("smp").removeprefix("ful"))
    spends = sha256d(to_spend(message_of(case), script)) + bytes(4)
    try:
        tx = decode_transaction(raw)
    except BadTransaction:
        if signature.startswith("ful"):
            raise
        return ToSign([Spent(spends, Output(0, script))]).is_signed(0, stack(raw))
    (one,) = tx.inputs
    if outpoint(one.txid, one.vout) != spends:
        return False
    spent = Spent(spends, Output(0, script), one.sequence)
    return ToSign([spent], tx.version, tx.lock_time).is_signed(0, list(one.witness))


def stack(raw: bytes) -> list[bytes]:
    reader = Reader(raw)
    return [reader.chunk() for _ in range(reader.compact())]


def signatures(kind: str) -> Iterator[Any]:
    for case in (*BASIC.get(kind, ()), *GENERATED.get(kind, ())):
        for number, signature in enumerate(case["bip322_signatures"]):
            yield pytest.param(case, signature, id=f"{case['type']}-{case['message'][:12]}-{number}")


@pytest.mark.parametrize("case", BASIC["tx_hashes"], ids=lambda it: it["message"][:8])
def test_messages_are_hashed_and_spent_as_the_vectors_have_it(case: dict[str, Any]) -> None:
    message, script = message_of(case), script_of(case)
    assert tagged("BIP0322-signed-message", message).hex() == case["message_hash"]
    first = message_as_made(message, script)
    assert sha256d(to_spend(message, script))[::-1].hex() == first.txid == case["to_spend_tx_hash"]
    assert outputs_of(first.stripped) == [Output(0, script)]
    assert as_made([Spend(first.txid, 0, 0, script)]).txid == case["to_sign_tx_hash"]


@pytest.mark.parametrize(("case", "signature"), [*signatures("simple"), *signatures("full")])
def test_signatures_of_known_scripts_hold_and_others_are_not_judged(
    case: dict[str, Any], signature: str
) -> None:
    if case["type"] in KNOWN:
        assert found(case, signature) is True
        assert found(case | {"message": f"{case['message']}."}, signature) is False
    elif case["type"].startswith("p2wsh") or case["type"] == "p2tr-time-lock":
        assert found(case, signature) is None
    else:
        assert found(case, signature) in (None, False)  # what is in no witness


@pytest.mark.parametrize(
    "case", [*BASIC["error"], *GENERATED["error"]], ids=lambda it: it["description"][:60]
)
def test_what_the_vectors_call_an_error_does_not_hold(case: dict[str, Any]) -> None:
    with suppress(ValueError):  # it is no base64, or no stack
        assert found(case, case["signature"]) is not True


def test_a_proof_of_funds_holds_for_each_of_its_coins() -> None:
    (case,) = (it for it in GENERATED["proof_of_funds"] if it["type"] == "p2tr")
    (signature,) = case["bip322_signatures"]
    psbt = decode_psbt(base64.b64decode(signature.removeprefix("pof")))
    spent = []
    for one, fields in zip(psbt.tx.inputs, psbt.inputs, strict=True):
        utxo = Reader(fields[IN_WITNESS_UTXO])
        spent.append(Spent(outpoint(one.txid, one.vout), Output(utxo.number(8), utxo.chunk()), one.sequence))
    assert spent[0].outpoint == sha256d(to_spend(message_of(case), script_of(case))) + bytes(4)
    witnesses = [stack(fields[IN_FINAL_WITNESS]) for fields in psbt.inputs]
    it = ToSign(spent, psbt.tx.version, psbt.tx.lock_time)
    assert [it.is_signed(at, witness) for at, witness in enumerate(witnesses)] == [True] * 4
    spent[3] = spent[3]._replace(output=spent[3].output._replace(amount_sat=345_679))
    it = ToSign(spent, psbt.tx.version, psbt.tx.lock_time)
    assert [it.is_signed(at, witness) for at, witness in enumerate(witnesses)] == [False] * 4


def test_a_signature_of_less_than_all_or_written_otherwise_is_none() -> None:
    """Of the same key and message: another flag, the higher s, a longer DER, a key that is not compressed."""
    case = BASIC["simple"][0]
    script, raw = script_of(case), base64.b64decode(case["bip322_signatures"][0].removeprefix("smp"))
    it = ToSign([Spent(sha256d(to_spend(message_of(case), script)) + bytes(4), Output(0, script))])
    signature, key = stack(raw)
    assert it.is_signed(0, [signature, key])
    digest = it.hashed_143(0, b"\x76\xa9\x14" + hash160(key) + b"\x88\xac")
    assert ecdsa_signed_by(key, digest, signature[:-1])
    numbers = der_numbers(signature[:-1])
    assert numbers is not None
    r, s = numbers
    high = (ORDER - s).to_bytes(33, "big")
    body = b"\x02\x20" + r.to_bytes(32, "big") + b"\x02\x21" + high
    others = [
        signature[:-1] + b"\x83",
        signature[:-1] + b"\x00",
        signature[:-1],
        bytes([0x30, len(body)]) + body + b"\x01",
        b"\x30\x45" + signature[2:-1] + b"\x00\x01",
        b"",
        bytes(9),
    ]
    for other in others:
        assert it.is_signed(0, [other, key]) is False, other.hex()
    for witness in (
        [],
        [signature],
        [signature, key, b""],
        [key, signature],
        [signature, b"\x04" + key[1:] * 2],
    ):
        assert it.is_signed(0, witness) is False


def test_a_key_spend_of_taproot_has_one_signature_of_all() -> None:
    case = next(it for it in BASIC["simple"] if it["type"] == "p2tr")
    script, (signature,) = script_of(case), stack(base64.b64decode(case["bip322_signatures"][0]))
    it = ToSign([Spent(sha256d(to_spend(message_of(case), script)) + bytes(4), Output(0, script))])
    assert it.is_signed(0, [signature]) is True
    for other in (signature + b"\x01", signature + b"\x00", signature + b"\x83", signature[:-1], b""):
        assert it.is_signed(0, [other]) is False
    assert it.is_signed(0, [signature, b"\x50"]) is None  # an annex, or another way to spend it


def test_of_several_keys_each_signs_once_and_in_its_order() -> None:
    case = next(it for it in BASIC["simple"] if it["type"] == "p2wsh-multisig-3of3")
    script = script_of(case)
    nothing, a, b, c, code = stack(base64.b64decode(case["bip322_signatures"][0].removeprefix("smp")))
    it = ToSign([Spent(sha256d(to_spend(message_of(case), script)) + bytes(4), Output(0, script))])
    assert it.is_signed(0, [nothing, a, b, c, code]) is True
    for witness in (
        [nothing, a, c, b, code],
        [nothing, a, a, b, code],
        [nothing, a, b, code],
        [a, b, c, code],
        [b"\x01", a, b, c, code],
        [nothing, a, b, c, code + b"\x61"],
    ):
        assert it.is_signed(0, witness) is False


def test_ripemd160_is_that_of_its_authors_and_of_this_python_where_it_has_one() -> None:
    for data, digest in RIPEMD160.items():
        assert ripemd160(data).hex() == digest
    with suppress(ValueError):
        for size in range(0, 256, 5):
            data = bytes(range(size))
            assert ripemd160(data) == hashlib.new("ripemd160", data).digest()


def test_numbers_of_a_signature_are_written_in_one_way() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(2_000):
        data = chance.randbytes(chance.randrange(80))
        numbers = der_numbers(data)
        assert numbers is None or min(numbers) >= 0
    assert der_numbers(bytes.fromhex("3006020101020102")) == (1, 2)
