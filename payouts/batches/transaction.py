"""Bitcoin transactions as bytes: decoding without trust, txid, weight, dust, and who spends a coin.

Bytes come from signers and nodes, so everything is bounded and canonical: what is decoded and written
again is the same bytes, or it is BadTransaction. Txids are hex as people write them; amounts are integers.

Must not know: what a payment is for. Source: BIP-144, Bitcoin Core primitives/transaction.h, policy.cpp.
"""

import hashlib
import struct
from collections.abc import Collection, Iterator

import msgspec

TX_WEIGHT_MAX = 400_000  # Bitcoin Core relays nothing heavier (MAX_STANDARD_TX_WEIGHT)
TX_BYTES_MAX = TX_WEIGHT_MAX  # a byte of witness is the lightest, one weight unit
BLOCK_BYTES_MAX = 4_000_000  # likewise, of a block's weight
WITNESS_SCALE = 4
HEADER_BYTES = 80
INPUT_BYTES_MIN = 41
OUTPUT_BYTES_MIN = 9
SEQUENCE_RBF = 0xFFFFFFFD  # BIP-125: replaceable, no relative lock time
MONEY_SAT_MAX = 21_000_000 * 10**8
# What spending an output will cost, at 3 sat/vB: one worth less is dust (Bitcoin Core, GetDustThreshold).
DUST_SAT_PER_VB = 3
SPEND_WITNESS_VB = 67
SPEND_LEGACY_VB = 148


class BadTransaction(ValueError):
    """Bytes that are no transaction, or not written the one way a transaction is."""


class TxInput(msgspec.Struct, frozen=True):
    """The coin that is spent, and what allows it."""

    txid: str
    vout: int
    script_sig: bytes
    sequence: int
    witness: tuple[bytes, ...] = ()


class TxOutput(msgspec.Struct, frozen=True):
    """An amount, and the script that may spend it."""

    amount_sat: int
    script: bytes


class Tx(msgspec.Struct, frozen=True):
    """A transaction, with or without its witnesses."""

    version: int
    inputs: tuple[TxInput, ...]
    outputs: tuple[TxOutput, ...]
    lock_time: int

    @property
    def stripped(self) -> bytes:
        """Without the witnesses: what the txid is of."""
        return b"".join(
            (struct.pack("<I", self.version), *self._body_parts(), struct.pack("<I", self.lock_time))
        )

    @property
    def raw(self) -> bytes:
        """As it is sent."""
        if not any(it.witness for it in self.inputs):
            return self.stripped
        parts = [struct.pack("<I", self.version), b"\x00\x01", *self._body_parts()]
        for it in self.inputs:
            parts.append(compact_size(len(it.witness)))
            parts += [compact_size(len(item)) + item for item in it.witness]
        return b"".join((*parts, struct.pack("<I", self.lock_time)))

    @property
    def txid(self) -> str:
        """Known before signing when all inputs are segwit."""
        return sha256d(self.stripped)[::-1].hex()

    @property
    def weight(self) -> int:
        """BIP-141: three times the stripped size and the whole size."""
        return len(self.stripped) * (WITNESS_SCALE - 1) + len(self.raw)

    def _body_parts(self) -> list[bytes]:
        parts = [compact_size(len(self.inputs))]
        for it in self.inputs:
            parts.append(outpoint(it.txid, it.vout) + compact_size(len(it.script_sig)) + it.script_sig)
            parts.append(struct.pack("<I", it.sequence))
        parts.append(compact_size(len(self.outputs)))
        for output in self.outputs:
            parts.append(struct.pack("<q", output.amount_sat) + compact_size(len(output.script)))
            parts.append(output.script)
        return parts


def sha256d(data: bytes) -> bytes:
    """Bitcoin's double SHA-256."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def outpoint(txid: str, vout: int) -> bytes:
    """The 36 bytes by which an input names a coin."""
    return bytes.fromhex(txid)[::-1] + struct.pack("<I", vout)


def compact_size(number: int) -> bytes:
    """A count, in the one shortest way to write it."""
    if number < 0xFD:
        return bytes([number])
    if number <= 0xFFFF:
        return b"\xfd" + struct.pack("<H", number)
    return b"\xfe" + struct.pack("<I", number)


def is_segwit(script: bytes) -> bool:
    """Whether an output's script is a witness program (BIP-141)."""
    version = script[:1]
    return 4 <= len(script) <= 42 and version in _VERSION_OPCODES and script[1] == len(script) - 2


