"""Whatever goes wrong, an acknowledged share is booked once, at the difficulty and the price of its job.

A seed that is not clean is played again by the command that it prints.
"""

import pytest

from tests.simulation.world import LARGE, SMALL, Outcome, play

SEEDS = 4  # each is a second of a processor: CI plays fifty with `make simulation`
SEEDS_OF_A_SOAK = 1_000
LARGE_WORLDS = 5  # of up to two hundred machines


def again(outcome: Outcome, *options: str) -> str:
    """How to see it, and what there is to be seen."""
    command = ("python -m tests.simulation", "--seed", str(outcome.seed), *options, "--trace")
    return f"{' '.join(command)}\n{', '.join(outcome.faults)}\n{outcome.words}"


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_books_have_what_the_miners_were_told(seed: int) -> None:
    outcome = play(seed, SMALL)
    assert outcome.clean, again(outcome)
    assert outcome.acknowledged > 0


@pytest.mark.soak
def test_a_thousand_seeds_are_clean() -> None:
    bad = [again(outcome) for seed in range(SEEDS_OF_A_SOAK) if not (outcome := play(seed, SMALL)).clean]
    assert not bad, "\n".join(bad)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(LARGE_WORLDS))
def test_two_hundred_machines_are_no_other_than_two(seed: int) -> None:
    outcome = play(seed, LARGE)
    assert outcome.clean, again(outcome, "--large")
