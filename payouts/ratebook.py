"""The book of rates: which price a tenant's work had, and the list of blocks its fees come from.

A tenant's machines may work for several sources at the same time (the pool itself, an upstream, an order),
and each has rates of its own.

Invariants: a rate is never changed; a change of nBits, subsidy, fee basis, scheme, fee or an order's price is
a new row. Everything is done in the caller's transaction, which must be the only writer.

Must not know: where templates and block fees come from.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, insert, select

from payouts.book_time import book_time
from payouts.rates import BadRate, BlockFees, Price, Scheme, fee_basis_sat
from payouts.schemas.money import fee_bases, fee_basis_blocks, rates


class WorkSource(msgspec.Struct, frozen=True):
    """Whose work it is: the pool's own where both are None, an upstream's, or an order's on its upstream.

    `solo`: work of our own whose blocks pay the tenant. Its rates have that scheme, and no others of our own
    work have.
    """

    upstream_id: int | None = None
    order_id: int | None = None
    solo: bool = False


OWN_WORK = WorkSource()


def record_fee_basis(connection: Connection, blocks: Sequence[BlockFees], now_s: int) -> int:
    """Keep the list of blocks and their trimmed mean; the number of the basis."""
    basis = insert(fee_bases).values(
        block_fees_sat=fee_basis_sat(blocks), created_at_s=book_time(connection, now_s)
    )
    basis_id = int(connection.execute(basis.returning(fee_bases.c.id)).scalar_one())
    connection.execute(
        insert(fee_basis_blocks),
        [
            {
                "fee_basis_id": basis_id,
                "block_hash": block.hash,
                "height": block.height,
                "fees_sat": block.fees_sat,
            }
            for block in blocks
        ],
    )
    return basis_id


def newest_fee_basis(connection: Connection) -> int | None:
    """The basis that FPPS goes by until there is another; None before there ever was one."""
    newest: int | None = connection.scalar(select(func.max(fee_bases.c.id)))
    return newest


def blocks_of_basis(connection: Connection, basis_id: int) -> tuple[BlockFees, ...]:
    """The blocks of a fee basis, lowest first."""
    rows = connection.execute(
        select(fee_basis_blocks)
        .where(fee_basis_blocks.c.fee_basis_id == basis_id)
        .order_by(fee_basis_blocks.c.height, fee_basis_blocks.c.block_hash)
    )
    return tuple(BlockFees(height=row.height, hash=row.block_hash, fees_sat=row.fees_sat) for row in rows)


def record_rate(
    connection: Connection,
    tenant_id: int,
    price: Price,
    height: int,
    fee_basis_id: int | None,
    now_s: int,
    source: WorkSource = OWN_WORK,
    *,
    noted: bool = False,
) -> int:
    """The number of the tenant's rate of this price: its newest one of the source, if the same, or a new row.

    `height` is the first that the price is offered for. `noted`: it was opened at `now_s`, as was written
    down then; else it is opened now. Raises BadRate where the price's block fees are not those of the basis,
    or an order's price comes without an order.
    """
    if price.sat_per_ph_day is not None and source.order_id is None:
        raise BadRate(f"{price.sat_per_ph_day} satoshi per PH-day is the price of no order")
    basis_sat = 0
    if fee_basis_id is not None:
        basis_sat = connection.execute(
            select(fee_bases.c.block_fees_sat).where(fee_bases.c.id == fee_basis_id)
        ).scalar_one()
    if basis_sat != price.block_fees_sat:
        raise BadRate(f"block fees of {price.block_fees_sat} sat are not those of fee basis {fee_basis_id}")
    newest = connection.execute(
        select(rates)
        .where(
            rates.c.tenant_id == tenant_id,
            rates.c.upstream_id.is_not_distinct_from(source.upstream_id),
            rates.c.order_id.is_not_distinct_from(source.order_id),
            (rates.c.scheme == Scheme.SOLO.value) == (price.scheme is Scheme.SOLO),
        )
        .order_by(rates.c.id.desc())
        .limit(1)
    ).one_or_none()
    if newest is not None and price_of(newest) == price and newest.fee_basis_id == fee_basis_id:
        return int(newest.id)
    rate = insert(rates).values(
        tenant_id=tenant_id,
        scheme=price.scheme.value,
        fee_bps=price.fee_bps,
        nbits=price.nbits,
        height=height,
        subsidy_sat=price.subsidy_sat,
        block_fees_sat=price.block_fees_sat,
        fee_basis_id=fee_basis_id,
        created_at_s=_dated(connection, now_s, noted=noted),
        upstream_id=source.upstream_id,
        order_id=source.order_id,
        sat_per_ph_day=price.sat_per_ph_day,
    )
    return int(connection.execute(rate.returning(rates.c.id)).scalar_one())


def _dated(connection: Connection, now_s: int, *, noted: bool) -> int:
    """Of a new rate: the book's moment, or the noted one, which is not before that of the rate before it."""
    moment_s = book_time(connection, now_s)
    if not noted:
        return moment_s
    newest = select(rates.c.created_at_s).order_by(rates.c.id.desc()).limit(1)
    return max(now_s, connection.scalar(newest) or 0)


def source_of(rate: Row[Any]) -> WorkSource:
    """Whose work it is that has the rate in a row of `rates`."""
    return WorkSource(rate.upstream_id, rate.order_id, rate.scheme == Scheme.SOLO.value)


def price_of(rate: Row[Any]) -> Price:
    """The price in a row that has the columns of `rates`."""
    return Price(
        nbits=rate.nbits,
        subsidy_sat=rate.subsidy_sat,
        block_fees_sat=rate.block_fees_sat,
        fee_bps=rate.fee_bps,
        scheme=Scheme(rate.scheme),
        sat_per_ph_day=rate.sat_per_ph_day,
    )
