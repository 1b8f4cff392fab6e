"""Whoever has the keys, and makes of a batch what he likes: nobody is paid twice for it.

A signer can take all coins that there are; no pool can keep him from it. But what he did pay to tenants is
paid, however he arranged it: no command and no person makes it payable again. What comes back through the
pool is what was given, or is quarantined. The gain is what tenants have in the end beyond their work, from
coins of ours and in the books: it has to be zero.
"""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from payouts.batches.batch import AttemptState, State
from payouts.batches.psbt import Quarantined
from payouts.batches.transaction import TxOutput, decode_transaction
from payouts.ledger import payable
from payouts.reports.payouts import payouts_report
from payouts.statements.payouts import payouts_of
from payouts.statements.period import Period
from pool.books.store import Store
from pool.treasury.paymaster import Paymaster
from pool.treasury.suspects import NotReconciled
from pool.treasury.wallet import finalise
from tests.histories.batches import credit_more, given, paid, publish, sent, signed
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    CREATOR,
    NOW_S,
    PAID_SAT,
    PAYEES,
    Regtest,
    World,
    script_of,
    world_of,
)

TOTAL_SAT = sum(PAID_SAT.values())
FEE_SAT = 2_000
LEFT_SAT = COIN_SAT - TOTAL_SAT - FEE_SAT
SIGNERS = b"\x00\x14" + bytes(range(20))  # an address of the signer's own
MORE_SAT = 50_000


async def accept(world: World, paymaster: Paymaster, txid: str, *persons: str) -> tuple[str, ...]:
    """Each of them says that it is no payout: the questions that are left."""
    questions: tuple[str, ...] = ()
    for person in persons:
        _, questions = await paymaster.reconciler.run(person, [txid])
    return questions


def gained_sat(world: World) -> int:
    """What tenants have beyond their work."""
    owed_sat = sum(sat for account, sat in world.balances().items() if account.startswith("tenant."))
    return sum(world.paid_sat().values()) + owed_sat - TOTAL_SAT


def stated_outputs(world: World) -> dict[str, int]:
    """Which output of the transaction the reports say that everybody got."""
    day = datetime.fromtimestamp(NOW_S, UTC).date()
    period = Period(day, day + timedelta(days=1))
    with world.store.read() as connection:
        [batch] = payouts_report(connection, period).batches
        found = {it.tenant: it.output for it in batch.items}
        for tenant_id, item in enumerate(batch.items, 1):
            [payout] = payouts_of(connection, tenant_id, period)
            assert payout.output == found[item.tenant]
    return found


async def assert_pays_on(world: World, paymaster: Paymaster) -> None:
    """The next batch is paid, and what is in the books is what is on the chain."""
    credit_more(world, 1, MORE_SAT, "more work")
    await paid(world, paymaster)
    assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + MORE_SAT}
    assert not [it for it in world.balances() if it.startswith("tenant.")]


