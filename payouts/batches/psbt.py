"""What comes back from the signer: decoded by ourselves, and held against what was approved.

A payout's transaction has the coins that were chosen as inputs, all of them segwit, so that its txid is
known before it is signed; the payees' outputs in their order, then one of change to ourselves; nothing
else. Signatures must be for all of it (SIGHASH_ALL, or taproot's DEFAULT): any other kind lets somebody
else change the outputs afterwards.

The checks are made in the order of `Flaw`, the first that fails is the one reported. Whatever fails is for
quarantine. A signature's mathematics is not checked here: the node does that before anything is sent.

Must not know: the database, nodes, keys. Source: BIP-141, 144, 174, 341, 371.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from payouts.batches.transaction import (
    SEQUENCE_RBF,
    TX_BYTES_MAX,
    BadTransaction,
    Reader,
    Tx,
    TxOutput,
    compact_size,
    decode_transaction,
    is_segwit,
)

# 2,000 payees and 200 coins of coinbases are 200 kB; with the transactions of the coins a few more.
PSBT_BYTES_MAX = 2 << 20
TEXT_BYTES_MAX = 2 * PSBT_BYTES_MAX  # hex, with room for nothing else
MAGIC = b"psbt\xff"

GLOBAL_UNSIGNED_TX = b"\x00"
GLOBAL_MESSAGE = b"\x09"  # BIP-322: what is signed, where it is no payment
GLOBAL_VERSION = b"\xfb"
IN_WITNESS_UTXO = b"\x01"
IN_PARTIAL_SIG = 0x02  # followed by the public key
IN_SIGHASH_TYPE = b"\x03"
SIGHASH_TYPE_BYTES = 4
IN_FINAL_SCRIPT_SIG = b"\x07"
IN_FINAL_WITNESS = b"\x08"
IN_TAP_KEY_SIG = b"\x13"
IN_TAP_SCRIPT_SIG = 0x14  # followed by key and leaf

SIGHASH_DEFAULT = 0x00
SIGHASH_ALL = 0x01
SCHNORR_BYTES = 64  # without a sighash byte it is DEFAULT
DER_SIGNATURE_BYTES = range(9, 74)  # with the sighash byte
PUBLIC_KEY_BYTES = 33
P2WPKH, P2WSH, P2TR = b"\x00\x14", b"\x00\x20", b"\x51\x20"


class Flaw(StrEnum):
    """Why something is not sent, in the order in which it is looked at."""

    FORMAT = "it is no transaction and no PSBT"
    INPUTS = "it spends other coins than were chosen"
    LEGACY = "an input is not segwit"
    OUTPUTS = "it has more or fewer outputs than payees and one of change"
    PAYEE = "a payee's output is not what was approved"
    CHANGE = "the change is not what was planned, or not ours"
    FEE = "its fee is above the approved cap"
    TXID = "its txid is another one"
    AMOUNT = "it claims another amount for a coin"
    SIGHASH = "a signature does not cover everything"
    WITNESS = "a signature is missing or malformed"


class Quarantined(Exception):
    """Something that must not be sent."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(f"{flaw}: {detail}")
        self.flaw = flaw


class Spend(msgspec.Struct, frozen=True):
    """A coin of ours that a payout spends."""

    txid: str
    vout: int
    amount_sat: int
    script: bytes


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """What was approved and planned; `txid` is None while it is being made."""

    inputs: tuple[Spend, ...]
    payees: tuple[TxOutput, ...]
    change: TxOutput
    txid: str | None
    fee_cap_sat: int

    @property
    def outputs(self) -> tuple[TxOutput, ...]:
        """In their order."""
        return (*self.payees, self.change)


class Psbt(msgspec.Struct, frozen=True):
    """A partially signed transaction (BIP-174): the transaction, a map for each input, and the message where
    it is one that is signed."""

    tx: Tx
    inputs: tuple[dict[bytes, bytes], ...]
    raw: bytes
    message: bytes | None = None


def fee_sat(tx: Tx, inputs: tuple[Spend, ...]) -> int:
    """What a transaction that spends these coins leaves to the miner; negative: it creates money."""
    return sum(it.amount_sat for it in inputs) - sum(it.amount_sat for it in tx.outputs)


def read_signed(data: bytes) -> Psbt | Tx:
    """What a signer wrote: a PSBT or a transaction, binary, hex or base64. Raises Quarantined."""
    if len(data) > TEXT_BYTES_MAX:
        raise Quarantined(Flaw.FORMAT, f"{len(data)} bytes are too many")
    raw = _without_text(data)
    try:
        return decode_psbt(raw) if raw.startswith(MAGIC) else decode_transaction(raw)
    except BadTransaction as error:
        raise Quarantined(Flaw.FORMAT, str(error)) from None


