"""Which machine draws how: what is set, for whom, from when on, and that nothing is guessed."""

from typing import Any

import numpy as np
import pytest
from sqlalchemy import update
from sqlalchemy.exc import DatabaseError

from payouts.schemas.power import power_nameplates
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.fleet.rows import set_container
from pool.power.energy.efficiencies import NOTHING_KNOWN, Efficiencies, efficiencies_at
from pool.power.energy.models import find_model, models
from pool.power.energy.nameplates import NewNameplate, list_nameplates, set_nameplates
from tests.histories.power import HOUR, NOW_S, add_container


def at(store: Store, at_s: int = NOW_S) -> Efficiencies:
    with store.read() as connection:
        return efficiencies_at(connection, at_s)


def set_model(store: Store, *, now_s: int = NOW_S, from_s: int | None = None, **new: object) -> None:
    it = NewNameplate(**new)  # type: ignore[arg-type]
    with store.write() as connection:
        set_nameplates(connection, [it], by="olga", now_s=now_s, from_s=from_s)


def test_every_model_is_told_with_its_source_and_is_found_by_its_name() -> None:
    assert len(models()) >= 40
    for it in models():
        assert find_model(it.model.upper().replace(" ", "")) == it
        assert it.source.startswith(("https://", "http://"))
        assert len(it.read_on) == len("2026-11-27")
        assert 10_000 < it.mj_per_th < 100_000  # 10 to 100 J/TH
        assert 0 < it.idle_watts <= max(1, it.watts // 10)
        assert 300 <= it.error_bps <= 2_000
    assert len({it.model for it in models()}) == len(models())


def test_a_model_is_named_without_its_hashrate_where_there_is_one() -> None:
    assert find_model("antminer s19 pro").watts == 3250
    with pytest.raises(RegistryError, match=r"several of .*S19j Pro 96T, Antminer S19j Pro 100T"):
        find_model("Antminer S19j Pro")
    with pytest.raises(RegistryError, match="there is no model 'Antminer S99'"):
        find_model("Antminer S99")


@pytest.mark.sqlite_suffices
def test_the_unit_comes_before_its_container_and_that_before_the_containers_plate(store: Store) -> None:
    with store.write() as connection:
        one, two, three = add_container(connection, "acme.c01", 3, ths=300, kw=9)
        (other,) = add_container(connection, "acme.c02", 1)
    assert at(store).get(one) is None  # a plate waits for the next hour
    known = at(store, NOW_S + 3_600)
    assert [known.get(it) for it in (other, other + 1, 10**6)] == [None, None, None]  # said by nobody
    plate = known.get(one)
    assert plate is not None
    assert (plate.mj_per_th, plate.hashrate_hps, plate.watts) == (30_000, 100 * 10**12, 3_000)
    assert (plate.error_bps, plate.source) == (1_000, "nameplate of the container")
    set_model(store, container="acme.c01", model="Antminer S19 Pro")
    set_model(store, container="acme.c01", unit="u2", model="Antminer S21", watts=3_600)
    known = at(store)
    assert known.column("watts", np.array([one, two, three, other])).tolist() == [3_250, 3_600, 3_250, 0]
    assert known.known(np.array([one, other, 10**6])).tolist() == [True, False, False]
    s19, s21 = known.get(one), known.get(two)
    assert s19 is not None
    assert s21 is not None
    assert (s19.mj_per_th, s21.mj_per_th) == (29_545, 18_000)
    assert s21.source.startswith("Antminer S21 200T, own figures over https://")
    set_model(store, container="acme.c01", unit="u2")  # it is none any more
    set_model(store, container="acme.c01")
    assert at(store, NOW_S + 3_600).column("mj_per_th", np.array([one, two])).tolist() == [30_000, 30_000]


def test_a_plate_without_its_units_says_joules_and_no_watts(store: Store) -> None:
    with store.write() as connection:
        (one,) = add_container(connection, "acme.c01", 1)
        set_container(connection, "acme", "c02", ths=44_000, kw=1_300, next_id=9, now_s=NOW_S)
        set_container(connection, "acme", "c01", units=0, ths=44_000, kw=1_300, next_id=9, now_s=NOW_S)
    plate = at(store, NOW_S + 3_600).get(one)
    assert plate is not None
    assert (plate.mj_per_th, plate.watts, plate.hashrate_hps) == (29_545, 0, 0)


def test_an_hour_that_is_over_keeps_what_it_had(store: Store) -> None:
    with store.write() as connection:
        (one,) = add_container(connection, "acme.c01", 1, now_s=NOW_S)
    set_model(store, container="acme.c01", model="Antminer S19 Pro", now_s=NOW_S + 1_800)
    set_model(store, container="acme.c01", model="Antminer S21", now_s=NOW_S + 3_600 + 5)
    set_model(
        store, container="acme.c01", model="Antminer T19 84T", now_s=NOW_S + 3_600, from_s=NOW_S + 86_400
    )
    times = (NOW_S - 1, NOW_S, NOW_S + 3_599, NOW_S + 3_600, NOW_S + 86_399, NOW_S + 86_400)
    found = [at(store, it).column("watts", np.array([one])).tolist()[0] for it in times]
    assert found == [0, 3_250, 3_250, 3_500, 3_500, 3_150]
    with pytest.raises(RegistryError, match="from the present hour on at the earliest"):
        set_model(store, container="acme.c01", now_s=NOW_S + 3_700, from_s=NOW_S + 3_599)
    # A clock that steps back sets nothing in an hour that the books have left behind.
    set_model(store, container="acme.c01", now_s=NOW_S)
    assert at(store, NOW_S).column("watts", np.array([one])).tolist() == [3_250]
    with pytest.raises(DatabaseError, match="append-only"), store.write() as connection:
        connection.execute(update(power_nameplates).values(watts=1))


def test_a_plate_that_is_set_anew_changes_no_hour_that_has_begun(store: Store) -> None:
    """Whoever may set one, and no model, sets it to half in the last second of an hour, when it is known
    what was drawn: that was half of the energy of that hour, and is nothing of it."""
    with store.write() as connection:
        (one,) = add_container(connection, "acme.c01", 1, ths=100, kw=4, now_s=NOW_S - 3_600)
        set_container(connection, "acme", "c01", site="Irkutsk", next_id=9, now_s=NOW_S)
        set_container(connection, "acme", "c01", kw=2, next_id=9, now_s=NOW_S + 3_599)
        set_container(connection, "acme", "c01", kw=4, next_id=9, now_s=NOW_S + 3_600)
        assert len(list_nameplates(connection, everything=True)) == 3  # a site is no nameplate
        assert list_nameplates(connection)[0].from_s == NOW_S + 7_200
    times = (NOW_S, NOW_S + 3_599, NOW_S + 3_600, NOW_S + 7_200)
    found = [at(store, it).column("mj_per_th", np.array([one])).tolist()[0] for it in times]
    assert found == [40_000, 40_000, 20_000, 40_000]  # of the hour to come it is his word
    with store.write() as connection:
        set_container(connection, "acme", "c01", kw=2, next_id=9, now_s=NOW_S + 7_201)
        set_container(connection, "acme", "c01", kw=4, next_id=9, now_s=NOW_S + 10_799)
    assert at(store, NOW_S + 10_800).column("mj_per_th", np.array([one])).tolist() == [
        40_000
    ]  # the last word


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("new", "words"),
    [
        ({"container": "acme.c99", "model": "Antminer S21"}, "no container 'acme.c99'"),
        ({"container": "acme.c01", "watts": 3_000}, "TH/s and W, both"),
        ({"container": "acme.c01", "idle_watts": 3}, "of a model, or of TH/s and W"),
        ({"container": "acme.c01", "watts": 0, "hashrate_ghs": 1}, "up to 10000 TH/s and 100000 W"),
        ({"container": "acme.c01", "watts": 10, "hashrate_ghs": 1, "idle_watts": 11}, "draws no more when"),
        ({"container": "acme.c01", "unit": "u\n1", "model": "Antminer S21"}, "printable"),
    ],
)
def test_what_no_machine_can_be_is_refused_in_words(store: Store, new: dict[str, Any], words: str) -> None:
    with store.write() as connection:
        add_container(connection, "acme.c01", 1)
    with pytest.raises(RegistryError, match=words):
        set_model(store, **new)
    assert at(store).get(1) is None


