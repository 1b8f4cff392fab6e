"""What every world has: a clock that jumps, a network, nodes, another pool, and what miners write down.

Must not know: who serves the miners.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Container, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from tests.fixtures.databases import store_in
from tests.fixtures.journals import OpenedJournals
from tests.simulation.auditor import Found, Works
from tests.simulation.bitcoinds import Bitcoinds
from tests.simulation.course import Clock, Threads, course
from tests.simulation.dice import dice
from tests.simulation.miners import Habits, Job, Miner, Share
from tests.simulation.network import Network
from tests.simulation.process import Steps
from tests.simulation.upstreams import Upstream

ELSEWHERE: Final = "cascade"  # the tenant that mines on another pool
FEES_BPS: Final = {"acme": 200, "borealis": 50, ELSEWHERE: 125}
ELSEWHERE_TOO: Final = 0.4  # of the worlds have machines of the tenant that mines on another pool


class Size(msgspec.Struct, frozen=True):
    """How much there is in a world."""

    machines: tuple[int, int] = (2, 5)
    seconds: tuple[float, float] = (12.0, 25.0)


SMALL: Final = Size()
LARGE: Final = Size(machines=(100, 200), seconds=(60.0, 120.0))


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a world."""

    seed: int
    found: tuple[Found, ...]
    course: str  # a digest of all that happened: two plays of one seed have the same
    shares: int
    acknowledged: int
    blocks: int
    counted_elsewhere: int  # shares, by the other pool
    lives: int
    faults: tuple[str, ...]
    trace: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not self.found

    @property
    def words(self) -> str:
        """What was found, if anything was."""
        return "\n".join(f"    {it}" for it in self.found)


class Ground:
    """What miners write down is in here (`Ledger`). `directory` is where the disks of all hosts are."""

    def __init__(
        self, seed: int, size: Size, directory: Path, clock: Clock, threads: Threads, nodes: tuple[str, ...]
    ) -> None:
        self.seed, self.directory, self.clock, self.threads = seed, directory, clock, threads
        self.shares: list[Share] = []
        self.works = Works()
        self.trace: list[str] = []
        self.found: list[Found] = []
        self.faults_done: list[str] = []
        self.chance = dice(seed, "world")
        self.seconds = self.chance.uniform(*size.seconds)
        self.network = Network()
        self.bitcoinds = Bitcoinds(nodes, self.network, dice(seed, "nodes"), clock.true_s)
        self.upstream = Upstream(dice(seed, "upstream"))
        self.miners: list[Miner] = []
        self._sessions = 0

    async def live(self) -> None:
        raise NotImplementedError

    def outcome(self) -> Outcome:
        raise NotImplementedError

    # What miners write down

    def told(self, session: int, job: Job, *, resumed: bool) -> Container[str]:
        self.works.told(session, job, resumed=resumed)
        self.note("session", session, "job", job.job_id, job.extranonce1.hex(), job.difficulty, job.ntime)
        return ()

    def note(self, *words: object) -> None:
        self.trace.append(f"{self.clock.monotonic_s():10.4f} {' '.join(map(str, words))}")

    def next_session(self) -> int:
        self._sessions += 1
        return self._sessions

    def ended(self, found: tuple[Found, ...], lives: int) -> Outcome:
        """What there is to say when the auditor has found this."""
        return Outcome(
            seed=self.seed,
            found=found,
            course=hashlib.sha256("\n".join(self.trace).encode()).hexdigest(),
            shares=len(self.shares),
            acknowledged=sum(it.verdict == "accepted" for it in self.shares),
            blocks=len({it.hash_hex for node in self.bitcoinds.nodes for it in node.submitted}),
            counted_elsewhere=len(self.upstream.counted),
            lives=lives,
            faults=tuple(self.faults_done),
            trace=tuple(self.trace),
        )


def habits(chance: Any, *, replays: float = 0.0) -> Habits:
    """What a machine is like."""
    kind = chance.random()
    return Habits(
        hashes_per_s=2.0 ** chance.uniform(-1, 4),
        rolls=chance.random() < 0.4,
        resumes=chance.random() < 0.3,
        takes_extranonces=chance.random() < 0.4,
        restless=chance.random() < 0.25,
        names_each_share=kind < 0.3,
        repeats=0.05 if 0.3 < kind < 0.6 else 0.0,
        late=0.1 if kind > 0.5 else 0.0,
        easy=0.05 if kind > 0.7 else 0.0,
        replays=replays,
    )


def play_on(seed: int, make: Callable[[Path, Clock, Threads], Ground]) -> Outcome:
    """Live that world of a seed."""
    with (
        _directory() as directory,
        OpenedJournals().watched(),  # nobody else closes those of a hub that is killed
        course(seed) as (clock, threads),
        _log_lines() as lines,
    ):
        world = make(directory, clock, threads)
        lines.world = world
        trio.run(world.live, clock=clock.trio, instruments=[Steps()])
        return world.outcome()


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="angara-world-"))
    try:
        store_in(directory / "pool").close()  # before there is a course: the first in a process makes a book
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class _Lines:
    """The pool's log lines, in the trace."""

    world: Ground | None = None

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if self.world is not None:
            keys = ("event", "edge", "reason", "height")
            said = " ".join(f"{key}={event[key]}" for key in keys if key in event)
            said = said.replace(str(self.world.directory), "DIR").replace(
                f"process {os.getpid()} ", "process "
            )
            self.world.note("log", method, said)
        raise structlog.DropEvent


@contextmanager
def _log_lines() -> Iterator[_Lines]:
    lines = _Lines()
    structlog.configure(processors=[lines], cache_logger_on_first_use=False)
    try:
        yield lines
    finally:
        structlog.reset_defaults()
