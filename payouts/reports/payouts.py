"""The payouts report: every batch that was under way in a period, and what it paid to whom.

Invariants: the state is the one at the period's end; a batch of the period stays in its report. Reads
only. Must not know: nodes.
"""

import msgspec
from sqlalchemy import Connection, select

from payouts.batches.schema import payout_approvals, payout_batches, payout_items
from payouts.schemas.money import tenants
from payouts.statements.payouts import standing_of
from payouts.statements.period import Period, utc


class PaidItem(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's part of a batch."""

    tenant: str
    address: str
    amount_sat: int
    output: int


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """One batch, as of the period's end."""

    batch: int
    created_at_utc: str
    created_by: str
    approved_by: tuple[str, ...]
    state: str
    since_utc: str
    confirmations: int  # as booked: 0, 1 (or more) or 6 (or more)
    txid: str | None
    fee_sat: int | None
    amount_sat: int
    items: tuple[PaidItem, ...]


class PayoutsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Batches, oldest first."""

    from_day: str
    to_day: str
    batches: tuple[Batch, ...]


def payouts_report(connection: Connection, period: Period, tenant_id: int | None = None) -> PayoutsReport:
    """All batches, or those that pay one tenant (and then of their items only the tenant's)."""
    query = select(payout_batches).where(payout_batches.c.created_at_s < period.to_s)
    if tenant_id is not None:
        paid = select(payout_items.c.batch_id).where(payout_items.c.tenant_id == tenant_id)
        query = query.where(payout_batches.c.id.in_(paid))
    found = []
    for row in connection.execute(query.order_by(payout_batches.c.id)).all():
        standing = standing_of(connection, row.id, period)
        if standing is None:
            continue
        items = _items(connection, row.id, tenant_id, standing.outputs)
        approvals = select(payout_approvals.c.approved_by).where(
            payout_approvals.c.batch_id == row.id, payout_approvals.c.approved_at_s < period.to_s
        )
        found.append(
            Batch(
                batch=row.id,
                created_at_utc=utc(row.created_at_s),
                created_by=row.created_by,
                approved_by=tuple(connection.scalars(approvals.order_by(payout_approvals.c.id))),
                state=standing.state,
                since_utc=utc(standing.since_s),
                confirmations=standing.confirmations,
                txid=standing.txid,
                fee_sat=standing.fee_sat,
                amount_sat=sum(item.amount_sat for item in items),
                items=items,
            )
        )
    return PayoutsReport(from_day=str(period.from_day), to_day=str(period.to_day), batches=tuple(found))


def _items(
    connection: Connection, batch_id: int, tenant_id: int | None, outputs: tuple[int, ...]
) -> tuple[PaidItem, ...]:
    """Each with the output that its transaction has for it, or will have."""
    query = (
        select(payout_items, tenants.c.name)
        .join(tenants, tenants.c.id == payout_items.c.tenant_id)
        .where(payout_items.c.batch_id == batch_id)
        .order_by(payout_items.c.position)
    )
    if tenant_id is not None:
        query = query.where(payout_items.c.tenant_id == tenant_id)
    return tuple(
        PaidItem(
            tenant=row.name,
            address=row.address,
            amount_sat=row.amount_sat,
            output=outputs[row.position] if outputs else row.position,
        )
        for row in connection.execute(query)
    )
