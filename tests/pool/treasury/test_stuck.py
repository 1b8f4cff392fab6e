"""A payout that does not go on by itself: too low a fee, signatures that nobody takes, rows that are broken.

Whatever is done about it, all attempts spend one coin, and the signatures of one attempt are for one
transaction: each tenant is paid once.
"""

from typing import cast

import msgspec
import pytest
import trio
from sqlalchemy import text
from structlog.testing import capture_logs

import pool.treasury.follower
from payouts.batches.batch import AttemptState, BatchError, State, WrongStep
from payouts.batches.psbt import Quarantined
from payouts.batches.transaction import Tx, decode_transaction
from pool.books.store import Store
from pool.regtest.http import Reply
from pool.treasury.books import PayoutBooks
from pool.treasury.chain_node import Answer, PayoutNodes, is_for_good
from pool.treasury.follower import Follower, Survey
from pool.treasury.wallet import finalise
from tests.fakes.treasuries import NodeThatIsBehind
from tests.histories.batches import approved, credit_more, given, paid, sent, signed
from tests.stages.payouts import APPROVER, CREATOR, PAID_SAT, Regtest, World, world_of


class NodeThatRefuses:
    """The node, which says that it would take no transaction, or none of these."""

    def __init__(self, world: World, reason: str, *txids: str) -> None:
        self._world, self._rpc = world, world.rpc_server
        self._reason, self._txids = reason, txids
        world.wire._rpc = self  # type: ignore[assignment]

    def recover(self) -> None:
        self._world.wire._rpc = self._rpc

    async def answer(self, body: bytes) -> Reply:
        call = msgspec.json.decode(body)
        if call["method"] not in ("testmempoolaccept", "sendrawtransaction"):
            return await self._rpc.answer(body)
        [raw] = call["params"][0] if call["method"] == "testmempoolaccept" else [call["params"][0]]
        if self._txids and decode_transaction(bytes.fromhex(raw)).txid not in self._txids:
            return await self._rpc.answer(body)
        answer: dict[str, object] = {"id": call["id"], "result": None, "error": None}
        if call["method"] == "testmempoolaccept":
            answer["result"] = [{"allowed": False, "reject-reason": self._reason}]
        else:
            answer["error"] = {"code": -26, "message": self._reason}
        status = 200 if answer["error"] is None else 500
        return Reply(status=status, body=msgspec.json.encode(answer))


def forged(tx: Tx) -> Tx:
    """The same transaction with a signature that is none."""
    signature = tx.inputs[0].witness[0]
    witness = (signature[:20] + bytes([signature[20] ^ 1]) + signature[21:], *tx.inputs[0].witness[1:])
    first = msgspec.structs.replace(tx.inputs[0], witness=witness)
    return msgspec.structs.replace(tx, inputs=(first, *tx.inputs[1:]))


def fee_rate_sat_vb(world: World) -> int:
    """What the newest signed transaction pays, in whole sat/vB."""
    attempt = world.batch().attempts[-1]
    return attempt.fee_sat * 4 // decode_transaction(attempt.signed_tx or b"").weight


# Fees


