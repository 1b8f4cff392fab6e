"""Strangers below every limit, for minutes, against the real pool in a process of its own: what a good miner
feels, beside what the same flood costs him when it is for somebody else on the same machine.
"""

import pytest

from bench.flood import FLOODS, in_turn, words

SECONDS = 60
ROUNDS = 3
TIMES = 2  # the promise
NOISE_MS = 20  # of a shared machine: a commit


@pytest.mark.soak
@pytest.mark.parametrize("kind", FLOODS)
def test_a_good_miners_p99_at_most_doubles_under_a_flood(kind: str) -> None:
    alone, beside, flooded = in_turn(kind, SECONDS, ROUNDS)
    print(f"{kind}:\n  alone   {words(alone)}\n  beside  {words(beside)}\n  flooded {words(flooded)}")
    assert flooded["p99"] <= TIMES * beside["p99"] + NOISE_MS
