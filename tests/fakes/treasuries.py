"""What paying out takes, without a chain: nodes that have nothing against a payout."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, TypeVar, cast

import trio

from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import ChainNode, PayoutNodes, Sending
from pool.treasury.deposits import DepositAddresses
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet
from tests.stages.payouts import ADDRESSES, Signer, private_descriptors, script_of

_Result = TypeVar("_Result")


class NodesThatAgree:
    """None of them is asked anything: of these books no coin is spent yet."""

    async def first(self) -> Any:
        return None


class NodeThatIsBehind:
    """The only one that answers, by so many blocks: it does not know the last ones."""

    def __init__(self, nodes: PayoutNodes, blocks: int) -> None:
        self._nodes, self._blocks = nodes, blocks

    async def first(self) -> ChainNode:
        node = await self._nodes.first()
        node.height -= self._blocks
        return node

    async def confirmations(self, block_hash: str) -> tuple[int, int]:
        return 0, 0

    async def send(self, raw: bytes) -> tuple[Sending, ...]:
        return ()


class TreasuryWhoseNodesAgree:
    """pool.admin.desk.PayingOut. `before` is called in the worker thread, before a paymaster works."""

    minimum_sat = 1_000

    def __init__(self, before: Callable[[], None] = lambda: None) -> None:
        receive, change = Signer(*private_descriptors("wpkh", 0)).public()
        self._settings = PayoutSettings(descriptor=receive, change_descriptor=change, addresses=ADDRESSES)
        self._wallet = PayoutWallet(self._settings, "regtest")
        self._deposits = DepositAddresses(
            Signer(*private_descriptors("wpkh", 7)).public()[0], "regtest", self._wallet
        )
        self._before = before

    def script_of(self, address: str) -> bytes:
        return script_of(address)

    def deposit_address(self, position: int) -> tuple[str, bytes]:
        return self._deposits.derive(position)

    def lend(self, books: PayoutBooks, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
        self._before()
        nodes = cast(PayoutNodes, NodesThatAgree())

        async def work() -> _Result:
            return await job(Paymaster(books, nodes, self._wallet, self._settings, script_of))

        return trio.run(work)


@cache
def agreeing() -> TreasuryWhoseNodesAgree:
    """The same for all who need one."""
    return TreasuryWhoseNodesAgree()
