"""A journal and books that take it, to be stopped and begun again: production code, but for the clock."""

import shutil
import struct
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, select

from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.journal import Journal
from pool.books.journal.positions import position_of
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.start import OpenJournal, open_journals
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.journal.disk import Disk
from pool.journal.log import writers
from pool.journal.records import Batch, unpacked
from pool.journal.segments import Walk
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict, merge
from tests.fakes.owners import ConnectionFrom
from tests.stages.prices import open_epoch, prices_of

NOW_S = 1_700_000_000 // 3600 * 3600
PRICE = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000)


def tally(
    worker: int, rate: int, log2: int = 16, verdict: Verdict = Verdict.ACCEPTED, count: int = 1
) -> bytes:
    return struct.pack("=IIbBHI", worker, rate, log2, verdict, 0, count)


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


def waiting(data_dir: Path, connection: Connection) -> Iterator[Batch]:
    """Batches of the journals in a data directory that these books have not taken."""
    for directory in writers(data_dir):
        at = position_of(connection, directory.name).at
        for frame in Walk(directory, directory.name, at).frames():
            said = unpacked(frame.body)
            if frame.at.number > at.number and isinstance(said, Batch):
                yield said


class DiskInMemory(Disk):
    """Syncs nothing: a process that dies loses nothing by that, and tests gain milliseconds each."""

    def sync(self, descriptor: int) -> None:
        pass

    def sync_directory(self, path: Path) -> None:
        pass


class Home:
    """A data directory with a journal, that is gone with the test; killed is killed, and starts again."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="angara-journal-"))
        self._opened: list[OpenJournal] = []
        weakref.finalize(self, _leave, self.path, self._opened)

    def start(self, store: Store, disk: Disk | None = None) -> OpenJournal:
        """What a process does that starts, whatever became of the one before it."""
        while self._opened:
            self._opened.pop().log.close()
        disk = DiskInMemory() if disk is None else disk
        self._opened += open_journals(store, self.path, disk=disk)
        return self._opened[0]


def _leave(path: Path, opened: list[OpenJournal]) -> None:
    while opened:
        opened.pop().log.close()
    shutil.rmtree(path, ignore_errors=True)


class JournalOnStore:
    """Two tenants, an open epoch, and a journal on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.home = Home()
        self.clock = Clock()
        self.miner = ConnectionFrom()
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        with store.write() as connection:
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
            add_tenant(connection, "borealis", terms, by="test", now_s=NOW_S)
            self.epoch = open_epoch(connection, PRICE, 840_000, NOW_S)
        self.restart()

    def restart(self, disk: Disk | None = None) -> None:
        opened = self.home.start(self.store, disk)
        with self.store.read() as connection:
            self.registry = Registry(load(connection))
            credits = CreditRows(connection)
            self.prices = prices_of(connection, self.registry, self.clock)
        self.journal = Journal(self.registry, opened.log, opened.beginning, self.prices)
        self.taker = opened.taker
        self.folding = Folding(self.store, self.registry, credits, wall_clock=self.clock)
        self.folding.take(self.journal, opened.taker)

    def worker(self, name: str) -> int:
        admission = self.registry.admit(name, "cgminer", self.miner)
        assert isinstance(admission, Admitted)
        return admission.worker

    def waiting(self) -> list[Batch]:
        """Batches that the books have not taken."""
        with self.store.read() as connection:
            return list(waiting(self.home.path, connection))

    def shares(self) -> dict[tuple[int, int], int]:
        """(worker, verdict) to shares: those in the journal and those in minutes, which must not overlap."""
        counts: dict[tuple[int, int], int] = {}
        with self.store.read() as connection:
            batches = [it.tallies for it in waiting(self.home.path, connection)]
            rows = [(w, v, n) for w, _, _, v, _, n in merge(batches).tolist()]
            rows += [
                (row.worker_id, row.verdict, row.shares)
                for row in connection.execute(
                    select(tally_minutes.c.worker_id, tally_minutes.c.verdict, tally_minutes.c.shares)
                )
            ]
        for worker, verdict, count in rows:
            counts[worker, verdict] = counts.get((worker, verdict), 0) + count
        return counts
