"""An upstream pays one: a tenant by proxy, or the pool. Nobody is paid by both for the same work.

The thief: a tenant whose own account an upstream pays, who has his terms changed to PPS, or sees to it that
machines which the pool pays fall back there. His gain is what the pool pays him, and whom it pays besides.
"""

from fractions import Fraction

import msgspec
import pytest
from sqlalchemy import select

from payouts.ratebook import price_of
from payouts.rates import Scheme
from payouts.schemas.money import rates
from pool.books.audit.verify import verify
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.store import Store
from pool.fleet.rows import RegistryError, TenantTerms, add_tenant, set_terms
from pool.orders.rows import NewOrder, add_order
from pool.upstreams.rows import NewUpstream, add_upstream, find_upstream
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.stages.prices import open_epoch

NBITS, SUBSIDY_SAT = 0x17034219, 312_500_000
DIFFICULTY, SHARES = Fraction(1 << 20), 1_000_000
NOW_S = 1_700_000_000
POOL_TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)


class PaidAccounts:
    """Upstreams with what they fall back on, tenants with terms, and what a tenant's work would be paid."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now_s = NOW_S

    def upstream(self, name: str, fallback: str | None = None) -> None:
        endpoint = UpstreamEndpoint(host=f"{name}.example", port=3333, user="account")
        with self.store.write() as connection:
            new = NewUpstream(name=name, endpoints=(endpoint,), fallback=fallback)
            add_upstream(connection, new, by="olga", now_s=self.now_s)

    def terms(self, tenant: str, scheme: Scheme, upstream: str | None, *, new: bool = False) -> None:
        self.now_s += 60
        with self.store.write() as connection:
            number = None if upstream is None else find_upstream(connection, upstream).id
            terms = msgspec.structs.replace(POOL_TERMS, scheme=scheme, upstream_id=number)
            if new:
                add_tenant(connection, tenant, terms, by="olga", now_s=self.now_s)
            else:
                set_terms(connection, tenant, terms, by="olga", now_s=self.now_s)

    def order(self, upstream: str, tenant: str) -> None:
        with self.store.write() as connection:
            order = NewOrder(
                name="blue",
                buyer="blue",
                upstream=upstream,
                hashrate_ths=1,
                tolerance_bps=100,
                from_s=self.now_s,
                until_s=self.now_s + 86_400,
                priority=1,
                sat_per_ph_day=1,
                tenants=(tenant,),
                containers=(),
            )
            add_order(connection, order, by="olga", now_s=self.now_s)

    def paid_sat(self, upstream: str | None) -> Fraction:
        """To the first tenant, for work of that upstream that is handed out now."""
        self.now_s += 60
        with self.store.write() as connection:
            number = None if upstream is None else find_upstream(connection, upstream).id
            price = WorkPrice(nbits=NBITS, subsidy_sat=SUBSIDY_SAT, upstream_id=number)
            rate = rate_of(connection, open_epoch(connection, price, 840_000, self.now_s), 1)
            row = connection.execute(select(rates).where(rates.c.id == rate.rate_id)).one()
            return price_of(row).credit_sat(DIFFICULTY, SHARES)

    def proven(self) -> bool:
        with self.store.read() as connection:
            return verify(connection).wrong is None


@pytest.fixture
def accounts(store: Store) -> PaidAccounts:
    accounts = PaidAccounts(store)
    accounts.upstream("south")
    accounts.upstream("north", "south")
    return accounts


@pytest.mark.sqlite_suffices
def test_who_leaves_his_own_upstream_is_paid_there_for_what_he_sends_on_the_way_and_not_by_the_pool(
    accounts: PaidAccounts,
) -> None:
    accounts.terms("acme", Scheme.PROXY, "north", new=True)
    assert accounts.paid_sat("north") == 0
    accounts.terms("acme", Scheme.PPS, None)
    gained_sat = accounts.paid_sat("north")
    print(f"paid by both: {float(accounts.paid_sat(None)):.0f} sat of PPS, gain {float(gained_sat):.0f} sat")
    assert gained_sat == 0
    assert accounts.paid_sat(None) > 0
    assert accounts.proven()


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("scheme", [Scheme.PPS, Scheme.FPPS])
def test_nobody_is_paid_by_the_pool_for_work_whose_upstream_pays_a_tenant(
    accounts: PaidAccounts, scheme: Scheme
) -> None:
    """Neither that tenant nor another, whose machines would work for it: for as long as the terms stood."""
    accounts.terms("acme", Scheme.PROXY, "north", new=True)
    for new, tenant in ((False, "acme"), (True, "borealis")):
        with pytest.raises(RegistryError, match="north, whose account pays acme by proxy: both would pay"):
            accounts.terms(tenant, scheme, "north", new=new)
    accounts.terms("acme", Scheme.PPS, None)
    with pytest.raises(RegistryError, match="both would pay"):
        accounts.terms("acme", scheme, "north")
    accounts.terms("acme", Scheme.PROXY, "north")


def test_no_machine_that_the_pool_pays_falls_back_on_a_tenants_account(accounts: PaidAccounts) -> None:
    """The tenant chooses when: it is enough that the first upstream is silent for a while."""
    accounts.terms("acme", Scheme.PROXY, "south", new=True)
    with pytest.raises(RegistryError, match="the upstream south, whose account pays acme by proxy"):
        accounts.terms("borealis", Scheme.PPS, "north", new=True)
    accounts.terms("borealis", Scheme.PPS, None, new=True)
    with pytest.raises(RegistryError, match="the fallback of order blue would lead machines"):
        accounts.order("north", "borealis")


@pytest.mark.sqlite_suffices
def test_an_account_that_machines_of_the_pool_are_led_to_becomes_no_tenants(accounts: PaidAccounts) -> None:
    accounts.terms("borealis", Scheme.PPS, "north", new=True)
    for upstream in ("north", "south"):
        with pytest.raises(RegistryError, match="by the terms of borealis: its account cannot be acme's"):
            accounts.terms("acme", Scheme.PROXY, upstream, new=True)
    accounts.terms("borealis", Scheme.PPS, None)
    accounts.order("north", "borealis")
    with pytest.raises(RegistryError, match="by the fallback of order blue"):
        accounts.terms("acme", Scheme.PROXY, "south", new=True)
    accounts.terms("acme", Scheme.PROXY, "north", new=True)  # what an order sells goes to its buyer's account


@pytest.mark.sqlite_suffices
def test_a_tenant_whose_upstreams_are_all_its_own_has_them_in_any_order(accounts: PaidAccounts) -> None:
    accounts.terms("acme", Scheme.PROXY, "north", new=True)
    accounts.terms("acme", Scheme.PROXY, "south")
    accounts.terms("acme", Scheme.PROXY, "north")
    assert accounts.paid_sat("north") == accounts.paid_sat("south") == 0
    assert accounts.proven()
