"""Receipts of an order that makes good what is missing: what is owed, what is due, and who can check it."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from payouts.audit.sales import check_sales
from payouts.book_time import book_time
from payouts.proof import angara_verify
from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.receipts.receipt import WORK_PER_HASH, psat_of
from payouts.receipts.rows import billed, changed_psat_of, receipts
from payouts.reports.orders import order_report
from payouts.sales.billing import Billing
from payouts.sales.terms import UNBILLED, BillingTerms
from payouts.schemas.sales import order_charges
from pool.books.store import Store
from pool.orders.delivered import delivered
from pool.orders.rows import load_orders, note_minute
from pool.reports.order_document import order_document
from pool.reports.render_text import render_text
from tests.fixtures.databases import disarm
from tests.histories.orders import HOUR_S, PRICE
from tests.histories.proof import Auditor, altered, kinds_of_fields
from tests.histories.receipts import ClosedOrder, audited, counted, signed_again, written
from tests.histories.statements import DAY_S, HOUR

STEPS = (Tolerance(1_000, 1), Tolerance(200, 2))
PH_HOUR = 10**15 * 3_600 * WORK_PER_HASH
SHARE = 1 << 68  # of difficulty 2^20: 799.6 in a PH-hour


def closed(
    store: Store,
    how: MakeGood,
    tolerances: tuple[Tolerance, ...] = STEPS,
    billing: BillingTerms = UNBILLED,
) -> ClosedOrder:
    """1 PH/s for five hours: whole, 60 %, much too much, refused as far as it is missing, half of it away."""
    times = {"from_s": DAY_S + 10 * HOUR_S, "until_s": DAY_S + 15 * HOUR_S}
    order = ClosedOrder(store, make_good=how, tolerances=tolerances, billing=billing, **times)
    for hour, shares in ((10, 800), (11, 480), (12, 1_000), (13, 300), (14, 390)):
        order.mine(order.acme, 60 * hour + 1, shares, log2=20)
        order.judged(hour, "accepted", shares)
    order.judged(13, "rejected", 500, "stale")
    with store.write() as connection:
        for _ in range(30):
            note_minute(connection, order.blue.id, HOUR + 14, True, 0, away=True)
    order.close(16)
    return order


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def goods(order: ClosedOrder) -> list[dict[str, Any]]:
    return [it["made_good"] for it in order.told()]


def test_the_buyer_owes_what_was_sold_and_has_credit_for_what_is_missing(
    store: Store, auditor: Auditor
) -> None:
    order = closed(store, MakeGood.CREDIT)
    told, short = order.told(), PH_HOUR - 480 * SHARE
    assert [int(it["short"]) for it in goods(order)] == [0, short, 0, 0, PH_HOUR // 2 - 390 * SHARE]
    # 10 % of an hour, and 2 % of both together.
    first = short - PH_HOUR // 10
    assert [int(it["granted"]) for it in goods(order)][:4] == [0, first + PH_HOUR // 10 - PH_HOUR // 25, 0, 0]
    refused = PH_HOUR - 300 * SHARE
    assert int(goods(order)[3]["refused"]) >= refused == PH_HOUR - int(goods(order)[3]["billed"])
    assert [it["away_s"] for it in goods(order)] == [0, 0, 0, 0, 1_800]
    done = sum(int(it["billed"]) - int(it["granted"]) for it in goods(order))
    with store.read() as connection:
        sums = billed(connection, order.blue.id)
        assert (sums.bill_psat, sums.due_psat) == (psat_of(done, PRICE), 0)
        work = sum(int(it["work"]) for it in told)
        changed = sum(map(changed_psat_of, receipts(connection, order.blue.id)))
        assert changed == sums.bill_psat - psat_of(work, PRICE)
    assert audited(order) is None
    assert auditor.found(written(told), counted=counted(told)) == (0, [])


def test_what_is_to_be_paid_back_is_due_and_the_bill_is_whole(store: Store, auditor: Auditor) -> None:
    order = closed(store, MakeGood.REFUND)
    told = order.told()
    sold = sum(int(it["billed"]) for it in goods(order))
    granted = sum(int(it["granted"]) for it in goods(order))
    with store.read() as connection:
        sums = billed(connection, order.blue.id)
        report = order_report(connection, "blue", None, DAY_S + 16 * HOUR_S)
    assert (sums.bill_psat, sums.due_psat) == (psat_of(sold, PRICE), psat_of(granted, PRICE))
    assert report.making_good is not None
    assert report.making_good.due_sat * 10**12 + report.making_good.due_psat == sums.due_psat
    shown = render_text(order_document(report), 100).decode()
    assert "refund, beyond 10.00 % over 1 h, 2.00 % over 2 h" in shown
    assert audited(order) is None
    assert auditor.found(written(told)) == (0, [])


def test_of_an_order_that_is_billed_what_its_receipts_change_is_charged_once(store: Store) -> None:
    order = closed(store, MakeGood.CREDIT, billing=BillingTerms(billing=Billing.DAILY, due_days=1))
    order.settle(DAY_S + 20 * HOUR_S)
    assert order.close(17) == ()
    with store.read() as connection:
        sums = billed(connection, order.blue.id)
        kinds = dict[str, int]()
        for row in connection.execute(select(order_charges)):
            amount_psat = row.amount_sat * 10**12 + row.amount_psat
            kinds[row.kind] = kinds.get(row.kind, 0) + amount_psat
        work = sum(map(changed_psat_of, receipts(connection, order.blue.id)))
        check_sales(connection)
    assert kinds["make_good"] == work
    assert 0 <= sums.bill_psat - sum(kinds.values()) < 5, "each hour's work is rounded down by itself"
    assert audited(order) is None
    with store.write() as connection:
        disarm(connection)
        connection.execute(
            update(order_charges).values(amount_psat=7).where(order_charges.c.kind == "make_good")
        )
    assert audited(order) == "it is not what the hour's receipts change"


@pytest.mark.sqlite_suffices
def test_any_figure_of_it_that_changed_is_found_though_it_is_signed_again(
    store: Store, auditor: Auditor
) -> None:
    """By a seller who has the key: what he would be owed is what follows from the counts."""
    told = closed(store, MakeGood.CREDIT).told()
    for path in kinds_of_fields(told[1]["made_good"]):
        if not path or isinstance(path[-1], int) or path[-1] in ("carried", "carried_before"):
            continue
        good = told[1]["made_good"]
        value: Any = good
        for name in path:
            value = value[name]
        new = value + 60 if isinstance(value, int) else str(int(value) + PH_HOUR)
        forged = [told[0], told[1] | {"made_good": altered(good, path, new)}, *told[2:]]
        assert auditor.found(written(signed_again(forged)))[0] in (1, 2), path


@pytest.mark.sqlite_suffices
def test_what_was_made_good_is_not_given_once_more_nor_what_the_buyer_was_away_for(store: Store) -> None:
    """Else a buyer who is away for an hour a day would be given work that he does not pay for."""
    order = closed(store, MakeGood.CREDIT)
    now_s = DAY_S + 14 * HOUR_S + 3_599
    with store.write() as connection:
        book_time(connection, now_s)
        orders = load_orders(connection, now_s)
        (given,) = delivered(connection, orders, now_s).values()
        made = sum(int(it["granted"]) for it in goods(order))
    shares = (800 + 480 + 1_000 + 300 + 390) + 500  # that were delivered, and that were refused
    expected = (shares * SHARE + made) / WORK_PER_HASH + 1_800 * 10**15
    assert given.hashes == pytest.approx(expected, rel=1e-6)


@pytest.mark.sqlite_suffices
def test_a_verifier_that_computes_by_itself_agrees_hour_for_hour(store: Store) -> None:
    told = closed(store, MakeGood.CREDIT, (Tolerance(1, 1),)).told()
    for it in told:
        report = angara_verify.Report()
        angara_verify.check_receipt(it, report)
        assert report.wrong == []
