"""Vardiff by simulation: it converges, it stays, it follows, and only accepted shares count.

Rates are in units of the aim: at a rate of 1 the machine finds the share that we want every 6 s.
"""

import functools
import itertools
import random
from statistics import median

import pytest

from stratum.miners import vardiff
from stratum.miners.vardiff import History, VardiffPolicy, ladder_step, moved, retarget, steady_step
from tests.judges.vardiff_simulation import HOUR_S, POLICY, Run, simulate
from tests.stages.sessions import Miner, SessionStage

pytestmark = pytest.mark.simulation

SEEDS = 300


# A machine connects, and the start is wrong by this factor.


@functools.cache
def first_minutes(rate: float, seeds: int = SEEDS) -> list[Run]:
    return [simulate(seed, rate, for_s=300.0) for seed in range(seeds)]


@pytest.mark.parametrize(
    ("rate", "converged", "half_s"),
    [(1000.0, 0.99, 5.0), (30.0, 0.95, 10.0), (1.0, 0.99, 0.0), (1 / 30, 0.95, 40.0), (1 / 1000, 0.95, 60.0)],
)
def test_converges_within_two_minutes(rate: float, converged: float, half_s: float) -> None:
    settled_s = [run.settled_s() for run in first_minutes(rate)]
    assert sum(at_s <= 120 for at_s in settled_s) >= converged * SEEDS
    assert median(settled_s) <= half_s


@pytest.mark.parametrize("rate", [1000.0, 30.0, 1.0, 1 / 30, 1 / 1000])
def test_nobody_is_off_by_a_factor_of_four_for_long(rate: float) -> None:
    settled_s = sorted(run.settled_s(0.25, 4.0) for run in first_minutes(rate))
    assert settled_s[-2] <= 80
    assert settled_s[-1] <= 120


@pytest.mark.parametrize("rate", [1000.0, 300.0, 100.0, 10.0])
def test_few_shares_are_spent_on_finding_out(rate: float) -> None:
    """A thousand times too low is 167 shares a second, and other work comes after a second at most."""
    for run in first_minutes(rate):
        assert run.shares <= rate / POLICY.aim_s * 2.1 + 120, "and then five minutes as it should be"


def test_a_million_times_too_low_takes_two_steps() -> None:
    for seed in range(3):
        run = simulate(seed, 1e6, for_s=30.0)
        assert run.settled_s() <= 10
        assert next(by for _, by in run.moves) == vardiff.STEP_UP_MAX


@pytest.mark.parametrize("aim_s", [2.0, 20.0, 60.0])
@pytest.mark.parametrize("rate", [1000.0, 1.0, 1 / 1000])
def test_another_aim_converges_in_two_minutes_or_in_twenty_aims(aim_s: float, rate: float) -> None:
    policy = VardiffPolicy(aim_s=aim_s, difficulty_log2_min=-31, difficulty_log2_max=31)
    within_s = max(120.0, 20 * aim_s)
    runs = [simulate(seed, rate, for_s=2.5 * within_s, policy=policy) for seed in range(100)]
    assert sum(run.settled_s() <= within_s for run in runs) >= 0.93 * 100


# Steady state.


@functools.cache
def a_day() -> list[Run]:
    """Every hash rate between two powers of two, from an hour after the connect."""
    rates = [0.5 * 4 ** (step / 16) for step in range(16)]
    return [simulate(seed, rate, for_s=25 * HOUR_S) for seed, rate in enumerate(rates)]


def test_in_steady_state_the_mean_interval_is_half_to_twice_the_aim() -> None:
    for run in a_day():
        assert 0.5 <= run.rates[-1][1] <= 2.0
    in_time = [run.settled_s() <= HOUR_S for run in a_day()]
    assert sum(in_time) >= 0.95 * len(in_time)


