"""Limits of power: of a site or a container, in force from a moment until another, and lifted before it."""

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DatabaseError

from payouts.schemas.power import power_limits
from pool.books.store import Store
from pool.fleet.registry_error import RegistryError
from pool.power.energy.limits import LimitView, lift_limit, limits_at, list_limits, lowest, set_limit
from tests.histories.power import NOW_S, add_container


@pytest.fixture
def places(store: Store) -> Store:
    with store.write() as connection:
        add_container(connection, "acme.c01", 1, site="Bratsk")
        add_container(connection, "acme.c02", 1, site=None)
    return store


def limit(store: Store, kw: int, *, now_s: int = NOW_S, **of: object) -> LimitView:
    it = {"site": None, "container": None, "from_s": now_s, "until_s": None, "reason": "the grid asks"} | of
    with store.write() as connection:
        return set_limit(connection, kw=kw, by="olga", now_s=now_s, **it)  # type: ignore[arg-type]


@pytest.mark.sqlite_suffices
def test_the_lowest_of_those_in_force_counts_and_each_ends_at_its_time(places: Store) -> None:
    limit(places, 8_000, site="Bratsk")
    limit(places, 6_000, site="Bratsk", from_s=NOW_S + 60, until_s=NOW_S + 120)
    box = limit(places, 900, container="acme.c01", until_s=NOW_S + 3_600)
    assert (box.site, box.tenant, box.container, box.watts) == ("Bratsk", "acme", "c01", 900_000)
    found = []
    for at_s in (NOW_S - 1, NOW_S, NOW_S + 59, NOW_S + 60, NOW_S + 119, NOW_S + 120, NOW_S + 3_600):
        with places.read() as connection:
            there = limits_at(connection, at_s)
        found.append((lowest(there, site="Bratsk"), lowest(there, container_id=box.container_id)))
        assert all(it.holds(at_s) for it in there)
        assert lowest(there, site="Irkutsk") is None
    eight, six, nine = 8_000_000, 6_000_000, 900_000
    assert found == [
        (None, None),
        (eight, nine),
        (eight, nine),
        (six, nine),
        (six, nine),
        (eight, nine),
        (eight, None),
    ]


def test_who_lifts_a_limit_ends_it_then_and_what_it_was_stays(places: Store) -> None:
    it = limit(places, 5_000, site="Bratsk")
    with places.write() as connection:
        lifted = lift_limit(connection, it.id, by="omar", now_s=NOW_S + 60)
        assert (lifted.lifted_at_s, lifted.lifted_by) == (NOW_S + 60, "omar")
        assert [len(limits_at(connection, NOW_S + s)) for s in (59, 60)] == [1, 0]
        assert list_limits(connection) == (lifted,)
        with pytest.raises(RegistryError, match="over already"):
            lift_limit(connection, it.id, by="omar", now_s=NOW_S + 61)
    with pytest.raises(DatabaseError, match="only grows"), places.write() as connection:
        connection.execute(update(power_limits).values(watts=1))
    with pytest.raises(DatabaseError, match="never changes"), places.write() as connection:
        connection.execute(update(power_limits).values(lifted_at_s=NOW_S + 30))


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("of", "words"),
    [
        ({}, "of one site, or of one container"),
        ({"site": "Bratsk", "container": "acme.c01"}, "of one site, or of one container"),
        ({"site": "Irkutsk"}, "no site 'Irkutsk'"),
        ({"container": "acme.c09"}, "no container 'acme.c09'"),
        ({"site": "Bratsk", "reason": " "}, "has a reason"),
        ({"site": "Bratsk", "until_s": NOW_S}, "ends after it begins"),
        ({"site": "Bratsk", "from_s": NOW_S - 3_600}, "begins now or later"),
        ({"site": "Bratsk", "kw": 10**8}, "0 to 10000000 kW"),
    ],
)
def test_what_is_no_limit_is_refused_in_words(places: Store, of: dict[str, object], words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        limit(places, **({"kw": 1} | of))  # type: ignore[arg-type]
    with places.read() as connection:
        assert list_limits(connection) == ()
