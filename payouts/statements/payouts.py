"""What a statement says of payouts: where each stood at the period's end, and who decided what.

Only what was written before the period's end counts, so that a payout that goes on later does not change
the statement: its confirmations are those booked by then, 1 and 6, not what the chain says today.

Invariants: reads only. Must not know: nodes, and how a payout is made.
"""

from collections import Counter
from itertools import groupby, takewhile
from operator import attrgetter

import msgspec
from sqlalchemy import Connection, func, or_, select

from payouts.batches.evidence import places
from payouts.batches.schema import (
    payout_approvals,
    payout_attempts,
    payout_batches,
    payout_events,
    payout_items,
)
from payouts.batches.transaction import TxOutput, decode_transaction
from payouts.ledger import Kind, in_payout, payable
from payouts.rates import OrderCredit, UpstreamRisk
from payouts.schemas.money import ledger_transactions, ledger_transfers, tenant_addresses, tenant_terms
from payouts.schemas.orders import upstreams
from payouts.statements.money import StatementWrong
from payouts.statements.period import Period, utc

# What the state of a batch says about the chain.
CONFIRMATIONS = {"confirmed": 1, "final": 6}
ENDED = ("final", "failed")
SENT = ("broadcast", "confirmed", "final")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a batch at some moment."""

    state: str
    since_s: int
    txid: str | None
    fee_sat: int | None
    outputs: tuple[int, ...] = ()  # of the transaction, by the item's position: a signer may have sorted them

    @property
    def confirmations(self) -> int:
        """As booked: 0, 1 (or more) or 6 (or more)."""
        return CONFIRMATIONS.get(self.state, 0)


class Payout(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant's part of a batch, as of the period's end."""

    batch: int
    created_at_utc: str
    address: str
    amount_sat: int
    state: str
    since_utc: str
    txid: str | None
    output: int | None
    confirmations: int  # as booked: 0, 1 (or more) or 6 (or more)
    booked_sat: int  # what left the balance for it in the period


class AddressChange(msgspec.Struct, frozen=True, kw_only=True):
    """A payout address, when it was set and when it may first be paid to."""

    address: str
    changed_at_utc: str
    changed_by: str
    effective_at_utc: str


class TermsChange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a tenant's work is paid by, from the next job on."""

    scheme: str
    fee_bps: int
    payout_minimum_sat: int
    changed_at_utc: str
    changed_by: str
    upstream: str | None = None  # where its machines mine; None: for the pool
    order_credit: str = OrderCredit.PPS.value
    upstream_risk: str = UpstreamRisk.TENANT.value


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's word for a batch's outputs."""

    batch: int
    approved_at_utc: str
    approved_by: str
    digest: str


def payouts_of(connection: Connection, tenant_id: int, period: Period) -> tuple[Payout, ...]:
    """Every payout that was under way in the period, oldest first."""
    items = connection.execute(
        select(payout_items, payout_batches.c.created_at_s)
        .join(payout_batches, payout_batches.c.id == payout_items.c.batch_id)
        .where(payout_items.c.tenant_id == tenant_id, payout_batches.c.created_at_s < period.to_s)
        .order_by(payout_items.c.batch_id)
    ).all()
    booked_sat = _booked_sat(connection, tenant_id, period)
    outputs_sat: Counter[int] = Counter()  # a signer may have paid a tenant by several outputs
    for item in items:
        outputs_sat[item.batch_id] += item.amount_sat
    found = []
    for item in items:
        standing = standing_of(connection, item.batch_id, period)
        if standing is None:
            continue
        found.append(
            Payout(
                batch=item.batch_id,
                created_at_utc=utc(item.created_at_s),
                address=item.address,
                amount_sat=item.amount_sat,
                state=standing.state,
                since_utc=utc(standing.since_s),
                txid=standing.txid,
                output=None if standing.txid is None else standing.outputs[item.position],
                confirmations=standing.confirmations,
                booked_sat=booked_sat.get(item.batch_id, 0) * item.amount_sat // outputs_sat[item.batch_id],
            )
        )
    return tuple(found)


def standing_of(connection: Connection, batch_id: int, period: Period) -> Standing | None:
    """Where a batch stood at the period's end; None where nothing happened to it in the period any more.

    The transaction is that of the event which brought the state: a fee bump has another one, which is
    told when it confirms.
    """
    events = connection.execute(
        select(payout_events.c.state, payout_events.c.at_s, payout_events.c.attempt)
        .where(payout_events.c.batch_id == batch_id, payout_events.c.at_s < period.to_s)
        .order_by(payout_events.c.position)
    ).all()
    if not events or (events[-1].state in ENDED and events[-1].at_s < period.from_s):
        return None
    state = events[-1].state
    run = list(takewhile(lambda event: event.state == state, reversed(events)))[::-1]
    attempt = next((event.attempt for event in run if event.attempt is not None), None)
    sent = None
    if state in SENT:
        sent = connection.execute(
            select(payout_attempts.c.txid, payout_attempts.c.fee_sat, payout_attempts.c.signed_tx).where(
                payout_attempts.c.batch_id == batch_id, payout_attempts.c.attempt == attempt
            )
        ).one_or_none()
    return Standing(
        state=state,
        since_s=run[0].at_s,
        txid=sent.txid if sent else None,
        fee_sat=sent.fee_sat if sent else None,
        outputs=_outputs(connection, batch_id, sent.signed_tx) if sent else (),
    )


def approvals_of(connection: Connection, tenant_id: int, period: Period) -> tuple[Approval, ...]:
    """Who approved a batch that pays the tenant, in the period."""
    at_s = payout_approvals.c.approved_at_s
    rows = connection.execute(
        select(payout_approvals)
        .join(payout_items, payout_items.c.batch_id == payout_approvals.c.batch_id)
        .where(payout_items.c.tenant_id == tenant_id, at_s >= period.from_s, at_s < period.to_s)
        .order_by(payout_approvals.c.id)
    )
    return tuple(
        Approval(
            batch=row.batch_id,
            approved_at_utc=utc(row.approved_at_s),
            approved_by=row.approved_by,
            digest=row.digest,
        )
        for row in rows
    )


def addresses_of(connection: Connection, tenant_id: int, period: Period) -> tuple[AddressChange, ...]:
    """The address at the period's start, if there was one, and every one that was set in it."""
    rows = connection.execute(
        select(tenant_addresses)
        .where(tenant_addresses.c.tenant_id == tenant_id, tenant_addresses.c.changed_at_s < period.to_s)
        .order_by(tenant_addresses.c.id)
    ).all()
    before = [row for row in rows if row.changed_at_s < period.from_s]
    return tuple(
        AddressChange(
            address=row.address,
            changed_at_utc=utc(row.changed_at_s),
            changed_by=row.changed_by,
            effective_at_utc=utc(row.effective_at_s),
        )
        for row in rows[max(len(before) - 1, 0) :]
    )