def test_no_oscillation_in_24_hours() -> None:
    """A move is never taken back and made again, and most sessions never move."""
    patterns = [run.directions(after_s=HOUR_S) for run in a_day()]
    assert max(len(pattern) for pattern in patterns) <= 2
    assert sum(pattern == "" for pattern in patterns) >= 0.85 * len(patterns)
    assert not [pattern for pattern in patterns if "+-+" in pattern or "-+-" in pattern]


def test_hysteresis_is_wider_than_a_step() -> None:
    assert vardiff.RATE_HIGH / 2 > vardiff.RATE_LOW
    assert vardiff.RATE_LOW * 2 < vardiff.RATE_HIGH


# The machine changes.


@pytest.mark.parametrize(
    ("before", "after", "within_s", "share_of_runs"),
    [
        (1.0, 2.1, 0.75 * HOUR_S, 1.0),  # from eco mode to full power
        (1.0, 4.0, 0.25 * HOUR_S, 1.0),
        (1.0, 1000.0, 60.0, 1.0),
        (1.0, 0.45, 2 * HOUR_S, 0.9),
        (1.0, 0.33, 1 * HOUR_S, 1.0),  # one board of three is left
        (1.0, 0.1, 1 * HOUR_S, 0.95),
    ],
)
def test_a_hash_rate_that_changes_is_followed(
    before: float, after: float, within_s: float, share_of_runs: float
) -> None:
    followed = 0
    for seed in range(20):
        change_s = random.Random(seed).uniform(HOUR_S, 3 * HOUR_S)
        run = simulate(
            seed, before, for_s=change_s + within_s + HOUR_S, changes=((change_s, after),), steady=True
        )
        followed += run.settled_s() - change_s <= within_s
    assert followed >= share_of_runs * 20


def test_the_past_does_not_hide_the_present() -> None:
    """After a day at one rate a machine at a third of it is noticed as soon as after an hour."""
    for seed in range(5):
        run = simulate(seed, 1.0, for_s=26 * HOUR_S, changes=((24 * HOUR_S, 0.3),), steady=True)
        assert run.settled_s() - 24 * HOUR_S <= HOUR_S


@pytest.mark.parametrize("rest_s", [600.0, 8 * HOUR_S])
def test_a_site_that_stood_still_does_not_come_back_at_the_lowest_difficulty(rest_s: float) -> None:
    """Curtailed machines stay connected and find nothing; all of them wake up at once."""
    lost = []
    for seed in range(50):
        stop_s = random.Random(seed).uniform(600, HOUR_S)
        wake_s = stop_s + rest_s
        run = simulate(seed, 1.0, for_s=wake_s + 300, changes=((stop_s, 0.0), (wake_s, 1.0)), steady=True)
        _, at_wake = next(entry for entry in run.rates if entry[0] >= wake_s)
        lost.append(at_wake)
        assert at_wake <= 16
    assert sum(rate <= 2 for rate in lost) >= 0.85 * 50


# One retarget at a time.


def after(history: History, shares: int, now_s: float, policy: VardiffPolicy = POLICY) -> int:
    wanted_log2, _ = retarget(policy, history, difficulty_log2=0, floor_log2=None, shares=shares, now_s=now_s)
    return wanted_log2


NEW = History(from_s=0.0)
STEADY = History(from_s=0.0, steady=True)


