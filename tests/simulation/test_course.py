"""A seed plays the same each time, in this process and in another: what was found can be looked at."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.simulation.ground import Outcome
from tests.simulation.world import SMALL, play

ROOT = Path(__file__).parent.parent.parent
SEED = 3  # a kill, a clock that steps, lines that are cut


@cache
def played() -> Outcome:
    """Once, for whoever asks about it."""
    return play(SEED, SMALL)


def test_the_same_seed_plays_the_same() -> None:
    first, second = played(), play(SEED, SMALL)
    assert first.trace == second.trace
    assert len(first.trace) > 50
    assert first.faults
    assert play(SEED + 1, SMALL).course != first.course


def test_the_command_plays_it_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(SEED)]
    environment = os.environ | {"PYTHONHASHSEED": "77"}  # sets of words are gone through in another order
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert played().course[:16] in done.stdout
