"""`make bench`: what one server core does, measured from a separate process over loopback.

Every figure is one run on this machine; compare ratios of one run, never times of two machines. Nothing
here is a test: a slow machine is not a failure. Bounded: at most SESSIONS_MAX sessions and a few minutes.
"""

import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench import engine
from stratum import _engine
from stratum.difficulty import DIFFICULTY_LOG2_MIN

ROOT = Path(__file__).parent.parent
ANGARA = str(Path(sys.executable).parent / "angara")
CONNECTS_PER_S, AT_ONCE = 4_000, 50_000
TEMPLATE_TXS = 4000  # 12 levels of merkle branch
SESSIONS = (400, 1_000, 5_600, 19_000)
SITE_SHARES_PER_S = 3_700  # 22,400 machines at a share every 6 s
# The upstream's, 128 times our miners': one share in 128 is forwarded, as where the connection of a site that
# is built out is asked for 30 a second.
UPSTREAM_DIFFICULTY_LOG2 = -25
PROXY_SESSIONS = 5_600
PROXY_RUNS = 3
BLOCKS_S = 30  # a block every few seconds, as luck has it
START_S_MAX = 60.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    cpu = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), "unknown"
    )
    print(f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, backend {_engine.backend}\n")
    engine.main()
    for sessions in SESSIONS:
        with pool() as (process, port):
            started_s = cpu_s(process)
            result = load(port, sessions, "--closed-loop", "--warmup", 2, "--seconds", 8)
            used_s = cpu_s(process) - started_s
            judged = result["accepted"] * (8 + 2) / 8
            print(
                f"{sessions:6} sessions: {result['accepted_per_s']:9,.0f} accepted shares/s, "
                f"{used_s / judged * 100_000:5.2f} CPU s per 100,000 shares, "
                f"ack p50 {result['ack_ms']['p50']:.1f} ms p99 {result['ack_ms']['p99']:.1f} ms"
            )
    with pool() as (process, port):
        result = load(port, 5_600, "--warmup", 2, "--seconds", 10, "--rate", SITE_SHARES_PER_S)
        print(
            f"  site load: {result['accepted_per_s']:9,.0f} accepted shares/s from 5,600 sessions, "
            f"ack p50 {result['ack_ms']['p50']:.2f} ms p99 {result['ack_ms']['p99']:.2f} ms"
        )
    journal_cost()
    proxy_path()
    memory()
    new_block()


def memory() -> None:
    """What the process grows by when sessions connect and only sit."""
    with pool() as (process, port):
        before = rss_kib(process)
        command = swarm(port, max(SESSIONS), "--rate", 0, "--seconds", 3)
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as holding:
            assert holding.stderr is not None
            holding.stderr.readline()  # every machine has work
            grown = rss_kib(process) - before
    print(f"     memory: {grown / max(SESSIONS):.1f} KiB RSS per session ({max(SESSIONS):,} sessions)")


def journal_cost() -> None:
    """The whole pool, whose replies wait for the disk, against a bare server, whose replies do not."""
    options = (max(SESSIONS), "--closed-loop", "--warmup", 3, "--seconds", 8)
    rates = {}
    with bare() as port:
        rates["bare"] = load(port, *options)["accepted_per_s"]
    with pool() as (_, port):
        rates["pool"] = load(port, *options)["accepted_per_s"]
    print(
        f"    journal: {rates['pool']:,.0f} accepted shares/s with it, {rates['bare']:,.0f} without it, "
        f"{1 - rates['pool'] / rates['bare']:.0%} less ({max(SESSIONS):,} sessions)"
    )


def proxy_path() -> None:
    """Miners of a tenant whose work comes from an upstream, against those of the pool itself, in turn."""
    rates: dict[str, list[float]] = {"pool": [], "proxy": []}
    options = (PROXY_SESSIONS, "--closed-loop", "--warmup", 2, "--seconds", 8)
    for _ in range(PROXY_RUNS):
        with pool() as (_process, port):
            rates["pool"].append(load(port, *options)["accepted_per_s"])
        with bare(UPSTREAM_DIFFICULTY_LOG2) as upstream, pool(upstream=upstream) as (_process, port):
            rates["proxy"].append(load(port, *options)["accepted_per_s"])
    medians = {path: statistics.median(measured) for path, measured in rates.items()}
    print(
        f"      proxy: {medians['proxy']:,.0f} accepted shares/s for an upstream, {medians['pool']:,.0f} for "
        f"the pool, {1 - medians['proxy'] / medians['pool']:.0%} less (medians of {PROXY_RUNS} runs, "
        f"{PROXY_SESSIONS:,} sessions)"
    )


@contextmanager
def bare(difficulty_log2: int = DIFFICULTY_LOG2_MIN) -> Iterator[int]:
    """bench.bare in a process of its own: its port."""
    command = [sys.executable, "-m", "bench.bare", str(difficulty_log2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


def new_block() -> None:
    """Time from the first session that has a new-block job to the last, and for all to come back at once."""
    with pool() as (_, port):
        result = load(port, max(SESSIONS), "--connect-rate", AT_ONCE, "--rate", 0, "--seconds", 1)
        print(
            f"  reconnect: {result['arrived']:,} of {max(SESSIONS):,} miners at once have work after "
            f"{result['arrived_after_s']:.1f} s"
        )
    with pool(blocks=True) as (_, port):
        result = load(port, max(SESSIONS), "--rate", 0, "--seconds", BLOCKS_S)
        blocks = result["new_blocks"]
        if not blocks["reached_all"]:
            print(f"  new block: none in {BLOCKS_S} s")
        else:
            print(
                f"  new block: {blocks['reached_all']} reached the last of {max(SESSIONS):,} sessions in "
                f"{blocks['median_ms']:.0f} ms (median), {blocks['max_ms']:.0f} ms (max) after the first"
            )


@contextmanager
def pool(*, blocks: bool = False, upstream: int | None = None) -> Iterator[tuple[int, int]]:
    """A demo server without a fleet in a process of its own: (process id, port).

    `blocks`: a slow fleet of our own keeps finding blocks; otherwise templates are too hard for any.
    `upstream`: the port of a server that the tenant's machines mine for.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tempfile.mkdtemp(prefix="angara-bench-")
    command = [ANGARA, "demo", "--stratum", f"127.0.0.1:{port}"]
    command += ["--data-dir", directory, "--difficulty", "2^-32", "--template-txs", str(TEMPLATE_TXS)]
    command += [] if blocks else ["--no-fleet", "--network-bits", "1d00ffff"]
    with open(Path(directory) / "log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        deadline_s = time.monotonic() + START_S_MAX
        while not _mining(port):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"the pool did not start, see {directory}/log")
            time.sleep(0.2)
        if upstream is not None:
            _mine_for(upstream, directory)
        yield process.pid, port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    shutil.rmtree(directory)


def _mine_for(upstream: int, directory: str) -> None:
    """Let the tenant acme's machines mine for the server at this port, as an operator would."""
    url = f"stratum+tcp://127.0.0.1:{upstream}"
    for command in (
        ["upstream", "add", "bench", "--endpoint", url, "--user", "site.c01.proxy"],
        ["tenant", "set-terms", "acme", "--scheme", "proxy", "--upstream", "bench"],
    ):
        run = [ANGARA, *command, "--data-dir", directory]
        subprocess.run(run, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    deadline_s = time.monotonic() + START_S_MAX
    shown: dict[str, Any] = {}
    while not any(it["serving"] for it in shown.get("channels", ())):
        if time.monotonic() > deadline_s:
            raise SystemExit("the upstream does not serve")
        run = [ANGARA, "upstream", "show", "bench", "--json", "--data-dir", directory]
        shown = json.loads(subprocess.run(run, check=True, stdout=subprocess.PIPE, cwd=ROOT).stdout)


def _mining(port: int) -> bool:
    """Whether a miner gets a job."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.sendall(
                b'{"id":1,"method":"mining.subscribe","params":[]}\n'
                b'{"id":2,"method":"mining.authorize","params":["acme.c00.probe","x"]}\n'
            )
            sock.settimeout(1)
            received = b""
            while b'"method":"mining.notify"' not in received:
                data = sock.recv(65536)
                if not data:
                    return False
                received += data
    except OSError:
        return False
    return True


def swarm(port: int, sessions: int, *options: object) -> list[str]:
    """The command that loads it. Containers of a hundred, so that every number of sessions is whole."""
    command = [ANGARA, "swarm", f"127.0.0.1:{port}", "--containers", str(sessions // 100), "--units", "100"]
    if "--connect-rate" not in options:
        command += ["--connect-rate", str(CONNECTS_PER_S)]
    return [*command, "--json", *map(str, options)]


def load(port: int, sessions: int, *options: object) -> dict[str, Any]:
    """What one run of the swarm reports."""
    ran = subprocess.run(
        swarm(port, sessions, *options), check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def rss_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _cpuinfo() -> list[str]:
    return Path("/proc/cpuinfo").read_text().splitlines()


if __name__ == "__main__":
    main()
