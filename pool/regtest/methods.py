"""The embedded node's RPC methods, with the shapes and error codes of bitcoind's.

Where this node differs from a bitcoind:
* preciousblock knows its block or says it does not, but changes nothing: the kernel has no such call.
* generatetoaddress mines the memory pool, without the transactions that templates are filled with.
* getblocktemplate shows a new transaction at once, and does not validate proposals.

Must not know: HTTP, threads.
"""

import struct
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
from bitcoin.core import CBlock

from pool.chain.addresses import BadAddress, script_for
from pool.regtest.chain import Header
from pool.regtest.jsonrpc import Busy, RpcCode, RpcError
from pool.regtest.mempool import TxRefused
from pool.regtest.node import Node, TooManyLongPolls
from pool.regtest.template import (
    BLOCK_SIGOPS_MAX,
    BLOCK_VERSION,
    BLOCK_WEIGHT_MAX,
    Template,
    subsidy_sat,
)
from stratum.difficulty import difficulty_of_target, target_from_nbits

CHAIN = "regtest"
# The Bitcoin Core release whose RPC shapes are spoken here.
VERSION = 300000
SUBVERSION = "/Angara-regtest/"
PROTOCOL_VERSION = 70016
GENERATE_BLOCKS_MAX = 1_000  # a second or two of work
MAX_FEERATE_DEFAULT = Decimal("0.10")  # BTC per kvB, above which sendrawtransaction suspects a mistake
SAT_PER_BTC = 100_000_000
HASHRATE_BLOCKS = 120  # over which getmininginfo estimates
HASH_BYTES = 32
HASH_HEX_CHARS = 2 * HASH_BYTES


class TemplateRequest(msgspec.Struct, frozen=True):
    """What getblocktemplate reads of its argument."""

    mode: str = "template"
    rules: list[str] = []
    longpollid: str | None = None


