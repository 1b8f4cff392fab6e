"""For how long a machine is silent until that is no chance: by its work while it mined."""

import random
from fractions import Fraction

import numpy as np
import pytest

from payouts.rates import HASHES_PER_DIFFICULTY
from pool.books.store import Store
from pool.power.curtailment.baseline import hashes_in_parts
from pool.power.curtailment.candidates import candidates, hour_before
from pool.power.curtailment.pace import PROOF_S_MAX, PROOF_S_MIN, Pace, pace_of, proof_s
from pool.power.energy.nameplates import NewNameplate, set_nameplates
from tests.histories.power import NOW_S, add_container, mined_in_minute

LAST = NOW_S // 60 - 3  # the newest minute that counts


@pytest.mark.parametrize(
    ("shares", "seconds", "proof"),
    [(600, 3_600, 66), (1_200, 3_600, 45), (60, 3_600, 608), (50, 300, 71), (1, 3_600, 900), (0, 3_600, 900)],
)
def test_silence_is_proof_when_chance_would_be_one_in_ten_thousand(
    shares: int, seconds: int, proof: int
) -> None:
    assert PROOF_S_MIN <= proof_s(Pace(float(shares), seconds)) == proof <= PROOF_S_MAX


@pytest.mark.parametrize("minutes", [2, 5, 20, 60])
@pytest.mark.parametrize("wait_s", [5.0, 20.0])
def test_of_ten_thousand_machines_that_mine_on_a_few_are_silent_for_so_long(
    minutes: int, wait_s: float
) -> None:
    """Whatever their pace was by chance while it was taken."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    shares = np.random.default_rng(seed).poisson(minutes * 60 / wait_s, 100_000)
    counts = np.bincount(shares)
    waits = [proof_s(Pace(float(it), minutes * 60)) for it in range(len(counts))]
    believed = np.exp(-np.array(waits) / wait_s) @ counts  # by chance, of a hundred thousand
    assert believed <= 10 * 2


def test_easy_shares_of_the_first_minute_promise_no_hard_ones() -> None:
    """A pool begins low and finds the difficulty of a machine within its first minute."""
    work = {10: 4_096, 16: 40}
    assert pace_of(work, work, 300) == Pace(104.0, 300)
    assert proof_s(pace_of({10: 4_096}, {10: 4_096}, 300)) == PROOF_S_MIN


def test_a_machine_that_mined_for_five_minutes_is_proven_like_one_of_an_hour(store: Store) -> None:
    with store.write() as connection:
        new, old, rare, pumped = add_container(connection, "acme.c01", 4)
        plate = NewNameplate(container="acme.c01", hashrate_ghs=47_000, watts=1_400, error_bps=500)
        set_nameplates(connection, [plate], by="olga", now_s=NOW_S - 7_200)
        for minute in range(NOW_S // 60 - 60, LAST + 1):
            mined = {old: 10}
            if minute > LAST - 5:
                mined |= {new: 10, pumped: 200}
            if (LAST - minute) % 12 == 0:
                mined[rare] = 1
            mined_in_minute(connection, minute, mined)
    with store.read() as connection:
        found = {it.worker: it.pace for it in candidates(connection, "Bratsk", NOW_S)}
        hour = hour_before(connection, "Bratsk", NOW_S)
        again = candidates(connection, "Bratsk", NOW_S + 59 - NOW_S % 60, before=hour)
        assert again == candidates(connection, "Bratsk", NOW_S)
    assert hour.is_of("Bratsk", NOW_S)
    assert not hour.is_of("Bratsk", NOW_S + 60)  # which has another minute
    assert not hour.is_of("", NOW_S)
    assert found[new] == Pace(50.0, 300)
    assert proof_s(found[new]) == 71
    assert proof_s(found[old]) == 66
    assert proof_s(found[rare]) == PROOF_S_MAX  # of whom a minute without a share is no minute off
    # Who has another machine work for it beforehand is believed its nameplate, and no quicker pace.
    assert found[pumped].shares <= 47e12 * 300 / 2**48 * 1.4


def test_work_is_so_many_hashes_exactly() -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    dice = random.Random(seed)
    for _ in range(100):
        work = {dice.randint(-22, 60): dice.randint(0, 10_000) for _ in range(dice.randint(0, 4))}
        parts, a_part = hashes_in_parts(work)
        difficulty = sum((Fraction(2) ** log2 * it for log2, it in work.items()), Fraction(0))
        assert Fraction(parts, a_part) == difficulty * HASHES_PER_DIFFICULTY
