"""A journal on a database, that can be stopped and begun again: production code, but for the clock."""

import struct

from sqlalchemy import select

from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes
from pool.books.journal import rate_epochs
from pool.books.journal.journal import Journal
from pool.books.journal.rate_epochs import WorkPrice, open_epoch
from pool.books.journal.schema import journal_batches
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict, merge
from tests.fakes.owners import ConnectionFrom

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


class JournalOnStore:
    """Two tenants, an open epoch, and a journal on a store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.miner = ConnectionFrom()
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        with store.write() as connection:
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
            add_tenant(connection, "borealis", terms, by="test", now_s=NOW_S)
            self.epoch = open_epoch(connection, PRICE, 840_000, NOW_S)
        self.restart()

    def restart(self) -> None:
        with self.store.read() as connection:
            self.registry = Registry(load(connection))
        self.journal = Journal(self.store, self.registry, rate_of=rate_epochs.rate_of, wall_clock=self.clock)

    def worker(self, name: str) -> int:
        admission = self.registry.admit(name, "cgminer", self.miner)
        assert isinstance(admission, Admitted)
        return admission.worker

    def shares(self) -> dict[tuple[int, int], int]:
        """(worker, verdict) to shares: those in batches and those in minutes, which must not overlap."""
        counts: dict[tuple[int, int], int] = {}
        with self.store.read() as connection:
            batches = connection.scalars(select(journal_batches.c.tallies)).all()
            rows = [(w, v, n) for w, _, _, v, _, n in merge(batches).tolist()]
            rows += [
                (row.worker_id, row.verdict, row.shares) for row in connection.execute(select(tally_minutes))
            ]
        for worker, verdict, count in rows:
            counts[worker, verdict] = counts.get((worker, verdict), 0) + count
        return counts
