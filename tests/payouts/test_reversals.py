"""Reversals: what two persons may take back, who and why in the books, and what nobody may.

The thief is one operator, or two: alone he cannot, and together they cannot make anybody owed twice.
"""

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DatabaseError

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.batches.batch import State
from payouts.batches.found import accept_stranger
from payouts.batches.proposals import (
    OPEN_S,
    WHY_CHARACTERS_MAX,
    ProposalError,
    ProposalKind,
    agree,
    agreed,
    all_open,
    confirmable,
    open_proposals,
    propose,
)
from payouts.batches.rows import Act
from payouts.batches.schema import payout_strangers
from payouts.batches.steps import draft
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import (
    Kind,
    LedgerError,
    Overdrawn,
    PoolAccount,
    Transaction,
    Transfer,
    balance_sat,
    balances_sat,
    payable,
    post,
)
from payouts.reversals import confirm_reversal, propose_reversal, reversible
from payouts.schemas.money import ledger_transactions
from payouts.schemas.proposals import confirmations, proposals
from payouts.tallies import ACCEPTED, Tally, record
from pool.books.audit.verify import verify
from pool.books.store import Store
from tests.stages.batches import Treasury
from tests.stages.payouts import NOW_S, PAID_SAT, register

ANN, BOB = Act("ann", NOW_S), Act("bob", NOW_S + 60)
WHY = "two hours were counted twice"
ACME_SAT = PAID_SAT["acme"]
CREDIT = 1  # the number of the first tenant's credit in the ledger


@pytest.fixture
def treasury(store: Store) -> Iterator[Treasury]:
    register(store)
    yield Treasury(store)
    with store.read() as connection:
        assert audit(connection).wrong is None


def reversed_by_two(treasury: Treasury, seq: int) -> int:
    """Proposed by ann, confirmed by bob: the reversal's number."""
    with treasury.write() as connection:
        proposal = propose_reversal(connection, seq, WHY, ANN)
    with treasury.write() as connection:
        return confirm_reversal(connection, seq, proposal.id, BOB).seq


@pytest.mark.sqlite_suffices
def test_two_persons_reverse_a_transaction_and_the_books_say_who_and_why(treasury: Treasury) -> None:
    seq = reversed_by_two(treasury, CREDIT)
    with treasury.store.read() as connection:
        row = connection.execute(select(ledger_transactions).where(ledger_transactions.c.seq == seq)).one()
        assert balance_sat(connection, payable(1)) == 0
        said = connection.execute(select(confirmations)).one()
    assert (row.kind, row.reverses_seq, row.booked_at_s) == ("reversal", CREDIT, NOW_S + 60)
    assert row.memo == f"proposed by ann, confirmed by bob: {WHY}"
    assert (said.confirmed_by, said.transaction_seq) == ("bob", seq)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("by", ["ann", "ANN", "a n n", "Ann."])
def test_one_person_reverses_nothing(treasury: Treasury, by: str) -> None:
    before = treasury.balances()
    with treasury.write() as connection:
        proposal = propose_reversal(connection, CREDIT, WHY, ANN)
        assert propose_reversal(connection, CREDIT, WHY, ANN) == proposal
    with pytest.raises(ProposalError, match="somebody else has to"), treasury.write() as connection:
        confirm_reversal(connection, CREDIT, proposal.id, Act(by, NOW_S))
    assert treasury.balances() == before


@pytest.mark.parametrize("back_s", [1, 86_400])
def test_what_two_persons_say_is_in_the_order_of_time_though_the_clock_steps_back(
    treasury: Treasury, back_s: int
) -> None:
    early = Act("bob", NOW_S - back_s)
    with treasury.write() as connection:
        proposal = propose_reversal(connection, CREDIT, WHY, ANN)
    with treasury.write() as connection:
        confirm_reversal(connection, CREDIT, proposal.id, early)
    with treasury.write() as connection:
        agree(connection, ProposalKind.NO_PAYOUT, "ab" * 32, WHY, ANN)
        agree(connection, ProposalKind.NO_PAYOUT, "ab" * 32, WHY, early)
        propose(connection, ProposalKind.NO_PAYOUT, "cd" * 32, WHY, early)
        accept_stranger(connection, "cd" * 32, "", early)
    with treasury.store.read() as connection:
        dated = [
            *connection.scalars(select(proposals.c.proposed_at_s)),
            *connection.scalars(select(confirmations.c.confirmed_at_s)),
            *connection.scalars(select(payout_strangers.c.accepted_at_s)),
        ]
        assert verify(connection).wrong is None
    assert set(dated) == {NOW_S}


