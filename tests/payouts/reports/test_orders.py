"""The report of an order: delivered against sold, exactly, and what upstream and events say of it."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

import payouts.reports.orders
from payouts.ledger import payable
from payouts.reports.orders import OrderReport, UnknownOrder, order_report
from payouts.schemas.money import ledger_transfers, rate_hours, rates
from payouts.statements.period import Period
from payouts.tallies import Tally
from pool.books.store import Store
from pool.cli.main import app
from pool.orders.rows import add_order, end_order
from pool.reports.document import Series
from pool.reports.order_document import order_document
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from tests.fixtures.databases import Databases, copy_of, store_in
from tests.histories.orders import BUYER, HOUR_S, PRICE, TARGET, OrderHistory, deliver, new_order
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S
from tests.judges.report_readers import Page, pdf_text

NEXT = DAY + timedelta(1)
LATER_S = DAY_S + 30 * 86_400
HASHES = Fraction(2**68, 65535)  # of a share of difficulty 2^20: 2^20 * 2^256 / (0xffff * 2^208)
PH_HOUR = 3600 * 10**15


def told(history: OrderHistory, period: Period | None = None, now_s: int = LATER_S) -> OrderReport:
    with history.store.read() as connection:
        return order_report(connection, "blue", period, now_s)


@pytest.fixture
def history(databases: Databases) -> Iterator[OrderHistory]:
    with copy_of(databases, "three_hours", delivered) as history:
        yield history


def delivered(store: Store) -> OrderHistory:
    history = OrderHistory(store)
    deliver(history)
    return history


# Figures


@pytest.mark.sqlite_suffices
def test_every_hour_is_what_was_sold_of_it_and_the_work_that_was_counted(history: OrderHistory) -> None:
    hours = told(history).hours
    assert [it.from_utc for it in hours] == [f"2026-09-01T{hour}:00:00Z" for hour in (10, 11, 12, 13)]
    assert [it.sold_ph_hours for it in hours] == ["0.500000000", "1.000000000", "1.000000000", "0.250000000"]
    assert [it.delivered_work for it in hours] == [str(n << 20) for n in (400, 310, 805, 199)]
    for it, shares, sold in zip(hours, (400, 310, 805, 199), (50, 100, 100, 25), strict=True):
        nanos = int(shares * HASHES * 10**9 / PH_HOUR)
        assert it.delivered_ph_hours == f"{nanos // 10**9}.{nanos % 10**9:09d}"
        assert it.delivered_bps == int(shares * HASHES / PH_HOUR * 10_000 / Fraction(sold, 100))
        assert it.delivered_hps == int(shares * HASHES / (sold * 36))
    assert [(it.minutes, it.minutes_short, it.moves) for it in hours] == [
        (30, 2, 14),
        (60, 21, 3),
        (60, 0, 0),
        (0, 0, 0),
    ]


@pytest.mark.sqlite_suffices
def test_the_total_is_of_the_hours_and_the_buyer_pays_for_what_was_delivered(history: OrderHistory) -> None:
    report = told(history)
    total = report.total
    assert (total.sold_ph_hours, total.delivered_work) == ("2.750000000", str(1714 << 20))
    assert (total.minutes, total.minutes_short, total.moves) == (150, 23, 17)
    # 1714 * 2^68 / 65535 hashes * 4500 sat / (8.64 * 10^19 hashes), by hand: 402.046226473616...
    assert (report.cost_sat, report.cost_psat) == (402, 46226473616)
    assert report.cost_sat * 10**12 + report.cost_psat == int(
        1714 * HASHES * PRICE * 10**12 / (86_400 * 10**15)
    )


def test_what_no_upstream_took_is_credited_to_its_seller_and_not_in_the_buyers_bill(
    history: OrderHistory,
) -> None:
    before = told(history)
    mine = (rates.c.tenant_id == ACME) & rates.c.order_id.is_not(None)
    with history.store.read() as connection:
        rate_id, hour = connection.execute(
            select(rate_hours.c.rate_id, rate_hours.c.hour)
            .join(rates, rates.c.id == rate_hours.c.rate_id)
            .where(mine)
        ).first() or (0, 0)
    lost = Tally(
        worker_id=ACME * 100,
        rate_id=rate_id,
        minute=hour * 60,
        difficulty_log2=20,
        verdict=0,
        shares=1000,
        undelivered=True,
    )
    history.tally([lost])
    after = told(history)
    assert (after.total.delivered_work, after.cost_sat) == (before.total.delivered_work, before.cost_sat)
    acme, _ = after.sellers
    assert acme.delivered_work == str(450 << 20)
    assert float(acme.unsettled_ph_hours) == pytest.approx(float(1050 * HASHES / PH_HOUR), abs=1e-9)


@pytest.mark.sqlite_suffices
def test_what_the_upstream_said_is_told_by_hour_and_by_its_target(history: OrderHistory) -> None:
    report = told(history)
    assert [it.upstream.accepted for it in report.hours] == [402, 299, 816, 0]
    lost = report.hours[1].upstream
    assert (lost.rejected, lost.unanswered) == ({"low_difficulty": 2, "stale": 7}, 4)
    assert report.total.upstream.rejected == {"low_difficulty": 2, "stale": 7}
    assert [(it.difficulty, it.upstream.accepted) for it in report.targets] == [
        ("1048576", 1512),
        ("8388608", 5),
    ]
    easy, hard = (Fraction(2**256, target) for target in (TARGET, TARGET >> 3))
    for verdicts, work in (
        (report.hours[2].upstream, 811 * easy + 5 * hard),
        (report.targets[1].upstream, 5 * hard),
        (report.total.upstream, 1512 * easy + 5 * hard),
    ):
        nanos = int(work * 10**9 / PH_HOUR)
        assert verdicts.accepted_ph_hours == f"{nanos // 10**9}.{nanos % 10**9:09d}"


@pytest.mark.sqlite_suffices
def test_sellers_are_told_what_the_ledger_credited_them(history: OrderHistory) -> None:
    acme, borealis = told(history).sellers
    assert (acme.tenant, borealis.tenant) == ("acme", "borealis")
    assert (acme.delivered_work, borealis.delivered_work) == (str(450 << 20), str(1264 << 20))
    assert float(acme.unsettled_ph_hours) == pytest.approx(float(50 * HASHES / PH_HOUR), abs=1e-9)
    # acme's terms are the order's price, less the fee: 400 shares in three settlements, each floored.
    exact = 400 * HASHES * PRICE * Fraction(9750, 10_000) * 10**12 / (86_400 * 10**15)
    credited = acme.credit_sat * 10**12 + acme.credit_psat
    assert 0 <= exact - credited < 3
    with history.store.read() as connection:
        booked = {
            tenant: sum(
                row.amount_sat
                for row in connection.execute(ledger_transfers.select())
                if row.to_account == payable(tenant)
            )
            for tenant in (ACME, BOREALIS)
        }
    assert booked == {ACME: acme.credit_sat, BOREALIS: borealis.credit_sat}
    assert (acme.pool_fee_sat * 10**12 + acme.pool_fee_psat) * 39 == pytest.approx(credited, rel=1e-9)
    history.settle(DAY_S + 15 * HOUR_S)
    assert {it.unsettled_ph_hours for it in told(history).sellers} == {"0.000000000"}


@pytest.mark.sqlite_suffices
def test_who_keeps_back_what_the_upstream_asks_for_is_seen_by_name(history: OrderHistory) -> None:
    """Borealis sends the shares below the upstream's target, is credited for three quarters of the order, and
    keeps back the others: all that the buyer has is acme's. The sum alone does not tell whose it is."""
    acme, borealis = told(history).sellers
    assert (acme.forwarded, borealis.forwarded) == (402 + 299 + 811 + 7 + 2 + 4 + 5, 0)
    easy, hard = (Fraction(2**256, target) for target in (TARGET, TARGET >> 3))
    assert float(acme.forwarded_ph_hours) == pytest.approx(
        float((1525 * easy + 5 * hard) / PH_HOUR), abs=1e-9
    )
    assert borealis.forwarded_ph_hours == "0.000000000"
    assert float(borealis.delivered_ph_hours) > 2 * float(acme.delivered_ph_hours)


