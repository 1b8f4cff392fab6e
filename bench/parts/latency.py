"""How long a share waits for its answer at a site's load, beside everything else that a pool does then.

For some minutes: folds and settlements as they come, a backup and a statement again and again. In the same
minutes another process appends to a file on the same disk and syncs it, the least that a journal does.
"""

import json
import re
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.part import Part, Section, picture, table
from bench.servers import ROOT, RunningPool, angara, cpu_s, pool, program, swarm

SHARES_PER_S: Final = 3_700  # 22,400 machines at a share every 6 s
SECONDS: Final = 200.0
WARMUP_S: Final = 5.0
LOOK_S: Final = 5.0  # between two looks at the journal's lag
STATEMENT_EVERY_S: Final = 20.0
BACKUP_EVERY_S: Final = 20.0
PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}
LAG: Final = re.compile(rb"^angara_journal_unfolded_(batches|age_seconds) (\S+)", re.MULTILINE)


class Besides:
    """What goes on beside miners until it is over, each in a thread of its own; how often it was done."""

    def __init__(self, pool: RunningPool) -> None:
        self._pool = pool
        self._over = threading.Event()
        self.done = {"backups": 0, "statements": 0}
        self.lag = {"batches": 0.0, "age_seconds": 0.0}

    @contextmanager
    def going_on(self) -> Iterator[None]:
        works = (
            partial(self._again, BACKUP_EVERY_S, "backups", self._backup),
            partial(self._again, STATEMENT_EVERY_S, "statements", self._statement),
            partial(self._again, LOOK_S, "", self._look),
        )
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _again(self, every_s: float, name: str, work: Callable[[], None]) -> None:
        while not self._over.wait(every_s):
            work()
            if name:
                self.done[name] += 1

    def _backup(self) -> None:
        copy = self._pool.directory / "copy.db"
        angara("db", "backup", copy, "--data-dir", self._pool.directory)
        copy.unlink()

    def _statement(self) -> None:
        today = datetime.now(UTC).date()
        period = ("--from", today, "--to", today + timedelta(1))
        angara("report", "statement", "--tenant", "acme", *period, "--data-dir", self._pool.directory)

    def _look(self) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._pool.web}/metrics") as answered:
            for what, value in LAG.findall(answered.read()):
                self.lag[what.decode()] = max(self.lag[what.decode()], float(value))


@contextmanager
def syncing(file: Path) -> Iterator[Callable[[], dict[str, float]]]:
    """bench.fsync_loop in a process of its own; gives what ends it and says how long syncs took."""
    command = (sys.executable, "-m", "bench.fsync_loop", str(file))
    with program(*command) as process:
        assert process.stdout is not None
        process.stdout.readline()

        def ended() -> dict[str, float]:
            process.terminate()
            assert process.stdout is not None
            told: dict[str, float] = json.loads(process.stdout.read())
            return told

        yield ended


def run(sessions: int) -> dict[str, Any]:
    with ExitStack() as stack:
        running = stack.enter_context(pool())
        histogram = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "histogram.svg"
        options = ("--rate", SHARES_PER_S, "--warmup", WARMUP_S, "--seconds", SECONDS, "--svg", histogram)
        command = swarm(running.port, sessions, *options)
        process = stack.enter_context(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()  # all machines have work
        time.sleep(WARMUP_S)
        besides, cpu_before_s = Besides(running), cpu_s(running.process)
        with syncing(running.directory / "synced") as ended, besides.going_on():
            report = json.loads(process.stdout.read())
            used_s = cpu_s(running.process) - cpu_before_s
            synced = ended()
        log = (running.directory / "log").read_text()
        return {
            "sessions": sessions,
            "seconds": report["seconds"],
            "accepted_per_s": report["accepted_per_s"],
            "ack_ms": report["ack_ms"],
            "fsync_ms": synced,
            "us_a_share": round(used_s / report["accepted"] * 1e6, 1),
            "besides": besides.done | {"settlements": len(re.findall(r" event=settled", log))},
            "lag": besides.lag,
            "histogram": histogram.read_text(),
        }


def section(result: dict[str, Any]) -> Section:
    ack, synced = result["ack_ms"], result["fsync_ms"]
    name = f"latency-{result['sessions']}.svg"
    done = ", ".join(f"{count} {what}" for what, count in result["besides"].items())
    return Section(
        (
            f"{result['sessions']:,} machines, {result['accepted_per_s']:,.0f} accepted shares a second as "
            f"chance has it, {result['seconds']:.0f} s, {result['us_a_share']} us of processor a share. "
            f"Beside it, besides folds: {done}.\n",
            *table(
                ("", *PERCENTILES.values()),
                (
                    [
                        "share to answer, against append and sync",
                        *(f"{ack[it] / synced[it]:.1f}" for it in PERCENTILES),
                    ],
                    ["share to answer, ms", *(f"{ack[it]:.1f}" for it in PERCENTILES)],
                    [
                        "append of 4 KiB and sync in the same minutes, ms",
                        *(f"{synced[it]:.1f}" for it in PERCENTILES),
                    ],
                ),
            ),
            f"\nJournal: at most {result['lag']['batches']:,.0f} batches, the oldest of "
            f"{result['lag']['age_seconds']:.0f} s, were not in the books yet.\n",
            picture(name, "latencies"),
        ),
        {name: result["histogram"]},
    )


def part(sessions: int) -> Part:
    return Part(
        title=f"From a share to its answer, {sessions:,} machines",
        seconds=240,
        run=partial(run, sessions),
        section=section,
    )
