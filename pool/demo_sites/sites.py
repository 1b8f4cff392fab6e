"""Several sites, as a demo has them: NATS servers, a hub and its books, edges, machines. What runs where.

    <home>/keys/          of hub and edges
    <home>/n1 n2 n3/      NATS servers: settings, store, log
    <home>/hub/           settings, data (the books are in it), log
    <home>/<site>/        the edge of a site: settings, data (its journal is in it), log
    <home>/node/          the chain of the embedded node

A second start goes on with these books and journals; NATS servers begin empty, since they only carry.

Must not know: what is broken, what a reader sees.
"""

import shutil
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec
import trio

from pool.books.book import bind
from pool.books.edges.rows import load_edges
from pool.books.store import Store, open_store
from pool.data_dir import database_url
from pool.demo import TENANTS, add_tenants, command, visit
from pool.demo_sites.machines import Address, Machines
from pool.demo_sites.programs import ANGARA, Program, State, held_port
from pool.demo_sites.proof import Proof, all_is_booked, booked_of_edges, prove, shares_by_machine
from pool.demo_sites.relay import Relay
from pool.demo_sites.settings import (
    NETWORK_BITS,
    NatsPorts,
    data_of,
    nats_store,
    nkey,
    write_edge,
    write_hub,
    write_nats,
)
from pool.regtest.server import RegtestNode, RegtestOptions, serve_regtest

SITES: Final = ("north", "south", "east", "west", "coast", "river", "lake", "hill")
NATS_SERVERS: Final = 3
LOOK_S: Final = 0.5  # at the books, and whether all programs live
BOOKED_S: Final = 300.0  # until the books have what is on disk: they take it every two seconds


class Edge(msgspec.Struct, frozen=True, eq=False):
    """Of one site. `lines`: to the NATS servers, where they can be cut."""

    name: str
    program: Program
    lines: tuple[Relay, ...]


