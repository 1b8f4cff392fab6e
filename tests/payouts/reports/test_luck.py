"""Luck by tenant, container, machine and firmware: who withholds blocks is seen, nobody else is accused."""

import math
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event, update

from payouts.income import Block, record_block
from payouts.rates import Scheme
from payouts.reports.choices import Whose
from payouts.reports.luck import LEVEL, Hint, luck_report, threshold_of
from payouts.risk import tails
from payouts.schemas.money import workers
from payouts.siblings import SiblingKey, count_siblings
from payouts.solo import SoloPayout, record_solo
from payouts.statements.period import Period
from pool.admin import commands
from pool.admin.desk import Desk
from pool.admin.operators import ALONE
from pool.books.store import Store
from pool.people.roles import host_account
from pool.reports.luck_document import luck_document
from pool.reports.render_text import render_text
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S, History

PERIOD = Period(DAY, DAY + timedelta(1))
NBITS = 0x1D00FFFF  # difficulty 1: a share of difficulty 2^-2 is a block with probability 1/4
QUARTER = -2
NO_FEES: dict[str, Any] = {"nbits": NBITS, "scheme": Scheme.PPS, "block_fees_sat": 0}

ANN = host_account("ann", ALONE)


@pytest.fixture
def history(store: Store) -> History:
    return History(store)


def find(history: History, worker: int | None, count: int = 1, first: int = 0) -> list[str]:
    """Blocks of a machine."""
    hashes = [f"{worker or 0:08x}{first + number:056x}" for number in range(count)]
    with history.store.write() as connection:
        for number, block_hash in enumerate(hashes):
            block = Block(
                hash=block_hash,
                height=1 + number,
                income_sat=5,
                worker_id=worker,
                found_at_s=DAY_S + number,
            )
            record_block(connection, block, DAY_S)
    return hashes


def found_and_expected(
    history: History, whose: Whose, tenant: str | None = None
) -> dict[str, tuple[int, str, Hint | None]]:
    with history.store.read() as connection:
        report = luck_report(connection, PERIOD, whose, tenant)
    return {it.name: (it.found, it.expected, it.hint) for it in report.rows}


@given(st.integers(0, 60), st.fractions(0, 60, max_denominator=100))
def test_the_tails_are_those_of_poisson(found: int, expected: Fraction) -> None:
    few, many = tails(found, expected)
    terms = [math.exp(-expected) * float(expected) ** k / math.factorial(k) for k in range(found + 1)]
    assert float(few) == pytest.approx(math.fsum(terms), rel=1e-9, abs=1e-12)
    assert float(few + many) == pytest.approx(1 + terms[-1], rel=1e-9)
    assert 0 <= few <= 1
    assert 0 <= many <= 1


def test_who_withholds_blocks_is_seen_from_the_tenant_down_to_the_machine(history: History) -> None:
    """Acme's second machine sends every share but those that are blocks: paid in full, it finds nothing."""
    acme, borealis = history.rate(**NO_FEES), history.rate(tenant_id=BOREALIS, **NO_FEES)
    for rate, worker in ((acme, 100), (acme, 101), (borealis, 200), (borealis, 201)):
        history.mine(rate, 5, 100, worker=worker, log2=QUARTER)
    for worker in (100, 200, 201):
        find(history, worker, 25)
    with history.store.write() as connection:
        connection.execute(update(workers).where(workers.c.id == 101).values(agent="thief/1.0"))
        connection.execute(update(workers).where(workers.c.id != 101).values(agent="bmminer/2.0"))
    assert found_and_expected(history, Whose.TENANT) == {
        "acme": (25, "50", Hint.FEW),
        "borealis": (50, "50", None),
    }
    machines = found_and_expected(history, Whose.WORKER, "acme")
    assert [(row[0], row[2]) for row in machines.values()] == [(0, Hint.FEW), (25, None)]  # the thief first
    assert len(found_and_expected(history, Whose.WORKER)) == 4
    assert found_and_expected(history, Whose.FIRMWARE) == {
        "thief/1.0": (0, "25", Hint.FEW),
        "bmminer/2.0": (75, "75", None),
    }
    assert {row[2] for row in found_and_expected(history, Whose.CONTAINER).values()} == {Hint.FEW, None}
    with history.store.read() as connection:
        shown = render_text(luck_document(luck_report(connection, PERIOD, Whose.TENANT)), 220).decode()
    for words in (
        "TOO FEW: blocks are withheld",
        "Of whom fewer than 8.294 blocks",
        "report luck --tenant NAME",
    ):
        assert words in " ".join(shown.split())


