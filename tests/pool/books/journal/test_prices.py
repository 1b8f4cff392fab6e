"""Prices are opened in memory, travel in the journal by names, and are rows when the books take it: once."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, func, insert, select, update

from payouts.ratebook import record_fee_basis
from payouts.rates import BlockFees, OrderCredit, Scheme, UpstreamRisk
from payouts.schemas.book import book
from payouts.schemas.money import rate_hours, rates, tenants
from payouts.schemas.orders import orders, upstreams
from pool.books.audit.verify import verify
from pool.books.book import bind
from pool.books.journal import folding, prices, taker
from pool.books.journal.book_clock import BookClock
from pool.books.journal.positions import uid_of
from pool.books.journal.prices import Prices, Sold, known_prices
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.rate_rows import described, unfit
from pool.books.journal.schema import rate_epochs
from pool.books.store import Store, StoreError
from pool.fleet.registry import Registry
from pool.fleet.rows import NumberTaken, TenantTerms, add_tenant, find_tenant, load, record_of, set_terms
from pool.journal.frames import Place, framed
from pool.journal.log import writers
from pool.journal.records import BY_ROWS, VERSION, Batch, Machine, Opening, Paid, Rate, packed, unpacked
from pool.journal.segments import JournalDamaged, Walk, segment_path
from stratum.tallies import Verdict
from tests.fixtures.databases import Crash, Databases, crash_before, disarm, fresh_store
from tests.histories.sold_work import order_row, upstream_row
from tests.stages.journal import NOW_S, PRICE, JournalOnStore, tally
from tests.stages.prices import open_epoch

HARDER = WorkPrice(nbits=0x17021A42, subsidy_sat=PRICE.subsidy_sat)
HEIGHT = 840_672
PH_DAY_SAT = 61_000
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)


@pytest.fixture
def booked(store: Store, monkeypatch: pytest.MonkeyPatch) -> JournalOnStore:
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    return JournalOnStore(store)


def proven(booked: JournalOnStore) -> None:
    with booked.store.read() as connection:
        assert verify(connection, data_dir=booked.home.path).wrong is None


def paid(store: Store) -> dict[tuple[str, int, str | None, str | None], int]:
    """Shares in the hours by tenant, nBits, upstream and order: what they are paid by."""
    with store.read() as connection:
        rows = connection.execute(
            select(
                tenants.c.name, rates.c.nbits, upstreams.c.name, orders.c.name, func.sum(rate_hours.c.shares)
            )
            .select_from(rate_hours)
            .join(rates, rates.c.id == rate_hours.c.rate_id)
            .join(tenants, tenants.c.id == rates.c.tenant_id)
            .outerjoin(upstreams, upstreams.c.id == rates.c.upstream_id)
            .outerjoin(orders, orders.c.id == rates.c.order_id)
            .group_by(tenants.c.name, rates.c.nbits, upstreams.c.name, orders.c.name)
        )
        return {(tenant, nbits, north, blue): int(n) for tenant, nbits, north, blue, n in rows}


def last_batch(booked: JournalOnStore) -> Batch:
    (directory,) = writers(booked.home.path)
    frames = list(Walk(directory, directory.name, booked.taker.position.at).frames())
    said = unpacked(frames[-1].body)
    assert isinstance(said, Batch)
    return said


# In memory


@pytest.mark.sqlite_suffices
def test_a_number_holds_until_its_source_has_another_price_or_terms_change(booked: JournalOnStore) -> None:
    it, told = booked.prices, []
    it.on_opened = lambda: told.append(1)
    it.note_sources({1: "north"}, {7: Sold("blue", PH_DAY_SAT)})
    sources = (
        PRICE,
        msgspec.structs.replace(PRICE, upstream_id=1),
        msgspec.structs.replace(PRICE, upstream_id=1, order_id=7),
    )
    first = [it.epoch(price, 840_000) for price in sources]
    assert first == [booked.epoch + 1, booked.epoch + 2, booked.epoch + 3]
    assert [it.epoch(price, 840_001) for price in sources] == first
    assert it.epoch(HARDER, HEIGHT) == booked.epoch + 4
    assert it.epoch(sources[1], HEIGHT) == first[1], "others' prices are what they were"
    it.terms_changed()
    assert it.epoch(HARDER, HEIGHT) == booked.epoch + 5
    assert len(told) == len(it.opened()) == 5
    assert it.opened() == ()


@pytest.mark.sqlite_suffices
def test_a_number_means_the_terms_that_were_in_force_when_it_was_opened(booked: JournalOnStore) -> None:
    number = booked.prices.epoch(HARDER, HEIGHT)
    with booked.store.write() as connection:
        dear = msgspec.structs.replace(TERMS, fee_bps=900)
        view = set_terms(connection, "acme", dear, by="olga", now_s=NOW_S + 1)
    booked.registry.put_tenant(record_of(view))
    booked.prices.terms_changed()
    later = booked.prices.epoch(HARDER, HEIGHT)
    fees = {it: booked.prices.meaning(it).paid[0].fee_bps for it in (number, later)}
    assert fees == {number: 200, later: 900}


@pytest.mark.sqlite_suffices
def test_a_job_of_before_is_paid_by_the_scheme_of_before(booked: JournalOnStore) -> None:
    """Which a block of it is divided by, or not; of who came later, and of what nobody knows, nothing is
    said."""
    number = booked.prices.epoch(HARDER, HEIGHT)
    with booked.store.write() as connection:
        lucky = msgspec.structs.replace(TERMS, scheme=Scheme.TIDES)
        view = set_terms(connection, "acme", lucky, by="olga", now_s=NOW_S + 1)
    booked.registry.put_tenant(record_of(view))
    booked.prices.terms_changed()
    later = booked.prices.epoch(HARDER, HEIGHT)
    asked = ((number, "acme"), (later, "acme"), (later, "newcomer"), (later + 1, "acme"))
    assert [booked.prices.scheme_of(*it) for it in asked] == [Scheme.PPS, Scheme.TIDES, None, None]


@pytest.mark.sqlite_suffices
def test_prices_that_are_remembered_are_bounded_and_the_newest_of_each_source_is_one_of_them(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prices, "SOURCES_MAX", 3)
    monkeypatch.setattr(prices, "RATES_MAX", 6)
    it = booked.prices
    it.note_sources({number: f"u{number}" for number in range(1, 6)}, {})
    silent = it.epoch(msgspec.structs.replace(PRICE, upstream_id=1), 1)
    for nbits in range(PRICE.nbits, PRICE.nbits + 20):
        newest = it.epoch(msgspec.structs.replace(PRICE, nbits=nbits), 1)
    assert it.meaning(silent).upstream == "u1"
    assert it.meaning(newest).nbits == PRICE.nbits + 19
    assert len(it._rates) == 6
    for number in range(2, 6):
        it.epoch(msgspec.structs.replace(PRICE, upstream_id=number), 1)
    assert len(it._newest) == 3


@pytest.mark.sqlite_suffices
def test_who_was_ever_paid_by_an_upstream_is_so_in_memory_too(store: Store) -> None:
    """Work that a proxy tenant sends on the way out is still paid there, whatever its terms say by then."""
    with store.write() as connection:
        north = upstream_row(connection)
        own = msgspec.structs.replace(TERMS, scheme=Scheme.PROXY, upstream_id=north)
        add_tenant(connection, "acme", own, by="olga", now_s=0)
        registry = Registry(load(connection))
        it = Prices(known_prices(connection), registry, clock=BookClock(lambda: 0.0, 0))
        view = set_terms(connection, "acme", TERMS, by="olga", now_s=1)
    registry.put_tenant(record_of(view))
    it.terms_changed()
    numbers = [
        it.epoch(msgspec.structs.replace(PRICE, upstream_id=upstream), 1) for upstream in (None, north)
    ]
    assert [it.meaning(number).paid[0].scheme for number in numbers] == ["pps", "proxy"]


# In the journal


@pytest.mark.sqlite_suffices
async def test_a_file_says_what_a_rate_number_means_before_its_first_share(booked: JournalOnStore) -> None:
    worker, opened = booked.worker("acme.c01.u1"), booked.prices.epoch(HARDER, HEIGHT)
    await booked.journal.commit(b"")
    assert [it.number for it in last_batch(booked).rates] == [opened], "with no share, too"
    await booked.journal.commit(tally(worker, opened) + tally(worker, 0, verdict=Verdict.STALE))
    assert last_batch(booked).rates == ()
    await booked.journal.commit(tally(worker, booked.epoch))
    (told,) = last_batch(booked).rates
    assert (told.number, told.nbits, [it.tenant for it in told.paid]) == (
        booked.epoch,
        PRICE.nbits,
        ["acme", "borealis"],
    )
    booked.journal._log._segment_bytes = 1  # so that another file begins
    await booked.journal.commit(tally(worker, opened))
    assert [it.number for it in last_batch(booked).rates] == [opened]


async def test_books_that_were_away_take_shares_at_the_price_that_they_were_mined_at_once(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difficulty changes, an upstream is failed over to, an order begins, and nobody asks the books. They
    are killed at every step of taking it."""
    monkeypatch.setattr(taker, "ROWS_MAX", 3)
    with booked.store.write() as connection:
        north = upstream_row(connection)
        blue = order_row(connection, north, sat_per_ph_day=PH_DAY_SAT)
    booked.restart()
    worker, other = booked.worker("acme.c01.u1"), booked.worker("borealis.c01.u1")

    def no_books(*args: object) -> None:
        raise AssertionError("the books are away")

    with monkeypatch.context() as away:
        away.setattr(Store, "write", no_books)
        away.setattr(Store, "read", no_books)
        sold = msgspec.structs.replace(HARDER, upstream_id=north, order_id=blue)
        for price, count in (
            (PRICE, 1),
            (HARDER, 2),
            (msgspec.structs.replace(HARDER, upstream_id=north), 3),
        ):
            await booked.journal.commit(tally(worker, booked.prices.epoch(price, HEIGHT), count=count))
        await booked.journal.commit(tally(other, booked.prices.epoch(sold, HEIGHT), count=4))
    for step in range(0, 60, 4):
        with suppress(Crash), crash_before(step):
            await booked.folding.fold()
        booked.restart()
        proven(booked)
    await booked.folding.fold()
    assert paid(booked.store) == {
        ("acme", PRICE.nbits, None, None): 1,
        ("acme", HARDER.nbits, None, None): 2,
        ("acme", HARDER.nbits, "north", None): 3,
        ("borealis", HARDER.nbits, "north", "blue"): 4,
    }
    with booked.store.read() as connection:
        numbers = connection.scalars(select(rate_epochs.c.epoch).order_by(rate_epochs.c.epoch)).all()
    assert numbers == [1, 2, 3, 4, 5]
    proven(booked)


