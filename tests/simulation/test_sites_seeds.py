"""Whatever goes wrong between edges, hubs and NATS servers, an acknowledged share is booked once, at the
price of its job, to the machine that found it. Only what had not left a lost disk may be gone with it.

A seed that is not clean is played again by the command that it prints.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.simulation.ground import Outcome
from tests.simulation.site_faults import SiteFaults
from tests.simulation.sites_world import play_sites

ROOT = Path(__file__).parent.parent.parent
SEEDS = (
    3  # each is two seconds of a processor: a fourth of what CI plays with `make simulation` are such worlds
)
SEEDS_OF_A_SOAK = 200


def again(outcome: Outcome) -> str:
    """How to see it, and what there is to be seen."""
    command = f"python -m tests.simulation --sites --seed {outcome.seed} --trace"
    return f"{command}\n{', '.join(outcome.faults)}\n{outcome.words}"


@cache
def played(seed: int) -> Outcome:
    """Once, for whoever asks about it."""
    return play_sites(seed)


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_books_have_what_the_miners_of_all_sites_were_told(seed: int) -> None:
    outcome = played(seed)
    assert outcome.clean, again(outcome)
    assert outcome.acknowledged > 0


@pytest.mark.simulation
def test_a_disk_of_the_servers_that_was_full_once_keeps_nothing_out_of_the_books() -> None:
    """NATS 2.15 stores nothing behind an error of its disk, until somebody starts it anew, and says so to
    nobody: the books stood still."""
    outcome = play_sites(0, kinds=((SiteFaults.disk_of_the_servers_is_full, 1),))
    assert outcome.clean, again(outcome)
    assert outcome.acknowledged > 0


@pytest.mark.soak
def test_two_hundred_worlds_of_sites_are_clean() -> None:
    bad = [again(outcome) for seed in range(SEEDS_OF_A_SOAK) if not (outcome := play_sites(seed)).clean]
    assert not bad, "\n".join(bad)


@pytest.mark.simulation
def test_a_world_of_sites_plays_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--sites", "--seed", "1"]
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outcome = played(1)
    assert outcome.faults
    assert outcome.course[:16] in done.stdout
