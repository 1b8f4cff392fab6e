"""One intake for all signals: each event once, nothing in silence, and nothing of what others asked for."""

import pytest

from pool.books.store import Store
from pool.power.curtailment import asking
from pool.power.curtailment.durations import USUAL
from pool.power.curtailment.events import move_event
from pool.power.curtailment.states import EventState
from pool.power.signals.bounds import STANDING_MAX, Bounds
from pool.power.signals.event_books import EventBooks
from pool.power.signals.intake import Intake
from tests.histories.power import add_container
from tests.stages.signals import HOUR_S, NOW_S, SignalHouse, call


def test_a_call_is_asked_for_once_however_often_it_is_heard(books: Store) -> None:
    house = SignalHouse(books)
    for _ in range(3):
        answers = house.intake.take("webhook", [call()])
        assert [it.taken for it in answers] == [True]
        house.start()  # whatever a pool knew before it was started anew
    assert house.events.asked == ["ask grid-1"]


def test_the_same_reference_with_other_words_is_the_same_event_changed(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.take("webhook", [call()])
    (answer,) = house.intake.take("webhook", [call(until_s=NOW_S + 1800)])
    assert (answer.taken, answer.words) == (True, "changed")
    assert house.events.asked == ["ask grid-1", "change grid-1"]


def test_two_sources_have_the_same_reference_for_two_events(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.take("webhook", [call()])
    house.intake.take("file", [call()])
    assert house.events.asked == ["ask grid-1", "ask grid-1"]
    assert house.intake.restore("webhook", "grid-1").taken
    assert house.events.live("file") == ["grid-1"]


def test_what_a_person_has_ended_is_not_asked_for_again(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.take("file", [call()])
    asking.restore(books, "file", "grid-1", by="olga", words="enough", now_s=NOW_S + 1)
    (answer,) = house.intake.take("file", [call()])
    assert (answer.taken, answer.words) == (True, "over")
    house.intake.take("file", [call(until_s=NOW_S + 2 * HOUR_S)])  # nor by changing it
    assert house.events.asked == ["ask grid-1"]


def test_a_source_that_says_all_restores_what_it_says_no_more(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.only("file", [call("a"), call("b")])
    house.intake.only("file", [call("b")])
    assert house.events.asked == ["ask a", "ask b", "restore a"]
    house.intake.only("file", [])
    assert house.events.live("file") == []


def test_a_change_beyond_the_bounds_leaves_the_event_as_it_was(books: Store) -> None:
    house = SignalHouse(books, Bounds(longest_s=HOUR_S))
    house.intake.only("file", [call()])
    (answer,) = house.intake.only("file", [call(until_s=NOW_S + 5 * HOUR_S)])
    assert not answer.taken
    assert house.events.live("file") == ["grid-1"]
    assert house.events.asked == ["ask grid-1"]


def test_changes_count_as_calls(books: Store) -> None:
    house = SignalHouse(books, Bounds(calls_a_day=3))
    house.intake.take("webhook", [call()])
    answers = [house.intake.take("webhook", [call(until_s=NOW_S + it)])[0] for it in (1200, 1800, 2400)]
    assert [it.taken for it in answers] == [True, True, False]
    house.events.now_s += 86_401
    later = {"from_s": house.events.now_s, "until_s": house.events.now_s + 600}
    assert house.intake.take("webhook", [call("next", **later)])[0].taken


def test_restoring_is_never_bounded_by_calls(books: Store) -> None:
    house = SignalHouse(books, Bounds(calls_a_day=1))
    house.intake.take("webhook", [call()])
    assert not house.intake.take("webhook", [call("grid-2")])[0].taken
    assert house.intake.restore("webhook", "grid-1").words == "restored"
    assert house.intake.restore("webhook", "grid-1").words == "over"
    assert not house.intake.restore("webhook", "grid-7").taken


@pytest.mark.parametrize("what", ["bound", "events"])
def test_who_is_refused_is_told_why_and_so_is_whoever_looks(books: Store, what: str) -> None:
    house = SignalHouse(books, Bounds(sites=("south",)) if what == "bound" else None)
    site = "north" if what == "bound" else "east"
    (answer,) = house.intake.take("webhook", [call(site=site)])
    words = "signals may not stop north" if what == "bound" else "there is no site 'east'"
    assert not answer.taken
    assert answer.words.startswith(words)
    found = house.source("webhook")
    assert found.refused.startswith(f"grid-1: {words}")
    assert (found.refused_at_s, found.refused_count, found.asked_at_s) == (NOW_S, 1, None)


def test_of_more_calls_at_once_than_there_may_be_the_rest_is_not_looked_at(books: Store) -> None:
    house = SignalHouse(books, Bounds(calls_a_day=10_000, hours_a_day=24))
    answers = house.intake.take("webhook", [call(f"x-{it}") for it in range(STANDING_MAX + 5)])
    assert len(answers) == STANDING_MAX
    assert "calls at once" in house.source("webhook").refused


def test_a_source_that_is_to_be_heard_of_is_silent_after_its_time_and_another_never(books: Store) -> None:
    house = SignalHouse(books)
    house.events.now_s += 601
    assert (house.source("file").silent_s(NOW_S + 601), house.source("webhook").silent_s(NOW_S + 601)) == (
        601,
        0,
    )
    house.intake.heard("file")
    assert house.source("file").silent_s(NOW_S + 1200) == 0
    assert house.source("file").silent_s(NOW_S + 1202) == 601


def test_an_event_that_is_to_begin_at_another_time_is_another_one_under_the_same_name(books: Store) -> None:
    house = SignalHouse(books)
    late = call(from_s=NOW_S + HOUR_S, until_s=NOW_S + 2 * HOUR_S)
    house.intake.only("file", [late])
    for later in (600, 1200):
        asked = call(from_s=late.from_s + later, until_s=late.until_s + later)
        assert house.intake.only("file", [asked])[0].words == "changed"
        house.start()
        assert house.intake.only("file", [asked])[0].words == "the same"
    assert house.events.rows("file") == [
        ("grid-1", "cancelled"),
        ("grid-1~2", "cancelled"),
        ("grid-1~3", "planned"),
    ]
    assert house.intake.restore("file", "grid-1").words == "restored"
    assert house.events.live("file") == []
    assert house.intake.take("file", [late])[0].words == "over"


def test_one_that_has_begun_and_is_to_be_elsewhere_ends_there(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.take("webhook", [call()])
    with books.write() as connection:
        (begun,) = asking.standing(books, "webhook", 0)
        move_event(connection, begun, EventState.CURTAILING, "asked", NOW_S)
    house.events.now_s += 60
    assert house.intake.take("webhook", [call(site="south")])[0].words == "changed"
    assert house.intake.take("webhook", [call(site="south")])[0].words == "the same"
    first, second = asking.standing(books, "webhook", 0)
    assert (first.site, first.restore_asked_by) == ("north", "webhook")
    assert (second.site, second.state) == ("south", EventState.PLANNED)


def test_an_event_past_its_end_is_over_also_before_anybody_has_ended_it(books: Store) -> None:
    house = SignalHouse(books)
    house.intake.take("webhook", [call()])
    house.events.now_s += HOUR_S
    assert house.intake.take("webhook", [call(until_s=NOW_S + 2 * HOUR_S)])[0].words == "over"


@pytest.mark.parametrize("dry_run", [False, True])
def test_events_of_signals_are_as_dry_as_the_settings_say(books: Store, dry_run: bool) -> None:
    with books.write() as connection:
        add_container(connection, "acme.c01", 1, site="north")
    events = EventBooks(books, dry_run=dry_run, durations=USUAL, wall_clock=lambda: NOW_S)
    intake = Intake(events, Bounds(), wall_clock=lambda: NOW_S)
    intake.open("webhook", "")
    intake.take("webhook", [call()])
    assert [it.dry_run for it in asking.standing(books, "webhook", 0)] == [dry_run]
