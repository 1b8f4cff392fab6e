"""What the engine's rate numbers mean: a new number for every change of the price of work.

An epoch is one price of the work of one source (nBits, subsidy, fee basis; the pool's own, an upstream's, or
an order's); under it each tenant has a rate of its own, by its terms. Epoch and rates are in the database
before the first job that carries the number, so the journal can always be folded. Everything blocks: call it
from a worker thread.

How a tenant is paid follows from whom the job pays:
* for the pool's own work by its scheme. A proxy or solo tenant whose machines do such work is paid PPS: the
  pool has the blocks of it, and nobody else has anything;
* for solo work, whose blocks pay the tenant, nothing, whatever its terms say by then;
* for an upstream's work by its scheme, which is nothing where that upstream pays the tenant (proxy, also by
  terms that are over: what it sends on the way out is still paid there), and PPS for a solo tenant: no block
  of that work pays it;
* for work that an order sells by its scheme, or PPS where that pays nothing; by the order's price instead
  where its terms say so.

Must not know: templates, sessions, shares.
"""

import msgspec
from sqlalchemy import Connection, func, insert, select

from payouts.ratebook import WorkSource, newest_fee_basis, record_rate
from payouts.rates import OrderCredit, Price, Scheme, UpstreamRisk
from payouts.schemas.money import fee_bases, tenant_terms
from payouts.schemas.orders import orders
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.fleet.rows import TenantView, list_tenants
from pool.fleet.upstream_accounts import proxied
from pool.store_error import StoreError


class WorkPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The work's side of a price. `fee_basis_id` is for FPPS, None before there is one."""

    nbits: int
    subsidy_sat: int
    fee_basis_id: int | None = None
    upstream_id: int | None = None  # None: the pool's own work
    order_id: int | None = None
    solo: bool = False  # our own work, whose blocks pay the tenant that mines them

    @property
    def source(self) -> WorkSource:
        """Whose work it is."""
        return WorkSource(self.upstream_id, self.order_id, self.solo)


class NoFeeBasis(StoreError):
    """Work of an FPPS tenant that cannot be priced."""


class TenantRate(msgspec.Struct, frozen=True):
    """How a tenant's shares of an epoch are booked."""

    rate_id: int
    upstream_risk: UpstreamRisk  # who bears those that the upstream did not take


def open_epoch(connection: Connection, price: WorkPrice, height: int, now_s: int) -> int:
    """A new epoch, with a rate for every tenant that may mine it; its number. `height` is the first it is
    offered for."""
    epoch = (connection.scalar(select(func.max(rate_epochs.c.epoch))) or 0) + 1
    connection.execute(
        insert(rate_epochs).values(
            epoch=epoch,
            nbits=price.nbits,
            height=height,
            subsidy_sat=price.subsidy_sat,
            fee_basis_id=price.fee_basis_id,
            created_at_s=now_s,
            upstream_id=price.upstream_id,
            order_id=price.order_id,
            solo=int(price.solo),
        )
    )
    for tenant in list_tenants(connection):
        if price.solo and tenant.scheme != Scheme.SOLO:
            continue  # one that is no solo tenant any more and has not moved yet joins with its shares
        if price.fee_basis_id is not None or not _by_fees(connection, price, tenant):
            _join(connection, epoch, price, tenant, height, now_s)
    return epoch


