"""Meters as rows: each reading once, of no moment to come and of no hour that may be booked."""

from typing import Any

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DatabaseError

from payouts.schemas.power import power_readings
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.energy.meters import (
    AHEAD_S_MAX,
    KEPT_S,
    Meter,
    NewMeter,
    add_meter,
    any_readings_before,
    earliest_s,
    find_meter,
    forget_readings,
    list_meters,
    readings_between,
    remove_meter,
    take_readings,
)
from pool.power.energy.readings import Reading
from pool.power.energy.tables import model_lines, reading_lines
from tests.histories.power import NOW_S, add_container

BOX: dict[str, Any] = {"name": "box", "kind": "push", "error_bps": 50, "max_kw": 2_000}


@pytest.fixture
def hall(store: Store) -> Store:
    with store.write() as connection:
        add_container(connection, "acme.c01", 1)
        add_container(connection, "acme.c02", 1)
        add_meter(connection, NewMeter(**BOX, containers=("acme.c01",)), by="olga", now_s=NOW_S)
    return store


def take(store: Store, *readings: Reading, now_s: int = NOW_S, by: str = "gateway") -> int:
    with store.write() as connection:
        return take_readings(connection, find_meter(connection, "box"), readings, by=by, now_s=now_s)


def at(offset_s: int, watts: int | None = 1_000, counter_wh: int | None = None) -> Reading:
    return Reading(at_s=NOW_S + offset_s, watts=watts, counter_wh=counter_wh)


def there(store: Store) -> list[Reading]:
    with store.read() as connection:
        return readings_between(connection, 1, 0, 1 << 40)


def test_a_reading_that_is_sent_again_is_no_other_and_another_one_is_refused(hall: Store) -> None:
    assert take(hall, at(0), at(60)) == 2
    assert take(hall, at(60), at(120)) == 1  # whoever did not hear that it was taken sends it again
    assert there(hall) == [at(0), at(60), at(120)]
    with pytest.raises(RegistryError, match="another reading for 1800000060, and one never changes"):
        take(hall, at(60, watts=1), at(180), now_s=NOW_S + 300)
    with pytest.raises(RegistryError, match="two readings for one moment"):
        take(hall, at(240), at(240, watts=2), now_s=NOW_S + 300)
    assert there(hall) == [at(0), at(60), at(120)]  # all of them or none
    with pytest.raises(DatabaseError, match="power_readings never changes"), hall.write() as connection:
        connection.execute(update(power_readings).values(watts=1))


@pytest.mark.sqlite_suffices
def test_who_pushes_chooses_neither_the_future_nor_an_hour_that_may_be_booked(hall: Store) -> None:
    noon = NOW_S + 4 * 3_600 + 1_800
    first = earliest_s(noon)
    assert first == NOW_S + 3 * 3_600  # of the hour before, while it is not over for an hour
    take(hall, Reading(at_s=first, watts=1), Reading(at_s=noon + AHEAD_S_MAX, watts=1), now_s=noon)
    for at_s, words in (
        (first - 1, "an hour that is over and may be booked"),
        (noon + AHEAD_S_MAX + 1, "yet to come"),
    ):
        with pytest.raises(RegistryError, match=words):
            take(hall, Reading(at_s=at_s, watts=1), now_s=noon)
    assert len(there(hall)) == 2


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (at(0, watts=None), "watts, or what the counter has, or both"),
        (at(0, watts=2_000_001), "not what it measures"),
        (at(0, watts=-1), "not what it measures"),
        (at(0, counter_wh=-1), "its counter cannot have -1 Wh"),
        (at(0, counter_wh=1 << 62), "its counter cannot have"),
        (at(5), "are 10 s apart at least"),
    ],
)
@pytest.mark.sqlite_suffices
def test_what_the_meter_cannot_say_is_refused(hall: Store, reading: Reading, words: str) -> None:
    take(hall, at(-4))
    with pytest.raises(RegistryError, match=words):
        take(hall, reading)
    assert there(hall) == [at(-4)]


