"""What a machine starts at when it comes back: a stranger cannot spoil it, and a wrong one does not last.

Two who want harm: one with much hash power that mines under a machine's name, so that the machine has no
share for hours; one with little that mines under the names of a dark site, so that all of it comes back at
the least difficulty and floods the pool. The figures are printed.
"""

import random
from statistics import median
from typing import Final

import pytest

from payouts.rates import Scheme
from pool.fleet.registry import Registry, Snapshot, TenantRecord, WorkerRecord
from pool.fleet.remembered_difficulty import DOWN_MINUTES, UP_MINUTES
from stratum.miners import vardiff
from stratum.miners.silent_machines import SHARES_PER_S_MAX, SilentMachines
from tests.stages.sessions import SessionStage
from tests.stratum.miners.test_vardiff import mine_for

SITE: Final = 22_400
AIM_S: Final = 6.0
RIGHT_LOG2: Final = 18
LEAST_LOG2: Final = 10


def a_site(machines: int) -> Registry:
    tenant = TenantRecord(id=1, name="acme", active=True, scheme=Scheme.PPS, fee_bps=0)
    workers = tuple(
        WorkerRecord(id=number, tenant_id=1, container_id=1, unit=f"u{number}", difficulty_log2=RIGHT_LOG2)
        for number in range(1, machines + 1)
    )
    return Registry(Snapshot((tenant,), (), workers))


def shares_per_s(registry: Registry) -> float:
    """Of all machines together, each as fast as it always was, at what they are remembered with."""
    return sum(2.0 ** (RIGHT_LOG2 - registry.remembered_log2(it)) / AIM_S for it in registry.workers)


@pytest.mark.simulation
@pytest.mark.parametrize("minutes", [1, 15, 45])
def test_a_slow_machine_under_the_names_of_a_dark_site_does_not_bring_it_back_as_a_flood(
    minutes: int,
) -> None:
    registry = a_site(SITE)
    for minute in range(minutes + 1):
        for worker in registry.workers:
            registry.note_difficulty(worker, minute, LEAST_LOG2, 1)
    flood = SITE * 2.0 ** (RIGHT_LOG2 - LEAST_LOG2) / AIM_S
    rate = shares_per_s(registry)
    print(f"after {minutes} minutes under every name: {rate:,.0f} shares/s at return, not {flood:,.0f}")
    assert rate == pytest.approx(SITE / AIM_S)
    assert registry.usual_log2(LEAST_LOG2) == RIGHT_LOG2


def mine(registry: Registry, minutes: range, log2: int) -> list[int]:
    """What machine 1 starts at after each of these minutes at one difficulty."""
    remembered = []
    for minute in minutes:
        registry.note_difficulty(1, minute, log2, 1)
        remembered.append(registry.remembered_log2(1))
    return remembered


def test_a_mighty_stranger_leaves_no_more_than_a_step_for_ten_minutes() -> None:
    registry = a_site(1)
    mine(registry, range(3 * UP_MINUTES + 5), RIGHT_LOG2 + 10)
    mine(registry, range(35, 36), RIGHT_LOG2 + 3)
    assert registry.remembered_log2(1) == RIGHT_LOG2 + 3
    remembered = mine(registry, range(36, 36 + DOWN_MINUTES + 1), RIGHT_LOG2)
    assert remembered[:-1] == [RIGHT_LOG2 + 3] * DOWN_MINUTES
    assert remembered[-1] == RIGHT_LOG2 + 2, "in time it is right again"


@pytest.mark.parametrize("parts", [1, 7, 1_000])
def test_a_minute_counts_once_however_often_the_journal_is_folded(parts: int) -> None:
    """A flood of shares makes folds frequent: a stranger must not gain time by it."""
    registry = a_site(1)
    for minute in range(UP_MINUTES):
        for part in range(parts):
            log2 = RIGHT_LOG2 + 10 if part == parts - 1 else RIGHT_LOG2  # at which most work is
            registry.note_difficulty(1, minute, log2, part + 1)
        assert registry.remembered_log2(1) == RIGHT_LOG2
    registry.note_difficulty(1, UP_MINUTES, RIGHT_LOG2, 1)
    assert registry.remembered_log2(1) == RIGHT_LOG2 + 1


