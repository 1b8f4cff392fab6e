"""What the books are told of power: energy by container, and curtailments that are over."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from payouts.energy.events import book_event, books_of
from payouts.energy.grid import Basis, divided, weights_of
from payouts.energy.hours import ContainerEnergy
from payouts.ratebook import WorkSource, record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import containers, sites
from payouts.schemas.power import power_meters, power_readings
from pool.books.store import Store
from pool.power.curtailment.schema import power_event_machines, power_event_work, power_events
from pool.power.curtailment.told_books import ToldBooks
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from tests.fixtures.databases import add_tenant
from tests.histories.power import HOUR as POWER_HOUR
from tests.histories.power import NOW_S, add_container, mined_in_hour

HOUR = 497_000
HOUR_S = HOUR * 3600
NORTH = 1
PRICE = Price(nbits=0x17021A42, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.PPS)


@pytest.fixture
def books(store: Store) -> Store:
    with store.write() as connection:
        connection.execute(insert(sites).values(id=NORTH, name="north", created_at_s=0))
        add_tenant(connection, 1, "acme")
        connection.execute(update(containers).values(site_id=NORTH))
    return store


def event(store: Store, number: int, **fields: Any) -> None:
    usual: dict[str, Any] = {
        "id": number,
        "site": "north",
        "target": "everything",
        "source": "cli",
        "reference": f"call {number}",
        "state": "over",
        "dry_run": 0,
        "asked_at_s": HOUR_S,
        "asked_by": "olga",
        "from_s": HOUR_S + 60,
        "until_s": HOUR_S + 3_660,
        "ramp_s": 600,
        "watts_asked": 6_800,
        "ended_at_s": HOUR_S + 4_000,
    }
    with store.write() as connection:
        connection.execute(insert(power_events).values(**(usual | fields)))


def test_only_what_is_over_and_was_no_rehearsal_is_booked(books: Store) -> None:
    event(books, 1)
    event(books, 2, dry_run=1)
    event(books, 3, state="holding", ended_at_s=None)
    event(books, 4, ended_at_s=HOUR_S + 9_000)
    event(books, 5, state="cancelled")
    with books.read() as connection:
        assert list(ToldBooks().ended(connection, HOUR_S + 4_000)) == [1]


@pytest.mark.sqlite_suffices
def test_an_event_comes_with_what_its_machines_did_before_and_when_they_were_off(books: Store) -> None:
    event(books, 1)
    with books.write() as connection:
        machine = {
            "event_id": 1,
            "batch": 1,
            "changed_at_s": HOUR_S,
            "due_s": HOUR_S,
            "asks": 1,
            "before_from_s": HOUR_S - 3_600,
            "before_until_s": HOUR_S,
            "watts_before": 3_500,
            "watts_idle": 100,
            "basis": "work",
            "error_bps": 500,
        }
        off = {"off_from_s": HOUR_S + 100, "off_until_s": HOUR_S + 3_700}
        connection.execute(
            insert(power_event_machines).values(worker_id=100, state="restored", **machine, **off)
        )
        connection.execute(insert(power_event_machines).values(worker_id=101, state="lost", **machine))
        work = insert(power_event_work).values(event_id=1, worker_id=100, difficulty_log2=18, shares=240)
        connection.execute(work)
    with books.read() as connection:
        told, (first, second) = ToldBooks().event(connection, 1)
    assert (told.watts_asked, told.watts_metered, told.asked_by) == (6_800, None, "olga")
    assert (first.tenant_id, first.before_s, first.before, first.came_back) == (1, 3_600, {18: 240}, True)
    assert (first.off_from_s, first.off_until_s) == (HOUR_S + 100, HOUR_S + 3_700)
    assert (second.before, second.off_from_s, second.came_back) == ({}, None, False)


@pytest.mark.sqlite_suffices
def test_who_mined_for_a_minute_of_the_hour_before_is_paid_for_a_minute_of_it(store: Store) -> None:
    """He has heard when calls come: he mines for a minute in the hour before he is asked and for some before
    it begins, and so his machine drew all of its watts when it was chosen. Beside one as large that mined he
    has 1.6 % of the grid's payment by what was not drawn; it was half of it."""
    hour, log2 = 640, 17  # shares of 100 TH/s
    with store.write() as connection:
        honest, thief = (*add_container(connection, "acme.c01", 1), *add_container(connection, "bolt.c01", 1))
        for container in ("acme.c01", "bolt.c01"):
            plate = NewNameplate(container=container, hashrate_ghs=100_000, watts=3_000, idle_watts=0)
            set_nameplates(connection, [plate], by="olga", now_s=NOW_S - 7_200)
        for tenant in (1, 2):
            record_rate(connection, tenant, PRICE, 900_000, None, NOW_S - 7_200, WorkSource(), noted=True)
    times = {"asked_at_s": NOW_S, "from_s": NOW_S + 60, "until_s": NOW_S + 3_660, "ended_at_s": NOW_S + 4_000}
    event(store, 1, **times)
    with store.write() as connection:
        for worker, shares in ((honest, hour), (thief, hour // 60)):
            work = {"worker_id": worker, "difficulty_log2": log2, "shares": shares}
            connection.execute(insert(power_event_work).values(event_id=1, **work))
            machine = {
                "event_id": 1,
                "worker_id": worker,
                "batch": 1,
                "state": "restored",
                "changed_at_s": NOW_S,
                "due_s": NOW_S,
                "asks": 1,
                "before_from_s": NOW_S - 3_600,
                "before_until_s": NOW_S,
                "watts_before": 3_000,
                "watts_idle": 0,
                "basis": "work",
                "error_bps": 500,
                "off_from_s": NOW_S + 100,
                "off_until_s": NOW_S + 3_700,
            }
            connection.execute(insert(power_event_machines).values(**machine))
    with store.write() as connection:
        told, machines = ToldBooks().event(connection, 1)
        assert [it.watts_before for it in machines] == [3_000, 46]
        assert book_event(connection, books_of(connection, told, machines), NOW_S + 5_000)
        parts = divided(1_000_000, weights_of(connection, 1, Basis.SHED))
    assert parts[2] < 16_000  # of a million satoshi
    assert parts[1] + parts[2] == 1_000_000


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(("silent_from", "less"), [(None, 6_500), (3_000, None)])
def test_what_a_sites_meter_was_given_less_is_told_where_it_covers_both_times(
    books: Store, silent_from: int | None, less: int | None
) -> None:
    event(books, 1, restore_asked_at_s=HOUR_S + 3_660)
    meter = {
        "id": 1,
        "name": "main",
        "kind": "push",
        "site_id": NORTH,
        "error_bps": 100,
        "max_watts": 10**7,
        "created_at_s": 0,
        "created_by": "olga",
    }
    with books.write() as connection:
        connection.execute(insert(power_meters).values(**meter))
        rows = [
            {
                "meter_id": 1,
                "at_s": HOUR_S + at_s,
                "watts": 10_000 if at_s <= 60 else 3_500,
                "counter_wh": None,
                "taken_at_s": HOUR_S,
                "taken_by": "olga",
            }
            for at_s in range(-3_660, 3_720, 60)
            if silent_from is None or at_s < silent_from
        ]
        connection.execute(insert(power_readings), rows)
    with books.read() as connection:
        assert ToldBooks().event(connection, 1)[0].watts_metered == less


@pytest.mark.sqlite_suffices
def test_a_container_is_told_with_what_its_work_takes_and_how_far_off_that_may_be(store: Store) -> None:
    with store.write() as connection:
        add_container(connection, "acme.c01", 2)
        model = NewNameplate(container="acme.c01", model="Antminer S19 Pro")
        set_nameplates(connection, [model], by="olga", now_s=NOW_S)
        mined_in_hour(connection, POWER_HOUR, {1: 1_407})
    with store.read() as connection:
        told = ToldBooks().drawn(connection, POWER_HOUR)
        assert ToldBooks().drawn(connection, POWER_HOUR + 1) == []
    # 11,700,862 J at 13.92 % (tests/pool/power/test_energies.py)
    assert told == [ContainerEnergy(container_id=1, estimated_j=11_700_862, error_j=1_628_760)]


@pytest.mark.sqlite_suffices
def test_whether_a_meter_counted_is_told_of_an_hour_of_which_no_reading_comes_any_more(books: Store) -> None:
    meter = {"name": "main", "kind": "push", "site_id": NORTH, "error_bps": 100, "max_watts": 10**7}
    with books.write() as connection:
        connection.execute(insert(power_meters).values(id=1, created_at_s=0, created_by="olga", **meter))
    told = ToldBooks()
    with books.read() as connection:
        for hour in (HOUR - 25, HOUR - 1, HOUR):  # as the books look at them
            before = told.meters
            told.drawn(connection, hour)
    (judged,) = told.meters or ()
    assert (judged.meter, judged.hour, judged.why) == ("main", HOUR - 1, "it has 0 of 3600 s: no readings")
    assert before is None
