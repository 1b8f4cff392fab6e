"""The embedded node's memory pool: transactions that the next block may hold, in order of arrival.

Invariants:
* Every transaction in here is valid in the next block after those before it: its coins exist (in the
  chain, or as outputs of an earlier one in here), are mature and are spent once; its lock times have
  passed; its scripts verify by Bitcoin Core's own interpreter.
* A parent stands before its children.
* A transaction that says so (BIP125) is replaced by one that spends a coin of its and pays more; what was
  built on it goes with it.
* `updates` grows with every change: templates and long polls are told apart by it.

Standardness, dust and feerate ordering are not this node's business: consensus is.
Must not know: templates, JSON-RPC (but the error codes of sendrawtransaction, which name the refusals).
"""

from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec
from bitcoin.core import CheckTransaction, CheckTransactionError, CTransaction, MoneyRange
from bitcoin.core.script import (
    OP_1,
    OP_16,
    OP_CHECKMULTISIG,
    OP_CHECKMULTISIGVERIFY,
    OP_CHECKSIG,
    OP_CHECKSIGVERIFY,
    CScript,
    CScriptInvalidError,
)
from bitcoin.core.serialize import SerializationError

from pool.regtest.chain import Chain, Coin, outpoint, sha256d

TX_WEIGHT_MAX = 400_000  # Bitcoin Core relays nothing heavier
# Four full blocks of transactions, or many small ones: what a test or a demo may pile up.
POOL_WEIGHT_MAX = 16_000_000
POOL_TXS_MAX = 20_000
COINBASE_MATURITY = 100
MULTISIG_KEYS_MAX = 20  # what a multisig counts for where the script does not say
WITNESS_SCALE = 4
LOCKTIME_IS_TIME = 500_000_000  # BIP65: from here a lock time is Unix seconds, not a height
SEQUENCE_FINAL = 0xFFFFFFFF
SEQUENCE_REPLACEABLE_MAX = 0xFFFFFFFD  # BIP125
SEQUENCE_DISABLED = 1 << 31  # BIP68
SEQUENCE_IS_TIME = 1 << 22
SEQUENCE_MASK = 0xFFFF
SEQUENCE_TIME_SHIFT = 9  # units of 512 s
P2SH_BYTES = 23
REPLACED_MAX = 100  # transactions that one may drive out (BIP125, rule 5)
REPLACE_SAT_PER_KVB = 1_000  # what it pays for its own relay on top of theirs (rule 4)


class Refusal(IntEnum):
    """Why a transaction is refused: bitcoind's error codes."""

    DECODE = -22
    ERROR = -25
    REJECTED = -26
    KNOWN = -27


class TxRefused(Exception):
    """A transaction that the next block could not hold, or that is not one."""

    def __init__(self, refusal: Refusal, reason: str) -> None:
        super().__init__(reason)
        self.refusal = refusal