@pytest.mark.parametrize(
    ("history", "shares", "elapsed_s", "by"),
    [
        (NEW, 0, 0.0, 0),
        (NEW, 0, 8.9, 0),
        (NEW, 0, 9.0, -vardiff.SILENT_STEP_DOWN),
        (NEW, 7, 0.1, 0),  # too few to say
        (NEW, 8, 0.0, 0),  # no time has passed: nothing to divide by
        (NEW, 8, 0.1, 9),
        (NEW, 8, 1e-9, vardiff.STEP_UP_MAX),
        (NEW, 8, 48.0, 0),  # just right
        (NEW, 8, 24.0, 1),
        (NEW, 1, 60.0, -3),
        (STEADY, 0, 1e6, 0),  # a machine that stands still is not slow
        (STEADY, 8, 0.1, 0),  # a burst
        (STEADY, 24, 0.1, vardiff.STEP_UP_MAX),
        (STEADY, 100, 600.0, 0),
        (STEADY, 130, 600.0, 0),  # by chance
        (STEADY, 300, 600.0, 2),
        (STEADY, 30, 600.0, -2),
        (STEADY, 1, 1e6, -vardiff.STEADY_STEP_DOWN_MAX),
    ],
)
def test_one_retarget(history: History, shares: int, elapsed_s: float, by: int) -> None:
    assert after(history, shares, elapsed_s) == by


def test_the_ladder_counts_everything_since_the_connect() -> None:
    """A hundred times too low for 2 s: the 33 shares say at once where to go, and later silence little."""
    history = moved(POLICY, NEW, difficulty_log2=0, shares=33, now_s=2.0)
    history = moved(POLICY, history, difficulty_log2=7, shares=0, now_s=8.0)
    assert (history.earlier_shares, round(history.earlier_expected, 3)) == (33, 0.341)
    for now_s, wanted_log2 in ((20.0, 7), (60.0, 6)):
        assert (
            retarget(POLICY, history, difficulty_log2=7, floor_log2=None, shares=0, now_s=now_s)[0]
            == wanted_log2
        )


def test_after_twelve_aims_at_one_difficulty_a_session_is_settled() -> None:
    for elapsed_s, steady in ((71.0, False), (72.0, True)):
        _, history = retarget(POLICY, NEW, difficulty_log2=0, floor_log2=None, shares=12, now_s=elapsed_s)
        assert history.steady is steady


def test_a_machine_that_is_another_one_climbs_the_ladder_again() -> None:
    _, history = retarget(POLICY, STEADY, difficulty_log2=0, floor_log2=None, shares=24, now_s=0.1)
    assert not history.steady
    _, history = retarget(POLICY, STEADY, difficulty_log2=0, floor_log2=None, shares=200, now_s=600.0)
    assert history.steady, "one step is not another machine"


@pytest.mark.parametrize(
    ("floor_log2", "wanted_log2"), [(None, -3), (-10, -3), (-1, -1), (0, 0), (5, 5), (99, 8)]
)
def test_never_outside_the_range_nor_below_what_the_miner_asked(
    floor_log2: int | None, wanted_log2: int
) -> None:
    policy = VardiffPolicy(difficulty_log2_min=-3, difficulty_log2_max=8)
    wanted, _ = retarget(policy, NEW, difficulty_log2=0, floor_log2=floor_log2, shares=0, now_s=60.0)
    assert wanted == wanted_log2
    wanted, _ = retarget(policy, NEW, difficulty_log2=0, floor_log2=None, shares=500, now_s=0.1)
    assert wanted == 8


def test_at_the_end_of_the_range_a_session_settles_and_wakes_up_quickly() -> None:
    policy = VardiffPolicy(difficulty_log2_min=0, difficulty_log2_max=31)
    history = NEW
    for now_s in range(5, 3600, 5):
        wanted_log2, history = retarget(
            policy, history, difficulty_log2=0, floor_log2=None, shares=0, now_s=float(now_s)
        )
        assert wanted_log2 == 0
    wanted_log2, _ = retarget(policy, history, difficulty_log2=0, floor_log2=None, shares=30, now_s=3597.0)
    assert wanted_log2 >= 5


def test_looks_get_rarer_but_not_too_rare() -> None:
    due = [vardiff.next_retarget(0)]
    while due[-1] < 5_000:
        due.append(vardiff.next_retarget(due[-1]))
    assert due[:6] == [8, 16, 32, 64, 128, 256]
    assert max(later - earlier for earlier, later in itertools.pairwise(due)) == 256