_VERSION_OPCODES = frozenset(bytes([op]) for op in (0x00, *range(0x51, 0x61)))


def dust_sat(script: bytes) -> int:
    """The least that nodes relay an output of this script with."""
    spend_vb = SPEND_WITNESS_VB if is_segwit(script) else SPEND_LEGACY_VB
    return DUST_SAT_PER_VB * (
        len(struct.pack("<q", 0)) + len(compact_size(len(script))) + len(script) + spend_vb
    )


class Reader:
    """Walks over bytes that nobody vouches for; BadTransaction wherever they end too early."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self.at = at

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._data) - self.at

    def read(self, length: int) -> bytes:
        """The next `length` bytes."""
        if length > self.left:
            raise BadTransaction(f"it ends {length - self.left} bytes too early")
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self, length: int) -> int:
        """A little-endian integer."""
        return int.from_bytes(self.read(length), "little")

    def compact(self) -> int:
        """A count, written the shortest way."""
        start = self.at
        first = self.number(1)
        value = first if first < 0xFD else self.number(2 << (first - 0xFD))
        if first == 0xFF or compact_size(value) != self._data[start : self.at]:
            raise BadTransaction("a count is not written the shortest way")
        return value

    def count(self, bytes_each: int) -> int:
        """How many things of at least so many bytes follow."""
        value = self.compact()
        if value * bytes_each > self.left:
            raise BadTransaction(f"{value} things cannot follow in {self.left} bytes")
        return value

    def chunk(self) -> bytes:
        """Bytes with their length before them."""
        return self.read(self.compact())

    def transaction(self) -> Tx:
        """A transaction that starts here."""
        version = self.number(4)
        segwit = self._data[self.at : self.at + 2] == b"\x00\x01"
        if segwit:
            self.read(2)
        bare = [
            TxInput(self.read(32)[::-1].hex(), self.number(4), self.chunk(), self.number(4))
            for _ in range(self.count(INPUT_BYTES_MIN))
        ]
        outputs = tuple(TxOutput(self.number(8), self.chunk()) for _ in range(self.count(OUTPUT_BYTES_MIN)))
        if not bare or not outputs:
            raise BadTransaction("it has no inputs or no outputs")
        if any(it.amount_sat > MONEY_SAT_MAX for it in outputs):
            raise BadTransaction("an output is worth more than all money")
        witnesses = [tuple(self.chunk() for _ in range(self.count(1))) if segwit else () for _ in bare]
        if segwit and not any(witnesses):
            raise BadTransaction("it says that it has witnesses and has none")
        inputs = tuple(
            msgspec.structs.replace(it, witness=witness) for it, witness in zip(bare, witnesses, strict=True)
        )
        return Tx(version, inputs, outputs, self.number(4))


def decode_transaction(raw: bytes) -> Tx:
    """A transaction and nothing else. Raises BadTransaction."""
    if len(raw) > TX_BYTES_MAX:
        raise BadTransaction(f"{len(raw)} bytes, a transaction has {TX_BYTES_MAX} at most")
    reader = Reader(raw)
    tx = reader.transaction()
    if reader.left:
        raise BadTransaction(f"{reader.left} bytes follow the transaction")
    return tx


def spender_in_block(raw: bytes, txid: str, vout: int) -> Tx | None:
    """The transaction of a serialised block that spends the coin. Raises BadTransaction."""
    if outpoint(txid, vout) not in raw:  # nearly always: nothing has to be decoded
        return None
    for tx in _transactions(raw):
        if any((it.txid, it.vout) == (txid, vout) for it in tx.inputs):
            return tx
    return None


def payers_in_block(raw: bytes, scripts: Collection[bytes]) -> tuple[Tx, ...]:
    """The transactions of a serialised block that pay any of the scripts. Raises BadTransaction."""
    if not any(script in raw for script in scripts):
        return ()
    return tuple(tx for tx in _transactions(raw) if any(it.script in scripts for it in tx.outputs))


def _transactions(block: bytes) -> Iterator[Tx]:
    if len(block) > BLOCK_BYTES_MAX:
        raise BadTransaction(f"{len(block)} bytes, a block has {BLOCK_BYTES_MAX} at most")
    reader = Reader(block, HEADER_BYTES)
    for _ in range(reader.count(INPUT_BYTES_MIN)):
        yield reader.transaction()
