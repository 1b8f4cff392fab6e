"""Whatever a payout turns out to be on the chain, the books end in what happened, and payouts go on.

A signer, or somebody with the wallet in other software, can leave no change, pay some payees, pay one by two
outputs, pay more than is owed, or pay by hand what a signer has a transaction for. Each ends in a booked
truth: what tenants have on the chain and in the books together is their work, and what they got beyond it
stands in an account of its own.
"""

from collections.abc import Sequence

import pytest
from sqlalchemy import select

from payouts.audit.decisions import ADDRESS_HOLD_S
from payouts.batches.batch import Batch, State, WrongStep
from payouts.batches.evidence import Found
from payouts.batches.found import adopt, disown, recover
from payouts.batches.psbt import Spend
from payouts.batches.rows import Act
from payouts.batches.steps import confirm, finish
from payouts.batches.transaction import Tx, TxOutput
from payouts.ledger import PoolAccount, payable
from payouts.schemas.money import ledger_transactions
from pool.books.audit.verify import verify
from pool.books.store import Store
from pool.treasury.paymaster import Paymaster
from pool.treasury.suspects import NotReconciled
from tests.faults.test_25_signers import stated_outputs
from tests.histories.batches import approved, credit_more, given, paid, publish
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
    set_address,
    world_of,
)

TOTAL_SAT = sum(PAID_SAT.values())
FEE_SAT = 2_000
LEFT_SAT = COIN_SAT - TOTAL_SAT - FEE_SAT
SIGNERS = b"\x00\x14" + bytes(range(20))  # an address of the signer's own
MORE_SAT = 50_000
ACME, BOREALIS, CINDER = (TxOutput(sat, script_of(address)) for _, address, sat in PAYEES)
OVERPAID = PoolAccount.OVERPAID.value


async def accept(world: World, paymaster: Paymaster, txid: str) -> Sequence[str]:
    """Two persons say what they know: the questions that are left."""
    for person in (CREATOR, APPROVER):
        _, questions = await paymaster.reconciler.run(person, [txid])
    return questions


def assert_true(world: World, overpaid_sat: int = 0) -> None:
    """What tenants have is their work, and beyond it what an account says; the whole book can be proven."""
    balances = world.balances()
    owed_sat = sum(sat for account, sat in balances.items() if account.startswith("tenant."))
    assert -balances.get(OVERPAID, 0) == overpaid_sat
    assert sum(world.paid_sat().values()) + owed_sat == TOTAL_SAT + overpaid_sat
    with world.store.read() as connection:
        assert verify(connection).wrong is None


async def assert_pays_on(world: World, paymaster: Paymaster) -> None:
    """More work is paid, and nothing else that is not owed."""
    owed_sat = {name: world.balances().get(payable(number), 0) for number, name in enumerate(PAID_SAT, 1)}
    before_sat = world.paid_sat()
    credit_more(world, 1, MORE_SAT, "more work")
    await paid(world, paymaster)
    owed_sat["acme"] += MORE_SAT
    assert world.paid_sat() == {name: before_sat[name] + owed_sat[name] for name in PAID_SAT}
    assert not [it for it in world.balances() if it.startswith("tenant.")]


# No change


