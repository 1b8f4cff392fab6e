"""Many sites at work on one hub, with the programs that an operator runs: `angara hub`, PostgreSQL, a NATS
server, and edges in a process beside them that have all but their miners (bench.site_without_miners).

Their machines come first, all of them within TURNS seconds. Then minutes of work, as the hub takes them as
they come; then the hub is stopped, and what has gathered is taken when it is started again.

    python -m bench many-sites                                            # into the report
    python -m bench.many_sites --edges 4 --machines 1000 --minutes 2      # any size, printed

A record a second and edge: what the books lack of a journal is as many seconds. The processors are shared
with the edges, so what counts is the time that each program used, and whether the books keep up.
"""

import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from signal import SIGTERM
from statistics import median
from typing import Any, Final

import msgspec
import trio
from sqlalchemy import func, select, text

from bench.databases import TICKS_PER_S, Database, databases
from bench.part import Part, Section, table
from bench.servers import free_port
from bench.site_without_miners import TURNS, SiteWithoutMiners
from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes
from pool.books.changes.changes import note_change
from pool.books.edges.rows import EdgePlace, add_edge, kept_of
from pool.books.journal.positions import positions
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store, open_store
from pool.chain.nodes import Node, NodeConfig
from pool.fleet.rows import TenantTerms, add_tenant
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from pool.regtest.template import subsidy_sat
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.sites import HUB, NO_BLOCKS, POOL, Program

EDGES: Final = 75
MACHINES: Final = 18_700  # of each
MINUTES: Final = 4  # of work, and so many are looked at
AWAY_MINUTES: Final = 4  # that the hub is stopped
LOOK_S: Final = 2.0
# Books that are no later have all that was there when a minute's taking began: they are not behind.
CAUGHT_UP_S: Final = 75
START_S_MAX: Final = 1_800.0  # of a hub that knows all machines
# On regtest the books are brought up to date as in a rehearsal, every two seconds: here as anywhere else.
PATIENT: Final = """
import pool.config
from pool.books.bookkeeper import BookTimes
from pool.cli.main import main
pool.config.IMPATIENT = BookTimes()
main()
"""


