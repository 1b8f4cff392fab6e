"""A site of simulated machines before a pool in a process of its own, and what they really do: the truth that
the pool's books of a curtailment are held against.

Of the hour before a curtailment only the last minutes are mined for; what the same machines would have done
in the rest of it, as chance has it, is put into the books of the running pool. Must not know: what is
measured of it, and how that is shown.
"""

import math
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import trio
from sqlalchemy import func, select

from bench.machines import Machines
from bench.servers import RunningPool, angara, free_port, regtest, running, temporary_directory
from payouts.schemas.money import containers, tally_minutes, workers
from payouts.tallies import ACCEPTED
from pool.books.store import Store, open_store
from pool.data_dir import database_url
from pool.swarm.machine_api import PASSWORDS, SPEAKS, Temper
from pool.swarm.simulated_site import SimulatedMachine, SimulatedSite, SiteOptions

SITE: Final = "north"
TENANT: Final = "acme"
STAYS: Final = "stays"  # the container, at no site, of machines that no event asks
DIFFICULTY_LOG2: Final = -22
HASHES_A_SHARE: Final = 2 ** (32 + DIFFICULTY_LOG2)  # at 100 a second: a share in ten seconds
STAYING: Final = 200
SHARES_A_MACHINE_S: Final = 0.1
HOUR_MIN: Final = 63  # before now, of which work is put into the books
ARRIVE_S_MAX: Final = 300.0
FOLDED_S: Final = 130.0  # until the books have the last share of a minute
POWER: Final = """
[power]
dry_run = false
networks = ["127.64.0.0/16"]
key_file = "machines.key"
"""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many machines, and what is wrong with how many; in seconds how long each phase is."""

    machines: int = 5_600
    liars: int = 112
    refusers: int = 28
    late: int = 56
    sleepers: int = 28
    before_s: int = 240
    ramp_s: int = 300
    hold_s: int = 150

    @property
    def tempers(self) -> Mapping[Temper, int]:
        return {
            Temper.LIES: self.liars,
            Temper.REFUSES: self.refusers,
            Temper.LATE: self.late,
            Temper.SLEEPS_ON: self.sleepers,
        }


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """Of all machines, from a moment to another: what those that were off do not draw, and for how long."""

    machines: int
    off_s: float
    watts: int
    joules: float


class CurtailedSite:
    """A pool at work: a site's machines, and beside them some that no event asks."""

    def __init__(self, pool: RunningPool, site: SimulatedSite, stays: Machines, store: Store) -> None:
        self.pool, self.site, self.store = pool, site, store
        self._stays = stays
        self.here_s = int(time.time())  # all were by then
        self._latency: Counter[int] = Counter()
        self._lost = 0

    async def angara(self, *command: object) -> Any:
        """What a command says, as an operator has it of the running pool."""
        said = await trio.to_thread.run_sync(
            lambda: angara(*command, "--json", "--config", self.pool.directory / "angara.toml")
        )
        return msgspec.json.decode(said)

    async def counted(self) -> tuple[dict[int, int], dict[int, int], int]:
        """Since the last time: latencies of machines that stay and of those of the site, each with how often,
        and connections that were lost, of either."""
        latency, lost = await trio.to_thread.run_sync(self._stays.counted)
        counts = self.site.counts
        now = Counter(dict(counts.counted.get("latency", ())))
        of_site, self._latency = now - self._latency, now
        lost += counts.lost - self._lost
        self._lost = counts.lost
        return dict(latency), dict(of_site), lost

    def off(self, machine: SimulatedMachine, from_s: float, until_s: float) -> float:
        """For how many seconds it was off."""
        spans = ((max(begin, from_s), min(end, until_s)) for begin, end in machine.rests)
        return sum(max(0.0, end - begin) for begin, end in spans)

    def truth(self, from_s: float, until_s: float) -> Truth:
        off = [(it, seconds) for it in self.site.machines if (seconds := self.off(it, from_s, until_s)) > 0]
        saved = [it.api.options.watts - it.api.options.idle_watts for it, _ in off]
        return Truth(
            machines=len(off),
            off_s=sum(seconds for _, seconds in off),
            watts=sum(saved),
            joules=sum(watts * seconds for watts, (_, seconds) in zip(saved, off, strict=True)),
        )

    def hour_before(self, seed: int) -> None:
        """Shares of the minutes before these machines came, and of the one that they came in, as chance has
        them."""
        with self.store.read() as connection:
            rate = connection.scalar(select(func.max(tally_minutes.c.rate_id)))
            there = {
                (row.minute, row.worker_id): row.rate_id for row in connection.execute(select(tally_minutes))
            }
        dice, numbers = np.random.default_rng(seed), sorted(numbers_of(self.store).values())
        a_minute = self.site.options.hashrate_hps * 60 / HASHES_A_SHARE
        rows = [
            (minute, number, there.get((minute, number), rate), DIFFICULTY_LOG2, ACCEPTED, int(count))
            for minute in range(int(time.time()) // 60 - HOUR_MIN, self.here_s // 60 + 1)
            for number, count in zip(numbers, dice.poisson(a_minute, len(numbers)), strict=True)
            if count
        ]
        columns = "minute, worker_id, rate_id, difficulty_log2, verdict, shares"
        books = sqlite3.connect(self.pool.directory / "angara.db", timeout=60)
        try:
            with books:
                books.executemany(
                    f"INSERT INTO tally_minutes ({columns}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608
                    " ON CONFLICT DO UPDATE SET shares = excluded.shares",
                    rows,
                )
        finally:
            books.close()


@asynccontextmanager
async def begun(size: Size, seed: int = 1) -> AsyncIterator[CurtailedSite]:
    """All machines mine, the pool knows what they are, and the books have their hour before."""
    with (
        temporary_directory() as directory,
        regtest(_made(directory / "node"), "--network-bits", "1d00ffff") as (node, cookie),
    ):
        angara("power", "credential", "key", directory / "machines.key")
        with running(directory, node, cookie, difficulty_log2=DIFFICULTY_LOG2, more=POWER) as pool:
            angara("tenant", "add", TENANT, "--data-dir", directory)
            options = SiteOptions(
                port=pool.port,
                api_port=free_port(),
                machines=size.machines,
                tenant=TENANT,
                firmware=SPEAKS,
                tempers=size.tempers,
                hashrate_hps=100.0,
                seed=seed,
            )
            async with trio.open_nursery() as nursery:
                site = SimulatedSite(options)
                await nursery.start(site.run)
                stays = await trio.to_thread.run_sync(
                    Machines, STAYS, pool.port, STAYING, STAYING * SHARES_A_MACHINE_S
                )
                store = open_store(database_url(directory))
                try:
                    await trio.to_thread.run_sync(stays.arrived)
                    await _arrived(site, store)
                    it = CurtailedSite(pool, site, stays, store)
                    await _said(it, directory)
                    # Of the minute that is made whole nothing may come on top.
                    await trio.sleep(max(0.0, it.here_s + FOLDED_S - time.time()))
                    await trio.to_thread.run_sync(it.hour_before, seed)
                    yield it
                finally:
                    stays.end()
                    store.close()
                    nursery.cancel_scope.cancel()


def numbers_of(store: Store) -> dict[str, int]:
    """Of machines in the books, by name."""
    query = (
        select(workers.c.id, containers.c.name, workers.c.unit)
        .join(containers, containers.c.id == workers.c.container_id)
        .where(containers.c.name != STAYS)
    )
    with store.read() as connection:
        return {f"{TENANT}.{it.name}.{it.unit}": it.id for it in connection.execute(query)}


async def _arrived(site: SimulatedSite, store: Store) -> None:
    """All mine, and the books know each."""
    with trio.fail_after(ARRIVE_S_MAX):
        while True:
            known = len(await trio.to_thread.run_sync(numbers_of, store))
            if min(known, site.counts.mining) == len(site.machines):
                return
            await trio.sleep(1)


async def _said(it: CurtailedSite, directory: Path) -> None:
    """What an operator says once: where machines stand, what they are, where they are told, and passwords."""
    names = sorted({machine.container for machine in it.site.machines})
    _table(directory / "containers.csv", "tenant,container,site", [(TENANT, name, SITE) for name in names])
    _table(
        directory / "models.csv",
        "tenant,container,ths,watts,idle_watts,joules_per_th,error_percent",
        it.site.models(),
    )
    _table(directory / "machines.csv", "tenant,container,unit,address,port,firmware", it.site.addresses())
    await it.angara("container", "import", directory / "containers.csv")
    await it.angara("power", "model", "import", directory / "models.csv")
    await it.angara("power", "address", "import", directory / "machines.csv")
    for firmware, (user, password) in PASSWORDS.items():
        (directory / "password").write_text(password)
        said = "--firmware", firmware, "--user", user, "--password-file", directory / "password"
        await it.angara("power", "credential", "set", *said)


def _table(file: Path, head: str, rows: Any) -> None:
    file.write_text("\n".join([head, *(",".join(map(str, row)) for row in rows), ""]))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def is_back(machine: SimulatedMachine) -> bool:
    """Whether it mines, or is about to."""
    return not machine.rests or machine.rests[-1][1] < math.inf