async def test_a_kill_between_a_price_and_its_first_share_gives_its_number_to_nobody_else(
    booked: JournalOnStore,
) -> None:
    """Definition on disk: the number is taken. Not on disk: no share has it, and it is given out again."""
    lost = booked.prices.epoch(HARDER, HEIGHT)
    booked.restart()
    kept = booked.prices.epoch(PRICE, HEIGHT)
    assert kept == lost
    await booked.journal.commit(b"")
    booked.restart()
    assert booked.prices.epoch(HARDER, HEIGHT) == kept + 1
    with booked.store.read() as connection:
        assert described(connection, kept).nbits == PRICE.nbits
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), kept + 1))
    await booked.folding.fold()
    assert paid(booked.store) == {("acme", HARDER.nbits, None, None): 1}
    proven(booked)


async def test_terms_that_changed_twice_before_the_books_took_a_price_are_those_of_its_moment(
    booked: JournalOnStore,
) -> None:
    """And the proof goes by when it was opened, not by when it was taken."""
    opened = booked.prices.epoch(HARDER, HEIGHT)
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), opened))
    with booked.store.write() as connection:
        for at_s, fee_bps in ((10, 300), (20, 400)):
            terms = msgspec.structs.replace(TERMS, fee_bps=fee_bps)
            set_terms(connection, "acme", terms, by="olga", now_s=NOW_S + at_s)
    await booked.folding.fold()
    with booked.store.read() as connection:
        fees = select(rates.c.fee_bps).join(rate_hours, rate_hours.c.rate_id == rates.c.id)
        assert connection.scalars(fees).all() == [200]
    proven(booked)


