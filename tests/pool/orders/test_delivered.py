"""What orders were given within a day, by the books: the work that reports have, as far as it is booked."""

import pytest
from sqlalchemy import update

from payouts.rates import HASHES_PER_DIFFICULTY
from payouts.schemas.book import book
from pool.books.store import Store
from pool.orders.delivered import CARRIED_S, Delivered, read_delivered
from pool.orders.rows import load_orders
from tests.histories.orders import HOUR_S, TARGET, OrderHistory
from tests.histories.statements import DAY_S, HOUR

BEGINS_S = DAY_S + 10 * HOUR_S + 1800
LOG2 = 20


def found(history: OrderHistory, now_s: int) -> Delivered | None:
    with history.store.read() as connection:
        orders = load_orders(connection, now_s)
    return read_delivered(history.store, orders, now_s).get(history.blue.id)


def booked_until(history: OrderHistory, at_s: int) -> None:
    with history.store.write() as connection:
        connection.execute(update(book).values(latest_s=at_s))


@pytest.fixture
def history(store: Store) -> OrderHistory:
    return OrderHistory(store)


def test_it_is_the_work_of_all_its_rates_since_it_began(history: OrderHistory) -> None:
    history.mine(history.acme, 10 * 60 + 40, 100, log2=LOG2)
    history.mine(history.borealis, 11 * 60, 30, log2=LOG2 + 1)
    history.mine(history.rate(), 11 * 60, 500, log2=LOG2)  # of nobody's order
    now_s = DAY_S + 11 * HOUR_S + 600
    booked_until(history, now_s - 90)
    assert found(history, now_s) == Delivered(
        from_s=BEGINS_S,
        until_s=now_s - 90,
        hashes=float((100 + 2 * 30) * 2**LOG2 * HASHES_PER_DIFFICULTY),
    )


def test_what_is_older_than_a_day_is_over(store: Store) -> None:
    history = OrderHistory(store, until_s=DAY_S + 4 * 86_400)
    history.mine(history.acme, 10 * 60 + 40, 100, log2=LOG2)
    history.mine(history.acme, 25 * 60, 7, log2=LOG2)
    now_s = DAY_S + 36 * HOUR_S + 60
    booked_until(history, now_s)
    had = found(history, now_s)
    assert had is not None
    assert had.from_s == (HOUR + 12) * 3600
    assert now_s - had.from_s >= CARRIED_S
    assert had.hashes == pytest.approx(float(7 * 2**LOG2 * HASHES_PER_DIFFICULTY))


def test_of_one_that_has_not_begun_where_the_books_are_nothing_is_known(history: OrderHistory) -> None:
    booked_until(history, BEGINS_S - 1)
    assert found(history, BEGINS_S + 60) is None


def test_what_the_upstream_refused_was_given_and_is_not_sent_once_more(history: OrderHistory) -> None:
    """A buyer whose pool rejects half of what it is sent had the other half from the seller as well."""
    history.mine(history.acme, 10 * 60 + 40, 100, log2=LOG2)
    history.judged(10, "accepted", 100)
    history.judged(10, "rejected", 40, "stale")
    history.judged(10, "unanswered", 5)
    history.judged(10, "rejected", 2, "of an easier target", target=TARGET << 3)
    now_s = DAY_S + 11 * HOUR_S
    booked_until(history, now_s)
    had = found(history, now_s)
    assert had is not None
    sent = (100 + 40 + 5) * 2**LOG2 + 2 * 2 ** (LOG2 - 3)
    assert had.hashes == pytest.approx(float(sent * HASHES_PER_DIFFICULTY))
