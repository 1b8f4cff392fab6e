"""Who serves miners at a site begins again without the hub: behind its own files, with what they say."""

import random
from pathlib import Path

import pytest
from sqlalchemy import func, select

from payouts.rates import Scheme
from payouts.schemas.money import tally_minutes, workers
from pool.books.edges.rows import PARTS
from pool.books.journal.book_clock import BookClock
from pool.books.journal.credit_book import CreditBook
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares
from pool.books.journal.journal import Journal
from pool.books.journal.prices import Prices, known_prices
from pool.books.journal.start import beginning_of
from pool.books.journal.taker import Taker
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant, load
from pool.hub import Begin, Part, Start
from pool.journal.disk import Disk
from pool.journal.log import JournalLog, JournalUnusable, writer_directories
from pool.journal.segments import Walk, segments
from pool.sites.begin_again import begin_again
from stratum.miners.contracts import Admitted
from stratum.tallies import CREDIT, Verdict
from tests.fakes.disks import DiskThatLoses, disk_full
from tests.fakes.owners import ConnectionFrom
from tests.stages.engine import Mine
from tests.stages.journal import NOW_S, PRICE, Clock, tally

PART = 3
A = bytes([1]) * 32  # a previous block
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=0, payout_minimum_sat=0)


class Site:
    """A hub's books, and an edge with a journal of its own. The hub says what it says when it is asked."""

    def __init__(self, store: Store, home: Path) -> None:
        self.store, self.clock = store, Clock()
        with store.write() as connection:
            add_tenant(connection, "acme", TERMS, by="test", now_s=NOW_S)
        (self.directory,) = writer_directories(home, 1)
        self.taker = Taker(store, self.directory.name, self.walk)
        self.log: JournalLog | None = None

    def walk(self, after: object) -> Walk:
        return Walk(self.directory, self.directory.name, after)  # type: ignore[arg-type]

    def hub_says(self) -> Begin:
        with self.store.read() as connection:
            return Begin(
                part=Part(PART, PARTS),
                journal=str(self.directory),
                snapshot=load(connection),
                start=Start(
                    beginning=beginning_of(self.store, self.taker),
                    tips=CreditRows(connection).tips,
                    fee_basis_id=None,
                    prices=known_prices(connection),
                ),
            )

    def begin(self, said: Begin) -> "Site":
        """As a process does that starts, whatever became of the one before it."""
        if self.log is not None:
            self.log.close()
        begun = begin_again(said, self.directory, Disk())
        self.log, self.registry, self.start = begun.log, begun.registry, begun.start
        self.engine = Mine(keep_credits=True).engine
        self.credits = CreditBook(self.engine, self.start.tips, self.start.credited)
        clock = BookClock(self.clock, self.start.beginning.moment_s)
        self.prices = Prices(self.start.prices, self.registry, clock=clock)
        self.submits = ForwardedShares()
        self.journal = Journal(
            self.registry,
            self.log,
            self.start.beginning,
            self.prices,
            submits=self.submits,
        )
        return self

    def machine(self, name: str) -> int:
        admitted = self.registry.admit(name, "cgminer", ConnectionFrom())
        assert isinstance(admitted, Admitted)
        return admitted.worker

    async def mines(self, *names: str) -> list[int]:
        """Each a share at the price of now, on disk."""
        price = self.prices.epoch(PRICE, 840_000)
        numbers = [self.machine(name) for name in names]
        await self.journal.commit(b"".join(tally(it, price) for it in numbers))
        return numbers

    def shares(self) -> tuple[int, int, int]:
        """In the books: accepted, and never answered; machines."""
        self.taker.take_all()
        with self.store.read() as connection:
            by = dict(
                connection.execute(
                    select(tally_minutes.c.verdict, func.sum(tally_minutes.c.shares)).group_by(
                        tally_minutes.c.verdict
                    )
                ).all()
            )
            machines = connection.scalar(select(func.count()).select_from(workers))
        return int(by.get(Verdict.ACCEPTED, 0)), int(by.get(Verdict.UNDELIVERED, 0)), int(machines or 0)


@pytest.fixture
def site(store: Store, tmp_path: Path) -> Site:
    return Site(store, tmp_path)


