"""What readings of a meter come to: exact, in parts as in the whole, and nothing where nothing is known."""

import random
from itertools import pairwise

from payouts.risk import poisson_interval
from pool.power.energy.bounds import ERROR_BPS_MAX, shares_error_bps, together_bps
from pool.power.energy.readings import (
    BEGAN_ANEW,
    BEYOND,
    GAP_S,
    NO_READINGS,
    Gap,
    Metered,
    Reading,
    metered,
    stands_still,
)

MAX_WATTS = 2_000_000
T = 1_800_000_000


def counter(*readings: tuple[int, int]) -> list[Reading]:
    return [Reading(at_s=T + at, counter_wh=wh) for at, wh in readings]


def of(
    readings: list[Reading], from_s: int = 0, until_s: int = 3_600, rolls_at_wh: int | None = None
) -> Metered:
    return metered(readings, T + from_s, T + until_s, max_watts=MAX_WATTS, rolls_at_wh=rolls_at_wh)


def test_a_counter_says_what_was_drawn_between_its_readings() -> None:
    minutes = counter(*((60 * it, 1_000_000 + 20_833 * it) for it in range(61)))  # 1,250 kW, nearly
    found = of(minutes)
    assert found == Metered(joules=60 * 20_833 * 3_600, covered_s=3_600, gaps=())
    missing = minutes[:10] + minutes[20:]  # ten minutes of readings are lost, and nothing of the energy
    assert of(missing) == found


def test_watts_are_the_mean_of_both_ends() -> None:
    readings = [Reading(at_s=T + 60 * it, watts=1_000_000 + 1_000 * (it % 2)) for it in range(61)]
    assert of(readings) == Metered(joules=1_000_500 * 3_600, covered_s=3_600, gaps=())


def test_hours_come_to_what_the_whole_comes_to_wherever_their_readings_are() -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    chance = random.Random(seed)
    at, wh, readings = -300, 0, list[Reading]()
    while not readings or readings[-1].at_s < T + 4 * 3_600:
        readings.append(Reading(at_s=T + at, counter_wh=wh))
        step = chance.randrange(11, GAP_S)
        at, wh = at + step, wh + chance.randrange(0, 500 * step)
    ends = sorted({0, 4 * 3_600, *(chance.randrange(4 * 3_600) for _ in range(20))})
    parts = [of(readings, a, b) for a, b in pairwise(ends)]
    assert sum(it.joules for it in parts) == of(readings, 0, 4 * 3_600).joules
    assert all(it.gaps == () for it in parts)


def test_nothing_is_made_up_across_a_gap() -> None:
    readings = counter((0, 0), (60, 10_000), (60 + GAP_S + 1, 300_000), (1_200, 340_000), (3_600, 900_000))
    found = of(readings)
    assert found.joules == (10_000 + 40_000) * 3_600
    assert found.covered_s == 60 + 1_200 - 961
    assert found.gaps == (
        Gap(from_s=T + 60, until_s=T + 961, why=NO_READINGS),
        Gap(from_s=T + 1_200, until_s=T + 3_600, why=NO_READINGS),
    )
    assert of([]) == Metered(joules=0, covered_s=0, gaps=(Gap(from_s=T, until_s=T + 3_600, why=NO_READINGS),))
    assert of(readings[:1]).covered_s == 0
    watts = [Reading(at_s=T, watts=5), Reading(at_s=T + 60, counter_wh=7)]  # two that say nothing together
    assert of(watts, 0, 60) == Metered(
        joules=0, covered_s=0, gaps=(Gap(from_s=T, until_s=T + 60, why=NO_READINGS),)
    )


def test_a_counter_that_rolls_over_is_told_from_one_that_begins_anew() -> None:
    rolled = counter((0, 999_990_000), (60, 9_000), (120, 28_000))
    assert of(rolled, 0, 120, 10**9) == Metered(joules=(19_000 + 19_000) * 3_600, covered_s=120, gaps=())
    assert of(rolled, 0, 120).gaps == (Gap(from_s=T, until_s=T + 60, why=BEGAN_ANEW),)
    anew = counter((0, 500_000_000), (60, 9_000), (120, 28_000))  # half a billion Wh in a minute nobody draws
    found = of(anew, 0, 120, 10**9)
    assert (found.joules, found.covered_s) == (19_000 * 3_600, 60)
    assert found.gaps == (Gap(from_s=T, until_s=T + 60, why=BEGAN_ANEW),)


def test_what_no_meter_measures_is_not_energy() -> None:
    found = of(counter((0, 0), (60, 33_335), (120, 133_335)), 0, 120)  # 2,000 kW, and then 6,000 kW
    assert (found.joules, found.covered_s) == (33_335 * 3_600, 60)
    assert found.gaps == (Gap(from_s=T + 60, until_s=T + 120, why=BEYOND),)
    high = [Reading(at_s=T, watts=1), Reading(at_s=T + 60, watts=MAX_WATTS + 1)]
    assert of(high, 0, 60).gaps == (Gap(from_s=T, until_s=T + 60, why=BEYOND),)


def test_a_meter_that_says_the_same_for_an_hour_stands_still() -> None:
    hour = [Reading(at_s=T + 300 * it, watts=1_000_000, counter_wh=77) for it in range(13)]
    assert stands_still(hour)
    assert not stands_still(hour[1:])
    assert not stands_still([*hour[:-1], Reading(at_s=T + 3_600, watts=1_000_001, counter_wh=78)])
    assert not stands_still([Reading(at_s=T + 300 * it, watts=0) for it in range(20)])  # it is off
    assert stands_still([Reading(at_s=T + 300 * it, watts=0, counter_wh=5) for it in range(13)])


def test_the_error_of_a_count_is_never_less_than_the_exact_one() -> None:
    for shares in (1, 2, 3, 6, 10, 60, 360, 1_000, 10_000):
        high = float(poisson_interval(shares)[1])
        exact = 10_000 * (high - shares) / shares
        assert exact <= shares_error_bps(shares) <= max(1.3 * exact, exact + 50), shares
    assert shares_error_bps(0) == ERROR_BPS_MAX
    assert shares_error_bps(360) == 1_112  # of a machine's hour, a share in ten seconds: 11 %
    assert shares_error_bps(360 * 400) == 53  # of a container's
    assert together_bps(500, 1_000) == 1_550
    assert together_bps() == 0
