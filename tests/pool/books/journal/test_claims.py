"""A share on an upstream's work is paid once, however many processes credit it.

The thief: an upstream and a miner that are one party, at a pool of several processes. The upstream sees the
prefix that each process hands out, and gives each of them a job whose coinbase has the prefixes of all in a
row, with another one of them where the extranonce is. So one share is good at all of them, and no process
knows what another one credits.
"""

from collections import Counter
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from payouts.audit.verify import audit
from payouts.proof.share_tree import unpacked
from payouts.rates import Scheme
from payouts.schemas.money import rate_hours, tally_minutes, workers
from payouts.schemas.proof import share_parts
from pool.books.audit.verify import verify
from pool.books.journal import folding, taker
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares
from pool.books.journal.journal import Journal
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.schema import (
    refused_credits,
    refused_shares,
    upstream_credits,
    upstream_submits,
    upstream_tips,
)
from pool.books.journal.start import OpenJournal, beginning_of, open_journals
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.journal.log import JournalLog
from stratum.job import Work
from stratum.miners.contracts import Admitted
from stratum.tallies import CREDIT, Verdict
from stratum.upstream.shares import SubmitAnswer, SubmitVerdict, UpstreamShare
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import Crash, crash_before
from tests.histories.sold_work import upstream_row
from tests.pool.books.journal.test_forwarded_shares import JOB
from tests.stages.engine import EASIEST_LOG2, EVERY_HASH, NO_HASH, Mine, Miner, work
from tests.stages.journal import DiskInMemory, Home
from tests.stages.prices import open_epoch, prices_of

ACCEPTED, DUPLICATE, STALE = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.STALE
NOW_S = 1_700_000_000
PROCESSES = 4
PREFIXES = [bytes([0xE0 + number]) * 4 for number in range(PROCESSES)]
EXTRANONCE2 = b"\xab" * 4
A, B, C = (bytes([number]) * 32 for number in range(1, 4))  # previous blocks


def job_for(process: int, prevhash: bytes = A) -> Work:
    """The whole coinbase is the same for all of them."""
    row = b"".join(prefix + EXTRANONCE2 for prefix in PREFIXES)
    first, last = row[: 8 * process], row[8 * process + 8 :]
    plain = work(prevhash_internal=prevhash)
    return msgspec.structs.replace(plain, coinbase1=plain.coinbase1 + first, coinbase2=last + plain.coinbase2)


class Process:
    """One of those that serve miners, with a machine of the thief's."""

    def __init__(self, number: int, pool: "Pool", opened: OpenJournal) -> None:
        self.number, self.mine = number, Mine(keep_credits=True, keep_log2=EASIEST_LOG2)
        with pool.store.read() as connection:
            registry = Registry(load(connection), part=number + 1, of=PROCESSES + 1)
            prices = prices_of(connection, registry, lambda: NOW_S)
        self.submits, self.under_way = ForwardedShares(), list[bytes]()
        self.credits: list[tuple[bytes, bytes]] = []
        self.journal = Journal(registry, opened.log, opened.beginning, prices, submits=self.submits)
        self.journal._credits = self  # type: ignore[assignment]
        self.journal._kept = self.mine.engine.collect_kept, EASIEST_LOG2
        admission = registry.admit(f"acme.c01.r{number:02}", "thief", ConnectionFrom())
        assert isinstance(admission, Admitted)
        self.worker = admission.worker

    def collect(self) -> object:
        credits, self.credits = self.credits, []
        return credits

    def forgotten(self, prevhashes: list[bytes]) -> list[bytes]:
        return [it for it in prevhashes if not self.mine.engine.remembers(it)]

    def gives(self, prevhash: bytes = A, *, forward: bool = False) -> Miner:
        """A job of the upstream, and the machine that mines it."""
        target = EVERY_HASH if forward else NO_HASH
        self.mine.publish(job_for(self.number, prevhash), rate=1, forward_target=target)
        return self.mine.join(extranonce1=PREFIXES[self.number], worker=self.worker)

    async def judge(self) -> list[Verdict]:
        """And commit; what is for the upstream is on its way then."""
        verdicts = self.mine.judge()
        self.credits = self.mine.engine.collect_credits()
        for _, packed in self.credits:
            for it in np.frombuffer(packed, dtype=CREDIT):
                key = bytes(it["hash"]) + bytes(17)
                if it["forwarded"]:
                    log2 = int(it["difficulty_log2"])
                    self.submits.note(Forwarded(key, self.worker, 1, log2, counted=False, target=EVERY_HASH))
                    self.under_way.append(key)
        await self.journal.commit(self.mine.engine.collect_tallies())
        return verdicts

    async def answer(self) -> None:
        """The upstream takes it, of course."""
        while self.under_way:
            key = self.under_way.pop()
            sent = UpstreamShare(key=key, job=JOB, extranonce2=b"", ntime=0, nonce=0, version=0)
            self.submits.resolve(key, SubmitAnswer(share=sent, verdict=SubmitVerdict.ACCEPTED))
        await self.journal.commit(b"")


