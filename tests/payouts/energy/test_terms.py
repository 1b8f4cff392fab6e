"""Hosting terms, and carbon: what holds for which hour, and who said it."""

from typing import Any

import pytest
from sqlalchemy import insert

from payouts.energy.carbon import Energy, Method, NewCarbon, add_carbon, carbon_of, list_carbon
from payouts.energy.tariffs import J_PER_KWH, BadTariff
from payouts.energy.terms import Charge, HostingTerms, history_of, set_terms, terms_at
from payouts.schemas.money import sites
from pool.books.store import Store
from tests.fixtures.databases import add_tenant

HOUR = 497_000
HOUR_S = HOUR * 3600
NORTH = 1


@pytest.fixture
def books(store: Store) -> Store:
    with store.write() as connection:
        connection.execute(insert(sites).values(id=NORTH, name="north", created_at_s=0))
        add_tenant(connection, 1, "acme")
    return store


def agree(store: Store, now_s: int = HOUR_S, from_s: int | None = None, **fields: Any) -> int:
    with store.write() as connection:
        return set_terms(connection, 1, HostingTerms(**fields), by="olga", now_s=now_s, from_s=from_s)


# Terms


@pytest.mark.sqlite_suffices
def test_terms_hold_from_the_next_hour_and_the_last_word_counts(books: Store) -> None:
    first = agree(books, HOUR_S + 1, charge=Charge.TARIFF)
    second = agree(books, HOUR_S + 2, charge=Charge.FEE, fee_micro=50_000, currency="USD")
    later = agree(books, HOUR_S + 3, HOUR_S + 4 * 3600, grid_operator_bps=500)
    with books.read() as connection:
        found = [terms_at(connection, 1, HOUR_S + it * 3600) for it in (0, 1, 3, 4)]
        assert [None if it is None else it.id for it in found] == [None, second, second, later]
        assert [it.id for it in history_of(connection, 1)] == [first, second, later]
        assert terms_at(connection, 2, HOUR_S + 9 * 3600) is None


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("from_s", [HOUR_S, HOUR_S + 1, HOUR_S + 5000])
def test_nobody_is_charged_by_terms_that_came_after_the_energy(books: Store, from_s: int) -> None:
    with pytest.raises(BadTariff, match="has not begun"):
        agree(books, HOUR_S + 1, from_s)
    agree(books, HOUR_S, HOUR_S)  # on the hour it has not begun yet


@pytest.mark.sqlite_suffices
def test_a_clock_that_steps_back_makes_no_terms_of_the_past(books: Store) -> None:
    agree(books, HOUR_S)
    agree(books, HOUR_S - 86_400, charge=Charge.TARIFF)
    with books.read() as connection:
        assert terms_at(connection, 1, HOUR_S - 1) is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"charge": Charge.FEE}, "a fee has a price"),
        ({"charge": Charge.FEE, "fee_micro": 1}, "a fee has a price"),
        ({"charge": Charge.TARIFF, "fee_micro": 1, "currency": "USD"}, "a fee has a price"),
        ({"charge": Charge.FEE, "fee_micro": 10**13, "currency": "USD"}, "is none"),
        ({"charge": Charge.FEE, "fee_micro": 1, "currency": "usd"}, "no currency"),
        ({"grid_operator_bps": 10_001}, "0 to 100 percent"),
    ],
)
def test_what_are_no_terms_is_refused_in_words(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BadTariff, match=words):
        HostingTerms(**wrong)


# Carbon


def say(store: Store, *rows: tuple[int, int, int], now_s: int = HOUR_S, **fields: Any) -> None:
    """Hours from, until, and mg."""
    usual: dict[str, Any] = {"method": Method.LOCATION, "source": "grid 2025"}
    new = [
        NewCarbon(from_hour=HOUR + first, until_hour=HOUR + until, mg_per_kwh=mg, **(usual | fields))
        for first, until, mg in rows
    ]
    with store.write() as connection:
        assert add_carbon(connection, new, by="olga", now_s=now_s) == len(rows)


@pytest.mark.sqlite_suffices
def test_an_hour_has_the_newest_figure_and_the_sites_own_first(books: Store) -> None:
    say(books, (0, 4, 100_000))
    say(books, (2, 3, 50_000), site_id=NORTH, source="meter of the grid")
    say(books, (2, 4, 70_000))
    energy: Energy = {(NORTH, HOUR + it): J_PER_KWH for it in range(5)}
    with books.read() as connection:
        found = carbon_of(connection, energy, Method.LOCATION, HOUR_S + 1)
        assert (found.mg, found.known_j) == (100_000 * 2 + 50_000 + 70_000, 4 * J_PER_KWH)
        assert found.sources == ("grid 2025", "meter of the grid")
        elsewhere: Energy = {(None, hour): joules for (_, hour), joules in energy.items()}
        assert carbon_of(connection, elsewhere, Method.LOCATION, HOUR_S + 1).mg == 340_000
        assert carbon_of(connection, energy, Method.MARKET, HOUR_S + 1).known_j == 0
        assert carbon_of(connection, {}, Method.MARKET, HOUR_S + 1).mg == 0


@pytest.mark.sqlite_suffices
def test_what_was_said_later_is_not_known_before(books: Store) -> None:
    say(books, (0, 1, 100_000))
    say(books, (0, 1, 1), now_s=HOUR_S + 60)
    energy: Energy = {(None, HOUR): 7 * J_PER_KWH}
    with books.read() as connection:
        assert carbon_of(connection, energy, Method.LOCATION, HOUR_S + 60).mg == 700_000
        assert carbon_of(connection, energy, Method.LOCATION, HOUR_S + 61).mg == 7
        assert [it.mg_per_kwh for it in list_carbon(connection, 5)] == [100_000, 1]


@pytest.mark.parametrize(
    "wrong", [{"source": ""}, {"mg_per_kwh": -1}, {"mg_per_kwh": 10**7 + 1}, {"until_hour": 5}]
)
def test_what_is_no_carbon_is_refused_in_words(wrong: dict[str, Any]) -> None:
    right: dict[str, Any] = {"method": Method.MARKET, "from_hour": 5, "until_hour": 6, "mg_per_kwh": 0}
    with pytest.raises(BadTariff):
        NewCarbon(**(right | {"source": "certificates"} | wrong))