@pytest.mark.sqlite_suffices
def test_other_work_of_the_same_machines_is_no_part_of_it(history: OrderHistory) -> None:
    before = told(history)
    with history.store.write() as connection:
        other = add_order(connection, new_order("other"), by="olga", now_s=DAY_S)
    history.mine(history.rate(), 11 * 60, 1_000_000, log2=20)
    history.mine(history.sold_rate(ACME, other.id), 11 * 60, 1_000_000, log2=20)
    history.mine(history.acme, 11 * 60, 1_000_000, log2=20, verdict=12)
    history.judged(11, "accepted", 1_000_000, order=other.id)
    history.happened(660, "lost", "not ours", order=other.id)
    history.happened(661, "lost", "a tenant's", order=None)
    history.settle(DAY_S + 13 * HOUR_S + 90)
    assert told(history) == before


# Times


@pytest.mark.sqlite_suffices
def test_an_hour_of_nothing_is_told_as_nothing(store: Store) -> None:
    report = told(OrderHistory(store))
    assert [it.delivered_bps for it in report.hours] == [0, 0, 0, 0]
    assert (report.cost_sat, report.cost_psat, report.sellers) == (0, 0, ())


@pytest.mark.sqlite_suffices
def test_a_running_order_is_told_until_now(history: OrderHistory) -> None:
    report = told(history, now_s=DAY_S + 11 * HOUR_S + 60)
    assert report.told_until_utc == "2026-09-01T11:01:00Z"
    assert report.total.sold_ph_hours == f"{0.5 + 1 / 60:.10f}"[:-1]
    assert [it.sold_ph_hours for it in report.hours[2:]] == ["0.000000000"] * 2  # told, as it was delivered
    assert [it.delivered_bps for it in report.hours[2:]] == [None, None]


