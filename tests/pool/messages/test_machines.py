"""Machines that an outage took and did not give back."""

import numpy as np
import pytest

from pool.fleet.hashrate import OFFLINE_S
from pool.messages.machines import RETURN_LOOKS, Gone, Machines

NOW_S = 1_790_000_000.0
DAY_S = 86_400.0
NEVER = np.inf


class Park:
    """Two containers of a hundred machines each, a look a minute."""

    def __init__(self, booked: dict[int, int] | None = None) -> None:
        self.machines = Machines(booked or {})
        self.now_s = NOW_S
        self.workers = np.arange(1, 201)
        self.containers = np.repeat([7, 8], 100)
        self.ages_s = np.full(200, NEVER)
        self.unheard = np.zeros(200, dtype=bool)
        self.told: list[Gone] = []

    def minutes(self, count: int, *silent: range) -> None:
        for _ in range(count):
            self.now_s += 60.0
            self.ages_s += 60.0
            works = np.ones(200, dtype=bool)
            for it in silent:
                works[it.start - 1 : it.stop - 1] = False
            self.ages_s[works] = 3.0
            self.usual, self.mining, gone = self.machines.look(
                self.workers, self.containers, self.ages_s, self.now_s, self.unheard
            )
            self.told += gone


def test_who_did_not_come_back_is_told_once_with_the_others_that_did_not() -> None:
    park = Park()
    park.minutes(60)
    park.minutes(90, range(1, 101))
    assert not park.told, "it is still an outage"
    park.minutes(RETURN_LOOKS, range(41, 44))
    assert not park.told, "they boot"
    park.minutes(300, range(41, 44))
    assert park.told == [Gone(7, 100, (41, 42, 43))]


def test_who_was_away_before_the_outage_is_not_missed_after_it() -> None:
    park = Park()
    park.minutes(60)
    park.minutes(120, range(1, 11))
    park.minutes(30, range(1, 101))
    park.minutes(60, range(1, 12))
    assert park.told == [Gone(7, 90, (11,))]


def test_all_who_come_back_are_nothing_to_tell() -> None:
    park = Park()
    park.minutes(60)
    park.minutes(90, range(1, 201))
    park.minutes(60)
    assert not park.told


def test_of_whom_nothing_is_known_when_an_outage_is_over_is_not_gone() -> None:
    """A container with machines at two edges: its power fails, and then one edge's line."""
    park = Park()
    park.minutes(60)
    park.minutes(10, range(1, 101))
    park.unheard[60:100] = True
    park.minutes(RETURN_LOOKS + 10, range(58, 101))
    assert park.told == [Gone(7, 100, (58, 59, 60))]


def test_a_single_machine_that_fails_is_no_outage() -> None:
    park = Park()
    park.minutes(60)
    park.minutes(300, range(5, 6))
    assert not park.told


@pytest.mark.parametrize("stopped_s", [60.0, 3 * DAY_S])
def test_a_start_of_the_pool_is_the_end_of_an_outage(stopped_s: float) -> None:
    """The books have their last shares, give or take ten minutes, and one machine that went a day before."""
    stop_s = int(NOW_S - stopped_s)
    park = Park({number: stop_s - number % 600 for number in range(1, 201)} | {100: stop_s - 86_400})
    park.minutes(60, range(40, 42), range(100, 101))
    assert park.told == [Gone(7, 99, (40, 41))]


def test_a_machine_is_usual_for_a_day_and_mines_for_minutes() -> None:
    park = Park()
    park.minutes(10)
    park.minutes(int(OFFLINE_S // 60), range(1, 101))
    assert (int(park.usual.sum()), int(park.mining.sum())) == (200, 100)
    park.minutes(24 * 60 + 10, range(1, 101))
    assert (int(park.usual.sum()), int(park.mining.sum())) == (100, 100)