class Size(msgspec.Struct, frozen=True, kw_only=True):
    edges: int = EDGES
    machines: int = MACHINES
    minutes: int = MINUTES
    away_minutes: int = AWAY_MINUTES

    @property
    def rows_a_minute(self) -> int:
        return self.edges * self.machines


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Of a play. Processor time is in seconds; books are `late_s` at its begin, at most and at its end."""

    what: str
    took_s: float
    rows: int
    hub_s: float
    database_s: float
    nats_s: float
    edges_s: float
    hub_bytes: int  # resident, at its end
    log_bytes: int
    late_s: tuple[int, int, int]
    of_edge_bytes: int  # to the NATS server, by the edge in the middle
    to_edge_bytes: int


class NatsWatched(NatsServer):
    """It says over HTTP what it has carried, to this host."""

    def run(self) -> None:
        self.web = free_port()
        with self.settings.open("a") as settings:
            settings.write(f'http: "127.0.0.1:{self.web}"\n')
        super().run()

    @property
    def process(self) -> int:
        assert self._process is not None
        return self._process.pid

    def carried(self) -> dict[str, tuple[int, int]]:
        """Bytes of each who is connected, by his key: those that he sent, and got."""
        url = f"http://127.0.0.1:{self.web}/connz?auth=true&limit=1024"
        with urllib.request.urlopen(url) as answer:
            found = json.loads(answer.read())["connections"]
        return {it["authorized_user"]: (it["in_bytes"], it["out_bytes"]) for it in found}


class Play:
    """All of it; what it has used is told from one moment to the next (`stretch`)."""

    def __init__(self, size: Size, database: Database, store: Store, nats: NatsWatched, hub: Program) -> None:
        self.size, self.hub, self.edges = size, hub, list[SiteWithoutMiners]()
        self._database, self._store, self._nats = database, store, nats
        self._since: tuple[float, ...] = ()
        self._carried: dict[str, tuple[int, int]] = {}
        self._hub_before_s = 0.0  # of processes of the hub that have ended
        self._late_first_s = self._late_most_s = self.late_s = 0
        self.stretches: list[Stretch] = []

    # What happens

    async def start_hub(self) -> float:
        """How long it took."""
        began_s = time.monotonic()
        self.hub.start()
        with trio.fail_after(START_S_MAX):
            while "event=hub_serves" not in self.hub.log:
                assert self.hub.lives, self.hub.log[-3000:]
                await trio.sleep(0.1)
        return time.monotonic() - began_s

    async def stop_hub(self) -> float:
        began_s = time.monotonic()
        number = self.hub.number
        self.hub.send(SIGTERM)
        used_s = _used_s(number)
        while self.hub.lives:
            used_s = _used_s(number) or used_s
            await trio.sleep(0.05)
        self._hub_before_s += used_s
        return time.monotonic() - began_s

    async def work(self, seconds: int) -> None:
        """A record a second and edge, on the second."""
        began_s = trio.current_time()
        for second in range(seconds):
            await trio.sleep_until(began_s + second)
            await trio.to_thread.run_sync(self._append)
        await trio.sleep_until(began_s + seconds)

    def _append(self) -> None:
        for it in self.edges:
            it.append()

    async def watch(self) -> None:
        """How late the books are, until cancelled."""
        while True:
            await self.look()
            await trio.sleep(LOOK_S)

    async def look(self) -> None:
        booked = await trio.to_thread.run_sync(self._booked)
        self.late_s = max(it.number - booked.get(it.writer, 0) for it in self.edges)
        self._late_most_s = max(self._late_most_s, self.late_s)

    async def until_late(self, at_most_s: int) -> None:
        await self.look()
        while self.late_s > at_most_s:
            assert self.hub.lives, self.hub.log[-3000:]
            await trio.sleep(LOOK_S / 4)
            await self.look()

    def _booked(self) -> dict[str, int]:
        with self._store.read() as connection:
            return {it.writer: it.at.number for it in positions(connection)}

    # What it takes

    def begin(self) -> None:
        self._since, self._carried = self._now(), self._nats.carried()
        self._late_first_s = self._late_most_s = self.late_s

    def stretch(self, what: str) -> Stretch:
        """Since the last one, or `begin`."""
        now = self._now()
        took_s, rows, hub_s, database_s, nats_s, edges_s, log_bytes = (
            b - a for a, b in zip(self._since, now, strict=True)
        )
        carried, keys = self._nats.carried(), set(self._nats.keys.edges.values())
        passed = [
            (carried[it][0] - self._carried[it][0], carried[it][1] - self._carried[it][1])
            for it in keys & carried.keys() & self._carried.keys()
        ]
        made = Stretch(
            what=what,
            took_s=took_s,
            rows=int(rows),
            hub_s=hub_s,
            database_s=database_s,
            nats_s=nats_s,
            edges_s=edges_s,
            hub_bytes=_resident_bytes(self.hub.number),
            log_bytes=int(log_bytes),
            late_s=(self._late_first_s, self._late_most_s, self.late_s),
            of_edge_bytes=int(median(sent for sent, _ in passed)),
            to_edge_bytes=int(median(got for _, got in passed)),
        )
        self.stretches.append(made)
        self.begin()
        print(f"  {words_of(made)}", flush=True)
        return made

    def _now(self) -> tuple[float, ...]:
        hub_s = self._hub_before_s + (_used_s(self.hub.number) if self.hub.lives else 0.0)
        return (
            time.monotonic(),
            float(self._rows()),
            hub_s,
            self._database.server_s(),
            _used_s(self._nats.process),
            time.process_time(),
            float(self._database.log_bytes(self._store)),
        )

    def _rows(self) -> int:
        """Minutes of machines that the books have: of what each journal is booked up to."""
        booked = self._booked()
        return sum(_rows_up_to(booked.get(it.writer, 0), self.size.machines) for it in self.edges)

    def shares(self) -> int:
        """In the books."""
        with self._store.read() as connection:
            return int(connection.scalar(select(func.sum(tally_minutes.c.shares))) or 0)

    def disk_bytes(self) -> int:
        """Of the books."""
        with self._store.read() as connection:
            size = text("SELECT pg_database_size(current_database())")
            return int(connection.execute(size).scalar_one())


def _rows_up_to(record: int, machines: int) -> int:
    """Every machine has a share every TURNS seconds, and so a row a minute; an opening is no second."""
    return max(0, record - 1) * machines // 60


def _used_s(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _resident_bytes(process: int) -> int:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _programs(size: Size, home: Path) -> Iterator[tuple[Database, Store, NatsWatched]]:
    """Empty books that know these edges, and a NATS server that does."""
    names = tuple(f"site{it + 1:02}" for it in range(size.edges))
    (home / "keys").mkdir()
    keys = Keys(home / "keys", names)
    nats = NatsWatched(home, keys)
    with ExitStack() as stack:
        database = stack.enter_context(databases()[-1]())
        store = stack.enter_context(closing(open_store(database.url)))
        with store.write() as connection:
            terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
            for name, nkey in keys.edges.items():
                add_tenant(connection, name, terms, by="bench", now_s=0)
                edge = add_edge(connection, name, nkey, [EdgePlace(name)], ths=None, by="bench", now_s=0)
                note_change(
                    connection,
                    by="bench",
                    source="bench",
                    command="edge.add",
                    subject=name,
                    was=None,
                    became=kept_of(edge),
                    now_s=0,
                )
        stack.callback(nats.remove)
        nats.start()
        yield database, store, nats


@asynccontextmanager
async def begun(size: Size, home: Path, *, patient: bool = True) -> AsyncIterator[Play]:
    """All of it runs, and no machine has worked. `patient`: books as anywhere but on regtest."""
    with _programs(size, home) as (database, store, nats):
        async with trio.open_nursery() as nursery:
            options = RegtestOptions(data_dir=home / "node", network_bits=NO_BLOCKS)
            node: RegtestNode = await nursery.start(serve_regtest, options)
            settings = POOL.format(url=node.url, cookie=node.cookie_file) + HUB.format(
                database=database.url,
                nats=json.dumps([f"nats://127.0.0.1:{nats.port}"]),
                key=nats.keys.home / "hub.nk",
            )
            hub = Program("hub", home / "hub", settings)
            if patient:
                hub.program = (sys.executable, "-c", PATIENT)
            play = Play(size, database, store, nats, hub)
            try:
                await play.start_hub()
                height = await _next_height(node)
                price = WorkPrice(nbits=NO_BLOCKS, subsidy_sat=subsidy_sat(height))
                for name in nats.keys.edges:
                    access = nats.keys.access(name, nats)
                    play.edges.append(SiteWithoutMiners(access, home / "sites", size.machines, price, height))
                async with trio.open_nursery() as beginning:
                    for it in play.edges:
                        beginning.start_soon(nursery.start, it.run)
                yield play
            finally:
                play.hub.kill()
                nursery.cancel_scope.cancel()


async def _play(size: Size, home: Path) -> dict[str, Any]:
    async with begun(size, home) as play:
        return await _acts(play)


async def _acts(play: Play) -> dict[str, Any]:
    size = play.size
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.watch)
        play.begin()
        await play.work(60)
        await play.until_late(0)
        play.stretch("machines that are new")
        await play.work(60)  # so that what follows begins in the middle of work
        play.begin()
        for minute in range(size.minutes):
            await play.work(60)
            play.stretch(f"minute {minute + 1}")
        away = await _away(play) if size.away_minutes else None
        await play.until_late(0)
        nursery.cancel_scope.cancel()
    lacking = sum(it.accepted for it in play.edges) - play.shares()
    assert not lacking, f"{lacking} shares are not in the books"
    found: dict[str, Any] = msgspec.to_builtins(
        {
            "size": size,
            "stretches": play.stretches,
            "away": away,
            "shares": play.shares(),
            "disk_bytes": play.disk_bytes(),
        }
    )
    return found


async def _away(play: Play) -> dict[str, float]:
    """The hub is, and what has gathered is taken while more comes."""
    async with trio.open_nursery() as working:
        working.start_soon(play.work, 24 * 3600)
        await play.until_late(CAUGHT_UP_S)
        stopped_in_s = await play.stop_hub()
        await trio.sleep(play.size.away_minutes * 60)
        await play.look()
        play.begin()
        started_in_s = await play.start_hub()
        await play.until_late(CAUGHT_UP_S)
        play.stretch("what has gathered")
        working.cancel_scope.cancel()
    return {"stopped_in_s": stopped_in_s, "started_in_s": started_in_s}


async def _next_height(node: RegtestNode) -> int:
    asked = Node(NodeConfig(name="asked", url=node.url, cookie_file=node.cookie_file))
    try:
        return await asked.tip_height() + 1
    finally:
        await asked.aclose()


def run(size: Size | None = None) -> dict[str, Any]:
    size = Size() if size is None else size
    with tempfile.TemporaryDirectory(prefix="angara-bench-", ignore_cleanup_errors=True) as at:
        return trio.run(partial(_play, size, Path(at)))


def words_of(it: Stretch) -> str:
    return (
        f"{it.what}: {it.took_s:.0f} s, {it.rows:,} rows, hub {it.hub_s:.1f} s, database"
        f" {it.database_s:.1f} s, NATS {it.nats_s:.1f} s, edges {it.edges_s:.1f} s, late {it.late_s} s,"
        f" hub {it.hub_bytes >> 20} MiB, edge {it.of_edge_bytes / it.took_s:,.0f} and"
        f" {it.to_edge_bytes / it.took_s:,.0f} bytes/s"
    )


def section(result: dict[str, Any]) -> Section:
    size = msgspec.convert(result["size"], type=Size)
    stretches = msgspec.convert(result["stretches"], type=list[Stretch])
    rows = [
        (
            it.what,
            f"{it.took_s:.0f}",
            f"{it.rows / it.took_s:,.0f}",
            *(
                f"{used_s / it.rows * 1e6:.1f}" if it.rows else "-"
                for used_s in (it.hub_s, it.database_s, it.nats_s)
            ),
            f"{(it.hub_s + it.database_s + it.nats_s) / it.took_s:.2f}",
            f"{it.edges_s / it.took_s:.2f}",
            f"{it.late_s[1]}",
            f"{it.hub_bytes / 1e9:.2f}",
            f"{it.of_edge_bytes / it.took_s / 1e3:.1f} / {it.to_edge_bytes / it.took_s / 1e3:.1f}",
        )
        for it in stretches
    ]
    needed = size.rows_a_minute / 60
    return Section(
        (
            f"{size.edges} sites of {size.machines:,} machines, {size.rows_a_minute:,} in all, a share each"
            f" every {TURNS} s: {needed:,.0f} rows a second. `angara hub`, PostgreSQL and nats-server as"
            " they are run; the edges, without miners, in one process beside them on the same cores. All"
            f" {result['shares']:,} shares are in the books at the end.\n",
            *table(
                (
                    "what",
                    "s",
                    "rows/s",
                    "us of the hub a row",
                    "us of PostgreSQL",
                    "us of NATS",
                    "cores of the three",
                    "cores of the edges",
                    "s that the books were late at most",
                    "GB of the hub",
                    "kB/s of an edge, to it",
                ),
                rows,
            ),
            *_of_away(size, stretches[-1], result["away"]),
        )
    )


def _of_away(size: Size, last: Stretch, away: dict[str, float] | None) -> Iterator[str]:
    if away is None:
        return
    taken_s = max(1.0, last.took_s - away["started_in_s"])
    factor = last.rows / size.rows_a_minute * 60 / taken_s
    yield (
        f"\nThe hub was stopped for {size.away_minutes} minutes (it took {away['stopped_in_s']:.0f} s to end,"
        f" {away['started_in_s']:.0f} s to begin), and was behind no more {last.took_s:.0f} s after it was"
        f" started: from then on it took {factor:.1f} times as fast as shares came."
    )


PART: Final = Part(title="Many sites at work", seconds=1_500, run=run, section=section)
