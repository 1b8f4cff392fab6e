"""kill -9 of a pool in the middle of a power event, its machines' network cut, a limit or a tariff that is
another one meanwhile: what its books say of machines is what they do, and none is left off.

The pool is a process, as an operator runs it; its machines are simulated ones, which mine over sockets, are
told at their own addresses, and know the truth. Where an event stands is read from the books.
"""

import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from sqlalchemy import func, select

from payouts.schemas.money import tally_minutes
from pool.books.audit.verify import verify
from pool.books.store import Store
from pool.power.curtailment.events import load_event
from pool.power.curtailment.machines import machines_of
from pool.power.curtailment.states import OFF, OWNED, EventState, MachineState
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from pool.swarm.machine_api import Temper
from pool.swarm.simulated_site import SimulatedSite, SiteOptions
from tests.faults.test_01_kill import started, store
from tests.fixtures.programs import AngaraProcess
from tests.stages.sites import ANGARA

__all__ = ["store"]
pytestmark = pytest.mark.soak

MACHINES = 40
HASHRATE_HPS = 1_000.0
LOG2 = -22  # a share a second
WATTS = 3_250
SETTLES_S = 600.0  # a safety net: proof takes 45 s, and what was asked in vain is asked again after minutes
SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
[[node]]
name = "embedded"
url = "{url}"
cookie_file = "{cookie}"
[stratum]
listen = ["127.0.0.1:{port}"]
difficulty_start = 2.384185791015625e-07
difficulty_min = 2.384185791015625e-07
difficulty_max = 2.384185791015625e-07
[power]
dry_run = false
networks = ["127.64.0.0/16"]
"""


class SiteWhoseNetworkIsCut(SimulatedSite):
    """Machines mine on, and nobody can tell them anything."""

    cut = False

    async def _serve(self, stream: trio.SocketStream) -> None:
        if self.cut:
            await trio.aclose_forcefully(stream)
        else:
            await super()._serve(stream)


class Plant:
    """A pool in a process, and its machines."""

    def __init__(self, directory: Path, books: Store, site: SiteWhoseNetworkIsCut) -> None:
        self.directory, self.books, self.site = directory, books, site
        self.process: AngaraProcess | None = None
        self.kills = 0

    async def start(self) -> None:
        self.process, _ = await started(self.directory)

    async def kill(self) -> None:
        """And another one begins."""
        self.end()
        self.kills += 1
        await self.start()

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def angara(self, *command: object) -> None:
        """As an operator types it."""
        line = [ANGARA, *map(str, command), "-c", str(self.directory / "angara.toml")]
        done = await trio.to_thread.run_sync(
            lambda: subprocess.run(line, capture_output=True, text=True, cwd=self.directory, check=False)
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"

    def state(self, number: int) -> EventState:
        with self.books.read() as connection:
            return load_event(connection, number).state

    def count(self, number: int, *states: MachineState) -> int:
        """Machines of the event in one of these."""
        with self.books.read() as connection:
            return sum(it.state in states for it in machines_of(connection, number).values())

    async def until(self, holds: Callable[[], bool]) -> None:
        with trio.fail_after(SETTLES_S):
            while not await trio.to_thread.run_sync(holds):  # noqa: ASYNC110 - books have no events
                await trio.sleep(0.2)

    def is_right(self, number: int) -> bool:
        """Whether the books say of each machine what it does."""
        off = {it.name for it in self.site.machines if not it.api.mines}
        with self.books.read() as connection:
            machines = machines_of(connection, number).values()
        return off == {str(it.name) for it in machines if it.state is MachineState.CONFIRMED}


def free_ports(count: int) -> list[int]:
    with_ports = [socket.socket() for _ in range(count)]
    try:
        for it in with_ports:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in with_ports]
    finally:
        for it in with_ports:
            it.close()


def knows_all(books: Store) -> bool:
    """Whether the books have two whole minutes of every machine, of before the last two."""
    of = tally_minutes.c
    known = select(of.worker_id).where(of.minute <= int(time.time()) // 60 - 3).group_by(of.worker_id)
    with books.read() as connection:
        its = connection.scalars(known.having(func.count(of.minute.distinct()) >= 2)).all()
    return len(its) == MACHINES


@pytest.fixture
def seed() -> int:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    return seed


@pytest.fixture
def processes() -> Iterator[list[Plant]]:
    found: list[Plant] = []
    yield found
    for it in found:
        it.end()


def until_s(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def begun(directory: Path, books: Store, seed: int, nursery: trio.Nursery) -> Plant:
    """All machines mine, and the books know what each draws."""
    options = RegtestOptions(data_dir=directory / "node", network_bits=0x1C00FFFF)
    node: RegtestNode = await nursery.start(serve_regtest, options)
    port, api_port = free_ports(2)
    text = SETTINGS.format(url=node.url, cookie=node.cookie_file, port=port)
    (directory / "angara.toml").write_text(text)
    site = SiteWhoseNetworkIsCut(
        SiteOptions(
            port=port,
            api_port=api_port,
            machines=MACHINES,
            hashrate_hps=HASHRATE_HPS,
            watts=WATTS,
            tempers={Temper.LIES: 2},
            wakes_s=(2.0, 6.0),
            seed=seed,
        )
    )
    made = Plant(directory, books, site)
    await made.start()
    await nursery.start(site.run)
    models = "tenant,container,ths,watts,idle_watts,joules_per_th,error_percent"
    tables: list[tuple[str, str, Sequence[Sequence[object]]]] = [
        ("addresses.csv", "tenant,container,unit,address,port,firmware", site.addresses()),
        ("models.csv", models, site.models()),
    ]
    for name, head, rows in tables:
        lines = [head, *(",".join(map(str, row)) for row in rows), ""]
        (directory / name).write_text("\n".join(lines))
    await made.angara("container", "set", "acme", "c01", "--site", "north")
    await made.angara("power", "address", "import", directory / "addresses.csv")
    await made.angara("power", "model", "import", directory / "models.csv")
    await made.until(lambda: knows_all(books))
    return made


async def all_are_back(plant: Plant, number: int) -> None:
    """Whatever happened: the event is over, nobody has a machine, and each of them mines."""
    await plant.until(lambda: plant.state(number) is EventState.OVER and not plant.count(number, *OWNED))
    await plant.until(lambda: not plant.site.paused)
    with plant.books.read() as connection:
        assert verify(connection).wrong is None


async def limited(plant: Plant) -> None:
    """An event to half of the power, killed at each step; a lower limit comes into force meanwhile."""
    await plant.angara(
        *("power", "curtail", "--site", "north", "--to-kw", MACHINES * WATTS // 2_000),
        *("--ramp-s", 60, "--until", until_s(3_000)),
    )
    await plant.until(lambda: plant.count(1, MachineState.ASKED) > 0)
    await plant.kill()
    await plant.until(lambda: plant.count(1, MachineState.CONFIRMED) > 0)
    await plant.kill()
    await plant.until(lambda: plant.state(1) is EventState.HOLDING)
    await plant.until(lambda: plant.is_right(1))
    few = plant.site.paused  # on a busy machine they do less, and draw less by their work
    assert few

    plant.site.cut = True
    limit = ("power", "limit", "set", MACHINES * WATTS // 4_000, "--site", "north")
    await plant.angara(*limit, "--reason", "the grid's call", "--until", until_s(2_900))
    held = plant.count(1, *OFF)
    await plant.kill()
    await plant.until(lambda: plant.count(1, *OFF) > held)
    await trio.sleep(10)
    plant.site.cut = False
    await plant.until(lambda: not plant.count(1, MachineState.PENDING, MachineState.ASKED))
    await plant.kill()
    await plant.until(lambda: plant.is_right(1))
    assert plant.site.paused > few

    await plant.angara("power", "restore", 1)
    await plant.until(lambda: plant.count(1, MachineState.WAKING) > 0)
    await plant.kill()
    await plant.until(lambda: plant.count(1, MachineState.RESTORED) > 0)
    plant.site.cut = True
    await plant.kill()
    await trio.sleep(10)
    plant.site.cut = False
    await all_are_back(plant, 1)
    assert plant.kills == 6


async def dearer(plant: Plant) -> None:
    """An event of those that do not pay for their energy, which costs nothing when it begins."""
    tariff = ("power", "tariff", "add")
    await plant.angara(*tariff, "cheap", "--currency", "SAT", "--price", 0, "--source", "contract 1")
    await plant.angara(
        *("power", "curtail", "--site", "north", "--break-even"),
        *("--ramp-s", 60, "--until", until_s(3_000)),
    )
    await plant.until(lambda: plant.state(2) is not EventState.PLANNED)
    assert plant.site.paused == 0
    await plant.angara(*tariff, "dear", "--currency", "SAT", "--price", 10**6, "--source", "contract 2")
    await plant.kill()
    await plant.until(lambda: plant.count(2, MachineState.ASKED) > 0)
    await plant.kill()
    await plant.until(lambda: plant.count(2, MachineState.CONFIRMED) >= MACHINES - 2)
    await plant.until(lambda: plant.is_right(2))
    plant.end()
    await plant.angara("power", "restore", 2)  # while nobody is there
    await plant.start()
    await all_are_back(plant, 2)


async def test_a_pool_killed_at_each_step_of_an_event_is_right_about_its_machines_and_leaves_none_off(
    tmp_path: Path, store: Store, seed: int, processes: list[Plant]
) -> None:
    async with trio.open_nursery() as nursery:
        plant = await begun(tmp_path, store, seed, nursery)
        processes.append(plant)
        await limited(plant)
        await dearer(plant)
        nursery.cancel_scope.cancel()