class PendingTx(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction that the next block may hold."""

    raw: bytes
    txid: bytes
    wtxid: bytes
    fee_sat: int
    weight: int
    sigops: int  # in units of block sigop cost
    spends: tuple[bytes, ...]  # outpoints


class Mempool:
    """The pending transactions of one chain, which stays the judge of scripts and coins."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._txs: dict[bytes, tuple[PendingTx, Any]] = {}  # with what it was parsed to
        self._created: dict[bytes, Coin] = {}
        self._weight = 0
        self.spent: dict[bytes, bytes] = {}  # outpoint: txid of the one that spends it
        self.updates = 0

    def __contains__(self, txid: bytes) -> bool:
        return txid in self._txs

    def __len__(self) -> int:
        return len(self._txs)

    def pending(self) -> list[PendingTx]:
        """Everything, parents before children."""
        return [tx for tx, _ in self._txs.values()]

    def get(self, txid: bytes) -> PendingTx | None:
        """A transaction in here."""
        found = self._txs.get(txid)
        return None if found is None else found[0]

    def coin(self, key: bytes) -> Coin | None:
        """An output that the chain, or a transaction in here, leaves unspent, and nothing in here spends."""
        if key in self.spent:
            return None
        return self._chain.coins.get(key) or self._created.get(key)

    def replaceable(self, txid: bytes) -> bool:
        """Whether a transaction in here says that it may be replaced."""
        _, parsed = self._txs[txid]
        return any(txin.nSequence <= SEQUENCE_REPLACEABLE_MAX for txin in parsed.vin)

    def accept(self, raw: bytes, *, sat_per_kvb_max: int = 0) -> PendingTx:
        """Take a transaction in, or find it here already. 0: pay as much as you like. Raises TxRefused."""
        txid, parsed = self._decode(raw)
        if txid in self._txs:
            return self._txs[txid][0]
        pending, replaced = self._check(raw, txid, parsed, sat_per_kvb_max)
        self._remove(replaced)
        self._add(pending, parsed)
        return pending

    def check(self, raw: bytes, *, sat_per_kvb_max: int = 0) -> PendingTx:
        """What `accept` would take in. Raises TxRefused, also for what is in here already."""
        txid, parsed = self._decode(raw)
        if txid in self._txs:
            raise TxRefused(Refusal.KNOWN, "txn-already-in-mempool")
        return self._check(raw, txid, parsed, sat_per_kvb_max)[0]

    def _decode(self, raw: bytes) -> tuple[bytes, Any]:
        try:
            return self._chain.txid(raw), CTransaction.deserialize(raw)
        except (ValueError, SerializationError):
            reason = "TX decode failed. Make sure the tx has at least one input."
            raise TxRefused(Refusal.DECODE, reason) from None

    def _check(
        self, raw: bytes, txid: bytes, parsed: Any, sat_per_kvb_max: int
    ) -> tuple[PendingTx, set[bytes]]:
        """The transaction measured, and the txids of those that it replaces. Raises TxRefused."""
        try:
            CheckTransaction(parsed)
        except CheckTransactionError as broken:
            raise TxRefused(Refusal.REJECTED, f"bad-txns, {broken}") from None
        if parsed.is_coinbase():
            raise TxRefused(Refusal.REJECTED, "coinbase")
        coins = self._coins(parsed, txid)
        pending = _measure(raw, txid, parsed, coins)
        self._check_limits(pending)
        if sat_per_kvb_max and pending.fee_sat * WITNESS_SCALE * 1000 > sat_per_kvb_max * pending.weight:
            raise TxRefused(Refusal.ERROR, "Fee exceeds maximum configured by user (e.g. maxfeerate)")
        replaced = self._replaced(pending)
        if not self._chain.scripts_verify(raw, coins):
            raise TxRefused(Refusal.REJECTED, "mandatory-script-verify-flag-failed")
        return pending, replaced

    def after_block(self, returned: Iterable[bytes]) -> None:
        """Keep what the new tip still allows, and take back what a reorganisation gave back."""
        kept = list(self._txs.values())
        self._txs.clear()
        self._created.clear()
        self.spent.clear()
        self._weight = 0
        for raw in returned:
            try:
                self.accept(raw)
            except TxRefused:
                continue  # it is in the new chain, or the new chain contradicts it
        for pending, parsed in kept:
            if any(key in self.spent for key in pending.spends):
                continue  # the reorganisation gave back another that spends the same
            try:
                self._coins(parsed, pending.txid)
                self._check_limits(pending)
            except TxRefused:
                continue
            self._add(pending, parsed)
        self.updates += 1

    def _add(self, pending: PendingTx, parsed: Any) -> None:
        self._txs[pending.txid] = (pending, parsed)
        self._weight += pending.weight
        for spends in pending.spends:
            self.spent[spends] = pending.txid
        for index, output in enumerate(parsed.vout):
            key = outpoint(pending.txid, index)
            height = self._chain.tip.height + 1
            self._created[key] = Coin(output.nValue, bytes(output.scriptPubKey), height, coinbase=False)
        self.updates += 1

    def _replaced(self, pending: PendingTx) -> set[bytes]:
        """Whom a transaction drives out: those that spend the same, and what is built on them."""
        direct = {self.spent[key] for key in pending.spends if key in self.spent}
        replaced = set(direct)
        for tx, _ in self._txs.values():  # parents before children
            if any(key[:32] in replaced for key in tx.spends):
                replaced.add(tx.txid)
        if not replaced:
            return replaced
        if len(replaced) > REPLACED_MAX:
            raise TxRefused(Refusal.REJECTED, "too many potential replacements")
        if any(key[:32] in replaced for key in pending.spends):
            raise TxRefused(Refusal.REJECTED, "bad-txns-spends-conflicting-tx")
        theirs_sat = sum(self._txs[txid][0].fee_sat for txid in replaced)
        relay_sat = -(-pending.weight * REPLACE_SAT_PER_KVB // (WITNESS_SCALE * 1000))
        cheaper = any(
            pending.fee_sat * self._txs[txid][0].weight <= self._txs[txid][0].fee_sat * pending.weight
            for txid in direct
        )
        if cheaper or pending.fee_sat < theirs_sat + relay_sat:
            raise TxRefused(Refusal.REJECTED, "insufficient fee, rejecting replacement")
        return replaced

    def _remove(self, txids: set[bytes]) -> None:
        for txid in txids:
            tx, parsed = self._txs.pop(txid)
            self._weight -= tx.weight
            for key in tx.spends:
                del self.spent[key]
            for index in range(len(parsed.vout)):
                del self._created[outpoint(txid, index)]

    def _check_limits(self, pending: PendingTx) -> None:
        if pending.weight > TX_WEIGHT_MAX:
            raise TxRefused(Refusal.REJECTED, "tx-size")
        if len(self._txs) >= POOL_TXS_MAX or self._weight + pending.weight > POOL_WEIGHT_MAX:
            raise TxRefused(Refusal.REJECTED, "mempool full")

    def _coins(self, parsed: Any, txid: bytes) -> list[Coin]:
        """What a transaction spends, when it may be in the next block. Raises TxRefused."""
        if any(outpoint(txid, index) in self._chain.coins for index in range(len(parsed.vout))):
            raise TxRefused(Refusal.KNOWN, "Transaction outputs already in utxo set")
        height = self._chain.tip.height + 1
        if not self._final(parsed, height):
            raise TxRefused(Refusal.REJECTED, "non-final")
        coins = []
        for txin in parsed.vin:
            key = txin.prevout.serialize()
            if key in self.spent and not self.replaceable(self.spent[key]):
                raise TxRefused(Refusal.REJECTED, "txn-mempool-conflict")
            coin = self._chain.coins.get(key) or self._created.get(key)
            if coin is None:
                raise TxRefused(Refusal.ERROR, "bad-txns-inputs-missingorspent")
            if coin.coinbase and height - coin.height < COINBASE_MATURITY:
                raise TxRefused(Refusal.REJECTED, "bad-txns-premature-spend-of-coinbase")
            coins.append(coin)
        if not self._sequences_passed(parsed, coins, height):
            raise TxRefused(Refusal.REJECTED, "non-BIP68-final")
        paid_sat = sum(coin.amount_sat for coin in coins)
        if not MoneyRange(paid_sat):
            raise TxRefused(Refusal.REJECTED, "bad-txns-inputvalues-outofrange")
        if paid_sat < sum(output.nValue for output in parsed.vout):
            raise TxRefused(Refusal.REJECTED, "bad-txns-in-belowout")
        return coins

    def _final(self, parsed: Any, height: int) -> bool:
        """Whether the absolute lock time has passed (BIP113: by median time)."""
        now = height if parsed.nLockTime < LOCKTIME_IS_TIME else self._chain.tip.mediantime
        return parsed.nLockTime < now or all(txin.nSequence == SEQUENCE_FINAL for txin in parsed.vin)

    def _sequences_passed(self, parsed: Any, coins: list[Coin], height: int) -> bool:
        """Whether every relative lock time has passed (BIP68)."""
        if parsed.nVersion in (0, 1):  # as Core reads it: the version is unsigned, a negative one is large
            return True
        for txin, coin in zip(parsed.vin, coins, strict=True):
            locked = txin.nSequence & SEQUENCE_MASK
            if txin.nSequence & SEQUENCE_DISABLED:
                continue
            if txin.nSequence & SEQUENCE_IS_TIME:
                since = self._chain.median_time_at(max(0, coin.height - 1))
                if since + (locked << SEQUENCE_TIME_SHIFT) > self._chain.tip.mediantime:
                    return False
            elif coin.height + locked > height:
                return False
        return True


def _measure(raw: bytes, txid: bytes, parsed: Any, coins: list[Coin]) -> PendingTx:
    """Weight, fee and sigops of a transaction that spends `coins`."""
    stripped = CTransaction(parsed.vin, parsed.vout, parsed.nLockTime, parsed.nVersion).serialize()
    return PendingTx(
        raw=raw,
        txid=txid,
        wtxid=sha256d(raw),
        fee_sat=sum(coin.amount_sat for coin in coins) - sum(output.nValue for output in parsed.vout),
        weight=len(stripped) * (WITNESS_SCALE - 1) + len(raw),
        sigops=_sigop_cost(parsed, coins),
        spends=tuple(txin.prevout.serialize() for txin in parsed.vin),
    )


def _sigop_cost(parsed: Any, coins: list[Coin]) -> int:
    """What a transaction counts towards the 80,000 of a block (BIP141)."""
    scripts = [txin.scriptSig for txin in parsed.vin] + [output.scriptPubKey for output in parsed.vout]
    cost = WITNESS_SCALE * sum(_sigops(script, accurate=False) for script in scripts)
    witnesses = [entry.scriptWitness.stack for entry in parsed.wit.vtxinwit]
    for index, (txin, coin) in enumerate(zip(parsed.vin, coins, strict=True)):
        program = coin.script
        if len(program) == P2SH_BYTES and CScript(program).is_p2sh():
            program = _last_push(txin.scriptSig)
            cost += WITNESS_SCALE * _sigops(program, accurate=True)
        if program[:2] == b"\x00\x14" and len(program) == 22:
            cost += 1
        elif program[:2] == b"\x00\x20" and len(program) == 34 and index < len(witnesses):
            stack = witnesses[index]
            cost += _sigops(stack[-1], accurate=True) if stack else 0
    return cost


def _sigops(script: bytes, *, accurate: bool) -> int:
    count = before = 0
    try:
        for opcode, _, _ in CScript(script).raw_iter():
            if opcode in (OP_CHECKSIG, OP_CHECKSIGVERIFY):
                count += 1
            elif opcode in (OP_CHECKMULTISIG, OP_CHECKMULTISIGVERIFY):
                exact = accurate and OP_1 <= before <= OP_16
                count += before - int(OP_1) + 1 if exact else MULTISIG_KEYS_MAX
            before = opcode
    except CScriptInvalidError:
        pass  # a script that ends in the middle of a push counts as far as it can be read
    return count


def _last_push(script: bytes) -> bytes:
    try:
        pushes = [data for _, data, _ in CScript(script).raw_iter()]
    except CScriptInvalidError:
        return b""
    return (pushes[-1] or b"") if pushes else b""
