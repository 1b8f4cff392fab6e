"""Prepaid orders: an hour is delivered only where what was paid covers all of it; the rest is given back."""

import pytest

from payouts.ledger import LedgerError, payable, reverse
from payouts.sales.billing import Billing
from payouts.sales.payments import CHARGED_S, say_refund
from payouts.sales.prepaid import AHEAD_S, Cover, covers, uncovered
from payouts.sales.terms import BillingTerms
from pool.books.store import Store
from pool.orders.rows import all_stopped, end_order, load_orders
from tests.histories.orders import HOUR_S, PRICE
from tests.histories.sales import Sale
from tests.histories.statements import ACME, DAY_S

PREPAID = BillingTerms(billing=Billing.DAILY, prepaid=True)
BEGINS = 10  # o'clock
HOUR_SAT = PRICE // 24 * 102 / 100  # of 1 PH/s, with 2 %: 190.74
FULL = 815  # shares of difficulty 2^20: 1.9 % more than was sold of an hour


def sold(store: Store, hours: int = 400) -> Sale:
    begins_s = DAY_S + BEGINS * HOUR_S
    return Sale(store, billing=PREPAID, from_s=begins_s, until_s=begins_s + hours * HOUR_S)


def runs(sale: Sale, at_s: int, booked_s: int | None = None) -> bool:
    with sale.store.read() as connection:
        stopped = uncovered(connection, at_s, at_s if booked_s is None else booked_s)
    return sale.blue.id not in stopped


def cover(sale: Sale, at_s: int) -> Cover:
    with sale.store.read() as connection:
        return covers(connection, at_s, at_s)[sale.blue.id]


def work(sale: Sale, hour: int, shares: int = FULL) -> None:
    sale.mine(sale.acme, 60 * hour + 30, shares, log2=20)


