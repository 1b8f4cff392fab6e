"""What payouts ask of the bitcoinds: coins of a descriptor, the fate of a coin, blocks, and sending.

Invariants: answers are checked and typed here, amounts are integers from here on; a question goes to the
first node that is fit, unless another proves a better chain (`pool.chain.chain_lead`); what cannot be taken
back (final, failed) is asked of all fit nodes, and they must agree; a transaction is sent to every node. A
node that did not answer has not said no.

Must not know: batches.
"""

from collections.abc import Collection, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final

import msgspec
import structlog
import trio

from payouts.batches.psbt import Spend
from payouts.batches.transaction import (
    HEADER_BYTES,
    BadTransaction,
    Tx,
    decode_transaction,
    payers_in_block,
    sha256d,
    spender_in_block,
)
from pool.chain.chain_lead import leads
from pool.chain.node_set import LEAD_BLOCKS, PROOF_S, SILENT_S
from pool.chain.nodes import ChainStatus, Height, Node, check_chain, typed
from pool.chain.rpc import NodeError, NodeSpokeNonsense, NodeUnreachable, RpcError, one_line
from pool.chain.templates import HEIGHT_MAX, NTIME_MAX, HashHex

log = structlog.get_logger()

SAT_BTC: Final = Decimal("0.00000001")
MONEY_MAX_BTC: Final = 21_000_000
# scantxoutset walks over all coins there are: a minute or two, five on a slow disk.
SCAN_TIMEOUT_S: Final = 900.0
# About 300,000 coins at 420 bytes: whoever wants to fill that with dust pays a bitcoin for it.
SCAN_BYTES_MAX: Final = 128 * 1024 * 1024
# A year of blocks: a coin that was spent longer ago than that is looked for by a person.
SEARCH_BLOCKS_MAX: Final = 52_560
FEE_TARGET_BLOCKS: Final = 6

NO_TXID: Final = "00" * 32  # what a coinbase says that it spends

RPC_NOT_FOUND: Final = -5
RPC_ALREADY_IN_CHAIN: Final = -27
# What nodes say of a transaction that they have: with -27, or with -26 in older releases.
KNOWN_WORDS: Final = ("txn-already-known", "txn-already-in-mempool", "already in block chain")

# What nodes say of signatures that no node will ever take. All else may be otherwise tomorrow, or on another
# node: fees, conflicts, coins that it has not seen.
FOR_GOOD_WORDS: Final = (
    "script-verify-flag",  # mandatory-, non-mandatory-, since 28.0 also mempool- and block-
    "bad-witness-nonstandard",
    "bad-txns-nonstandard-inputs",
    "bad-txns-too-many-sigops",
    "scriptsig-not-pushonly",
)


class Answer(StrEnum):
    """What became of sending a transaction to one node."""

    SENT = "sent"
    KNOWN = "known already"
    REFUSED = "refused"
    UNKNOWN = "no answer"


class Sending(msgspec.Struct, frozen=True):
    """One node's answer, with its words."""

    node: str
    answer: Answer
    words: str = ""


