"""A paymaster on the books that a command means, and what it would do: for `angara payout`.

Must not know: how a batch is told.
"""

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from payouts.batches.plan import Plan, ScriptOf, plan
from pool.books.book import network_to_read
from pool.chain.addresses import script_for
from pool.chain.nodes import Node
from pool.cli.books import Books
from pool.cli.opened_books import opened_to_read, opened_to_write, settings_of
from pool.settings_file import BadConfig
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import MINIMUM_SAT_DEFAULT
from pool.treasury.wallet import PayoutWallet

_Result = TypeVar("_Result")


def on_paymaster(books: Books, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
    """What a command on a paymaster answers; it needs the settings, for the nodes and the descriptors."""
    settings = settings_of(books)
    payouts = settings.payouts
    if payouts is None:
        raise BadConfig("the settings have no [payouts]: descriptor and change_descriptor are needed")
    wallet = PayoutWallet(payouts, settings.network)
    with opened_to_write(books) as (store, bound):
        network = bound or ""  # a book without one has no payouts

        async def run() -> _Result:
            nodes = [Node(it) for it in settings.nodes]
            try:
                return await job(
                    Paymaster(
                        PayoutBooks(store, lambda: int(time.time())),
                        PayoutNodes(nodes, network),
                        wallet,
                        payouts,
                        lambda address: script_for(address, network),
                    )
                )
            finally:
                with trio.CancelScope(shield=True):
                    for node in nodes:
                        await node.aclose()

        return trio.run(run)


def planned(books: Books) -> Plan:
    """The batch that could be drafted now. Reads only, so a pool that runs on the books need not be asked."""
    settings = None if books.config is None else settings_of(books)
    with opened_to_read(books) as store, store.read() as connection:
        claimed = None if settings is None else settings.network
        network = network_to_read(connection, claimed) or ""  # a book without one has no payouts
        minimum_sat = MINIMUM_SAT_DEFAULT
        script_of: ScriptOf = partial(script_for, network=network)
        if settings is not None and settings.payouts is not None:
            minimum_sat = settings.payouts.minimum_sat
            script_of = PayoutWallet(settings.payouts, network).script_of_others(script_of)
        return plan(connection, int(time.time()), script_of, minimum_sat)
