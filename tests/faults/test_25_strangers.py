"""Whoever sends us coins, and pays whom he likes with them: that is no payout, and stops nothing.

An address of ours is no secret: a payout's change is in the chain for everybody to see. The thief is a
tenant, or anybody. His gain is what he has in the end, on the chain from coins of ours and in the books, less
what his work was worth: it has to be zero.
"""

import time

import msgspec
import pytest

from payouts.batches.batch import State
from payouts.batches.transaction import TxOutput
from payouts.ledger import payable
from pool.books.store import Store
from pool.regtest.http import Reply
from pool.treasury.coins import CHANGE_SAT_MIN
from tests.histories.batches import approved, paid, signed
from tests.stages.payouts import (
    COIN_SAT,
    CREATOR,
    PAID_SAT,
    PAYEES,
    Regtest,
    World,
    register,
    script_of,
    set_address,
    world_of,
)

THIEF, THIEF_SAT = 1, PAID_SAT["acme"]
DUST_SAT = 600
PAST = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202"
DUST_OUTPUTS = 100_000


def change_of(world: World, index: int = 5) -> bytes:
    """An address of ours that everybody has seen."""
    return world.signer.script(index, change=True)


def gained_sat(world: World, from_himself_sat: int) -> int:
    """What the thief has beyond his work."""
    received_sat = world.paid_sat()["acme"] - from_himself_sat
    return received_sat + world.balances().get(payable(THIEF), 0) - THIEF_SAT


@pytest.mark.parametrize(
    ("to_us_sat", "to_himself_sat"), [(DUST_SAT, THIEF_SAT), (CHANGE_SAT_MIN, THIEF_SAT), (70_000, 40_000)]
)
async def test_a_tenant_who_pays_himself_and_our_change_address_was_not_paid_by_us(
    regtest: Regtest, books: Store, to_us_sat: int, to_himself_sat: int
) -> None:
    async with world_of(regtest, books) as world:
        before = world.balances()
        paymaster = world.paymaster()
        himself = TxOutput(to_himself_sat, script_of(PAYEES[0][1]))
        await world.fund(himself, TxOutput(to_us_sat, change_of(world)))
        news, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert (world.batches(), world.balances()) == ((), before)
        assert len(news) == (to_us_sat < CHANGE_SAT_MIN)
        await paid(world, paymaster)
        assert gained_sat(world, to_himself_sat) == 0