class Sites:
    """So many. `binary` is a NATS server. `through_relays`: the lines of edges can be cut. Raises
    BadConfig."""

    def __init__(
        self, home: Path, binary: str, count: int, host: str, port: int, *, through_relays: bool
    ) -> None:
        self._home, self._through_relays = home.absolute(), through_relays
        self._binary = binary
        self._held = ExitStack()
        try:
            self._ports = [NatsPorts(f"n{n}", self._port(), self._port()) for n in range(1, NATS_SERVERS + 1)]
            self._web = self._port()
            self.addresses = [
                Address(name, host, self._port(host, port + at if port else 0))
                for at, name in enumerate(SITES[:count])
            ]
        except BaseException:
            self._held.close()
            raise
        self.machines = Machines(self.addresses, tuple(TENANTS))
        self.nats: list[Program] = []
        self.hub: Program | None = None
        self.edges: list[Edge] = []
        self.page = ""  # with who may look at it
        self.cut: str | None = None  # whose line is
        self._store: Store | None = None
        self._booked: dict[str, int] = {}
        self._booked_before: dict[str, int] = {}
        self._shares_before: Counter[str] = Counter()

    async def begin(self, nursery: trio.Nursery) -> None:
        """From the centre outwards, and the machines last. Raises ProgramEnded."""
        node: RegtestNode = await nursery.start(
            serve_regtest, RegtestOptions(data_dir=self._home / "node", network_bits=NETWORK_BITS)
        )
        await trio.to_thread.run_sync(self._open_books)
        keys = await trio.to_thread.run_sync(self._make_keys)
        self._make_nats(keys)
        self._make_hub(node)
        for address in self.addresses:
            await self._make_edge(nursery, node, address)
        nursery.start_soon(self._look)
        await self._start(*self.nats)
        await self._start(self._the_hub)
        await self._start(*(it.program for it in self.edges))
        if not await self.all_is_booked():
            raise TimeoutError(f"the books do not take what an earlier demo left in {self._home}")
        self._booked = self._booked_before = await trio.to_thread.run_sync(booked_of_edges, self._books)
        self._shares_before = await trio.to_thread.run_sync(shares_by_machine, self._books)
        nursery.start_soon(self.machines.run)

    async def end(self) -> None:
        """From the edges inwards."""
        async with trio.open_nursery() as ending:
            for edge in self.edges:
                ending.start_soon(edge.program.end)
        for program in (*([] if self.hub is None else [self.hub]), *self.nats):
            await program.end()
        if self._store is not None:
            self._store.close()
        self._held.close()

    @property
    def programs(self) -> list[Program]:
        hub = [] if self.hub is None else [self.hub]
        return [*self.nats, *hub, *(it.program for it in self.edges)]

    # How it stands

    def booked(self, edge: str) -> int:
        """Shares of its journal that the books have, since the machines began."""
        return self._booked.get(edge, 0) - self._booked_before.get(edge, 0)

    def not_booked(self) -> Counter[str]:
        """Shares that were acknowledged and are not in the books yet, by edge."""
        acknowledged = self.machines.acknowledged()
        return Counter({it: max(0, count - self.booked(it)) for it, count in acknowledged.items()})

    async def all_is_booked(self) -> bool:
        """Wait for it: every record of every edge's journal; False where that does not come."""
        journals = [data_of(it.program.directory) for it in self.edges]
        with trio.move_on_after(BOOKED_S):
            while True:
                if await trio.to_thread.run_sync(all_is_booked, self._books, journals):
                    return True
                await trio.sleep(LOOK_S)
        return False

    async def proof(self) -> Proof:
        """Of what the machines were told, when they have stopped and all is booked."""
        return await trio.to_thread.run_sync(prove, self._books, self.machines.all, self._shares_before)

    # What is done to it

    def kill_nats(self) -> None:
        """All servers, with everything that they carry."""
        for it in self.nats:
            it.kill()
        for it in self.nats:
            shutil.rmtree(nats_store(it.directory), ignore_errors=True)

    def kill_hub(self) -> None:
        self._the_hub.kill()

    def kill_first_edge(self) -> None:
        self.edges[0].program.kill()

    def cut_first(self) -> None:
        """The lines of the first edge, which are there with `through_relays`."""
        self.cut = self.edges[0].name
        for it in self.edges[0].lines:
            it.cut()

    def mend_first(self) -> None:
        self.cut = None
        for it in self.edges[0].lines:
            it.mend()

    async def start_again(self) -> None:
        """Whatever was killed. Raises ProgramEnded."""
        await self._start(*(it for it in self.programs if it.state is State.KILLED))

    async def _start(self, *programs: Program) -> None:
        for it in programs:
            it.start()
        for it in programs:
            await it.serves()

    async def _look(self) -> None:
        while True:
            for it in self.programs:
                it.check()
            self._booked = await trio.to_thread.run_sync(booked_of_edges, self._books)
            await trio.sleep(LOOK_S)

    # How it is made

    @property
    def _books(self) -> Store:
        assert self._store is not None
        return self._store

    @property
    def _the_hub(self) -> Program:
        assert self.hub is not None
        return self.hub

    def _port(self, host: str = "127.0.0.1", port: int = 0) -> int:
        held: socket.socket = self._held.enter_context(held_port(host, port))
        number: int = held.getsockname()[1]
        return number

    def _open_books(self) -> None:
        data_dir = data_of(self._home / "hub")
        data_dir.mkdir(parents=True, exist_ok=True)
        self._store = open_store(database_url(data_dir))
        bind(self._store, "regtest")
        add_tenants(self._store)

    def _make_keys(self) -> dict[str, str]:
        """Of all edges that the books know; each is in the books then."""
        (self._home / "keys").mkdir(mode=0o700, exist_ok=True)
        keys = {it.edge: nkey(self._key(it.edge)) for it in self.addresses}
        with self._books.read() as connection:
            known = {it.name for it in load_edges(connection)}
        for name in keys.keys() - known:
            command(self._books, "edge.add", name=name, nkey=keys[name], tenants=tuple(TENANTS))
        self.page = f"http://127.0.0.1:{self._web}/#token={visit(self._books)}"
        return keys

    def _key(self, name: str) -> Path:
        return self._home / "keys" / f"{name}.nk"

    def _make_nats(self, edges: dict[str, str]) -> None:
        hub = nkey(self._key("hub"))
        for it in self._ports:
            directory = self._home / it.name
            settings = write_nats(directory, it, self._ports, hub, edges)
            shutil.rmtree(nats_store(directory), ignore_errors=True)
            words = f"the NATS server {it.name}"
            self.nats.append(Program(words, [self._binary, "-c", str(settings)], directory, it.clients))

    def _make_hub(self, node: RegtestNode) -> None:
        directory, nats = self._home / "hub", [it.clients for it in self._ports]
        settings = write_hub(directory, node, web=self._web, nats=nats, key=self._key("hub"))
        self.hub = Program("the hub", [*ANGARA, "hub", "-c", str(settings)], directory, self._web)

    async def _make_edge(self, nursery: trio.Nursery, node: RegtestNode, address: Address) -> None:
        name, directory = address.edge, self._home / address.edge
        nats, lines = [it.clients for it in self._ports], list[Relay]()
        if self._through_relays:
            lines = [Relay(port) for port in nats]
            for line in lines:
                await nursery.start(line.run)
            nats = [line.port for line in lines]
        settings = write_edge(
            directory, node, name=name, listen=listen_text(address), nats=nats, key=self._key(name)
        )
        started = [*ANGARA, "edge", "-c", str(settings)]
        program = Program(f"the edge of {name}", started, directory, address.port, address.host)
        self.edges.append(Edge(name, program, tuple(lines)))


def listen_text(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"
