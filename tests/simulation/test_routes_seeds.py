"""Whatever orders, terms and other pools do, a machine comes to where it belongs, and each share is counted
once, for the work that it was done on.

`python -m tests.simulation --routes --seed SEED --trace` says all that happened.
"""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stratum.miners.channel import Moved
from tests.simulation.routes_auditor import play_routes

ROOT = Path(__file__).parents[2]
SEEDS = (4, 10)  # each is four seconds of a processor: CI plays ten with `make simulation`
SEEDS_OF_A_SOAK = 300


@pytest.mark.simulation
def test_every_share_is_counted_once_where_its_machine_was_sent() -> None:
    """And machines are moved in every way, those of Stratum V2 too, whatever their proxies make of it."""
    moved, taken, proxies = Counter[Moved](), 0, Counter[tuple[bool, bool]]()
    for seed in SEEDS:
        world = play_routes(seed)
        assert not world.found, f"seed {seed}: {', '.join(map(str, world.found))}"
        moved += world.placement.moved
        taken += sum(len(pool.counted) for pool in world.pools.values())
        for it in world.proxies:
            proxies[it.manners.least is None, it.manners.follows] += len(it.accepted_s)
    assert set(moved) == set(Moved)
    assert taken > 0
    assert set(+proxies) == {(True, True), (False, True), (False, False)}


@pytest.mark.soak
def test_three_hundred_seeds_are_clean() -> None:
    bad = {seed: world.found for seed in range(SEEDS_OF_A_SOAK) if (world := play_routes(seed)).found}
    assert not bad


@pytest.mark.simulation
def test_the_command_plays_it_the_same_in_another_process() -> None:
    command = [sys.executable, "-m", "tests.simulation", "--routes", "--seed", "1", "--trace"]
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:-1] == play_routes(1).course
