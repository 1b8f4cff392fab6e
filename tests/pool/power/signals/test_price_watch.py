"""Tariffs of a site, and what is asked for by them: a day before, once, and no more than what is known."""

from collections.abc import Mapping
from fractions import Fraction

import pytest
from sqlalchemy import insert

from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.tariffs import Kind, NewTariff, add_tariff
from payouts.schemas.money import rates, sites
from pool.books.store import Store
from pool.power.curtailment import asking
from pool.power.curtailment.events import Event, move_event
from pool.power.curtailment.states import EventState
from pool.power.curtailment.worth import price_now, sat_per_kwh
from pool.power.signals.bounds import Bounds
from pool.power.signals.price_watch import SOURCE, PriceWatch
from tests.histories.power import add_container
from tests.stages.signals import HOUR_S, NOW_S, SignalHouse

OLD, NEW = 30_000, 15_000  # mJ/TH; a kWh in an old one is worth 81 sat, in a new one 162
BEGUN = NOW_S // HOUR_S


class Market(SignalHouse):
    """Two kinds of machines in the north, whose prices are said by the hour from now on."""

    def __init__(self, store: Store, *, paid: bool = True) -> None:
        super().__init__(store)
        self.store = store
        with store.write() as connection:
            add_container(connection, "acme.old", 2, site="north", ths=200, kw=6, now_s=NOW_S - 2 * HOUR_S)
            add_container(connection, "acme.new", 2, site="north", ths=200, kw=3, now_s=NOW_S - 2 * HOUR_S)
            if paid:
                connection.execute(insert(rates).values(**RATE))

    def start(self) -> None:
        super().start()
        self.intake.open(SOURCE, "tariffs", bounds=self.bounds.of_prices)
        self.watch = PriceWatch(self.events.store, self.intake, self.bounds.sites, lambda: self.events.now_s)

    def say(self, *sat: int, currency: str = "SAT", first: int = BEGUN, site: str = "north") -> None:
        """Satoshi of a kWh, hour by hour."""
        hours: Mapping[int, int] = {first + at: it * 1_000_000 for at, it in enumerate(sat)}
        with self.store.write() as connection:
            site_id = connection.scalar(
                sites.select().with_only_columns(sites.c.id).where(sites.c.name == site)
            )
            new = NewTariff(
                name="day ahead",
                kind=Kind.HOURLY,
                currency=currency,
                source="test",
                site_id=site_id,
                hours=hours,
            )
            add_tariff(connection, new, by="olga", now_s=self.events.now_s)

    def look(self, hour: float = 0) -> None:
        self.events.now_s = int(NOW_S + hour * HOUR_S)
        self.watch.look()

    def all(self) -> list[Event]:
        return asking.standing(self.store, SOURCE, 0)

    def told(self) -> list[tuple[str, str, int, int]]:
        """Site, state, and from which hour until which, from now."""
        return [
            (it.site, it.state.value, it.from_s // HOUR_S - BEGUN, it.until_s // HOUR_S - BEGUN)
            for it in self.all()
        ]

    def stops(self, it: Event) -> set[int]:
        """The kinds that the event's price stops."""
        with self.store.read() as connection:
            worth = price_now(connection)
        assert worth is not None
        price = Fraction(it.target_value or 0, 1000)
        return {kind for kind in (OLD, NEW) if sat_per_kwh(worth, kind) < price}


RATE = {
    "nbits": 0x17025ED1,
    "subsidy_sat": 312_500_000,
    "block_fees_sat": 0,
    "fee_bps": 0,
    "scheme": "pps",
    "tenant_id": 1,
    "height": 900_000,
    "created_at_s": NOW_S,
}


def test_dear_hours_are_asked_for_a_day_before_and_once(books: Store) -> None:
    market = Market(books)
    market.say(*[50] * 6, 120, 120, 120, *[50] * 20)
    for hour in (0, 0.2, 1, 2):
        market.look(hour)
        market.start()  # whoever looks has been started anew
    assert market.told() == [("north", "planned", 6, 9)]
    (event,) = market.all()
    assert (event.target, event.asked_at_s, market.stops(event)) == ("break_even", NOW_S, {OLD})


@pytest.mark.parametrize("anew", [False, True])
def test_hours_that_were_dear_and_are_so_again_are_asked_for_again_also_after_a_start(
    books: Store, anew: bool
) -> None:
    """What the prices themselves have let go of, nobody has ended."""
    market = Market(books)
    market.say(*[50] * 6, 120, 120, 120, *[50] * 20)
    market.look()
    market.say(50, 50, 50, first=BEGUN + 6)
    market.look(1)
    assert market.told() == [("north", "cancelled", 6, 9)]
    if anew:
        market.start()
    market.say(120, 120, 120, first=BEGUN + 6)
    market.look(2)
    assert market.told() == [("north", "cancelled", 6, 9), ("north", "planned", 6, 9)]
    assert market.all()[0].restore_asked_by == SOURCE


def test_an_event_of_which_hours_in_the_middle_become_cheap_goes_on_and_the_rest_is_another_one(
    books: Store,
) -> None:
    """Nobody is woken for it in an hour that stays dear."""
    market = Market(books)
    market.say(*[120] * 12, *[50] * 20)
    market.look()
    (event,) = market.all()
    with books.write() as connection:
        move_event(connection, event, EventState.CURTAILING, "begun", NOW_S)
    market.say(50, 50, 50, first=BEGUN + 4)
    market.look(1.2)
    assert market.told() == [("north", "curtailing", 0, 4), ("north", "planned", 7, 12)]
    assert market.all()[0].restore_asked_at_s is None
    market.look(1.4)
    assert len(market.told()) == 2


def test_a_dear_hour_of_the_day_after_tomorrow_is_not_asked_for_yet(books: Store) -> None:
    market = Market(books)
    market.say(*[50] * 30, 120, 120, *[50] * 10)
    market.look()
    assert market.told() == []
    market.look(6)
    assert market.told() == [("north", "planned", 30, 32)]


def test_in_the_dearest_hours_the_better_machines_are_off_too_within_the_same_event(books: Store) -> None:
    market = Market(books)
    market.say(120, 120, 200, 200, 120, 50, 50, 50)
    stopped = []
    for hour in (0, 1, 2, 2.5, 3, 4):
        market.look(hour)
        (event,) = market.all()
        stopped.append(market.stops(event))
        assert market.told()[0][2:] == (0, 5)
    assert stopped == [{OLD}, {OLD}, {OLD, NEW}, {OLD, NEW}, {OLD, NEW}, {OLD}]
    assert market.events.asked[0].startswith("ask")
    assert len(market.events.asked) == 3


def test_a_tariff_that_is_another_moves_what_has_not_begun_and_lets_what_has_end_with_its_hour(
    books: Store,
) -> None:
    market = Market(books)
    market.say(120, 120, 120, 50, 50, 50, 120, 120, 50, 50)
    market.look()
    assert market.told() == [("north", "planned", 0, 3), ("north", "planned", 6, 8)]
    with books.write() as connection:
        move_event(connection, market.all()[0], EventState.CURTAILING, "asked", NOW_S)
    market.say(120, 50, 50, 50, 50, 50, 50, 120, 120, 50)
    market.look(0.5)
    assert market.told() == [
        ("north", "curtailing", 0, 1),
        ("north", "cancelled", 6, 8),
        ("north", "planned", 7, 9),
    ]
    market.say(*[50] * 10)
    market.look(0.6)
    assert market.told()[0] == ("north", "curtailing", 0, 1)
    assert market.told()[2] == ("north", "cancelled", 7, 9)
    market.say(*[50] * 6, 120, 120, 50, 50)  # and what was cancelled by prices may come again
    market.look(0.7)
    assert market.told()[3:] == [("north", "planned", 6, 8)]


@pytest.mark.parametrize("begun", [False, True])
def test_what_a_person_has_ended_is_not_asked_for_again_for_as_long_as_it_was_to_be(
    books: Store, begun: bool
) -> None:
    market = Market(books)
    market.say(*[120] * 4, 50, 50, 50, 120, 120, 50)
    market.look()
    event = market.all()[0]
    if begun:
        with books.write() as connection:
            move_event(connection, event, EventState.CURTAILING, "asked", NOW_S)
    asking.restore(books, SOURCE, event.reference, by="olga", words="enough", now_s=NOW_S + 60)
    for hour in (0.2, 1, 3):
        market.look(hour)
        market.start()
    assert len(market.all()) == 2
    assert market.told()[1] == ("north", "planned", 7, 9)


def test_what_nobody_has_said_stops_nobody_and_is_told(books: Store) -> None:
    market = Market(books)
    market.look()
    assert market.source(SOURCE).refused == "no site has a tariff for this hour, with an exchange rate"
    market.say(*[120] * 10, currency="EUR")
    market.look(0.1)
    assert market.all() == []
    with books.write() as connection:
        rate = NewExchange(currency="EUR", sat=Fraction(1), from_s=NOW_S, source="test")
        add_exchange(connection, rate, by="olga", now_s=NOW_S)
    market.look(0.2)
    assert market.told() == [("north", "planned", 0, 10)]


def test_a_book_in_which_nobody_was_paid_yet_stops_nobody(books: Store) -> None:
    market = Market(books, paid=False)
    market.say(*[120] * 10)
    market.look()
    assert market.source(SOURCE).refused == "nobody was paid for work yet: what it is worth is not known"
    assert market.all() == []


def test_a_site_that_signals_may_not_stop_and_machines_of_which_nothing_is_known_are_left_alone(
    books: Store,
) -> None:
    market = Market(books)
    market.bounds = Bounds(sites=("south",))
    market.start()
    market.say(*[120] * 10)
    market.say(*[120] * 10, site="south")
    market.look()
    assert market.all() == []


def test_what_is_dear_for_longer_than_an_event_may_last_is_several_one_after_the_other(books: Store) -> None:
    market = Market(books)
    clock = market.events
    market.watch = PriceWatch(books, market.intake, (), lambda: clock.now_s, 3 * HOUR_S)
    market.say(*[10] * 4, *[100] * 8, *[10] * 24)
    market.look()
    assert [(begin, until) for _, _, begin, until in market.told()] == [(4, 7), (7, 10), (10, 12)]
