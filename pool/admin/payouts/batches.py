"""Payout batches as commands tell them: without what a signer needs.

Must not know: who asks, and what may be done with a batch.
"""

import msgspec
from msgspec import UNSET, UnsetType
from sqlalchemy import Connection, select

from payouts.batches.batch import Attempt, Batch, load
from payouts.batches.plan import Plan
from payouts.batches.schema import payout_events


class Payee(msgspec.Struct, frozen=True):
    """Who would be paid what."""

    tenant: str
    address: str
    amount_sat: int


class Held(msgspec.Struct, frozen=True):
    """Whose balance stays where it is."""

    tenant: str
    balance_sat: int
    why: str


class PayoutPlan(msgspec.Struct, frozen=True):
    """What a batch would be made of now."""

    payees: list[Payee]
    total_sat: int
    held_back: list[Held]


class BatchLine(msgspec.Struct, frozen=True, kw_only=True):
    """A batch with the transaction that is in the chain, or the newest."""

    batch: int
    state: str
    payees: int
    amount_sat: int
    fee_sat: int | None
    txid: str | None


class Output(msgspec.Struct, frozen=True):
    position: int
    tenant: str
    address: str
    amount_sat: int


class ApprovalRow(msgspec.Struct, frozen=True):
    approved_by: str
    approved_at_s: int
    digest: str
    fee_cap_sat: int


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """A transaction of a batch; `anchor` is the input that all of them spend."""

    attempt: int
    state: str
    txid: str
    fee_sat: int
    anchor: str
    quarantine_reason: str | None
    block_hash: str | None
    block_height: int | None


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A step: who took it, and the batch's state after it. What the chain says is done by `chain`."""

    done_at_s: int
    done_by: str
    state: str
    attempt: int | None
    detail: str


class BatchRow(msgspec.Struct, frozen=True, kw_only=True):
    """All of a batch. `digest` is what is approved: of the outputs. `proposed_by`: who says, as the first of
    two, that no coin of ours ever paid it."""

    batch: int
    state: str
    digest: str
    created_by: str
    created_at_s: int
    total_sat: int
    outputs: list[Output]
    approvals: list[ApprovalRow]
    attempts: list[AttemptRow]
    events: list[Event]
    proposed_by: str | UnsetType = UNSET


def plan_row(planned: Plan) -> PayoutPlan:
    return PayoutPlan(
        payees=[Payee(it.tenant, it.address, it.amount_sat) for it in planned.items],
        total_sat=planned.total_sat,
        held_back=[
            Held(it.tenant, it.balance_sat, ": ".join(filter(None, (it.reason, it.detail))))
            for it in planned.held_back
        ],
    )


def batch_line(batch: Batch) -> BatchLine:
    newest = batch.attempts[-1] if batch.attempts else None
    sent = next((it for it in reversed(batch.attempts) if it.block_hash), newest)
    return BatchLine(
        batch=batch.id,
        state=batch.state.value,
        payees=len(batch.items),
        amount_sat=batch.total_sat,
        fee_sat=None if sent is None else sent.fee_sat,
        txid=None if sent is None else sent.txid,
    )


def batch_row(connection: Connection, batch_id: int, proposed_by: str | UnsetType = UNSET) -> BatchRow:
    """Raises BatchError where there is no such batch."""
    batch = load(connection, batch_id)
    events = connection.execute(
        select(
            payout_events.c.at_s.label("done_at_s"),
            payout_events.c.done_by,
            payout_events.c.state,
            payout_events.c.attempt,
            payout_events.c.detail,
        )
        .where(payout_events.c.batch_id == batch_id)
        .order_by(payout_events.c.position)
    )
    return BatchRow(
        batch=batch.id,
        state=batch.state.value,
        digest=batch.digest,
        created_by=batch.created_by,
        created_at_s=batch.created_at_s,
        total_sat=batch.total_sat,
        outputs=[Output(it.position, it.tenant, it.address, it.amount_sat) for it in batch.items],
        approvals=[
            ApprovalRow(it.approved_by, it.approved_at_s, it.digest, it.fee_cap_sat) for it in batch.approvals
        ],
        attempts=[attempt_row(it) for it in batch.attempts],
        events=[Event(**row) for row in events.mappings()],
        proposed_by=proposed_by,
    )


def attempt_row(it: Attempt) -> AttemptRow:
    return AttemptRow(
        attempt=it.attempt,
        state=it.state.value,
        txid=it.txid,
        fee_sat=it.fee_sat,
        anchor=f"{it.anchor.txid}:{it.anchor.vout}",
        quarantine_reason=it.quarantine_reason,
        block_hash=it.block_hash,
        block_height=it.block_height,
    )