@pytest.mark.sqlite_suffices
def test_nobody_is_known_where_there_is_nobody(store: Store) -> None:
    assert at(store).get(0) is None
    assert NOTHING_KNOWN.get(5) is None
    assert NOTHING_KNOWN.column("watts", np.array([0, 7])).tolist() == [0, 0]
    assert HOUR * 3600 == NOW_S


def test_joules_per_th_that_were_measured_count_before_what_watts_and_hashrate_come_to(store: Store) -> None:
    with store.write() as connection:
        (one,) = add_container(connection, "acme.c01", 1)
    set_model(store, container="acme.c01", model="Antminer S19 Pro", mj_per_th=27_100)
    known = at(store).get(one)
    assert known is not None
    assert (known.mj_per_th, known.watts, known.hashrate_hps) == (27_100, 3_250, 110 * 10**12)
    assert "own figures over" in known.source
    # A machine that is simulated makes a hundred hashes a second, and draws as much as a real one.
    set_model(store, container="acme.c01", hashrate_ghs=1, watts=3_250, mj_per_th=3_250 * 10**13)
    known = at(store).get(one)
    assert known is not None
    assert known.mj_per_th * 100 == 3_250 * 10**15
    for wrong in (0, -1, 10**18 + 1):
        with pytest.raises(RegistryError, match="a terahash takes something"):
            set_model(store, container="acme.c01", model="Antminer S19 Pro", mj_per_th=wrong)
    with pytest.raises(RegistryError, match="of a model, or of TH/s and W"):
        set_model(store, container="acme.c01", mj_per_th=27_100)
