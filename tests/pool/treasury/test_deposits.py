"""What buyers pay to their orders' addresses: booked once when it is deep enough, and back with its block."""

from typing import cast

import pytest
from sqlalchemy import Connection, select

from payouts.batches.transaction import Tx, TxOutput
from payouts.ledger import LedgerError, balance_sat, receivable
from payouts.reversals import reversible
from payouts.sales.billing import Billing
from payouts.sales.charges import ChargeKind, charge_line, owed_sat
from payouts.sales.deposits import give_address, seen
from payouts.sales.standing import DUST_SAT
from payouts.sales.terms import BillingTerms
from payouts.schemas.sales import order_addresses, order_deposits
from pool.books.store import Store
from pool.orders.rows import add_order
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import PayoutNodes
from pool.treasury.deposits import BLOCKS_AT_ONCE, DepositAddresses, DepositWatch
from pool.treasury.wallet import BadWallet
from pool.upstreams.rows import add_upstream
from tests.fakes.treasuries import NodeThatIsBehind
from tests.histories.orders import new_order, new_upstream
from tests.stages.payouts import (
    NOW_S,
    SEND,
    Faults,
    FaultyStore,
    Killed,
    Regtest,
    Signer,
    World,
    add_tenant,
    private_descriptors,
    world_of,
)

OWED_SAT = 100_000
CONFIRMATIONS = 6
BLUE, GREEN = 1, 2


def deposit_descriptor(world: World) -> str:
    return Signer(*private_descriptors("wpkh", 1_000 + world.account)).public()[0]


def sell(connection: Connection, world: World, now_s: int) -> dict[int, bytes]:
    """Two orders of which OWED_SAT are owed each, with an address each: their scripts."""
    addresses = DepositAddresses(deposit_descriptor(world), "regtest", world.wallet)
    add_upstream(connection, new_upstream(), by="ann", now_s=now_s)
    terms = BillingTerms(billing=Billing.DAILY)
    times = {"from_s": now_s, "until_s": now_s + 10**6}
    for order_id, name in ((BLUE, "blue"), (GREEN, "green")):
        sold = new_order(name, tenants=("acme",), billing=terms, **times)
        assert add_order(connection, sold, by="ann", now_s=now_s).id == order_id
        charge_line(connection, order_id, 1, ChargeKind.MAKE_GOOD, OWED_SAT * 10**12, now_s)
        given = give_address(connection, order_id, addresses.derive, by="ann", now_s=now_s)
        assert given == give_address(connection, order_id, addresses.derive, by="bob", now_s=now_s)
        assert given.position == order_id - 1
    rows = connection.execute(select(order_addresses.c.order_id, order_addresses.c.script))
    return {row.order_id: bytes.fromhex(row.script) for row in rows}


class Buyers:
    """Of a world; `survey` is a pass of a process that was just started."""

    def __init__(self, world: World) -> None:
        self.world = world
        with world.store.write() as connection:
            self.scripts = sell(connection, world, world.now_s)

    async def survey(self) -> None:
        books = PayoutBooks(FaultyStore(self.world.store, self.world.faults), lambda: self.world.now_s)
        await DepositWatch(books, self.world.nodes(), self.world.settings).survey()

    async def pay(self, *paid: tuple[int, int], deep: int = CONFIRMATIONS) -> Tx:
        return await self.world.fund(*(TxOutput(sat, self.scripts[it]) for it, sat in paid), deep=deep)

    def owed(self) -> tuple[int, int]:
        self.world.balances()  # audited
        with self.world.store.read() as connection:
            return owed_sat(connection, BLUE), owed_sat(connection, GREEN)

    def deposits(self) -> list[tuple[int, int, int]]:
        with self.world.store.read() as connection:
            of = order_deposits.c
            query = select(of.order_id, of.amount_sat, of.part).order_by(of.id)
            return [(row.order_id, row.amount_sat, row.part) for row in connection.execute(query)]


