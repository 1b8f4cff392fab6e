"""A world of one seed: a pool with its disk and books, bitcoinds, miners, and what goes wrong between them.

`play` lives it from the first connection until everything has come to rest, and asks the auditor. A node of
the world is a process with a disk of its own, killed and started again; more than one may be in a world, and
what is between them is the network's.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from tests.fixtures.databases import store_in
from tests.simulation.auditor import Audit, Found, Works
from tests.simulation.bitcoinds import Bitcoinds
from tests.simulation.course import Clock, Threads, course
from tests.simulation.dice import dice
from tests.simulation.faults import Faults
from tests.simulation.miners import Habits, Job, Miner, Share
from tests.simulation.network import Connection, Network
from tests.simulation.pool_node import ELSEWHERE, PoolNode
from tests.simulation.process import Steps
from tests.simulation.upstreams import Upstream

FEES_BPS: Final = {"acme": 200, "borealis": 50, ELSEWHERE: 125}
ELSEWHERE_TOO: Final = 0.4  # of the worlds have machines of the tenant that mines on another pool
REST_S: Final = 27.0  # until all is folded and settled, and all blocks are where they belong
QUIET_S: Final = 4.0  # for what is under way at the end to be answered
PATIENCE_S: Final = 300.0  # for a pool to serve again, when all is well


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


class World:
    """What miners write down is in here (`Ledger`), and whom the faults are done to."""

    def __init__(self, seed: int, size: Size, directory: Path, clock: Clock, threads: Threads) -> None:
        self.seed, self.clock, self.threads = seed, clock, threads
        self.shares: list[Share] = []
        self.works = Works()
        self.trace: list[str] = []
        self.found: list[Found] = []
        chance = dice(seed, "world")
        self.seconds = chance.uniform(*size.seconds)
        self.network = Network()
        self.bitcoinds = Bitcoinds(("first", "second"), self.network, dice(seed, "nodes"), clock.true_s)
        self.upstream = Upstream(dice(seed, "upstream"))
        self.node = PoolNode(self, directory, FEES_BPS)
        self.faults = Faults(self)
        self._sessions = 0
        self.tenants = [it for it in FEES_BPS if it != ELSEWHERE or chance.random() < ELSEWHERE_TOO]
        self.miners = [self._miner(number) for number in range(chance.randint(*size.machines))]

    # What miners write down

    def told(self, session: int, job: Job, *, resumed: bool) -> None:
        self.works.told(session, job, resumed=resumed)
        self.note("session", session, "job", job.job_id, job.extranonce1.hex(), job.difficulty, job.ntime)

    def note(self, *words: object) -> None:
        self.trace.append(f"{self.clock.monotonic_s():10.4f} {' '.join(map(str, words))}")

    # Miners

    def _miner(self, number: int) -> Miner:
        chance = dice(self.seed, "miner", number)
        kind = chance.random()
        habits = Habits(
            hashes_per_s=2.0 ** chance.uniform(-1, 4),
            rolls=chance.random() < 0.4,
            resumes=chance.random() < 0.3,
            takes_extranonces=chance.random() < 0.4,
            restless=chance.random() < 0.25,
            names_each_share=kind < 0.3,
            repeats=0.05 if 0.3 < kind < 0.6 else 0.0,
            late=0.1 if kind > 0.5 else 0.0,
            easy=0.05 if kind > 0.7 else 0.0,
        )
        tenant = chance.choice(self.tenants)
        links = dice(self.seed, "links", number)
        return Miner(
            f"{tenant}.c{number % 3:02}.u{number}",
            habits,
            self,
            chance,
            connect=lambda miner: self._connect(miner, number, links),
            after=self.network.after,
            session_number=self._next_session,
        )

    def _connect(self, miner: Miner, number: int, links: Any) -> Connection | None:
        return self.node.connect(miner, f"10.0.{number % 7}.{number}", links)

    def _next_session(self) -> int:
        self._sessions += 1
        return self._sessions

    # Its life

    async def live(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.network.run)
            nursery.start_soon(self.node.run)
            nursery.start_soon(self.upstream.run)
            chance = dice(self.seed, "power")
            for miner in self.miners:
                self.network.after(chance.uniform(0.0, 3.0), miner.start)
            self.faults.plan()
            await trio.sleep(self.seconds)
            self.faults.over()
            with trio.move_on_after(PATIENCE_S) as patience:
                await self.node.served()
            if patience.cancelled_caught:
                self.found.append(Found("the pool never came back", f"in {PATIENCE_S:.0f} s"))
            await trio.sleep(QUIET_S)
            for miner in self.miners:
                miner.stop()
            await trio.sleep(REST_S)
            await self.node.stop()
            nursery.cancel_scope.cancel()

    def outcome(self) -> Outcome:
        nodes = self.bitcoinds.nodes
        upstream = len(self.upstream.counted)
        audit = Audit(self.node.database, self.shares, self.works, nodes, FEES_BPS, upstream)
        found = (*self.found, *audit.findings())
        return Outcome(
            seed=self.seed,
            found=found,
            course=hashlib.sha256("\n".join(self.trace).encode()).hexdigest(),
            shares=len(self.shares),
            acknowledged=sum(it.verdict == "accepted" for it in self.shares),
            blocks=len({it.hash_hex for node in nodes for it in node.submitted}),
            counted_elsewhere=upstream,
            lives=self.node.lives,
            faults=tuple(self.faults.done),
            trace=tuple(self.trace),
        )


def play(seed: int, size: Size = SMALL) -> Outcome:
    """Live the world of a seed."""
    with _directory() as directory, course(seed) as (clock, threads), _log_lines() as lines:
        world = World(seed, size, directory, clock, threads)
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

    world: World | None = None

    def __call__(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if self.world is not None:
            said = " ".join(f"{key}={event[key]}" for key in ("event", "reason", "height") if key in event)
            self.world.note("log", method, said.replace(str(self.world.node.data_dir), "DIR"))
        raise structlog.DropEvent


@contextmanager
def _log_lines() -> Iterator[_Lines]:
    lines = _Lines()
    structlog.configure(processors=[lines], cache_logger_on_first_use=False)
    try:
        yield lines
    finally:
        structlog.reset_defaults()
