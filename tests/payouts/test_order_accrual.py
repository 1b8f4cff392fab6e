"""Work of several sources: each has rates of its own, and an order's price is settled, audited and stated."""

from datetime import timedelta
from fractions import Fraction

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DatabaseError

from payouts.audit.verify import audit
from payouts.ratebook import OWN_WORK, WorkSource, record_rate
from payouts.rates import BadRate, Price, Scheme, floor_to_psat, share_probability
from payouts.reports.pool import pool_report
from payouts.schemas.money import rates
from payouts.schemas.orders import orders
from payouts.statements.period import Period
from pool.books.store import Store
from pool.reports.render_csv import render_csv
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from tests.fixtures.databases import disarm
from tests.histories.sold_work import order_row, upstream_row
from tests.histories.statements import ACME, DAY, DAY_S, History, price

NEXT = DAY + timedelta(1)
HOUR_S = 3600
SAT_PER_PH_DAY = 50_000
# 1,000,000 shares of difficulty 2^18 at that price, less 2 %: by hand, as in test_rates.
SHARES = 1_000_000
CREDIT = (638_540, 940_529_211_157)


class Seller(History):
    """acme mines for the pool, for an upstream, and for an order on another one."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        with store.write() as connection:
            self.north = WorkSource(upstream_row(connection, "north"))
            south = upstream_row(connection, "south")
            self.blue = WorkSource(south, order_row(connection, south, sat_per_ph_day=SAT_PER_PH_DAY))

    def rate_for(self, source: WorkSource, rate: Price, height: int = 1_000_000, at_s: int = DAY_S) -> int:
        with self.store.write() as connection:
            return record_rate(connection, ACME, rate, height, None, at_s, source)


@pytest.fixture
def seller(store: Store) -> Seller:
    return Seller(store)


def pps(fee_bps: int = 200) -> Price:
    return price(scheme=Scheme.PPS, block_fees_sat=0, fee_bps=fee_bps)


def sold(fee_bps: int = 200, sat_per_ph_day: int = SAT_PER_PH_DAY) -> Price:
    return price(scheme=Scheme.PPS, block_fees_sat=0, fee_bps=fee_bps, sat_per_ph_day=sat_per_ph_day)


# Rates


@pytest.mark.sqlite_suffices
def test_the_newest_rate_is_that_of_the_same_source(seller: Seller) -> None:
    own, north, blue = (seller.rate_for(source, pps()) for source in (OWN_WORK, seller.north, seller.blue))
    assert len({own, north, blue}) == 3
    for _ in range(2):  # in turn, as channels ask; none is in another's way
        assert seller.rate_for(OWN_WORK, pps()) == own
        assert seller.rate_for(seller.north, pps()) == north
        assert seller.rate_for(seller.blue, pps()) == blue
    changed = seller.rate_for(seller.north, pps(100))
    assert changed not in (own, north, blue)
    assert seller.rate_for(seller.north, pps()) not in (own, north, blue, changed)  # a change back is one
    assert seller.rate_for(OWN_WORK, pps()) == own


def test_an_orders_price_is_part_of_the_rate(seller: Seller) -> None:
    plain, paid = seller.rate_for(seller.blue, pps()), seller.rate_for(seller.blue, sold())
    assert plain != paid
    assert seller.rate_for(seller.blue, sold()) == paid
    with seller.store.read() as connection:
        row = connection.execute(select(rates).where(rates.c.id == paid)).one()
    assert WorkSource(row.upstream_id, row.order_id) == seller.blue
    assert row.sat_per_ph_day == SAT_PER_PH_DAY


@pytest.mark.sqlite_suffices
def test_an_orders_price_without_an_order_is_refused(seller: Seller) -> None:
    with pytest.raises(BadRate, match="price of no order"):
        seller.rate_for(seller.north, sold())


# Accrual and audit


@pytest.mark.sqlite_suffices
def test_an_hour_at_an_orders_price_is_settled_exactly_and_the_audit_agrees(seller: Seller) -> None:
    rate = seller.rate_for(seller.blue, sold())
    seller.mine(rate, 5, SHARES)
    seller.settle(DAY_S + HOUR_S + 60)
    found = seller.state(DAY, NEXT)
    (row,) = found.rates
    assert (row.credit_sat, row.credit_psat) == CREDIT
    assert (found.money.credits_sat, found.money.carry_out_psat) == CREDIT
    fee = floor_to_psat(sold().pool_fee_sat(Fraction(1 << 18), SHARES))
    assert (row.pool_fee_sat, row.pool_fee_psat) == (fee.sat, fee.carry_psat)
    with seller.store.read() as connection:
        checked = audit(connection)
    assert (checked.wrong, checked.settlements) == (None, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("UPDATE rates SET sat_per_ph_day = 50001", "does not follow from its shares"),
        ("UPDATE rates SET sat_per_ph_day = NULL", "does not follow from its shares"),
        ("UPDATE orders SET sat_per_ph_day = 50001", "its price is not that of its order"),
    ],
)
def test_the_audit_finds_another_price_than_the_one_that_was_sold(
    seller: Seller, change: str, reason: str
) -> None:
    seller.mine(seller.rate_for(seller.blue, sold()), 5, SHARES)
    seller.settle(DAY_S + HOUR_S + 60)
    with seller.store.write() as connection:
        disarm(connection)
        connection.execute(text(change))
    with seller.store.read() as connection:
        wrong = audit(connection).wrong
    assert wrong is not None
    assert reason in wrong.reason


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE orders SET sat_per_ph_day = 1",
        "UPDATE orders SET upstream_id = 1",
        "UPDATE orders SET until_s = until_s + 1",
        "DELETE FROM orders",
    ],
)
def test_the_database_refuses_to_change_what_was_sold(seller: Seller, change: str) -> None:
    with pytest.raises(DatabaseError, match="orders only grows"), seller.store.write() as connection:
        connection.execute(text(change))
    with seller.store.write() as connection:  # an order may end
        connection.execute(update(orders).values(ended_at_s=7, ended_by="olga"))


# Statement


@pytest.mark.sqlite_suffices
def test_a_statement_tells_whose_work_it_was_and_what_it_was_paid_by(seller: Seller) -> None:
    own, blue = seller.rate_for(OWN_WORK, pps()), seller.rate_for(seller.blue, sold())
    proxy = seller.rate_for(
        seller.north, price(scheme=Scheme.PROXY, block_fees_sat=0), height=999_990, at_s=DAY_S + 60
    )
    for rate in (own, blue, proxy):
        seller.mine(rate, 5, SHARES)
    seller.settle(DAY_S + HOUR_S + 60)
    found = seller.state(DAY, NEXT)
    told = {row.rate: (row.upstream, row.order, row.sat_per_ph_day, row.credit_sat) for row in found.rates}
    by_blocks = share_probability(0x17021A42, Fraction(1 << 18)) * SHARES * 312_500_000 * 98 / 100
    assert told == {
        own: (None, None, None, int(by_blocks)),
        blue: ("south", seller.blue.order_id, SAT_PER_PH_DAY, CREDIT[0]),
        proxy: ("north", None, None, 0),
    }
    # A rate of one source is followed by the next of that source, not by another source's.
    assert [row.height_to for row in found.rates] == [None, None, None]
    document = statement_document(found)
    shown = render_text(document, 110).decode()
    assert "Price (sat per PH-day)" in shown
    assert "50,000" in shown
    rows = render_csv(document).decode().splitlines()
    assert any(row.startswith(f"sources,{blue},south,{seller.blue.order_id},50000") for row in rows)
    # Neither subsidy nor block fees had a part in that price.
    assert any(row.startswith(f"rates,{blue},ORDER,17021a42,1000000-,,,200") for row in rows)


@pytest.mark.sqlite_suffices
def test_a_statement_of_the_pools_own_work_has_no_word_of_orders(seller: Seller) -> None:
    seller.mine(seller.rate_for(OWN_WORK, pps()), 5, SHARES)
    seller.settle(DAY_S + HOUR_S + 60)
    shown = render_csv(statement_document(seller.state(DAY, NEXT))).decode()
    assert "sources" not in shown


# Luck and reserve


@pytest.mark.sqlite_suffices
def test_work_for_an_upstream_is_neither_luck_nor_risk(seller: Seller) -> None:
    def report() -> tuple[object, ...]:
        with seller.store.read() as connection:
            found = pool_report(connection, Period(DAY, NEXT))
        reserve = found.reserve
        return (found.luck, reserve.block_sat, reserve.fee, reserve.effective_fee, reserve.needed_sat)

    seller.mine(seller.rate_for(OWN_WORK, pps()), 5, SHARES)
    seller.settle(DAY_S + HOUR_S + 60)
    before = report()
    assert before[1] == 312_500_000
    seller.mine(seller.rate_for(seller.blue, sold(fee_bps=1000)), 65, SHARES)
    seller.mine(seller.rate_for(seller.north, price(subsidy_sat=10**10, block_fees_sat=0)), 66, SHARES)
    seller.settle(DAY_S + 2 * HOUR_S + 60)
    assert report() == before