async def test_a_bump_has_the_rate_that_it_is_given_also_where_another_was_made_before(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await sent(world, paymaster)
        first = await paymaster.bump(1, CREATOR, 10)
        second = await paymaster.bump(1, CREATOR, 25)
        assert await paymaster.bump(1, CREATOR, 25) == await paymaster.bump(1, CREATOR) == second
        third = await paymaster.bump(
            1, CREATOR, 7
        )  # less than what nobody was given is no less than what was
        assert first.fee_sat < second.fee_sat > third.fee_sat
        states = [it.state for it in world.batch().attempts]
        assert states == [AttemptState.BROADCAST, AttemptState.FAILED, AttemptState.FAILED, AttemptState.PSBT]
        txid = await signed(world, paymaster, 1)
        assert (txid, fee_rate_sat_vb(world)) == (third.txid, 7)
        with pytest.raises(WrongStep, match=r"a signer has attempt 4.*`angara payout bump 1 --fee-rate 30`"):
            await paymaster.export(1, CREATOR, 30)
        await paymaster.export(1, CREATOR, 7)  # again, as after a crash
        await paymaster.broadcast(1, CREATOR)
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.paid_sat() == PAID_SAT


async def test_a_rate_that_would_not_replace_is_refused_with_the_one_that_does(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await sent(world, paymaster)
        with pytest.raises(BatchError, match="at least 3 sat/vB"):
            await paymaster.bump(1, CREATOR, 2)
        assert len(world.batch().attempts) == 1
        await paymaster.bump(1, CREATOR, 3)
        txid = await signed(world, paymaster, 1)
        [answer] = await paymaster.broadcast(1, CREATOR)
        assert (answer.answer, world.pending()) == (Answer.SENT, [txid])


async def test_a_fee_that_no_node_takes_any_more_is_bumped_and_paid_once(
    regtest: Regtest, books: Store
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await approved(world, paymaster)
        low = await signed(world, paymaster, batch.id)
        node = NodeThatRefuses(world, "min relay fee not met", low)
        [answer] = await paymaster.broadcast(1, CREATOR)
        assert answer.answer is Answer.REFUSED
        await paymaster.follower.advance()
        assert (world.batch().state, world.pending()) == (State.BROADCAST, [])
        await paymaster.bump(1, CREATOR, 10)
        high = await signed(world, paymaster, 1)
        await paymaster.broadcast(1, CREATOR)
        assert world.pending() == [high]
        node.recover()
        await paymaster.follower.advance()  # both can be sent now, and one of them can be in the chain
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.paid_sat() == PAID_SAT


# Signatures


async def test_signatures_that_no_node_will_take_are_replaced_and_the_payment_is_one(
    regtest: Regtest, books: Store
) -> None:
    """They were stored while the node could not judge them: it had not seen the coin."""
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        batch = await given(world, paymaster)
        psbt = batch.attempts[0].psbt or b""
        good = decode_transaction(finalise(psbt, world.signer.sign(psbt)))
        node = NodeThatRefuses(world, "missing-inputs")
        taken = await paymaster.receive(1, forged(good).raw, CREATOR)
        assert (taken.fresh, taken.warning) == (True, "missing-inputs")
        assert not (await paymaster.receive(1, good.raw, CREATOR)).replaced  # that may be otherwise tomorrow
        node.recover()
        [answer] = await paymaster.broadcast(1, CREATOR)
        assert answer.answer is Answer.REFUSED
        assert is_for_good(answer.words)
        again = await paymaster.receive(1, good.raw, APPROVER)
        assert (again.fresh, again.replaced, again.txid) == (False, True, taken.txid)
        assert not (await paymaster.receive(1, good.raw, CREATOR)).replaced
        with pytest.raises(Quarantined):
            await paymaster.receive(1, forged(good).raw, CREATOR)
        [attempt] = world.batch().attempts
        assert (attempt.state, attempt.signed_tx) == (AttemptState.BROADCAST, good.raw)
        await paymaster.follower.advance()
        assert world.pending() == [taken.txid]
        await world.mine(6)
        await paymaster.follower.advance()
        assert world.paid_sat() == PAID_SAT


@pytest.mark.parametrize(
    ("refusal", "final"),
    [
        ("mandatory-script-verify-flag-failed (Signature must be zero for failed CHECK(MULTI)SIG)", True),
        ("mempool-script-verify-flag-failed (Invalid Schnorr signature)", True),
        ("bad-witness-nonstandard", True),
        ("min relay fee not met, 100 < 110", False),
        ("insufficient fee, rejecting replacement", False),
        ("bad-txns-inputs-missingorspent", False),
        ("missing-inputs", False),
        ("non-final", False),
        ("scriptpubkey", False),
        ("too-long-mempool-chain", False),
    ],
)
def test_only_a_signature_that_is_wrong_is_wrong_for_good(refusal: str, final: bool) -> None:
    assert is_for_good(refusal) is final


# Other batches


def spoil(books: Store, script: str) -> None:
    """Batch 1 has this for the script of its change."""
    with books.write() as connection:
        statement = text("UPDATE payout_attempts SET change_script = :script WHERE batch_id = 1")
        connection.execute(statement, {"script": script})


async def test_one_batch_that_cannot_be_followed_keeps_no_other_from_its_turn(
    regtest: Regtest, books: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world_of(regtest, books) as world:
        paymaster = world.paymaster()
        await paid(world, paymaster)
        credit_more(world, 1, 50_000, "more work")
        await sent(world, paymaster)
        spoil(books, "zz")
        await world.mine()
        with pytest.raises(ValueError, match="hexadecimal"):
            await paymaster.follower.advance()
        assert world.batch(2).state is State.CONFIRMED
        survey = await paymaster.follower.survey()
        assert [it.partition(":")[0] for it in survey.trouble_words] == ["batch 1 cannot be followed"]
        await world.mine(5)
        monkeypatch.setattr(pool.treasury.follower, "PASS_EVERY_S", 0)
        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(paymaster.follower.run)
                while not any(it["event"] == "payout_final" for it in logs):
                    await trio.lowlevel.checkpoint()
                with books.write() as connection:
                    connection.execute(
                        text("UPDATE payout_attempts SET change_script = '00' WHERE batch_id = 1")
                    )
                while not any(it["event"] == "payouts_followed_again" for it in logs):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        told = [(it["event"], it["batch"]) for it in logs if it["event"].startswith("payouts_")]
        assert told == [("payouts_not_followed", 1), ("payouts_followed_again", 1)]
        assert world.batch(2).state is State.FINAL


async def test_a_payout_stays_paid_while_the_only_node_that_answers_is_behind(
    regtest: Regtest, books: Store
) -> None:
    """It was booked back, so that the day's statement has it as not paid, and sent again."""
    async with world_of(regtest, books) as world:
        await paid(world, world.paymaster())
        before = world.balances()
        behind = cast(PayoutNodes, NodeThatIsBehind(world.nodes(), 10))
        payout_books = PayoutBooks(world.store, lambda: world.now_s)
        assert await Follower(payout_books, behind, world.wallet).survey() == Survey((), {})
        assert (world.batch().state, world.balances()) == (State.FINAL, before)
