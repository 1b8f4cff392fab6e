"""How fast a machine is: measured while it runs, remembered while it does not."""

from collections.abc import Sequence

import numpy as np
import pytest

from pool.orders.machine_speed import SILENT_AIMS, WARM_S, WINDOW_S, MachineSpeeds

FULL_HPS = 110e12


def speeds_after(
    speeds: MachineSpeeds, rates_hps: Sequence[float], *, from_s: int, minutes: int, age_s: float = 3.0
) -> float:
    found = 0.0
    for minute in range(1, minutes + 1):
        rate = rates_hps[min(minute, len(rates_hps)) - 1]
        found = float(speeds.update(np.array([rate]), np.array([age_s]), from_s + 60.0 * minute)[0])
    return found


def test_a_speed_is_the_mean_of_what_is_seen() -> None:
    speeds = MachineSpeeds(0.0)
    rng = np.random.default_rng(3)
    seen = FULL_HPS * rng.normal(1.0, 0.1, 120)
    assert speeds_after(speeds, list(seen), from_s=0, minutes=120) == pytest.approx(FULL_HPS, rel=0.03)


def test_a_new_machine_is_what_it_looks_like() -> None:
    speeds = MachineSpeeds(0.0)
    assert speeds_after(speeds, [FULL_HPS / 2], from_s=0, minutes=1) == pytest.approx(FULL_HPS / 2)
    assert speeds_after(speeds, [FULL_HPS], from_s=60, minutes=1) == pytest.approx(FULL_HPS)


def test_a_machine_that_was_silent_has_its_former_speed_at_once() -> None:
    speeds = MachineSpeeds(0.0)
    speeds_after(speeds, [FULL_HPS], from_s=0, minutes=60)
    assert speeds_after(speeds, [FULL_HPS / 2], from_s=3600, minutes=30, age_s=SILENT_AIMS * 6 + 1) == 0
    rising = [FULL_HPS * (1 - np.exp(-60 * minute / WINDOW_S)) for minute in range(1, 31)]
    assert speeds_after(speeds, rising, from_s=5400, minutes=1) == pytest.approx(FULL_HPS)
    assert speeds_after(speeds, rising[1:], from_s=5460, minutes=29) == pytest.approx(FULL_HPS, rel=0.01)


def test_a_change_that_cannot_be_chance_is_believed_when_the_machine_has_run_for_a_while() -> None:
    speeds = MachineSpeeds(0.0)
    warm_minutes = int(WARM_S / 60)
    speeds_after(speeds, [FULL_HPS], from_s=0, minutes=4 * warm_minutes)
    assert speeds_after(speeds, [FULL_HPS / 3], from_s=3600, minutes=1) == pytest.approx(FULL_HPS / 3)
    assert speeds_after(speeds, [FULL_HPS / 2.6], from_s=3660, minutes=1) > FULL_HPS / 3


def test_a_worker_that_never_found_a_share_is_silent() -> None:
    assert speeds_after(MachineSpeeds(0.0), [0.0], from_s=0, minutes=5, age_s=np.inf) == 0