class Pool:
    """Books, and processes with a journal each. `order`: in which the journals are taken."""

    def __init__(self, store: Store) -> None:
        self.store, self.home = store, Home()
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
        with store.write() as connection:
            north = upstream_row(connection)
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
            price = WorkPrice(nbits=0x1D00FFFF, subsidy_sat=5_000_000_000, upstream_id=north)
            assert open_epoch(connection, price, 1, NOW_S) == 1
        self.start()

    def start(self, *, backwards: bool = False) -> None:
        """Whatever became of the one before."""
        while self.home._opened:
            self.home._opened.pop().log.close()
        opened = open_journals(self.store, self.home.path, count=PROCESSES, disk=DiskInMemory())
        self.home._opened += opened
        with self.store.read() as connection:
            registry, credits = Registry(load(connection), of=PROCESSES + 1), CreditRows(connection)
        self.opened = opened
        self.processes = [Process(number, self, it) for number, it in enumerate(opened)]
        self.folding = Folding(self.store, registry, credits, wall_clock=lambda: NOW_S)
        both = list(zip(self.processes, opened, strict=True))
        for process, it in reversed(both) if backwards else both:
            self.folding.take(process.journal, it.taker)

    def dies_and_begins(self, number: int) -> None:
        """One process, whose journal is at its end; the books live on."""
        dead = self.opened[number]
        dead.log.close()
        log = JournalLog(dead.log.directory, dead.log.book, disk=DiskInMemory())
        begun = OpenJournal(log, dead.taker, beginning_of(self.store, dead.taker))
        self.home._opened.append(begun)
        self.opened[number] = begun
        self.processes[number] = Process(number, self, begun)
        self.folding._sources.clear()
        for process, it in zip(self.processes, self.opened, strict=True):
            self.folding.take(process.journal, it.taker)

    async def fold(self) -> None:
        await self.folding.fold()
        await self.folding.forget_credits()

    def verdicts(self) -> dict[Verdict, int]:
        with self.store.read() as connection:
            rows = connection.execute(select(tally_minutes.c.verdict, tally_minutes.c.shares))
            counts: Counter[Verdict] = Counter()
            for verdict, shares in rows:
                counts[Verdict(verdict)] += shares
        return dict(counts)

    def paid(self) -> int:
        """Shares that somebody is paid for; and all of it can be proven."""
        with self.store.read() as connection:
            assert verify(connection, data_dir=self.home.path).wrong is None
            assert audit(connection).wrong is None
            return int(connection.scalar(select(func.sum(rate_hours.c.shares))) or 0)

    def to_be_proven(self) -> int:
        """Shares that will be in a root."""
        with self.store.read() as connection:
            return sum(len(unpacked(it)) for it in connection.scalars(select(share_parts.c.packed)))

    def left(self) -> list[int]:
        """Rows of what is refused later, of shares under way, and of what is refused in a window."""
        tables = refused_credits, upstream_submits, refused_shares
        with self.store.read() as connection:
            return [int(connection.scalar(select(func.count()).select_from(it)) or 0) for it in tables]


