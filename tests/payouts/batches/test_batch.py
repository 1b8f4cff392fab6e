"""The steps of a payout batch in the books, up to its sending: what each does, and what it refuses."""

from collections.abc import Callable

import msgspec
import pytest
from sqlalchemy import update
from sqlalchemy.exc import DatabaseError, IntegrityError

import payouts.batches.steps
from payouts.batches.batch import ATTEMPT_MOVES, MOVES, AttemptState, BatchError, State, WrongStep
from payouts.batches.plan import Plan, digest, outdated
from payouts.batches.psbt import Flaw, Quarantined
from payouts.batches.rows import Act
from payouts.batches.schema import payout_approvals, payout_batches, payout_events, payout_items
from payouts.batches.steps import approve, attempt, cancel, draft, give, quarantine, send, sign
from payouts.schemas.money import tenants
from pool.books.store import Store
from tests.stages.batches import ANN, BOB, CAP_SAT, FEE_SAT, HELD, OWED, Treasury
from tests.stages.payouts import NOW_S, PAYEES, credit, register, script_of, set_address

THIEF = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202"


@pytest.fixture
def treasury(books: Store) -> Treasury:
    register(books)
    return Treasury(books)


# The tables


def test_every_state_is_reached_and_can_end() -> None:
    assert set(MOVES) == {None, *State}
    assert set(ATTEMPT_MOVES) == {None, *AttemptState}
    assert set().union(*MOVES.values()) == set(State)
    assert set().union(*ATTEMPT_MOVES.values()) == set(AttemptState)
    assert all(State.FAILED not in MOVES[it] for it in (State.CONFIRMED, State.FINAL, State.FAILED))


def test_no_table_allows_a_fresh_start_after_a_signer_had_it() -> None:
    for state in (State.SIGNED, State.BROADCAST, State.CONFIRMED, State.FINAL, State.FAILED):
        assert not MOVES[state] & {State.DRAFT, State.APPROVED, State.PSBT}


# What is asked of the batch in a state, and done: everything else is refused in words, and changes nothing.
DONE: dict[State, set[str]] = {
    State.DRAFT: {"approve", "cancel"},
    State.APPROVED: {"approve", "attempt", "cancel"},
    State.PSBT: {"approve", "attempt", "give", "cancel"},
    State.SIGNED: {"approve", "attempt", "give", "sign", "send"},
    State.BROADCAST: {"approve", "attempt", "give", "sign", "send"},
    State.CONFIRMED: set(),
    State.FINAL: set(),
}


@pytest.mark.simulation
@pytest.mark.parametrize("state", DONE)
def test_a_step_is_taken_where_the_state_allows_it_and_nowhere_else(treasury: Treasury, state: State) -> None:
    treasury.bring_to(State.DRAFT)
    signed = treasury.signed(treasury.make()[0])
    bumped = treasury.make(FEE_SAT + 500)
    if state is not State.DRAFT:
        treasury.bring_from_draft_to(state)
    number = 1
    steps: dict[str, tuple[Callable[..., object], tuple[object, ...]]] = {
        "approve": (approve, (treasury.batch().digest, CAP_SAT + 1, BOB)),
        "attempt": (attempt, (*bumped, 100, ANN)),
        "give": (give, (number, ANN)),
        "sign": (sign, (number, signed, ANN)),
        "send": (send, (number, ANN)),
        "cancel": (cancel, (ANN,)),
    }
    done = set()
    before = treasury.batch(), treasury.events(), treasury.balances()
    for name, (step, arguments) in steps.items():
        try:
            with treasury.write() as connection:
                step(connection, 1, *arguments)
                done.add(name)
                raise Undone
        except (BatchError, Undone):
            pass
        assert (treasury.batch(), treasury.events(), treasury.balances()) == before
    assert done == DONE[state]


class Undone(Exception):
    """What was looked at is not kept."""


def test_the_same_transaction_is_not_an_attempt_twice(treasury: Treasury) -> None:
    treasury.bring_to(State.SIGNED)
    with pytest.raises(WrongStep, match="that of attempt 1"):
        treasury.do(attempt, 1, *treasury.make(), 100, ANN)


def test_there_is_no_batch_but_those_that_there_are(treasury: Treasury) -> None:
    with pytest.raises(BatchError, match="there is no batch 7"):
        treasury.do(cancel, 7, ANN)