async def test_a_payout_without_change_is_booked_and_the_next_starts_anew_when_two_persons_know(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        txid = await publish(world, batch, *reversed(batch.payees))
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"left no change: {LEFT_SAT + FEE_SAT} sat of it went to the network" in question
        assert f"--accept {txid}" in question
        [attempt] = [it for it in world.batch().attempts if it.txid == txid]
        assert (world.batch().state, attempt.change, attempt.fee_sat) == (
            State.FINAL,
            None,
            LEFT_SAT + FEE_SAT,
        )
        assert stated_outputs(world) == {"acme": 2, "borealis": 1, "cinder": 0}
        assert_true(world)
        with pytest.raises(NotReconciled, match="run `angara payout reconcile`"):
            await paymaster.create(CREATOR)
        assert await accept(world, paymaster, txid) == ()
        await assert_pays_on(world, paymaster)


@pytest.mark.parametrize(("payees", "stolen_sat"), [((ACME,), 0), ((CINDER, BOREALIS), 400_000)])
async def test_some_payees_and_no_change_are_booked_and_the_rest_is_owed(
    regtest: Regtest, books: Store, payees: tuple[TxOutput, ...], stolen_sat: int
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        stolen = (TxOutput(stolen_sat, SIGNERS),) if stolen_sat else ()
        txid = await publish(world, batch, *payees, *stolen)
        assert await accept(world, paymaster, txid) == ()
        assert [it.state for it in world.batches()] == [State.FAILED, State.FINAL]
        assert {it.tenant for it in world.batch(2).items} == {
            name for name, address, _ in PAYEES if script_of(address) in {it.script for it in payees}
        }
        assert_true(world)
        await assert_pays_on(world, paymaster)


async def test_a_note_in_place_of_change_is_no_coin(regtest: Regtest, books: Store) -> None:
    """An output of nothing, as timestamps are made: it cannot be the next anchor."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        txid = await publish(world, batch, *batch.payees, TxOutput(0, b"\x6a\x04note"))
        assert await accept(world, paymaster, txid) == ()
        assert world.batch().attempts[-1].change is None
        await assert_pays_on(world, paymaster)


# Some twice, some more than they are owed


async def test_a_tenant_who_is_paid_by_two_outputs_was_paid_both(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        halves = (TxOutput(ACME.amount_sat - 300_000, ACME.script), TxOutput(300_000, ACME.script))
        change = TxOutput(LEFT_SAT + CINDER.amount_sat, world.wallet.change_script(1))
        txid = await publish(world, batch, *halves, BOREALIS, change)
        _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert [it.state for it in world.batches()] == [State.FAILED, State.FINAL]
        assert [it.amount_sat for it in world.batch(2).items if it.tenant == "acme"] == [
            it.amount_sat for it in halves
        ]
        assert world.batch(2).attempts[0].txid == txid
        assert_true(world)
        await assert_pays_on(world, paymaster)


@pytest.mark.parametrize("before_draft", [True, False])
async def test_who_was_paid_by_hand_more_than_he_is_owed_is_owed_nothing_and_the_rest_is_the_pools_loss(
    regtest: Regtest, books: Store, before_draft: bool
) -> None:
    """With a whole number of bitcoin, from the wallet's own software: before the draft, or of its anchor."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        round_sat, beyond_sat = 1_000_000, 1_000_000 - ACME.amount_sat
        to_acme = TxOutput(round_sat, ACME.script)
        if before_draft:
            await paid_by_hand(world, to_acme)
            [txid] = await suspected(world, paymaster)
        else:
            batch = await given(world, paymaster)
            change = TxOutput(COIN_SAT - round_sat - FEE_SAT, world.wallet.change_script(1))
            txid = await publish(world, batch, to_acme, change)
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"pays acme {beyond_sat} sat more than these books owe it" in question
        assert f"--accept {txid}" in question
        assert await accept(world, paymaster, txid) == ()
        assert_true(world, beyond_sat)
        assert payable(1) not in world.balances()
        with world.store.read() as connection:
            memo = connection.scalar(
                select(ledger_transactions.c.memo).where(
                    ledger_transactions.c.idempotency_key == f"overpaid:{txid}"
                )
            )
        assert memo == f"paid by {txid} beyond what was owed, known to {CREATOR} and {APPROVER}"
        await assert_pays_on(world, paymaster)


async def test_what_a_draft_holds_is_not_beyond_what_is_owed(regtest: Regtest, books: Store) -> None:
    """Else two persons who mean well make the draft pay it a second time."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await paymaster.create(CREATOR)
        await paid_by_hand(world, ACME)
        [txid] = await suspected(world, paymaster)
        questions = await accept(world, paymaster, txid)
        assert f"{ACME.amount_sat} sat in a batch that is not final: cancel that batch" in questions[0]
        await paymaster.cancel(1, CREATOR)
        _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert_true(world)
        await assert_pays_on(world, paymaster)


async def test_a_batch_that_was_paid_by_hand_while_a_signer_has_it_ends_when_its_anchor_was_moved(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        anchor = batch.attempts[0].anchor
        await paid_by_hand(world, *batch.payees, but=anchor)
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"move {anchor.txid}:{anchor.vout} to an address of the payout wallet itself" in question
        await world.spend(anchor, TxOutput(anchor.amount_sat - FEE_SAT, world.signer.script(4)))
        await world.mine(6)
        for _ in range(2):
            _, questions = await paymaster.reconciler.run(CREATOR, ())
        assert questions == ()
        assert world.batch().state is State.FINAL
        assert_true(world)
        await assert_pays_on(world, paymaster)


async def test_a_batch_that_was_lost_and_then_paid_after_all_is_known_to_two_persons(
    regtest: Regtest, books: Store
) -> None:
    """Its balances were paid by the next batch: what its payees get again is beyond what they are owed."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        anchor = batch.attempts[0].anchor
        await world.spend(anchor, TxOutput(anchor.amount_sat - FEE_SAT, world.signer.script(4)))
        await world.mine(6)
        await paymaster.follower.advance()
        await paid(world, paymaster)
        await world.fund(TxOutput(COIN_SAT, world.signer.script(6)))
        await paid_by_hand(world, *batch.payees)
        [txid] = await suspected(world, paymaster)
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert "more than these books owe it" in question
        assert await accept(world, paymaster, txid) == ()
        assert_true(world, TOTAL_SAT)
        await assert_pays_on(world, paymaster)


async def paid_by_hand(world: World, *outputs: TxOutput, but: Spend | None = None) -> None:
    """The wallet's owner pays with other software, and the change goes where that sends it."""
    coins = await coins_of(world)
    coin = next(it for it in coins if it.amount_sat == COIN_SAT and it != but)
    left_sat = coin.amount_sat - sum(it.amount_sat for it in outputs) - FEE_SAT
    world.forget_pending()
    await world.spend(coin, *outputs, TxOutput(left_sat, world.signer.script(9, change=True)))
    await world.mine(6)


async def coins_of(world: World) -> list[Spend]:
    """The wallet's coins, the newest first."""
    node = await world.nodes().first()
    found = await node.coins(world.wallet.scan_objects)
    return [
        Spend(it.txid, it.vout, it.amount_sat, it.script)
        for it in sorted(found, key=lambda it: (-it.height, it.vout))
    ]


async def suspected(world: World, paymaster: Paymaster) -> list[str]:
    node = await world.nodes().first()
    found, _ = await paymaster.reconciler.suspects.all(node)
    return [it.txid for it in found]


# What an earlier version took for a payout


async def by_a_stranger(world: World, batch: Batch | None) -> tuple[Found, int]:
    """A stranger's transaction that pays tenants, and a change address of ours so that it was looked at; and
    its height."""
    payees = (ACME,) if batch is None else batch.payees
    ours = TxOutput(20_000, world.signer.script(5, change=True))
    tx: Tx = await world.fund(*payees, ours)
    height = world.chain.tip.height - 5
    source = tx.inputs[0]
    spend = Spend(source.txid, source.vout, sum(it.amount_sat for it in tx.outputs) + 10_000, b"\x51")
    return Found(tx=tx, inputs=(spend,), made_at_height=height, change=ours), height


def finished(world: World, batch_id: int, height: int, reached: State) -> None:
    number = len(world.batch(batch_id).attempts)
    block_hash = (world.chain.hash_at(height) or b"")[::-1].hex()
    with world.store.write() as connection:
        if reached in (State.CONFIRMED, State.FINAL):
            confirm(connection, batch_id, number, block_hash, height, NOW_S)
        if reached is State.FINAL:
            finish(connection, batch_id, block_hash, NOW_S)


@pytest.mark.parametrize(
    ("reached", "adopted"), [(State.BROADCAST, False), (State.FINAL, False), (State.CONFIRMED, True)]
)
async def test_a_batch_that_a_strangers_transaction_was_taken_for_is_taken_back_by_two_persons(
    regtest: Regtest, books: Store, reached: State, adopted: bool
) -> None:
    """As versions booked it that did not ask whose coins were spent: a new batch, or an approved one."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        before = world.balances()
        batch = await approved(world, paymaster) if adopted else None
        found, height = await by_a_stranger(world, batch)
        for name in PAID_SAT if adopted else ("acme",):
            world.paid_before_sat[name] += PAID_SAT[name]  # the stranger's present
        items = (await paymaster.preview()).items[:1]
        with world.store.write() as connection:
            if batch is None:
                assert recover(connection, items, found, Act(CREATOR, NOW_S)) == 1
            else:
                assert adopt(connection, 1, found, Act(CREATOR, NOW_S))
        finished(world, 1, height, reached)
        assert payable(1) not in world.balances()
        news, _ = await paymaster.reconciler.run(CREATOR, ())
        assert any("`angara payout disown 1`" in it for it in news)
        for person in (CREATOR, CREATOR.upper(), ".".join(CREATOR)):
            assert await paymaster.disown(1, person) is None
        assert payable(1) not in world.balances()
        disowned = await paymaster.disown(1, APPROVER)
        assert disowned is not None
        assert disowned.state is State.FAILED
        assert world.balances() == before
        assert not [it for it in (await paymaster.reconciler.run(CREATOR, ()))[0] if "disown" in it]
        with pytest.raises(WrongStep, match="no transaction that spends no coin of this wallet"):
            await paymaster.disown(1, CREATOR)
        await paid(world, paymaster)
        assert world.paid_sat() == PAID_SAT
        assert_true(world)


async def test_a_real_payout_is_not_disowned(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        await publish(world, batch, *reversed(batch.payees), TxOutput(LEFT_SAT, SIGNERS))
        await paymaster.reconciler.run(CREATOR, ())
        after = world.balances()
        for person in (CREATOR, APPROVER):
            with pytest.raises(WrongStep):
                await paymaster.disown(1, person)
        assert world.balances() == after


async def test_what_two_persons_said_of_a_payout_that_is_right_is_no_word_of_its_disowning(
    regtest: Regtest, books: Store
) -> None:
    """With descriptors that came later each payout of before spends no coin of the wallet: where two persons
    had looked at one, one of them would have had it paid again."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await paid_by_hand(world, TxOutput(1_000_000, ACME.script))
        [txid] = await suspected(world, paymaster)
        assert await accept(world, paymaster, txid) == ()
        after = world.balances()
        for person in (CREATOR, CREATOR.upper()):
            with world.store.write() as connection:
                assert not disown(connection, 1, lambda _: False, Act(person, NOW_S))
        assert world.balances() == after
        assert world.batch().state is State.FINAL
        with world.store.write() as connection:
            assert disown(connection, 1, lambda _: False, Act(APPROVER, NOW_S))


async def test_what_was_owed_only_because_it_had_been_paid_is_not_owed_when_it_was_not(
    regtest: Regtest, books: Store
) -> None:
    """The payment is gone again (here by two words, else with its block): nobody gets it a second time. When
    it comes back it is the pool's loss again, once."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        before = world.balances()
        beyond_sat = 1_000_000 - ACME.amount_sat
        await paid_by_hand(world, TxOutput(1_000_000, ACME.script))
        [txid] = await suspected(world, paymaster)
        assert await accept(world, paymaster, txid) == ()
        for _ in range(2):
            paid = world.balances()
            assert paid[OVERPAID] == -beyond_sat
            for person in (CREATOR, APPROVER):  # the second time both have said it
                with world.store.write() as connection:
                    if disown(connection, 1, lambda _: False, Act(person, NOW_S)):
                        break
            print(f"owed again: {world.balances()[payable(1)]} sat of {before[payable(1)]} sat of work")
            assert world.balances() == before
            _, questions = await paymaster.reconciler.run(CREATOR, ())
            assert questions == ()
            assert world.balances() == paid
        assert_true(world, beyond_sat)


# Two tenants, one address


@pytest.mark.parametrize(("name", "owed_after_sat"), [("acme", (0, 1)), ("cinder", (1, 0))])
async def test_what_an_address_of_two_tenants_was_paid_is_not_owed_to_both(
    regtest: Regtest, books: Store, name: str, owed_after_sat: tuple[int, int]
) -> None:
    """One operator with two names: whom a payment was for cannot be seen, but that it was made."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        with world.store.write() as connection:
            set_address(connection, 3, PAYEES[0][1], effective_at_s=ADDRESS_HOLD_S)
        await paid_by_hand(world, TxOutput(PAID_SAT[name], ACME.script))
        [txid] = await suspected(world, paymaster)
        assert await accept(world, paymaster, txid) == ()
        owed_sat = [world.balances().get(payable(number), 0) for number in (1, 3)]
        print(f"paid {PAID_SAT[name]} sat, owed to the two now {owed_sat}")
        assert owed_sat == [owed_after_sat[0] * PAID_SAT["acme"], owed_after_sat[1] * PAID_SAT["cinder"]]
        await paid(world, paymaster)
        shared_sat = PAID_SAT["acme"] + PAID_SAT["cinder"]
        assert world.paid_sat() == {"acme": shared_sat, "borealis": PAID_SAT["borealis"], "cinder": 0}
        assert_true(world)
