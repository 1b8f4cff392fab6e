"""The embedded node's RPC methods about coins and transactions, with the shapes and errors of bitcoind's.

Where this node differs from a bitcoind:
* scantxoutset reads the descriptors that bdkpython reads, so no addr() and raw(), and answers at once.
* getrawtransaction has no index: it wants a block's hash, or looks into the memory pool.
* estimatesmartfee never knows, as a bitcoind that has seen no market.
* Scripts are told in hex, with an address where there is one, without disassembly, type or descriptor.

Must not know: HTTP, threads.
"""

import struct
from collections.abc import Awaitable, Callable
from functools import lru_cache, partial
from typing import Any

import bdkpython as bdk
import msgspec
from bitcoin.core import CBlock, CTransaction
from bitcoin.core.serialize import SerializationError

from pool.chain.addresses import BadAddress, script_for
from pool.regtest.chain import Coin, outpoint, sha256d
from pool.regtest.jsonrpc import RpcCode, RpcError
from pool.regtest.mempool import WITNESS_SCALE, Mempool, Refusal, TxRefused
from pool.regtest.methods import CHAIN, HASH_HEX_CHARS, SAT_PER_BTC
from pool.regtest.node import Node

RANGE_DEFAULT = 1_000  # bitcoind's, for a descriptor with a wildcard
RANGE_MAX = 1_000_000  # bitcoind's
SCANNED_MAX = 64  # descriptors whose scripts are remembered
FEE_TARGETS = range(1, 1009)
FEE_MODES = ("unset", "economical", "conservative")
P2SH_BEGIN = b"\xa9"  # OP_HASH160
P2TR_BYTES = 34  # of its script; a P2WSH has as many
TX_UNREADABLE = "TX decode failed. Make sure the tx has at least one input."
TXS_TESTED_MAX = 25  # bitcoind's


class ScanObject(msgspec.Struct, frozen=True):
    """One descriptor to be scanned for; range: the last index, or the first and the last."""

    desc: str
    range: int | tuple[int, int] = RANGE_DEFAULT