def terms_of(connection: Connection, tenant_id: int, period: Period) -> tuple[TermsChange, ...]:
    """The terms at the period's start, if there were any, and every change in it."""
    rows = connection.execute(
        select(tenant_terms, upstreams.c.name.label("upstream"))
        .outerjoin(upstreams, upstreams.c.id == tenant_terms.c.upstream_id)
        .where(tenant_terms.c.tenant_id == tenant_id, tenant_terms.c.changed_at_s < period.to_s)
        .order_by(tenant_terms.c.id)
    ).all()
    before = [row for row in rows if row.changed_at_s < period.from_s]
    return tuple(
        TermsChange(
            scheme=row.scheme,
            fee_bps=row.fee_bps,
            payout_minimum_sat=row.payout_minimum_sat,
            changed_at_utc=utc(row.changed_at_s),
            changed_by=row.changed_by,
            upstream=row.upstream,
            order_credit=row.order_credit,
            upstream_risk=row.upstream_risk,
        )
        for row in rows[max(len(before) - 1, 0) :]
    )


def _outputs(connection: Connection, batch_id: int, signed_tx: bytes) -> tuple[int, ...]:
    rows = connection.execute(
        select(payout_items.c.amount_sat, payout_items.c.script)
        .where(payout_items.c.batch_id == batch_id)
        .order_by(payout_items.c.position)
    )
    payees = [TxOutput(row.amount_sat, bytes.fromhex(row.script)) for row in rows]
    try:
        return places(decode_transaction(signed_tx).outputs, payees)
    except ValueError as error:
        raise StatementWrong(f"the transaction of payout batch {batch_id}: {error}") from None


def _booked_sat(connection: Connection, tenant_id: int, period: Period) -> dict[int, int]:
    """By batch, what its bookings in the period took from the tenant's balance."""
    accounts = (payable(tenant_id), in_payout(tenant_id))
    transfer = ledger_transfers.c
    rows = connection.execute(
        select(
            payout_events.c.batch_id,
            transfer.from_account,
            transfer.to_account,
            func.sum(transfer.amount_sat),
        )
        .join(ledger_transactions, ledger_transactions.c.seq == payout_events.c.transaction_seq)
        .join(ledger_transfers, transfer.transaction_seq == ledger_transactions.c.seq)
        .where(
            ledger_transactions.c.kind == Kind.PAYOUT.value,
            ledger_transactions.c.booked_at_s >= period.from_s,
            ledger_transactions.c.booked_at_s < period.to_s,
            or_(transfer.from_account.in_(accounts), transfer.to_account.in_(accounts)),
        )
        .group_by(payout_events.c.batch_id, transfer.from_account, transfer.to_account)
        .order_by(payout_events.c.batch_id)
    )
    return {
        batch: sum(
            int(row[3]) * ((row.from_account in accounts) - (row.to_account in accounts)) for row in moved
        )
        for batch, moved in groupby(rows, key=attrgetter("batch_id"))
    }