async def test_books_that_were_put_back_make_the_prices_again_that_they_do_not_have(
    booked: JournalOnStore, databases: Databases
) -> None:
    """From an older backup, beside the journal that went on."""
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    await booked.folding.fold()
    later = booked.prices.epoch(HARDER, HEIGHT)
    await booked.journal.commit(tally(worker, later, count=2))
    await booked.folding.fold()
    wanted = paid(booked.store)
    with fresh_store(databases) as older:
        with older.write() as connection, booked.store.read() as now:
            uid = now.execute(select(book.c.uid)).scalar_one()
            connection.execute(update(book).values(uid=uid))
            for name in ("acme", "borealis"):
                add_tenant(connection, name, TERMS, by="test", now_s=NOW_S)
        for _ in range(2):
            booked.home.start(older)
            assert paid(older) == wanted
        with older.read() as connection:
            assert verify(connection, data_dir=booked.home.path).wrong is None


async def test_books_with_other_numbers_take_a_journal_at_its_prices(
    booked: JournalOnStore, databases: Databases
) -> None:
    """A hub's: tenants, upstreams, orders, fee bases and prices have other rows there."""
    with booked.store.write() as connection:
        north = upstream_row(connection)
        blue = order_row(connection, north, sat_per_ph_day=PH_DAY_SAT)
        for name, scheme, credit, risk in (
            ("fees", Scheme.FPPS, OrderCredit.PPS, UpstreamRisk.TENANT),
            ("sells", Scheme.PPS, OrderCredit.ORDER, UpstreamRisk.POOL),
        ):
            terms = msgspec.structs.replace(TERMS, scheme=scheme, order_credit=credit, upstream_risk=risk)
            add_tenant(connection, name, terms, by="test", now_s=NOW_S)
        basis = record_fee_basis(connection, [BlockFees(height=1, hash="00", fees_sat=4_000_000)], NOW_S)
    booked.restart()
    own = msgspec.structs.replace(HARDER, fee_basis_id=basis)
    sold = msgspec.structs.replace(own, upstream_id=north, order_id=blue)
    for name, price in (("fees", own), ("sells", sold), ("acme", PRICE)):
        number = booked.prices.epoch(price, HEIGHT)
        await booked.journal.commit(tally(booked.worker(f"{name}.c01.u1"), number, count=number))
    await booked.folding.fold()
    with fresh_store(databases) as hub:
        with hub.write() as connection, booked.store.read() as edge:
            uid = edge.execute(select(book.c.uid)).scalar_one()
            connection.execute(update(book).values(uid=uid))
            upstream_row(connection, "another")
            order_row(connection, upstream_row(connection), sat_per_ph_day=PH_DAY_SAT)
            record_fee_basis(connection, [BlockFees(height=1, hash="11", fees_sat=5)], 0)
            for name in ("sells", "fees", "borealis", "acme"):
                terms = _terms_of(edge, name)
                add_tenant(connection, name, terms, by="test", now_s=NOW_S)
            connection.execute(
                insert(rate_epochs).values(epoch=1, nbits=1, height=1, subsidy_sat=1, created_at_s=0)
            )
        booked.home.start(hub)
        assert paid(hub) == paid(booked.store)
        assert _priced(hub) == _priced(booked.store)
        booked.home.start(hub)
        assert paid(hub) == paid(booked.store)