@pytest.mark.sqlite_suffices
def test_a_transaction_is_reversed_once_and_a_reversal_never(treasury: Treasury) -> None:
    with treasury.write() as connection:
        other = propose_reversal(connection, CREDIT, "another reason", BOB)
    seq = reversed_by_two(treasury, CREDIT)
    after = treasury.balances()
    with treasury.write() as connection:
        with pytest.raises(LedgerError, match=f"transaction {seq} reversed it already"):
            propose_reversal(connection, CREDIT, WHY, ANN)
        with pytest.raises(LedgerError, match=f"transaction {seq} reversed it already"):
            confirm_reversal(connection, CREDIT, other.id, ANN)
        with pytest.raises(ProposalError, match="proposal 2 was confirmed by bob already"):
            confirm_reversal(connection, CREDIT, 2, ANN)
        with pytest.raises(LedgerError, match="it is a reversal: book what is right"):
            propose_reversal(connection, seq, WHY, ANN)
        with pytest.raises(LedgerError, match="there is no transaction 99"):
            propose_reversal(connection, 99, WHY, ANN)
    assert treasury.balances() == after


@pytest.mark.sqlite_suffices
def test_a_credit_that_is_on_its_way_is_not_reversed(treasury: Treasury) -> None:
    """Neither by a proposal from before the draft, when the balance was there."""
    with treasury.write() as connection:
        early = propose_reversal(connection, CREDIT, WHY, ANN)
    treasury.do(draft, treasury.plan(), ANN)
    before = treasury.balances()
    with treasury.write() as connection:
        for step in (
            lambda: propose_reversal(connection, CREDIT, "another", ANN),
            lambda: confirm_reversal(connection, CREDIT, early.id, BOB),
        ):
            with pytest.raises(LedgerError, match=rf"payable has 0 satoshi, {ACME_SAT} cannot leave it"):
                step()
    assert treasury.balances() == before
    with pytest.raises(Overdrawn), treasury.write() as connection:  # whatever the code before it says
        post(
            connection,
            Transaction(
                key="x",
                kind=Kind.REVERSAL,
                memo="x",
                transfers=(Transfer(payable(1), PoolAccount.PPS_EXPENSE.value, ACME_SAT),),
                reverses_seq=CREDIT,
            ),
            NOW_S,
        )


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("state", [State.DRAFT, State.BROADCAST, State.FINAL])
def test_no_step_of_a_payout_is_reversed_so_nobody_is_owed_what_he_was_paid(
    treasury: Treasury, state: State
) -> None:
    """The best strategy of two operators and a tenant: take the payment back, and be paid again."""
    treasury.bring_to(state)
    before = treasury.balances()
    with treasury.write() as connection:
        steps = connection.scalars(
            select(ledger_transactions.c.seq).where(ledger_transactions.c.kind == "payout")
        ).all()
        assert len(steps) == (2 if state is State.FINAL else 1)
        for seq in steps:
            with pytest.raises(LedgerError, match="step of a payout batch"):
                propose_reversal(connection, seq, WHY, ANN)
            forced = propose(connection, ProposalKind.REVERSAL, str(seq), WHY, ANN)
            with pytest.raises(LedgerError, match="step of a payout batch"):
                confirm_reversal(connection, seq, forced.id, BOB)
    assert treasury.balances() == before


def test_the_income_of_a_block_is_booked_back_by_the_chain_alone(treasury: Treasury) -> None:
    block = Block(hash="ab" * 32, height=7, worker_id=None, income_sat=5, found_at_s=NOW_S)
    with treasury.write() as connection:
        record_block(connection, block, NOW_S)
        mark(connection, block.hash, Status.PENDING, NOW_S)
        seq = connection.scalar(
            select(ledger_transactions.c.seq).where(ledger_transactions.c.kind == "block")
        )
        assert seq is not None
        with pytest.raises(LedgerError, match="booked back when the block is orphaned"):
            propose_reversal(connection, seq, WHY, ANN)
        mark(connection, block.hash, Status.ORPHANED, NOW_S)
        assert balances_sat(connection)[PoolAccount.BLOCK_INCOME_PENDING] == 0