def test_a_meter_stands_once_and_what_it_was_stays(hall: Store) -> None:
    def add(**more: Any) -> Meter:
        with hall.write() as connection:
            return add_meter(connection, NewMeter(**(BOX | {"name": "two"} | more)), by="olga", now_s=NOW_S)

    with pytest.raises(RegistryError, match="the meter box stands there already"):
        add(containers=("acme.c02", "acme.c01"))
    with pytest.raises(RegistryError, match="a meter 'box' already"):
        add(name="box", site="Bratsk")
    site = add(site="Bratsk")
    assert (site.site, site.places, site.containers) == ("Bratsk", ("Bratsk",), ())
    with hall.write() as connection:
        gone = remove_meter(connection, "box", by="omar", now_s=NOW_S + 60)
        assert (gone.removed_at_s, gone.places) == (NOW_S + 60, ("acme.c01",))
        assert [it.name for it in list_meters(connection)] == ["two"]
        assert [it.name for it in list_meters(connection, at_s=NOW_S + 59)] == ["box", "two"]
        with pytest.raises(RegistryError, match="removed already"):
            remove_meter(connection, "box", by="omar", now_s=NOW_S + 61)
    with pytest.raises(RegistryError, match="the meter box is removed"):
        take(hall, at(120), now_s=NOW_S + 120)
    assert add(name="three", containers=("acme.c01",)).id == 3  # another one, there now


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("site", ["Irkutsk", None])
def test_a_meter_stands_before_containers_of_one_site(hall: Store, site: str | None) -> None:
    """What it has is taken off the meter of one site: of elsewhere it is charged again there."""
    with hall.write() as connection:
        add_container(connection, "acme.c03", 1, site=site)
        new = NewMeter(**(BOX | {"name": "two"}), containers=("acme.c02", "acme.c03"))
        with pytest.raises(RegistryError, match="before containers of one site"):
            add_meter(connection, new, by="olga", now_s=NOW_S)
        assert [it.name for it in list_meters(connection)] == ["box"]


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "one site, or before containers"),
        ({"site": "Bratsk", "containers": ("acme.c01",)}, "one site, or before containers"),
        ({"site": "Bratsk", "kind": "mqtt"}, "read by csv, modbus, push"),
        ({"site": "Bratsk", "kind": "modbus"}, "Modbus has an address"),
        ({"site": "Bratsk", "kind": "csv", "pusher": "vera"}, "who may push"),
        ({"site": "Bratsk", "max_kw": 0}, "measures up to"),
        ({"site": "Bratsk", "error_bps": 10_001}, "class of a meter"),
        ({"site": "Bratsk", "name": "a b"}, "letters, digits"),
        ({"site": "Bratsk", "rolls_at_wh": 0}, "begins at 0 again"),
    ],
)
def test_what_is_no_meter_is_refused_in_words(more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        NewMeter(**(BOX | more))


@pytest.mark.sqlite_suffices
def test_readings_go_when_nothing_is_asked_by_the_hour_any_more(hall: Store) -> None:
    take(hall, at(0), at(60))
    with hall.write() as connection:
        assert [any_readings_before(connection, NOW_S + KEPT_S + it) for it in (0, 1)] == [False, True]
        assert forget_readings(connection, NOW_S + KEPT_S + 1) == 1
        assert connection.scalars(select(power_readings.c.at_s)).all() == [NOW_S + 60]
        connection.execute(delete(power_readings))


def test_tables_are_read_as_spreadsheets_save_them() -> None:
    lines = model_lines(
        "Tenant;Container;Unit;Model;Ths\r\nacme;c01;;Antminer S21;\r\n\r\nacme;c02;u1;;110,5\r\n"
    )
    assert [{name: it for name, it in line.items() if it is not None} for line in lines] == [
        {"container": "acme.c01", "model": "Antminer S21"},
        {"container": "acme.c02", "unit": "u1", "hashrate_ghs": 110_500},
    ]
    readings = reading_lines("meter,at,watts,counter_kwh\nbox,2027-01-15T08:00Z,5,\nbox,1800000060,,12.5\n")
    assert readings == {
        "box": [
            {"at_s": 1_800_000_000, "watts": 5, "counter_wh": None},
            {"at_s": 1_800_000_060, "watts": None, "counter_wh": 12_500},
        ]
    }


@pytest.mark.parametrize(
    ("read", "table", "words"),
    [
        (model_lines, "tenant,container,volts\n", "line 1: the columns are tenant, container, unit"),
        (model_lines, "tenant,container\nacme,c01\nacme,c01\n", "acme.c01 is there twice"),
        (
            model_lines,
            "tenant,container,watts\nacme,c01,x\n,c02,1\n",
            "line 2: watts is 'x'.*line 3: it has no",
        ),
        (reading_lines, "meter,at,watts\nbox,yesterday,1\n", "line 2: at is 'yesterday'"),
        (reading_lines, "meter,at\nbox,1800000000\n", "no watts, and nothing of a counter"),
        (reading_lines, "meter,at,counter_kwh\nbox,1800000000,1.0001\n", "down to 1/1000"),
        (reading_lines, "meter,at,watts\nbox,1800000000,1e-9999999\n", "watts is '1e-9999999', and must be"),
        (reading_lines, "meter,at,watts\nbox,1800000000,1_0\n", "watts is '1_0', and must be a number"),
        (reading_lines, "meter,at,watts\nbox,1800000000,1e3\n", "watts is '1e3', and must be a number"),
        (reading_lines, "meter,at,watts\nbox,1800000000,٣\n", "watts is '٣', and must be a number"),
        (reading_lines, "meter,at,watts\nbox,1800000000,1,2\n", "it has 4 cells, and there are 3 columns"),
    ],
)
def test_every_line_of_a_table_that_is_wrong_is_told(read: Any, table: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        read(table)
