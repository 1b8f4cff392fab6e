"""Work of an upstream is credited once, whatever the upstream says and however often the pool is started.

The thief: an upstream and a miner that are one party. The upstream gives a job again after a restart, the
miner sends the shares that it had been credited for. The prefix is ours to choose; where it stands in the
coinbase, and what is around it, is the upstream's.
"""

import itertools
from functools import partial

import msgspec
import pytest

from payouts.rates import Scheme
from pool.books.database_waits import read_books
from pool.books.journal import credit_book
from pool.books.journal.credit_book import CreditBook, CreditsPage, Tip
from pool.books.journal.credit_rows import CreditRows, credits_page, write_credits
from pool.books.journal.folding import Folding
from pool.books.journal.journal import Journal, JournalFailed
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.schema import upstream_credits, upstream_tips
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.upstreams import past_tips as former_tips
from pool.upstreams.past_tips import PastTips
from stratum.job import Work
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict
from tests.fakes.disks import DiskThatLoses, disk_full
from tests.fakes.owners import ConnectionFrom
from tests.stages.engine import EVERY_HASH, NO_HASH, Mine, Miner, work
from tests.stages.journal import Home
from tests.stages.prices import open_epoch, prices_of

ACCEPTED, DUPLICATE = Verdict.ACCEPTED, Verdict.DUPLICATE
NOW_S = 1_700_000_000
A, B, C, D = (bytes([number]) * 32 for number in range(1, 5))  # previous blocks


class Boot:
    """One process of the pool: its engine, its journal, and a miner of acme."""

    def __init__(self, books: "BooksAtHome") -> None:
        self.store = store = books.store
        self.mine = Mine(keep_credits=True)
        opened = books.home.start(store, books.disk)
        with store.read() as connection:
            self.registry = Registry(load(connection))
            credit_rows = CreditRows(connection)
            prices = prices_of(connection, self.registry)
        self.credits = CreditBook(self.mine.engine, credit_rows.tips)
        self.tips = PastTips(self.mine.engine.remembers, self.credits.tips)
        self.journal = Journal(self.registry, opened.log, opened.beginning, prices, credits=self.credits)
        self.folding = Folding(store, self.registry, credit_rows)
        self.folding.take(self.journal, opened.taker)
        admission = self.registry.admit("acme.c01.r01", "thief", ConnectionFrom())
        assert isinstance(admission, Admitted)
        self.worker = admission.worker

    async def start(self) -> "Boot":
        await self.credits.load(self._page)
        return self

    async def _page(self, prevhash: bytes, after: int) -> CreditsPage:
        return await read_books(self.store, partial(credits_page, prevhash=prevhash, after=after))

    def gives(self, job: Work, *, forward_target: int | None = NO_HASH) -> int:
        """A job of the upstream."""
        return self.mine.publish(job, rate=1, forward_target=forward_target)

    def joins(self, prefix: bytes = b"\xe1" * 4) -> Miner:
        return self.mine.join(extranonce1=prefix, worker=self.worker)

    async def judge(self) -> list[Verdict]:
        """And commit what was judged."""
        verdicts = self.mine.judge()
        await self.journal.commit(self.mine.engine.collect_tallies())
        return verdicts

    async def fold(self) -> None:
        """What is over goes at the second one."""
        for _ in range(2):
            await self.folding.fold()
            await self.folding.forget_credits()


class BooksAtHome:
    """What a boot finds, and leaves to the next."""

    def __init__(self, store: Store) -> None:
        self.store, self.home, self.disk = store, Home(), DiskThatLoses()


@pytest.fixture
def books(store: Store) -> BooksAtHome:
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)
    with store.write() as connection:
        add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
        price = WorkPrice(nbits=0x1D00FFFF, subsidy_sat=5_000_000_000)
        assert open_epoch(connection, price, 1, NOW_S) == 1
    return BooksAtHome(store)