@pytest.fixture
def pool(store: Store, monkeypatch: pytest.MonkeyPatch) -> Pool:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return Pool(store)


async def sent_everywhere(pool: Pool, *, forward: bool = False) -> None:
    """The one share, at each process: good at each."""
    for process in pool.processes:
        process.gives(forward=forward).submit(nonce=7, extranonce2=EXTRANONCE2.hex())
        assert await process.judge() == [ACCEPTED]


@pytest.mark.parametrize("backwards", [False, True])
async def test_one_share_at_four_processes_is_paid_once(pool: Pool, backwards: bool) -> None:
    """Of 4 that were credited. The first journal that is taken has it; in the others it is a duplicate, of
    the machine that sent it there."""
    pool.start(backwards=backwards)
    await sent_everywhere(pool)
    await pool.fold()
    assert pool.verdicts() == {ACCEPTED: 1, DUPLICATE: 3}
    assert pool.paid() == pool.to_be_proven() == 1
    with pool.store.read() as connection:
        names = (
            select(workers.c.unit)
            .join(tally_minutes, tally_minutes.c.worker_id == workers.c.id)
            .where(tally_minutes.c.verdict == Verdict.ACCEPTED)
        )
        assert connection.scalars(names).all() == ["r03" if backwards else "r00"]
        assert sum(len(it.hashes) for it in connection.execute(select(upstream_credits))) == 16
    await sent_everywhere_again(pool)
    assert (pool.paid(), pool.left()) == (1, [0, 0, 0])


async def sent_everywhere_again(pool: Pool) -> None:
    for process in pool.processes:
        process.mine.join(extranonce1=PREFIXES[process.number], worker=process.worker).submit(
            nonce=7, extranonce2=EXTRANONCE2.hex()
        )
        assert await process.judge() == [DUPLICATE]
    await pool.fold()


@pytest.mark.parametrize("answered_late", [False, True])
async def test_one_that_the_upstream_takes_from_each_of_them_is_paid_once(
    pool: Pool, answered_late: bool
) -> None:
    """It is in no tally before the answer, which the upstream gives when it likes: when the block has been
    over for everybody, and nothing is known of it any more."""
    await sent_everywhere(pool, forward=True)
    if answered_late:
        await pool.fold()
        assert pool.left() == [3, 4, 0]
        for prevhash in (B, C):
            for process in pool.processes:
                process.gives(prevhash)
        await pool.fold()
        await pool.fold()
        with pool.store.read() as connection:
            assert connection.scalars(select(upstream_tips.c.forgotten)).all() == [1]
    for process in pool.processes:
        await process.answer()
    await pool.fold()
    assert pool.verdicts() == {ACCEPTED: 1, DUPLICATE: 3}
    assert (pool.paid(), pool.to_be_proven(), pool.left()) == (1, 1, [0, 0, 0])


async def test_what_is_sent_to_a_process_that_has_not_heard_of_a_block_that_is_over_is_not_paid(
    pool: Pool,
) -> None:
    """Two processes credit a share and leave its block, so that nobody knows its hash; a third is then given
    the block for the first time."""
    first, second, third, _ = pool.processes
    for process in (first, second):
        process.gives().submit(nonce=7, extranonce2=EXTRANONCE2.hex())
        assert await process.judge() == [ACCEPTED]
        for prevhash in (B, C):
            process.gives(prevhash)
    await pool.fold()
    await pool.fold()
    third.gives().submit(nonce=7, extranonce2=EXTRANONCE2.hex())
    assert await third.judge() == [ACCEPTED]
    await pool.fold()
    assert pool.verdicts() == {ACCEPTED: 1, DUPLICATE: 1, STALE: 1}
    assert pool.paid() == 1


