"""The audit of payouts: what was held, paid and given back, against who is paid, who said so, and the chain.

For each batch: its outputs against its digest; its events against the table of moves, against the ledger and
against its state; its approvals against the events; each transaction against its own bytes: coins, payees,
change, fee and txid. The bytes are the chain's evidence: a txid cannot be made for other outputs.

Invariants: reads only. Must not know: nodes. What the chain has is for `payout reconcile` to ask.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection, Row, select

from payouts.audit.finding import Found
from payouts.batches.batch import (
    MOVES,
    SENT,
    Attempt,
    AttemptState,
    Batch,
    State,
    backwards,
    hold,
    load,
    payment,
    release,
)
from payouts.batches.found import OVERPAID_KEY
from payouts.batches.plan import digest
from payouts.batches.proposals import ProposalKind, agreed
from payouts.batches.psbt import decode_psbt
from payouts.batches.schema import (
    payout_approvals,
    payout_attempts,
    payout_batches,
    payout_events,
    payout_inputs,
    payout_items,
    payout_strangers,
)
from payouts.batches.transaction import BadTransaction, Tx, TxOutput, decode_transaction
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, payable, transfers_of
from payouts.persons import same_person
from payouts.schemas.book import book
from payouts.schemas.money import ledger_transactions
from payouts.schemas.proposals import confirmations, proposals

# States of a batch in which one of its transactions is known to the network, and what that one is then.
STANDING = {State.CONFIRMED: AttemptState.CONFIRMED, State.FINAL: AttemptState.FINAL}


def check_payouts(connection: Connection) -> None:
    """Raises Found for the first row that is wrong."""
    ordered_from_s = connection.execute(select(book.c.ordered_from_s)).scalar_one()
    for batch_id in connection.scalars(select(payout_batches.c.id).order_by(payout_batches.c.id)).all():
        _check_rows(connection, batch_id)
        batch = load(connection, batch_id)
        events = _events(connection, batch_id)
        _check_items(batch)
        _check_events(batch, events, ordered_from_s)
        _check_approvals(batch, events)
        for attempt in batch.attempts:
            _check_attempt(batch, attempt)
    _check_orphans(connection)
    _check_confirmations(connection)
    _check_adjustments(connection)


def _check_confirmations(connection: Connection) -> None:
    """Each is somebody else's than the proposal, and of a reversal, or of what a buyer paid, that the ledger
    has."""
    rows = connection.execute(
        select(proposals, confirmations, ledger_transactions)
        .join_from(confirmations, proposals, proposals.c.id == confirmations.c.proposal_id, isouter=True)
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == confirmations.c.transaction_seq)
        .order_by(confirmations.c.proposal_id)
    )
    for row in rows:
        if same_person(row.proposed_by, row.confirmed_by):
            raise Found("confirmations", row.proposal_id, f"{row.confirmed_by} proposed what is confirmed")
        if row.confirmed_at_s < row.proposed_at_s:
            raise Found("confirmations", row.proposal_id, "it is dated before what it confirms")
        memo = f"proposed by {row.proposed_by}, confirmed by {row.confirmed_by}: {row.why}"
        booked = (row.kind_1, str(row.reverses_seq), row.memo) if row.transaction_seq is not None else None
        expected = None
        if row.kind == ProposalKind.REVERSAL:
            expected = (Kind.REVERSAL.value, row.subject, memo)
        elif row.kind != ProposalKind.NO_PAYOUT:
            expected = (Kind.SALE_PAYMENT.value, str(None), memo)
        if booked != expected:
            raise Found("confirmations", row.proposal_id, "the ledger has something else for it")


def _check_adjustments(connection: Connection) -> None:
    """Each is of what a payout paid beyond what was owed: no more than it pays, and known to persons."""
    booked = ledger_transactions.c
    adjusted = select(ledger_transactions).where(booked.kind == Kind.ADJUSTMENT.value).order_by(booked.seq)
    for row in connection.execute(adjusted).all():
        if not row.idempotency_key.startswith(OVERPAID_KEY):
            raise Found("ledger_transactions", row.seq, "there is nothing behind it")
        txid = row.idempotency_key.removeprefix(OVERPAID_KEY).partition(":")[0]
        persons = agreed(connection, ProposalKind.NO_PAYOUT, txid)
        strangers = select(payout_strangers.c.txid).where(payout_strangers.c.txid == txid)
        if persons is None and connection.execute(strangers).first() is None:
            raise Found("ledger_transactions", row.seq, f"nobody knew of {txid}")
        known_by = "somebody" if persons is None else " and ".join(persons)
        if row.memo != f"paid by {txid} beyond what was owed, known to {known_by}":
            raise Found("ledger_transactions", row.seq, "it does not say who knew of it")
        paid: Counter[str] = Counter()
        of_it = select(payout_attempts.c.batch_id).where(payout_attempts.c.txid == txid)
        for item in connection.execute(select(payout_items).where(payout_items.c.batch_id.in_(of_it))):
            paid[payable(item.tenant_id)] += item.amount_sat
        for it in transfers_of(connection, row.seq):
            if it.from_account != PoolAccount.OVERPAID.value or it.amount_sat > paid[it.to_account]:
                raise Found("ledger_transactions", row.seq, f"{txid} does not pay so much beyond")


def _events(connection: Connection, batch_id: int) -> list[Row[Any]]:
    rows = connection.execute(
        select(
            payout_events,
            ledger_transactions.c.idempotency_key,
            ledger_transactions.c.payload_hash,
            ledger_transactions.c.booked_at_s,
        )
        .outerjoin(ledger_transactions, ledger_transactions.c.seq == payout_events.c.transaction_seq)
        .where(payout_events.c.batch_id == batch_id)
        .order_by(payout_events.c.position)
    )
    return list(rows)


def _check_rows(connection: Connection, batch_id: int) -> None:
    """What `load` takes for granted."""
    inputs = select(payout_inputs.c.attempt).where(payout_inputs.c.batch_id == batch_id).distinct()
    spending = set(connection.scalars(inputs))
    attempts = {
        row.attempt
        for row in connection.execute(
            select(payout_attempts.c.attempt).where(payout_attempts.c.batch_id == batch_id)
        )
    }
    if attempts != set(range(1, len(attempts) + 1)):
        raise Found("payout_attempts", batch_id, "an attempt is missing")
    if spending != attempts:
        raise Found("payout_inputs", batch_id, "an attempt spends nothing, or what is spent is of no attempt")


def _check_items(batch: Batch) -> None:
    if [item.position for item in batch.items] != list(range(len(batch.items))) or not batch.items:
        raise Found("payout_items", batch.id, "an output is missing")
    if digest(batch.items) != batch.digest:
        raise Found("payout_items", batch.id, "its outputs are not those of its digest")


def _check_events(batch: Batch, events: list[Row[Any]], ordered_from_s: int) -> None:
    if not events or [it.position for it in events] != list(range(len(events))):
        raise Found("payout_events", batch.id, "an event is missing")
    before: State | None = None
    for event in events:
        where = f"{batch.id}, {event.position}"
        if event.state not in set(State):
            raise Found("payout_events", where, f"its state is {event.state}")
        state = State(event.state)
        if state is not before and state not in MOVES[before]:
            raise Found("payout_events", where, f"{state} cannot follow {before}")
        booked = _booking(batch, event, before, state)
        expected = (booked.key, booked.payload_hash) if booked else (None, None)
        if (event.idempotency_key, event.payload_hash) != expected:
            raise Found("payout_events", where, f"the ledger has something else for {state}")
        if event.booked_at_s is not None and event.booked_at_s != event.at_s:
            raise Found("payout_events", where, "it was booked at another time")
        before = state
    if before is not batch.state:
        raise Found("payout_batches", batch.id, f"it is {batch.state}, its last event is {before}")
    if events[0].at_s != batch.created_at_s or events[0].done_by != batch.created_by:
        raise Found("payout_batches", batch.id, "its first event is somebody else's, or of another time")
    for earlier, later in pairwise(events):
        if later.at_s < earlier.at_s and earlier.at_s > ordered_from_s:
            raise Found("payout_events", f"{batch.id}, {later.position}", "it is dated before the last one")


def _booking(batch: Batch, event: Row[Any], before: State | None, state: State) -> Transaction | None:
    """What the move booked: holds, releases and payments, and nothing where no money moves."""
    transfers: tuple[Transfer, ...] = ()
    if before is None or (before is State.FAILED and state is not State.FAILED):
        transfers = hold(batch.items)
    elif state is State.FAILED and before is not State.FAILED:
        transfers = release(batch.items)
    elif State.FINAL in (before, state) and before is not state:
        paid = next((it for it in batch.attempts if it.attempt == event.attempt), None)
        if paid is None:
            raise Found("payout_events", f"{batch.id}, {event.position}", "its transaction is missing")
        transfers = payment(batch.items, paid.fee_sat)
        if before is State.FINAL:
            transfers = backwards(transfers)
    if not transfers:
        return None
    return Transaction(
        key=f"payout:{batch.id}:{event.position}",
        kind=Kind.PAYOUT,
        memo=f"payout batch {batch.id} {state}",
        transfers=transfers,
    )


def _check_approvals(batch: Batch, events: list[Row[Any]]) -> None:
    """Each has its event, and nobody approved what he drafted."""
    said = [
        (it.done_by, it.at_s, it.detail)
        for it in events
        if str(it.detail).startswith("approved with a fee cap")
    ]
    given = [
        (it.approved_by, it.approved_at_s, f"approved with a fee cap of {it.fee_cap_sat} sat")
        for it in batch.approvals
    ]
    if said != given:
        raise Found("payout_approvals", batch.id, "they are not those that its events tell")
    for it in batch.approvals:
        if same_person(it.approved_by, batch.created_by):
            raise Found("payout_approvals", batch.id, f"{it.approved_by} drafted what is approved")
        if it.digest != batch.digest:
            raise Found("payout_approvals", batch.id, "it is for other outputs")


def _check_attempt(batch: Batch, attempt: Attempt) -> None:
    where = f"{batch.id}, {attempt.attempt}"
    fees_sat: set[int] = set()
    for tx in _transactions(attempt, where):
        if tx.txid != attempt.txid:
            raise Found("payout_attempts", where, "its bytes are another transaction")
        spent = {(it.txid, it.vout) for it in tx.inputs}
        if spent != {(it.txid, it.vout) for it in attempt.inputs} or len(spent) != len(attempt.inputs):
            raise Found("payout_inputs", where, "its transaction spends other coins")
        others = Counter(tx.outputs)
        others.subtract(Counter(batch.payees))
        if min(others.values(), default=0) < 0:
            raise Found("payout_attempts", where, "its transaction does not pay everybody of the batch")
        if not _has_change(others, attempt.change):
            raise Found("payout_attempts", where, "its transaction has other change")
        fees_sat.add(sum(it.amount_sat for it in attempt.inputs) - sum(it.amount_sat for it in tx.outputs))
    if fees_sat != {attempt.fee_sat}:
        raise Found("payout_attempts", where, "its fee is not what its coins and outputs leave")
    if attempt.state in SENT and attempt.signed_tx is None:
        raise Found("payout_attempts", where, "it was sent, and nothing was signed")
    standing = [it for it in batch.attempts if it.state in (AttemptState.CONFIRMED, AttemptState.FINAL)]
    if {it.state for it in standing} != ({STANDING[batch.state]} if batch.state in STANDING else set()):
        raise Found("payout_attempts", where, f"no transaction is what a batch that is {batch.state} has")


def _has_change(others: Counter[TxOutput], change: TxOutput | None) -> bool:
    """Whether it is among what no payee gets; None: whether that is nothing."""
    if change is not None:
        return others[change] > 0
    return not any(count > 0 and output.amount_sat for output, count in others.items())


def _transactions(attempt: Attempt, where: str) -> Iterator[Tx]:
    try:
        if attempt.psbt is not None:
            yield decode_psbt(attempt.psbt).tx
        if attempt.signed_tx is not None:
            yield decode_transaction(attempt.signed_tx)
    except BadTransaction as error:
        raise Found("payout_attempts", where, str(error)) from None


def _check_orphans(connection: Connection) -> None:
    """Rows of no batch: their foreign keys hold only while nobody switched them off."""
    for table in (payout_items, payout_approvals, payout_attempts, payout_events):
        stray = select(table.c.batch_id).where(table.c.batch_id.not_in(select(payout_batches.c.id)))
        if (found := connection.scalar(stray.limit(1))) is not None:
            raise Found(table.name, found, "there is no such batch")