@pytest.mark.sqlite_suffices
def test_an_order_that_has_not_begun_says_nothing_of_hours(store: Store) -> None:
    report = told(OrderHistory(store), now_s=DAY_S)
    assert (report.hours, report.total.delivered_bps) == ((), None)
    shown = render_text(order_document(report), 100).decode()
    assert "No hour of the order is in this period." in shown


@pytest.mark.sqlite_suffices
def test_an_order_that_was_ended_sold_nothing_afterwards_but_late_shares_are_told(store: Store) -> None:
    history = OrderHistory(store, until_s=DAY_S + 90 * 86_400)
    with store.write() as connection:
        end_order(connection, "blue", by="dmitri", now_s=DAY_S + 86_400 - HOUR_S // 2)
    history.mine(history.acme, 24 * 60 + 1, 3, log2=20)
    report = told(history)
    assert (report.ended_at_utc, report.ended_by) == ("2026-09-01T23:30:00Z", "dmitri")
    assert report.to_day == str(DAY + timedelta(2))
    assert report.hours[-2].sold_ph_hours == "0.500000000"
    late = report.hours[-1]
    assert (late.from_utc, late.sold_ph_hours, late.delivered_bps) == (
        "2026-09-02T00:00:00Z",
        "0.000000000",
        None,
    )
    assert (late.delivered_work, late.delivered_hps) == (str(3 << 20), 0)


@pytest.mark.sqlite_suffices
def test_a_period_cuts_the_order_to_its_days(store: Store) -> None:
    history = OrderHistory(store, until_s=DAY_S + 3 * 86_400)
    for day in range(3):
        history.mine(history.acme, day * 1440 + 720, 10 + day, log2=20)
    report = told(history, Period(NEXT, NEXT + timedelta(1)))
    assert len(report.hours) == 24
    assert (report.total.sold_ph_hours, report.total.delivered_work) == ("24.000000000", str(11 << 20))
    assert told(history).total.delivered_work == str(33 << 20)
    elsewhere = told(history, Period(DAY - timedelta(9), DAY))
    assert (elsewhere.hours, elsewhere.events) == ((), ())


# Events


@pytest.mark.sqlite_suffices
def test_what_happened_to_its_channel_is_told_with_times(history: OrderHistory) -> None:
    history.happened(700, "switched", "b.pool.example:3333 is the first endpoint", order=None)
    events = told(history).events
    assert [(it.at_utc[11:16], it.event) for it in events] == [
        ("10:30", "served"),
        ("11:11", "lost"),
        ("11:12", "fell_back"),
        ("11:30", "returned"),
        ("11:40", "switched"),
    ]
    assert (events[1].words, events[1].sessions) == ("no share answered within 60 s", 400)


@pytest.mark.sqlite_suffices
def test_events_are_bounded_and_what_is_left_out_is_said(
    history: OrderHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payouts.reports.orders, "EVENTS_MAX", 3)
    report = told(history)
    assert (len(report.events), report.events_left_out) == (3, 1)
    assert "1 more events are left out" in render_text(order_document(report), 100).decode()


# Documents


@pytest.mark.sqlite_suffices
def test_it_can_be_written_in_every_format(history: OrderHistory) -> None:
    for minute, reason in enumerate(("duplicate", "unauthorised", "not_subscribed", "other")):
        history.judged(12, "rejected", minute + 1, reason)
    document = order_document(told(history))
    data = json.loads(render_json(document))["order"]
    assert (data["order"], data["buyer"], data["total"]["delivered_work"]) == (
        "blue",
        BUYER,
        str(1714 << 20),
    )
    page = Page(render_html(document))
    assert BUYER in "".join(page.texts)
    assert "b" not in page.tags
    assert "402.046226473616" in pdf_text(render_pdf(document))
    shown = render_text(document, 100).decode()
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert "2026-09-01 11:00     1.0000          0.3878" in shown
    sections: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO(render_csv(document).decode(), newline="")):
        if row:
            sections.setdefault(row[0], []).append(row[1:])
    assert sections["hours"][2] == [
        "2026-09-01T11:00:00Z",
        "1.000000000",
        "0.387815885",
        "3878",
        "60",
        "21",
        "3",
    ]
    header, _, lost, said, _ = sections["upstream_hours"]
    assert header[1:] == [
        "accepted",
        "rejected_stale",
        "rejected_other",
        "rejected_not_subscribed",
        "unanswered",
        "accepted_ph_hours",
        "rejected_other_reasons",
    ], "the commonest have columns"
    assert (lost[1:6], lost[7]) == (["299", "7", "0", "0", "4"], "low difficulty 2")
    assert (said[1:6], said[7]) == (["816", "0", "4", "3", "0"], "unauthorised 2, duplicate 1")
    assert sections["upstream_targets"][1][0] == f"{TARGET:064x}"


