"""What the embedded node offers to mine: a block template on the tip, and a block made of it.

Invariants:
* A template's transactions fit the limits of a block with room for the coinbase, parents before
  children, so any block built on it with a correct coinbase is valid; `nbits` is the only thing that
  may be offered untrue, for load tests, and then consensus refuses what is found.
* The JSON of the transactions is made once per template, by whoever builds it in a worker thread.

Must not know: JSON-RPC, sockets, how transactions came into the memory pool.
"""

import secrets
import struct
from collections.abc import Iterable
from io import BytesIO

import msgspec
from bitcoin.core import (
    CBlock,
    CBlockHeader,
    COutPoint,
    CTransaction,
    CTxIn,
    CTxInWitness,
    CTxOut,
    CTxWitness,
)
from bitcoin.core.script import CScript, CScriptWitness
from bitcoin.core.serialize import SerializationError, VarIntSerializer

from pool.regtest.chain import Chain, Tip, sha256d
from pool.regtest.mempool import PendingTx
from stratum.difficulty import target_from_nbits

BLOCK_WEIGHT_MAX = 4_000_000
BLOCK_SIGOPS_MAX = 80_000
# What Bitcoin Core (blockreservedweight, 400 sigops) leaves for header and coinbase.
RESERVED_WEIGHT = 8_000
RESERVED_SIGOPS = 400
BLOCK_VERSION = 0x20000000
HALVING_BLOCKS = 150  # of regtest
SUBSIDY_SAT = 5_000_000_000
HALVINGS_MAX = 64
COMMITMENT_HEADER = bytes.fromhex("6a24aa21a9ed")
COMMITMENT_BYTES = 38
WITNESS_RESERVED_VALUE = bytes(32)
RESERVED_VALUE = CTxWitness([CTxInWitness(CScriptWitness([WITNESS_RESERVED_VALUE]))])  # of a coinbase
EXTRANONCE_BYTES = 8  # random: two generated blocks never have the same coinbase


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A block to be mined on `tip`; `updates` is the state of the memory pool it was made of."""

    tip: Tip
    updates: int
    txs: tuple[PendingTx, ...]
    txs_json: bytes  # the "transactions" of getblocktemplate
    coinbase_sat: int
    commitment_script: bytes
    nbits: int
    time_min: int

    @property
    def height(self) -> int:
        """The height of the block."""
        return self.tip.height + 1


def subsidy_sat(height: int) -> int:
    """What a regtest block at `height` may create."""
    halvings = height // HALVING_BLOCKS
    return SUBSIDY_SAT >> halvings if halvings < HALVINGS_MAX else 0


def build_template(
    chain: Chain, candidates: Iterable[PendingTx], *, updates: int, nbits: int | None = None
) -> Template:
    """The template on the chain's tip with as many of the candidates, in their order, as fit."""
    txs = _that_fit(candidates)
    root = _merkle_root([bytes(32), *(tx.wtxid for tx in txs)])
    return Template(
        tip=chain.tip,
        updates=updates,
        txs=tuple(txs),
        txs_json=_transactions_json(txs),
        coinbase_sat=subsidy_sat(chain.tip.height + 1) + sum(tx.fee_sat for tx in txs),
        commitment_script=COMMITMENT_HEADER + sha256d(root + WITNESS_RESERVED_VALUE),
        nbits=chain.tip.nbits if nbits is None else nbits,
        time_min=chain.next_time_min(),
    )


def _that_fit(candidates: Iterable[PendingTx]) -> list[PendingTx]:
    txs: list[PendingTx] = []
    weight, sigops = RESERVED_WEIGHT, RESERVED_SIGOPS
    left_out: set[bytes] = set()
    for tx in candidates:
        too_much = weight + tx.weight > BLOCK_WEIGHT_MAX or sigops + tx.sigops > BLOCK_SIGOPS_MAX
        if too_much or any(spent[:32] in left_out for spent in tx.spends):
            left_out.add(tx.txid)
            continue
        txs.append(tx)
        weight += tx.weight
        sigops += tx.sigops
    return txs


def _transactions_json(txs: list[PendingTx]) -> bytes:
    position = {tx.txid: index for index, tx in enumerate(txs, 1)}
    return msgspec.json.encode(
        [
            {
                "data": tx.raw.hex(),
                "txid": tx.txid[::-1].hex(),
                "hash": tx.wtxid[::-1].hex(),
                "depends": sorted({position[s[:32]] for s in tx.spends if s[:32] in position}),
                "fee": tx.fee_sat,
                "sigops": tx.sigops,
                "weight": tx.weight,
            }
            for tx in txs
        ]
    )


def _merkle_root(hashes: list[bytes]) -> bytes:
    root: bytes = CBlock.build_merkle_tree_from_txids(hashes)[-1]
    return root


def with_reserved_value(block: bytes) -> bytes:
    """A submitted block, whose coinbase gets the witness that its commitment is made with if it has none.

    BIP145 leaves that to the node, and miners that know no witnesses (ckpool) leave it there.
    """
    stream = BytesIO(block)
    try:
        CBlockHeader.stream_deserialize(stream)
        VarIntSerializer.stream_deserialize(stream)
        start = stream.tell()
        coinbase = CTransaction.stream_deserialize(stream)
    except (SerializationError, struct.error):
        return block  # the kernel says what is wrong with it
    scripts = [bytes(out.scriptPubKey) for out in coinbase.vout]
    committed = any(it.startswith(COMMITMENT_HEADER) and len(it) >= COMMITMENT_BYTES for it in scripts)
    if not committed or coinbase.has_witness():
        return block
    whole = CTransaction(coinbase.vin, coinbase.vout, coinbase.nLockTime, coinbase.nVersion, RESERVED_VALUE)
    completed: bytes = block[:start] + whole.serialize() + block[stream.tell() :]
    return completed


def mine_block(template: Template, script: bytes, block_time: int) -> bytes:
    """A whole block made of a template, paying to `script`. Only for regtest's target: two hashes or so."""
    txin = CTxIn(COutPoint(), CScript([template.height, secrets.token_bytes(EXTRANONCE_BYTES)]))
    outputs = [
        CTxOut(template.coinbase_sat, CScript(script)),
        CTxOut(0, CScript(template.commitment_script)),
    ]
    coinbase = CTransaction([txin], outputs, 0, 2, RESERVED_VALUE)
    root = _merkle_root([coinbase.GetTxid(), *(tx.txid for tx in template.txs)])
    header = CBlockHeader(
        BLOCK_VERSION, template.tip.hash_internal, root, block_time, template.nbits, 0
    ).serialize()[:76]
    target = target_from_nbits(template.nbits)
    nonce = 0
    while int.from_bytes(sha256d(header + struct.pack("<I", nonce)), "little") > target:
        nonce += 1
    count = len(template.txs) + 1
    counted = bytes([count]) if count < 0xFD else b"\xfd" + struct.pack("<H", count)
    body = b"".join(tx.raw for tx in template.txs)
    block: bytes = header + struct.pack("<I", nonce) + counted + coinbase.serialize() + body
    return block
