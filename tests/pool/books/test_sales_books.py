"""Invoices in the books while the pool runs: made once when they are due, and who does not pay is told."""

from contextlib import suppress

import pytest
from sqlalchemy import select, update

from payouts.sales.billing import Billing
from payouts.sales.terms import BillingTerms
from payouts.schemas.book import book
from payouts.schemas.sales import order_charge_shares, order_charges
from payouts.tallies import Tally
from pool.books.bookkeeper import Bookkeeper, BookTimes
from pool.books.sales_books import SalesBooks
from pool.books.store import Store
from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeConfig
from pool.messages.lasting_conditions import lasting_conditions
from pool.messages.lasting_looks import running_out, unpaid
from pool.messages.look import Look
from pool.messages.teller import Memory, Teller
from tests.fixtures.databases import Crash, crash_before
from tests.histories.sales import Sale
from tests.histories.statements import BOREALIS, DAY_S

STOPS = BillingTerms(billing=Billing.DAILY, due_days=1, stop_days=2)
NEXT_S = DAY_S + 86_400


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def sold(store: Store) -> tuple[Sale, SalesBooks, Clock]:
    sale = Sale(store, billing=STOPS, from_s=DAY_S, until_s=DAY_S + 90 * 86_400)
    sale.mine(sale.borealis, 600, 9_000, worker=BOREALIS * 100, log2=20)
    sale.settle(NEXT_S + 90)
    clock = Clock(NEXT_S + 90)
    return sale, SalesBooks(store, wall_clock=clock), clock


async def test_an_hour_is_charged_with_its_settlement_though_the_pool_is_killed_at_any_step(
    store: Store,
) -> None:
    sale = Sale(store, billing=STOPS, from_s=DAY_S, until_s=NEXT_S)
    for hour in (3, 4):
        sale.mine(sale.acme, hour * 60, 5_000, log2=20)
        sale.mine(sale.borealis, hour * 60, 4_000, worker=BOREALIS * 100, log2=20)
    # At the pool's risk, and taken by no upstream: credited, and in no bill.
    untaken = Tally(
        worker_id=BOREALIS * 100,
        rate_id=sale.borealis,
        minute=DAY_S // 60 + 200,
        difficulty_log2=20,
        verdict=0,
        shares=3_000,
        undelivered=True,
    )
    sale.tally([untaken])
    nodes = NodeSet([NodeConfig(name="one", url="http://node", user="u", password="p")], chain="regtest")
    steps, done = 0, False
    while not done:
        with suppress(Crash), crash_before(steps):
            await Bookkeeper(store, nodes, times=BookTimes(), wall_clock=Clock(NEXT_S)).settle_all()
            done = True
        steps += 1
    assert steps > 10
    with store.read() as connection:
        rows = connection.execute(select(order_charges).order_by(order_charges.c.seq)).all()
        counted = connection.execute(select(order_charge_shares)).all()
    assert [(it.hour - DAY_S // 3600, it.part) for it in rows] == [(3, 0), (4, 0)]
    assert [it.shares for it in counted] == [9_000, 9_000]
    sale.verified()


@pytest.mark.sqlite_suffices
async def test_what_was_paid_before_is_told_a_day_before_it_runs_out_and_when_it_has(store: Store) -> None:
    prepaid = BillingTerms(billing=Billing.DAILY, prepaid=True)
    sale = Sale(store, billing=prepaid, from_s=DAY_S, until_s=DAY_S + 90 * 86_400)
    sale.pay(10_000, "wire 7", DAY_S - 86_400)
    clock = Clock(DAY_S)
    books, memory = SalesBooks(store, wall_clock=clock), Memory()

    async def titles(at_s: int) -> list[str]:
        clock.now_s = at_s
        with store.write() as connection:
            connection.execute(update(book).values(latest_s=at_s))
        await books.keep()
        teller = Teller(memory, remind_s=30 * 86_400.0)
        looks = (running_out(books.running_out, stopped=False), running_out(books.running_out, stopped=True))
        found = lasting_conditions(Look(running_s=0.0, job_age_s=0.0, lasting=looks), teller.raised)
        return sorted(it.title for it in teller.look(found, [], (), int(clock.now_s)))

    assert await titles(DAY_S) == []
    sale.mine(sale.acme, 60, 29 * 800, log2=20)
    assert await titles(DAY_S + 2 * 3_600) == ["what was paid for order blue runs out"]
    sale.mine(sale.acme, 120, 24 * 800, log2=20)
    assert await titles(DAY_S + 3 * 3_600) == ["order blue stopped: its deposit is used up"]
    sale.pay(90_000, "wire 8", DAY_S + 3 * 3_600)
    assert await titles(DAY_S + 3 * 3_600) == ["order blue goes on", "order blue is paid for a day more"]


async def test_an_invoice_is_made_once_though_it_is_killed_at_any_step(store: Store) -> None:
    sale, books, clock = sold(store)
    steps = 0
    while not sale.standing(NEXT_S + 90).invoices:
        with suppress(Crash), crash_before(steps):
            await SalesBooks(store, wall_clock=clock).keep()
        steps += 1
    assert steps > 5
    await books.keep()
    await books.keep()
    (made,) = sale.standing(NEXT_S + 90).invoices
    assert (made.number, made.issued_at_s, made.due_at_s) == (1, NEXT_S + 90, NEXT_S + 90 + 86_400)
    sale.verified()


@pytest.mark.sqlite_suffices
async def test_who_does_not_pay_is_told_and_stops_until_he_has_paid(store: Store) -> None:
    sale, books, clock = sold(store)
    memory = Memory()

    async def titles() -> list[str]:
        await books.keep()
        teller = Teller(memory, remind_s=30 * 86_400.0)
        looks = (unpaid(books.unpaid, stopped=False), unpaid(books.unpaid, stopped=True))
        found = lasting_conditions(Look(running_s=0.0, job_age_s=0.0, lasting=looks), teller.raised)
        return [it.title for it in teller.look(found, [], (), int(clock.now_s))]

    assert await titles() == []
    due_s = NEXT_S + 90 + 86_400
    clock.now_s = due_s + 86_399
    assert await titles() == []
    clock.now_s = due_s + 86_400
    assert await titles() == ["invoices of order blue are overdue"]
    assert not sale.stopped(int(clock.now_s))
    clock.now_s = due_s + 2 * 86_400
    assert await titles() == ["order blue stopped: it is not paid"]
    assert sale.stopped(int(clock.now_s))
    sale.pay(sale.standing(int(clock.now_s)).invoiced_sat, "wire 7", int(clock.now_s))
    assert sorted(await titles()) == ["order blue goes on", "order blue is paid"]
    assert not sale.stopped(int(clock.now_s))