@pytest.mark.sqlite_suffices
def test_a_long_order_is_drawn_by_day(store: Store) -> None:
    history = OrderHistory(store, until_s=DAY_S + 20 * 86_400)
    history.mine(history.acme, 5 * 1440 + 60, 240, log2=20)
    document = order_document(told(history))
    (chart,) = [
        block for section in document.sections for block in section.blocks if isinstance(block, Series)
    ]
    assert (chart.step, len(chart.values)) == ("day", 20)
    assert chart.values[5] == pytest.approx(float(240 * HASHES / 86_400), rel=1e-9)


# The command


@pytest.fixture(scope="module")
def closed_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("closed")
    store = store_in(home)
    deliver(OrderHistory(store))
    store.close()
    return home / "angara.db"


@pytest.fixture
def data_dir(tmp_path: Path, closed_database: Path) -> Path:
    shutil.copy(closed_database, tmp_path)
    return tmp_path


def report(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", "order", *arguments, "--data-dir", str(data_dir)])


@pytest.mark.parametrize("form", ["text", "csv", "json", "html", "pdf"])
def test_the_command_writes_it(data_dir: Path, form: str) -> None:
    done = report(data_dir, "blue", "--format", form)
    assert (done.exit_code, done.stderr) == (0, "")
    assert len(done.stdout_bytes) > 400
    out = data_dir / "report"
    done = report(
        data_dir, "blue", "--from", str(DAY), "--to", str(NEXT), "--format", form, "--out", str(out)
    )
    assert (done.exit_code, done.output) == (0, "")
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("green",), "there is no order 'green'"),
        (("blue", "--from", "2026-09-01"), "give both --from and --to"),
        (("blue", "--from", "2026-09-02", "--to", "2026-09-02"), "is empty"),
    ],
)
def test_mistakes_are_answered_in_words(data_dir: Path, arguments: tuple[str, ...], reason: str) -> None:
    done = report(data_dir, *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr


@pytest.mark.sqlite_suffices
def test_an_unknown_order_is_an_error_of_its_own(store: Store) -> None:
    with store.read() as connection, pytest.raises(UnknownOrder):
        order_report(connection, "blue", None, LATER_S)
