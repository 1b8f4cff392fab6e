"""Each bug that is planted is found, and for what it is, by one of the first seeds."""

from typing import Final

import pytest

from tests.simulation.planted_bugs import PLANTED, VERDICTS, planted
from tests.simulation.world import SMALL, play

FIRST_SEEDS = 25
# What it was found by last is played first. Worlds change with what is played in them: then others find it.
FOUND_BY: Final = {
    "acknowledge_before_commit": 3,
    "reuse_an_extranonce": 8,
    "fold_twice": 4,
    "trim_too_early": 16,
}


@pytest.mark.simulation
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str) -> None:
    found: list[str] = []
    for seed in (FOUND_BY.get(name, 0), *range(FIRST_SEEDS)):
        with planted(name):
            found += [it.verdict for it in play(seed, SMALL).found]
        if VERDICTS[name] in found:
            return
    pytest.fail(f"{name} was found as {sorted(set(found)) or 'nothing'}")
