"""Hosts of a world of sites: hubs, of which one keeps the books, and edges, each with a journal of its own.

Everything in their processes is production code: `pool.main.Pool` with a [hub], behind `await_lease`, and
`pool.sites.edge_site.EdgeSite`. What is not there is the host's: sockets to nodes, the
thread of NATS, signals.

A second hub waits for the first one's end. A real one takes over from a hub that stands still, too, since
PostgreSQL ends its sessions: here its lock is taken from it (`HubHost.lose_lease`), and it has to find out.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import pytest
import trio

from pool import parts
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.books import lease
from pool.books.edges import remote, remote_edge
from pool.books.edges.leases import EdgeRefused, Granted
from pool.books.journal import start
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.standby import await_lease
from pool.chain.node_set import NodeSet
from pool.config import NatsSettings, PoolConfig, SiteSettings
from pool.data_dir import database_url
from pool.edge import Edge
from pool.journal.frames import Place, frame_at
from pool.journal.log import JournalLog, writers
from pool.journal.second_copy import TwoDisks
from pool.journal.segments import end_of
from pool.main import Pool, RunningPool
from pool.people.roles import host_account
from pool.routing import proxy
from pool.sites import edge_site, hub_of_site, left_blocks, membership, served
from pool.sites import sites as sites_of_hub
from pool.sites.edge_site import EdgeSite
from pool.sites.membership import Membership
from pool.sites.nats import line, publisher
from pool.upstreams.channel import ChannelServices
from tests.fixtures.databases import store_in
from tests.simulation.bitcoinds import Bitcoind
from tests.simulation.dice import Dice, dice
from tests.simulation.disk import Books, BooksHealth, JournalDisk
from tests.simulation.host import HOST, Host, words_of
from tests.simulation.kept_auditor import KEPT_LOG2
from tests.simulation.miners import Miner
from tests.simulation.nats import LineToForgetfulNats
from tests.simulation.network import Connection
from tests.simulation.pool_node import BOOK_TIMES, PAYOUT_SCRIPT, PROOF_KEY, VARDIFF
from tests.simulation.process import PROCESS, Killed, Process

if TYPE_CHECKING:
    from tests.simulation.sites_world import SitesWorld

SEGMENT_BYTES: Final = 1_536  # some batches: files begin and are trimmed all the time
TAKEN_BYTES_MAX: Final = SEGMENT_BYTES
# What takes seconds and minutes between sites takes less here, in the same order: a world is a minute long.
SHORTER: Final[tuple[tuple[Any, str, float], ...]] = (
    (served, "RENEW_S", 3.0),
    (membership, "HUB_WAIT_S", 5.0),
    (hub_of_site, "AGAIN_S", 2.0),
    (hub_of_site, "NO_CREDITS_S", 10.0),
    (left_blocks, "LOOK_S", 3.0),
    (left_blocks, "LEFT_S", 12.0),
    (publisher, "AGAIN_S", 1.5),
    (line, "ANSWER_S", 8.0),
    (sites_of_hub, "WANT_S", 2.0),
    (remote_edge, "AWAY_S", 60),
    (lease, "TAKE_WAIT_S", 0.0),  # nobody else moves while a thread waits here
)
STILL_S: Final = 4.0  # that the hub has no more of a journal than before: all that was on its way is there
READ_S: Final = 2.0  # from a look at a journal's files until what was read is published, with a slow disk
NATS: Final = NatsSettings(urls=("nats://localhost:4222",), key_file=Path("none.nk"), authorities=None)


class HubHost(Host):
    """One of two. Both have the same books, and each its own copies of journals."""

    world: "SitesWorld"

    def __init__(self, world: "SitesWorld", name: str, books_dir: Path, health: BooksHealth) -> None:
        super().__init__(world, name, world.directory / name, name)
        self._books_dir, self._health = books_dir, health
        self._books: Books | None = None
        self._pool: Pool | None = None
        self._running: RunningPool | None = None
        self._tasks: trio.Nursery | None = None

    @property
    def serves(self) -> bool:
        return self._running is not None

    async def serve(self, process: Process) -> None:
        books = Books(store_in(self._books_dir), process, self._health)
        try:
            await await_lease(books)
            self._books = books
            self._pool = pool = Pool(
                self._config(), books, transport=self.world.transport, wall_clock=self.world.clock.wall_s
            )
            async with trio.open_nursery() as nursery:
                self._running = await nursery.start(pool.run)
                self._tasks = nursery
                self.began()
        except BaseException as error:
            refused = self._running is None and "database is locked" in words_of(error)
            if not refused:
                raise
        finally:
            self._pool = self._running = self._books = self._tasks = None
            books.close()

    def lose_lease(self) -> None:
        """Its lock is free, and it does not know."""
        if self.process is not None and self._books is not None and self._books._lease is not None:
            self.process.failure_expected = True
            self._books._lease._lock.release()

    def have(self, edge: str) -> tuple[str, int] | None:
        """The journal of an edge, and the last record of it that is on disk here."""
        if self._pool is None or self._pool.sites is None:
            return None
        found = next((it for it in self._pool.sites.remote.open if it.edge.name == edge), None)
        return None if found is None else (found.inbox.writer, found.inbox.have.number)

    @property
    def stands_by(self) -> bool:
        return not self.serves and self.process is not None and self.process.alive

    @property
    def copies(self) -> str | None:
        """What the books know its copies by."""
        name = self.data_dir / "inbox" / "hub"
        return name.read_text().strip() if name.exists() else None

    async def command(self, name: str, /, **params: Any) -> bool:
        """As an operator gives it at this hub. False where it was refused, or nobody can say."""
        assert self._books is not None
        assert self._running is not None
        desk = Desk(self._books, "regtest", self._running.live)
        body, caller = msgspec.json.encode(params), host_account("world", "simulation")
        over, failed = trio.Event(), list[BaseException]([Killed(self.name)])

        async def give() -> None:
            try:
                await trio.to_thread.run_sync(execute, desk, name, body, caller)
                failed.clear()
            except Exception as error:
                failed[:] = [error]
            finally:
                over.set()

        assert self._tasks is not None
        outside = PROCESS.set(self.process), HOST.set(self)
        self._tasks.start_soon(give)
        PROCESS.reset(outside[0])
        HOST.reset(outside[1])
        await over.wait()
        return not failed

    def later(self, work: Callable[..., Any], *args: Any) -> None:
        """What a thread waits for is done, a little after it."""
        if self._tasks is not None:
            self._tasks.start_soon(work, *args)

    def _config(self) -> PoolConfig:
        nodes = [it for it in self.world.bitcoinds.nodes if it.name in self.world.nodes_of_hub]
        return _config(
            self.data_dir,
            nodes,
            hub=NATS,
            database_url=database_url(self._books_dir),
            proof_key_file=self._books_dir / PROOF_KEY,
            proof_from_log2=KEPT_LOG2,
        )


class DiskOfEdge(JournalDisk):
    """`on_remove` is told of each file that goes."""

    def __init__(self, chance: Dice) -> None:
        super().__init__(chance)
        self.on_remove: Callable[[Path], None] = lambda path: None

    def each_alone(self) -> "DiskOfEdge":
        return self

    def remove(self, path: Path) -> None:
        self.on_remove(path)
        super().remove(path)

    def replace(self, path: Path, by: Path) -> None:
        self._on_disk.setdefault(by, by.read_bytes() if by.exists() else b"")
        super().replace(path, by)


class TwoDisksOfEdge(TwoDisks, DiskOfEdge):
    """Both tear and lose, each what it has."""

    def __init__(self, chance: Dice) -> None:
        DiskOfEdge.__init__(self, chance)

    def in_use(self, home: Path, second: Path) -> "TwoDisksOfEdge":
        """By a process that begins."""
        TwoDisks.__init__(self, home, second)
        return self

    def each_alone(self) -> DiskOfEdge:
        """Before a process writes to both."""
        self.in_use(Path(), Path()).failed = "nobody writes to both yet"
        return self


class EdgeHost(Host):
    """`ahead_s` is by how much its wall clock has been put forward, `refused` why it was not let begin."""

    world: "SitesWorld"

    def __init__(self, world: "SitesWorld", name: str, *, two_disks: bool) -> None:
        self.second = world.directory / f"{name}-second" if two_disks else None
        super().__init__(world, name, world.directory / name, name)
        self.disk.on_remove = lambda path: world.trims.removed(self.writer, path)
        self.ahead_s = 0.0
        self.refused: str | None = None
        self._loses_disk = False  # before the next process begins
        self._put_back_since: int | None = None  # from which session on it is not known to be the edge
        self._edge: Edge | None = None  # that is made
        self._serving: Edge | None = None
        self.data_dir.mkdir()

    disk: DiskOfEdge

    def new_disk(self, chance: Dice) -> JournalDisk:
        return DiskOfEdge(chance) if self.second is None else TwoDisksOfEdge(chance)

    @property
    def serves(self) -> bool:
        return self._serving is not None

    @property
    def writer(self) -> str | None:
        found = writers(self.data_dir)
        return found[0].name if found else None

    @property
    def end(self) -> int:
        """The last record of its journal."""
        found = writers(self.data_dir)
        return end_of(found[0]).number if found else 0

    def wall_s(self) -> float:
        return self.world.clock.true_s() + self.ahead_s

    def connect(self, miner: Miner, address: str, links: Dice) -> Connection | None:
        if self._serving is None:
            return None
        served = self._serving.miners
        return self.take(served.board, served.connection_limits, miner, address, links)

    async def serve(self, process: Process) -> None:
        site = EdgeSite(self._config(), self.data_dir / "angara.toml", wall_clock=self.wall_s)
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(site.run)
                self._serving = self._edge
                self.began()
        except BaseException as error:
            if words_of(error).startswith(EdgeRefused.__name__):
                self.refused = words_of(error)
            raise

    def left(self) -> None:
        self._edge = self._serving = None

    def made(self, *given: Any, **more: Any) -> Edge:
        self._edge = Edge(*given, **more)
        return self._edge

    def granted(self) -> None:
        self._put_back_since = None

    def failed(self, words: str) -> None:
        if self.refused is None or (self._put_back_since is None and not self._loses_disk):
            super().failed(words)

    # What becomes of its disk

    def lose_disk(self) -> None:
        """The first one, while it runs."""
        self.kill()
        if self.second is None:
            self._note_loss()
            self._loses_disk = True
        shutil.rmtree(self.data_dir)
        self.data_dir.mkdir()

    def lose_second_disk(self) -> None:
        self.kill()
        if self.second is not None:
            shutil.rmtree(self.second, ignore_errors=True)

    def copy_disk(self) -> Path:
        """As it is now."""
        copy = self.world.directory / f"{self.name}-copy-{self.world.next_number()}"
        shutil.copytree(self.data_dir, copy)
        return copy

    def put_back(self, copy: Path) -> None:
        """The first one is what it was when it was copied."""
        if self._loses_disk or [it.name for it in writers(copy)] != [
            it.name for it in writers(self.data_dir)
        ]:
            return
        self.kill()
        if self.second is None:
            self._note_loss()
            self._put_back_since = self.world.sessions + 1
        shutil.rmtree(self.data_dir)
        shutil.copytree(copy, self.data_dir)

    def _note_loss(self) -> None:
        """What had not left it: acknowledged after what is at the hub was read for it."""
        writer, have = self.writer, self.world.have(self.name)
        since_s = 0.0
        for sent in self.world.nats.sent.get(self.name, ()):
            last = last_record(writer, sent.data)
            if last is not None and last <= have:
                since_s = max(since_s, sent.at_s - READ_S)
        self.world.lost(self.name, 0, self.world.sessions, since_s)

    async def between_lives(self) -> None:
        """As docs/sites.md has it: wait for what is on its way, then let it begin another journal. Where that
        is refused, the hub that has more of the one before takes over first."""
        if self.refused is not None:
            if self._put_back_since is not None:
                self.world.lost(self.name, self._put_back_since, self.world.sessions, 0.0)
            self._loses_disk, self.refused = True, None
        if not self._loses_disk:
            return
        await self._all_is_booked()
        while self.world.journal_of(self.name) is not None:
            if self.stopping or await self.world.command("edge.reset", name=self.name):
                break
            self.world.let_take_over(self.name)
            await self._all_is_booked()
        if self.stopping:
            return
        for directory in (self.data_dir, self.second):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
                directory.mkdir()
        self._loses_disk, self._put_back_since = False, None

    async def _all_is_booked(self) -> None:
        before, since_s = (-1, -1), trio.current_time()
        while not self.stopping:
            now = self.world.shown(self.name)
            if now != before or now[0] != now[1]:
                before, since_s = now, trio.current_time()
            elif trio.current_time() - since_s >= STILL_S:
                return
            await trio.sleep(1.0)

    def _config(self) -> PoolConfig:
        nodes = [it for it in self.world.bitcoinds.nodes if it.name == self.name]
        site = SiteSettings(name=self.name, nats=NATS, alone_hours=24, second_journal=self.second)
        return _config(self.data_dir, nodes, site=site, database_url="")


def last_record(writer: str | None, data: bytes) -> int | None:
    """Of a message with frames of that journal; None where it is another's."""
    _, frames = msgspec.msgpack.decode(data)
    offset, last = 0, None
    while writer is not None and (frame := frame_at(writer, frames, offset)) is not None:
        offset, last = frame.end, frame.at.number
    return last