def decode_psbt(raw: bytes) -> Psbt:
    """A PSBT of version 0 and nothing else. Raises BadTransaction."""
    if len(raw) > PSBT_BYTES_MAX:
        raise BadTransaction(f"{len(raw)} bytes, a PSBT of ours has {PSBT_BYTES_MAX} at most")
    if not raw.startswith(MAGIC):
        raise BadTransaction("it does not start as a PSBT")
    reader = Reader(raw, len(MAGIC))
    fields = _map(reader)
    if int.from_bytes(fields.get(GLOBAL_VERSION, b""), "little") != 0:
        raise BadTransaction("a PSBT of a version that is not ours")
    if GLOBAL_UNSIGNED_TX not in fields:
        raise BadTransaction("a PSBT without its transaction")
    tx = decode_transaction(fields[GLOBAL_UNSIGNED_TX])
    if any(it.script_sig or it.witness for it in tx.inputs):
        raise BadTransaction("the transaction of a PSBT has signatures outside of its maps")
    inputs = tuple(_map(reader) for _ in tx.inputs)
    for _ in tx.outputs:
        _map(reader)
    if reader.left:
        raise BadTransaction(f"{reader.left} bytes follow the PSBT")
    return Psbt(tx, inputs, raw, fields.get(GLOBAL_MESSAGE))


def encode_psbt(tx: Tx, inputs: Sequence[Mapping[bytes, bytes]], message: bytes) -> bytes:
    """A message to be signed (BIP-322): its transaction, and what is known of the inputs."""
    general = {GLOBAL_UNSIGNED_TX: tx.stripped, GLOBAL_MESSAGE: message}
    nothing: dict[bytes, bytes] = {}
    return MAGIC + b"".join(map(_written, (general, *inputs, *(nothing for _ in tx.outputs))))


def _written(fields: Mapping[bytes, bytes]) -> bytes:
    pairs = b"".join(compact_size(len(it)) + it for pair in sorted(fields.items()) for it in pair)
    return pairs + b"\x00"


def check_body(tx: Tx, expected: Expected) -> None:
    """That the transaction pays what it should from what it should. Raises Quarantined."""
    found = tuple((it.txid, it.vout) for it in tx.inputs)
    if found != tuple((it.txid, it.vout) for it in expected.inputs):
        raise Quarantined(Flaw.INPUTS, f"{len(found)} inputs, the first is {found[0][0]}:{found[0][1]}")
    for position, (it, spend) in enumerate(zip(tx.inputs, expected.inputs, strict=True)):
        if it.script_sig or spend.script[:2] not in (P2WPKH, P2WSH, P2TR) or not is_segwit(spend.script):
            raise Quarantined(Flaw.LEGACY, f"input {position}")
    if len(tx.outputs) != len(expected.payees) + 1:
        raise Quarantined(Flaw.OUTPUTS, f"{len(tx.outputs)} for {len(expected.payees)} payees")
    for position, (output, payee) in enumerate(zip(tx.outputs, expected.payees, strict=False)):
        if output != payee:
            raise Quarantined(
                Flaw.PAYEE, f"output {position} is {output.amount_sat} sat to {output.script.hex()[:80]}"
            )
    change = tx.outputs[-1]
    if change != expected.change:
        raise Quarantined(Flaw.CHANGE, f"{change.amount_sat} sat to {change.script.hex()[:80]}")
    paid_sat = fee_sat(tx, expected.inputs)
    if not 0 <= paid_sat <= expected.fee_cap_sat:
        raise Quarantined(Flaw.FEE, f"{paid_sat} sat, the cap is {expected.fee_cap_sat}")
    if any(it.sequence != SEQUENCE_RBF for it in tx.inputs):
        raise Quarantined(Flaw.TXID, "an input is not replaceable, or locked")
    if expected.txid is not None and tx.txid != expected.txid:
        raise Quarantined(Flaw.TXID, tx.txid)


