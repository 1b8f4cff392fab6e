"""What paying out takes, of the settings that a command means: where no pool lends it, and for the steps that
are given on the pool's host.

Must not know: how a batch is told.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from typing import TypeVar

import msgspec
import trio

from payouts.sales.deposits import DepositAddress
from pool.admin.operators import caller_alone
from pool.admin.payouts.commands import names_beside
from pool.chain.addresses import script_for
from pool.cli.books import Books
from pool.cli.opened_books import opened_to_write, settings_of
from pool.cli.operator import operator
from pool.config import PoolConfig
from pool.people.roles import Role
from pool.settings_file import BadConfig
from pool.treasury.books import PayoutBooks
from pool.treasury.deposits import DepositAddresses, addresses_of
from pool.treasury.paymaster import Paymaster
from pool.treasury.settings import PayoutSettings
from pool.treasury.treasury import Treasury
from pool.treasury.wallet import BadWallet, PayoutWallet

_Result = TypeVar("_Result")


class OwnTreasury:
    """pool.admin.desk.PayingOut, of a command: it has its nodes for as long as it asks them."""

    def __init__(self, settings: PoolConfig, payouts: PayoutSettings) -> None:
        self._settings = settings
        self._payouts = payouts

    @property
    def minimum_sat(self) -> int:
        return self._payouts.minimum_sat

    def script_of(self, address: str) -> bytes:
        return self._script_of(address)

    @cached_property
    def _wallet(self) -> PayoutWallet:
        return PayoutWallet(self._payouts, self._settings.network)

    @cached_property
    def _script_of(self) -> Callable[[str], bytes]:
        return self._wallet.script_of_others(partial(script_for, network=self._settings.network))

    def deposit_address(self, position: int) -> tuple[str, bytes]:
        return self._deposits.derive(position)

    @cached_property
    def _deposits(self) -> DepositAddresses:
        return addresses_of(self._payouts, self._settings.network, self._wallet)

    def lend(self, books: PayoutBooks, job: Callable[[Paymaster], Awaitable[_Result]]) -> _Result:
        async def run() -> _Result:
            treasury = Treasury(self._payouts, self._settings.network, self._settings.nodes)
            try:
                return await treasury.work(books, job)
            finally:
                await treasury.aclose()

        return trio.run(run)


def treasury_of(books: Books) -> OwnTreasury | None:
    """None where there are no settings, or no payouts in them. Raises BadConfig."""
    if books.config is None:
        return None
    settings = settings_of(books)
    return None if settings.payouts is None else OwnTreasury(settings, settings.payouts)


def wallets_of(books: Books, descriptors: Sequence[str]) -> list[PayoutWallet]:
    """Wallets beside that of payouts, each of one descriptor, and none of them that of deposits, whose coins
    are buyers'. Raises BadConfig, BadWallet."""
    settings = settings_of(books)
    if not descriptors or settings.payouts is None:
        return []
    named = [
        msgspec.structs.replace(settings.payouts, descriptor=it, change_descriptor=None) for it in descriptors
    ]
    wallets = [PayoutWallet(it, settings.network) for it in named]
    if settings.payouts.deposit_descriptor is not None:
        for wallet in wallets:
            try:
                addresses_of(settings.payouts, settings.network, wallet)
            except BadWallet:
                raise BadWallet(
                    "--descriptor: coins of that wallet are what buyers paid (payouts.deposit_descriptor)"
                ) from None
    return wallets


def see_that_it_is_ours(books: Books, it: DepositAddress) -> None:
    """That the settings' descriptor gives that address: a buyer is told no other one, by a signature even,
    whoever has written to the database. Raises BadConfig, BadWallet."""
    treasury = treasury_of(books)
    if treasury is None or treasury.deposit_address(it.position)[0] != it.address:
        raise BadConfig(
            f"{it.address} is not of the deposit_descriptor that the settings have: it was given by another"
            " one, or somebody has written to the database. Have nobody pay there before you know which"
        )


def on_paymaster(
    books: Books, job: Callable[[Paymaster, str], Awaitable[_Result]], *, says: bool = False
) -> _Result:
    """What a paymaster does for whoever gives the command, whose name the job is told; it needs the settings,
    for the nodes and the descriptors. `says`: something that a second person agrees to. Raises BadConfig,
    NotPermitted, RegistryError."""
    policy = settings_of(books).approval  # in its words, where there are none
    if (treasury := treasury_of(books)) is None:
        raise BadConfig("the settings have no [payouts]: descriptor and change_descriptor are needed")
    with opened_to_write(books) as (store, _):
        caller = caller_alone(store, operator(), books.token)
        caller.demand(Role.PAYER, "paying out")
        if says:
            policy.check_person(caller)
        with store.read() as connection:
            beside = names_beside(connection, caller, policy)
        return treasury.lend(
            PayoutBooks(store, lambda: int(time.time()), *beside), lambda it: job(it, caller.name)
        )