class Coin(msgspec.Struct, frozen=True, kw_only=True):
    """An unspent output in the chain."""

    txid: str
    vout: int
    amount_sat: int
    script: bytes
    height: int
    confirmations: int
    coinbase: bool


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The transaction that spent a coin, and where it is."""

    tx: Tx
    block_hash: str
    height: int


_OutputNumber = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
_Time = Annotated[int, msgspec.Meta(ge=0, le=NTIME_MAX)]


class _Unspent(msgspec.Struct):
    txid: HashHex
    vout: _OutputNumber
    scriptPubKey: str
    amount: Decimal
    height: Height
    coinbase: bool = True  # a node that does not say: as if it had to mature


class _Scan(msgspec.Struct):
    success: bool
    height: Height
    unspents: list[_Unspent]


class _Header(msgspec.Struct):
    confirmations: Annotated[int, msgspec.Meta(ge=-1, le=HEIGHT_MAX)]  # -1: not in the best chain
    time: _Time


class _Script(msgspec.Struct):
    hex: str


class _Prevout(msgspec.Struct):
    height: Height
    value: Decimal
    scriptPubKey: _Script


class _Vin(msgspec.Struct):
    prevout: _Prevout | None = None


class _Transaction(msgspec.Struct):
    hex: str
    vin: list[_Vin]


class _Estimate(msgspec.Struct):
    feerate: Decimal | None = None


class _Accepted(msgspec.Struct):
    allowed: bool = False
    reject_reason: str = msgspec.field(default="", name="reject-reason")


class Ancestry(msgspec.Struct, frozen=True):
    """A transaction on the chain, the coins it spends, and the heights at which those were made; a coinbase
    spends none."""

    tx: Tx
    inputs: tuple[Spend, ...]
    heights: tuple[int, ...]


def is_for_good(refusal: str) -> bool:
    """Whether a transaction that is refused with these words can never be sent as it is signed."""
    return any(words in refusal for words in FOR_GOOD_WORDS)


class PayoutNodes:
    """The configured nodes, the best first."""

    def __init__(self, nodes: Sequence[Node], chain: str) -> None:
        self._nodes = tuple(nodes)
        self._chain = chain

    async def first(self) -> "ChainNode":
        """Of the nodes that are fit the first, or one with a better chain: it lags, and does not know what
        was spent. Raises NodeUnreachable with what each of them said."""
        fit: dict[Node, ChainStatus] = {}
        reasons: dict[Node, str] = {}

        async def ask(node: Node) -> None:
            try:
                fit[node] = await check_chain(node, self._chain)
            except NodeError as error:
                reasons[node] = str(error)
            else:
                others.cancel_scope.deadline = min(
                    others.cancel_scope.deadline, trio.current_time() + SILENT_S
                )

        async with trio.open_nursery() as others:
            for node in self._nodes:
                others.start_soon(ask, node)
        standing = [node for node in self._nodes if node in fit]
        if not standing:
            words = "; ".join(f"{node.name}: {reasons[node]}" for node in self._nodes if node in reasons)
            raise NodeUnreachable(f"no node can be asked ({words})")
        best = standing[0]
        for node in standing[1:]:
            if await self._leads(node, best, fit[node].height, fit[best].height):
                log.warning("payout_node_lags", node=best.name, behind=node.name, height=fit[best].height)
                best = node
        return ChainNode(best, fit[best].height)

    @staticmethod
    async def _leads(node: Node, best: Node, height: int, best_height: int) -> bool:
        """Whether the node has a better chain, and proves it."""
        if height <= best_height:
            return False
        try:
            with trio.fail_after(PROOF_S):
                return await leads(node, best, min(height - best_height, LEAD_BLOCKS), claimed=height)
        except (NodeError, trio.TooSlowError) as error:
            log.warning("payout_lead_not_proven", node=node.name, over=best.name, reason=str(error))
            return False

    async def confirmations(self, block_hash: str) -> tuple[int, int]:
        """The fewest and the most confirmations that the fit nodes give the block; 0: not in the chain."""
        found: list[int] = []

        async def ask(node: Node) -> None:
            try:
                await check_chain(node, self._chain)
                found.append(await ChainNode(node, 0).confirmations(block_hash))
            except NodeError as error:
                log.warning("payout_node_not_asked", node=node.name, reason=str(error))

        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(ask, node)
        if not found:
            raise NodeUnreachable("no node can be asked for a block's confirmations")
        return min(found), max(found)

    async def send(self, raw: bytes) -> tuple[Sending, ...]:
        """Give a transaction to every node; what each said, in their order."""
        answers: dict[str, Sending] = {}

        async def give(node: Node) -> None:
            answers[node.name] = await _send(node, raw)

        async with trio.open_nursery() as nursery:
            for node in self._nodes:
                nursery.start_soon(give, node)
        return tuple(answers[node.name] for node in self._nodes)


async def _send(node: Node, raw: bytes) -> Sending:
    try:
        await node.rpc.call("sendrawtransaction", raw.hex())
    except RpcError as error:
        if error.code == RPC_ALREADY_IN_CHAIN or any(words in error.message for words in KNOWN_WORDS):
            return Sending(node.name, Answer.KNOWN, error.message)
        return Sending(node.name, Answer.REFUSED, error.message)
    except NodeError as error:
        return Sending(node.name, Answer.UNKNOWN, str(error))
    return Sending(node.name, Answer.SENT)


class ChainNode:
    """Questions to one node. All raise NodeError."""

    def __init__(self, node: Node, height: int) -> None:
        self.name = node.name
        self.height = height  # of its tip when it was found fit
        self._rpc = node.rpc

    async def coins(self, scan_objects: Sequence[object]) -> tuple[Coin, ...]:
        """All unspent coins of the descriptors, in the chain."""
        answer = await self._rpc.call(
            "scantxoutset",
            "start",
            list(scan_objects),
            timeout_s=SCAN_TIMEOUT_S,
            answer_bytes_max=SCAN_BYTES_MAX,
        )
        scan = typed(answer, _Scan, "scantxoutset")
        if not scan.success:
            raise NodeSpokeNonsense("scantxoutset was stopped")
        return tuple(
            Coin(
                txid=it.txid.lower(),
                vout=it.vout,
                amount_sat=_sat(it.amount, "scantxoutset"),
                script=_bytes(it.scriptPubKey, "scantxoutset"),
                height=it.height,
                confirmations=scan.height - it.height + 1,
                coinbase=it.coinbase,
            )
            for it in scan.unspents
        )

    async def unspent(self, txid: str, vout: int) -> bool:
        """Whether the coin is unspent in the chain, whatever is in the memory pool."""
        answer = await self._rpc.call("gettxout", txid, vout, False)
        return answer is not None and bool(typed(answer, dict[str, object], "gettxout"))

    async def confirmations(self, block_hash: str) -> int:
        """How deep the block is; 0 where it is unknown or not in the active chain."""
        header = await self._header(block_hash)
        return 0 if header is None else max(header.confirmations, 0)

    async def block_header(self, height: int) -> bytes:
        """The 80 bytes of the header at a height of the active chain."""
        block_hash = await self.block_hash(height)
        header = _bytes(await self._rpc.call("getblockheader", block_hash, False), "getblockheader")
        if len(header) != HEADER_BYTES or sha256d(header)[::-1].hex() != block_hash:
            raise NodeSpokeNonsense(f"getblockheader gave another block than {block_hash}")
        return header

    async def block_time_s(self, height: int) -> int:
        """What the block at a height says of its time."""
        header = await self._header(await self.block_hash(height))
        if header is None:
            raise NodeSpokeNonsense(f"the node has no block at height {height}")
        return header.time

    async def spender(self, txid: str, vout: int, from_height: int) -> Spent | None:
        """Who spent the coin, in the blocks from the tip down to a height."""
        lowest = max(from_height, 1, self.height - SEARCH_BLOCKS_MAX)
        for height in range(self.height, lowest - 1, -1):
            block_hash = await self.block_hash(height)
            raw = _bytes(await self._rpc.call("getblock", block_hash, 0), "getblock")
            try:
                tx = await trio.to_thread.run_sync(spender_in_block, raw, txid, vout)
            except BadTransaction as error:
                raise NodeSpokeNonsense(f"getblock {block_hash}: {error}") from None
            if tx is not None:
                return Spent(tx=tx, block_hash=block_hash, height=height)
        return None

    async def payers(self, scripts: Collection[bytes], since_s: int) -> tuple[tuple[Tx, int], ...]:
        """Who paid any of the scripts, and at which height, in the blocks from the tip down to a moment."""
        found: list[tuple[Tx, int]] = []
        for height in range(self.height, max(0, self.height - SEARCH_BLOCKS_MAX), -1):
            if await self.block_time_s(height) < since_s:
                break
            _, payers = await self.payers_at(height, scripts)
            found += [(tx, height) for tx in payers]
        return tuple(found)

    async def payers_at(self, height: int, scripts: Collection[bytes]) -> tuple[str, tuple[Tx, ...]]:
        """The block at a height of the active chain, and who paid any of the scripts in it."""
        block_hash = await self.block_hash(height)
        raw = _bytes(await self._rpc.call("getblock", block_hash, 0), "getblock")
        try:
            return block_hash, await trio.to_thread.run_sync(payers_in_block, raw, scripts)
        except BadTransaction as error:
            raise NodeSpokeNonsense(f"getblock {block_hash}: {error}") from None

    async def transaction(self, txid: str, height: int) -> Tx:
        """A transaction of the block at a height."""
        block_hash = await self.block_hash(height)
        return _tx(await self._rpc.call("getrawtransaction", txid, 0, block_hash), txid)

    async def ancestry(self, txid: str, height: int) -> Ancestry:
        """A transaction of the block at a height, with what it spends."""
        block_hash = await self.block_hash(height)
        answer = await self._rpc.call("getrawtransaction", txid, 2, block_hash)
        found = typed(answer, _Transaction, "getrawtransaction")
        tx = _tx(found.hex, txid)
        if tx.inputs[0].txid == NO_TXID:
            return Ancestry(tx, (), ())
        if len(found.vin) != len(tx.inputs) or any(it.prevout is None for it in found.vin):
            raise NodeSpokeNonsense(
                "getrawtransaction says nothing of the coins that are spent: Bitcoin Core does from 25.0 on"
            )
        prevouts = [it.prevout for it in found.vin if it.prevout is not None]
        inputs = tuple(
            Spend(
                txid=it.txid,
                vout=it.vout,
                amount_sat=_sat(prevout.value, "getrawtransaction"),
                script=_bytes(prevout.scriptPubKey.hex, "getrawtransaction"),
            )
            for it, prevout in zip(tx.inputs, prevouts, strict=True)
        )
        return Ancestry(tx, inputs, tuple(it.height for it in prevouts))

    async def fee_rate_sat_kvb(self) -> int | None:
        """What a transaction pays to be in the chain in about an hour; None: the node cannot tell."""
        answer = await self._rpc.call("estimatesmartfee", FEE_TARGET_BLOCKS)
        rate = typed(answer, _Estimate, "estimatesmartfee").feerate
        return None if rate is None else _sat(rate, "estimatesmartfee")

    async def refusal(self, raw: bytes) -> str | None:
        """Why the node would not take a transaction; None: it would, or has it already."""
        answer = await self._rpc.call("testmempoolaccept", [raw.hex()])
        (verdict,) = typed(answer, tuple[_Accepted], "testmempoolaccept")
        if verdict.allowed or any(words in verdict.reject_reason for words in KNOWN_WORDS):
            return None
        return one_line(verdict.reject_reason) or "the node does not say why"

    async def _header(self, block_hash: str) -> _Header | None:
        try:
            answer = await self._rpc.call("getblockheader", block_hash)
        except RpcError as error:
            if error.code == RPC_NOT_FOUND:
                return None
            raise
        return typed(answer, _Header, "getblockheader")

    async def block_hash(self, height: int) -> str:
        """Of the block at a height of the active chain."""
        return typed(await self._rpc.call("getblockhash", height), HashHex, "getblockhash").lower()


def _tx(answer: object, txid: str) -> Tx:
    """A transaction that is the one that was asked for."""
    try:
        tx = decode_transaction(_bytes(answer, "getrawtransaction"))
    except BadTransaction as error:
        raise NodeSpokeNonsense(f"getrawtransaction: {error}") from None
    if tx.txid != txid:
        raise NodeSpokeNonsense(f"getrawtransaction gave {tx.txid} for {txid}")
    return tx


def _bytes(answer: object, method: str) -> bytes:
    try:
        return bytes.fromhex(typed(answer, str, method))
    except ValueError:
        raise NodeSpokeNonsense(f"{method} gave no hex") from None


def _sat(btc: Decimal, method: str) -> int:
    """Exactly, or not at all: nobody rounds what is paid."""
    if not btc.is_finite() or not 0 <= btc <= MONEY_MAX_BTC:
        raise NodeSpokeNonsense(f"{method} gave an amount that is none")
    whole = btc.quantize(SAT_BTC)
    if whole != btc:
        raise NodeSpokeNonsense(f"{method} gave an amount with a part of a satoshi")
    return int(whole / SAT_BTC)
