"""The pool's host: a process that is killed and started again, and its disk, which outlives it.

Everything in the process is production code, from `pool.main.Pool` down. Miners come in where listeners put
what they have accepted (`Switchboard.arrive`).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio

from payouts.rates import Scheme
from pool import parts
from pool.books.bookkeeper import BookTimes
from pool.books.journal import start
from pool.books.journal.start import OpenJournal, open_journals
from pool.chain.nodes import NodeConfig
from pool.config import PoolConfig
from pool.data_dir import database_url
from pool.fleet.rows import TenantTerms, add_tenant
from pool.journal.log import JournalLog
from pool.main import Pool
from pool.routing import proxy
from pool.upstreams.channel import ChannelServices
from pool.upstreams.rows import NewUpstream, add_upstream, find_upstream
from stratum.miners.vardiff import VardiffPolicy
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.upstreams import PASSWORD, USER
from tests.fixtures.databases import store_in
from tests.simulation.auditor import Found
from tests.simulation.bitcoinds import Bitcoind
from tests.simulation.course import NOON_S
from tests.simulation.dice import Dice, dice
from tests.simulation.disk import Books, BooksHealth, JournalDisk
from tests.simulation.miners import Miner
from tests.simulation.network import Connection
from tests.simulation.process import PROCESS, Moment, Process
from tests.simulation.upstreams import HOST, PORT

if TYPE_CHECKING:
    from tests.simulation.world import World

ELSEWHERE: Final = "cascade"  # the tenant that mines on the upstream
DOWN_S: Final = (0.5, 12.0)  # until a process that ended is started again
SEGMENT_BYTES: Final = 1_024  # some batches: files begin and are trimmed all the time
TAKEN_BYTES_MAX: Final = 3 * SEGMENT_BYTES  # as in production, more than the file that is being taken


class PoolNode:
    """`lives` counts its processes."""

    def __init__(self, world: "World", directory: Path, fees_bps: Mapping[str, int]) -> None:
        self.world = world
        self.data_dir = directory / "pool"
        self.database = self.data_dir / "angara.db"
        self.disk = JournalDisk(dice(world.seed, "disk"))
        self.health = BooksHealth()
        self.lives = 0
        self.process: Process | None = None
        self.failure_expected = False  # the disk has failed, and the pool is to stop by itself
        self.power_fails_too = False
        self.next_fuse: tuple[Moment, int] | None = None  # of the next process
        self._chance = dice(world.seed, "process")
        self._pool: Pool | None = None  # that serves
        self._journals: list[JournalLog] = []  # that were opened, and are closed with their process
        self._stopping = False
        self._stopped = trio.Event()
        self._serves = trio.Event()
        self._make_books(fees_bps)

    def _make_books(self, fees_bps: Mapping[str, int]) -> None:
        """Tenants that are paid by our own price, one of which mines elsewhere."""
        store = store_in(self.data_dir)
        endpoint = UpstreamEndpoint(host=HOST, port=PORT, user=USER, password=PASSWORD)
        with store.write() as connection:
            new = NewUpstream(name="north", endpoints=(endpoint,))
            add_upstream(connection, new, by="world", now_s=NOON_S)
            for name, fee_bps in fees_bps.items():
                elsewhere = find_upstream(connection, "north").id if name == ELSEWHERE else None
                terms = TenantTerms(
                    scheme=Scheme.PPS, fee_bps=fee_bps, payout_minimum_sat=0, upstream_id=elsewhere
                )
                add_tenant(connection, name, terms, by="world", now_s=NOON_S)
        store.close()

    # From outside

    def connect(self, miner: Miner, address: str, links: Dice) -> Connection | None:
        """As a listener that has accepted it."""
        pool = self._pool
        if pool is None:
            return None
        place = pool.edge.miners.connection_limits.enter(address)
        if isinstance(place, str):
            return None
        connection, far = self.world.network.connect(miner, links)
        pool.edge.miners.board.arrive(far, address, place)
        return connection

    async def served(self) -> None:
        """Return when there is a pool that serves miners."""
        while self._pool is None:
            await self._serves.wait()

    async def stop(self) -> None:
        """As an operator who asks it to."""
        self._stopping = True
        if self.process is not None:
            self.process.scope.cancel()
        await self._stopped.wait()

    # Its lives

    async def run(self) -> None:
        """One process after the other, until it is asked to stop."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "open_journals", self._open_journals)
            journal = partial(JournalLog, segment_bytes=SEGMENT_BYTES, taken_bytes_max=TAKEN_BYTES_MAX)
            patch.setattr(start, "JournalLog", journal)
            services = partial(ChannelServices, connect=self.world.upstream.connect)
            patch.setattr(proxy, "ChannelServices", services)
            while not self._stopping:
                await self._life()
                if not self._stopping:
                    await trio.sleep(self._chance.uniform(*DOWN_S))
        self._stopped.set()

    async def _life(self) -> None:
        self.lives += 1
        self.process = process = Process(f"pool, life {self.lives}", self._killed)
        self.disk.owner = process
        if self.next_fuse is not None:
            process.light(*self.next_fuse)
            self.next_fuse = None
        async with trio.open_nursery() as nursery:
            PROCESS.set(process)
            nursery.start_soon(self._serve, process)
            PROCESS.set(None)

    async def _serve(self, process: Process) -> None:
        books: Books | None = None
        self.world.note("life", self.lives)
        with process.scope:
            try:
                books = Books(self.data_dir, process, self.health)
                pool = Pool(
                    self._config(), books, transport=self._transport, wall_clock=self.world.clock.wall_s
                )
                async with trio.open_nursery() as nursery:
                    await nursery.start(pool.run)
                    self._pool = pool
                    serves, self._serves = self._serves, trio.Event()
                    serves.set()
            except BaseException as error:
                self._ended(process, error)
            finally:
                self._pool = None
        PROCESS.set(None)
        while self._journals:
            self._journals.pop().close()
        if books is not None:
            books.close()
        self.failure_expected = False
        if self.power_fails_too and not self._stopping:
            self.power_fails_too = False
            self.world.note("power cut")
            self.disk.power_cut(self._chance)

    def _open_journals(self, *args: Any, **options: Any) -> list[OpenJournal]:
        opened = open_journals(*args, **options, disk=self.disk)
        self._journals += [it.log for it in opened]
        return opened

    def _ended(self, process: Process, error: BaseException) -> None:
        self.world.note("ended", type(error).__name__)
        if self._pool is None and "database is locked" in _words(error):
            return  # books that are away refuse a start, which is tried again
        if process.alive and not self._stopping and not self.failure_expected:
            self.world.found.append(Found("the pool stopped by itself", _words(error)))

    def _killed(self) -> None:
        self.world.note("killed")
        kept = self._chance.random() < 0.5
        for connection in list(self.world.network.connections.values()):
            connection.lost_with_its_pool(kept)
        self.world.upstream.cut()

    def _transport(self, config: NodeConfig) -> Bitcoind:
        return next(it for it in self.world.bitcoinds.nodes if it.name == config.name)

    def _config(self) -> PoolConfig:
        return PoolConfig(
            network="regtest",
            data_dir=self.data_dir,
            payout_script=bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6"),
            tag="/world/",
            outage_s=60.0,
            nodes=tuple(it.config for it in self.world.bitcoinds.nodes),
            endpoints=(),
            start_difficulty_log2=-30,
            vardiff=VardiffPolicy(aim_s=3.0, difficulty_log2_min=-32, difficulty_log2_max=-25),
            extranonce2_bytes=4,
            line_bytes_max=8192,
            database_url=database_url(self.data_dir),
            books=BookTimes(fold_s=8.0, settle_s=15.0, settle_early_s=3660),
        )


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"
