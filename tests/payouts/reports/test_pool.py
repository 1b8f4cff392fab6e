"""The operator's reports: hashrate against nameplates, payouts, luck, reserve and what is owed."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction

import pytest

import payouts.reports.hashrate
from payouts.income import Block, Status, mark, record_block
from payouts.reports.choices import Grain, Step
from payouts.reports.hashrate import hashrate_report
from payouts.reports.payouts import payouts_report
from payouts.reports.pool import pool_report
from payouts.risk import reserve_sat
from payouts.siblings import SiblingKey, count_siblings
from payouts.statements.period import BadPeriod, Period
from payouts.tallies import roll_up_hours, roll_up_minutes
from pool.books.store import Store
from pool.reports.pool_documents import hashrate_document, payouts_document, pool_document
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from tests.fixtures.databases import Databases, copy_of
from tests.histories.statements import (
    ACME,
    DAY,
    DAY_S,
    P2WPKH,
    SHARE,
    History,
    mine_with_hostile_names,
    price,
)
from tests.judges.report_readers import Page, pdf_text

NEXT, AFTER = DAY + timedelta(1), DAY + timedelta(2)
PERIOD = Period(DAY, AFTER)
HOUR_S, DAY_LENGTH_S = 3600, 86_400


@pytest.fixture
def history(store: Store) -> History:
    return History(store)


def with_hostile_names(store: Store) -> History:
    history = History(store)
    mine_with_hostile_names(history)
    return history


@pytest.fixture
def mined(databases: Databases) -> Iterator[History]:
    with copy_of(databases, "hostile_names", with_hostile_names) as history:
        yield history


# Hashrate report


def test_hours_days_and_machines_add_up_to_the_same(mined: History) -> None:
    totals = set()
    with mined.store.read() as connection:
        for step in Step:
            for grain in Grain:
                rows = hashrate_report(connection, PERIOD, step, grain).rows
                totals.add((sum(row.accepted for row in rows), sum(row.rejected for row in rows)))
    assert totals == {(36 * 13 * 9000, 36 * 13 * 2)}


def test_a_container_is_held_against_its_nameplate_and_a_gap_is_a_row_of_zeros(mined: History) -> None:
    with mined.store.read() as connection:
        rows = hashrate_report(connection, PERIOD, Step.HOUR, Grain.CONTAINER, ACME).rows
        (unit, *_) = hashrate_report(connection, PERIOD, Step.DAY, Grain.WORKER, ACME).rows
        (tenant, *_) = hashrate_report(connection, PERIOD, Step.DAY, Grain.TENANT, ACME).rows
    assert len(rows) == 48
    expected = 13 * 9000 * (1 << 18) * (1 << 48) // 65535 // HOUR_S
    assert (rows[0].hashrate_hps, rows[0].nameplate_hps) == (expected, 1400 * 10**12)
    assert rows[0].of_nameplate_bps == expected * 10_000 // (1400 * 10**12)
    assert (rows[47].accepted, rows[47].hashrate_hps, rows[47].of_nameplate_bps) == (0, 0, 0)
    assert unit.nameplate_hps == 100 * 10**12
    assert tenant.nameplate_hps == 1400 * 10**12


@pytest.mark.sqlite_suffices
def test_hours_that_became_days_are_reported_by_day(mined: History) -> None:
    with mined.store.write() as connection:
        while roll_up_minutes(connection, DAY_S + 60 * DAY_LENGTH_S):
            pass
        roll_up_hours(connection, DAY_S + 900 * DAY_LENGTH_S)
    with mined.store.read() as connection:
        with pytest.raises(BadPeriod, match="only days are kept"):
            hashrate_report(connection, PERIOD, Step.HOUR, Grain.TENANT)
        rows = hashrate_report(connection, PERIOD, Step.DAY, Grain.TENANT, ACME).rows
    assert [row.accepted for row in rows] == [24 * 13 * 9000, 12 * 13 * 9000]


@pytest.mark.sqlite_suffices
def test_a_report_of_too_many_rows_is_refused(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payouts.reports.hashrate, "ROWS_MAX", 95)
    with history.store.read() as connection:
        hashrate_report(connection, PERIOD, Step.HOUR, Grain.CONTAINER, ACME)
        with pytest.raises(BadPeriod, match="more than 95 rows: ask for fewer days"):
            hashrate_report(connection, PERIOD, Step.HOUR, Grain.CONTAINER)


# Pool and payouts reports


@pytest.mark.sqlite_suffices
def test_the_pool_report_has_luck_reserve_income_and_what_is_owed(mined: History) -> None:
    with mined.store.read() as connection:
        report = pool_report(connection, PERIOD)
    assert report.luck is not None
    expected = price().expected_blocks(SHARE, 36 * 13 * 9000)
    assert report.luck.found == 1
    assert float(report.luck.luck) == pytest.approx(float(1 / expected), rel=1e-5)
    assert float(report.luck.low) < float(report.luck.luck) < float(report.luck.high)
    assert report.reserve.fee == "0.025000"
    assert report.reserve.needed_sat is not None
    needed_sat = reserve_sat(316_500_009, Fraction(1, 1000), Fraction(25, 1000))
    assert abs(report.reserve.needed_sat - needed_sat) < needed_sat // 10**6  # the fee earned is floored
    assert [(it.height, it.status) for it in report.blocks] == [(1_000_050, "matured")]
    owed = {it.tenant: (it.payable_sat, it.in_payout_sat) for it in report.owed}
    assert owed["acme"][1] == 1_000_000
    assert owed["borealis"] == (0, 0)
    assert report.reserve.owed_sat == sum(map(sum, owed.values()))
    assert report.reserve.matured_sat == 316_000_000
    assert report.reserve.free_sat == 316_000_000 - report.reserve.owed_sat
    assert report.wrong is None


@pytest.mark.sqlite_suffices
def test_the_pool_report_tells_siblings_apart_and_counts_as_income_what_the_chain_has(
    mined: History,
) -> None:
    with mined.store.read() as connection:
        before = pool_report(connection, PERIOD)
    matured = before.blocks[0]
    found = {"sibling": ("51" * 32, matured.height), "orphaned": ("0f" * 32, matured.height + 1)}
    with mined.store.write() as connection:
        for block_hash, height in found.values():
            block = Block(hash=block_hash, height=height, income_sat=5, worker_id=None, found_at_s=DAY_S + 60)
            record_block(connection, block, DAY_S + 60)
            mark(connection, block_hash, Status.ORPHANED, DAY_S + 60)
        count_siblings(connection, {SiblingKey("aa" * 32, matured.height, 0, True): 11_700}, DAY_S + 60)
    with mined.store.read() as connection:
        report = pool_report(connection, PERIOD)
    assert {it.hash: (it.status, it.income_sat) for it in report.blocks} == {
        matured.hash: ("matured", matured.income_sat),
        found["sibling"][0]: ("sibling", 0),
        found["orphaned"][0]: ("orphaned", 0),
    }
    assert report.luck is not None
    assert (report.luck.found, report.luck.siblings) == (11_703, 11_700), "chance found them all"
    reserve = report.reserve
    assert (reserve.blocks_found, reserve.blocks_orphaned) == (2, 1), "the network orphaned one"
    assert (reserve.matured_sat, reserve.pending_sat) == (before.reserve.matured_sat, 0)
    assert b"siblings" in render_text(pool_document(report), 200)


def test_the_pool_report_names_the_first_wrong_row(mined: History) -> None:
    with mined.store.write() as connection:
        connection.exec_driver_sql("UPDATE tally_minutes SET shares = shares + 1 WHERE verdict = 0")
    with mined.store.read() as connection:
        report = pool_report(connection, PERIOD)
    assert report.wrong is not None
    assert report.wrong.startswith("rate_hours")
    assert b"WRONG" in render_text(pool_document(report), 200)


@pytest.mark.sqlite_suffices
def test_without_a_fee_no_reserve_is_enough(history: History) -> None:
    rate = history.rate(fee_bps=0)
    history.mine(rate, 5, 10_000)
    history.settle(DAY_S + 2 * HOUR_S)
    reserve = history.state(DAY, NEXT).reserve
    assert (reserve.fee, reserve.needed_sat, reserve.ruin_at_free) == ("0.000000", None, "1.000000")
    shown = render_text(statement_document(history.state(DAY, NEXT)), 200)
    assert b"no reserve is enough" in shown


def test_the_payouts_report_names_payees_approvers_and_transaction(mined: History) -> None:
    with mined.store.read() as connection:
        (batch,) = payouts_report(connection, PERIOD).batches
        assert payouts_report(connection, Period(DAY - timedelta(1), DAY)).batches == ()
        assert payouts_report(connection, PERIOD, tenant_id=2).batches == ()
    assert (batch.state, batch.created_by, batch.approved_by) == ("broadcast", "olga", ("dmitri",))
    assert (batch.fee_sat, batch.amount_sat) == (1000, 1_000_000)
    assert [(it.tenant, it.address, it.output) for it in batch.items] == [("acme", P2WPKH, 0)]


@pytest.mark.sqlite_suffices
def test_every_report_can_be_written_in_every_format(mined: History) -> None:
    with mined.store.read() as connection:
        documents = (
            payouts_document(payouts_report(connection, PERIOD), "All tenants"),
            hashrate_document(hashrate_report(connection, PERIOD, Step.DAY, Grain.WORKER), "All tenants"),
            pool_document(pool_report(connection, PERIOD)),
            pool_document(pool_report(connection, Period(date(2020, 1, 1), date(2020, 1, 2)))),
            payouts_document(payouts_report(connection, Period(date(2020, 1, 1), date(2020, 1, 2))), "x"),
        )
    for document in documents:
        assert json.loads(render_json(document))[document.name]
        assert document.title in render_csv(document).decode()
        assert document.title in "".join(Page(render_html(document)).texts)
        assert document.title in pdf_text(render_pdf(document))
        assert document.title in render_text(document, 120).decode()