def _terms_of(connection: Connection, name: str) -> TenantTerms:
    view = find_tenant(connection, name)
    return TenantTerms(
        scheme=Scheme(view.scheme),
        fee_bps=view.fee_bps,
        payout_minimum_sat=0,
        order_credit=OrderCredit(view.order_credit),
        upstream_risk=UpstreamRisk(view.upstream_risk),
    )


def _priced(store: Store) -> set[tuple[Any, ...]]:
    """What shares are paid by, without numbers of rows."""
    columns = (rates.c.scheme, rates.c.fee_bps, rates.c.block_fees_sat, rates.c.sat_per_ph_day)
    query = select(tenants.c.name, *columns).select_from(rate_hours).join(rates).join(tenants)
    with store.read() as connection:
        return {tuple(row) for row in connection.execute(query)}


# What does not fit


BAD: list[tuple[Callable[[Rate], Rate], str]] = [
    (lambda it: msgspec.structs.replace(it, subsidy_sat=it.subsidy_sat + 1), "brings no"),
    (lambda it: msgspec.structs.replace(it, nbits=0x207FFFFF), "easier than main allows"),
    (lambda it: msgspec.structs.replace(it, nbits=0), "a target of zero"),
    (lambda it: msgspec.structs.replace(it, upstream="nobody"), "do not know upstream nobody"),
    (lambda it: msgspec.structs.replace(it, order="nothing"), "know no order nothing"),
    (lambda it: msgspec.structs.replace(it, basis=b"\x90"), "fee basis of 0 blocks"),
    (lambda it: _with(it, fee_bps=0), "ever had a fee of 0 basis points"),
    (lambda it: _with(it, tenant="ghost"), "do not know tenant ghost"),
    (lambda it: _with(it, sat_per_ph_day=9), "not the price of its order"),
]


