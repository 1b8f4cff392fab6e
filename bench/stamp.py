"""When and on what something was measured."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stratum import _engine

ROOT = Path(__file__).parent.parent


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """`load` is how many others had work for a processor in the minute before; with a `nice` below 0 it was
    served before them."""

    at: str
    commit: str
    processor: str
    cores: int
    kernel: str
    python: str
    backend: str
    load: float
    nice: int = 0

    def words(self) -> str:
        served = f", nice {self.nice}" if self.nice else ""
        return (
            f"{self.at}, commit {self.commit}, {self.processor}, {self.cores} cores, Linux {self.kernel}, "
            f"Python {self.python}, {self.backend}, load {self.load:.1f} in the minute before{served}"
        )


def stamp() -> Stamp:
    """Of now."""
    described = ("git", "describe", "--always", "--dirty", "--exclude=*")
    told = subprocess.run(described, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((it.split(":")[1].strip() for it in cpuinfo if it.startswith("model name")), "unknown")
    return Stamp(
        at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        commit=told or "unknown",
        processor=processor,
        cores=os.cpu_count() or 0,
        kernel=platform.release(),
        python=platform.python_version(),
        backend=_engine.backend,
        load=os.getloadavg()[0],
        nice=os.nice(0),
    )
