"""Who is off in which hour: whoever loses, for hours on end, and never to and fro."""

import random
from collections.abc import Mapping, Sequence
from fractions import Fraction

import pytest

from pool.power.signals.price_plan import BAND, GAP_H, LEAST_H, Price, Run, between, limit_at, limits, runs

OLD, NEW = 30_000, 15_000  # mJ/TH
FIRST = 100  # the hour that it is
WORTHS = {OLD: Fraction(50), NEW: Fraction(100)}  # satoshi of a kWh


def prices(*sat: int | None, first: int = FIRST) -> list[Price]:
    return [Price(hour=first + at, sat=None if it is None else Fraction(it)) for at, it in enumerate(sat)]


def planned(
    *sat: int | None, was: Mapping[int, int] | None = None, worths: Mapping[int, Fraction] = WORTHS
) -> dict[int, int]:
    return limits(prices(*sat, first=FIRST), worths, was or {}, begun=FIRST)


def test_who_loses_is_off_and_who_gains_is_not() -> None:
    assert planned(40, 60, 60, 40) == {101: OLD, 102: OLD}
    assert planned(40, 120, 120, 40) == {101: NEW, 102: NEW}
    assert planned(40, 40) == {}
    assert planned(-10, -10, 0) == {}


def test_of_a_long_run_the_better_ones_are_off_at_its_height_alone() -> None:
    assert planned(60, 60, 120, 120, 60, 40) == {100: OLD, 101: OLD, 102: NEW, 103: NEW, 104: OLD}


def test_a_single_dear_hour_stops_nobody_and_a_single_cheap_one_starts_nobody() -> None:
    assert planned(40, 90, 40, 40) == {}
    assert planned(60, 60, 40, 60, 60) == dict.fromkeys(range(100, 105), OLD)
    assert planned(60, 60, 40, 40, 60, 60) == dict.fromkeys((100, 101, 104, 105), OLD)
    assert planned(60, 60, 40) == dict.fromkeys((100, 101), OLD)  # the end is no gap


def test_an_hour_of_which_nobody_has_said_a_price_stops_nobody() -> None:
    assert planned(60, 60, None, None, 60, 60) == dict.fromkeys((100, 101, 104, 105), OLD)
    assert planned(None, None) == {}


def test_within_the_band_all_stays_as_it_was() -> None:
    near = 51  # 2 % above what its kWh is worth
    assert planned(40, near, near) == {}
    was = {101: OLD, 102: OLD}
    assert planned(40, near, near, was=was) == {101: OLD, 102: OLD}
    assert planned(40, 49, 49, was=was) == {101: OLD, 102: OLD}
    assert planned(40, 48, 48, was=was) == {}


def test_what_is_off_already_goes_on_for_a_last_hour() -> None:
    assert planned(60, 40, was={99: OLD, 100: OLD}) == {100: OLD}
    assert planned(60, 40) == {}


def test_an_hour_that_has_begun_stays_as_it_was_planned() -> None:
    def now(was: Mapping[int, int], *sat: int) -> dict[int, int]:
        return limits(prices(*sat), WORTHS, was, begun=100)

    assert now({100: OLD}, 40, 40, 40) == {100: OLD}
    assert now({100: OLD}, 120, 120, 120) == {100: OLD, 101: NEW, 102: NEW}
    assert now({101: OLD}, 60, 60, 60) == {101: OLD, 102: OLD}
    assert now({}, 60, 60, 60) == {100: OLD, 101: OLD, 102: OLD}  # of a pool that begins


def test_hours_that_follow_each_other_are_one_run_and_a_long_one_is_several() -> None:
    found = {100: OLD, 101: NEW, 103: OLD, 104: OLD, 105: OLD}
    assert runs(found, 2) == [
        Run(begin=100, until=102, limits=(OLD, NEW)),
        Run(begin=103, until=105, limits=(OLD, OLD)),
        Run(begin=105, until=106, limits=(OLD,)),
    ]


def test_a_price_between_two_kinds_stops_the_worse_one_also_when_work_is_worth_a_little_more() -> None:
    for moved in (Fraction(99, 100), Fraction(1), Fraction(102, 100)):
        worths = {kind: it * moved for kind, it in WORTHS.items()}
        assert limit_at(worths, between(WORTHS, OLD)) == OLD
        assert limit_at(worths, between(WORTHS, NEW)) == NEW
    assert limit_at(WORTHS, Fraction(50)) is None


@pytest.mark.parametrize("seed", range(4))
def test_however_prices_and_worth_move_nobody_is_told_to_and_fro(seed: int) -> None:
    """Ten days, looked at every ten minutes: whatever is stopped in an hour stays so for the hour, no kind of
    machine is off for less than LEAST_H, or on for GAP_H or less, where prices were known before."""
    print(f"seed {seed}")
    draw = random.Random(seed)
    sat = [
        Fraction(max(5, 55 + 45 * draw.uniform(-1, 1) + (40 if at % 24 in (17, 18, 19) else 0)))
        for at in range(300)
    ]
    was: dict[int, int] = {}
    done: dict[int, int | None] = {}
    for look in range(240 * 6):
        hour = look // 6
        moved = Fraction(draw.randint(995, 1005), 1000)
        worths = {kind: it * moved for kind, it in WORTHS.items()}
        known: Sequence[Price] = [Price(hour=at, sat=sat[at]) for at in range(hour, hour + 36)]
        was = limits(known, worths, was, begun=hour)
        if hour in done and look % 6:
            assert was.get(hour) == done[hour]
        done[hour] = was.get(hour)
    for kind in WORTHS:
        off = [done[hour] is not None and (done[hour] or 0) <= kind for hour in sorted(done)]
        spans: list[tuple[bool, int]] = []
        for it in off:
            spans.append((it, 1)) if not spans or spans[-1][0] != it else spans.__setitem__(
                -1, (it, spans[-1][1] + 1)
            )
        inside = spans[1:-1]
        assert all(length >= LEAST_H for down, length in inside if down)
        assert all(length > GAP_H for down, length in inside if not down)
        assert any(down for down, _ in spans)
    assert Fraction(1, 100) < BAND
