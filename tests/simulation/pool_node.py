"""The pool's host, whose processes are production code, from `pool.main.Pool` down. Miners come in where
listeners put what they have accepted (`Switchboard.arrive`).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

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
from stratum.miners.turns.arrival import Arrival
from stratum.miners.vardiff import VardiffPolicy
from stratum.sv2.authority import Credentials, public_text
from stratum.sv2.dialect import Sv2
from stratum.sv2.secp256k1 import key_pair
from stratum.upstream.endpoint import UpstreamEndpoint
from tests.fakes.upstreams import PASSWORD, USER
from tests.fixtures.databases import store_in
from tests.histories.proof import SECRET
from tests.simulation.auditor import Found
from tests.simulation.bitcoinds import Bitcoind
from tests.simulation.course import NOON_S
from tests.simulation.dice import Dice
from tests.simulation.disk import Books, BooksHealth
from tests.simulation.ground import ELSEWHERE, Ground
from tests.simulation.host import Host, words_of
from tests.simulation.kept_auditor import KEPT_LOG2
from tests.simulation.miners import Miner
from tests.simulation.network import Connection
from tests.simulation.process import Process
from tests.simulation.proxies import CERTIFICATE_S, Line
from tests.simulation.upstreams import HOST, PORT

SEGMENT_BYTES: Final = 1_024  # some batches: files begin and are trimmed all the time
TAKEN_BYTES_MAX: Final = 3 * SEGMENT_BYTES  # as in production, more than the file that is being taken
PAYOUT_SCRIPT: Final = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
VARDIFF: Final = VardiffPolicy(aim_s=3.0, difficulty_log2_min=-32, difficulty_log2_max=-25)
PROOF_KEY: Final = "proof.key"
BOOK_TIMES: Final = BookTimes(fold_s=8.0, settle_s=15.0, settle_early_s=3660)


def make_books(data_dir: Path, fees_bps: Mapping[str, int]) -> None:
    """Tenants that are paid by our own price, one of which mines elsewhere; and the key of their proofs."""
    store = store_in(data_dir)
    (data_dir / PROOF_KEY).write_text(SECRET.hex())
    (data_dir / PROOF_KEY).chmod(0o600)
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


class PoolNode(Host):
    """A whole pool in one process, and its books beside it."""

    def __init__(self, world: Ground, directory: Path, fees_bps: Mapping[str, int]) -> None:
        super().__init__(world, "pool", directory / "pool")
        self.database = self.data_dir / "angara.db"
        self.health = BooksHealth()
        self._pool: Pool | None = None  # that serves
        self._sv2: Sv2 | None = None  # of it
        self._key = key_pair()
        make_books(self.data_dir, fees_bps)

    @property
    def serves(self) -> bool:
        return self._pool is not None

    def connect(self, miner: Miner, address: str, links: Dice) -> Connection | None:
        """As a listener that has accepted it."""
        if self._pool is None:
            return None
        served = self._pool.edge.miners
        return self.take(served.board, served.connection_limits, miner, address, links)

    def reach(self, line: Line, address: str, links: Dice) -> Connection | None:
        """Likewise, of the listener for Stratum V2."""
        if self._pool is None or self._sv2 is None:
            return None
        served, sv2 = self._pool.edge.miners, self._sv2
        board, limits = served.board, served.connection_limits

        def begin(arrived: Arrival) -> int:
            return sv2.connection(board, limits, arrived.sock, arrived.address, arrived.place)

        return self.take(board, limits, line, address, links, begin)

    @property
    def authority(self) -> str:
        """What the pool is known by, in all of its lives."""
        return public_text(self._key.x_only)

    async def run(self) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(parts, "open_journals", self._open_journals)
            journal = partial(JournalLog, segment_bytes=SEGMENT_BYTES, taken_bytes_max=TAKEN_BYTES_MAX)
            patch.setattr(start, "JournalLog", journal)
            services = partial(ChannelServices, connect=self.world.upstream.connect)
            patch.setattr(proxy, "ChannelServices", services)
            await super().run()

    async def serve(self, process: Process) -> None:
        books = Books(store_in(self.data_dir), process, self.health)
        try:
            pool = Pool(self._config(), books, transport=self._transport, wall_clock=self.world.clock.wall_s)
            async with trio.open_nursery() as nursery:
                await nursery.start(pool.run)
                credentials = Credentials(
                    self._key, validity_s=CERTIFICATE_S, wall_clock=self.world.clock.wall_s
                )
                self._sv2 = Sv2(credentials)
                await nursery.start(self._sv2.run, pool.edge.miners.board)
                self._pool = pool
                self.began()
        except BaseException as error:
            refused = self._pool is None and "database is locked" in words_of(error)
            if not refused:  # books that are away refuse a start, which is tried again
                raise
        finally:
            self._pool = self._sv2 = None
            books.close()

    def _open_journals(self, *args: Any, **options: Any) -> list[OpenJournal]:
        opened = open_journals(*args, **options, disk=self.disk)
        for it in opened:
            self.opened(it.log)
        return opened

    def failed(self, words: str) -> None:
        self.world.found.append(Found("the pool stopped by itself", words))

    def _transport(self, config: NodeConfig) -> Bitcoind:
        return next(it for it in self.world.bitcoinds.nodes if it.name == config.name)

    def _config(self) -> PoolConfig:
        return PoolConfig(
            network="regtest",
            data_dir=self.data_dir,
            payout_script=PAYOUT_SCRIPT,
            tag="/world/",
            outage_s=60.0,
            nodes=tuple(it.config for it in self.world.bitcoinds.nodes),
            endpoints=(),
            start_difficulty_log2=-30,
            vardiff=VARDIFF,
            extranonce2_bytes=4,
            line_bytes_max=8192,
            database_url=database_url(self.data_dir),
            books=BOOK_TIMES,
            proof_key_file=self.data_dir / PROOF_KEY,
            proof_from_log2=KEPT_LOG2,
        )