def rows(books: BooksAtHome) -> tuple[int, int, int]:
    """Blocks, those that are forgotten, and hashes."""
    with books.store.read() as connection:
        tips = connection.execute(upstream_tips.select()).all()
        credits = connection.execute(upstream_credits.select()).all()
    return len(tips), sum(it.forgotten for it in tips), sum(len(it.hashes) // 16 for it in credits)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("forwarded", [False, True])
async def test_what_was_credited_before_a_restart_is_a_duplicate_after_it(
    books: BooksAtHome, restarts: int, forwarded: bool
) -> None:
    job, target = work(prevhash_internal=A), EVERY_HASH if forwarded else NO_HASH
    seen = itertools.count()
    for _ in range(1 + restarts):
        boot = await Boot(books).start()
        boot.gives(job, forward_target=target)
        miner = boot.joins()
        first = next(seen)
        for nonce in range(first + 1):
            miner.submit(nonce=nonce)
        assert await boot.judge() == [DUPLICATE] * first + [ACCEPTED]
    await boot.fold()
    assert rows(books) == (1, 0, 1 + restarts)


@pytest.mark.sqlite_suffices
async def test_no_coinbase_of_the_upstreams_making_gives_a_header_a_second_time(books: BooksAtHome) -> None:
    """The prefix of after stands where the old coinbase has just these bytes by the upstream's foresight."""
    job = work(prevhash_internal=A, coinbase2=b"\xe7" * 4 + b"\xab" * 4 + b"\x03" * 52)
    boot = await Boot(books).start()
    boot.gives(job)
    miner = boot.joins(b"\xe1" * 4)
    for nonce in range(5):
        miner.submit(nonce=nonce, extranonce2="e2e2e2e2")
    assert await boot.judge() == [ACCEPTED] * 5
    boot = await Boot(books).start()
    shifted = msgspec.structs.replace(
        job, coinbase1=job.coinbase1 + b"\xe1" * 4 + b"\xe2" * 4, coinbase2=job.coinbase2[8:]
    )
    boot.gives(shifted)
    other = boot.joins(b"\xe7" * 4)  # never handed out before
    for nonce in range(5):
        other.submit(nonce=nonce, extranonce2="abababab")
    assert await boot.judge() == [DUPLICATE] * 5


async def test_work_on_a_block_that_was_left_before_a_restart_is_refused(books: BooksAtHome) -> None:
    boot = await Boot(books).start()
    for at, tip in enumerate((A, B, C), 1):
        assert boot.tips.admit(tip)
        boot.gives(work(prevhash_internal=tip))
        boot.joins().submit(job=at, nonce=at)
        assert await boot.judge() == [ACCEPTED]
    await boot.fold()
    assert rows(books) == (3, 1, 2), "A is forgotten, B and C are known"
    boot = await Boot(books).start()
    assert [boot.tips.admit(tip) for tip in (A, B, C, D)] == [False, True, True, True]
    for at, tip in enumerate((B, C), 1):
        boot.gives(work(prevhash_internal=tip))
        boot.joins().submit(job=at, nonce=at + 1)
    assert set(await boot.judge()) <= {DUPLICATE, Verdict.STALE}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("bound", "most"), [("BLOCKS_LOADED_MAX", 2), ("LOADED_BYTES_MAX", 32), ("LOADED_BYTES_MAX", 17)]
)
async def test_a_start_is_told_of_the_newest_blocks_and_work_on_others_is_refused(
    books: BooksAtHome, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
) -> None:
    """The hub has all blocks of a day in which another site was dark."""
    boot = await Boot(books).start()
    for at, tip in enumerate((A, B, C), 1):
        boot.gives(work(prevhash_internal=tip))
        boot.joins().submit(job=at, nonce=at)
        await boot.judge()
    await boot.folding.fold()
    monkeypatch.setattr(credit_book, bound, most)
    boot = await Boot(books).start()
    assert [boot.tips.admit(tip) for tip in (A, B, C, D)] == [False, True, True, True]


