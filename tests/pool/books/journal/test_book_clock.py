"""One clock dates what is opened and what is committed: nothing comes that is dated before a moment that the
books call complete."""

import msgspec
import pytest
import trio

from payouts.rates import Scheme
from pool.books.audit.verify import verify
from pool.books.journal import folding
from pool.books.journal.book_clock import BookClock
from pool.books.journal.positions import taken_until_s
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, record_of, set_terms
from pool.journal.beginning import Mark
from tests.stages.journal import NOW_S, PRICE, DiskInMemory, JournalOnStore, tally

HARDER = WorkPrice(nbits=0x17021A42, subsidy_sat=PRICE.subsidy_sat)
HEIGHT = 840_672
DEAR = TenantTerms(scheme=Scheme.PPS, fee_bps=900, payout_minimum_sat=0)


@pytest.fixture
def booked(store: Store, monkeypatch: pytest.MonkeyPatch) -> JournalOnStore:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return JournalOnStore(store)


def complete_until_s(booked: JournalOnStore) -> int:
    with booked.store.read() as connection:
        return taken_until_s(connection) or 0


def proven(booked: JournalOnStore) -> None:
    with booked.store.read() as connection:
        assert verify(connection, data_dir=booked.home.path).wrong is None


def dear_terms(booked: JournalOnStore, at_s: int) -> None:
    """By the clock of who keeps the books."""
    with booked.store.write() as connection:
        view = set_terms(connection, "acme", DEAR, by="olga", now_s=at_s)
    booked.registry.put_tenant(record_of(view))
    booked.prices.terms_changed()


def test_it_never_goes_back() -> None:
    now_s = 100.0
    clock = BookClock(lambda: now_s, 50)
    assert clock.now_s() == 100
    now_s = 99.0
    assert clock.now_s() == 100
    clock.reach(120)
    clock.reach(110)
    assert clock.now_s() == 120
    now_s = 121.5
    assert clock.now_s() == 121


@pytest.mark.sqlite_suffices
async def test_the_books_are_not_called_complete_beyond_a_price_that_is_not_written_yet(
    booked: JournalOnStore,
) -> None:
    """A second is enough: the price is opened, the books are taken, and then its commit comes."""
    number = booked.prices.epoch(HARDER, HEIGHT)
    booked.clock.now_s += 1
    await booked.folding.fold()
    opened_at_s = booked.prices.meaning(number).opened_at_s
    assert (opened_at_s, complete_until_s(booked)) == (NOW_S, NOW_S)
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), number))
    await booked.folding.fold()
    assert complete_until_s(booked) == NOW_S + 1
    proven(booked)


@pytest.mark.sqlite_suffices
async def test_nor_beyond_one_whose_commit_is_under_way(booked: JournalOnStore) -> None:
    class DiskThatAsks(DiskInMemory):
        """How far the journal is, while it is written."""

        marks: list[Mark]

        def sync(self, descriptor: int) -> None:
            if hasattr(self, "marks"):
                self.marks.append(trio.from_thread.run(booked.journal.mark))

    disk = DiskThatAsks()
    booked.restart(disk)
    disk.marks = []
    booked.prices.epoch(HARDER, HEIGHT)
    booked.clock.now_s += 1
    await booked.journal.commit(b"")
    booked.clock.now_s += 1
    assert [it.moment_s for it in disk.marks] == [NOW_S]
    assert (await booked.journal.mark()).moment_s == NOW_S + 2


@pytest.mark.parametrize("back_s", [1, 3_600])
async def test_a_clock_that_steps_back_dates_no_price_before_the_books_or_before_its_terms(
    booked: JournalOnStore, back_s: int
) -> None:
    """Somebody sets the clock back, and the terms change: the price that has them is not of before."""
    await booked.folding.fold()
    complete_s = complete_until_s(booked)
    booked.clock.now_s -= back_s
    dear_terms(booked, int(booked.clock.now_s))
    number = booked.prices.epoch(HARDER, HEIGHT)
    assert booked.prices.meaning(number).opened_at_s == complete_s == NOW_S
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), number))
    await booked.folding.fold()
    proven(booked)


async def test_a_writer_whose_clock_is_behind_dates_no_price_before_its_terms(booked: JournalOnStore) -> None:
    """Terms are agreed on by the clock of the books; the price has another, ten seconds behind it. Without
    that the books would have a price of terms that nobody had yet, and be wrong for ever."""
    for fee_bps in (300, 900):
        with booked.store.write() as connection:
            terms = msgspec.structs.replace(DEAR, fee_bps=fee_bps)
            view = set_terms(connection, "acme", terms, by="olga", now_s=NOW_S + 10)
    booked.registry.put_tenant(record_of(view))
    booked.prices.terms_changed()
    number = booked.prices.epoch(HARDER, HEIGHT)
    assert booked.prices.meaning(number).opened_at_s == NOW_S + 10
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), number))
    await booked.folding.fold()
    proven(booked)
