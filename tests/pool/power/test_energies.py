"""Energy of an hour: from accepted work, or divided from a meter to the joule; how far off, and of whom."""

from typing import Any

import pytest
from sqlalchemy import insert, update

from payouts.schemas.money import containers, tally_hours
from pool.books.store import Store
from pool.power.energy.energies import (
    Energies,
    EnergyRow,
    divided,
    energies_of_hour,
    energies_of_minutes,
)
from pool.power.energy.meters import NewMeter, add_meter, find_meter, take_readings
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from pool.power.energy.readings import Reading
from pool.power.figures import J_PER_KWH, Basis
from stratum.tallies import Verdict
from tests.histories.power import HOUR, NOW_S, add_container, mined_in_hour, mined_in_minute

LOG2 = 16  # a share of 2^48 hashes
HOUR_SHARES = 1_407  # of 110 TH/s: 110e12 * 3600 / 2^48 is 1,406.9
WH = 3_600


def energies(store: Store, hour: int = HOUR, *, by_worker: bool = False) -> Energies:
    with store.read() as connection:
        return energies_of_hour(connection, hour, by_worker=by_worker)


def meter(store: Store, name: str, *, error_bps: int = 100, **before: Any) -> None:
    with store.write() as connection:
        new = NewMeter(name=name, kind="push", error_bps=error_bps, max_kw=20_000, **before)
        add_meter(connection, new, by="olga", now_s=NOW_S - 600)


def read_evenly(store: Store, name: str, wh: int, *, until_s: int = 3_600) -> None:
    """A counter, once in ten minutes, that counts so much in an hour."""
    with store.write() as connection:
        readings = [
            Reading(at_s=NOW_S + at, counter_wh=5_000 + wh * at // 3_600) for at in range(0, until_s + 1, 600)
        ]
        it = find_meter(connection, name)
        take_readings(connection, it, readings, by="omar", now_s=NOW_S + until_s)


@pytest.fixture
def hall(store: Store) -> Store:
    """Two containers of S19 Pro at one site: two machines of acme, one of borealis; and an unknown one."""
    with store.write() as connection:
        add_container(connection, "acme.c01", 2)
        add_container(connection, "borealis.c02", 1)
        models = [NewNameplate(container=it, model="Antminer S19 Pro") for it in ("acme.c01", "borealis.c02")]
        set_nameplates(connection, models, by="olga", now_s=NOW_S)
    return store


@pytest.mark.sqlite_suffices
def test_an_hour_of_exact_work_is_what_the_nameplate_says(hall: Store) -> None:
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES})
    (row,) = energies(hall).rows
    assert (row.tenant_id, row.container_id, row.worker_id, row.basis) == (1, 1, None, Basis.WORK)
    assert row.hashes == HOUR_SHARES << 48
    assert row.joules == (HOUR_SHARES << 48) * 29_545 // 10**15 == 11_700_862
    assert abs(row.joules - 3_250 * WH) * 10_000 < row.joules * 2  # 3,250.24 Wh: 0.01 %
    # 8 % of the vendor's tolerances, and 1,407 shares say it within 5.5 %:
    assert row.error_bps == 1_392
    (of_machine,) = energies(hall, by_worker=True).rows
    assert (of_machine.worker_id, of_machine.joules, of_machine.error_bps) == (1, row.joules, row.error_bps)


@pytest.mark.sqlite_suffices
def test_what_an_upstream_did_not_take_was_drawn_and_what_was_rejected_is_not_proven(hall: Store) -> None:
    rows = [
        {"worker_id": 1, "hour": HOUR, "rate_id": 1, "difficulty_log2": LOG2, "shares": 100, "minutes": 1}
        | {"verdict": verdict.value}
        for verdict in (Verdict.ACCEPTED, Verdict.UNDELIVERED, Verdict.UPSTREAM_REJECTED, Verdict.STALE)
    ]
    with hall.write() as connection:
        connection.execute(insert(tally_hours), rows)
    (row,) = energies(hall).rows
    assert row.hashes == 300 << 48


