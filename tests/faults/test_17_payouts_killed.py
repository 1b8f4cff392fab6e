"""A payout whose process dies, before and after every commit and every call, and whose replies get lost.

One story is told under every fault: three tenants are paid, the fee is bumped, the payment is reorganised
out of the chain after its first confirmation and again after its sixth, and comes back. Whoever operates
it knows nothing but what the database says, and gives the next command, or the last one again.
"""

import pytest

from payouts.batches.batch import AttemptState, State
from payouts.batches.transaction import TxOutput
from pool.books.store import Store
from pool.chain.rpc import NodeError
from pool.treasury.paymaster import Paymaster
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.batches import given, publish
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    COINS,
    CREATOR,
    FEE_CAP_SAT,
    PAID_SAT,
    Faults,
    Killed,
    Regtest,
    World,
    world_of,
)

TOTAL_SAT = sum(PAID_SAT.values())
STEPS_MAX = 1_000  # a story that takes more goes round in circles
REORGANISATIONS = {State.CONFIRMED: 1, State.FINAL: 6}  # after these, so many blocks


class Operator:
    """Somebody who looks at the batch and does what is next, and the world meanwhile."""

    def __init__(self, world: World, reorganisations: dict[State, int]) -> None:
        self._world = world
        self._to_come = dict(reorganisations)

    async def run(self) -> None:
        """Until all is paid, whatever happens."""
        paymaster = self._world.paymaster()
        for _ in range(STEPS_MAX):
            try:
                if await self._step(paymaster):
                    return
            except* Killed:
                paymaster = self._world.paymaster()
            except* NodeError:
                pass  # a reply was lost, and the person reads that the node cannot be asked
        pytest.fail("it never ended")

    async def _step(self, paymaster: Paymaster) -> bool:
        world = self._world
        batches = world.batches()
        if not batches:
            world.faults.begin("create")
            await paymaster.create(CREATOR)
            return False
        [batch] = batches
        newest = batch.attempts[-1] if batch.attempts else None
        world.faults.begin(f"{batch.state} {newest and (newest.attempt, newest.state)} {len(self._to_come)}")
        if batch.state is State.DRAFT:
            await paymaster.approve(batch.id, batch.digest, FEE_CAP_SAT, APPROVER)
        elif newest is None or newest.state is AttemptState.PSBT:
            await paymaster.export(batch.id, CREATOR)
        elif newest.state is AttemptState.GIVEN:
            given = await paymaster.export(batch.id, CREATOR)
            await paymaster.receive(batch.id, world.signer.sign(given.psbt), CREATOR)
        elif newest.state is AttemptState.SIGNED:
            await paymaster.broadcast(batch.id, CREATOR)
        elif batch.state is State.BROADCAST and newest.attempt == 1:
            await paymaster.bump(batch.id, CREATOR, 5)
        else:
            return await self._wait(paymaster)
        return False

    async def _wait(self, paymaster: Paymaster) -> bool:
        """The chain goes on, or back."""
        await paymaster.follower.advance()
        state = self._world.batch().state
        if state is State.FINAL and not self._to_come:
            return True
        deep = self._to_come.pop(state, 0)
        if deep:
            await self._world.reorganise(deep)
            self._world.forget_pending()
        else:
            await self._world.mine()
        return False


async def tell(
    regtest: Regtest, store: Store, faults: Faults, reorganisations: dict[State, int] = REORGANISATIONS
) -> None:
    """The story under these faults, and that it ended well."""
    async with world_of(regtest, store, faults=faults) as world:
        await Operator(world, reorganisations).run()
        [batch] = world.batches()
        fee_sat = batch.attempts[-1].fee_sat
        assert [it.state for it in batch.attempts] == [AttemptState.REPLACED, AttemptState.FINAL]
        assert world.paid_sat() == PAID_SAT
        assert world.wallet_sat() == COINS * COIN_SAT - TOTAL_SAT - fee_sat
        assert world.balances() == {
            "pool.coins": TOTAL_SAT + fee_sat,
            "pool.node_fees": -fee_sat,
            "pool.pps_expense": -TOTAL_SAT,
        }