async def test_a_block_is_not_forgotten_before_all_have_left_it_for_a_fold(pool: Pool) -> None:
    """Else one who gives a block to some and takes it from them at once would have what others do on it, who
    hear of it a second later, be too late."""
    first, second, *_ = pool.processes
    first.gives().submit(nonce=7, extranonce2=EXTRANONCE2.hex())
    await first.judge()
    for prevhash in (B, C):
        first.gives(prevhash)
    await pool.fold()
    second.gives().submit(nonce=8, extranonce2=EXTRANONCE2.hex())
    await second.judge()
    await pool.fold()
    assert pool.verdicts() == {ACCEPTED: 2}


@pytest.mark.parametrize("forward", [False, True])
async def test_a_kill_before_any_step_of_taking_pays_it_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, forward: bool
) -> None:
    """In whichever order the journals are gone on with then: each transaction takes two rows."""
    monkeypatch.setattr(taker, "ROWS_MAX", 2)
    for paid, step in enumerate(range(2, 40, 9), 1):
        for process in pool.processes:
            process.gives(bytes([step]) * 32, forward=forward).submit(
                job=process.mine._last_seq, nonce=7, extranonce2=EXTRANONCE2.hex()
            )
            assert await process.judge() == [ACCEPTED]
            if forward:
                await process.answer()
        with suppress(Crash), crash_before(step):
            await pool.folding.fold()
        pool.start(backwards=step % 2 == 0)
        assert pool.paid() == paid
        assert pool.verdicts() == {ACCEPTED: paid, DUPLICATE: 3 * paid}
        assert pool.left() == [0, 0, 0]


# Of one that dies


@pytest.mark.sqlite_suffices
async def test_one_that_died_resolves_what_it_had_under_way_and_nothing_of_one_that_lives(pool: Pool) -> None:
    """It is killed with a forwarded share under way, and begun again; another process has one too, which its
    upstream takes later."""
    dead, living, *_ = pool.processes
    for nonce, process in enumerate((dead, living)):
        process.gives(forward=True).submit(nonce=nonce, extranonce2=EXTRANONCE2.hex())
        assert await process.judge() == [ACCEPTED]
    await pool.fold()
    assert pool.left() == [0, 2, 0]
    pool.dies_and_begins(dead.number)
    await pool.fold()
    assert pool.verdicts() == {Verdict.UNDELIVERED: 1}
    assert pool.left() == [0, 1, 0]
    await living.answer()
    await pool.fold()
    assert pool.verdicts() == {Verdict.UNDELIVERED: 1, ACCEPTED: 1}
    assert (pool.paid(), pool.left()) == (1, [0, 0, 0])
    pool.dies_and_begins(dead.number)
    await pool.fold()
    assert pool.verdicts() == {Verdict.UNDELIVERED: 1, ACCEPTED: 1}, "once"


async def test_one_that_was_refused_and_never_answered_is_a_duplicate(pool: Pool) -> None:
    """Its process dies, and the next in its place resolves it as unanswered: not once more good, at the
    tenant's risk or the pool's."""
    await sent_everywhere(pool, forward=True)
    await pool.fold()
    for number in range(PROCESSES):
        pool.dies_and_begins(number)
    await pool.fold()
    assert pool.verdicts() == {Verdict.UNDELIVERED: 1, DUPLICATE: 3}
    assert (pool.paid(), pool.left()) == (0, [0, 0, 0])


async def test_what_was_under_way_of_journals_that_nobody_writes_any_more_is_resolved_by_the_first(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator goes back from four processes to one: four shares were under way, two of them the same."""
    for nonce, process in enumerate(pool.processes):
        process.gives(forward=True).submit(nonce=max(nonce, 1), extranonce2=EXTRANONCE2.hex())
        assert await process.judge() == [ACCEPTED]
    monkeypatch.setattr("tests.pool.books.journal.test_claims.PROCESSES", 1)
    pool.start()
    await pool.fold()
    assert pool.verdicts() == {Verdict.UNDELIVERED: 3}
    assert (pool.paid(), pool.left()) == (0, [0, 0, 0])