def booked_up_to(database: Path, writer: str | None) -> int:
    """The last record of a journal that is in the books."""
    found = in_books(database, "SELECT number FROM journal_positions WHERE writer = ?", writer)
    return int(found[0]) if found else 0


def in_books(database: Path, question: str, *values: Any) -> list[Any]:
    """The first column of what they answer."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as books:
        return [row[0] for row in books.execute(question, values)]


def _config(data_dir: Path, nodes: list[Bitcoind], **rest: Any) -> PoolConfig:
    return PoolConfig(
        network="regtest",
        data_dir=data_dir,
        payout_script=PAYOUT_SCRIPT,
        tag="/world/",
        outage_s=60.0,
        nodes=tuple(it.config for it in nodes),
        endpoints=(),
        start_difficulty_log2=-30,
        vardiff=VARDIFF,
        extranonce2_bytes=4,
        line_bytes_max=8192,
        books=BOOK_TIMES,
        **rest,
    )


def _here(kind: type[Any]) -> Any:
    """The host of the process whose task this is."""
    host = HOST.get()
    assert isinstance(host, kind)
    return host


class _NotedMembership(Membership):
    async def ask(self, last: Place) -> Granted:
        granted = await super().ask(last)
        _here(EdgeHost).granted()
        return granted


@contextmanager
def hosted(world: "SitesWorld") -> Iterator[None]:
    """What processes have of their hosts, until the end of the block."""
    links = dice(world.seed, "nats lines")
    small = partial(JournalLog, segment_bytes=SEGMENT_BYTES, taken_bytes_max=TAKEN_BYTES_MAX)

    def nats_line(access: Any) -> LineToForgetfulNats:
        return LineToForgetfulNats(access, world.nats, _here(Host).name, links)

    def journals(*args: Any, **options: Any) -> list[OpenJournal]:
        host = _here(HubHost)
        opened = open_journals(*args, **options, disk=host.disk)
        for it in opened:
            host.opened(it.log)
        return opened

    def journal(*args: Any, **options: Any) -> JournalLog:
        made: JournalLog = small(*args, **options)
        return _here(EdgeHost).opened(made) if isinstance(HOST.get(), EdgeHost) else made

    async def no_hangups(
        site: EdgeSite, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """A host without signals."""
        task_status.started()

    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in SHORTER:
            patch.setattr(module, name, value)
        patch.setattr(sites_of_hub, "Connection", nats_line)
        patch.setattr(
            sites_of_hub,
            "RemoteEdges",
            lambda *args, **options: remote.RemoteEdges(
                *args, disk=_here(HubHost).disk, free_bytes_min=0, **options
            ),
        )
        patch.setattr(parts, "open_journals", journals)
        patch.setattr(start, "JournalLog", journal)
        patch.setattr(proxy, "ChannelServices", partial(ChannelServices, connect=world.upstream.connect))
        patch.setattr(trio.from_thread, "run", lambda work, *args: _here(HubHost).later(work, *args))
        patch.setattr(edge_site, "Connection", nats_line)
        patch.setattr(edge_site, "NodeSet", partial(NodeSet, transport=world.transport))
        patch.setattr(edge_site, "Membership", _NotedMembership)
        patch.setattr(edge_site, "Edge", lambda *given, **more: _here(EdgeHost).made(*given, **more))
        patch.setattr(edge_site, "Disk", lambda: _here(EdgeHost).disk.each_alone())
        patch.setattr(
            edge_site,
            "TwoDisks",
            lambda home, second: cast(TwoDisksOfEdge, _here(EdgeHost).disk).in_use(home, second),
        )
        patch.setattr(EdgeSite, "_mind_hangups", no_hangups)
        patch.setattr("pool.sites.begin_again.JournalLog", journal)
        patch.setattr(membership, "process_name", lambda: f"process {_here(EdgeHost).lives}")
        patch.setattr(membership, "host_name", lambda: _here(EdgeHost).name)
        yield