# Draft and approval


def test_a_draft_holds_the_balances(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    assert treasury.balances() == HELD
    assert treasury.batch().digest == digest(treasury.batch().items)
    assert treasury.events() == [("draft", None, True)]
    assert treasury.plan().items == ()


def test_there_is_one_draft_at_a_time(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    with treasury.write() as connection:
        credit(connection, 1, 5_000, "more")
    with pytest.raises(WrongStep, match="batch 1 is a draft already"):
        treasury.do(draft, treasury.plan(), ANN)
    with pytest.raises(IntegrityError), treasury.write() as connection:  # whatever the code does
        connection.execute(
            payout_batches.insert().values(state="draft", digest="", created_by="x", created_at_s=0)
        )


def test_an_empty_batch_is_not_drafted(books: Store) -> None:
    with pytest.raises(BatchError, match="nobody to pay"):
        Treasury(books).do(draft, Plan((), ()), ANN)


def test_the_digest_is_of_all_that_is_paid_and_to_whom(treasury: Treasury) -> None:
    items = treasury.plan().items
    digests = {digest(items)}
    for changes in ({"amount_sat": 1}, {"address": "x"}, {"script": b""}, {"tenant_id": 9}, {"position": 7}):
        digests.add(digest((msgspec.structs.replace(items[0], **changes), *items[1:])))
    digests.add(digest(items[:-1]))
    assert len(digests) == 7


def test_somebody_else_approves_what_was_drafted(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    good = treasury.batch().digest
    for wrong, act, cap_sat, words in (
        (good, ANN, CAP_SAT, "somebody else has to approve it"),
        (good, Act("ANN", NOW_S), CAP_SAT, "somebody else has to approve it"),
        ("00" * 32, BOB, CAP_SAT, "another digest"),
        (good, BOB, 0, "no fee cap"),
        (good, BOB, 10**16, "no fee cap"),
    ):
        with pytest.raises(BatchError, match=words):
            treasury.do(approve, 1, wrong, cap_sat, act)
    assert treasury.batch().state is State.DRAFT
    assert treasury.do(approve, 1, good, CAP_SAT, BOB) is True
    assert treasury.do(approve, 1, good, CAP_SAT, BOB) is False
    assert treasury.do(approve, 1, good, CAP_SAT + 1, BOB) is True
    assert (treasury.batch().state, treasury.batch().fee_cap_sat) == (State.APPROVED, CAP_SAT + 1)


@pytest.mark.parametrize("name", ["", " ann", "a\nb", "x" * 65])
def test_a_name_is_a_name(name: str) -> None:
    with pytest.raises(BatchError, match="not a person's name"):
        Act(name, NOW_S)


@pytest.mark.parametrize("what", ["suspended", "address"])
@pytest.mark.parametrize("state", [State.DRAFT, State.APPROVED, State.PSBT])
def test_what_changes_for_a_payee_stops_the_batch_until_it_is_given(
    treasury: Treasury, what: str, state: State
) -> None:
    treasury.bring_to(state)
    with treasury.write() as connection:
        if what == "suspended":
            connection.execute(update(tenants).where(tenants.c.id == 2).values(status="suspended"))
        else:
            set_address(connection, 2, PAYEES[0][1])
        assert outdated(connection, treasury.batch().items, NOW_S) is not None
    step: dict[State, Callable[[], object]] = {
        State.DRAFT: lambda: treasury.do(approve, 1, treasury.batch().digest, CAP_SAT, BOB),
        State.APPROVED: lambda: treasury.do(attempt, 1, *treasury.make(), 100, ANN),
        State.PSBT: lambda: treasury.do(give, 1, 1, ANN),
    }
    with pytest.raises(BatchError, match=r"borealis .* cancel batch 1"):
        step[state]()
    treasury.do(cancel, 1, ANN)
    assert treasury.balances() == OWED


def test_a_second_transaction_in_place_of_one_that_nobody_was_given_stops_as_well(treasury: Treasury) -> None:
    """The thief of an address has who exports killed when the first is made, and asked for another rate: the
    second was given to the signer, 1,200,002 sat to an address that had been changed meanwhile."""
    treasury.bring_to(State.PSBT)
    with treasury.write() as connection:
        set_address(connection, 2, PAYEES[0][1])
    treasury.do(attempt, 1, *treasury.make(FEE_SAT + 500), 100, ANN)
    with pytest.raises(BatchError, match=r"borealis .* cancel batch 1"):
        treasury.do(give, 1, 2, ANN)
    treasury.do(cancel, 1, ANN)
    assert treasury.balances() == OWED


def test_what_a_signer_has_gets_a_higher_cap_though_a_payee_has_another_address_by_now(
    treasury: Treasury,
) -> None:
    treasury.bring_to(State.PSBT)
    treasury.do(give, 1, 1, ANN)
    with treasury.write() as connection:
        set_address(connection, 2, PAYEES[0][1])
    treasury.do(approve, 1, treasury.batch().digest, CAP_SAT + 1, BOB)
    assert treasury.batch().fee_cap_sat == CAP_SAT + 1
    treasury.do(attempt, 1, *treasury.make(FEE_SAT + 500), 100, ANN)
    treasury.do(give, 1, 2, ANN)


def test_what_a_signer_has_gets_a_higher_cap_though_who_drafted_it_has_left(
    treasury: Treasury,
) -> None:
    """It cannot be called off, and nobody else will ever have drafted it. What no signer has can."""
    treasury.bring_to(State.PSBT)
    digest_hex, bob = treasury.batch().digest, Act(BOB.by, NOW_S, gone=frozenset({ANN.by}))
    with pytest.raises(BatchError, match="somebody else has to approve it"):
        treasury.do(approve, 1, digest_hex, CAP_SAT + 1, bob)
    treasury.do(give, 1, 1, BOB)
    for ann in (ANN, Act("petra", NOW_S, also=frozenset({ANN.by}))):
        with pytest.raises(BatchError, match="somebody else has to approve it"):
            treasury.do(approve, 1, digest_hex, CAP_SAT + 1, ann)
    treasury.do(approve, 1, digest_hex, CAP_SAT + 1, bob)
    assert treasury.batch().fee_cap_sat == CAP_SAT + 1


def test_what_is_paid_to_whom_cannot_be_changed(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    for statement in (
        update(payout_items).values(amount_sat=1),
        payout_items.delete(),
        update(payout_events).values(done_by="x"),
    ):
        with pytest.raises(DatabaseError, match="append-only"), treasury.write() as connection:
            connection.execute(statement)


def test_outputs_that_were_tampered_with_are_not_paid(treasury: Treasury) -> None:
    treasury.bring_to(State.APPROVED)
    with treasury.write() as connection:
        connection.exec_driver_sql("DROP TRIGGER payout_items_no_update")
        connection.execute(
            update(payout_items).where(payout_items.c.tenant_id == 2).values(script=script_of(THIEF).hex())
        )
    with pytest.raises(BatchError, match="not those that were approved"):
        treasury.do(attempt, 1, *treasury.make(), 100, ANN)


def test_an_approval_by_the_creator_counts_for_nothing(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    with treasury.write() as connection:
        connection.execute(
            payout_approvals.insert().values(
                batch_id=1,
                digest=treasury.batch().digest,
                fee_cap_sat=CAP_SAT,
                approved_by="Ann",
                approved_at_s=NOW_S,
            )
        )
        connection.execute(update(payout_batches).values(state="approved"))
    with pytest.raises(BatchError, match="above the approved cap"):
        treasury.do(attempt, 1, *treasury.make(), 100, ANN)


# Attempts


def test_only_what_was_approved_is_made_into_a_transaction(treasury: Treasury) -> None:
    treasury.bring_to(State.DRAFT)
    with pytest.raises(WrongStep, match="is draft: nothing can be made to sign"):
        treasury.do(attempt, 1, *treasury.make(), 100, ANN)
    treasury.do(approve, 1, treasury.batch().digest, CAP_SAT, BOB)
    psbt, inputs, change = treasury.make()
    other = msgspec.structs.replace(change, amount_sat=change.amount_sat - 1)
    for wrong, words in (
        ((treasury.make(CAP_SAT + 1)), Flaw.FEE),
        ((psbt, (treasury.coin(1),), change), Flaw.INPUTS),
        ((psbt, inputs, other), Flaw.CHANGE),
        ((psbt[:-1], inputs, change), "too early"),
    ):
        with pytest.raises(BatchError, match=f"not stored: .*{words}"):
            treasury.do(attempt, 1, *wrong, 100, ANN)
    assert treasury.batch().attempts == ()
    treasury.do(attempt, 1, psbt, inputs, change, 100, ANN)
    [made] = treasury.batch().attempts
    assert (made.state, made.fee_sat, made.inputs, made.psbt) == (AttemptState.PSBT, FEE_SAT, inputs, psbt)


def test_all_attempts_spend_the_anchor(treasury: Treasury) -> None:
    treasury.bring_to(State.BROADCAST)
    with pytest.raises(BatchError, match="must spend its anchor"):
        treasury.do(attempt, 1, *treasury.make(2_000, vout=1), 100, ANN)
    treasury.do(attempt, 1, *treasury.make(2_000), 100, ANN)
    assert [it.anchor for it in treasury.batch().attempts] == [treasury.coin()] * 2


def test_attempts_are_bounded(treasury: Treasury, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payouts.batches.steps, "ATTEMPTS_MAX", 1)
    treasury.bring_to(State.PSBT)
    with pytest.raises(WrongStep, match="1 attempts already"):
        treasury.do(attempt, 1, *treasury.make(2_000), 100, ANN)


def test_the_next_batch_waits_for_the_one_under_way(treasury: Treasury) -> None:
    treasury.bring_to(State.BROADCAST)
    with treasury.write() as connection:
        credit(connection, 1, 50_000, "more")
    treasury.do(draft, treasury.plan(), ANN)
    treasury.do(approve, 2, treasury.batch(2).digest, CAP_SAT, BOB)
    with pytest.raises(WrongStep, match="batch 1 is broadcast: batch 2 spends its change, and waits"):
        treasury.do(attempt, 2, *treasury.make(vout=1), 100, ANN)


def test_the_signer_gets_the_same_bytes_every_time(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    first = treasury.do(give, 1, 1, ANN)
    assert treasury.do(give, 1, 1, BOB) == first == treasury.batch().attempts[0].psbt
    assert treasury.events()[-1] == ("psbt", 1, False)
    assert len(treasury.events()) == 4  # draft, approved, made, given once


def test_signed_bytes_are_checked_and_the_first_are_kept(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    good = treasury.signed(treasury.batch().attempts[0].psbt or b"")
    with pytest.raises(WrongStep, match="export it first"):
        treasury.do(sign, 1, 1, good, ANN)
    treasury.do(give, 1, 1, ANN)
    other = treasury.signed(treasury.make(2_000)[0])
    with pytest.raises(Quarantined):
        treasury.do(sign, 1, 1, other, ANN)
    assert treasury.batch().attempts[0].state is AttemptState.GIVEN
    assert treasury.do(sign, 1, 1, good, ANN) is True
    assert treasury.do(sign, 1, 1, good, ANN) is False
    assert (treasury.batch().state, treasury.batch().attempts[0].signed_tx) == (State.SIGNED, good)


def test_quarantine_is_kept_and_can_be_left(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    treasury.do(give, 1, 1, ANN)
    treasury.do(quarantine, 1, 1, "its fee\x00 is wrong", ANN)
    [it] = treasury.batch().attempts
    assert (it.state, it.quarantine_reason) == (AttemptState.QUARANTINED, "its fee? is wrong")
    with pytest.raises(WrongStep):
        treasury.do(cancel, 1, ANN)
    treasury.do(sign, 1, 1, treasury.signed(it.psbt or b""), ANN)
    treasury.do(quarantine, 1, 1, "junk came after", ANN)
    [it] = treasury.batch().attempts
    assert (it.state, it.quarantine_reason) == (AttemptState.SIGNED, None)


def test_nothing_is_sent_that_is_not_signed(treasury: Treasury) -> None:
    treasury.bring_to(State.PSBT)
    with pytest.raises(WrongStep, match="nothing to send"):
        treasury.do(send, 1, 1, ANN)
    treasury.do(give, 1, 1, ANN)
    good = treasury.signed(treasury.batch().attempts[0].psbt or b"")
    treasury.do(sign, 1, 1, good, ANN)
    assert treasury.do(send, 1, 1, ANN) == treasury.do(send, 1, 1, BOB) == good
    assert [state for state, _, _ in treasury.events()].count("broadcast") == 1
    with pytest.raises(WrongStep, match="no attempt 2"):
        treasury.do(send, 1, 2, ANN)