def rate_of(connection: Connection, epoch: int, tenant_id: int) -> TenantRate:
    """The tenant's rate in an epoch; made now for a tenant that came during it.

    FPPS in an epoch without a basis, which was opened before there ever was one, goes by the newest of
    now. Raises NoFeeBasis where there is none: the pool lets no machine of such a tenant mine.
    """
    known = connection.execute(
        select(rate_epoch_tenants.c.rate_id, rate_epoch_tenants.c.upstream_risk).where(
            rate_epoch_tenants.c.epoch == epoch, rate_epoch_tenants.c.tenant_id == tenant_id
        )
    ).one_or_none()
    if known is not None:
        return TenantRate(known.rate_id, UpstreamRisk(known.upstream_risk))
    row = connection.execute(select(rate_epochs).where(rate_epochs.c.epoch == epoch)).one_or_none()
    if row is None:
        raise StoreError(f"there are shares of rate number {epoch}, which these books do not know")
    price = WorkPrice(
        nbits=row.nbits,
        subsidy_sat=row.subsidy_sat,
        fee_basis_id=row.fee_basis_id,
        upstream_id=row.upstream_id,
        order_id=row.order_id,
        solo=bool(row.solo),
    )
    tenant = next(it for it in list_tenants(connection) if it.id == tenant_id)
    if price.fee_basis_id is None and _by_fees(connection, price, tenant):
        if (basis := newest_fee_basis(connection)) is not None:
            price = msgspec.structs.replace(price, fee_basis_id=basis)
        else:
            tenant = _before_fpps(connection, tenant)
    return _join(connection, epoch, price, tenant, row.height, row.created_at_s)


def _join(
    connection: Connection, epoch: int, price: WorkPrice, tenant: TenantView, height: int, now_s: int
) -> TenantRate:
    scheme = _scheme(connection, tenant, price.source)
    sat_per_ph_day = _order_price(connection, tenant, price.order_id)
    basis = price.fee_basis_id if _is_by_fees(scheme, sat_per_ph_day) else None
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
        scheme=scheme,
        sat_per_ph_day=sat_per_ph_day,
    )
    rate_id = record_rate(connection, tenant.id, rate, height, basis, now_s, price.source)
    connection.execute(
        insert(rate_epoch_tenants).values(
            epoch=epoch, tenant_id=tenant.id, rate_id=rate_id, upstream_risk=tenant.upstream_risk
        )
    )
    return TenantRate(rate_id, UpstreamRisk(tenant.upstream_risk))


def _by_fees(connection: Connection, price: WorkPrice, tenant: TenantView) -> bool:
    """Whether the tenant is paid for such work by the fees of recent blocks."""
    scheme = _scheme(connection, tenant, price.source)
    return _is_by_fees(scheme, _order_price(connection, tenant, price.order_id))


def _is_by_fees(scheme: Scheme, sat_per_ph_day: int | None) -> bool:
    return scheme is Scheme.FPPS and sat_per_ph_day is None


def _before_fpps(connection: Connection, tenant: TenantView) -> TenantView:
    """The tenant under the terms that its shares were mined under, in the minute in which it became FPPS."""
    terms = connection.execute(
        select(tenant_terms)
        .where(tenant_terms.c.tenant_id == tenant.id, tenant_terms.c.scheme != Scheme.FPPS.value)
        .order_by(tenant_terms.c.id.desc())
        .limit(1)
    ).one_or_none()
    if terms is None:
        raise NoFeeBasis(f"work of {tenant.name} is to be paid by FPPS, and no node has said what blocks pay")
    return msgspec.structs.replace(tenant, scheme=terms.scheme, fee_bps=terms.fee_bps)


def _scheme(connection: Connection, tenant: TenantView, source: WorkSource) -> Scheme:
    scheme = Scheme(tenant.scheme)
    if source.solo:
        return Scheme.SOLO
    of_upstream = source.order_id is None and source.upstream_id is not None
    if of_upstream and source.upstream_id in proxied(connection, tenant.id):
        return Scheme.PROXY
    if scheme is Scheme.SOLO or (scheme is Scheme.PROXY and (source.order_id or source.upstream_id is None)):
        return Scheme.PPS
    return scheme


def _order_price(connection: Connection, tenant: TenantView, order_id: int | None) -> int | None:
    """What the tenant is paid for a PH-day of the order's work; None where it is paid by the pool's rate."""
    if order_id is None or tenant.order_credit != OrderCredit.ORDER:
        return None
    price = select(orders.c.sat_per_ph_day).where(orders.c.id == order_id)
    return int(connection.execute(price).scalar_one())
