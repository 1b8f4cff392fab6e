"""A running embedded node and its client over HTTP, and blocks and transactions built by hand.

Built on python-bitcoinlib alone: nothing in here shares code with the node that is tested.
"""

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio
from bitcoin.core import (
    CBlock,
    CMutableTransaction,
    COutPoint,
    CTransaction,
    CTxIn,
    CTxInWitness,
    CTxOut,
    CTxWitness,
    Hash,
    Hash160,
)
from bitcoin.core.script import (
    OP_0,
    OP_CHECKSIG,
    OP_DUP,
    OP_EQUALVERIFY,
    OP_HASH160,
    OP_RETURN,
    SIGHASH_ALL,
    SIGVERSION_WITNESS_V0,
    CScript,
    CScriptWitness,
    SignatureHash,
)
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from tests.stages.waiting import PATIENCE_S

RULES = {"rules": ["segwit"]}
MINER_ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # BIP173's example key
MINER_SCRIPT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
OP_TRUE = b"\x51"
SECP256K1_ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141


class RpcFailure(Exception):
    """An error reply."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Rpc:
    """Calls methods as bitcoin-cli does."""

    def __init__(self, http: httpx.AsyncClient, node: RegtestNode) -> None:
        self.http = http
        self.node = node

    async def __call__(self, method: str, *params: object) -> Any:
        response = await self.http.post("/", json={"id": 7, "method": method, "params": params})
        answer = response.json()
        assert answer["id"] == 7
        if answer["error"] is not None:
            error = answer["error"]
            raise RpcFailure(response.status_code, error["code"], error["message"])
        assert response.status_code == 200
        return answer["result"]

    async def template(self) -> Any:
        return await self("getblocktemplate", RULES)


@asynccontextmanager
async def running(data_dir: Path, **options: Any) -> AsyncIterator[Rpc]:
    """A node in `data_dir`, until the block is left."""

    async def serve(task_status: trio.TaskStatus[RegtestNode]) -> None:
        await serve_regtest(RegtestOptions(data_dir=data_dir, **options), task_status=task_status)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(PATIENCE_S):
            node: RegtestNode = await nursery.start(serve)
        user, _, password = node.cookie_file.read_text().partition(":")
        async with httpx.AsyncClient(base_url=node.url, auth=(user, password), timeout=PATIENCE_S) as http:
            yield Rpc(http, node)
        nursery.cancel_scope.cancel()


class Key:
    """A key of ours whose P2WPKH coins it can spend, with a real signature (BIP143)."""

    def __init__(self) -> None:
        self._private = ec.derive_private_key(0xA76A2A, ec.SECP256K1())
        self._public = self._private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self._hash160 = bytes(Hash160(self._public))
        self.script = b"\x00\x14" + self._hash160

    def spend(
        self,
        parent: CTransaction,
        *,
        to: bytes,
        fee_sat: int,
        signed_sat: int | None = None,
        memo: bytes = b"",
    ) -> str:
        """A transaction that spends the first output of `parent`; `signed_sat`: a wrong amount."""
        coin_sat = parent.vout[0].nValue
        txin = CTxIn(COutPoint(parent.GetTxid(), 0))
        outputs = [CTxOut(coin_sat - fee_sat, CScript(to)), CTxOut(0, CScript([OP_RETURN, memo]))]
        unsigned = CTransaction([txin], outputs, nVersion=2)
        code = CScript([OP_DUP, OP_HASH160, self._hash160, OP_EQUALVERIFY, OP_CHECKSIG])
        amount_sat = coin_sat if signed_sat is None else signed_sat
        digest = SignatureHash(code, unsigned, 0, SIGHASH_ALL, amount_sat, SIGVERSION_WITNESS_V0)
        der = self._private.sign(digest, ec.ECDSA(Prehashed(SHA256())))
        r, s = decode_dss_signature(der)
        signature = encode_dss_signature(r, min(s, SECP256K1_ORDER - s)) + bytes([SIGHASH_ALL])
        witness = CTxWitness([CTxInWitness(CScriptWitness([signature, self._public]))])
        raw: str = CTransaction([txin], unsigned.vout, nVersion=2, witness=witness).serialize().hex()
        return raw


def build_block(
    template: Any,
    *,
    value_sat: int | None = None,
    height: int | None = None,
    prev: str | None = None,
    block_time: int | None = None,
    commitment: str | None = None,
    reserved: Sequence[bytes] = (bytes(32),),
    txs: Sequence[str] | None = None,
    root_xor: int = 0,
    hits: bool = True,
    script: bytes = MINER_SCRIPT,
) -> str:
    """The block that a template describes, or one that is wrong in a way; `commitment` "" leaves it out."""
    block_height = template["height"] if height is None else height
    raws = [tx["data"] for tx in template["transactions"]] if txs is None else txs
    parsed = [CTransaction.deserialize(bytes.fromhex(raw)) for raw in raws]
    if value_sat is None:
        value_sat = template["coinbasevalue"]
        if txs is not None:  # not the template's: their fees cannot be claimed
            value_sat -= sum(tx["fee"] for tx in template["transactions"])
    if txs is not None and commitment is None:
        tree = CBlock.build_merkle_tree_from_txids([bytes(32), *(tx.GetHash() for tx in parsed)])
        commitment = "6a24aa21a9ed" + Hash(tree[-1] + bytes(32)).hex()
    commitment = template["default_witness_commitment"] if commitment is None else commitment
    coinbase = CTransaction(
        [CTxIn(COutPoint(), CScript([block_height, OP_0]))],
        [
            CTxOut(value_sat, CScript(script)),
            *([CTxOut(0, CScript(bytes.fromhex(commitment)))] if commitment else []),
        ],
        witness=CTxWitness([CTxInWitness(CScriptWitness(reserved))]),
    )
    root = CBlock.build_merkle_tree_from_txids([coinbase.GetTxid(), *(tx.GetTxid() for tx in parsed)])[-1]
    head = struct.pack(
        "<i32s32sII",
        template["version"],
        bytes.fromhex(template["previousblockhash"] if prev is None else prev)[::-1],
        (int.from_bytes(root, "little") ^ root_xor).to_bytes(32, "little"),
        template["curtime"] if block_time is None else block_time,
        int(template["bits"], 16),
    )
    target = int(template["target"], 16)
    nonce = 0
    while (int.from_bytes(Hash(head + struct.pack("<I", nonce)), "little") <= target) != hits:
        nonce += 1
    count = len(parsed) + 1
    counted = bytes([count]) if count < 0xFD else b"\xfd" + struct.pack("<H", count)
    block = bytes(head + struct.pack("<I", nonce) + counted + coinbase.serialize())
    return block.hex() + "".join(raws)


def block_hash(block: str) -> str:
    """How the node calls a serialised block."""
    return bytes(Hash(bytes.fromhex(block)[:80]))[::-1].hex()


def txid(raw: str) -> str:
    """How the node calls a serialised transaction."""
    return bytes(CTransaction.deserialize(bytes.fromhex(raw)).GetTxid())[::-1].hex()


def respend(
    template_tx: Any,
    *,
    fee_sat: int = 1_000,
    stack: Sequence[bytes] = (OP_TRUE,),
    lock_time: int = 0,
    sequence: int = 0xFFFFFFFF,
    index: int | None = None,
) -> str:
    """A transaction that spends, to MINER_SCRIPT, the coin that a filler of a template spends."""
    filler = CTransaction.deserialize(bytes.fromhex(template_tx["data"]))
    prevout = filler.vin[0].prevout
    coin_sat = filler.vout[0].nValue + template_tx["fee"]
    tx = CMutableTransaction(
        [CTxIn(COutPoint(prevout.hash, prevout.n if index is None else index), nSequence=sequence)],
        [CTxOut(coin_sat - fee_sat, CScript(MINER_SCRIPT))],
        nLockTime=lock_time,
        nVersion=2,
        witness=CTxWitness([CTxInWitness(CScriptWitness(stack))]),
    )
    raw: str = tx.serialize().hex()
    return raw
