"""What a kWh costs: fixed, by the hour, by tiers; in any currency, at a rate that a person said."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert

from payouts.energy.exchange import (
    HOLDS_S,
    NewExchange,
    add_exchange,
    exchange_at,
    list_exchange,
)
from payouts.energy.prices import price_at
from payouts.energy.tariffs import (
    HOURS_MAX,
    J_PER_KWH,
    TIERS_MAX,
    BadTariff,
    Kind,
    NewTariff,
    Tariff,
    add_tariff,
    list_tariffs,
    month_of,
    tariff_at,
)
from payouts.schemas.energy import booked_energy
from payouts.schemas.money import sites
from pool.books.store import Store
from tests.fixtures.databases import add_tenant

HOUR = 497_000  # in September 2026
HOUR_S = HOUR * 3600
NORTH, SOUTH = 1, 2
DAM = Tariff(id=1, currency="USD", price_micro=None, tiers=((0, 30_000), (100, 50_000), (1_000, -10_000)))


@pytest.fixture
def places(store: Store) -> Store:
    with store.write() as connection:
        for number, name in ((NORTH, "north"), (SOUTH, "south")):
            connection.execute(insert(sites).values(id=number, name=name, created_at_s=0))
        add_tenant(connection, 1, "acme")
    return store


def add(store: Store, **fields: Any) -> int:
    usual: dict[str, Any] = {"name": "dam", "kind": Kind.FIXED, "currency": "USD", "source": "contract 7"}
    if "kind" not in fields:
        usual["price_micro"] = 30_000
    with store.write() as connection:
        return add_tariff(connection, NewTariff(**(usual | fields)), by="olga", now_s=HOUR_S)


def worth(store: Store, sat: Fraction | int, from_s: int = HOUR_S - 7200, currency: str = "USD") -> int:
    new = NewExchange(currency=currency, sat=Fraction(sat), from_s=from_s, source="desk")
    with store.write() as connection:
        return add_exchange(connection, new, by="olga", now_s=HOUR_S)


def asked(store: Store, site: str = "north", at_s: int = HOUR_S) -> Fraction | None:
    with store.read() as connection:
        return price_at(connection, site, at_s)


# The price of a moment


@pytest.mark.sqlite_suffices
def test_a_kwh_costs_the_tariff_at_the_rate_that_holds(places: Store) -> None:
    add(places, price_micro=45_000)
    worth(places, Fraction(5_000, 3))
    assert asked(places) == Fraction(45_000, 10**6) * Fraction(5_000, 3) == 75
    assert asked(places, at_s=HOUR_S + 3599) == 75


@pytest.mark.sqlite_suffices
def test_without_a_tariff_or_a_rate_there_is_no_price(places: Store) -> None:
    assert asked(places) is None
    add(places)
    assert asked(places) is None
    worth(places, 1_000)
    assert asked(places) == 30


@pytest.mark.sqlite_suffices
def test_a_tariff_in_satoshi_needs_no_rate(places: Store) -> None:
    add(places, currency="SAT", price_micro=41_500_000)
    assert asked(places) == Fraction(83, 2)


@pytest.mark.sqlite_suffices
def test_the_newest_holds_and_one_of_the_site_before_one_of_all(places: Store) -> None:
    worth(places, 10**6)
    add(places, price_micro=1)
    add(places, price_micro=2, site_id=NORTH)
    add(places, price_micro=3)
    assert [asked(places, site) for site in ("north", "south", "")] == [2, 3, 3]
    add(places, price_micro=4, site_id=NORTH, from_s=HOUR_S, until_s=HOUR_S + 3600)
    assert [asked(places, at_s=HOUR_S + it) for it in (-1, 0, 3599, 3600)] == [2, 4, 4, 2]


@pytest.mark.sqlite_suffices
def test_prices_by_the_hour_hold_for_their_hours_and_may_be_negative(places: Store) -> None:
    worth(places, 10**6)
    add(places, price_micro=9)
    add(places, kind=Kind.HOURLY, hours={HOUR: 5, HOUR + 1: -3, HOUR + 3: 7})
    assert [asked(places, at_s=HOUR_S + hour * 3600) for hour in range(-1, 5)] == [9, 5, -3, 9, 7, 9]


@pytest.mark.sqlite_suffices
def test_the_price_of_tiers_is_the_one_that_the_site_has_reached_this_month(places: Store) -> None:
    worth(places, 10**6)
    add(places, kind=Kind.TIERED, tiers={0: 30, 100: 50})
    first, _ = month_of(HOUR)
    for hour, kwh in ((first - 1, 500), (first, 60), (HOUR - 1, 40)):
        with places.write() as connection:
            connection.execute(
                insert(booked_energy).values(
                    container_id=1,
                    hour=hour,
                    part=0,
                    tenant_id=1,
                    site_id=NORTH,
                    metered_j=0,
                    estimated_j=kwh * J_PER_KWH,
                    error_j=0,
                    taken_at_s=HOUR_S,
                )
            )
        assert asked(places) == (50 if hour == HOUR - 1 else 30)
    assert asked(places, "south") == 30


# Exchange rates


def test_a_rate_holds_until_the_next_and_for_a_week(places: Store) -> None:
    worth(places, 100, HOUR_S - 7200)
    worth(places, 200, HOUR_S)
    worth(places, 201, HOUR_S)  # said again: the last word counts
    with places.read() as connection:
        found = [
            exchange_at(connection, "USD", HOUR_S + it) for it in (-7201, -7200, -1, 0, HOLDS_S - 1, HOLDS_S)
        ]
        assert [None if it is None else it.sat for it in found] == [None, 100, 100, 201, 201, None]
        assert exchange_at(connection, "EUR", HOUR_S) is None
        assert [it.sat for it in list_exchange(connection, 2)] == ["200", "201"]


@pytest.mark.sqlite_suffices
def test_nobody_says_what_a_currency_will_be_worth(places: Store) -> None:
    with pytest.raises(BadTariff, match="nobody knows yet"):
        worth(places, 100, HOUR_S + 1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"currency": "usd"}, "no currency"),
        ({"currency": "SAT"}, "a satoshi is a satoshi"),
        ({"sat": Fraction(0)}, "no rate"),
        ({"sat": Fraction(-1)}, "no rate"),
        ({"sat": Fraction(1, 2**63)}, "no rate"),
        ({"sat": Fraction(2**63)}, "no rate"),
        ({"source": " "}, "a source"),
        ({"from_s": -1}, "before 1970"),
    ],
)
def test_what_is_no_rate_is_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"currency": "USD", "sat": Fraction(1), "from_s": 0, "source": "desk"}
    with pytest.raises(BadTariff, match=words):
        NewExchange(**(right | wrong))


# What is no tariff

TIERED = {"kind": Kind.TIERED, "price_micro": None}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": ""}, "a name"),
        ({"source": "x\n"}, "a source"),
        ({"currency": "DOLLARS99"}, "no currency"),
        ({"price_micro": None}, "one price, prices by the hour, or tiers"),
        ({"tiers": {0: 1}}, "one price, prices by the hour, or tiers"),
        ({"price_micro": 10**12 + 1}, "is none"),
        ({"kind": Kind.HOURLY, "price_micro": None, "hours": dict.fromkeys(range(HOURS_MAX + 1), 1)}, "year"),
        ({"kind": Kind.HOURLY, "price_micro": None, "hours": {-1: 1}}, "before 1970"),
        (TIERED | {"tiers": {5: 1}}, "begins at 0 kWh"),
        (TIERED | {"tiers": {0: 1, 10**13: 1}}, "begins at 0 kWh"),
        (TIERED | {"tiers": dict.fromkeys(range(TIERS_MAX + 1), 1)}, "tiers"),
        ({"from_s": 5}, "with an hour"),
        ({"until_s": 5}, "with an hour"),
        ({"from_s": 3600, "until_s": 3600}, "after it begins"),
    ],
)
def test_what_is_no_tariff_is_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    right: dict[str, Any] = {"name": "dam", "kind": Kind.FIXED, "currency": "USD", "source": "contract"}
    with pytest.raises(BadTariff, match=words):
        NewTariff(**(right | {"price_micro": 1} | wrong))


@pytest.mark.sqlite_suffices
def test_the_list_has_all_that_there_ever_were(places: Store) -> None:
    add(places, name="old")
    add(places, name="spot", kind=Kind.HOURLY, hours={HOUR: 5, HOUR + 1: 6}, site_id=NORTH)
    add(places, name="steps", kind=Kind.TIERED, tiers={0: 30, 100: 50})
    with places.read() as connection:
        old, spot, steps = list_tariffs(connection)
        found = tariff_at(connection, NORTH, HOUR + 1)
    assert (old.price_micro, old.until_s, old.added_by) == (30_000, None, "olga")
    assert (spot.hours, spot.from_s, spot.until_s) == (2, HOUR_S, HOUR_S + 7200)
    assert steps.tiers == ((0, 30), (100, 50))
    assert found is not None
    assert (found.id, found.price_micro) == (spot.id, 6)


# Tiers of a month


def test_a_month_is_given_to_its_tiers_from_the_lowest_on() -> None:
    kwh = J_PER_KWH
    assert DAM.cost(100 * kwh) == 100 * 30_000
    assert DAM.cost(2 * kwh, 99 * kwh) == 30_000 + 50_000
    assert DAM.cost(2_000 * kwh) == 100 * 30_000 + 900 * 50_000 - 1_000 * 10_000
    assert [DAM.marginal_micro(it * kwh) for it in (0, 99, 100, 999, 1_000)] == [
        30_000,
        30_000,
        50_000,
        50_000,
        -10_000,
    ]
    assert DAM.cost(-1, 0) == -Fraction(30_000, kwh)  # never so, but it is what the first one gave


@given(st.lists(st.integers(-(10**12), 10**12), max_size=20))
def test_the_sum_of_a_month_is_the_same_whatever_came_late(parts: list[int]) -> None:
    before, total = 0, Fraction(0)
    for joules in parts:
        total += DAM.cost(joules, before)
        before += joules
    assert total == DAM.cost(sum(parts))


def test_months_are_utc_and_december_has_one_after() -> None:
    assert month_of(HOUR) == (HOUR - 272, HOUR + 448)  # of September, which has 720
    assert month_of(0) == (0, 744)
    assert month_of(8_759) == (8_016, 8_760)
