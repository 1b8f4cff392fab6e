"""A site's machines, whose latencies are told apart by phases: whoever runs it says when one is over.

    python -m bench.phases EDGE PORT MACHINES SHARES_PER_S

Prints a line when all mine, and one for each line that it reads: what was counted until then, since it began.
"""

import json
import selectors
import sys
import time

from pool.swarm._swarm import Swarm
from pool.swarm.load import TICK_S
from pool.swarm.profiles import PROFILES, spoken

PROFILE = "antminer"
CONNECTS_PER_S = 1_000.0
COUNTED = ("latency", "submitted", "connects", "lost", "in_flight", "verdicts")
ARRIVE_S_MAX = 120.0


def main(edge: str, port: int, machines: int, shares_per_s: float) -> None:
    host = "127.0.0.1"
    swarm = Swarm(
        host,
        port,
        [spoken(PROFILES[PROFILE], password="x", host=host, port=port, suggest_difficulty=None)],  # noqa: S106
        [(f"acme.{edge}.u{number:03}", 0, 0, False) for number in range(machines)],
        shares_per_s=shares_per_s / machines,
        hashrate_hps=0.0,
        closed_loop=False,
        hashing=0.5,
        connects_per_s=CONNECTS_PER_S,
        bad=0.0,
        late=0.0,
        tls=False,
        seed=1,
    )
    swarm.restore()
    give_up_s = time.monotonic() + ARRIVE_S_MAX
    while swarm.mining() < machines:
        if time.monotonic() > give_up_s:
            raise SystemExit(f"{swarm.mining()} of {machines} machines mine at {edge}")
        swarm.run(TICK_S)
    print(json.dumps(swarm.mining()), flush=True)
    swarm.submitting(True)
    swarm.measure()
    with selectors.DefaultSelector() as asked:
        asked.register(sys.stdin, selectors.EVENT_READ)
        while True:
            swarm.run(TICK_S)
            if asked.select(0):
                if not sys.stdin.readline():
                    return
                counted = swarm.snapshot()
                print(json.dumps({name: counted[name] for name in COUNTED}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