def _with(rate: Rate, **changes: Any) -> Rate:
    first: Paid = msgspec.structs.replace(rate.paid[0], **changes)
    return msgspec.structs.replace(rate, paid=(first, *rate.paid[1:]))


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(("plant", "words"), BAD)
def test_a_price_that_does_not_fit_the_books_is_none(
    booked: JournalOnStore, plant: Callable[[Rate], Rate], words: str
) -> None:
    bind(booked.store, "main")
    rate = booked.prices.meaning(booked.prices.epoch(HARDER, 840_000))
    with booked.store.read() as connection:
        assert unfit(connection, rate) == ""
        assert words in unfit(connection, plant(rate))


async def test_a_planted_price_is_found_and_refused_and_nothing_is_lost(booked: JournalOnStore) -> None:
    """Whoever may write to the data directory has no fee from now on: his shares wait there, unbooked."""
    opened, worker = booked.prices.epoch(HARDER, HEIGHT), booked.worker("acme.c01.u1")
    booked.prices.opened()
    true = booked.prices.meaning(opened)
    booked.prices.remember(_with(true, fee_bps=0))
    await booked.journal.commit(tally(worker, opened))
    with booked.store.read() as connection:
        wrong = verify(connection, data_dir=booked.home.path).wrong
    assert wrong is not None
    assert wrong.table == "journal"
    assert "no terms of acme ever had a fee of 0 basis points" in wrong.reason
    for take in (booked.restart, booked.restart):
        with pytest.raises(StoreError, match="rate number 2 of the journal does not fit these books"):
            take()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}


async def test_a_price_that_was_booked_and_changed_since_is_found(booked: JournalOnStore) -> None:
    opened, worker = booked.prices.epoch(HARDER, HEIGHT), booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, opened))
    await booked.folding.fold()
    with booked.store.write() as connection:
        disarm(connection)
        connection.execute(update(rates).where(rates.c.nbits == HARDER.nbits).values(fee_bps=0))
    with booked.store.read() as connection:
        wrong = verify(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.reason) == ("rates", "the tenant had no such terms then")


@pytest.mark.sqlite_suffices
async def test_a_number_that_another_process_gave_away_is_refused(booked: JournalOnStore) -> None:
    """Two have opened prices on one book: none of them may go on."""
    await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.prices.epoch(HARDER, HEIGHT)))
    with booked.store.write() as connection:
        open_epoch(connection, msgspec.structs.replace(HARDER, nbits=PRICE.nbits - 1), HEIGHT, NOW_S)
    with pytest.raises(NumberTaken, match="somebody else wrote to the book"):
        await booked.folding.fold()


# Files of before


@pytest.mark.sqlite_suffices
async def test_a_file_of_before_has_numbers_of_rows(booked: JournalOnStore) -> None:
    """As it was written: the price was in the books before its first share, and no record says what it is."""
    _written(booked, BY_ROWS)
    booked.restart()
    assert paid(booked.store) == {("acme", PRICE.nbits, None, None): 5}
    proven(booked)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("version", "rate", "words"),
    [
        (BY_ROWS, 77, "shares of rate number 77, which these books do not know"),
        (VERSION, 1, "shares of rate 1, and does not define it"),
        (VERSION + 1, 1, "reads versions up to 2"),
    ],
)
def test_a_number_that_nobody_defined_is_refused_in_words(
    booked: JournalOnStore, version: int, rate: int, words: str
) -> None:
    _written(booked, version, rate)
    with pytest.raises((JournalDamaged, StoreError), match=words):
        booked.restart()


def _written(booked: JournalOnStore, version: int, rate: int = 1) -> None:
    """A journal of five shares at a rate, whose file opens as one of that version."""
    (directory,) = writers(booked.home.path)
    with booked.store.read() as connection:
        uid = uid_of(connection)
    machine = Machine(
        number=1, tenant_id=1, tenant="acme", container_id=1, container="c01", unit="u1", agent=None, new=True
    )
    opening = Opening(version=version, writer=directory.name, book=uid, moment_s=NOW_S, accepted=0)
    batch = Batch(moment_s=NOW_S, accepted=5, tallies=tally(1, rate, count=5), machines=(machine,))
    at, data = Place(), b""
    for record in (opening, batch):
        framed_one, at = framed(directory.name, at, packed(record))
        data += framed_one
    segment_path(directory, 1).write_bytes(data)