@pytest.mark.sqlite_suffices
def test_minutes_that_are_no_hours_yet_and_difficulties_of_any_size_are_in_it(hall: Store) -> None:
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: 3}, log2=-32)
        mined_in_minute(connection, HOUR * 60 + 59, {1: 2}, log2=40)
        mined_in_minute(connection, HOUR * 60 + 60, {1: 7}, log2=40)  # of the next hour
    (row,) = energies(hall).rows
    assert row.hashes == 3 + (2 << 72)
    assert row.joules == row.hashes * 29_545 // 10**15
    with hall.read() as connection:
        minutes = energies_of_minutes(connection, HOUR * 60 + 60, HOUR * 60 + 61).rows
    assert [it.hashes for it in minutes] == [7 << 72]


def test_of_a_machine_that_nobody_has_named_nothing_is_guessed_and_it_is_counted(store: Store) -> None:
    with store.write() as connection:
        add_container(connection, "acme.c01", 2)
        set_nameplates(
            connection,
            [NewNameplate(container="acme.c01", unit="u1", model="Antminer S21")],
            by="olga",
            now_s=NOW_S,
        )
        mined_in_hour(connection, HOUR, {1: 100, 2: 50})
    (row,) = energies(store).rows
    assert (row.machines, row.unknown_machines) == (2, 1)
    assert row.joules == (100 << 48) * 17_500 // 10**15


@pytest.mark.sqlite_suffices
def test_a_meter_is_divided_to_the_joule_in_proportion_to_the_work(hall: Store) -> None:
    meter(hall, "box", containers=("acme.c01", "borealis.c02"))
    read_evenly(hall, "box", 10_000)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 2: HOUR_SHARES - 7, 3: HOUR_SHARES + 1})
    found = energies(hall, by_worker=True)
    assert sum(it.joules for it in found.rows) == 10_000 * WH
    assert [it.joules for it in found.rows] == [12_017_082, 11_957_295, 12_025_623]
    assert {it.basis for it in found.rows} == {Basis.METER}
    (span,) = found.meters
    assert (span.words, span.metered.joules, span.metered.covered_s) == ("", 36_000_000, 3_600)
    boxes = energies(hall).rows
    assert [(it.tenant_id, it.joules) for it in boxes] == [(1, 23_974_377), (2, 12_025_623)]
    assert [it.error_bps for it in boxes] == [1_329, 1_506]  # of what is shared nobody knows better
    meter(hall, "site", site="Bratsk")  # it has nothing to say yet
    assert energies(hall).rows == boxes


@pytest.mark.sqlite_suffices
def test_of_one_container_the_error_is_the_meters(hall: Store) -> None:
    meter(hall, "c01", containers=("acme.c01",), error_bps=50)
    read_evenly(hall, "c01", 7_000)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 2: HOUR_SHARES, 3: HOUR_SHARES})
    one, two = energies(hall).rows
    assert (one.joules, one.basis, one.error_bps) == (7_000 * WH, Basis.METER, 50)
    assert (two.joules, two.basis) == (11_700_862, Basis.WORK)


@pytest.mark.sqlite_suffices
def test_of_a_sites_meter_what_has_its_own_is_taken_off(hall: Store) -> None:
    meter(hall, "c01", containers=("acme.c01",))
    meter(hall, "site", site="Bratsk")
    read_evenly(hall, "c01", 7_000)
    read_evenly(hall, "site", 11_000)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 2: HOUR_SHARES, 3: HOUR_SHARES})
    one, two = energies(hall).rows
    assert (one.joules, two.joules) == (7_000 * WH, 4_000 * WH)  # with 750 Wh of the site's own
    assert (two.basis, two.meter_id) == (Basis.METER, 2)