@pytest.mark.parametrize("change_at", [0, 2])
async def test_a_batch_whose_signer_sorts_its_outputs_is_paid_once_whatever_two_persons_say(
    regtest: Regtest, books: Store, change_at: int
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        outputs = list(reversed(batch.payees))
        outputs.insert(change_at, TxOutput(LEFT_SAT, world.wallet.change_script(batch.id)))
        txid = await publish(world, batch, *outputs)
        [asked] = await paymaster.follower.advance()
        assert "run `angara payout reconcile`" in asked
        assert await accept(world, paymaster, txid, CREATOR, APPROVER) == ()
        attempt = world.batch().attempts[-1]
        assert (world.batch().state, attempt.txid, attempt.change_vout) == (State.FINAL, txid, change_at)
        assert gained_sat(world) == 0
        assert world.wallet_sat() == 3 * COIN_SAT - TOTAL_SAT - FEE_SAT
        assert stated_outputs(world) == {
            name: outputs.index(TxOutput(sat, script_of(address))) for name, address, sat in PAYEES
        }
        await assert_pays_on(world, paymaster)
        anchor = world.batch(2).attempts[0].anchor
        assert (anchor.txid, anchor.vout) == (txid, change_at)


async def test_a_signer_who_keeps_the_change_has_paid_the_batch_and_stops_the_next_until_two_persons_know(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        txid = await publish(world, batch, TxOutput(LEFT_SAT, SIGNERS), *batch.payees)
        news, [question] = await paymaster.reconciler.run(CREATOR, [txid])
        assert any(f"{LEFT_SAT} sat to {SIGNERS.hex()}" in it for it in news)
        assert "is a payout whose change went to somebody else" in question
        assert world.batch().state is State.FINAL
        assert gained_sat(world) == 0
        credit_more(world, 1, MORE_SAT, "more")
        assert len(await accept(world, paymaster, txid, CREATOR.upper(), ".".join(CREATOR))) == 1
        with pytest.raises(NotReconciled, match="the change of the last payout"):
            await paymaster.create(CREATOR)
        assert await accept(world, paymaster, txid, APPROVER) == ()
        await paid(world, paymaster)
        assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + MORE_SAT}


@pytest.mark.parametrize("short_sat", [PAID_SAT["cinder"], 1])
async def test_who_was_left_out_or_paid_short_is_owed_the_rest_and_the_others_nothing(
    regtest: Regtest, books: Store, short_sat: int
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        payees = [*batch.payees[:2]]
        if short_sat < PAID_SAT["cinder"]:
            payees.append(TxOutput(PAID_SAT["cinder"] - short_sat, batch.payees[2].script))
        change = TxOutput(LEFT_SAT + short_sat, world.signer.script(3))
        txid = await publish(world, batch, change, *payees, deep=5)
        questions = await accept(world, paymaster, txid, CREATOR, APPROVER)
        assert "it has 5" in questions[0]
        assert world.batch().state is not State.FAILED
        await world.mine()
        assert await accept(world, paymaster, txid, CREATOR) == ()
        assert [it.state for it in world.batches()] == [State.FAILED, State.FINAL]
        assert gained_sat(world) == 0
        assert world.balances().get(payable(3)) == short_sat
        assert payable(1) not in world.balances()


async def test_a_signer_who_pays_himself_a_payees_part_needs_two_persons_and_pays_nobody_twice(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        stolen = TxOutput(PAID_SAT["acme"], SIGNERS)
        change = TxOutput(LEFT_SAT, world.wallet.change_script(batch.id))
        txid = await publish(world, batch, stolen, *batch.payees[1:], change)
        [question] = await accept(world, paymaster, txid, CREATOR, CREATOR.title(), " ".join(CREATOR))
        assert "somebody else has to" in question
        assert [it.state for it in world.batches()] == [State.PSBT]
        assert await accept(world, paymaster, txid, APPROVER) == ()
        assert [it.state for it in world.batches()] == [State.FAILED, State.FINAL]
        assert world.balances().get(payable(1)) == PAID_SAT["acme"]
        assert gained_sat(world) == 0


async def test_a_signer_who_gives_the_change_to_a_tenant_of_the_batch_has_paid_the_batch(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        accomplice = TxOutput(LEFT_SAT, batch.payees[0].script)
        txid = await publish(world, batch, *batch.payees, accomplice)
        news, _ = await paymaster.reconciler.run(CREATOR, ())
        assert any(f"{LEFT_SAT} sat to {accomplice.script.hex()}" in it for it in news)
        await accept(world, paymaster, txid, CREATOR, APPROVER)
        assert [it.state for it in world.batches()] == [State.FINAL]
        assert gained_sat(world) == LEFT_SAT  # the signer's, who could have kept it; of the books nothing


async def test_what_a_signer_rearranged_does_not_come_back_through_the_pool(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        psbt = batch.attempts[0].psbt or b""
        tx = decode_transaction(finalise(psbt, world.signer.sign(psbt)))
        to_himself = TxOutput(tx.outputs[-1].amount_sat, SIGNERS)
        for outputs in ((*tx.outputs[:-1], to_himself), tuple(reversed(tx.outputs)), tx.outputs[:-1]):
            with pytest.raises(Quarantined):
                await paymaster.receive(batch.id, msgspec.structs.replace(tx, outputs=outputs).raw, CREATOR)
        assert world.batch().attempts[0].state is AttemptState.QUARANTINED
        assert world.pending() == []


async def test_a_signer_who_publishes_every_attempt_has_paid_once(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await sent(world, paymaster)
        for rate in (5, 10):
            await paymaster.bump(1, CREATOR, rate)
            await signed(world, paymaster, 1)
        raws = [it.signed_tx or b"" for it in world.batch().attempts]
        for raw in reversed(raws):  # the dearest first, then those that it replaces
            assert await paymaster.follower.send(world.batch())
            await world.rpc.call("testmempoolaccept", [raw.hex()])
        world.forget_pending()
        await world.rpc.call("sendrawtransaction", raws[1].hex())
        await world.mine(6)
        await paymaster.follower.advance()
        _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert [it.state for it in world.batch().attempts].count(AttemptState.FINAL) == 1
        assert world.paid_sat() == PAID_SAT
        assert gained_sat(world) == 0
