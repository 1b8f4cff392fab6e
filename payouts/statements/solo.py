"""Blocks that paid a solo tenant, in its statement.

Must not know: what a block pays, and how it was booked.
"""

from typing import Any

import msgspec
from sqlalchemy import Connection, func, or_, select

from payouts.schemas.money import block_events, blocks, solo_blocks
from payouts.statements.period import Period, utc


class SoloBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block that paid a tenant, as of the end of a period."""

    height: int
    hash: str
    found_at_utc: str
    address: str
    amount_sat: int  # to the tenant
    fee_sat: int  # to the pool
    status: str  # found, pending, matured or orphaned


def solo_blocks_of(connection: Connection, tenant_id: int, period: Period) -> tuple[SoloBlock, ...]:
    """Blocks that were found in the period, and those that something became of in it."""
    newest = (
        select(
            block_events.c.block_hash,
            func.max(block_events.c.position).label("position"),
            func.max(block_events.c.at_s).label("at_s"),
        )
        .where(block_events.c.at_s < period.to_s)
        .group_by(block_events.c.block_hash)
        .subquery()
    )
    rows: Any = connection.execute(
        select(blocks, solo_blocks.c.address, solo_blocks.c.amount_sat, block_events.c.status)
        .join(solo_blocks, solo_blocks.c.block_hash == blocks.c.hash)
        .join(newest, newest.c.block_hash == blocks.c.hash)
        .join(
            block_events,
            (block_events.c.block_hash == blocks.c.hash) & (block_events.c.position == newest.c.position),
        )
        .where(
            solo_blocks.c.tenant_id == tenant_id,
            blocks.c.found_at_s < period.to_s,
            or_(blocks.c.found_at_s >= period.from_s, newest.c.at_s >= period.from_s),
        )
        .order_by(blocks.c.found_at_s, blocks.c.hash)
    )
    return tuple(
        SoloBlock(
            height=row.height,
            hash=row.hash,
            found_at_utc=utc(row.found_at_s),
            address=row.address,
            amount_sat=row.amount_sat,
            fee_sat=row.income_sat,
            status=row.status,
        )
        for row in rows
    )
