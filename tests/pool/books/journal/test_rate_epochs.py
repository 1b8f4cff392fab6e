"""Epochs: whose work a rate number stands for, and how each tenant is paid for it."""

from typing import Any

import pytest
from sqlalchemy import Row, select, update
from sqlalchemy.exc import DatabaseError

from payouts.ratebook import record_fee_basis
from payouts.rates import DIVIDING, BlockFees, OrderCredit, Scheme, UpstreamRisk
from payouts.schemas.money import rates
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.journal.schema import rate_epoch_tenants, rate_epochs
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant, set_terms
from tests.histories.sold_work import order_row, upstream_row
from tests.stages.prices import open_epoch

NBITS, SUBSIDY_SAT, FEES_SAT = 0x17034219, 312_500_000, 4_000_000
SAT_PER_PH_DAY = 61_000
SCHEMES = tuple(Scheme)
ELSEWHERE = {it.value: "pps" for it in Scheme} | {"fpps": "fpps"}  # our own blocks pay for none of it
OWN, SOLO = "the pool's work", "work whose blocks pay a tenant"
NORTH, BLUE = "an upstream's work", "an order's work"
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"


class TenantOfEachScheme:
    """A tenant of each scheme, named after it; an upstream, an order on it, and what blocks pay in fees."""

    def __init__(self, store: Store, **terms: Any) -> None:
        self.store = store
        with store.write() as connection:
            self.north = upstream_row(connection)
            self.blue = order_row(connection, self.north, sat_per_ph_day=SAT_PER_PH_DAY)
            self.basis = record_fee_basis(connection, [BlockFees(height=1, hash="00", fees_sat=FEES_SAT)], 0)
            for scheme in SCHEMES:
                upstream = self.north if scheme is Scheme.PROXY else None
                of = TenantTerms(
                    scheme=scheme, fee_bps=200, payout_minimum_sat=0, upstream_id=upstream, **terms
                )
                paid = {"address": ADDRESS, "network": "regtest"}
                add_tenant(connection, scheme.value, of, by="olga", now_s=0, **paid)

    def price(self, work: str) -> WorkPrice:
        return WorkPrice(
            nbits=NBITS,
            subsidy_sat=SUBSIDY_SAT,
            fee_basis_id=self.basis,
            upstream_id=self.north if work in (NORTH, BLUE) else None,
            order_id=self.blue if work == BLUE else None,
            solo=work == SOLO,
        )

    def open(self, work: str) -> int:
        with self.store.write() as connection:
            return open_epoch(connection, self.price(work), 840_000, 0)

    def rates(self, epoch: int) -> dict[Scheme, Row[Any]]:
        """By the tenant's scheme, which need not be the rate's."""
        query = (
            select(rates, rate_epoch_tenants.c.upstream_risk)
            .join(rate_epoch_tenants, rate_epoch_tenants.c.rate_id == rates.c.id)
            .where(rate_epoch_tenants.c.epoch == epoch)
        )
        with self.store.read() as connection:
            return {SCHEMES[row.tenant_id - 1]: row for row in connection.execute(query)}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("work", "paid_by"),
    [
        (OWN, {"pps": "pps", "fpps": "fpps", "solo": "pps", "proxy": "pps"} | {it: it for it in DIVIDING}),
        (SOLO, {"solo": "solo"}),
        (NORTH, ELSEWHERE | {"proxy": "proxy"}),
        (BLUE, ELSEWHERE),
    ],
)
def test_a_tenant_is_paid_by_its_scheme_and_by_whose_work_it_is(
    store: Store, work: str, paid_by: dict[str, str]
) -> None:
    tenants = TenantOfEachScheme(store)
    found = tenants.rates(tenants.open(work))
    assert {scheme.value: row.scheme for scheme, row in found.items()} == paid_by
    price = tenants.price(work)
    for row in found.values():
        assert (row.upstream_id, row.order_id) == (price.upstream_id, price.order_id)
        assert (row.nbits, row.subsidy_sat, row.fee_bps) == (NBITS, SUBSIDY_SAT, 200)
        assert row.block_fees_sat == (FEES_SAT if row.scheme == "fpps" else 0)
        assert row.sat_per_ph_day is None


