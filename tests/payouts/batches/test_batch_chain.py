"""A payout batch and the chain, in the books: what is booked, taken back, released and found again.

On both databases: this is where money moves.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection

from payouts.batches.batch import AttemptState, BatchError, State, WrongStep, load, next_anchor
from payouts.batches.evidence import Found
from payouts.batches.found import accept_stranger, adopt, lose, recover
from payouts.batches.plan import plan
from payouts.batches.psbt import Spend, decode_psbt
from payouts.batches.steps import (
    approve,
    attempt,
    cancel,
    confirm,
    draft,
    finish,
    give,
    reorganise,
    send,
    sign,
)
from payouts.batches.transaction import Tx, TxInput, TxOutput, decode_transaction
from pool.books.store import Store
from tests.fixtures.databases import Crash, Databases, copy_of, crash_at
from tests.stages.batches import (
    ANN,
    BLOCK,
    BOB,
    CAP_SAT,
    CHAIN_S,
    FEE_SAT,
    HELD,
    MINIMUM_SAT,
    OTHER_BLOCK,
    OWED,
    Treasury,
    paid,
)
from tests.stages.payouts import NOW_S, register, script_of


@pytest.fixture
def treasury(databases: Databases) -> Iterator[Treasury]:
    with copy_of(databases, "treasury", registered) as treasury:
        yield treasury


def registered(store: Store) -> Treasury:
    register(store)
    return Treasury(store)


def test_the_sixth_confirmation_books_the_payment_once(treasury: Treasury) -> None:
    treasury.bring_to(State.BROADCAST)
    assert treasury.do(confirm, 1, 1, BLOCK, 101, CHAIN_S) is True
    assert treasury.do(confirm, 1, 1, BLOCK, 101, CHAIN_S) is False
    assert treasury.balances() == HELD
    assert treasury.do(finish, 1, BLOCK, CHAIN_S) is True
    assert treasury.do(finish, 1, BLOCK, CHAIN_S) is False
    assert treasury.balances() == paid()
    with treasury.store.read() as connection:
        tip = next_anchor(connection)
    assert tip is not None
    assert (tip[0].txid, tip[1]) == (treasury.batch().attempts[0].txid, 3)


@pytest.mark.sqlite_suffices
def test_a_reorganisation_takes_the_payment_back(treasury: Treasury) -> None:
    treasury.bring_to(State.FINAL)
    with pytest.raises(WrongStep):
        treasury.do(reorganise, 1, OTHER_BLOCK, CHAIN_S)
    assert treasury.do(reorganise, 1, BLOCK, CHAIN_S) is True
    assert treasury.do(reorganise, 1, BLOCK, CHAIN_S) is False
    assert (treasury.batch().state, treasury.balances()) == (State.BROADCAST, HELD)
    treasury.do(attempt, 1, *treasury.make(2_000), 100, ANN)
    psbt = treasury.do(give, 1, 2, ANN)
    assert isinstance(psbt, bytes)
    treasury.do(sign, 1, 2, treasury.signed(psbt), ANN)
    treasury.do(send, 1, 2, ANN)
    treasury.do(confirm, 1, 2, OTHER_BLOCK, 102, CHAIN_S)
    treasury.do(finish, 1, OTHER_BLOCK, CHAIN_S)
    assert treasury.balances() == paid(2_000)
    assert [it.state for it in treasury.batch().attempts] == [AttemptState.REPLACED, AttemptState.FINAL]


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("state", list(State))
def test_a_batch_is_cancelled_only_while_no_signer_has_it(treasury: Treasury, state: State) -> None:
    if state is State.FAILED:
        treasury.bring_to(State.DRAFT)
        treasury.do(cancel, 1, ANN)
    else:
        treasury.bring_to(state)
    before = treasury.balances()
    if state in (State.DRAFT, State.APPROVED, State.PSBT):
        treasury.do(cancel, 1, ANN)
        assert (treasury.batch().state, treasury.balances()) == (State.FAILED, OWED)
        treasury.do(draft, treasury.plan(), ANN)
    else:
        with pytest.raises(WrongStep):
            treasury.do(cancel, 1, ANN)
        assert (treasury.batch().state, treasury.balances()) == (state, before)


@pytest.mark.sqlite_suffices
def test_a_given_psbt_cannot_be_cancelled(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    treasury.do(give, 1, 1, ANN)
    with pytest.raises(WrongStep, match="a signer may have it"):
        treasury.do(cancel, 1, ANN)
    assert treasury.balances() == HELD


@pytest.mark.parametrize("state", [State.PSBT, State.BROADCAST])
def test_a_lost_anchor_releases_the_hold_once(treasury: Treasury, state: State) -> None:
    treasury.bring_to(state)
    ours = decode_psbt(treasury.batch().attempts[0].psbt or b"").tx
    elsewhere = conflict_with(treasury, coin=treasury.coin(1))
    for wrong in (ours, elsewhere):
        with pytest.raises(WrongStep, match="does not conflict"):
            treasury.do(lose, 1, wrong, ANN)
    conflict = conflict_with(treasury)
    treasury.do(lose, 1, conflict, ANN)
    with pytest.raises(WrongStep):
        treasury.do(lose, 1, conflict, ANN)
    assert (treasury.batch().state, treasury.balances()) == (State.FAILED, OWED)
    steps: tuple[tuple[Callable[..., object], tuple[object, ...]], ...] = (
        (give, (1, 1, ANN)),
        (send, (1, 1, ANN)),
        (confirm, (1, 1, BLOCK, 101, CHAIN_S)),
    )
    for step, args in steps:
        with pytest.raises(WrongStep):
            treasury.do(step, *args)


def conflict_with(treasury: Treasury, *outputs: TxOutput, coin: Spend | None = None) -> Tx:
    """A transaction of nobody we know that spends the anchor, or another coin."""
    spent = coin or treasury.coin()
    paid = outputs or (TxOutput(1_000, b"\x00\x14" + bytes(20)),)
    return Tx(2, (TxInput(spent.txid, spent.vout, b"", 0),), paid, 0)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("short_sat", [0, 1])
def test_a_batch_is_not_lost_to_what_pays_one_of_its_payees(treasury: Treasury, short_sat: int) -> None:
    treasury.bring_to(State.SIGNED)
    payee = treasury.batch().payees[2]
    change = TxOutput(1_000_000, treasury.wallet.change_script(1))
    conflict = conflict_with(treasury, change, TxOutput(payee.amount_sat - short_sat, payee.script))
    with pytest.raises(BatchError, match="pays 1 of the payees"):
        treasury.do(lose, 1, conflict, ANN)
    assert (treasury.batch().state, treasury.balances()) == (State.SIGNED, HELD)


# Found on the chain


def found(treasury: Treasury, fee_sat: int = FEE_SAT) -> Found:
    psbt, inputs, change = treasury.make(fee_sat)
    return Found(
        tx=decode_transaction(treasury.signed(psbt)), inputs=inputs, made_at_height=101, change=change
    )


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("state", [State.DRAFT, State.PSBT, State.SIGNED, State.BROADCAST])
def test_a_transaction_that_pays_a_batch_is_adopted_in_any_state(treasury: Treasury, state: State) -> None:
    treasury.bring_to(state)
    it = found(treasury, 3_000)
    assert treasury.do(adopt, 1, it, ANN) is True
    assert treasury.do(adopt, 1, it, ANN) is False
    number = len(treasury.batch().attempts)
    treasury.do(confirm, 1, number, BLOCK, 101, CHAIN_S)
    treasury.do(finish, 1, BLOCK, CHAIN_S)
    assert treasury.balances() == paid(3_000)


@pytest.mark.sqlite_suffices
def test_a_cancelled_batch_that_was_paid_after_all_is_held_again(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    it = found(treasury)
    treasury.do(cancel, 1, ANN)
    treasury.do(adopt, 1, it, ANN)
    assert (treasury.batch().state, treasury.balances()) == (State.BROADCAST, HELD)


@pytest.mark.sqlite_suffices
def test_what_pays_others_is_not_adopted(treasury: Treasury) -> None:
    treasury.bring_to(State.APPROVED)
    it = found(treasury)
    outputs = (TxOutput(1, it.tx.outputs[0].script), *it.tx.outputs[1:])
    with pytest.raises(BatchError, match="does not pay batch 1"):
        treasury.do(
            adopt, 1, msgspec.structs.replace(it, tx=msgspec.structs.replace(it.tx, outputs=outputs)), ANN
        )


@pytest.mark.sqlite_suffices
def test_a_payment_from_another_coin_than_a_signer_was_given_is_not_adopted(treasury: Treasury) -> None:
    treasury.bring_to(State.SIGNED)
    psbt, inputs, change = treasury.make(vout=1)
    it = Found(tx=decode_transaction(treasury.signed(psbt)), inputs=inputs, made_at_height=101, change=change)
    with pytest.raises(BatchError, match=r"must never be sent: move .* to an address"):
        treasury.do(adopt, 1, it, ANN)


@pytest.mark.sqlite_suffices
def test_a_batch_nobody_knew_is_recovered_once(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    it, items = found(treasury), treasury.batch().items
    treasury.do(cancel, 1, ANN)
    assert treasury.do(recover, items, it, ANN) == 2
    assert treasury.do(recover, items, it, ANN) == 2
    assert (treasury.batch(2).state, treasury.balances()) == (State.BROADCAST, HELD)


@pytest.mark.sqlite_suffices
def test_a_stranger_is_accepted_once_for_each_anchor(treasury: Treasury) -> None:
    assert treasury.do(accept_stranger, "cc" * 32, "", ANN) is True
    assert treasury.do(accept_stranger, "cc" * 32, "", BOB) is False
    assert treasury.do(accept_stranger, "cc" * 32, "dd:0", BOB) is True


# Crashes


STEPS: dict[State, Callable[[Treasury], Callable[[Connection], object]]] = {
    State.DRAFT: lambda treasury: lambda it: draft(it, plan(it, NOW_S, script_of, MINIMUM_SAT), ANN),
    State.APPROVED: lambda treasury: lambda it: approve(it, 1, load(it, 1).digest, CAP_SAT, BOB),
    State.PSBT: lambda treasury: partial(made, args=(*treasury.make(), 100, ANN)),
    State.SIGNED: lambda treasury: partial(
        signed, raw=treasury.signed(treasury.batch().attempts[0].psbt or b"")
    ),
    State.BROADCAST: lambda treasury: lambda it: send(it, 1, 1, ANN),
    State.CONFIRMED: lambda treasury: lambda it: confirm(it, 1, 1, BLOCK, 101, CHAIN_S),
    State.FINAL: lambda treasury: lambda it: finish(it, 1, BLOCK, CHAIN_S),
}
# Before every sixth statement, and, as no step has so many, before the commit.
CRASHES = (*range(2, 41, 6), 1_000)


def made(connection: Connection, args: tuple[Any, ...]) -> object:
    return attempt(connection, 1, *args)


def signed(connection: Connection, raw: bytes) -> object:
    return sign(connection, 1, 1, raw, ANN)


def test_a_step_that_crashes_anywhere_did_not_happen(treasury: Treasury) -> None:
    """From the draft to the last confirmation, each step as often as it may crash and then once more."""
    for state, step_of in STEPS.items():
        if state is State.SIGNED:
            treasury.do(give, 1, 1, ANN)
        step = step_of(treasury)
        before = treasury.balances(), treasury.events()
        for statement in CRASHES:
            with pytest.raises(Crash), crash_at(statement):
                treasury.do(step)
            assert (treasury.balances(), treasury.events()) == before, (state, statement)
        treasury.do(step)
        assert treasury.batch().state is state
