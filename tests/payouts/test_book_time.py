"""Booking times never run backwards: a clock that steps back changes no statement that was issued."""

import struct
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from sqlalchemy import Connection, func, select

from payouts.accrual import settle
from payouts.audit.decisions import check_registry
from payouts.audit.finding import Found
from payouts.audit.verify import audit
from payouts.batches.batch import Item
from payouts.batches.plan import Plan, digest
from payouts.batches.rows import Act
from payouts.batches.steps import approve, draft
from payouts.book_time import book_time, latest_s
from payouts.income import Block, record_block
from payouts.ledger import post
from payouts.ratebook import record_rate
from payouts.schemas.book import book
from pool.books.journal.journal import Journal
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import find_tenant, load, set_address, set_terms, terms_of
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S, P2TR, P2WPKH, History, price
from tests.payouts.test_ledger import credit
from tests.stages.journal import Home, waiting
from tests.stages.prices import open_epoch, prices_of

PRICE = WorkPrice(nbits=0x17021A42, subsidy_sat=312_500_000)
BACK_S = DAY_S + 7 * 3600  # where the clock steps back to: into the day that is over
ITEM = Item(
    position=0, tenant_id=ACME, tenant="acme", address=P2WPKH, script=b"\x00\x14" + bytes(20), amount_sat=1
)


def a_history(store: Store) -> History:
    history = History(store)
    history.set_terms(DAY_S - 86_400, 250, BOREALIS)
    return history


def work(connection: Connection) -> object:
    done = settle(connection, BACK_S + 90)
    assert done, "the shares of the hour before"
    return done


def terms(connection: Connection) -> object:
    changed = msgspec.structs.replace(terms_of(find_tenant(connection, "acme")), fee_bps=1)
    return set_terms(connection, "acme", changed, by="ann", now_s=BACK_S)


def pay(connection: Connection) -> object:
    batch = draft(connection, Plan((ITEM,), ()), Act("ann", BACK_S))
    return approve(connection, batch, digest((ITEM,)), 5_000, Act("bob", BACK_S))


STEPS: dict[str, Callable[[Connection], object]] = {
    "a settlement": work,
    "an adjustment": lambda it: post(it, credit("late", 5), BACK_S),
    "a rate": lambda it: record_rate(it, ACME, price(fee_bps=9, block_fees_sat=0), 1, None, BACK_S),
    "terms": terms,
    "an address": lambda it: set_address(it, "acme", P2TR, network="main", by="ann", now_s=BACK_S),
    "a payout": pay,
    "a block": lambda it: record_block(
        it, Block(hash="ab" * 32, height=5, income_sat=7, worker_id=None, found_at_s=BACK_S), BACK_S
    ),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("step", STEPS)
def test_a_clock_that_steps_back_changes_no_statement_of_days_that_are_over(store: Store, step: str) -> None:
    history = a_history(store)
    rate = history.rate()
    history.mine(rate, 5 * 60, shares=90_000)
    history.settle(DAY_S + 6 * 3600 + 90)
    history.mine(rate, 6 * 60 + 5, shares=80_000)
    next_day = DAY + timedelta(days=1)
    with store.write() as connection:
        assert book_time(connection, DAY_S + 86_400 + 200) == DAY_S + 86_400 + 200
    before = history.state(DAY, next_day)
    with store.write() as connection:
        STEPS[step](connection)
    after = history.state(DAY, next_day)
    assert after == before
    assert after.content_hash == before.content_hash


@pytest.mark.sqlite_suffices
def test_terms_that_change_twice_before_the_clock_has_caught_up_are_no_finding(store: Store) -> None:
    """All of that time is one second in the books, and a rate of it may follow all that was said in it."""
    history, behind_s = a_history(store), DAY_S + 86_400
    for fee_bps in (100, 50, 25):
        history.set_terms(behind_s, fee_bps)
        history.rate(behind_s, fee_bps=fee_bps)
    with store.read() as connection:
        check_registry(connection)
    history.rate(behind_s + 1, fee_bps=100)
    with store.read() as connection, pytest.raises(Found, match="the tenant had no such terms then"):
        check_registry(connection)


@pytest.mark.sqlite_suffices
def test_bookings_are_dated_in_the_order_of_the_ledger(store: Store) -> None:
    a_history(store)
    with store.write() as connection:
        for number, at_s in enumerate((DAY_S, DAY_S + 9, DAY_S - 86_400, DAY_S + 5, DAY_S + 20)):
            post(connection, credit(f"k{number}", 1), at_s)
        assert latest_s(connection) == DAY_S + 20
        assert audit(connection).wrong is None


def test_the_mark_never_goes_back(store: Store) -> None:
    with store.write() as connection:
        for now_s, booked_s in ((100, 100), (50, 100), (100, 100), (101, 101)):
            assert book_time(connection, now_s) == booked_s
        assert connection.scalar(select(func.max(book.c.latest_s))) == 101


async def test_shares_are_never_counted_in_a_minute_before_those_counted_already(store: Store) -> None:
    """Also after a start: the work of a day that is over stays what it was."""
    history = a_history(store)
    clock, worker = DAY_S + 600, ACME * 100
    with history.store.write() as connection:
        epoch = open_epoch(connection, PRICE, 1_000_000, DAY_S)
    shares = struct.pack("=IIbBHI", worker, epoch, 18, 0, 0, 3)
    home, minutes = Home(), []
    for back_s in (0, 86_400, 300):
        opened = home.start(store)
        with store.read() as connection:
            registry = Registry(load(connection))
            prices = prices_of(connection, registry, lambda: clock - back_s)  # noqa: B023
        journal = Journal(registry, opened.log, opened.beginning, prices)
        await journal.commit(shares)
        with store.read() as connection:
            minutes += [batch.moment_s // 60 for batch in waiting(home.path, connection)]
    assert minutes == [clock // 60] * 3