@pytest.mark.parametrize("hub_has", [False, True])
async def test_machines_keep_their_numbers_and_no_number_is_given_twice(site: Site, hub_has: bool) -> None:
    said = site.hub_says()
    first = await site.begin(said).mines("acme.c1.u1", "acme.c1.u2")
    if hub_has:  # and what it says is of before, all the same
        site.taker.take_all()

    again = await site.begin(said).mines("acme.c1.u1", "acme.c1.u2", "acme.c2.u1")

    assert again[:2] == first
    assert len(set(again)) == 3
    assert {number % PARTS for number in again} == {PART}
    assert site.shares() == (5, 0, 3)


async def test_prices_go_on_behind_those_of_before(site: Site) -> None:
    said = site.hub_says()
    await site.begin(said).mines("acme.c1.u1")
    before = site.prices.epoch(PRICE, 840_000)

    await site.begin(said).mines("acme.c1.u1")

    assert site.prices.epoch(PRICE, 840_000) > before
    assert site.shares() == (2, 0, 1)


async def test_the_clock_that_was_set_back_dates_nothing_before_what_the_journal_has(site: Site) -> None:
    said = site.hub_says()
    site.clock.now_s += 3_600
    await site.begin(said).mines("acme.c1.u1")
    site.clock.now_s -= 3_600

    await site.begin(said).mines("acme.c1.u1")

    assert site.start.beginning.moment_s == site.prices.clock.now_s() == NOW_S + 3_600
    assert site.shares() == (2, 0, 1)


@pytest.mark.parametrize("hub_has", [False, True])
async def test_a_share_that_was_under_way_is_counted_once_as_unanswered(site: Site, hub_has: bool) -> None:
    said = site.hub_says()
    (worker,) = await site.begin(said).mines("acme.c1.u1")
    site.submits.note(
        Forwarded(
            key=b"k" * 16,
            worker=worker,
            epoch=site.prices.epoch(PRICE, 840_000),
            difficulty_log2=16,
            counted=False,
            target=1 << 200,
        )
    )
    await site.journal.commit(b"")
    if hub_has:
        site.taker.take_all()
        said = site.hub_says()

    for _ in range(3):  # whoever begins after it finds nothing to count
        site.begin(said)

    assert site.shares() == (1, 1, 1)


async def test_what_was_credited_behind_the_books_is_known_again(site: Site) -> None:
    said = site.hub_says()
    await site.begin(said).mines("acme.c1.u1")
    site.journal._credits = _Credited()  # type: ignore[assignment]  # an upstream's share: the engine's word
    await site.journal.commit(b"")

    site.begin(said)

    assert site.start.credited == ((A, b"h" * 16),)
    assert site.credits.tips == (A,)
    await site.credits.load(_nothing)
    assert site.engine.remembers(A)


async def test_a_torn_end_is_cut(site: Site) -> None:
    said = site.hub_says()
    await site.begin(said).mines("acme.c1.u1")
    path = segments(site.directory)[-1][1]
    path.write_bytes(path.read_bytes() + b"\xa7\x4a\x4c\x01 torn")

    await site.begin(said).mines("acme.c1.u1")

    assert site.shares() == (2, 0, 1)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("seed", range(10))
async def test_what_only_the_kernel_had_is_on_disk_before_anything_follows_it(site: Site, seed: int) -> None:
    """A sync fails, the process dies and begins again, then the power goes."""
    disk = DiskThatLoses()
    log = JournalLog(site.directory, site.hub_says().start.beginning.book, disk=disk)
    log.begin(site.taker.position.at, NOW_S, 0)
    disk.syncs.append(disk_full())
    with pytest.raises(JournalUnusable):
        log.append(b"\x92", NOW_S, 0)
    read = segments(site.directory)[-1][1].read_bytes()
    log.close()

    again = JournalLog(site.directory, log.book, disk=disk)
    again.settle()
    again.close()
    disk.power_cut(random.Random(seed))

    assert segments(site.directory)[-1][1].read_bytes() == read


class _Credited:
    def collect(self) -> tuple[tuple[bytes, bytes], ...]:
        return ((A, b"h" * CREDIT.itemsize),)


async def _nothing(prevhash: bytes, after: int) -> list[tuple[int, bytes]]:
    return []