def play(sale: Sale, first: int, last: int) -> list[int]:
    """Hours that are delivered, as much of each as its tolerance lets; the books are a quarter of an hour
    behind, and charge an hour twenty minutes after it."""
    delivered = []
    for hour in range(first, last):
        begins_s = DAY_S + hour * HOUR_S
        for minute in (-AHEAD_S // 60, 0, 10, 19, 40, 57):
            if minute == 40:
                sale.settle(begins_s + 40 * 60)
            at_s = begins_s + 60 * minute
            going = runs(sale, at_s, at_s - 900)
            assert going or hour not in delivered, "an hour that is begun is covered to its end"
            if going and hour not in delivered:  # late, where the books have it that less was given
                work(sale, hour)
                delivered.append(hour)
        assert sale.standing(begins_s).owed_sat <= 0, "nothing is delivered that is not paid"
    return delivered


def test_it_stops_before_what_was_paid_is_used_up_and_goes_on_when_more_is(store: Store) -> None:
    sale = sold(store)
    assert play(sale, 10, 12) == []
    sale.pay(1_000, "wire 1")
    assert play(sale, 12, 24) == [12, 13, 14, 15, 16], "1,000 sat are 5.2 hours with the tolerance"
    left = -sale.standing(DAY_S).owed_sat
    assert 0 < left < HOUR_SAT
    sale.pay(300, "wire 2")
    at_s = DAY_S + 24 * HOUR_S + 1_800
    assert runs(sale, at_s), "in the middle of an hour too"
    sale.pay(10_000, "wire 3")
    assert len(play(sale, 25, 40)) == 15
    sale.verified()


@pytest.mark.sqlite_suffices
def test_a_buyer_who_never_pays_again_was_given_nothing_for_it(store: Store) -> None:
    """The best that he can do: whatever he paid, in satoshi, no hour is begun that it does not cover."""
    sale, paid = sold(store), 0
    hour = BEGINS
    for sat in (1, 189, 1, 1, 200, 571):
        paid += sat
        sale.pay(sat, f"wire {hour}")
        play(sale, hour, hour + 6)
        hour += 6
        assert sale.standing(DAY_S).charged_sat <= paid


@pytest.mark.sqlite_suffices
def test_a_payment_that_is_taken_back_stops_it(store: Store) -> None:
    sale = sold(store)
    said = sale.pay(1_000, "wire 1")
    at_s = DAY_S + BEGINS * HOUR_S + 60
    assert runs(sale, at_s)
    assert said.transaction is not None
    with store.write() as connection:
        reverse(connection, said.transaction, "the bank took it back", at_s)
        assert sale.blue.id in all_stopped(connection, at_s)
        assert load_orders(connection, at_s) == ()


@pytest.mark.sqlite_suffices
def test_while_books_stand_still_it_runs_as_long_as_its_deposit_lasts_and_no_longer(store: Store) -> None:
    """Whatever they are behind: three hours of it were counted, so that who paid for those had all for which
    they stood still: 60 hours here, 11,250 sat for 1,000."""
    sale, stand_s = sold(store), DAY_S + BEGINS * HOUR_S - 900
    sale.pay(1_000, "wire 1")
    ran = [hour for hour in range(BEGINS, 70) if runs(sale, DAY_S + hour * HOUR_S + 60, stand_s)]
    assert ran == [10, 11, 12, 13, 14], "5.2 hours"
    assert runs(sale, DAY_S + 69 * HOUR_S), "the books have it that nothing was given"
    sale.pay(60 * 192 - 1_000, "wire 2")
    assert runs(sale, DAY_S + 69 * HOUR_S, stand_s)
    assert not runs(sale, DAY_S + 70 * HOUR_S, stand_s)


@pytest.mark.sqlite_suffices
def test_a_site_that_is_cut_off_delivers_for_two_hours_that_are_paid_and_no_more(store: Store) -> None:
    """Nothing of it is in the books until it is back: it had gone on unpaid for as long as it was away."""
    sale, begins_s = sold(store), DAY_S + BEGINS * HOUR_S
    for sat, hours in ((200, 1), (10_000, 2)):
        sale.pay(sat, f"wire {sat}")
        with store.read() as connection:
            (record,) = load_orders(connection, begins_s + 60)
        assert record.until_s == begins_s + hours * HOUR_S


@pytest.mark.sqlite_suffices
def test_how_long_it_lasts_is_told(store: Store) -> None:
    sale = sold(store, hours=24)
    begins_s = DAY_S + BEGINS * HOUR_S
    assert cover(sale, begins_s - 7_200).until_s == begins_s, "planned, and not paid"
    assert cover(sale, begins_s) == Cover(left_sat=-192, until_s=begins_s)
    sale.pay(500, "wire 1")
    assert cover(sale, begins_s) == Cover(left_sat=308, until_s=begins_s + 2 * HOUR_S)
    sale.pay(10_000, "wire 2")
    assert cover(sale, begins_s).until_s == begins_s + 24 * HOUR_S, "no longer than it is"


@pytest.mark.sqlite_suffices
def test_what_is_left_is_given_back_when_all_of_it_is_charged(store: Store) -> None:
    """Else he had it back while machines mine for him, and they had mined for nothing."""
    sale = sold(store)
    sale.pay(1_000, "wire 1")
    work(sale, 10)
    ends_s = DAY_S + 11 * HOUR_S
    refund = (say_refund, sale.blue.id, 500, ACME, "the rest")
    with pytest.raises(LedgerError, match="is prepaid: what is left is given back 2 hours after its end"):
        sale.say("olga", ends_s, *refund)
    with store.write() as connection:
        end_order(connection, "blue", by="olga", now_s=ends_s)
    for at_s in (ends_s + CHARGED_S - 1, ends_s + CHARGED_S):
        with pytest.raises(LedgerError, match="when all of its work is charged"):
            sale.say("olga", at_s, *refund)
    sale.settle(ends_s + CHARGED_S)
    left = -sale.standing(ends_s).owed_sat
    assert left == 1_000 - sale.standing(ends_s).charged_sat
    for by in ("olga", "dmitri"):
        said = sale.say(by, ends_s + CHARGED_S, say_refund, sale.blue.id, left, ACME, "the rest")
    assert said.entry is not None
    assert sale.standing(ends_s).owed_sat == 0
    assert sale.balance(payable(ACME)) >= left
    sale.verified()


@pytest.mark.parametrize(
    "terms",
    [{}, {"billing": Billing.DAILY, "due_days": 1}, {"billing": Billing.DAILY, "stop_days": 0}],
)
def test_what_is_prepaid_has_invoices_and_no_days_to_pay_them_in(terms: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="prepaid has invoices"):
        BillingTerms(prepaid=True, **terms)  # type: ignore[arg-type]