# A machine comes back


START_LOG2: Final = -30  # of tests.test_vardiff: there a machine of rate 1 has one share an aim


def comes_back(seed: int, wrong_by: int) -> tuple[float, int]:
    """When its difficulty is within a factor of four of right, to stay there; its shares in ten minutes."""
    stage = SessionStage(start_log2=START_LOG2, silent=SilentMachines(AIM_S))
    stage.admission.remembered_log2["acme.c01.u1"] = START_LOG2 + wrong_by
    miner = stage.mining()
    rng, since_s, shares = random.Random(seed), None, 0
    start_s = stage.now_s
    while stage.now_s - start_s < 600:
        shares += mine_for(miner, 5.0, 1.0, rng)
        if abs(miner.session.difficulty.log2 - START_LOG2) > 2:
            since_s = None
        elif since_s is None:
            since_s = stage.now_s - start_s
    return (float("inf") if since_s is None else since_s), shares


@pytest.mark.parametrize(("wrong_by", "within_s"), [(10, 240.0), (3, 120.0), (0, 10.0)])
def test_a_machine_that_is_slower_than_remembered_is_heard_within_minutes(
    wrong_by: int, within_s: float
) -> None:
    """Ten powers of two too high is a share in 1.7 hours."""
    found_s = [comes_back(seed, wrong_by)[0] for seed in range(6)]
    print(f"2^{wrong_by} too high: right after {median(found_s):.0f} s, the last after {max(found_s):.0f} s")
    assert median(found_s) <= within_s


def test_a_firmware_that_connects_again_for_want_of_shares_goes_on_where_it_was() -> None:
    stage = SessionStage(start_log2=START_LOG2, silent=SilentMachines(AIM_S))
    stage.admission.remembered_log2["acme.c01.u1"] = START_LOG2 + 8
    for _ in range(4):
        miner = stage.mining()
        stage.advance(45)
        miner.hear()
        lowered = miner.session.difficulty.log2
        miner.leave()
    assert lowered <= START_LOG2 + 5
    miner = stage.mining()
    assert miner.session.difficulty.log2 == lowered
    miner.mine()
    miner.leave()
    assert stage.mining().session.difficulty.log2 == START_LOG2 + 8, (
        "it was heard: what is remembered is right"
    )


def test_a_site_that_is_silent_for_a_day_wakes_up_within_bounds() -> None:
    silent = SilentMachines(AIM_S)
    lowered = [0] * SITE
    for _ in range(5):  # nobody comes further down after that
        for machine in range(SITE):
            to = lowered[machine] + vardiff.unheard_step(lowered[machine])
            if silent.lower(machine + 1, RIGHT_LOG2, RIGHT_LOG2 - to):
                lowered[machine] = to
    rate = sum(2.0**steps for steps in lowered) / AIM_S
    print(f"{SITE:,} machines that were silent for a day: {rate:,.0f} shares/s when all wake up at once")
    assert rate <= SITE / AIM_S + SHARES_PER_S_MAX + 1
    assert silent.shares_per_s == pytest.approx(rate - SITE / AIM_S)
    for machine in range(SITE):
        silent.heard(machine + 1)
    assert silent.shares_per_s == pytest.approx(0.0, abs=1e-6)


def test_who_left_makes_room_for_who_is_here() -> None:
    silent = SilentMachines(AIM_S)
    machine = 0
    while silent.lower(machine + 1, RIGHT_LOG2, RIGHT_LOG2 - 10):
        machine += 1
    assert machine == int(SHARES_PER_S_MAX / (1023 / AIM_S))
    silent.left(1)
    assert silent.lower(machine + 1, RIGHT_LOG2, RIGHT_LOG2 - 10)
    assert silent.start_log2(1, RIGHT_LOG2) == RIGHT_LOG2
