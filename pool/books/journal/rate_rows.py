"""Which rows of the books the rate numbers of a journal are: its definitions, and rows made of them.

A journal says what a rate number means before its first use in a file. That counts, not its number: books
that were put back, or another pool's, make the rows that they do not have. While a pool runs, its numbers are
the rows' too, since it alone opens prices; where they are not, somebody else has written to the books. In
files of before there were definitions, a number is a row that the books had already.

What does not fit the books (a tenant, an upstream or an order that they do not know, terms that nobody
agreed on, a subsidy that is not the chain's) is refused in words, and waits in the journal.

Everything is done in the caller's transaction. Must not know: shares.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, func, select

from payouts.ratebook import blocks_of_basis, price_of, record_fee_basis
from payouts.rates import fee_basis_sat, subsidy_sat, target_from_nbits
from payouts.schemas.book import book
from payouts.schemas.money import fee_bases, rates, tenant_terms, tenants
from payouts.schemas.orders import orders, upstreams
from pool.books.journal.rate_epochs import (
    TenantRate,
    WorkPrice,
    insert_epoch,
    join,
    packed_basis,
    rate_of,
    unpacked_basis,
)
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.chain.networks import NETWORKS
from pool.fleet.rows import NumberTaken
from pool.journal.records import BY_ROWS, Paid, Rate
from pool.journal.segments import JournalDamaged
from pool.store_error import StoreError


class RateRows:
    """Of one journal, file by file."""

    def __init__(self) -> None:
        self.numbers_are_rows = False
        self._defined = False  # by the file, or they are rows
        self._meanings: dict[int, Rate] = {}
        self._rows: dict[int, int] = {}

    def begin(self, version: int) -> None:
        """Another file, which defines its numbers anew."""
        self._defined = version > BY_ROWS
        self._meanings.clear()
        self._rows.clear()

    def forget(self) -> None:
        """What a transaction found is not so: it did not commit."""
        self._rows.clear()

    def define(self, rates: Iterable[Rate]) -> None:
        """What the file says from here on. Raises JournalDamaged."""
        for it in rates:
            if self._meanings.setdefault(it.number, it) != it:
                raise JournalDamaged(f"the journal says twice what rate {it.number} is, and not the same")

    @property
    def meanings(self) -> Mapping[int, Rate]:
        """What the file has said so far."""
        return self._meanings

    def insert(self, connection: Connection, rates: Iterable[Rate]) -> None:
        """See that they have rows, in the order in which they were opened."""
        for it in rates:
            self.row(connection, it.number)

    def row(self, connection: Connection, number: int) -> int:
        """Its epoch in these books. Raises JournalDamaged, StoreError, NumberTaken."""
        if not self._defined:
            return number
        if number not in self._rows:
            if number not in self._meanings:
                raise JournalDamaged(f"the journal has shares of rate {number}, and does not define it")
            self._rows[number] = self._found(connection, self._meanings[number])
        return self._rows[number]

    def rate_of(self, connection: Connection, number: int, tenant_id: int) -> TenantRate:
        """What a tenant's shares of it are booked under."""
        return rate_of(connection, self.row(connection, number), tenant_id)

    def _found(self, connection: Connection, rate: Rate) -> int:
        """The row that says the same: by its number, which is nearly always so; else any, or a new one."""
        epochs = rate_epochs.c
        mine = connection.execute(select(rate_epochs).where(epochs.epoch == rate.number)).one_or_none()
        if mine is not None and _says(connection, mine, rate):
            return rate.number
        if mine is not None and self.numbers_are_rows:
            raise NumberTaken(f"rate number {rate.number} is another price: somebody else wrote to the book")
        following = int(connection.scalar(select(func.max(epochs.epoch))) or 0) + 1
        if following != rate.number:
            alike = (epochs.created_at_s == rate.opened_at_s) & (epochs.height == rate.height)
            for row in connection.execute(select(rate_epochs).where(alike).order_by(epochs.epoch)).all():
                if _says(connection, row, rate):
                    return int(row.epoch)
        return _made(connection, following, rate)


def described(connection: Connection, epoch: int) -> Rate:
    """What a row of these books means, by names."""
    row = connection.execute(select(rate_epochs).where(rate_epochs.c.epoch == epoch)).one()
    names = {
        table: connection.scalar(select(table.c.name).where(table.c.id == number))
        for table, number in ((upstreams, row.upstream_id), (orders, row.order_id))
    }
    basis = row.fee_basis_id
    joined = connection.execute(
        select(rates, rate_epoch_tenants.c.upstream_risk, tenants.c.name)
        .join(rate_epoch_tenants, rate_epoch_tenants.c.rate_id == rates.c.id)
        .join(tenants, tenants.c.id == rate_epoch_tenants.c.tenant_id)
        .where(rate_epoch_tenants.c.epoch == epoch)
        .order_by(rate_epoch_tenants.c.tenant_id)
    )
    return Rate(
        number=epoch,
        opened_at_s=row.created_at_s,
        height=row.height,
        nbits=row.nbits,
        subsidy_sat=row.subsidy_sat,
        basis=b"" if basis is None else packed_basis(blocks_of_basis(connection, basis)),
        upstream=names[upstreams],
        order=names[orders],
        solo=bool(row.solo),
        # What joined by a basis of later joins so again.
        paid=tuple(_paid(it) for it in joined if it.fee_basis_id in (None, basis)),
    )


