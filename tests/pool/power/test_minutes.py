"""The energy of minutes: the same integers as their hour's, of any part of the fleet, read by itself."""

import pytest

from pool.books.store import Store
from pool.power.energy.bounds import shares_error_bps, together_bps
from pool.power.energy.energies import energies_of_hour, energies_of_minutes
from pool.power.energy.meters import NewMeter, add_meter, find_meter, take_readings
from pool.power.energy.minutes import Minute, Part, energy_of_minute, fleet_of, kept_minute
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from pool.power.energy.readings import Reading
from pool.power.figures import Basis
from tests.histories.power import HOUR, NOW_S, add_container, mined_in_minute

FIRST = HOUR * 60
SHARES = 23  # a minute of 110 TH/s, of 2^48 hashes


@pytest.fixture
def halls(store: Store) -> Store:
    """Bratsk: acme.c01 of two and borealis.c02 of one. Irkutsk: acme.c03 of one, whose model nobody has said,
    and acme.c04 of one. Machine 2 mines in 45 minutes of the hour."""
    with store.write() as connection:
        for name, units, site in (
            ("acme.c01", 2, "Bratsk"),
            ("borealis.c02", 1, "Bratsk"),
            ("acme.c03", 1, "Irkutsk"),
            ("acme.c04", 1, "Irkutsk"),
        ):
            add_container(connection, name, units, site=site)
        named = ("acme.c01", "borealis.c02", "acme.c04")
        models = [NewNameplate(container=it, model="Antminer S19 Pro") for it in named]
        set_nameplates(connection, models, by="olga", now_s=NOW_S)
        for at in range(60):
            mined = {1: SHARES + at % 5, 3: SHARES + at % 3, 4: SHARES, 5: SHARES - at % 2}
            mined_in_minute(connection, FIRST + at, mined | ({2: SHARES + at % 7} if at % 4 else {}))
    return store


def meter(store: Store, name: str, watts: int, until_s: int = 3_600, **before: object) -> None:
    """Read once a minute, 7 s behind it."""
    with store.write() as connection:
        new = NewMeter(name=name, kind="push", error_bps=50, max_kw=100, **before)  # type: ignore[arg-type]
        add_meter(connection, new, by="olga", now_s=NOW_S - 600)
        it = find_meter(connection, name)
        readings = [Reading(at_s=NOW_S + at, watts=watts + at % 101) for at in range(-53, until_s + 60, 60)]
        take_readings(connection, it, readings, by="omar", now_s=NOW_S + 3_599)


def of_part(store: Store, **numbers: int) -> list[Minute]:
    part = Part(**numbers)
    with store.read() as connection:
        fleet = fleet_of(connection, part, HOUR)
        return [energy_of_minute(connection, part, FIRST + at, fleet) for at in range(60)]


def joules(minutes: list[Minute]) -> int:
    return sum(it.joules or 0 for it in minutes)


@pytest.mark.sqlite_suffices
def test_minutes_of_work_are_the_hour_less_what_is_rounded_down_in_each(halls: Store) -> None:
    with halls.read() as connection:
        hours = {it.worker_id: it for it in energies_of_hour(connection, HOUR, by_worker=True).rows}
    for worker, mined in ((1, 60), (2, 45), (3, 60), (5, 60)):
        minutes = of_part(halls, worker_id=worker)
        assert sum(it.machines for it in minutes) == mined
        assert sum(it.hashes for it in minutes) == hours[worker].hashes
        assert 0 < hours[worker].joules - joules(minutes) <= mined - 1
    box = of_part(halls, container_id=1)
    assert 0 < hours[1].joules + hours[2].joules - joules(box) <= 59 + 44
    assert box[0].joules == (23 << 48) * 29_545 // 10**15  # machine 2 is off
    assert box[1].joules == 2 * ((24 << 48) * 29_545 // 10**15)
    one = of_part(halls, worker_id=1)[0]
    assert (one.basis, one.error_bps) == (Basis.WORK, together_bps(shares_error_bps(23), 800))
    off = of_part(halls, worker_id=2)[0]
    assert (off.joules, off.basis, off.error_bps, off.machines) == (None, None, None, 0)
    unknown = of_part(halls, worker_id=4)[0]
    assert (unknown.joules, unknown.machines, unknown.unknown_machines) == (None, 1, 1)


@pytest.mark.sqlite_suffices
def test_minutes_of_a_meter_are_the_hours_joules_to_the_last_one(halls: Store) -> None:
    meter(halls, "box", 12_800, containers=("acme.c01", "borealis.c02"))
    meter(halls, "irkutsk", 7_000, site="Irkutsk")
    with halls.read() as connection:
        (box, irkutsk) = energies_of_hour(connection, HOUR).meters
    assert not box.words
    assert not irkutsk.words
    bratsk, other = of_part(halls, site_id=1), of_part(halls, site_id=2)
    assert (joules(bratsk), joules(other)) == (box.metered.joules, irkutsk.metered.joules)
    assert {it.basis for it in bratsk + other} == {Basis.METER}
    assert all(it.metered_joules == it.joules for it in bratsk)
    tenants = [of_part(halls, site_id=1, tenant_id=it) for it in (1, 2)]
    nobodys = joules(bratsk) - sum(map(joules, tenants))  # while machine 2 is off, and shows no work
    assert 0 < nobodys < joules(bratsk) // 6
    mixed = of_part(halls, tenant_id=1)[1]
    assert (mixed.basis, mixed.machines, mixed.unknown_machines) == (Basis.METER, 4, 1)


def test_a_part_is_told_what_the_whole_is_told_of_it_without_reading_the_rest(halls: Store) -> None:
    """On PostgreSQL too: whose containers, with whom behind a meter, are arrays there."""
    with halls.read() as connection:
        assert fleet_of(connection, Part(worker_id=5), HOUR).places == [(5, 4)]
        assert fleet_of(connection, Part(tenant_id=9), HOUR).places == []
    meter(halls, "c01", 6_600, until_s=1_800, containers=("acme.c01",))
    meter(halls, "bratsk", 11_000, site="Bratsk")
    with halls.read() as connection:
        assert [it for it, _ in fleet_of(connection, Part(worker_id=3), HOUR).places] == [1, 2, 3]
        wholes = [energies_of_minutes(connection, FIRST + at, FIRST + at + 1).rows for at in range(60)]
    for part in ({"container_id": 1}, {"container_id": 2}, {"tenant_id": 1}, {"site_id": 1}, {"site_id": 2}):
        its = of_part(halls, **part)
        mine = [[row for row in rows if Part(**part).has(row)] for rows in wholes]
        assert [it.joules or 0 for it in its] == [sum(row.joules for row in rows) for rows in mine]
        assert [it.hashes for it in its] == [sum(row.hashes for row in rows) for rows in mine]
    box = of_part(halls, container_id=1)
    assert {it.basis for it in box[:29]} == {Basis.METER}
    assert {it.error_bps for it in box[:29]} == {50}
    everything = of_part(halls, tenant_id=1)[10]
    assert (everything.basis, everything.metered_joules) == (Basis.WORK, box[10].joules)


def test_minutes_are_kept_for_one_whole_hour_at_least() -> None:
    assert kept_minute(NOW_S) == kept_minute(NOW_S + 3_599) == FIRST - 60
    assert kept_minute(NOW_S + 3_600) == FIRST