async def test_what_is_paid_counts_with_the_sixth_confirmation_for_whose_address_it_is(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        buyers = Buyers(world)
        await buyers.survey()
        await buyers.pay((BLUE, 60_000), (GREEN, 30_000), (BLUE, DUST_SAT - 1), (BLUE, 50_000), deep=5)
        await buyers.survey()
        assert buyers.owed() == (OWED_SAT, OWED_SAT)
        await world.mine()
        for _ in range(2):
            await buyers.survey()
            assert buyers.owed() == (-10_000, 70_000), "one too much, which is the buyer's; and not dust"
        assert buyers.deposits() == [(BLUE, 60_000, 0), (GREEN, 30_000, 0), (BLUE, 50_000, 0)]
        with world.store.read() as connection:
            refused = reversible(connection, connection.scalar(select(order_deposits.c.transaction_seq)) or 0)
            assert "booked back when its block is orphaned" in (refused.refused or "")


async def test_it_is_booked_once_wherever_the_pool_is_killed(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books, faults=Faults(everywhere=True)) as world:
        buyers = Buyers(world)
        steps = 0
        for pay in (None, (BLUE, 60_000), (GREEN, 30_000)):
            if pay is not None:
                await buyers.pay(pay)
            killed = True
            while killed:
                world.faults.begin(str(pay))
                try:
                    await buyers.survey()
                    killed = False
                except* Killed:
                    steps += 1
        assert steps > 10
        assert buyers.owed() == (OWED_SAT - 60_000, OWED_SAT - 30_000)


async def test_who_pays_and_reorganises_owes_again(regtest: Regtest, books: Store) -> None:
    """Seven blocks: he has paid for an hour, and gains nothing (0 sat of 100,000)."""
    async with world_of(regtest, books) as world:
        buyers = Buyers(world)
        await buyers.survey()
        paid = await buyers.pay((BLUE, OWED_SAT))
        await buyers.survey()
        assert buyers.owed() == (0, OWED_SAT)
        await world.reorganise(7)
        await buyers.survey()
        assert buyers.owed() == (OWED_SAT, OWED_SAT)
        await buyers.survey()
        assert buyers.owed() == (OWED_SAT, OWED_SAT), "it is booked back once"
        await world.rpc.call(SEND, paid.raw.hex(), 0)  # and pays after all
        await world.mine(6)
        await buyers.survey()
        assert (buyers.owed(), buyers.deposits()) == (
            (0, OWED_SAT),
            [(BLUE, OWED_SAT, 0), (BLUE, OWED_SAT, 1)],
        )
        with world.store.read() as connection:
            assert balance_sat(connection, receivable(BLUE)) == 0


async def test_what_is_paid_stays_paid_while_the_only_node_that_answers_is_behind(
    regtest: Regtest, books: Store
) -> None:
    """It would be booked back, and found nowhere again: behind it everything was looked through."""
    async with world_of(regtest, books) as world:
        buyers = Buyers(world)
        await buyers.survey()
        await buyers.pay((BLUE, OWED_SAT), deep=8)
        await buyers.survey()
        assert buyers.owed() == (0, OWED_SAT)
        behind = cast(PayoutNodes, NodeThatIsBehind(world.nodes(), 10))
        books_of_payouts = PayoutBooks(world.store, lambda: world.now_s)
        await DepositWatch(books_of_payouts, behind, world.settings).survey()
        assert buyers.owed() == (0, OWED_SAT)


async def test_what_was_paid_while_no_pool_ran_is_found(regtest: Regtest, books: Store) -> None:
    world = World(regtest, books)
    try:
        node = await world.nodes().first()
        world.now_s = await node.block_time_s(node.height)
        with books.write() as connection:
            add_tenant(connection, "acme")
        buyers = Buyers(world)
        await buyers.pay((BLUE, 60_000))
        for _ in range(1 + world.chain.tip.height // BLOCKS_AT_ONCE):
            await buyers.survey()
        assert buyers.owed() == (OWED_SAT - 60_000, OWED_SAT)
        with books.read() as connection:
            found = seen(connection)
        assert found is not None
        assert found.height == world.chain.tip.height - CONFIRMATIONS + 1
    finally:
        await world.aclose()


async def test_a_descriptor_that_cannot_be_is_refused_and_no_address_is_given_twice(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        own, right = world.settings.descriptor, deposit_descriptor(world)
        body, _, checksum = right.partition("#")
        wrong = f"{body}#{checksum[:-1]}{'q' if checksum[-1] != 'q' else 'p'}"
        secret = private_descriptors("wpkh", 9)[0]
        for descriptor, words in (
            (own, "of the payout wallet"),
            (wrong, "cannot be read"),
            (secret, "private keys"),
            (body.replace("/*", "/5"), "wildcard"),
            (own.partition("#")[0].replace("/0/*", "/1/*"), "of the payout wallet"),
        ):
            with pytest.raises(BadWallet, match=words):
                DepositAddresses(descriptor, "regtest", world.wallet)
        with pytest.raises(BadWallet, match="of another network than main"):
            DepositAddresses(right, "main", world.wallet)
        buyers = Buyers(world)
        with world.store.write() as connection:
            sold = new_order(
                "red", tenants=("acme",), from_s=NOW_S, until_s=NOW_S + 9, billing=BillingTerms()
            )
            red = add_order(connection, sold, by="ann", now_s=NOW_S).id
            with pytest.raises(LedgerError, match="sold without --billing"):
                give_address(connection, red, lambda it: ("", b""), by="ann", now_s=NOW_S)
            sold = new_order(
                "grey",
                tenants=("acme",),
                from_s=NOW_S,
                until_s=NOW_S + 9,
                billing=BillingTerms(billing=Billing.DAILY),
            )
            grey = add_order(connection, sold, by="ann", now_s=NOW_S).id
            with pytest.raises(LedgerError, match="gives the address of order 1 once more"):
                give_address(connection, grey, lambda it: ("", buyers.scripts[BLUE]), by="ann", now_s=NOW_S)