def test_what_a_meter_has_of_two_sites_is_charged_once(hall: Store) -> None:
    """A box of two is moved: the other site's meter still has it, and would charge a third for it again."""
    with hall.write() as connection:
        add_container(connection, "zeta.c03", 1, site="Irkutsk")
        named = [NewNameplate(container="zeta.c03", model="Antminer S19 Pro")]
        set_nameplates(connection, named, by="olga", now_s=NOW_S)
    meter(hall, "box", containers=("acme.c01", "borealis.c02"))
    meter(hall, "bratsk", site="Bratsk")
    meter(hall, "irkutsk", site="Irkutsk")
    read_evenly(hall, "box", 9_750)
    read_evenly(hall, "bratsk", 9_800)
    read_evenly(hall, "irkutsk", 6_600)
    with hall.write() as connection:
        connection.execute(update(containers).where(containers.c.id == 2).values(site_id=2))
        mined_in_hour(connection, HOUR, dict.fromkeys((1, 2, 3, 4), HOUR_SHARES))
    found = energies(hall)
    assert [(it.tenant_id, it.basis, it.joules) for it in found.rows] == [
        (1, Basis.METER, 6_500 * WH),
        (2, Basis.METER, 3_250 * WH),
        (3, Basis.WORK, 11_700_862),  # 3,250 Wh, and with the moved box 6,600 Wh
    ]
    words = "the meter box stands before its containers and those of elsewhere"
    assert [it.words for it in found.meters] == ["", words, words]


@pytest.mark.sqlite_suffices
def test_what_nobodys_work_explains_is_of_its_containers_where_they_are_one_tenants(hall: Store) -> None:
    with hall.write() as connection:
        add_container(connection, "acme.c03", 1)
    meter(hall, "box", containers=("acme.c01", "acme.c03"))
    meter(hall, "site", site="Bratsk")
    read_evenly(hall, "box", 300)
    read_evenly(hall, "site", 1_000)
    rows = energies(hall).rows
    assert [(it.tenant_id, it.container_id, it.joules) for it in rows] == [
        (None, None, 700 * WH),
        (1, 1, 200 * WH),  # two machines that are off, and one
        (1, 3, 100 * WH),
    ]
    assert all(it.hashes == it.machines == 0 for it in rows)


@pytest.mark.sqlite_suffices
def test_what_nobodys_work_explains_is_no_neighbours(hall: Store) -> None:
    """Borealis is curtailed, and acme's machines mine elsewhere: a third was its, by machines."""
    meter(hall, "box", containers=("acme.c01", "borealis.c02"))
    read_evenly(hall, "box", 6_500)
    rows = energies(hall).rows
    assert [(it.tenant_id, it.container_id, it.joules) for it in rows] == [(None, None, 6_500 * WH)]


@pytest.mark.parametrize(
    ("wh", "until_s", "words"),
    [
        (10_000, 3_000, "it has 3000 of 3600 s: no readings"),
        (0, 3_600, "less than half of what the accepted work behind it takes"),  # it stands still
        (4_800, 3_600, "less than half"),  # and one that is held back, of 9,750 Wh
    ],
)
def test_a_meter_that_cannot_be_right_does_not_count(hall: Store, wh: int, until_s: int, words: str) -> None:
    meter(hall, "box", containers=("acme.c01", "borealis.c02"))
    read_evenly(hall, "box", wh, until_s=until_s)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 2: HOUR_SHARES, 3: HOUR_SHARES})
    found = energies(hall)
    assert [(it.basis, it.joules) for it in found.rows] == [
        (Basis.WORK, 2 * 11_700_862),
        (Basis.WORK, 11_700_862),
    ]
    assert words in found.meters[0].words


@pytest.mark.sqlite_suffices
def test_a_site_that_measures_less_than_its_boxes_does_not_count(hall: Store) -> None:
    meter(hall, "c01", containers=("acme.c01",))
    meter(hall, "site", site="Bratsk")
    read_evenly(hall, "c01", 7_000)
    read_evenly(hall, "site", 6_999)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 3: HOUR_SHARES})
    found = energies(hall)
    assert [it.basis for it in found.rows] == [Basis.METER, Basis.WORK]
    assert [it.words for it in found.meters] == ["", "the meters behind it measured more"]


@pytest.mark.sqlite_suffices
def test_an_unknown_machine_behind_a_meter_is_taken_for_one_like_the_others(store: Store) -> None:
    with store.write() as connection:
        add_container(connection, "acme.c01", 2)
        named = [NewNameplate(container="acme.c01", unit="u1", model="Antminer S21")]
        set_nameplates(connection, named, by="olga", now_s=NOW_S)
        mined_in_hour(connection, HOUR, {1: 200, 2: 100})
    meter(store, "c01", containers=("acme.c01",))
    read_evenly(store, "c01", 900)
    assert [it.joules for it in energies(store, by_worker=True).rows] == [600 * WH, 300 * WH]


