"""Receipts: of each hour that is over one, as the books have it; what comes later is in another."""

from datetime import timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError

from payouts.book_time import book_time
from payouts.proof.angara_verify import canonical, receipt_hash
from payouts.receipts.receipt import Receipt, counts_of
from payouts.receipts.rows import billed, due_orders, made, note
from payouts.reports.orders import order_report
from payouts.schemas.receipts import order_receipts
from payouts.statements.period import Period
from pool.books.receipt_closing import ReceiptClosing
from pool.books.store import Store
from pool.orders.rows import end_order
from tests.fixtures.databases import disarm
from tests.histories.orders import HOUR_S, deliver
from tests.histories.proof import KEY
from tests.histories.receipts import ClosedOrder, audited, closed_order
from tests.histories.statements import ACME, DAY, DAY_S, HOUR


@pytest.fixture
def order(store: Store) -> ClosedOrder:
    """Of four hours, none of which is closed."""
    order = ClosedOrder(store)
    deliver(order)
    return order


def hours(found: tuple[Receipt, ...]) -> list[tuple[int, str, int]]:
    return [(it.number, it.hour_utc[11:13], it.part) for it in found]


def test_every_hour_that_is_over_has_one_receipt_as_the_report_has_it(order: ClosedOrder) -> None:
    assert hours(order.close(12)) == [(1, "10", 0), (2, "11", 0)]
    assert order.close(12) == ()
    assert hours(order.close(40)) == [(3, "12", 0), (4, "13", 0)]
    assert order.close(41) == ()
    told = order.told()
    assert [it["seconds"] for it in told] == [1800, 3600, 3600, 900]
    assert [it["delivered"] for it in told] == [{"20": shares} for shares in (400, 310, 805, 199)]
    ((easy,), (lost,), both, none) = (it["targets"] for it in told)
    assert (easy["accepted"], len(both), none) == (402, 2, [])
    assert (lost["rejected"], lost["unanswered"]) == ({"low_difficulty": 2, "stale": 7}, 4)
    with order.store.read() as connection:
        report = order_report(connection, "blue", None, DAY_S + 40 * HOUR_S)
        sums = billed(connection, order.blue.id)
    assert (sums.number, sums.due_psat) == (4, 0)
    assert sums.bill_psat == sum(it["bill_psat"] for it in told)
    assert divmod(sums.bill_psat, 10**12) == (report.cost_sat, report.cost_psat)
    assert audited(order) is None


def test_what_is_booked_later_is_in_a_further_receipt_and_none_changes(order: ClosedOrder) -> None:
    """Into an hour that is over, and behind the order's end."""
    order.close(15)
    before = order.told()
    order.mine(order.acme, 11 * 60 + 59, 7, log2=19)
    order.judged(11, "accepted", 3, target=5)
    order.mine(order.acme, 14 * 60 + 1, 2, log2=20)
    later = order.close(16)
    assert hours(later) == [(5, "11", 1), (6, "14", 0)]
    assert [(it.seconds, it.delivered) for it in later] == [(0, {"19": 7}), (0, {"20": 2})]
    assert counts_of(later[0])["accepted", f"{5:064x}"] == 3
    assert order.told()[:4] == before
    assert audited(order) is None


def test_an_order_that_is_ended_sold_nothing_afterwards(order: ClosedOrder) -> None:
    order.close(12)
    with order.store.write() as connection:
        end_order(connection, "blue", by="dmitri", now_s=DAY_S + 12 * HOUR_S + 600)
    order.close(20)
    told = order.told()
    assert [it["seconds"] for it in told] == [1800, 3600, 600, 0], "in the last one late shares alone"
    assert ["ended_utc" in it for it in told] == [False, False, True, True]
    assert audited(order) is None


@pytest.mark.sqlite_suffices
def test_an_order_of_long_ago_has_none_and_one_that_runs_all_of_its_own(store: Store) -> None:
    forgotten = ClosedOrder(store)
    week = 7 * 24 + 14
    with store.read() as connection:
        assert due_orders(connection, HOUR + week + 1, again=True) == []
        assert due_orders(connection, HOUR + week, again=False) == [forgotten.blue.id]
    assert len(forgotten.close(12)) == 2
    with store.read() as connection:  # one that has begun has all
        assert due_orders(connection, HOUR + week + 1, again=False) == [forgotten.blue.id]