async def test_nothing_goes_wrong(regtest: Regtest, store: Store) -> None:
    faults = Faults()
    await tell(regtest, store, faults)
    assert faults.struck == 0
    # Every step has its commits and calls among the points: otherwise nothing is tested here.
    assert faults.points.count("after commit") == 19
    for method in (
        "scantxoutset",
        "getrawtransaction",
        "testmempoolaccept",
        "sendrawtransaction",
        "getblock",
    ):
        assert f"after call {method}" in faults.points


async def test_what_is_sent_was_written_down_before(regtest: Regtest, books: Store) -> None:
    class Watching(Faults):
        """Looks into the database whenever something is about to reach the network."""

        states: list[State]

        def point(self, name: str) -> None:
            super().point(name)
            if name == "before call sendrawtransaction":
                self.states.append(world.batch().state)

    watching = Watching()
    watching.states = []
    async with world_of(regtest, books, faults=watching) as world:
        await Operator(world, {}).run()
    assert watching.states
    assert set(watching.states) == {State.BROADCAST}


@pytest.mark.sqlite_suffices
async def test_killed_at_every_point_of_every_step(regtest: Regtest, store: Store) -> None:
    """A step that dies at its first point is taken again, and dies at its second, and so on."""
    faults = Faults(everywhere=True)
    await tell(regtest, store, faults)
    assert faults.struck > 120


@pytest.mark.sqlite_suffices
async def test_every_reply_is_lost_once(regtest: Regtest, store: Store) -> None:
    faults = Faults(everywhere=True, replies=True)
    await tell(regtest, store, faults)
    assert faults.struck > 45


@pytest.mark.soak
@pytest.mark.parametrize("replies", [False, True])
async def test_a_reconciliation_that_dies_at_every_point_ends_the_same(
    regtest: Regtest, books: Store, replies: bool
) -> None:
    """The signer paid two of three, and himself; a stranger sent to our change. Two persons look at it, each
    as often as it takes."""
    async with world_of(regtest, books) as world:
        batch = await given(world, world.paymaster())
        stolen = TxOutput(PAID_SAT["acme"], bytes.fromhex("0014" + "77" * 20))
        left_sat = COIN_SAT - TOTAL_SAT - 2_000
        change = TxOutput(left_sat, world.wallet.change_script(batch.id))
        txid = await publish(world, batch, change, stolen, *batch.payees[1:])
        await world.fund(TxOutput(20_000, world.signer.script(7, change=True)))
        faults = Faults(everywhere=True, replies=replies)
        world.faults = world.wire._faults = faults
        for person, left in ((CREATOR, 1), (APPROVER, 0)):
            for _ in range(STEPS_MAX):
                faults.begin(person)
                questions = None
                try:
                    _, questions = await world.paymaster().reconciler.run(person, [txid])
                except* (Killed, NodeError):
                    pass
                if questions is not None and len(questions) == left:
                    break
        assert faults.struck > (20 if replies else 50)
        assert [it.state for it in world.batches()] == [State.FAILED, State.FINAL]
        assert world.paid_sat() == {**PAID_SAT, "acme": 0}
        assert world.balances() == {
            "pool.coins": TOTAL_SAT - PAID_SAT["acme"] + 2_000,
            "pool.node_fees": -2_000,
            "pool.pps_expense": -TOTAL_SAT,
            "tenant.1.payable": PAID_SAT["acme"],
        }


async def test_killed_once_after_sending(regtest: Regtest, sqlite_databases: SqliteDatabases) -> None:
    """Once in a story, when the network has the transaction: everything else goes well."""
    faults = Faults()
    with fresh_store(sqlite_databases) as store:
        await tell(regtest, store, faults, {})
    for number, point in enumerate(faults.points):
        if point == "after call sendrawtransaction":
            once = Faults(number)
            with fresh_store(sqlite_databases) as store:
                await tell(regtest, store, once, {})
            assert once.struck == 1