def check_psbt(psbt: Psbt, expected: Expected) -> None:
    """That a PSBT is for this payout, and what signatures it has for all of it. Raises Quarantined."""
    check_body(psbt.tx, expected)
    for position, (fields, spend) in enumerate(zip(psbt.inputs, expected.inputs, strict=True)):
        if IN_FINAL_SCRIPT_SIG in fields:
            raise Quarantined(Flaw.LEGACY, f"input {position} has a script signature")
        utxo = fields.get(IN_WITNESS_UTXO)
        if utxo is not None and utxo != witness_utxo(spend):
            raise Quarantined(Flaw.AMOUNT, f"input {position}")
        _check_type(fields.get(IN_SIGHASH_TYPE), spend, position)
        for key, value in fields.items():
            if key[0] == IN_PARTIAL_SIG:
                _check_der(value, position)
            elif key == IN_TAP_KEY_SIG or key[0] == IN_TAP_SCRIPT_SIG:
                _check_schnorr(value, position)


def check_signed(tx: Tx, expected: Expected) -> None:
    """That a transaction may be sent, as far as its bytes tell. Raises Quarantined."""
    check_body(tx, expected)
    for position, (it, spend) in enumerate(zip(tx.inputs, expected.inputs, strict=True)):
        if not it.witness:
            raise Quarantined(Flaw.WITNESS, f"input {position} is not signed")
        if spend.script.startswith(P2TR):
            _check_taproot(it.witness, position)
        elif spend.script.startswith(P2WPKH):
            _check_key_hash(it.witness, position)
        else:
            _check_script_hash(it.witness, spend.script, position)


def _check_taproot(witness: tuple[bytes, ...], position: int) -> None:
    """A key spend. A script spend or an annex is nothing that we asked for."""
    if len(witness) != 1:
        raise Quarantined(Flaw.WITNESS, f"input {position} is not a taproot key spend")
    _check_schnorr(witness[0], position)


def _check_key_hash(witness: tuple[bytes, ...], position: int) -> None:
    if len(witness) != 2 or len(witness[1]) != PUBLIC_KEY_BYTES:
        raise Quarantined(Flaw.WITNESS, f"input {position} has no signature and public key")
    _check_der(witness[0], position)


def _check_script_hash(witness: tuple[bytes, ...], script: bytes, position: int) -> None:
    """Signatures and the empty element of a multisig, then the script that the coin is locked by."""
    *elements, witness_script = witness
    if hashlib.sha256(witness_script).digest() != script[2:]:
        raise Quarantined(Flaw.WITNESS, f"input {position} has another script than its coin")
    signatures = [element for element in elements if element]
    if not signatures:
        raise Quarantined(Flaw.WITNESS, f"input {position} is not signed")
    for signature in signatures:
        _check_der(signature, position)


def _check_type(asked: bytes | None, spend: Spend, position: int) -> None:
    """What a signature is asked to cover; None: a signer takes it as everything."""
    if asked is None:
        return
    if len(asked) != SIGHASH_TYPE_BYTES:
        raise Quarantined(Flaw.SIGHASH, f"input {position} asks for a type of {len(asked)} bytes")
    wanted = int.from_bytes(asked, "little")
    if wanted != SIGHASH_ALL and (wanted != SIGHASH_DEFAULT or spend.script[:2] != P2TR):
        raise Quarantined(Flaw.SIGHASH, f"input {position} asks for type {wanted}")


def _check_der(signature: bytes, position: int) -> None:
    if len(signature) not in DER_SIGNATURE_BYTES or signature[0] != 0x30:
        raise Quarantined(Flaw.WITNESS, f"input {position} has no ECDSA signature where one belongs")
    if signature[-1] != SIGHASH_ALL:
        raise Quarantined(Flaw.SIGHASH, f"input {position} is signed with type {signature[-1]}")


def _check_schnorr(signature: bytes, position: int) -> None:
    if len(signature) not in (SCHNORR_BYTES, SCHNORR_BYTES + 1):
        raise Quarantined(Flaw.WITNESS, f"input {position} has no Schnorr signature where one belongs")
    if len(signature) > SCHNORR_BYTES and signature[-1] != SIGHASH_ALL:
        raise Quarantined(Flaw.SIGHASH, f"input {position} is signed with type {signature[-1]}")


def witness_utxo(spend: Spend) -> bytes:
    """A coin, as a field of a PSBT has it."""
    return spend.amount_sat.to_bytes(8, "little") + bytes([len(spend.script)]) + spend.script


def _map(reader: Reader) -> dict[bytes, bytes]:
    """Keys and values up to the empty key."""
    fields: dict[bytes, bytes] = {}
    while key := reader.chunk():
        if key in fields:
            raise BadTransaction("a PSBT with a key that is there twice")
        fields[key] = reader.chunk()
    return fields


def _without_text(data: bytes) -> bytes:
    """The bytes that base64 or hex stand for, or those that came."""
    if data.startswith(MAGIC):
        return data
    text = b"".join(data.split())
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        pass
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return data[: TX_BYTES_MAX + 1]