class CoinMethods:
    """RPC methods by their names; the arguments carry bitcoind's names, too."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._chain = node.chain

    def by_name(self) -> dict[str, Callable[..., Awaitable[object]]]:
        """What is served; nothing else of this class can be called from outside."""
        served = (
            self.decoderawtransaction,
            self.estimatesmartfee,
            self.getmempoolentry,
            self.getrawtransaction,
            self.gettxout,
            self.scantxoutset,
            self.testmempoolaccept,
            self.validateaddress,
        )
        return {method.__name__: method for method in served}

    async def scantxoutset(self, action: str, scanobjects: list[str | ScanObject] | None = None) -> object:
        """Every unspent coin of the chain that pays to the descriptors."""
        if action == "status":
            return None
        if action == "abort":
            return False
        if action != "start":
            raise RpcError(RpcCode.PARAMETER, f"Invalid action '{action}'")
        if scanobjects is None:
            raise RpcError(RpcCode.MISC, "scanobjects argument is required for the start action")
        wanted = [it if isinstance(it, ScanObject) else ScanObject(it) for it in scanobjects]
        return await self._node.call(lambda: self._scan(wanted))

    def _scan(self, wanted: list[ScanObject]) -> dict[str, object]:
        scripts: dict[bytes, str] = {}
        for it in wanted:
            first, last = (0, it.range) if isinstance(it.range, int) else it.range
            if not 0 <= first <= last < RANGE_MAX:
                raise RpcError(RpcCode.PARAMETER, "Range is too large, or ends before it begins")
            scripts |= dict.fromkeys(_scripts(it.desc, first, last), it.desc)
        tip = self._chain.tip
        unspents = []
        total_sat = 0
        for key, coin in self._chain.coins.items():
            if coin.script in scripts:
                total_sat += coin.amount_sat
                block_hash = self._chain.hash_at(coin.height) or b""
                unspents.append(
                    {
                        "txid": key[:32][::-1].hex(),
                        "vout": int.from_bytes(key[32:], "little"),
                        "scriptPubKey": coin.script.hex(),
                        "desc": scripts[coin.script],
                        "amount": _btc(coin.amount_sat),
                        "coinbase": coin.coinbase,
                        "height": coin.height,
                        "blockhash": block_hash[::-1].hex(),
                        "confirmations": tip.height - coin.height + 1,
                    }
                )
        return {
            "success": True,
            "txouts": len(self._chain.coins),
            "height": tip.height,
            "bestblock": tip.hash_internal[::-1].hex(),
            "unspents": unspents,
            "total_amount": _btc(total_sat),
        }

    async def gettxout(self, txid: str, n: int, include_mempool: bool = True) -> object:
        """An unspent output, null where it is spent or was never there."""
        key = outpoint(_txid_internal(txid), n)
        return await self._node.call(lambda: self._txout(key, include_mempool))

    def _txout(self, key: bytes, include_mempool: bool) -> object:
        mempool = self._node.mempool
        coin = mempool.coin(key) if include_mempool else self._chain.coins.get(key)
        if coin is None:
            return None
        tip = self._chain.tip
        return {
            "bestblock": tip.hash_internal[::-1].hex(),
            "confirmations": tip.height - coin.height + 1,  # 0 in the memory pool
            "value": _btc(coin.amount_sat),
            "scriptPubKey": _script_fields(coin.script),
            "coinbase": coin.coinbase,
        }

    async def testmempoolaccept(self, rawtxs: list[str]) -> list[object]:
        """What sendrawtransaction would say, one transaction at a time."""
        if not 1 <= len(rawtxs) <= TXS_TESTED_MAX:
            raise RpcError(
                RpcCode.PARAMETER, f"Array must contain between 1 and {TXS_TESTED_MAX} transactions."
            )
        mempool = self._node.mempool
        return [await self._node.call(partial(_tested, mempool, _raw(text))) for text in rawtxs]

    async def getrawtransaction(
        self, txid: str, verbose: int | bool = 0, blockhash: str | None = None
    ) -> object:
        """A transaction of the memory pool or of a block; with its fee and what it spends (2)."""
        wanted = _txid_internal(txid)
        if blockhash is None:
            pending = await self._node.call(lambda: self._node.mempool.get(wanted))
            if pending is None:
                raise RpcError(
                    RpcCode.NOT_FOUND,
                    "No such mempool transaction. Use -txindex or provide a block hash to enable "
                    "blockchain transaction queries. Use gettransaction for wallet transactions.",
                )
            return _transaction_fields(pending.raw) if verbose else pending.raw.hex()
        block_hash = _txid_internal(blockhash)
        return await self._node.call(lambda: self._in_block(wanted, block_hash, int(verbose)))

    def _in_block(self, wanted: bytes, block_hash: bytes, verbosity: int) -> object:
        raw_block = self._chain.block(block_hash)
        if raw_block is None:
            raise RpcError(RpcCode.NOT_FOUND, "Block hash not found")
        block = CBlock.deserialize(raw_block)
        for position, tx in enumerate(block.vtx):
            if tx.GetTxid() != wanted:
                continue
            raw: bytes = tx.serialize()
            if not verbosity:
                return raw.hex()
            fields = _transaction_fields(raw)
            header = self._chain.header(block_hash)
            fields["blockhash"] = block_hash[::-1].hex()
            fields["confirmations"] = max(0, header.confirmations) if header else 0
            if verbosity > 1 and position:
                coins = (self._chain.spent_coins(block_hash) or [])[position - 1]
                _add_prevouts(fields, coins, sum(output.nValue for output in tx.vout))
            return fields
        raise RpcError(RpcCode.NOT_FOUND, "No such transaction found in the provided block.")

    async def decoderawtransaction(self, hexstring: str, iswitness: bool | None = None) -> object:
        """What a serialised transaction says."""
        try:
            fields = _transaction_fields(_raw(hexstring))
        except (SerializationError, struct.error, ValueError):
            raise RpcError(RpcCode.DESERIALIZATION, TX_UNREADABLE) from None
        if not fields["vin"]:
            raise RpcError(RpcCode.DESERIALIZATION, TX_UNREADABLE)
        del fields["hex"]  # which is what was asked about
        return fields

    async def validateaddress(self, address: str) -> object:
        """Whether an address is one of this network, and of what kind."""
        try:
            script = script_for(address, CHAIN)
        except BadAddress as bad:
            return {"isvalid": False, "error_locations": [], "error": str(bad)}
        version = _witness_version(script)
        fields: dict[str, object] = {"isvalid": True, "address": address, "scriptPubKey": script.hex()}
        if version is None:
            return {**fields, "isscript": script[:1] == P2SH_BEGIN, "iswitness": False}
        if version == 0 or len(script) == P2TR_BYTES:
            fields["isscript"] = len(script) == P2TR_BYTES  # more than the hash of a key
        program = script[2:].hex()
        return {**fields, "iswitness": True, "witness_version": version, "witness_program": program}

    async def getmempoolentry(self, txid: str) -> object:
        """Size, fee and dependencies of a transaction in the memory pool."""
        wanted = _txid_internal(txid)
        return await self._node.call(lambda: _entry(self._node.mempool, wanted))

    async def estimatesmartfee(self, conf_target: int, estimate_mode: str = "economical") -> object:
        """There is no market to learn from."""
        if conf_target not in FEE_TARGETS:
            raise RpcError(RpcCode.PARAMETER, "Invalid conf_target, must be between 1 and 1008")
        if estimate_mode.lower() not in FEE_MODES:
            known = ", ".join(f'"{mode}"' for mode in FEE_MODES)
            raise RpcError(RpcCode.PARAMETER, f"Invalid estimate_mode parameter, must be one of: {known}")
        return {"errors": ["Insufficient data or no feerate found"], "blocks": 0}


@lru_cache(SCANNED_MAX)
def _scripts(descriptor: str, first: int, last: int) -> tuple[bytes, ...]:
    """What a descriptor pays to at the indexes from first to last."""
    try:
        parsed = bdk.Descriptor(descriptor, bdk.NetworkKind.TEST)
        addresses = [
            parsed.derive_address(index, bdk.Network.REGTEST)
            for index in (range(first, last + 1) if parsed.has_wildcard() else (0,))
        ]
    except bdk.DescriptorError as error:
        raise RpcError(RpcCode.NOT_FOUND, f"Invalid descriptor: {type(error).__name__}") from None
    return tuple(bytes(address.script_pubkey().to_bytes()) for address in addresses)


def _tested(mempool: Mempool, raw: bytes) -> dict[str, object]:
    try:
        pending = mempool.check(raw)
    except TxRefused as refused:
        if refused.refusal is Refusal.DECODE:
            raise RpcError(refused.refusal, str(refused)) from None
        known = refused.refusal is Refusal.KNOWN and "utxo set" in str(refused)
        reason = "txn-already-known" if known else str(refused)
        return {**_names(raw), "allowed": False, "reject-reason": reason}
    return {
        **_names(raw),
        "allowed": True,
        "vsize": _vsize(pending.weight),
        "fees": {"base": _btc(pending.fee_sat)},
    }


def _entry(mempool: Mempool, txid: bytes) -> dict[str, object]:
    tx = mempool.get(txid)
    if tx is None:
        raise RpcError(RpcCode.NOT_FOUND, "Transaction not in mempool")
    parents = {key[:32] for key in tx.spends if mempool.get(key[:32]) is not None}
    return {
        "vsize": _vsize(tx.weight),
        "weight": tx.weight,
        "wtxid": tx.wtxid[::-1].hex(),
        "fees": {"base": _btc(tx.fee_sat)},
        "depends": sorted(parent[::-1].hex() for parent in parents),
        "bip125-replaceable": mempool.replaceable(txid),
    }


def _names(raw: bytes) -> dict[str, object]:
    tx = CTransaction.deserialize(raw)
    return {"txid": tx.GetTxid()[::-1].hex(), "wtxid": sha256d(raw)[::-1].hex()}


def _transaction_fields(raw: bytes) -> dict[str, Any]:
    tx = CTransaction.deserialize(raw)
    stripped_bytes = len(CTransaction(tx.vin, tx.vout, tx.nLockTime, tx.nVersion).serialize())
    weight = stripped_bytes * (WITNESS_SCALE - 1) + len(raw)
    stacks = [[bytes(item) for item in it.scriptWitness.stack] for it in tx.wit.vtxinwit]
    return {
        "txid": tx.GetTxid()[::-1].hex(),
        "hash": sha256d(raw)[::-1].hex(),
        "version": tx.nVersion,
        "size": len(raw),
        "vsize": _vsize(weight),
        "weight": weight,
        "locktime": tx.nLockTime,
        "vin": [_input_fields(it, stacks[n] if n < len(stacks) else []) for n, it in enumerate(tx.vin)],
        "vout": [
            {"value": _btc(it.nValue), "n": n, "scriptPubKey": _script_fields(bytes(it.scriptPubKey))}
            for n, it in enumerate(tx.vout)
        ],
        "hex": raw.hex(),
    }


def _input_fields(txin: Any, witness: list[bytes]) -> dict[str, object]:
    fields: dict[str, object] = {}
    if txin.prevout.is_null():
        fields["coinbase"] = bytes(txin.scriptSig).hex()
    else:
        fields["txid"] = txin.prevout.hash[::-1].hex()
        fields["vout"] = txin.prevout.n
        fields["scriptSig"] = {"hex": bytes(txin.scriptSig).hex()}
    if witness:
        fields["txinwitness"] = [item.hex() for item in witness]
    fields["sequence"] = txin.nSequence
    return fields


def _add_prevouts(fields: dict[str, Any], coins: list[Coin], paid_sat: int) -> None:
    for txin, coin in zip(fields["vin"], coins, strict=True):
        txin["prevout"] = {
            "generated": coin.coinbase,
            "height": coin.height,
            "value": _btc(coin.amount_sat),
            "scriptPubKey": _script_fields(coin.script),
        }
    fields["fee"] = _btc(sum(coin.amount_sat for coin in coins) - paid_sat)


def _script_fields(script: bytes) -> dict[str, str]:
    try:
        address = bdk.Address.from_script(bdk.Script(script), bdk.Network.REGTEST)
    except bdk.FromScriptError:
        return {"hex": script.hex()}
    return {"hex": script.hex(), "address": str(address)}


def _witness_version(script: bytes) -> int | None:
    """Of a witness program (BIP141); None for another script."""
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == 0:
        return 0
    return script[0] - 0x50 if 0x51 <= script[0] <= 0x60 else None


def _vsize(weight: int) -> int:
    return -(-weight // WITNESS_SCALE)


def _btc(sat: int) -> msgspec.Raw:
    """A number with eight decimals, as bitcoind writes amounts."""
    return msgspec.Raw(f"{sat // SAT_PER_BTC}.{sat % SAT_PER_BTC:08d}".encode())


def _raw(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise RpcError(RpcCode.DESERIALIZATION, "TX decode failed") from None


def _txid_internal(text: str) -> bytes:
    if len(text) != HASH_HEX_CHARS:
        raise RpcError(RpcCode.PARAMETER, f"a hash must be of length {HASH_HEX_CHARS} (not {len(text)})")
    try:
        return bytes.fromhex(text)[::-1]
    except ValueError:
        raise RpcError(RpcCode.PARAMETER, "a hash must be hexadecimal string") from None
