"""Edges, hubs and NATS servers as processes of this host, and what is in the books when all of it is told."""

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import trio
from sqlalchemy import func, select

from payouts.rates import Scheme
from payouts.schemas.money import blocks, settled_shares
from pool.books.audit.verify import verify
from pool.books.changes.changes import note_change
from pool.books.edges.rows import EdgePlace, add_edge, kept_of, load_edges
from pool.books.journal.positions import position_of
from pool.books.store import Store, open_store
from pool.chain.nodes import Node, NodeConfig
from pool.fleet.rows import TenantTerms, add_tenant
from pool.journal.log import writers
from pool.journal.segments import end_of
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest
from tests.fixtures.held_ports import held_port
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.fixtures.programs import AngaraProcess
from tests.stages.books_by_name import shares_by_name
from tests.stages.relays import Line
from tests.stages.waiting import until

ANGARA = str(Path(sys.executable).parent / "angara")
HAPPENS_IN_S = 180.0  # a safety net for loaded machines
LOOK_AT_BOOKS_S = 0.1  # a look takes milliseconds of a processor that they are made on
NO_BLOCKS = 0x1D00FFFF
POOL = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qk3e2yekshkyuzdcx5sfjena3da7rh87tay47fm"
[[node]]
name = "embedded"
url = "{url}"
cookie_file = "{cookie}"
"""
HUB = """
[database]
url = "{database}"
[hub]
nats = {nats}
key_file = "{key}"
"""
EDGE = """
[stratum]
listen = ["127.0.0.1:{port}"]
difficulty_start = 2.3283064365386963e-10
difficulty_min = 2.3283064365386963e-10
difficulty_max = 2.3283064365386963e-10
[edge]
name = "{name}"
nats = {nats}
key_file = "{key}"
"""


class Program:
    """One of ours, in a process of its own, with a directory for its settings, data and log."""

    def __init__(self, kind: str, directory: Path, settings: str) -> None:
        self.kind, self.directory = kind, directory
        self.program: Sequence[str] | None = None  # another one than `angara`, which knows its words
        directory.mkdir(parents=True)
        (directory / "angara.toml").write_text(settings)
        (directory / "log").touch()
        self._process: subprocess.Popen[bytes] | AngaraProcess | None = None
        self._log_from = 0

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        """Since it was started last."""
        return (self.directory / "log").read_text()[self._log_from :]

    @property
    def number(self) -> int:
        """Of its process, while that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        self._log_from = len((self.directory / "log").read_text())
        words = [self.kind, "-c", str(self.directory / "angara.toml")]
        if self.program is None:
            self._process = AngaraProcess(words, self.directory, self.directory / "log")
            return
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, *words], stdout=log, stderr=log, cwd=self.directory
            )

    async def says(self, event: str, times: int = 1) -> None:
        """Return when it has, since it was started."""
        try:
            await until(lambda: self.log.count(f"event={event}") >= times or not self.lives)
        except trio.TooSlowError:
            pytest.fail(f"{self.kind} did not say {event}:\n{self.log[-3000:]}")
        assert self.lives, f"{self.kind} ended before it said {event}:\n{self.log[-3000:]}"

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def command(self, *words: str) -> str:
        """What a command says, which is to succeed."""
        said = self.tried(*words)
        assert said.returncode == 0, f"{words}: {said.stderr}{said.stdout}"
        return said.stdout

    def tried(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command that may be refused."""
        return subprocess.run(
            [ANGARA, *words], capture_output=True, text=True, cwd=self.directory, check=False
        )

    async def ended(self) -> int:
        """What it ended with."""
        process = self._process
        assert process is not None
        with trio.fail_after(HAPPENS_IN_S):
            return int(await trio.to_thread.run_sync(process.wait))


class Sites:
    """What there is: nothing of it runs yet."""

    def __init__(
        self, home: Path, database: str, servers: Sequence[NatsServer], node: RegtestNode, *, hubs: int
    ) -> None:
        self.servers, self.database = servers, database
        self._home, self._node, self._hubs = home, node, hubs
        keys = servers[0].keys
        self.lines = {name: [Line(it.port) for it in servers] for name in ("hub", *keys.edges)}
        self.to_node = {name: Line(int(node.url.rpartition(":")[2])) for name in keys.edges}
        self._held = [held_port() for _ in keys.edges]
        self.ports = [int(it.getsockname()[1]) for it in self._held]
        self.hubs: list[Program] = []
        self.edges: list[Program] = []
        self.store: Store = open_store(database)
        with self.store.write() as connection:
            terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
            add_tenant(connection, "acme", terms, by="test", now_s=0)
            for name, nkey in keys.edges.items():
                made = add_edge(connection, name, nkey, [EdgePlace("acme")], ths=None, by="test", now_s=0)
                note_change(
                    connection,
                    by="test",
                    source="test",
                    command="edge.add",
                    subject=name,
                    was=None,
                    became=kept_of(made),
                    now_s=0,
                )

    async def made(self, nursery: trio.Nursery) -> None:
        """The lines, and what the programs are to know."""
        keys, node, home = self.servers[0].keys, self._node, self._home
        for lines in (*self.lines.values(), self.to_node.values()):
            for line in lines:
                await nursery.start(line.run)

        def pool(url: str) -> str:
            return POOL.format(url=url, cookie=node.cookie_file)

        key = keys.home / "hub.nk"
        hub = pool(node.url) + HUB.format(database=self.database, nats=self._urls("hub"), key=key)
        self.hubs = [Program("hub", home / f"hub{number}", hub) for number in range(self._hubs)]
        self.edges = [
            Program(
                "edge",
                home / name,
                pool(f"http://127.0.0.1:{self.to_node[name].port}")
                + EDGE.format(port=port, name=name, nats=self._urls(name), key=keys.home / f"{name}.nk"),
            )
            for name, port in zip(keys.edges, self.ports, strict=True)
        ]

    def _urls(self, name: str) -> str:
        return json.dumps([f"nats://127.0.0.1:{it.port}" for it in self.lines[name]])

    async def begin(self) -> None:
        """All of it, from the centre outwards."""
        self.hubs[0].start()
        await self.hubs[0].says("hub_serves")
        for it in (*self.hubs[1:], *self.edges):
            it.start()
        for it in self.edges:
            await it.says("edge_serves")

    def end(self) -> None:
        for it in (*self.edges, *self.hubs):
            it.kill()
        self.store.close()
        for held in self._held:
            held.close()

    async def height(self) -> int:
        """Of the chain."""
        node = Node(NodeConfig(name="asked", url=self._node.url, cookie_file=self._node.cookie_file))
        try:
            return await node.tip_height()
        finally:
            await node.aclose()

    async def all_is_booked(self, *edges: Program) -> None:
        """Wait until the books have what the journals of these edges, or of all, have now."""
        ends = {it.name: end_of(it).number for edge in edges or self.edges for it in writers(edge.data)}

        def booked() -> bool:
            with self.store.read() as connection:
                return all(position_of(connection, it).at.number >= end for it, end in ends.items())

        try:
            await until(booked, look_s=LOOK_AT_BOOKS_S)
        except trio.TooSlowError:
            pytest.fail(f"not all is booked:\n{self.logs}")

    async def reset(self, hub: Program, edge: str) -> None:
        """Say at the hub that this edge has lost its journal: refused until all that is here of it is booked,
        as what was on its way when it ended may come yet."""
        words = ["edge", "reset", edge, "--data-dir", str(hub.data)]

        def is_reset() -> bool:
            said = hub.tried(*words)
            assert said.returncode == 0 or "wait until here and booked are the same" in said.stderr, said
            return said.returncode == 0

        await until(is_reset)

    @property
    def logs(self) -> str:
        return "\n".join(f"--- {it.directory.name}\n{it.log[-2000:]}" for it in (*self.hubs, *self.edges))

    def reconciled(self) -> None:
        """What edges wrote, what came of it and what is booked is one, as it is typed at each of them."""
        for edge in self.edges:
            said = edge.command("reconcile", "--journal", "data", "--json")
            (edge.directory / "said.json").write_text(said)
        files = [word for it in self.edges for word in ("--with", str(it.directory / "said.json"))]
        for hub in self.hubs:
            hub.command("reconcile", *files)

    def held(self) -> dict[str, str]:
        """Edges of which nothing is booked any more, and why."""
        with self.store.read() as connection:
            return {it.name: it.held for it in load_edges(connection) if it.held is not None}

    def blocks(self) -> int:
        """In the books."""
        with self.store.read() as connection:
            return int(connection.scalar(select(func.count()).select_from(blocks)) or 0)

    def settled(self) -> int:
        """Shares that tenants are credited."""
        with self.store.read() as connection:
            return int(connection.scalar(select(func.sum(settled_shares.c.shares))) or 0)

    def shares(self) -> Counter[str]:
        """In the books, by names of machines; the books are proven."""
        with self.store.read() as connection:
            assert verify(connection).wrong is None
            return Counter(shares_by_name(connection))


@asynccontextmanager
async def on_this_host(
    home: Path,
    database: str,
    *,
    edges: Iterable[str],
    hubs: int = 1,
    servers: int = 1,
    network_bits: int | None = NO_BLOCKS,
) -> AsyncIterator[Sites]:
    """Sites, with NATS servers and a node that run."""
    (home / "keys").mkdir()
    keys = Keys(home / "keys", tuple(edges))
    nats = [NatsServer(home, keys, f"n{number}") for number in range(1, servers + 1)]
    async with trio.open_nursery() as nursery:
        options = RegtestOptions(data_dir=home / "node", network_bits=network_bits)
        node: RegtestNode = await nursery.start(serve_regtest, options)
        try:
            routes = tuple(it.route for it in nats) if servers > 1 else ()
            for it in nats:
                it.begin(routes)
            for it in nats:
                it.wait()
            sites = Sites(home, database, nats, node, hubs=hubs)
            try:
                await sites.made(nursery)
                yield sites
            finally:
                sites.end()
        finally:
            for it in nats:
                it.remove()
        nursery.cancel_scope.cancel()


class Named(Protocol):
    """A miner whose every share has a name of its own."""

    @property
    def submitted(self) -> Sequence[str]: ...

    @property
    def acknowledged(self) -> Collection[str]: ...


def once(miners: Sequence[Named], booked: Counter[str]) -> None:
    """Every acknowledged share is in the books once, and none twice."""
    for miner in miners:
        for name in miner.submitted:
            least = 1 if name in miner.acknowledged else 0
            assert least <= booked[name] <= 1, f"{name} is {booked[name]} times in the books"