@pytest.mark.parametrize("step", [ladder_step, steady_step])
def test_more_shares_never_mean_an_easier_difficulty(step: object) -> None:
    assert callable(step)
    for expected in (0.0, 0.01, 1.0, 5.0, 20.0, 300.0):
        moves = [step(shares, expected) for shares in range(1, 1000)]
        assert moves == sorted(moves)


# Through real sessions and the engine's own counters.


def mine_for(miner: Miner, seconds: float, rate_at_start: float, rng: random.Random) -> int:
    """A machine on the stage, with `rate_at_start` at the difficulty of START_LOG2; its shares."""
    stage, end_s, shares = miner.stage, miner.stage.now_s + seconds, 0
    while True:
        log2 = miner.session.difficulty.log2
        rate = rate_at_start / 2.0 ** (log2 - START_LOG2) / POLICY.aim_s
        wait_s = rng.expovariate(rate)
        # To the share, or to the difficulty that comes before it: then the wait starts anew, as it may.
        step_s = min(wait_s, 0.5, end_s - stage.now_s)
        if step_s <= 0:
            return shares
        stage.advance(step_s)
        miner.hear()
        if step_s == wait_s and miner.session.difficulty.log2 == log2:
            shares += 1
            assert miner.mine()["result"] is True


START_LOG2 = -30


@pytest.mark.parametrize(
    ("start_log2", "rate"), [(-30, 1000.0), (-20, 1 / 1000)], ids=["1,000 too low", "1,000 too high"]
)
def test_a_session_converges_on_the_engines_counts(start_log2: int, rate: float) -> None:
    stage = SessionStage(start_log2=start_log2)
    miner = stage.mining()
    rng = random.Random(7)
    at_start = rate * 2.0 ** (start_log2 - START_LOG2)
    spent = mine_for(miner, 120.0, at_start, rng)
    final_rate = at_start / 2.0 ** (miner.session.difficulty.log2 - START_LOG2)
    assert 0.5 <= final_rate <= 2.0
    assert spent <= 500
    assert stage.engine.counters(miner.session.slot)[0] == spent


def test_a_session_stays_where_it_is_right() -> None:
    stage = SessionStage(start_log2=START_LOG2)
    stage.admission.remembered_log2["acme.c01.u1"] = START_LOG2
    miner = stage.mining()
    mine_for(miner, 2 * HOUR_S, 1.0, random.Random(1))
    assert miner.session.difficulty.log2 == START_LOG2


def test_rejected_shares_are_never_counted() -> None:
    """Ten rejected shares of each kind a second would look a hundred times too fast."""
    stage = SessionStage(start_log2=START_LOG2)
    stage.admission.remembered_log2["acme.c01.u1"] = -26
    miner = stage.mining()
    duplicate = miner.share()
    assert miner.submit(*duplicate)["result"] is True
    low = miner.share(hit=False)
    for _ in range(300):
        for share in (duplicate, low, ("acme.c01.u1", "1", "00" * 8, "00", "00"), ("acme.c01.u1",)):
            miner.ask("mining.submit", *share)
        stage.judge()
        miner.hear()
        stage.advance(0.1)
    assert stage.engine.counters(miner.session.slot) == (1, 1200, 1)
    assert miner.session.difficulty.pending_log2 is None
    assert miner.session.difficulty.log2 == -26


def test_shares_of_jobs_before_a_retarget_do_not_count_at_the_new_difficulty() -> None:
    stage = SessionStage(start_log2=START_LOG2)
    miner = stage.mining()
    old = miner.job
    miner.ask("mining.suggest_difficulty", 2.0**-24)
    stage.serve_waiting()
    miner.hear()
    for _ in range(50):
        assert miner.mine(job=old, difficulty_log2=START_LOG2)["result"] is True
    stage.advance(0.5)
    assert stage.engine.counters(miner.session.slot) == (50, 0, 0)
    assert miner.session.difficulty.pending_log2 is None
