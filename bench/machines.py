"""Machines in a process of their own (bench.phases), whose latencies are told apart by phases."""

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from bench.servers import ROOT


class Machines:
    """`name` is their edge, or their container; `shares_per_s` are of all of them."""

    def __init__(self, name: str, port: int, machines: int, shares_per_s: float) -> None:
        said = name, str(port), str(machines), str(shares_per_s)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.phases", *said],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._before: dict[str, Any] = {"latency": [], "lost": {}}

    def counted(self) -> tuple[Counter[int], int]:
        """Since the last time: latencies, each with how often, and connections that were lost."""
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        now, before = self._told(), self._before
        self._before = now
        latency = Counter(dict(now["latency"]))
        latency.subtract(dict(before["latency"]))
        return +latency, sum(now["lost"].values()) - sum(before["lost"].values())

    def arrived(self) -> None:
        self._told()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        if not (line := self._process.stdout.readline()):
            raise SystemExit("the machines of a site have ended")
        return json.loads(line)
