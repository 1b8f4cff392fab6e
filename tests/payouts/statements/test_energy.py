"""Energy in a statement: what was drawn and is due, by when it was booked; and a statement without is as
before."""

from pathlib import Path

import pytest

from payouts.audit.verify import audit
from payouts.energy.carbon import Method
from payouts.energy.dues import collect
from payouts.reports.choices import Place
from payouts.reports.power import power_report
from payouts.statements.energy import ph_days_text
from payouts.statements.period import Period
from pool.books.store import Store
from tests.fixtures.databases import store_in
from tests.histories.energy import KWH, day_of, draw_a_day
from tests.histories.statements import DAY_S, History, mine_with_hostile_names

DAY, NEXT, AFTER = day_of(0), day_of(1), day_of(2)
# 22 hours of 12 kWh, less 4, at 0.05 USD of 1,500 sat.
COST_SAT = (22 * 12 - 4) * 75


def drawn(store: Store, credit_sat: int = 100_000) -> History:
    history = History(store)
    if credit_sat:
        history.adjust(credit_sat, DAY_S + 60)
    draw_a_day(store)
    return history


def test_a_statement_has_energy_cost_carbon_and_curtailments(store: Store) -> None:
    history = drawn(store)
    told = history.state(DAY, NEXT)
    energy = told.energy
    assert energy is not None
    assert (energy.total.metered_j, energy.total.estimated_j) == ((220 - 4) * KWH, 44 * KWH)
    assert [it.container for it in energy.containers] == ["c01"]
    location, market = energy.carbon
    assert (location.method, location.mg, location.known_j) == (Method.LOCATION, 260 * 24_000, 260 * KWH)
    assert (market.mg, market.known_j, market.sources) == (
        0,
        (11 * 12 - 4) * KWH,
        ("certificates of the dam",),
    )
    (charged,) = energy.charges
    assert (charged.tariff, charged.hours, charged.joules) == ("dam", 22, 260 * KWH)
    assert (charged.cost_sat, charged.cost_psat) == (COST_SAT, 0)
    assert (energy.due_before_sat, energy.charged_sat, energy.due_after_sat) == (0, COST_SAT, 0)
    (event,) = energy.curtailments
    assert (event.machines_off, event.forgone_sat, event.error_sat) == (2, 40_000, 900)
    assert event.ph_days == ph_days_text(480 << 18) == "0.006255"
    (paid,) = energy.payments
    assert (paid.tenant_sat, paid.operator_sat) == (2_250, 750)
    money = told.money
    assert (money.energy_sat, money.grid_sat, money.adjustments_sat) == (COST_SAT, 2_250, 100_000)
    assert money.closing_sat == 100_000 - COST_SAT + 2_250
    assert [it.memo for it in told.adjustments] == ["goodwill"]


@pytest.mark.sqlite_suffices
def test_what_is_due_is_in_the_statement_and_goes_on_in_the_next(store: Store) -> None:
    history = drawn(store, credit_sat=0)
    first = history.state(DAY, NEXT).energy
    assert first is not None
    assert (first.collected_sat, first.due_after_sat) == (0, COST_SAT)  # the grid's payment came after
    history.adjust(1_000, DAY_S + 30 * 3600)
    with store.write() as connection:
        collect(connection, DAY_S + 30 * 3600)
        assert audit(connection).wrong is None
    second = history.state(NEXT, AFTER)
    assert second.energy is not None
    assert (second.energy.due_before_sat, second.energy.collected_sat) == (COST_SAT, 3_250)
    assert second.energy.due_after_sat == COST_SAT - 3_250
    assert (second.money.energy_sat, second.money.closing_sat) == (3_250, 0)
    assert history.state(DAY, NEXT).energy == first


@pytest.mark.sqlite_suffices
def test_a_statement_of_before_there_was_energy_is_byte_for_byte_what_it_was(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    history = History(store)
    mine_with_hostile_names(history)
    history.adjust(77, DAY_S + 30 * 3600)
    told = history.state(DAY, AFTER)
    store.close()
    assert told.energy is None
    assert told.content_hash == "8e8e7f670b54f142b1a14f244d0f060b21b8aee9a38e558ea802b5c330935937"


# The report of power


def test_the_report_adds_up_by_site_container_and_tenant(store: Store) -> None:
    drawn(store)
    with store.read() as connection:
        reports = {place: power_report(connection, Period(DAY, NEXT), place) for place in Place}
    for report in reports.values():
        assert report.total.metered_j == 216 * KWH == sum(it.metered_j for it in report.rows)
        assert report.total.estimated_j == (44 + 110) * KWH == sum(it.estimated_j for it in report.rows)
        assert report.sources == ("certificates of the dam", "grid 2025")
        assert report.total.location_mg == (260 + 110) * 24_000
    assert [it.name for it in reports[Place.SITE].rows] == ["", "north"]
    assert [it.name for it in reports[Place.CONTAINER].rows] == ["acme.c01", "borealis.c01"]
    assert [it.cost_sat for it in reports[Place.CONTAINER].rows] == [None, None]
    acme, borealis = reports[Place.TENANT].rows
    assert (acme.cost_sat, acme.waiting_j, acme.due_sat) == (COST_SAT, 0, 0)
    assert (borealis.cost_sat, borealis.waiting_j, borealis.due_sat) == (0, 0, 0)
    assert acme.watts == 260 * KWH // 86_400
    (event,) = reports[Place.TENANT].events
    assert (event.tenant, event.watts_asked, event.watts_metered, event.paid_sat) == (
        "acme",
        6_000,
        6_200,
        3_000,
    )


@pytest.mark.sqlite_suffices
def test_of_one_tenant_it_has_what_it_owes_and_nothing_of_others(store: Store) -> None:
    drawn(store, credit_sat=0)
    with store.read() as connection:
        report = power_report(connection, Period(NEXT, AFTER), Place.TENANT, 1)
        other = power_report(connection, Period(DAY, NEXT), Place.TENANT, 2)
    assert [(it.name, it.metered_j, it.due_sat) for it in report.rows] == [("acme", 0, COST_SAT)]
    assert (report.events, other.events) == ((), ())
    assert [it.name for it in other.rows] == ["borealis"]
    assert other.total.cost_sat == 0