@pytest.mark.sqlite_suffices
def test_work_that_an_order_sells_is_paid_by_the_orders_price_where_the_terms_say_so(store: Store) -> None:
    tenants = TenantOfEachScheme(store, order_credit=OrderCredit.ORDER)
    for scheme, row in tenants.rates(tenants.open(BLUE)).items():
        assert row.sat_per_ph_day == SAT_PER_PH_DAY
        assert row.scheme == ("fpps" if scheme is Scheme.FPPS else "pps")
        assert (row.fee_basis_id, row.block_fees_sat) == (None, 0)  # no part of that price
    for work in (OWN, NORTH):
        assert {row.sat_per_ph_day for row in tenants.rates(tenants.open(work)).values()} == {None}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("risk", list(UpstreamRisk))
def test_who_bears_what_an_upstream_does_not_take_is_kept_with_the_epoch(
    store: Store, risk: UpstreamRisk
) -> None:
    tenants = TenantOfEachScheme(store, upstream_risk=risk)
    epoch = tenants.open(NORTH)
    other = UpstreamRisk.POOL if risk is UpstreamRisk.TENANT else UpstreamRisk.TENANT
    changed = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0, upstream_risk=other)
    with store.write() as connection:
        set_terms(connection, "pps", changed, by="olga", now_s=1)
    later = tenants.open(NORTH)
    with store.read() as connection:
        assert rate_of(connection, epoch, 1).upstream_risk is risk
        assert rate_of(connection, later, 1).upstream_risk is other
        # Who bears it is no part of the price: the rate is the same one.
        assert rate_of(connection, epoch, 1).rate_id == rate_of(connection, later, 1).rate_id


@pytest.mark.sqlite_suffices
def test_a_tenant_that_came_during_an_orders_epoch_is_paid_like_the_others(store: Store) -> None:
    tenants = TenantOfEachScheme(store)
    epoch = tenants.open(BLUE)
    terms = TenantTerms(
        scheme=Scheme.PPS,
        fee_bps=100,
        payout_minimum_sat=0,
        order_credit=OrderCredit.ORDER,
        upstream_risk=UpstreamRisk.POOL,
    )
    with store.write() as connection:
        late = add_tenant(connection, "late", terms, by="olga", now_s=0)
        made = rate_of(connection, epoch, late.id)
        assert rate_of(connection, epoch, late.id) == made
        row = connection.execute(select(rates).where(rates.c.id == made.rate_id)).one()
    assert made.upstream_risk is UpstreamRisk.POOL
    assert (row.order_id, row.sat_per_ph_day, row.fee_bps) == (tenants.blue, SAT_PER_PH_DAY, 100)


def test_sources_that_take_turns_share_no_rate_and_open_none_anew(store: Store) -> None:
    tenants = TenantOfEachScheme(store)
    first = {work: tenants.rates(tenants.open(work)) for work in (OWN, NORTH, BLUE)}
    again = {work: tenants.rates(tenants.open(work)) for work in (OWN, NORTH, BLUE)}
    ids = {work: {scheme: row.id for scheme, row in found.items()} for work, found in first.items()}
    assert ids == {work: {scheme: row.id for scheme, row in found.items()} for work, found in again.items()}
    assert len({number for found in ids.values() for number in found.values()}) == 3 * len(SCHEMES)
    with store.read() as connection:
        rows = connection.execute(select(rate_epochs).order_by(rate_epochs.c.epoch)).all()
    sources = [(None, None), (tenants.north, None), (tenants.north, tenants.blue)]
    assert [(row.upstream_id, row.order_id) for row in rows] == sources * 2


def test_an_epoch_is_never_another_ones_afterwards(store: Store) -> None:
    tenants = TenantOfEachScheme(store)
    tenants.open(NORTH)
    with pytest.raises(DatabaseError, match="append-only"), store.write() as connection:
        connection.execute(update(rate_epoch_tenants).values(upstream_risk="pool"))