async def test_a_pool_closes_hours_that_its_books_have_passed(order: ClosedOrder) -> None:
    """Also without a key, in days when it is back; and only once."""
    for until, key, count in ((13, None, 3), (60, KEY, 4)):
        with order.store.write() as connection:
            book_time(connection, DAY_S + until * HOUR_S)
        closing = ReceiptClosing(order.store, key)
        for _ in range(2):
            await closing.keep()
            assert len(order.told()) == count
    assert [it["key"] for it in order.told()] == ["", "", "", KEY.public.hex()]
    assert audited(order) is None


def test_who_was_slower_writes_nothing(order: ClosedOrder) -> None:
    with order.store.write() as connection:
        found = made(connection, order.blue.id, HOUR + 12, KEY)
        assert note(connection, order.blue.id, found)
        assert not note(connection, order.blue.id, found)
    assert len(order.told()) == 2


def test_a_receipt_is_never_changed_and_never_gone(order: ClosedOrder) -> None:
    order.close(12)
    for change in ("UPDATE order_receipts SET bill_sat = 0", "DELETE FROM order_receipts"):
        with pytest.raises(DBAPIError, match="append-only"), order.store.write() as connection:
            connection.execute(text(change))


@pytest.mark.sqlite_suffices
def test_the_audit_finds_what_does_not_follow_from_the_books(store: Store) -> None:
    """Forged by somebody who has the key, and may drop triggers."""
    order = closed_order(store)
    genuine = order.told()[1]
    for change, words in (
        ({"delivered": {"20": 311}}, "does not follow from"),
        ({"bill_psat": genuine["bill_psat"] + 1}, "bills something else"),
        ({"previous": "1" * 64}, "does not follow from"),
        ({"terms": genuine["terms"] | {"sat_per_ph_day": 1}}, "does not follow from"),
        ({"seconds": 3_599}, "does not follow from"),
        ({"targets": []}, "does not follow from"),
        ({"hour_utc": "2026-09-01T09:00:00Z"}, "another number or hour"),
    ):
        forge(order, genuine | change)
        assert words in (audited(order) or ""), change
    forge(order, genuine, signature="0" * 128)
    assert audited(order) == "it is not signed by its key"
    forge(order, genuine, hash="0" * 64)
    assert audited(order) == "its hash is not that of its content"
    forge(order, genuine)
    assert audited(order) is None


def forge(order: ClosedOrder, content: dict[str, object], **values: str) -> None:
    """Write the second receipt anew, with the right hash, and signed."""
    digest = receipt_hash(content)
    plain = {name: it for name, it in content.items() if name not in ("hash", "signature")}
    row = {
        "content": canonical(plain).decode(),
        "hash": digest.hex(),
        "signature": KEY.sign(digest).hex(),
    }
    with order.store.write() as connection:
        disarm(connection)
        connection.execute(update(order_receipts).where(order_receipts.c.number == 2).values(row | values))


@pytest.mark.sqlite_suffices
def test_the_audit_finds_what_receipts_do_not_have(store: Store) -> None:
    order = closed_order(store)
    order.mine(order.acme, 11 * 60, 1, log2=20)
    assert audited(order) is None, "the next one will have it"
    with store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE rate_hours SET shares = shares - 2, settled = 0 WHERE shares > 2"))
    assert audited(order) == "its receipts have what the books do not have of that hour"


@pytest.mark.sqlite_suffices
def test_the_bill_of_many_hours_is_that_of_all_their_work(store: Store) -> None:
    """By the hour it would lose up to a psat each, at this price all of it."""
    order = ClosedOrder(store, until_s=DAY_S + 60 * HOUR_S, sat_per_ph_day=1)
    rate = order.sold_rate(ACME, order.blue.id)
    for hour in range(11, 60):
        order.mine(rate, hour * 60, 1, log2=-7)
    assert len(order.close(60)) == 50
    with order.store.read() as connection:
        whole = Period(DAY, DAY + timedelta(3))
        report = order_report(connection, "blue", whole, DAY_S + 70 * HOUR_S)
        assert billed(connection, order.blue.id).bill_psat == report.cost_psat == 19
    assert audited(order) is None
