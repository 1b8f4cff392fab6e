"""What buyers pay to their orders' addresses, as the chain has it.

Every block that is deep enough is looked through once, in its order, for outputs to any of the addresses;
what it pays and how far we are is one transaction. A block that all nodes which answer give up has its
deposits booked back, and what replaced it is looked through again.

A coinbase is not counted: it may not be spent for a hundred blocks. Nor is what is below dust.

Invariants: nothing is booked that a node which answers has less deep than the settings say; a pass may be cut
off anywhere and done again. Must not know: what the payments are for.
"""

from typing import Final

import bdkpython as bdk
import structlog
import trio
from sqlalchemy.exc import SQLAlchemyError

from payouts.batches.batch import WATCH_CONFIRMATIONS
from payouts.batches.transaction import Tx
from payouts.ledger import LedgerError
from payouts.sales.deposits import (
    Deposit,
    Seen,
    first_given_s,
    note_seen,
    recent,
    scripts,
    seen,
    take_back,
)
from payouts.sales.doubles import doubles
from pool.chain.rpc import NodeError
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import NO_TXID, SEARCH_BLOCKS_MAX, ChainNode, PayoutNodes
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import NETWORKS, BadWallet, PayoutWallet, parse_descriptor

log = structlog.get_logger()

PASS_EVERY_S: Final = 30.0  # blocks take ten minutes
BLOCKS_AT_ONCE: Final = 144  # a day; what is behind that comes in the next pass
# A block may say that it is two hours younger, or older, than it is (Bitcoin Core, MAX_FUTURE_BLOCK_TIME).
BLOCK_TIME_OFF_S: Final = 7_200
TROUBLE: Final = (NodeError, SQLAlchemyError, LedgerError)


class DepositAddresses:
    """Of a descriptor, by number. Raises BadWallet for one that cannot be it: it is not the payout wallet's,
    whose coins are tenants'."""

    def __init__(self, descriptor: str, network: str, wallet: PayoutWallet) -> None:
        name = "deposit_descriptor"
        self._network = NETWORKS[network]
        self._descriptor = parse_descriptor(descriptor, name, network)
        if self._descriptor.is_multipath() or not self._descriptor.has_wildcard():
            raise BadWallet(f"payouts.{name}: it has to end in a wildcard: /*")
        if wallet.is_own(self.derive(0)[1]):
            raise BadWallet(f"payouts.{name}: it is of the payout wallet, and has to be of another")

    def derive(self, position: int) -> tuple[str, bytes]:
        """Address and script."""
        address: bdk.Address = self._descriptor.derive_address(position, self._network)
        return str(address), bytes(address.script_pubkey().to_bytes())


def addresses_of(settings: PayoutSettings, network: str, wallet: PayoutWallet) -> DepositAddresses:
    """Raises BadWallet."""
    if settings.deposit_descriptor is None:
        raise BadWallet("payouts.deposit_descriptor: missing, and an order's address is one of it")
    return DepositAddresses(settings.deposit_descriptor, network, wallet)


class DepositWatch:
    """`run` for ever, `survey` once."""

    def __init__(self, books: PayoutBooks, nodes: PayoutNodes, settings: PayoutSettings) -> None:
        self._books, self._nodes = books, nodes
        self._confirmations = settings.deposit_confirmations

    async def run(self) -> None:
        """A pass every PASS_EVERY_S until cancelled. What is in the way is logged once, and its end."""
        trouble: Exception | None = None
        while True:
            before, trouble = trouble, None
            try:
                await self.survey()
            except TROUBLE as error:
                trouble = error
                if type(before) is not type(error):
                    log.error("deposits_not_followed", reason=str(error))
            if before is not None and trouble is None:
                log.info("deposits_followed_again")
            await trio.sleep(PASS_EVERY_S)

    async def survey(self) -> None:
        """One pass. Raises NodeError."""
        order_of = await self._books.read(scripts)
        if not order_of:
            return
        node = await self._nodes.first()
        at = await self._books.read(seen)
        if at is not None and at.height > node.height:
            return  # it is behind, and knows nothing of what we saw: nothing is taken back by its word either
        await self._take_back(node)
        if at is None:
            at = await self._begin(node)
            await self._books.write(note_seen, at, (), self._books.now_s())
        elif await node.block_hash(at.height) != at.block_hash:
            log.warning("deposit_blocks_reorganised", height=at.height)
            height = max(at.height - WATCH_CONFIRMATIONS, 0)
            at = Seen(height, await node.block_hash(height))
        await self._look_through(node, at, order_of)

    async def _take_back(self, node: ChainNode) -> None:
        for number, txid, block_hash in await self._books.read(recent, node.height - WATCH_CONFIRMATIONS):
            _, most = await self._nodes.confirmations(block_hash)
            if most == 0 and await self._books.write(take_back, number, self._books.now_s()):
                log.warning("deposit_reorganised", txid=txid, block=block_hash)

    async def _begin(self, node: ChainNode) -> Seen:
        """The newest block of before the first address was given."""
        given_s = await self._books.read(first_given_s) or 0
        height = node.height
        lowest = max(height - SEARCH_BLOCKS_MAX, 0)
        while height > lowest and await node.block_time_s(height) >= given_s - BLOCK_TIME_OFF_S:
            height -= 1
        return Seen(height, await node.block_hash(height))

    async def _look_through(self, node: ChainNode, at: Seen, order_of: dict[bytes, int]) -> None:
        deep = node.height - self._confirmations + 1
        for height in range(at.height + 1, min(deep, at.height + BLOCKS_AT_ONCE) + 1):
            block_hash, txs = await node.payers_at(height, order_of)
            found = _deposits(txs, order_of, block_hash, height)
            if found:
                fewest, _ = await self._nodes.confirmations(block_hash)
                if fewest < self._confirmations:
                    return  # a node does not have it as deep yet
            last = height in (deep, at.height + BLOCKS_AT_ONCE)
            if found or last:
                here = Seen(height, block_hash)
                if await self._books.write(note_seen, here, found, self._books.now_s()):
                    await self._tell(found)

    async def _tell(self, found: tuple[Deposit, ...]) -> None:
        for it in found:
            log.info("deposit_booked", order_id=it.order_id, txid=it.txid, sat=it.amount_sat)
        for order_id in sorted({it.order_id for it in found}):
            for double in await self._books.read(doubles, order_id):
                log.error(
                    "deposit_said_by_persons_too", order_id=order_id, txid=double.txid, entry=double.entry
                )


def _deposits(
    txs: tuple[Tx, ...], order_of: dict[bytes, int], block_hash: str, height: int
) -> tuple[Deposit, ...]:
    return tuple(
        Deposit(
            order_id=order_of[output.script],
            txid=tx.txid,
            vout=vout,
            amount_sat=output.amount_sat,
            block_hash=block_hash,
            height=height,
        )
        for tx in txs
        if tx.inputs[0].txid != NO_TXID
        for vout, output in enumerate(tx.outputs)
        if output.script in order_of
    )
