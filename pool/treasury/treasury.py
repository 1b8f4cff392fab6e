"""What it takes to pay out besides the books: the wallet of the settings, and nodes. A running pool has one
for as long as it runs, and lends it to whoever gives a command; without a pool a command has its own.

Invariant: nodes of its own, so that blocks never wait for a payout. Must not know: who asks for what.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from typing import TypeVar

import trio

from pool.chain.addresses import script_for
from pool.chain.nodes import Node, NodeConfig
from pool.treasury.books import PayoutBooks, Transactions
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.deposits import DepositAddresses, DepositWatch, addresses_of
from pool.treasury.follower import Follower
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet

_Result = TypeVar("_Result")


class Treasury:
    """Of one network. What is asked of the nodes is asked in the trio that it was made in."""

    def __init__(self, settings: PayoutSettings, network: str, nodes: Sequence[NodeConfig]) -> None:
        self._settings = settings
        self._network = network
        self._nodes = [Node(it) for it in nodes]

    @cached_property
    def _wallet(self) -> PayoutWallet:
        """Seconds for many addresses: in a worker thread. Raises BadWallet."""
        return PayoutWallet(self._settings, self._network)

    @cached_property
    def _deposits(self) -> DepositAddresses:
        return addresses_of(self._settings, self._network, self._wallet)

    @property
    def minimum_sat(self) -> int:
        """No tenant is paid less."""
        return self._settings.minimum_sat

    def script_of(self, address: str) -> bytes:
        """Of a tenant's address, which is none of the wallet's own. Blocks. Raises ValueError."""
        return self._wallet.script_of_others(partial(script_for, network=self._network))(address)

    def deposit_address(self, position: int) -> tuple[str, bytes]:
        """Where the buyer of an order pays, by a number, and its script. Blocks. Raises BadWallet."""
        return self._deposits.derive(position)

    async def work(self, books: PayoutBooks, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
        """What a paymaster on the books does. Raises BadWallet."""
        wallet = await trio.to_thread.run_sync(lambda: self._wallet)
        nodes = PayoutNodes(self._nodes, self._network)
        script_of = partial(script_for, network=self._network)
        return await job(Paymaster(books, nodes, wallet, self._settings, script_of))

    def lend(self, books: PayoutBooks, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
        """The same, in a worker thread of the trio that it was made in."""
        return trio.from_thread.run(self.work, books, job)

    async def follow(self, store: Transactions) -> None:
        """Look after what is under way, and what buyers pay, until cancelled."""
        wallet = await trio.to_thread.run_sync(lambda: self._wallet)
        books = PayoutBooks(store, lambda: int(time.time()))
        nodes = PayoutNodes(self._nodes, self._network)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Follower(books, nodes, wallet).run)
            nursery.start_soon(DepositWatch(books, nodes, self._settings).run)

    async def aclose(self) -> None:
        with trio.CancelScope(shield=True):
            for node in self._nodes:
                await node.aclose()
