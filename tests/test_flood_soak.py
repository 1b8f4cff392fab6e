"""Strangers below every limit, for minutes, against the real pool in a process of its own: what a good miner
feels. Who comes and goes by the thousand is bounded otherwise, and measured in bench/flood.py.
"""

import pytest

from bench.__main__ import build_load, load, pool
from bench.flood import flooding

SECONDS = 60
GOOD = ("--sessions", 100, "--rate", 100, "--warmup", 2, "--seconds", SECONDS)
TIMES = 2  # the promise
NOISE_MS = 20  # of a shared machine, on which the flood has the second core


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["pings", "rejects", "half_open"])
def test_a_good_miners_p99_at_most_doubles_under_a_flood(kind: str) -> None:
    build_load()
    with pool() as (_, port):
        alone = load(port, *GOOD)["ack_ms"]
        with flooding(kind, port):
            flooded = load(port, *GOOD)
    print(f"{kind}: p99 {alone['p99']:.1f} ms alone, {flooded['ack_ms']['p99']:.1f} ms flooded")
    assert flooded["accepted"] > 0.99 * 100 * SECONDS
    assert flooded["ack_ms"]["p99"] <= TIMES * alone["p99"] + NOISE_MS