def test_tenant_show_says_it_where_an_operator_looks(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool.admin.fleet.tenants.wall_s", lambda: DAY_S + 3600)
    for tenant_id in (ACME, BOREALIS):
        rate = history.rate(tenant_id=tenant_id, **NO_FEES)
        history.mine(rate, 5, 80, worker=tenant_id * 100, log2=QUARTER)
    find(history, 200, 19)
    history.set_terms(DAY_S, fee_bps=1, tenant_id=BOREALIS)
    desk = Desk(history.store, "regtest")
    assert commands.execute(desk, "tenant.show", b'{"name": "acme"}', ANN)["luck_hint_90d"] == "too few"
    shown = commands.execute(desk, "tenant.show", b'{"name": "borealis"}', ANN)
    assert (shown["blocks_found_90d"], shown["blocks_expected_90d"]) == (19, "20")
    assert (shown["luck_90d"], shown["luck_low_90d"], shown["luck_high_90d"]) == ("0.95", "0.5720", "1.484")
    assert shown["luck_hint_90d"] is None


@pytest.mark.sqlite_suffices
def test_a_list_of_tenants_asks_for_nobodys_work(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ninety days of fifty tenants took it 3.7 s on a busy machine."""
    monkeypatch.setattr("pool.admin.fleet.tenants.wall_s", lambda: DAY_S + 3600)
    for tenant_id in (ACME, BOREALIS):
        history.set_terms(DAY_S, fee_bps=1, tenant_id=tenant_id)
        history.mine(history.rate(tenant_id=tenant_id, **NO_FEES), 5, 80, worker=tenant_id * 100)
    asked: list[str] = []

    def note(*said: Any) -> None:
        asked.append(said[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        listed = commands.execute(Desk(history.store, "regtest"), "tenant.list", b"{}", ANN)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert [it["name"] for it in listed] == ["acme", "borealis"]
    assert asked
    assert not [it for it in asked if "rate_hours" in it or "tally_" in it or "blocks" in it]


@pytest.mark.sqlite_suffices
def test_more_blocks_than_the_work_explains_and_blocks_without_work_are_seen_too(history: History) -> None:
    rate = history.rate(**NO_FEES)
    history.mine(rate, 5, 4, worker=100, log2=QUARTER)
    find(history, 100, 12)
    find(history, 200)
    assert found_and_expected(history, Whose.TENANT) == {
        "borealis": (1, "0", Hint.MANY),
        "acme": (12, "1", Hint.MANY),
    }


@pytest.mark.sqlite_suffices
def test_solo_work_counts_and_work_for_upstreams_and_rejected_shares_do_not(history: History) -> None:
    solo = history.rate(nbits=NBITS, scheme=Scheme.SOLO, block_fees_sat=0)
    history.mine(solo, 5, 40, worker=100, log2=QUARTER)
    history.mine(solo, 6, 400, worker=100, log2=QUARTER, verdict=9)
    find(history, 100, 7)
    for number, worker in enumerate((100, 100, 0)):
        key = SiblingKey(parent_hash=str(number), height=7, worker_id=worker, pays_pool=bool(number))
        with history.store.write() as connection:
            count_siblings(connection, {key: 1}, DAY_S)
    (late,) = find(history, None, 1, first=99)
    payout = SoloPayout(tenant_id=ACME, address="a", script=b"s", amount_sat=1, fee_sat=5)
    with history.store.write() as connection:
        record_solo(connection, late, payout)
    find(history, None, 2, first=200)
    assert found_and_expected(history, Whose.TENANT) == {"acme": (10, "10", None)}
    with history.store.read() as connection:
        assert luck_report(connection, PERIOD, Whose.TENANT).nobodys == 3
        assert luck_report(connection, PERIOD, Whose.WORKER).nobodys == 4
        assert luck_report(connection, Period(DAY - timedelta(9), DAY), Whose.TENANT).rows == ()


def test_of_honest_reports_one_in_a_thousand_at_most_accuses_anybody() -> None:
    """Whatever the tenants' size, for one and for many: exact, by summing over every count."""
    for looked_at in (1, 20):
        threshold = threshold_of(looked_at)
        for expected in (Fraction(1, 100), Fraction(1), Fraction(9), Fraction(40)):
            accused, most = Decimal(0), int(expected) + 200
            for found in range(most):
                few, many = tails(found, expected)
                if min(few, many) < threshold:
                    accused += few + many - 1  # the probability of this count
            assert accused * looked_at <= Decimal(LEVEL.numerator) / LEVEL.denominator


def test_a_thief_that_keeps_all_blocks_is_seen_when_ten_are_expected_and_one_that_keeps_half_later() -> None:
    """How much can be stolen before it shows, of ten tenants: what the docs say."""
    threshold = threshold_of(10)
    assert tails(0, Fraction(99, 10))[0] > threshold > tails(0, Fraction(10))[0]
    kept_half = next(n for n in range(1, 500) if tails(n // 2, Fraction(n))[0] < threshold)
    assert 40 <= kept_half <= 90
