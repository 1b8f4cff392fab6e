"""What machines notice of a fault between their site and the books: how long shares wait for their answers in
the minute before it, while it lasts, and in the minute afterwards.

Three edges, three NATS servers, two hubs and a PostgreSQL, all on this machine, so that a minute without any
fault says how much of a ratio is chance and the host's other work.
"""

import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from bench.machines import Machines
from bench.part import Part, Section, table
from pool.swarm.load_report import Buckets, spread
from tests.fixtures.databases import PostgresDatabases
from tests.fixtures.postgres_server import PostgresServer
from tests.stages.sites import Sites, on_this_host

EDGES: Final = ("north", "south", "west")
MACHINES: Final = 200  # of each
SHARES_PER_S: Final = 33.3  # of each: a share every six seconds of a machine
PHASE_S: Final = 60.0
WARMUP_S: Final = 30.0  # 600 machines are new to all
CALM_S: Final = 10.0  # between two faults, once all is booked
PHASES: Final = ("before", "during", "after")
PERCENTILES: Final = {"p50": "p50", "p99": "p99", "p999": "p99.9", "max": "max"}


class Stage:
    """What there is to be broken, and the machines."""

    def __init__(self, sites: Sites, server: PostgresServer, machines: list[Machines]) -> None:
        self.sites, self.server, self._machines = sites, server, machines
        self.hubs = list(sites.hubs)  # the one that has the books first

    async def phase(self, seconds: float) -> dict[str, Any]:
        """What all machines see in so long from now."""
        await trio.to_thread.run_sync(self._counted)
        await trio.sleep(seconds)
        latency, lost = await trio.to_thread.run_sync(self._counted)
        buckets: Buckets = sorted(latency.items())
        return {"ack_ms": spread(buckets), "lost": lost}

    async def hub_is_back(self) -> None:
        """Whoever has ended stands by for the other one."""
        first, second = self.hubs
        if not first.lives:
            first.start()
        await first.says("standby")
        self.hubs = [second, first]

    def _counted(self) -> tuple[Counter[int], int]:
        told = [it.counted() for it in self._machines]
        return sum((latency for latency, _ in told), Counter()), sum(lost for _, lost in told)


class Fault(msgspec.Struct, frozen=True):
    """`mend` is waited for before what comes after is measured."""

    what: str
    strike: Callable[[Stage], None]
    mend: Callable[[Stage], Any]


def _kill_servers(it: Stage) -> None:
    for server in it.sites.servers:
        server.kill()


def _start_servers(it: Stage) -> None:
    routes = tuple(server.route for server in it.sites.servers)
    for server in it.sites.servers:
        server.begin(routes)


def _lose_stores(it: Stage) -> None:
    _kill_servers(it)
    for server in it.sites.servers:
        server.lose_store()
    _start_servers(it)


async def _wake(it: Stage) -> None:
    """It finds that another one has the books, if it stood for long, and ends."""
    it.hubs[0].send(signal.SIGCONT)
    if "event=hub_serves" in it.hubs[1].log:
        await it.hubs[0].ended()
        await it.hub_is_back()


def _lines(it: Stage, change: str) -> None:
    for line in it.sites.lines[EDGES[0]]:
        getattr(line, change)()


def _nothing(_: Stage) -> None:
    pass


FAULTS: Final = (
    Fault("none, for comparison", _nothing, _nothing),
    Fault("the hub is killed; the other one takes over", lambda it: it.hubs[0].kill(), Stage.hub_is_back),
    Fault("the hub stands still (SIGSTOP)", lambda it: it.hubs[0].send(signal.SIGSTOP), _wake),
    Fault("all NATS servers are killed", _kill_servers, _start_servers),
    Fault("all stores of NATS are removed", _lose_stores, _nothing),
    Fault("a site's line is cut", lambda it: _lines(it, "cut"), lambda it: _lines(it, "heal")),
    Fault("PostgreSQL is killed", lambda it: it.server.kill(), lambda it: it.server.start()),
)


@asynccontextmanager
async def _stage(home: Path, server: PostgresServer) -> AsyncIterator[Stage]:
    with PostgresDatabases(server.home).fresh_url() as database:
        async with on_this_host(home, database, edges=EDGES, hubs=2, servers=3) as sites:
            await sites.begin()
            with ExitStack() as stack:
                machines = []
                for edge, port in zip(EDGES, sites.ports, strict=True):
                    machines.append(of_edge := Machines(edge, port, MACHINES, SHARES_PER_S))
                    stack.callback(of_edge.end)
                for of_edge in machines:
                    await trio.to_thread.run_sync(of_edge.arrived)
                yield Stage(sites, server, machines)


async def _measured(home: Path, server: PostgresServer, phase_s: float) -> list[dict[str, Any]]:
    found = []
    async with _stage(home, server) as stage:
        await trio.sleep(WARMUP_S)
        for fault in FAULTS:
            await trio.sleep(CALM_S)
            phases = [await stage.phase(phase_s)]
            fault.strike(stage)
            phases.append(await stage.phase(phase_s))
            if (mending := fault.mend(stage)) is not None:
                await mending
            phases.append(await stage.phase(phase_s))
            stage.sites.store.engine.dispose()  # PostgreSQL may be another process by now
            await stage.sites.all_is_booked()
            found.append({"what": fault.what, **dict(zip(PHASES, phases, strict=True))})
            print(f"  {fault.what}: p99 {[it['ack_ms'].get('p99') for it in phases]} ms", flush=True)
    return found


def run(phase_s: float = PHASE_S) -> dict[str, Any]:
    server = PostgresServer()
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="angara-bench-") as home:
            faults = trio.run(_measured, Path(home), server, phase_s)
    finally:
        server.remove()
    return {"machines": MACHINES * len(EDGES), "phase_s": phase_s, "faults": faults}


def section(result: dict[str, Any]) -> Section:
    rows = []
    for fault in result["faults"]:
        before, during, after = (fault[it]["ack_ms"] for it in PHASES)
        rows.append(
            (
                fault["what"],
                *(f"{during[it] / before[it]:.2f}" for it in PERCENTILES),
                f"{after['p99'] / before['p99']:.2f}",
                *(f"{before[it]:.1f}" for it in PERCENTILES),
                f"{sum(fault[it]['lost'] for it in PHASES)}",
            )
        )
    return Section(
        (
            f"{result['machines']} machines at {len(EDGES)} edges, {SHARES_PER_S * len(EDGES):.0f} shares a"
            " second; all of it, with three NATS servers, two hubs and PostgreSQL, is on this machine. From a"
            f" share to its answer, in {result['phase_s']:.0f} s of the fault against as long before it.\n",
            *table(
                (
                    "what fails",
                    *(f"{it}, ratio" for it in PERCENTILES.values()),
                    "p99 after it, ratio",
                    *(f"{it} before, ms" for it in PERCENTILES.values()),
                    "connections lost",
                ),
                rows,
            ),
        )
    )


PART: Final = Part(
    title="Three sites, and what their machines notice of faults", seconds=1_500, run=run, section=section
)