class Methods:
    """RPC methods by their names; the arguments carry bitcoind's names, too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chain = node.chain

    def by_name(self) -> dict[str, Callable[..., Awaitable[object]]]:
        """What is served; nothing else of this class can be called from outside."""
        served = (
            self.generatetoaddress,
            self.getbestblockhash,
            self.getblock,
            self.getblockchaininfo,
            self.getblockcount,
            self.getblockhash,
            self.getblockheader,
            self.getblockstats,
            self.getblocktemplate,
            self.getconnectioncount,
            self.getdifficulty,
            self.getmininginfo,
            self.getnetworkhashps,
            self.getnetworkinfo,
            self.getpeerinfo,
            self.getrawmempool,
            self.preciousblock,
            self.sendrawtransaction,
            self.stop,
            self.submitblock,
        )
        return {method.__name__: method for method in served}

    async def getblocktemplate(self, template_request: TemplateRequest | None = None) -> object:
        """BIP22, BIP23 long polling, BIP145."""
        request = template_request or TemplateRequest()
        if request.mode == "proposal":
            raise RpcError(RpcCode.PARAMETER, "Invalid mode: the embedded node does not validate proposals")
        if request.mode != "template":
            raise RpcError(RpcCode.PARAMETER, "Invalid mode")
        if "segwit" not in request.rules:
            raise RpcError(
                RpcCode.PARAMETER,
                'getblocktemplate must be called with the segwit rule set (call with {"rules": ["segwit"]})',
            )
        if request.longpollid is not None:
            tip = _hash_internal(request.longpollid[:HASH_HEX_CHARS], "longpollid")
            updates = request.longpollid[HASH_HEX_CHARS:]
            try:
                await self._node.wait_for_news(tip, int(updates) if updates.isdecimal() else 0)
            except TooManyLongPolls as full:
                raise Busy from full
        template = await self._node.template()
        return _template_fields(template)

    async def submitblock(self, hexdata: str, dummy: Any = None) -> str | None:
        """BIP22: null when the block is the new tip, otherwise why it is not."""
        try:
            submission = await self._node.submit(hexdata)
        except ValueError:
            raise RpcError(RpcCode.DESERIALIZATION, "Block decode failed") from None
        if submission.fault is not None:
            raise RpcError(RpcCode.VERIFY, submission.fault)
        return submission.verdict

    async def preciousblock(self, blockhash: str) -> None:
        """Accepts every known block."""
        await self._known(blockhash)

    async def generatetoaddress(self, nblocks: int, address: str, maxtries: int = 0) -> list[str]:
        """Mine at once, as many blocks as are asked for."""
        if not 0 <= nblocks <= GENERATE_BLOCKS_MAX:
            raise RpcError(RpcCode.PARAMETER, f"nblocks must be 0 to {GENERATE_BLOCKS_MAX}")
        try:
            script = script_for(address, CHAIN)
        except BadAddress as bad:
            raise RpcError(RpcCode.NOT_FOUND, f"Error: Invalid address: {bad}") from None
        return [_hex(await self._node.generate(script)) for _ in range(nblocks)]

    async def sendrawtransaction(self, hexstring: str, maxfeerate: Decimal | None = None) -> str:
        """Put a transaction into the memory pool, or find it there."""
        try:
            raw = bytes.fromhex(hexstring)
        except ValueError:
            raise RpcError(RpcCode.DESERIALIZATION, "TX decode failed.") from None
        limit = MAX_FEERATE_DEFAULT if maxfeerate is None else _amount(maxfeerate)
        try:
            tx = await self._node.accept(raw, sat_per_kvb_max=int(limit * SAT_PER_BTC))
        except TxRefused as refused:
            raise RpcError(refused.refusal, str(refused)) from None
        return _hex(tx.txid)

    async def getrawmempool(self, verbose: bool = False) -> list[str]:
        """The txids in the memory pool, which does not hold what templates are filled with."""
        if verbose:
            raise RpcError(RpcCode.PARAMETER, "the embedded node lists txids only")
        return [_hex(tx.txid) for tx in await self._node.call(self._node.mempool.pending)]

    async def getbestblockhash(self) -> str:
        """The tip."""
        return _hex(self._chain.tip.hash_internal)

    async def getblockcount(self) -> int:
        """The height of the tip."""
        return self._chain.tip.height

    async def getblockhash(self, height: int) -> str:
        """The block at a height of the active chain."""
        found = await self._node.call(lambda: self._chain.hash_at(height))
        if found is None:
            raise RpcError(RpcCode.PARAMETER, "Block height out of range")
        return _hex(found)

    async def getblockheader(self, blockhash: str, verbose: bool = True) -> object:
        """A header: its fields, or its 80 bytes."""
        header = await self._known(blockhash)
        return _header_fields(header) if verbose else header.raw.hex()

    async def getblock(self, blockhash: str, verbosity: int | bool = 1) -> object:
        """A block: serialised (0), or its header's fields, sizes and txids (1)."""
        if verbosity not in (0, 1):
            raise RpcError(RpcCode.PARAMETER, "the embedded node has verbosity 0 and 1 only")
        header = await self._known(blockhash)
        raw = await self._node.call(lambda: self._chain.block(header.hash_internal))
        if raw is None:
            raise RpcError(RpcCode.MISC, "Block not available (not fully downloaded)")
        return await self._node.call(lambda: _block_fields(header, raw)) if verbosity else raw.hex()

    async def getblockstats(
        self, hash_or_height: int | str, stats: list[str] | None = None
    ) -> dict[str, object]:
        """Height, hash and fees of a block of the active chain: what a fee basis is made of."""
        blockhash = hash_or_height
        if isinstance(blockhash, int):
            blockhash = await self.getblockhash(blockhash)
        header = await self._known(blockhash)
        raw = await self._node.call(lambda: self._chain.block(header.hash_internal))
        if raw is None:
            raise RpcError(RpcCode.MISC, "Block not available (not fully downloaded)")
        paid_sat = sum(out.nValue for out in CBlock.deserialize(raw).vtx[0].vout)
        subsidy = subsidy_sat(header.height)
        fields = {
            "height": header.height,
            "blockhash": blockhash,
            "subsidy": subsidy,
            "totalfee": max(0, paid_sat - subsidy),
        }
        unknown = set(stats or ()) - set(fields)
        if unknown:
            raise RpcError(RpcCode.PARAMETER, f"Invalid selected statistic '{sorted(unknown)[0]}'")
        return {name: fields[name] for name in stats or fields}

    async def getblockchaininfo(self) -> dict[str, object]:
        """The state of the chain; never in initial download, there is nobody to download from."""
        tip = self._chain.tip
        return {
            "chain": CHAIN,
            "blocks": tip.height,
            "headers": tip.headers,
            "bestblockhash": _hex(tip.hash_internal),
            **_difficulty_fields(tip.nbits),
            "time": tip.time,
            "mediantime": tip.mediantime,
            "verificationprogress": 1,
            "initialblockdownload": False,
            "chainwork": _chainwork(tip.height, tip.nbits),
            "size_on_disk": await self._node.call(self._chain.size_on_disk_bytes),
            "pruned": False,
            "warnings": [],
        }

    async def getnetworkinfo(self) -> dict[str, object]:
        """A node without a network."""
        return {
            "version": VERSION,
            "subversion": SUBVERSION,
            "protocolversion": PROTOCOL_VERSION,
            "localservices": "0000000000000000",
            "localservicesnames": ["NETWORK", "WITNESS"],
            "localrelay": False,
            "timeoffset": 0,
            "networkactive": False,
            "connections": 0,
            "connections_in": 0,
            "connections_out": 0,
            "networks": [],
            "relayfee": 0,
            "incrementalfee": 0,
            "localaddresses": [],
            "warnings": [],
        }

    async def getconnectioncount(self) -> int:
        """Of other nodes."""
        return 0

    async def getpeerinfo(self) -> list[object]:
        """Other nodes."""
        return []

    async def getdifficulty(self) -> float:
        """Of the tip."""
        return float(difficulty_of_target(target_from_nbits(self._chain.tip.nbits)))

    async def getnetworkhashps(self, nblocks: int = HASHRATE_BLOCKS, height: int = -1) -> float:
        """What the last blocks say about the hashrate, 0 where they say nothing."""
        if nblocks < 1:
            raise RpcError(RpcCode.PARAMETER, "Invalid nblocks. Must be a positive number.")
        if height not in (-1, self._chain.tip.height):
            raise RpcError(RpcCode.PARAMETER, "the embedded node knows the hashrate at its tip only")
        times = await self._node.call(lambda: list(self._chain.times(nblocks + 1)))
        span_s = max(times) - min(times)
        work = _block_work(self._chain.tip.nbits) * (len(times) - 1)
        return work / span_s if span_s else 0

    async def getmininginfo(self) -> dict[str, object]:
        """The next block, and what the last ones say about the hashrate."""
        tip = self._chain.tip
        return {
            "blocks": tip.height,
            **_difficulty_fields(tip.nbits),
            "networkhashps": await self.getnetworkhashps(),
            "pooledtx": len(self._node.mempool),
            "blockmintxfee": 0,
            "chain": CHAIN,
            "next": {"height": tip.height + 1, **_difficulty_fields(tip.nbits)},
            "warnings": [],
        }

    async def stop(self) -> str:
        """The server stops once this reply is sent."""
        return "Bitcoin Core stopping"

    async def _known(self, blockhash: str) -> Header:
        wanted = _hash_internal(blockhash, "blockhash")
        header = await self._node.call(lambda: self._chain.header(wanted))
        if header is None:
            raise RpcError(RpcCode.NOT_FOUND, "Block not found")
        return header