async def test_a_past_address_of_a_tenant_that_a_stranger_pays_is_no_payout(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            set_address(connection, 2, PAST)
            set_address(connection, 2, PAYEES[1][1])
        before = world.balances()
        await world.fund(TxOutput(50_000, script_of(PAST)), TxOutput(20_000, change_of(world)))
        paymaster = world.paymaster()
        assert await paymaster.reconciler.run(CREATOR, ()) == ((), ())
        assert (world.batches(), world.balances()) == ((), before)
        await paid(world, paymaster)
        assert world.paid_sat() == PAID_SAT


@pytest.mark.parametrize("state", [State.APPROVED, State.SIGNED])
async def test_a_stranger_who_pays_what_a_batch_pays_has_made_a_present(
    regtest: Regtest, books: Store, state: State
) -> None:
    """He spends no coin of ours, so it is not that batch, whatever it looks like."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        if state is State.SIGNED:
            await signed(world, paymaster, batch.id)
        await world.fund(*batch.payees, TxOutput(30_000, world.wallet.change_script(batch.id)))
        assert await paymaster.reconciler.run(CREATOR, ()) == ((), ())
        assert world.batch().state is state
        if state is State.APPROVED:
            await signed(world, paymaster, batch.id)
        await paymaster.broadcast(batch.id, CREATOR)
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.paid_sat() == {name: 2 * sat for name, sat in PAID_SAT.items()}
        assert not [account for account in world.balances() if account.startswith("tenant.")]


async def test_a_miner_who_pays_our_change_address_stops_nothing(regtest: Regtest, books: Store) -> None:
    """A coinbase spends no coin at all, so a node has nothing to say of those that it spends."""
    async with world_of(regtest, books) as world:
        await world.node.generate(change_of(world))
        paymaster = world.paymaster()
        assert await paymaster.reconciler.run(CREATOR, ()) == ((), ())
        await paid(world, paymaster)
        assert world.paid_sat() == PAID_SAT


@pytest.mark.parametrize("to_us_sat", [DUST_SAT, 70_000])
async def test_what_others_sent_to_our_change_is_never_an_anchor(
    regtest: Regtest, books: Store, to_us_sat: int
) -> None:
    """Older than any coin of ours, it would be the first that a first batch spends."""
    world = World(regtest, books)
    register(books)
    await world.fund(TxOutput(to_us_sat, change_of(world)))
    await world.fund()
    paymaster = world.paymaster()
    batch = await approved(world, paymaster)
    await paymaster.export(batch.id, CREATOR)
    [anchor] = world.batch().attempts[0].inputs
    assert (anchor.amount_sat, world.wallet.is_change(anchor.script)) == (COIN_SAT, False)
    await world.aclose()


async def test_a_tenant_cannot_be_paid_to_an_address_of_the_payout_wallet(
    regtest: Regtest, books: Store
) -> None:
    """Else each move of our own coins would pay him, and what his "payment" made dear would stop the rest."""
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            address = world.signer.address(3)
            set_address(connection, THIEF, address)
        paymaster = world.paymaster()
        planned = await paymaster.preview()
        assert [it.tenant for it in planned.items] == ["borealis", "cinder"]
        assert "is an address of the payout wallet itself" in planned.held_back[0].detail
        batch = await paid(world, paymaster)
        attempt = batch.attempts[-1]
        assert attempt.change is not None
        assert attempt.change_vout is not None
        change = attempt.inputs[0]
        moved = msgspec.structs.replace(
            change,
            txid=attempt.txid,
            vout=attempt.change_vout,
            amount_sat=attempt.change.amount_sat,
            script=attempt.change.script,
        )
        await world.spend(moved, TxOutput(moved.amount_sat - 1_000, script_of(address)))
        await world.mine(6)
        [news], questions = await paymaster.reconciler.run(CREATOR, ())
        assert "it moves coins to ourselves" in news
        assert questions == ()
        assert world.balances()[payable(THIEF)] == THIEF_SAT


# Dust


class DustyNode:
    """The node, which finds dust besides our coins in transactions of their own; and what it was asked."""

    def __init__(self, world: World, dust_sat: int, outputs: int) -> None:
        self._rpc = world.rpc_server
        scripts = [change_of(world, index).hex() for index in range(20)]
        self._dust = [
            {
                "txid": f"{number:064x}",
                "vout": 0,
                "scriptPubKey": scripts[number % 20],
                "desc": "wpkh([73c5da0a/84h/1h/0h]tpub/1/*)#00000000",
                "amount": msgspec.Raw(f"0.{dust_sat:08d}".encode()),
                "height": 1 + number % 300,
                "blockhash": "00" * 32,
                "confirmations": 100,
                "coinbase": False,
            }
            for number in range(outputs)
        ]
        self.asked: list[str] = []

    async def answer(self, body: bytes) -> Reply:
        method = msgspec.json.decode(body)["method"]
        self.asked.append(method)
        reply = await self._rpc.answer(body)
        if method != "scantxoutset":
            return reply
        found = msgspec.json.decode(reply.body)
        found["result"]["unspents"] += self._dust
        return msgspec.structs.replace(reply, body=msgspec.json.encode(found))


async def test_a_hundred_thousand_dust_outputs_cost_the_scan_alone(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        node = DustyNode(world, DUST_SAT, DUST_OUTPUTS)
        world.wire._rpc = node  # type: ignore[assignment]
        started_s = time.process_time()
        [words], questions = await paymaster.reconciler.run(CREATOR, ())
        dust = f"{DUST_OUTPUTS} coins below 10000 sat, {DUST_OUTPUTS * DUST_SAT} sat in all, are dust"
        assert words == f"{dust}: they are left alone"
        assert questions == ()
        assert await paymaster.export(batch.id, CREATOR)
        print(f"{DUST_OUTPUTS} dust outputs: {time.process_time() - started_s:.2f} s of CPU for two scans")
        assert node.asked.count("getrawtransaction") == 1  # for the coin that is spent
        assert len(node.asked) < 40
        await signed(world, paymaster, batch.id)
        await paymaster.broadcast(batch.id, CREATOR)
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.paid_sat() == PAID_SAT
