"""Payout batches on a regtest chain, with real signatures: paid once, and the ledger is the chain."""

from pathlib import Path

import msgspec
import pytest

from payouts.batches.batch import AttemptState, BatchError, State, WrongStep
from payouts.batches.psbt import Flaw, Quarantined, Spend
from payouts.batches.transaction import TxOutput, decode_transaction
from payouts.ledger import PoolAccount, in_payout, payable
from pool.books.store import Store
from pool.chain.nodes import Node
from pool.treasury.chain_node import Answer
from pool.treasury.coins import CHANGE_SAT_MIN, TooFewCoins
from pool.treasury.wallet import finalise
from tests.histories.batches import approved, sent, signed
from tests.stages.payouts import (
    APPROVER,
    COIN_SAT,
    COINS,
    CREATOR,
    NODE,
    PAID_SAT,
    Regtest,
    World,
    credit,
    world_of,
)

TOTAL_SAT = sum(PAID_SAT.values())
COINS_ACCOUNT, FEES_ACCOUNT = PoolAccount.COINS.value, PoolAccount.NODE_FEES.value
EXPENSE = PoolAccount.PPS_EXPENSE.value
STRANGER_SCRIPT = b"\x00\x14" + bytes(range(20))


def assert_paid(world: World, fee_sat: int, batch_id: int = 1) -> None:
    """Each tenant was paid exactly once, and the ledger is the chain to the satoshi."""
    assert world.batch(batch_id).state is State.FINAL
    assert world.paid_sat() == PAID_SAT
    assert world.wallet_sat() == COINS * COIN_SAT - TOTAL_SAT - fee_sat
    assert world.balances() == {
        EXPENSE: -TOTAL_SAT,
        COINS_ACCOUNT: TOTAL_SAT + fee_sat,
        FEES_ACCOUNT: -fee_sat,
    }


def assert_unpaid(world: World) -> None:
    """Nobody was paid, and everything is payable."""
    assert world.paid_sat() == dict.fromkeys(PAID_SAT, 0)
    assert world.balances() == {
        EXPENSE: -TOTAL_SAT,
        **{payable(number): sat for number, sat in enumerate(PAID_SAT.values(), 1)},
    }


# Paying


@pytest.mark.parametrize(("kind", "complete"), [("wpkh", False), ("tr", True)])
async def test_three_kinds_of_addresses_are_paid(
    regtest: Regtest, books: Store, kind: str, complete: bool
) -> None:
    async with world_of(regtest, books, kind) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        assert world.balances() == {
            EXPENSE: -TOTAL_SAT,
            **{in_payout(number): sat for number, sat in enumerate(PAID_SAT.values(), 1)},
        }
        txid = await signed(world, paymaster, batch.id, complete=complete)
        await paymaster.broadcast(batch.id, CREATOR)
        assert world.pending() == [txid]
        for blocks, state in ((1, State.CONFIRMED), (4, State.CONFIRMED), (1, State.FINAL), (9, State.FINAL)):
            await world.mine(blocks)
            await paymaster.follower.advance()
            assert world.batch().state is state
        attempt = world.batch().attempts[0]
        assert (attempt.state, attempt.txid) == (AttemptState.FINAL, txid)
        assert_paid(world, attempt.fee_sat)


