"""What a rate number means: one price of the work of one source, and what each tenant is paid by under it.

An epoch is one price of the work of one source (nBits, subsidy, fee basis; the pool's own, an upstream's, or
an order's); under it each tenant has a rate of its own, by its terms when the epoch was opened. It is opened
in memory (`prices`), travels in the journal by names, and becomes rows here when the books take that.

How a tenant is paid follows from whom the job pays:
* for the pool's own work by its scheme, which is nothing for a share where blocks are divided over the work
  before them. A proxy or solo tenant whose machines do such work is paid PPS: the pool has the blocks of it,
  and nobody else has anything;
* for solo work, whose blocks pay the tenant, nothing, whatever its terms say by then;
* for an upstream's work by its scheme, which is nothing where that upstream pays the tenant (proxy, also by
  terms that are over: what it sends on the way out is still paid there), and PPS for a tenant that blocks of
  our own work pay: none of that work does;
* for work that an order sells by its scheme, or PPS where that pays nothing; by the order's price instead
  where its terms say so.

Must not know: templates, sessions, shares.
"""

from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Row, insert, select

from payouts.book_time import latest_s
from payouts.ratebook import WorkSource, newest_fee_basis, record_rate
from payouts.rates import BlockFees, OrderCredit, Price, Scheme, UpstreamRisk
from payouts.schemas.money import fee_bases, tenant_terms
from payouts.schemas.orders import orders
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.fleet.registry import TenantRecord
from pool.fleet.rows import load_tenants
from pool.journal.records import Paid
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


def paid_for(tenant: TenantRecord, source: WorkSource, order_sat_per_ph_day: int | None) -> Paid:
    """What the tenant is paid by for work of that source; of an order's, its price."""
    by_order = source.order_id is not None and tenant.order_credit is OrderCredit.ORDER
    return Paid(
        tenant=tenant.name,
        scheme=_scheme(tenant, source).value,
        fee_bps=tenant.fee_bps,
        sat_per_ph_day=order_sat_per_ph_day if by_order else None,
        upstream_risk=tenant.upstream_risk.value,
    )


def by_fees(paid: Paid) -> bool:
    """Whether it goes by the fees of recent blocks."""
    return paid.scheme == Scheme.FPPS and paid.sat_per_ph_day is None


def packed_basis(blocks: Sequence[BlockFees]) -> bytes:
    """The blocks of a fee basis as the journal has them: the same for the same blocks."""
    return msgspec.msgpack.encode(sorted((it.height, it.hash, it.fees_sat) for it in blocks))


def unpacked_basis(packed: bytes) -> tuple[BlockFees, ...]:
    """Lowest first. Raises ValueError."""
    blocks = msgspec.msgpack.decode(packed, type=tuple[tuple[int, str, int], ...])
    return tuple(BlockFees(height=height, hash=hash_, fees_sat=fees) for height, hash_, fees in blocks)


def insert_epoch(connection: Connection, epoch: int, price: WorkPrice, height: int, opened_at_s: int) -> None:
    """Its row. `height` is the first it is offered for."""
    connection.execute(
        insert(rate_epochs).values(
            epoch=epoch,
            nbits=price.nbits,
            height=height,
            subsidy_sat=price.subsidy_sat,
            fee_basis_id=price.fee_basis_id,
            created_at_s=opened_at_s,
            upstream_id=price.upstream_id,
            order_id=price.order_id,
            solo=int(price.solo),
        )
    )


def join(
    connection: Connection,
    epoch: int,
    price: WorkPrice,
    height: int,
    tenant_id: int,
    paid: Paid,
    now_s: int,
    *,
    noted: bool = False,
) -> TenantRate:
    """A tenant's rate in an epoch, from that moment on: now, or as was noted then."""
    basis = price.fee_basis_id if by_fees(paid) else None
    fees_sat = 0
    if basis is not None:
        fees_sat = int(
            connection.scalar(select(fee_bases.c.block_fees_sat).where(fee_bases.c.id == basis)) or 0
        )
    rate_id = record_rate(
        connection,
        tenant_id,
        tenant_price(price, paid, fees_sat),
        height,
        basis,
        now_s,
        price.source,
        noted=noted,
    )
    connection.execute(
        insert(rate_epoch_tenants).values(
            epoch=epoch, tenant_id=tenant_id, rate_id=rate_id, upstream_risk=paid.upstream_risk
        )
    )
    return TenantRate(rate_id, UpstreamRisk(paid.upstream_risk))


def tenant_price(price: WorkPrice, paid: Paid, fees_sat: int) -> Price:
    """Both sides of a price."""
    return Price(
        nbits=price.nbits,
        subsidy_sat=price.subsidy_sat,
        block_fees_sat=fees_sat if by_fees(paid) else 0,
        fee_bps=paid.fee_bps,
        scheme=Scheme(paid.scheme),
        sat_per_ph_day=paid.sat_per_ph_day,
    )


def price_of_epoch(row: Row) -> WorkPrice:  # type: ignore[type-arg]
    """The work's side, from a row of `rate_epochs`."""
    return WorkPrice(
        nbits=row.nbits,
        subsidy_sat=row.subsidy_sat,
        fee_basis_id=row.fee_basis_id,
        upstream_id=row.upstream_id,
        order_id=row.order_id,
        solo=bool(row.solo),
    )


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
    price = price_of_epoch(row)
    tenant = next(it for it in load_tenants(connection) if it.id == tenant_id)
    sold_at = None
    if price.order_id is not None:
        sold_at = connection.execute(
            select(orders.c.sat_per_ph_day).where(orders.c.id == price.order_id)
        ).scalar_one()
    paid = paid_for(tenant, price.source, sold_at)
    if price.fee_basis_id is None and by_fees(paid):
        if (basis := newest_fee_basis(connection)) is not None:
            price = msgspec.structs.replace(price, fee_basis_id=basis)
        else:
            paid = paid_for(_before_fpps(connection, tenant), price.source, sold_at)
    return join(connection, epoch, price, row.height, tenant_id, paid, latest_s(connection))


def _before_fpps(connection: Connection, tenant: TenantRecord) -> TenantRecord:
    """The tenant under the terms that its shares were mined under, in the minute in which it became FPPS."""
    terms = connection.execute(
        select(tenant_terms)
        .where(tenant_terms.c.tenant_id == tenant.id, tenant_terms.c.scheme != Scheme.FPPS.value)
        .order_by(tenant_terms.c.id.desc())
        .limit(1)
    ).one_or_none()
    if terms is None:
        raise NoFeeBasis(f"work of {tenant.name} is to be paid by FPPS, and no node has said what blocks pay")
    return msgspec.structs.replace(tenant, scheme=Scheme(terms.scheme), fee_bps=terms.fee_bps)


def _scheme(tenant: TenantRecord, source: WorkSource) -> Scheme:
    scheme = tenant.scheme
    if source.solo:
        return Scheme.SOLO
    of_upstream = source.order_id is None and source.upstream_id is not None
    if of_upstream and source.upstream_id in tenant.proxied:
        return Scheme.PROXY
    own = source.order_id is None and source.upstream_id is None
    if scheme is Scheme.SOLO or (scheme is Scheme.PROXY and (source.order_id or own)):
        return Scheme.PPS
    return Scheme.PPS if scheme.divides and not own else scheme
