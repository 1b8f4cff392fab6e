"""What the engine's rate numbers mean: a new number for every change of the price of work.

An epoch is one price of work on the work's side (nBits, subsidy, fee basis); under it each tenant has a
rate of its own, by its terms. Epoch and rates are in the database before the first job that carries the
number, so the journal can always be folded. Everything blocks: call it from a worker thread.

Must not know: templates, sessions, shares.
"""

import msgspec
from sqlalchemy import Connection, func, insert, select

from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schema import fee_bases
from pool.journal_schema import rate_epoch_tenants, rate_epochs
from pool.registry_store import TenantView, list_tenants


class WorkPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The work's side of a price. `fee_basis_id` is for FPPS, None before there is one."""

    nbits: int
    subsidy_sat: int
    fee_basis_id: int | None = None


def open_epoch(connection: Connection, price: WorkPrice, height: int, now_s: int) -> int:
    """A new epoch, with a rate for every tenant; its number. `height` is the first it is offered for."""
    epoch = (connection.scalar(select(func.max(rate_epochs.c.epoch))) or 0) + 1
    connection.execute(
        insert(rate_epochs).values(
            epoch=epoch,
            nbits=price.nbits,
            height=height,
            subsidy_sat=price.subsidy_sat,
            fee_basis_id=price.fee_basis_id,
            created_at_s=now_s,
        )
    )
    for tenant in list_tenants(connection):
        _join(connection, epoch, price, tenant, height, now_s)
    return epoch


def rate_of(connection: Connection, epoch: int, tenant_id: int) -> int:
    """The tenant's rate in an epoch; made now for a tenant that came during it."""
    mine = (rate_epoch_tenants.c.epoch == epoch) & (rate_epoch_tenants.c.tenant_id == tenant_id)
    known = connection.scalar(select(rate_epoch_tenants.c.rate_id).where(mine))
    if known is not None:
        return int(known)
    row = connection.execute(select(rate_epochs).where(rate_epochs.c.epoch == epoch)).one()
    price = WorkPrice(nbits=row.nbits, subsidy_sat=row.subsidy_sat, fee_basis_id=row.fee_basis_id)
    tenant = next(it for it in list_tenants(connection) if it.id == tenant_id)
    return _join(connection, epoch, price, tenant, row.height, row.created_at_s)


def _join(
    connection: Connection, epoch: int, price: WorkPrice, tenant: TenantView, height: int, now_s: int
) -> int:
    basis = price.fee_basis_id if tenant.scheme == Scheme.FPPS else None
    fees_sat = 0
    if basis is not None:
        fees_sat = int(
            connection.scalar(select(fee_bases.c.block_fees_sat).where(fee_bases.c.id == basis)) or 0
        )
    rate = Price(
        nbits=price.nbits,
        subsidy_sat=price.subsidy_sat,
        block_fees_sat=fees_sat,
        fee_bps=tenant.fee_bps,
        scheme=Scheme(tenant.scheme),
    )
    rate_id = record_rate(connection, tenant.id, rate, height, basis, now_s)
    connection.execute(insert(rate_epoch_tenants).values(epoch=epoch, tenant_id=tenant.id, rate_id=rate_id))
    return rate_id