def test_a_settlement_is_reversed_and_its_work_is_not_settled_again(treasury: Treasury) -> None:
    rate = (
        "INSERT INTO rates"
        " (id, tenant_id, scheme, fee_bps, nbits, height, subsidy_sat, block_fees_sat, created_at_s)"
        " VALUES (99, 1, 'pps', 200, 386089497, 840000, 312500000, 0, 0)"
    )
    tally = Tally(worker_id=1, rate_id=99, minute=540, difficulty_log2=30, verdict=ACCEPTED, shares=99)
    with treasury.write() as connection:
        connection.execute(text(rate))
        record(connection, "pool", 1, [tally])
        [settlement] = settle(connection, NOW_S)
        seq = connection.scalar(select(func.max(ledger_transactions.c.seq)))
    assert seq is not None
    assert settlement.posted_sat + settlement.fee_posted_sat > 0
    reversed_by_two(treasury, seq)
    with treasury.write() as connection:
        assert settle(connection, NOW_S + 7200) == ()
        assert balance_sat(connection, payable(1)) == ACME_SAT
        assert balance_sat(connection, PoolAccount.FEE_INCOME) == 0


@pytest.mark.sqlite_suffices
def test_what_is_no_reason_is_refused(treasury: Treasury) -> None:
    for why in ("", " x", "x" * (WHY_CHARACTERS_MAX + 1), "a\nb"):
        with pytest.raises(ProposalError, match="a reason is"), treasury.write() as connection:
            propose_reversal(connection, CREDIT, why, ANN)
    longest = Act("x" * 64, NOW_S)
    with treasury.write() as connection:
        proposal = propose_reversal(connection, CREDIT, "y" * WHY_CHARACTERS_MAX, longest)
        confirm_reversal(connection, CREDIT, proposal.id, Act("z" * 64, NOW_S))


@pytest.mark.sqlite_suffices
def test_a_proposal_is_confirmed_for_what_it_is_about(treasury: Treasury) -> None:
    with treasury.write() as connection:
        proposal = propose_reversal(connection, CREDIT, WHY, ANN)
        said = propose(connection, ProposalKind.NO_PAYOUT, str(CREDIT), WHY, ANN)
        for seq, number in ((CREDIT + 1, proposal.id), (CREDIT, said.id)):
            with pytest.raises(LedgerError, match="is not about transaction"):
                confirm_reversal(connection, seq, number, BOB)
        with pytest.raises(ProposalError, match="there is no proposal 9"):
            confirmable(connection, 9, BOB)
        assert reversible(connection, CREDIT).proposals == (proposal,)


@pytest.mark.sqlite_suffices
def test_two_persons_agree_in_either_order_and_once(treasury: Treasury) -> None:
    kind, txid = ProposalKind.NO_PAYOUT, "ab" * 32
    with treasury.write() as connection:
        assert agreed(connection, kind, txid) is None
        assert not agree(connection, kind, txid, "looked at", BOB)
        assert not agree(connection, kind, txid, "looked at", Act("B.O.B", NOW_S))
        assert agree(connection, kind, txid, "looked at", ANN)
        assert agree(connection, kind, txid, "looked at", BOB)
        assert agreed(connection, kind, txid) == ("bob", "ann")
        assert [it.proposed_by for it in open_proposals(connection, kind, txid)] == ["B.O.B"]
        assert agreed(connection, ProposalKind.REVERSAL, txid) is None


def test_what_was_said_cannot_be_changed(treasury: Treasury) -> None:
    reversed_by_two(treasury, CREDIT)
    for statement in (
        proposals.update().values(proposed_by="x"),
        proposals.delete(),
        confirmations.update().values(confirmed_by="x"),
        confirmations.delete(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), treasury.write() as connection:
            connection.execute(statement)


@pytest.mark.sqlite_suffices
def test_what_nobody_confirms_within_a_week_is_over(treasury: Treasury) -> None:
    """Else a word that was thought better of, or of who left long ago, is for ever half of what it takes: who
    finds it decides alone."""
    kind, txid = ProposalKind.NO_PAYOUT, "ab" * 32
    late = Act("bob", NOW_S + OPEN_S)
    with treasury.write() as connection:
        proposal = propose_reversal(connection, CREDIT, WHY, ANN)
        agree(connection, kind, txid, WHY, ANN)
    with treasury.write() as connection:
        assert not agree(connection, kind, txid, WHY, late), "his is the first word"
        with pytest.raises(ProposalError, match="proposal 1 is over: nobody confirmed it within 7 days"):
            confirm_reversal(connection, CREDIT, proposal.id, late)
        assert reversible(connection, CREDIT).proposals == ()
        assert [it.proposed_by for it in all_open(connection)] == ["bob"]
        again = propose_reversal(connection, CREDIT, WHY, Act("ann", late.at_s))
        assert again.id != proposal.id
    with treasury.write() as connection:
        confirm_reversal(connection, CREDIT, again.id, Act("bob", late.at_s + OPEN_S - 1))