def _template_fields(template: Template) -> dict[str, object]:
    return {
        "capabilities": [],
        "version": BLOCK_VERSION,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": {},
        "vbrequired": 0,
        "previousblockhash": _hex(template.tip.hash_internal),
        "transactions": msgspec.Raw(template.txs_json),
        "coinbaseaux": {},
        "coinbasevalue": template.coinbase_sat,
        "longpollid": f"{_hex(template.tip.hash_internal)}{template.updates}",
        "target": f"{target_from_nbits(template.nbits):064x}",
        "mintime": template.time_min,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": BLOCK_SIGOPS_MAX,
        "sizelimit": BLOCK_WEIGHT_MAX,
        "weightlimit": BLOCK_WEIGHT_MAX,
        "curtime": max(template.time_min, int(time.time())),
        "bits": f"{template.nbits:08x}",
        "height": template.height,
        "default_witness_commitment": template.commitment_script.hex(),
    }


def _header_fields(header: Header) -> dict[str, object]:
    version, previous, root, block_time, nbits, nonce = struct.unpack("<i32s32sIII", header.raw)
    fields: dict[str, object] = {
        "hash": _hex(header.hash_internal),
        "confirmations": header.confirmations,
        "height": header.height,
        "version": version,
        "versionHex": f"{version & 0xFFFFFFFF:08x}",
        "merkleroot": _hex(root),
        "time": block_time,
        "mediantime": header.mediantime,
        "nonce": nonce,
        **_difficulty_fields(nbits),
        "chainwork": _chainwork(header.height, nbits),
        "nTx": header.tx_count,
    }
    if header.height:
        fields["previousblockhash"] = _hex(previous)
    if header.next_internal is not None:
        fields["nextblockhash"] = _hex(header.next_internal)
    return fields


def _block_fields(header: Header, raw: bytes) -> dict[str, object]:
    block = CBlock.deserialize(raw)
    stripped_bytes = len(block.serialize({"include_witness": False}))
    return {
        **_header_fields(header),
        "strippedsize": stripped_bytes,
        "size": len(raw),
        "weight": 3 * stripped_bytes + len(raw),
        "tx": [_hex(txid) for txid in block.vMerkleTree[: len(block.vtx)]],  # its leaves
    }


def _difficulty_fields(nbits: int) -> dict[str, object]:
    target = target_from_nbits(nbits)
    return {
        "bits": f"{nbits:08x}",
        "target": f"{target:064x}",
        "difficulty": float(difficulty_of_target(target)),
    }


def _block_work(nbits: int) -> int:
    return (1 << 256) // (target_from_nbits(nbits) + 1)


def _chainwork(height: int, nbits: int) -> str:
    """Regtest never retargets: every block, the first one too, is the same work."""
    return f"{(height + 1) * _block_work(nbits):064x}"


def _hex(hash_internal: bytes) -> str:
    return hash_internal[::-1].hex()


def _hash_internal(text: str, name: str) -> bytes:
    if len(text) != HASH_HEX_CHARS:
        raise RpcError(RpcCode.PARAMETER, f"{name} must be of length {HASH_HEX_CHARS} (not {len(text)})")
    try:
        found = bytes.fromhex(text)[::-1]
    except ValueError:
        found = b""
    if len(found) != HASH_BYTES:
        raise RpcError(RpcCode.PARAMETER, f"{name} must be hexadecimal string")
    return found


def _amount(btc: Decimal) -> Decimal:
    if not btc.is_finite() or not 0 <= btc <= 21_000_000:
        raise RpcError(RpcCode.TYPE, "Amount out of range")
    return btc