@pytest.mark.sqlite_suffices
async def test_of_a_block_that_a_start_is_not_told_of_its_own_journal_makes_no_half(
    books: BooksAtHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what was credited on it before, and is in the books, could be credited once more."""
    monkeypatch.setattr(credit_book, "BLOCKS_LOADED_MAX", 1)
    boot = Boot(books)
    tips = [Tip(it, forgotten=it == C) for it in (C, A, B)]
    journal = [(it, bytes([number]) * 16) for number, it in enumerate((A, B, C, D))]
    credits = CreditBook(boot.mine.engine, tips, journal)
    await credits.load(boot._page)
    assert credits.forgotten([A, B, C, D]) == [A, C]
    assert credits.tips == (C, A, B, D), "and work on it is refused"


@pytest.mark.sqlite_suffices
async def test_a_share_that_was_not_committed_is_not_remembered_either(books: BooksAtHome) -> None:
    """It was not acknowledged, so its miner may send it again, and has it then."""
    job = work(prevhash_internal=A)
    boot = await Boot(books).start()
    boot.gives(job)
    boot.joins().submit(nonce=1)
    books.disk.writes = [100, disk_full()]
    with pytest.raises(JournalFailed):
        await boot.judge()
    assert rows(books) == (0, 0, 0)
    boot = await Boot(books).start()
    boot.gives(job)
    boot.joins().submit(nonce=1)
    assert await boot.judge() == [ACCEPTED]


@pytest.mark.sqlite_suffices
async def test_a_block_is_forgotten_whole_or_not_at_all(books: BooksAtHome) -> None:
    """A commit that comes after its block was forgotten must not leave a part of it to be remembered."""
    boot = await Boot(books).start()
    boot.gives(work(prevhash_internal=A))
    boot.joins().submit(nonce=1)
    await boot.judge()
    for tip in (B, C):
        boot.gives(work(prevhash_internal=tip))
    await boot.fold()
    assert rows(books) == (1, 1, 0)
    with books.store.write() as connection:
        write_credits(connection, [(A, b"\x11" * 16)])
    assert rows(books) == (1, 1, 0)
    assert not (await Boot(books).start()).tips.admit(A)


@pytest.mark.sqlite_suffices
async def test_nothing_is_forgotten_before_the_engine_was_told_of_it(books: BooksAtHome) -> None:
    """A fold that comes between the start and the upstreams: what it does not find is not over."""
    boot = await Boot(books).start()
    boot.gives(work(prevhash_internal=A))
    boot.joins().submit(nonce=1)
    await boot.judge()
    boot = Boot(books)
    await boot.fold()
    assert rows(books) == (1, 0, 1)
    await boot.start()
    boot.gives(work(prevhash_internal=A))
    boot.joins().submit(nonce=1)
    assert await boot.judge() == [DUPLICATE]


@pytest.mark.sqlite_suffices
async def test_work_of_our_own_costs_no_row(books: BooksAtHome) -> None:
    """It carries a salt: after a restart it is other work."""
    boot = await Boot(books).start()
    boot.gives(work(prevhash_internal=A), forward_target=None)
    boot.joins().submit(nonce=1)
    assert await boot.judge() == [ACCEPTED]
    assert rows(books) == (0, 0, 0)
    assert boot.mine.engine.collect_credits() == []


@pytest.mark.sqlite_suffices
async def test_names_of_blocks_are_bounded(books: BooksAtHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pool.books.journal.credit_rows.TIPS_MAX", 4)
    monkeypatch.setattr(former_tips, "TIPS_MAX", 4)
    boot = await Boot(books).start()
    for number in range(1, 13):
        boot.gives(work(prevhash_internal=number.to_bytes(32, "little")))
        boot.joins().submit(job=number, nonce=number)
        await boot.judge()
        await boot.fold()
    tips, forgotten, hashes = rows(books)
    assert (tips, hashes) == (4, 2)
    assert forgotten == tips - 2
