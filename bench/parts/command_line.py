"""How long the command line takes, from its start to its end, with the start of Python."""

import statistics
import time
from collections.abc import Iterable
from typing import Any, Final

from bench.part import Part, Section, table
from bench.servers import angara, pool

RUNS: Final = 7
COMMANDS: Final = (("--help",), ("version",), ("swarm", "--help"))
QUESTIONS: Final = (("tenant", "list"), ("worker", "list", "--tenant", "acme"), ("upstream", "list"))


def run() -> dict[str, Any]:
    with pool() as server:
        asked = ((*question, "--data-dir", str(server.directory)) for question in QUESTIONS)
        took = [_timed(it, it) for it in COMMANDS]
        took += [_timed(it[:-2], it) for it in asked]
    return {"commands": took}


def _timed(name: Iterable[str], command: tuple[str, ...]) -> dict[str, Any]:
    took_s = []
    for _ in range(RUNS):
        since_s = time.perf_counter()
        angara(*command)
        took_s.append(time.perf_counter() - since_s)
    return {
        "command": " ".join(name),
        "median_s": round(statistics.median(took_s), 3),
        "max_s": round(max(took_s), 3),
    }


def section(result: dict[str, Any]) -> Section:
    rows = [
        [f"`angara {it['command']}`", f"{it['median_s']:.2f}", f"{it['max_s']:.2f}"]
        for it in result["commands"]
    ]
    return Section(
        (
            f"Of {RUNS} runs each, with a pool that runs:\n",
            *table(("", "median, s", "longest, s"), rows),
        )
    )


PART: Final = Part(title="Command line", seconds=40, run=run, section=section)
