"""What a signal may ask for: one row for each bound, and the best that a thief makes of all of them."""

import random
from typing import Any

import pytest

from pool.power.signals.bounds import AHEAD_S_MAX, DAY_S, STANDING_MAX, Bounds, Standing, refused
from pool.power.signals.call import Called
from tests.stages.signals import HOUR_S, NOW_S, call


def stands(
    it: Called, *, asked_at_s: int = NOW_S, over: bool = False, until_s: int | None = None
) -> Standing:
    return Standing(
        called=it, over=over, asked_at_s=asked_at_s, until_s=it.until_s if until_s is None else until_s
    )


LIMIT: dict[str, Any] = {"target": "limit", "target_value": 400_000}
HALF: dict[str, Any] = {"target": "share", "target_value": 5_000}


@pytest.mark.parametrize(
    ("bounds", "asked", "watts", "words"),
    [
        (Bounds(), call(), None, None),
        (Bounds(), call(site=""), None, None),
        (Bounds(sites=("north",)), call(), None, None),
        (Bounds(sites=("south",)), call(), None, "signals may not stop north"),
        (Bounds(sites=("north",)), call(site=""), None, "signals may not stop all sites at once"),
        (Bounds(), call(until_s=NOW_S), None, "it is over already"),
        (Bounds(), call(from_s=NOW_S - HOUR_S, until_s=NOW_S + 60), None, None),
        (
            Bounds(),
            call(from_s=NOW_S + AHEAD_S_MAX + 1, until_s=NOW_S + AHEAD_S_MAX + 60),
            None,
            "it begins in more than 7 days",
        ),
        (Bounds(longest_s=HOUR_S), call(until_s=NOW_S + HOUR_S + 1), None, "it is longer than 1 h"),
        (Bounds(least_w=400_000), call(**LIMIT), None, None),
        (Bounds(least_w=400_001), call(**LIMIT), None, "it leaves 400 kW, and signals may ask for no less"),
        (Bounds(least_w=400_000), call(), None, "it leaves 0 kW"),
        (Bounds(least_w=400_000), call(**HALF), 800_000, None),
        (Bounds(least_w=400_000), call(**HALF), 799_998, "it leaves 399 kW"),
        (Bounds(least_w=400_000), call(**HALF), None, "what the site draws is not known"),
    ],
)
def test_of_a_call_by_itself(bounds: Bounds, asked: Called, watts: int | None, words: str | None) -> None:
    found = refused(bounds, asked, [], NOW_S, watts=watts)
    assert found is None if words is None else found is not None and found.startswith(words)


def test_of_calls_within_a_day() -> None:
    bounds = Bounds(calls_a_day=3, hours_a_day=24)
    before = [stands(call(f"grid-{it}"), over=True) for it in range(2)]
    assert refused(bounds, call("grid-9"), before, NOW_S) is None
    assert "2 calls" in str(refused(Bounds(calls_a_day=2), call("grid-9"), before, NOW_S))
    assert "3 calls" in str(refused(bounds, call("grid-9"), before, NOW_S, changes=1))
    yesterday = [stands(call("grid-0"), asked_at_s=NOW_S - DAY_S, over=True)]
    assert refused(Bounds(calls_a_day=1), call("grid-9"), yesterday, NOW_S) is None


def test_of_events_that_are_not_over() -> None:
    bounds = Bounds(calls_a_day=1_000, hours_a_day=24)
    many = [stands(call(f"grid-{it}"), asked_at_s=0) for it in range(STANDING_MAX)]
    assert f"{STANDING_MAX} events" in str(refused(bounds, call("grid-x"), many, NOW_S))
    assert refused(bounds, call("grid-0", until_s=NOW_S + 60), many, NOW_S) is None  # the same, changed


def test_of_the_hours_of_a_day_each_counts_once_and_by_site() -> None:
    bounds = Bounds(hours_a_day=3)
    hour = [call("a"), call("b", from_s=NOW_S + 1800, until_s=NOW_S + 5400)]  # an hour and a half in all
    before = [stands(it) for it in hour]
    late = {"from_s": NOW_S + 10 * HOUR_S}
    assert refused(bounds, call("c", **late, until_s=NOW_S + 10 * HOUR_S + 5400), before, NOW_S) is None
    words = refused(bounds, call("c", **late, until_s=NOW_S + 10 * HOUR_S + 5401), before, NOW_S)
    assert words == "with what this source has asked for before it is 3.0 h of 24, and there may be 3"
    long = {**late, "until_s": NOW_S + 12 * HOUR_S}
    assert refused(bounds, call("c", site="south", **long), before, NOW_S) is None
    assert refused(bounds, call("c", site="", **long), before, NOW_S) is not None  # north as well
    everywhere = [stands(call(it.reference, site="", from_s=it.from_s, until_s=it.until_s)) for it in hour]
    assert refused(bounds, call("c", site="south", **long), everywhere, NOW_S) is not None


def test_what_was_restored_counts_for_as_long_as_it_was() -> None:
    bounds = Bounds(hours_a_day=1)
    full = [stands(call("a"), over=True)]
    assert refused(bounds, call("b", until_s=NOW_S + HOUR_S + 600), full, NOW_S) is not None
    short = [stands(call("a", from_s=NOW_S - 3000), over=True, until_s=NOW_S - 2400)]
    assert refused(bounds, call("b", until_s=NOW_S + 3000), short, NOW_S) is None
    assert refused(bounds, call("b", until_s=NOW_S + 3001), short, NOW_S) is not None
    never = [stands(call("a", from_s=NOW_S + 600, until_s=NOW_S + 3000), over=True, until_s=NOW_S)]
    assert refused(bounds, call("b"), never, NOW_S) is None


@pytest.mark.parametrize("seed", range(8))
def test_who_has_a_secret_takes_no_more_than_the_hours_of_a_day_however_he_goes_about_it(seed: int) -> None:
    """A week of a thief who asks for whatever he likes each half an hour: of no day does he get more."""
    print(f"seed {seed}")
    draw, bounds = random.Random(seed), Bounds(longest_s=4 * HOUR_S, hours_a_day=8, calls_a_day=12)
    taken: list[Standing] = []
    for step in range(7 * 48):
        now_s = NOW_S + step * 1800
        live = [
            stands(it.called, asked_at_s=it.asked_at_s, over=it.until_s <= now_s, until_s=it.until_s)
            for it in taken
        ]
        from_s = now_s + draw.choice((0, 0, 600, 7200, 20 * HOUR_S, 3 * DAY_S)) - draw.choice((0, 900))
        asked = call(f"x-{step}", from_s=from_s, until_s=from_s + draw.choice((600, 3600, 4 * HOUR_S)))
        if refused(bounds, asked, live, now_s) is None:
            taken.append(stands(asked, asked_at_s=now_s))
    minutes = {minute for it in taken for minute in range(it.called.from_s // 60, it.called.until_s // 60)}
    first = min(minutes)
    down = [minute in minutes for minute in range(first, max(minutes) + 1)]
    day = 24 * 60
    most = max(sum(down[at : at + day]) for at in range(max(1, len(down) - day)))
    assert 6 * 60 <= most <= 8 * 60
