"""Servers in processes of their own and the load on them: what every part of the benchmark stands on.

The pool is `angara run` (bench.site), as an operator runs it, with a node beside it. What it is compared
with: a server in C++ that answers each line with a send of its own, the kernel's own price; and Trio with a
task for each connection, as one would write it first, which does not look at a share, or hashes it with
hashlib. All of them speak as much Stratum as `angara swarm`, the load, needs.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from stratum.difficulty import DIFFICULTY_LOG2_MIN

ROOT: Final = Path(__file__).parent.parent
ANGARA: Final = str(Path(sys.executable).parent / "angara")
CONNECTS_PER_S: Final = 4_000
TEMPLATE_TXS: Final = 4000  # 12 levels of merkle branch
START_S_MAX: Final = 120.0
STOP_S_MAX: Final = 60.0
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
NO_BLOCKS: Final = "1d00ffff"  # nBits of the templates: none of the swarm's hashes is a block
SETTINGS: Final = """
[pool]
network = "regtest"
data_dir = "{directory}"
payout_address = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
[[node]]
name = "beside"
url = "{url}"
cookie_file = "{cookie}"
[stratum]
listen = ["127.0.0.1:{port}"]
processes = {processes}
difficulty_start = {difficulty}
difficulty_min = {difficulty}
difficulty_max = {difficulty}
[web]
listen = "127.0.0.1:0"
"""


class Server(msgspec.Struct, frozen=True):
    """What is loaded: its process and where miners connect."""

    process: int
    port: int


class RunningPool(Server, frozen=True, kw_only=True):
    """And what a pool has besides."""

    directory: Path
    web: int  # its port over HTTP
    node: str  # host and port of the node
    cookie: str  # user and password there
    started_in_s: float  # until a miner has work


@contextmanager
def program(*command: str, log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, asked to stop at the end."""
    with ExitStack() as stack:
        into = subprocess.DEVNULL if log is None else stack.enter_context(log.open("ab"))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=into, cwd=ROOT)
        assert process.stdout is not None
        stack.callback(process.stdout.close)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def printing_its_port(*command: str) -> Iterator[Server]:
    with program(*command) as process:
        assert process.stdout is not None
        yield Server(process.pid, int(process.stdout.readline()))


@contextmanager
def echo(seconds_between_blocks: float = 0) -> Iterator[Server]:
    """bench/echo.cpp, built for this run."""
    with tempfile.TemporaryDirectory(prefix="angara-bench-") as directory:
        built = f"{directory}/echo"
        compiler = os.environ.get("CXX", "c++")
        subprocess.run([compiler, "-std=c++20", "-O2", ROOT / "bench/echo.cpp", "-o", built], check=True)
        with printing_its_port(built, str(seconds_between_blocks)) as server:
            yield server


@contextmanager
def trio_server(how: str) -> Iterator[Server]:
    """bench.trio_server: `answers` or `hashes`."""
    with printing_its_port(sys.executable, "-m", "bench.trio_server", how) as server:
        yield server


@contextmanager
def bare(difficulty_log2: int = DIFFICULTY_LOG2_MIN) -> Iterator[Server]:
    """bench.bare."""
    with printing_its_port(sys.executable, "-m", "bench.bare", str(difficulty_log2)) as server:
        yield server


@contextmanager
def regtest(directory: Path, *options: str) -> Iterator[tuple[str, Path]]:
    """A node: host and port, and its cookie file."""
    address = f"127.0.0.1:{free_port()}"
    command = (ANGARA, "regtest", "--listen", address, "--data-dir", str(directory), *options)
    with program(*command, log=directory / "log") as process:
        wait_for(lambda: (directory / ".cookie").exists(), process, directory / "log")
        yield address, directory / ".cookie"


@contextmanager
def pool(tenant: str = "acme", *, processes: int = 1) -> Iterator[RunningPool]:
    """An empty pool with one tenant, beside a node whose templates nobody solves."""
    with temporary_directory() as directory:
        (directory / "node").mkdir()
        options = ("--template-txs", str(TEMPLATE_TXS), "--network-bits", NO_BLOCKS)
        with (
            regtest(directory / "node", *options) as (node, cookie),
            running(directory, node, cookie, processes=processes) as it,
        ):
            angara("tenant", "add", tenant, "--data-dir", directory)
            wait_for(lambda: is_mining(it.port, tenant))
            yield it