async def test_the_next_batch_spends_the_change_of_the_last(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        first = await sent(world, paymaster)
        with books.write() as connection:
            credit(connection, 1, 50_000, "more work")
        second = await approved(world, paymaster)  # may be drafted and approved while the first is under way
        with pytest.raises(WrongStep, match="batch 1 is broadcast: batch 2 spends its change, and waits"):
            await paymaster.export(second.id, CREATOR)
        await world.mine(6)
        await paymaster.follower.advance()
        await signed(world, paymaster, second.id)
        anchor = world.batch(second.id).attempts[0].anchor
        assert (anchor.txid, anchor.vout) == (first, len(PAID_SAT))
        await paymaster.broadcast(second.id, CREATOR)
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.batch(second.id).state is State.FINAL
        assert world.paid_sat() == {**PAID_SAT, "acme": PAID_SAT["acme"] + 50_000}
        fees_sat = sum(it.attempts[0].fee_sat for it in world.batches())
        assert world.balances()[COINS_ACCOUNT] == TOTAL_SAT + 50_000 + fees_sat
        assert world.wallet_sat() == COINS * COIN_SAT - TOTAL_SAT - 50_000 - fees_sat


async def test_coins_that_are_young_or_immature_are_not_spent(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            credit(connection, 1, COIN_SAT, "more than one coin is worth")
        await world.node.generate(world.signer.script(5))  # the most by far, and not mature
        await world.fund(TxOutput(5 * COIN_SAT, world.signer.script(6)), deep=1)
        await world.fund(TxOutput(6 * COIN_SAT, world.signer.script(7)), deep=4)
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        await paymaster.export(batch.id, CREATOR)
        inputs = world.batch().attempts[0].inputs
        assert {it.amount_sat for it in inputs} == {COIN_SAT}
        assert len(inputs) == 2


async def test_the_largest_coins_that_are_deep_enough_are_spent(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            credit(connection, 1, COIN_SAT, "more than one coin is worth")
        await world.fund(TxOutput(5 * COIN_SAT, world.signer.script(6)))
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        await paymaster.export(batch.id, CREATOR)
        anchor, other = world.batch().attempts[0].inputs
        assert (anchor.amount_sat, other.amount_sat) == (COIN_SAT, 5 * COIN_SAT)


async def test_a_wallet_with_too_little_says_how_much_is_missing(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            credit(connection, 1, COINS * COIN_SAT, "a lot of work")
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        with pytest.raises(TooFewCoins, match=r"need \d+ sat more than the wallet has"):
            await paymaster.export(batch.id, CREATOR)
        assert world.batch().state is State.APPROVED


# Fees


async def test_a_bump_replaces_and_pays_the_same_people(regtest: Regtest, store: Store) -> None:
    async with world_of(regtest, store) as world:
        paymaster = world.paymaster()
        first = await sent(world, paymaster)
        made = await paymaster.bump(1, CREATOR, 10)
        assert await paymaster.bump(1, CREATOR, 10) == made  # nobody was given it yet
        second = await signed(world, paymaster, 1)
        assert world.pending() == [first]
        await paymaster.broadcast(1, CREATOR)
        assert world.pending() == [second]
        states = [it.state for it in world.batch().attempts]
        assert states == [AttemptState.REPLACED, AttemptState.BROADCAST]
        await world.mine(6)
        await paymaster.follower.advance()
        one, two = world.batch().attempts
        assert (one.state, two.state) == (AttemptState.REPLACED, AttemptState.FINAL)
        assert one.anchor == two.anchor
        assert_paid(world, two.fee_sat)


async def test_either_attempt_may_be_the_one_that_confirms(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        first = await sent(world, paymaster)
        await paymaster.bump(1, CREATOR, 10)
        await signed(world, paymaster, 1)
        await paymaster.broadcast(1, CREATOR)
        world.forget_pending()  # somebody else's miner has only ever seen the first
        await world.rpc.call("sendrawtransaction", (world.batch().attempts[0].signed_tx or b"").hex())
        await world.mine(6)
        await paymaster.follower.advance()
        assert [it.state for it in world.batch().attempts] == [AttemptState.FINAL, AttemptState.REPLACED]
        assert world.batch().attempts[0].txid == first
        assert_paid(world, world.batch().attempts[0].fee_sat)


async def test_a_fee_above_the_cap_needs_another_approval(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster, fee_cap_sat=300)
        with pytest.raises(BatchError, match="300 sat are approved: approve a higher cap"):
            await paymaster.export(batch.id, CREATOR)
        await paymaster.approve(batch.id, batch.digest, 1_000, APPROVER)
        await signed(world, paymaster, batch.id)
        await paymaster.broadcast(batch.id, CREATOR)
        with pytest.raises(BatchError, match="1000 sat are approved: approve a higher cap"):
            await paymaster.bump(batch.id, CREATOR, 50)
        await paymaster.approve(batch.id, batch.digest, 20_000, APPROVER)
        assert 10_000 < (await paymaster.bump(batch.id, CREATOR, 50)).fee_sat <= 20_000


async def test_a_cap_that_was_lowered_since_keeps_the_signed_transaction_out(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        given = await paymaster.export(batch.id, CREATOR)
        await paymaster.approve(batch.id, batch.digest, given.fee_sat - 1, APPROVER)
        with pytest.raises(Quarantined) as wrong:
            await paymaster.receive(batch.id, world.signer.sign(given.psbt), CREATOR)
        assert wrong.value.flaw is Flaw.FEE


async def test_a_bump_that_the_change_cannot_pay_takes_another_coin(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        with books.write() as connection:
            credit(connection, 1, 2 * COIN_SAT - TOTAL_SAT - 3 * CHANGE_SAT_MIN, "so that little is left")
        paymaster = world.paymaster()
        await sent(world, paymaster)
        await paymaster.approve(1, world.batch().digest, 200_000, APPROVER)
        await paymaster.bump(1, CREATOR, 100)
        second = await signed(world, paymaster, 1)
        await paymaster.broadcast(1, CREATOR)
        assert world.pending() == [second]
        one, two = world.batch().attempts
        assert two.inputs[: len(one.inputs)] == one.inputs
        assert len(two.inputs) == len(one.inputs) + 1


# What comes back from the signer


async def test_what_was_not_given_is_quarantined_and_the_right_thing_is_still_taken(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        given = await paymaster.export(batch.id, CREATOR)
        tx = decode_transaction(finalise(given.psbt, world.signer.sign(given.psbt)))
        stolen = msgspec.structs.replace(
            tx, outputs=(TxOutput(tx.outputs[0].amount_sat, STRANGER_SCRIPT), *tx.outputs[1:])
        )
        with pytest.raises(Quarantined) as wrong:
            await paymaster.receive(batch.id, stolen.raw.hex().encode(), CREATOR)
        assert wrong.value.flaw is Flaw.PAYEE
        [attempt] = world.batch().attempts
        assert attempt.state is AttemptState.QUARANTINED
        assert attempt.signed_tx is None
        with pytest.raises(WrongStep, match="nothing is signed"):
            await paymaster.broadcast(batch.id, CREATOR)
        with pytest.raises(WrongStep, match="a signer may have it"):
            await paymaster.cancel(batch.id, CREATOR)
        assert world.pending() == []
        await signed(world, paymaster, batch.id)
        assert world.batch().state is State.SIGNED


async def test_a_wrong_signature_is_found_by_the_node(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books, "tr") as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        given = await paymaster.export(batch.id, CREATOR)
        tx = decode_transaction(finalise(given.psbt, world.signer.sign(given.psbt)))
        signature = tx.inputs[0].witness[0]
        forged = (bytes([signature[0] ^ 1]) + signature[1:],)
        inputs = (msgspec.structs.replace(tx.inputs[0], witness=forged), *tx.inputs[1:])
        with pytest.raises(Quarantined) as wrong:
            await paymaster.receive(batch.id, msgspec.structs.replace(tx, inputs=inputs).raw, CREATOR)
        assert wrong.value.flaw is Flaw.WITNESS
        assert world.batch().attempts[0].state is AttemptState.QUARANTINED


async def test_the_same_signed_transaction_twice_is_no_mistake(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        given = await paymaster.export(batch.id, CREATOR)
        back = world.signer.sign(given.psbt)
        assert (await paymaster.receive(batch.id, back, CREATOR)).fresh
        kept = world.batch().attempts[0].signed_tx
        assert not (await paymaster.receive(batch.id, back, CREATOR)).fresh
        with pytest.raises(Quarantined):
            await paymaster.receive(batch.id, b"junk", CREATOR)
        [attempt] = world.batch().attempts
        assert (attempt.state, attempt.signed_tx) == (AttemptState.SIGNED, kept)


# Nodes


async def test_a_transaction_goes_to_every_node_and_again_when_none_answers(
    regtest: Regtest, books: Store, tmp_path: Path
) -> None:
    async with world_of(regtest, books) as world:
        other = World(regtest, books)  # another node on the same chain, with a memory pool of its own
        world.clients.append(Node(msgspec.structs.replace(NODE, name="two"), transport=other.wire))
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        txid = await signed(world, paymaster, batch.id)
        world.wire.down = True
        one, two = await paymaster.broadcast(batch.id, CREATOR)
        assert (one.answer, two.answer) == (Answer.UNKNOWN, Answer.SENT)
        assert (world.pending(), other.pending()) == ([], [txid])
        world.wire.down = False
        await paymaster.follower.advance()
        assert (world.pending(), other.pending()) == ([txid], [txid])
        assert world.batch().state is State.BROADCAST
        await other.aclose()


async def test_not_in_the_memory_pool_is_no_failure(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        txid = await sent(world, paymaster)
        for _ in range(3):
            world.forget_pending()
            await world.mine()
            await paymaster.follower.advance()
            assert world.batch().state is State.BROADCAST
            assert world.pending() == [txid]


# Reorganisations


@pytest.mark.parametrize("deep", [1, 6])
async def test_reorganised_out_and_back(regtest: Regtest, books: Store, deep: int) -> None:
    """From the first confirmation and from the sixth, by which the payment was booked."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        txid = await sent(world, paymaster)
        await world.mine(deep)
        await paymaster.follower.advance()
        assert world.batch().state is (State.CONFIRMED if deep == 1 else State.FINAL)
        await world.reorganise(deep)
        world.forget_pending()
        assert world.paid_sat() == dict.fromkeys(PAID_SAT, 0)
        await paymaster.follower.advance()
        assert world.batch().state is State.BROADCAST
        assert world.balances() == {
            EXPENSE: -TOTAL_SAT,
            **{in_payout(number): sat for number, sat in enumerate(PAID_SAT.values(), 1)},
        }
        assert world.pending() == [txid]
        await world.mine(6)
        await paymaster.follower.advance()
        assert_paid(world, world.batch().attempts[0].fee_sat)


async def test_another_attempt_may_confirm_after_a_reorganisation(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await sent(world, paymaster)
        await world.mine()
        await paymaster.follower.advance()
        await world.reorganise(1)
        world.forget_pending()
        await paymaster.follower.advance()
        await paymaster.bump(1, CREATOR, 10)
        second = await signed(world, paymaster, 1)
        await paymaster.broadcast(1, CREATOR)
        assert world.pending() == [second]
        await world.mine(6)
        await paymaster.follower.advance()
        assert_paid(world, world.batch().attempts[1].fee_sat)


# Failing


async def test_a_batch_that_no_signer_had_is_cancelled_in_every_state(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await paymaster.create(CREATOR)
        assert (await paymaster.cancel(batch.id, CREATOR)).state is State.FAILED
        assert_unpaid(world)
        batch = await approved(world, paymaster)
        assert (await paymaster.cancel(batch.id, CREATOR)).state is State.FAILED
        assert_unpaid(world)
        with pytest.raises(WrongStep):
            await paymaster.cancel(batch.id, CREATOR)


@pytest.mark.parametrize("state", [State.PSBT, State.BROADCAST])
async def test_a_move_of_the_anchor_to_ourselves_ends_the_batch(
    regtest: Regtest, books: Store, state: State
) -> None:
    """The way out where a signer had the batch and will not sign: with six confirmations it has failed."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        given = await paymaster.export(batch.id, CREATOR)
        if state is not State.PSBT:
            await signed(world, paymaster, batch.id)
        if state is State.BROADCAST:
            await paymaster.broadcast(batch.id, CREATOR)
        world.forget_pending()
        anchor = world.batch().attempts[0].anchor
        await world.spend(anchor, TxOutput(anchor.amount_sat - 5_000, world.signer.script(9)))
        await world.mine(5)
        await paymaster.follower.advance()
        assert world.batch().state is state
        await world.mine(1)
        await paymaster.follower.advance()
        assert world.batch().state is State.FAILED
        assert_unpaid(world)
        back = world.signer.sign(given.psbt)
        with pytest.raises(BatchError):
            await paymaster.receive(batch.id, back, CREATOR)
        await sent(world, paymaster)
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.batch(2).state is State.FINAL
        assert world.paid_sat() == PAID_SAT


async def test_an_anchor_that_somebody_else_got_is_for_a_person_to_look_at(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await sent(world, paymaster)
        world.forget_pending()
        anchor: Spend = world.batch().attempts[0].anchor
        conflict = await world.spend(anchor, TxOutput(anchor.amount_sat - 5_000, STRANGER_SCRIPT))
        await world.mine(8)
        [news] = await paymaster.follower.advance()
        assert "run `angara payout reconcile`" in news
        assert world.batch().state is State.BROADCAST
        _, [question] = await paymaster.reconciler.run(CREATOR, ())
        assert f"two persons say so, each with `angara payout reconcile --accept {conflict}`" in question
        _, [question] = await paymaster.reconciler.run(CREATOR, [conflict])
        assert f"{CREATOR} looked at it; somebody else has to" in question
        assert world.batch().state is State.BROADCAST
        done, questions = await paymaster.reconciler.run(APPROVER, [conflict])
        assert (len(done), questions) == (2, ())
        assert world.batch().state is State.FAILED
        assert_unpaid(world)
