"""Machines of Stratum V2 that all come back at once, and what machines of V1 beside them notice of it.

Each handshake is three multiplications on the curve, some tenths of a millisecond of the pool's one core. The
machines of V2 are clients of our own, which pay as much: they share this machine's cores with the pool and
the machines of V1, at a lower priority, since those of a site do not take the pool's cores away.
"""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from bench.machines import Machines
from bench.part import Part, Section, table
from bench.servers import (
    NO_BLOCKS,
    ROOT,
    TEMPLATE_TXS,
    RunningPool,
    angara,
    cpu_s,
    free_port,
    is_mining,
    regtest,
    running,
    temporary_directory,
    wait_for,
)
from pool.swarm.load_report import spread

MACHINES: Final = 5_000
SHARES_PER_S: Final = 500.0
ARRIVE_PER_S: Final = 1_000.0
OTHERS: Final = 1_000  # of V1
OTHERS_SHARES_PER_S: Final = 500.0
CUTS: Final = 5
NICE: Final = 10
CALM_S: Final = 30.0
SETTLES_S: Final = 15.0
PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}


@contextmanager
def _begun() -> Iterator[tuple[RunningPool, int]]:
    """A pool that speaks both, and its port of V2."""
    with temporary_directory() as directory:
        (directory / "node").mkdir()
        angara("sv2", "key", directory / "authority.key")
        options = ("--template-txs", str(TEMPLATE_TXS), "--network-bits", NO_BLOCKS)
        port = free_port()
        more = f'[stratum.sv2]\nlisten = ["127.0.0.1:{port}"]\nauthority_file = "authority.key"\n'
        with (
            regtest(directory / "node", *options) as (node, cookie),
            running(directory, node, cookie, more=more) as it,
        ):
            angara("tenant", "add", "acme", "--data-dir", directory)
            wait_for(lambda: is_mining(it.port, "acme"))
            yield it, port


class Sv2Machines:
    """bench.sv2_machines."""

    def __init__(self, port: int) -> None:
        said = str(port), str(MACHINES), str(SHARES_PER_S), str(ARRIVE_PER_S)
        self._process = subprocess.Popen(
            ["nice", "-n", str(NICE), sys.executable, "-m", "bench.sv2_machines", *said],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def told(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("the machines of Stratum V2 have ended")
        return json.loads(line)

    def cut(self) -> Any:
        """All of them; how they mined until now. `told` says when they are back."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self.told()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def _phase(latency: Counter[int], lost: int) -> dict[str, Any]:
    return {"ack_ms": spread(sorted(latency.items())), "lost": lost}


def run() -> dict[str, Any]:
    with _begun() as (server, port):
        others = Machines("others", server.port, OTHERS, OTHERS_SHARES_PER_S)
        machines = Sv2Machines(port)
        try:
            others.arrived()
            arrived = machines.told()
            time.sleep(SETTLES_S)
            others.counted()
            time.sleep(CALM_S)
            before = _phase(*others.counted())
            during: Counter[int] = Counter()
            lost, backs, mined, used_s = 0, [], [], []
            for _ in range(CUTS):
                others.counted()
                cpu_before_s = cpu_s(server.process)
                mined.append(machines.cut())
                backs.append(machines.told())
                used_s.append(cpu_s(server.process) - cpu_before_s)
                latency, more_lost = others.counted()
                during += latency
                lost += more_lost
                time.sleep(SETTLES_S)
            others.counted()
            time.sleep(CALM_S)
            after = _phase(*others.counted())
        finally:
            machines.end()
            others.end()
    return {
        "machines": MACHINES,
        "others": OTHERS,
        "nice": NICE,
        "arrived": arrived,
        "backs": backs,
        "mined": mined,
        "pool_cpu_s": used_s,
        "phases": {"before": before, "during": _phase(during, lost), "after": after},
    }


def section(result: dict[str, Any]) -> Section:
    phases, backs = result["phases"], result["backs"]
    before = phases["before"]["ack_ms"]
    rows = [
        [f"{words} while they come back / before", *(f"{phases['during']['ack_ms'][key] / before[key]:.2f}",)]
        for key, words in PERCENTILES.items()
    ]
    told = [
        [name, *(f"{it['ack_ms'][key]:.0f}" for key in PERCENTILES), it["lost"]]
        for name, it in phases.items()
    ]
    # Not of results that were measured when they had as much of it as all others.
    left = "Those of V2 have the processor that is left. " if result.get("nice") else ""
    last = ", ".join(f"{it['back_after_s']['all']:.1f}" for it in backs)
    missing = sum(result["machines"] - it["mining"] for it in backs)
    each_ms = sum(result["pool_cpu_s"]) / len(backs) / result["machines"] * 1_000
    return Section(
        (
            f"{result['machines']:,} machines of Stratum V2, one standard channel each, are cut off "
            f"together and come back at once, {len(backs)} times; {result['others']:,} of V1 mine beside "
            f"them. {left}The last one has work after {last} s"
            + ("" if missing == 0 else f", and {missing} were not back in time")
            + f". The pool uses {each_ms:.2f} ms of CPU for each of them meanwhile, with all else that it "
            "does.\n",
            *table(("Machines of V1", "ratio"), rows),
            "",
            *table(("ms until a share of V1 is answered", *PERCENTILES.values(), "lost"), told),
        )
    )


PART: Final = Part(title="Stratum V2: everybody at once", seconds=320, run=run, section=section)