@contextmanager
def running(
    directory: Path,
    node: str,
    cookie: Path,
    *,
    difficulty_log2: int = DIFFICULTY_LOG2_MIN,
    processes: int = 1,
    more: str = "",
) -> Iterator[RunningPool]:
    """`angara run` on this directory, which may have books in it already, with some more settings."""
    settings, log = directory / "angara.toml", directory / "log"
    at = {"directory": directory, "url": f"http://{node}", "cookie": cookie}
    port = 0 if processes == 1 else free_port()  # several share one
    written = SETTINGS.format(**at, difficulty=2.0**difficulty_log2, processes=processes, port=port)
    settings.write_text(written + more)
    since_s = time.monotonic()
    with program(sys.executable, "-m", "bench.site", "run", "--config", str(settings), log=log) as process:
        wait_for(lambda: " event=listening" in log.read_text(), process, log)
        started_in_s = time.monotonic() - since_s
        wait_for(lambda: " event=web_listening" in log.read_text(), process, log)
        yield RunningPool(
            process.pid,
            _port(log, "listening"),
            directory=directory,
            web=_port(log, "web_listening"),
            node=node,
            cookie=cookie.read_text(),
            started_in_s=started_in_s,
        )


def _port(log: Path, event: str) -> int:
    line = next(it for it in log.read_text().splitlines() if f" event={event}" in it)
    return int(line.split(" port=")[1].split()[0])


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """It stays where something went wrong: the log is in it."""
    directory = Path(tempfile.mkdtemp(prefix="angara-bench-"))
    yield directory
    shutil.rmtree(directory)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(
    there: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, log: Path | None = None
) -> None:
    """Until it is there. Ends the benchmark where that takes too long, or where the process has ended."""
    deadline_s = time.monotonic() + START_S_MAX
    while not there():
        if time.monotonic() > deadline_s or (process is not None and process.poll() is not None):
            raise SystemExit(f"a server did not start: {log or 'it has no log'}")
        time.sleep(0.02)


def angara(*command: object) -> str:
    """What a command prints."""
    run = [ANGARA, *map(str, command)]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(run, check=True, stdout=subprocess.PIPE, cwd=ROOT, env=kept, text=True).stdout


def is_mining(port: int, tenant: str) -> bool:
    """Whether a miner gets a job."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.sendall(
                b'{"id":1,"method":"mining.subscribe","params":[]}\n'
                b'{"id":2,"method":"mining.authorize","params":["%b.c00.probe","x"]}\n' % tenant.encode()
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


class Loaded(msgspec.Struct, frozen=True):
    """What a run of the swarm reports; and what the server used and grew by in the measured seconds."""

    report: dict[str, Any]
    cpu_s: float
    rss_kib: int

    @property
    def us_a_share(self) -> float:
        accepted: int = self.report["accepted"]
        return self.cpu_s / accepted * 1e6


def load_measured(server: Server, sessions: int, *options: object, warmup_s: float, seconds: float) -> Loaded:
    command = swarm(server.port, sessions, *options, "--warmup", warmup_s, "--seconds", seconds)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()  # all machines have work
        time.sleep(warmup_s)
        cpu_before_s, rss_before_kib = cpu_s(server.process), rss_kib(server.process)
        time.sleep(seconds)
        used_s = cpu_s(server.process) - cpu_before_s
        grown_kib = rss_kib(server.process) - rss_before_kib
        report = json.loads(process.stdout.read())
    return Loaded(report, used_s, grown_kib)


def rss_kib(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


def cpu_s(process: int) -> float:
    """With those that it has started and are there. The kernel's own list of them may leave some out."""
    return own_cpu_s(process) + sum(own_cpu_s(it) for it in children_of(process))


def children_of(process: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == process:
                found.append(int(stat.parent.name))
    return found


def own_cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S