@pytest.mark.sqlite_suffices
def test_who_mines_elsewhere_behind_a_shared_meter_charges_his_neighbour_no_more_than_errors(
    hall: Store,
) -> None:
    """Two machines of acme draw and show no work: of what they take, 23.4 MJ, borealis has no more than his
    own work may be off by, 15 %, and what is beyond is nobody's. It was all of it, 200 %."""
    meter(hall, "box", containers=("acme.c01", "borealis.c02"))
    read_evenly(hall, "box", 9_750)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {3: HOUR_SHARES})
    for by_worker in (False, True):
        nobodys, row = energies(hall, by_worker=by_worker).rows
        assert (row.tenant_id, row.basis, row.joules) == (2, Basis.METER, 11_700_862 * 11_506 // 10_000)
        assert (nobodys.tenant_id, nobodys.container_id, nobodys.site_id) == (None, None, 1)
        assert row.joules + nobodys.joules == 9_750 * WH


@pytest.mark.sqlite_suffices
def test_who_mines_elsewhere_behind_a_sites_meter_charges_his_neighbour_no_more_either(hall: Store) -> None:
    meter(hall, "site", site="Bratsk")
    read_evenly(hall, "site", 9_750)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {3: HOUR_SHARES})
    assert [(it.tenant_id, it.joules) for it in energies(hall).rows] == [(None, 21_636_989), (2, 13_463_011)]
    with hall.write() as connection:  # who is alone there has all of it, also what shows no work
        gone = update(containers).where(containers.c.id == 1)
        connection.execute(gone.values(removed_at_s=NOW_S))
    assert [(it.tenant_id, it.joules) for it in energies(hall).rows] == [(2, 9_750 * WH)]


@pytest.mark.sqlite_suffices
def test_the_best_that_a_held_meter_saves_unseen_is_its_error_and_that_of_the_work(store: Store) -> None:
    """Of a container of ten: what it says is compared with what their work takes, beyond both errors."""
    with store.write() as connection:
        numbers = add_container(connection, "acme.c01", 10)
        named = [NewNameplate(container="acme.c01", model="Antminer S19 Pro")]
        set_nameplates(connection, named, by="olga", now_s=NOW_S)
        mined_in_hour(connection, HOUR, dict.fromkeys(numbers, HOUR_SHARES))
    (honest,) = energies(store).rows
    meter(store, "c01", containers=("acme.c01",), error_bps=50)
    bound = (10_000 + 50) * (10_000 + honest.error_bps)
    least = honest.joules * 10**8 // bound  # what nobody can say is wrong
    saved_percent = 100 - 100 * least / honest.joules
    assert 9 < saved_percent < 10.5
    read_evenly(store, "c01", least // WH)
    (row,) = energies(store).rows
    assert (row.basis, row.joules) == (Basis.METER, least // WH * WH)


def test_a_thousand_ways_to_divide_add_up() -> None:
    for total in range(1_000):
        parts = divided(total, [3, 0, 5, 5, 1])
        assert sum(parts) == total
        assert parts[1] == 0
        assert all(abs(part * 14 - total * of) < 14 for part, of in zip(parts, [3, 0, 5, 5, 1], strict=True))
    assert divided(2, [1, 1, 1]) == [1, 1, 0]


@pytest.mark.sqlite_suffices
def test_an_hour_answers_the_same_after_models_were_set_and_meters_removed(hall: Store) -> None:
    meter(hall, "c01", containers=("acme.c01",))
    read_evenly(hall, "c01", 7_000)
    with hall.write() as connection:
        mined_in_hour(connection, HOUR, {1: HOUR_SHARES, 2: HOUR_SHARES, 3: HOUR_SHARES})
    before = energies(hall)
    with hall.write() as connection:
        others = [NewNameplate(container=it, model="Antminer S9") for it in ("acme.c01", "borealis.c02")]
        set_nameplates(connection, others, by="olga", now_s=NOW_S + 7_200)
        connection.execute(update(containers).values(nameplate_kw=9_000))
    assert energies(hall) == before
    with hall.read() as connection:
        assert energies_of_hour(connection, HOUR).rows == before.rows
        assert all(isinstance(it, EnergyRow) for it in before.rows)
    assert J_PER_KWH == 1_000 * WH