def unfit(connection: Connection, rate: Rate) -> str:
    """Why these books cannot have such a price, in words; empty where they can."""
    network = connection.execute(select(book.c.network)).scalar_one()
    try:
        target = target_from_nbits(rate.nbits)
        if rate.basis:
            fee_basis_sat(unpacked_basis(rate.basis))
    except ValueError as error:
        return str(error)
    if network in NETWORKS:
        rules = NETWORKS[network]
        if rate.subsidy_sat != subsidy_sat(rate.height, rules.halving_interval):
            return f"a block at height {rate.height} brings no {rate.subsidy_sat} sat"
        if target > target_from_nbits(rules.easiest_nbits):
            return f"bits {rate.nbits:08x} are easier than {network} allows"
    try:
        price = work_price(connection, rate, 0)
    except StoreError as error:
        return str(error)
    return next((words for it in rate.paid if (words := _not_agreed(connection, price, it))), "")


def _not_agreed(connection: Connection, price: WorkPrice, paid: Paid) -> str:
    agreed = connection.scalars(
        select(tenant_terms.c.fee_bps)
        .join(tenants, tenants.c.id == tenant_terms.c.tenant_id)
        .where(tenants.c.name == paid.tenant)
    ).all()
    if not agreed:
        return f"these books do not know tenant {paid.tenant}: add it, with the terms that it had"
    if paid.fee_bps not in agreed:
        return f"no terms of {paid.tenant} ever had a fee of {paid.fee_bps} basis points"
    if paid.sat_per_ph_day is not None:
        sold_at = connection.scalar(select(orders.c.sat_per_ph_day).where(orders.c.id == price.order_id))
        if sold_at != paid.sat_per_ph_day:
            return f"{paid.sat_per_ph_day} sat per PH-day are not the price of its order"
    return ""


def _made(connection: Connection, epoch: int, rate: Rate) -> int:
    """Rows for it. Raises StoreError."""
    if words := unfit(connection, rate):
        raise StoreError(f"rate number {rate.number} of the journal does not fit these books: {words}")
    price = work_price(connection, rate, _basis(connection, rate))
    insert_epoch(connection, epoch, price, rate.height, rate.opened_at_s)
    for paid in rate.paid:
        tenant_id = connection.execute(select(tenants.c.id).where(tenants.c.name == paid.tenant)).scalar_one()
        join(connection, epoch, price, rate.height, tenant_id, paid, rate.opened_at_s, noted=True)
    return epoch


def work_price(connection: Connection, rate: Rate, basis: int | None) -> WorkPrice:
    """The work's side of it, in these books. Raises StoreError."""
    upstream_id = order_id = None
    if rate.upstream is not None:
        upstream_id = connection.scalar(select(upstreams.c.id).where(upstreams.c.name == rate.upstream))
        if upstream_id is None:
            raise StoreError(f"these books do not know upstream {rate.upstream}: add it")
    if rate.order is not None:
        of = (orders.c.name == rate.order) & (orders.c.upstream_id == upstream_id)
        order_id = connection.scalar(select(orders.c.id).where(of))
        if order_id is None:
            raise StoreError(f"these books know no order {rate.order} on upstream {rate.upstream}")
    return WorkPrice(
        nbits=rate.nbits,
        subsidy_sat=rate.subsidy_sat,
        fee_basis_id=basis,
        upstream_id=upstream_id,
        order_id=order_id,
        solo=rate.solo,
    )


def _basis(connection: Connection, rate: Rate) -> int | None:
    """The number of its blocks' list in these books, which keep it where they do not have it."""
    if not rate.basis:
        return None
    blocks = unpacked_basis(rate.basis)
    alike = select(fee_bases.c.id).where(fee_bases.c.block_fees_sat == fee_basis_sat(blocks))
    for number in connection.scalars(alike.order_by(fee_bases.c.id.desc())).all():
        if packed_basis(blocks_of_basis(connection, number)) == rate.basis:
            return int(number)
    return record_fee_basis(connection, blocks, rate.opened_at_s)


def _says(connection: Connection, row: Row[Any], rate: Rate) -> bool:
    """Whether an epoch of these books is this price. Who joined it later is no part of it."""
    found = described(connection, row.epoch)
    mine = {it.tenant: it for it in rate.paid}
    theirs = {it.tenant: it for it in found.paid if it.tenant in mine}
    return mine == theirs and msgspec.structs.replace(found, number=rate.number, paid=rate.paid) == rate


def _paid(row: Row[Any]) -> Paid:
    """What a tenant is paid by, from its rate and its name."""
    price = price_of(row)
    return Paid(
        tenant=row.name,
        scheme=price.scheme.value,
        fee_bps=price.fee_bps,
        sat_per_ph_day=price.sat_per_ph_day,
        upstream_risk=row.upstream_risk,
    )
