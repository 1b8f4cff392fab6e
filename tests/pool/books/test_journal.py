"""The journal: what was acknowledged is on disk, folded into minutes once, and nothing else is."""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, func, select
from sqlalchemy.engine import Engine

from payouts.audit.verify import audit
from payouts.rates import Scheme
from payouts.schemas.money import containers, rate_hours, rates, tally_minutes, tenants, workers
from pool.books import journal, rate_epochs
from pool.books.journal import Journal, JournalFailed
from pool.books.journal_schema import journal_batches
from pool.books.rate_epochs import WorkPrice, open_epoch
from pool.books.store import Store
from pool.books.verify import verify
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load, remove_worker
from stratum.miners.contracts import Admitted
from stratum.tallies import MINED, Verdict, merge
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import crash_before

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


class Site:
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


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store)


async def test_a_commit_is_on_disk_when_it_returns(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    await site.journal.commit(tally(worker, site.epoch, count=3))
    site.restart()
    assert site.shares() == {(worker, Verdict.ACCEPTED): 3}


async def test_a_new_worker_is_committed_with_its_first_share_and_has_a_row_after_the_fold(
    site: Site,
) -> None:
    worker = site.worker("acme.c01.u1")
    await site.journal.commit(tally(worker, site.epoch))
    site.restart()
    assert site.worker("acme.c01.u1") == worker
    assert site.shares() == {(worker, Verdict.ACCEPTED): 1}
    await site.journal.fold()
    with site.store.read() as connection:
        row = connection.execute(select(workers, containers.c.name.label("container")).join(containers)).one()
    assert (row.id, row.container, row.unit, row.agent) == (worker, "c01", "u1", "cgminer")
    site.restart()
    assert site.worker("acme.c01.u1") == worker


async def test_a_book_is_proven_while_shares_of_a_new_machine_wait_in_several_batches(site: Site) -> None:
    """Its name is in the first of them alone."""
    worker = site.worker("acme.c01.u1")
    for _ in range(3):
        await site.journal.commit(tally(worker, site.epoch))
    with site.store.read() as connection:
        assert verify(connection).wrong is None
    await site.journal.commit(tally(worker + 1, site.epoch))
    with site.store.read() as connection:
        wrong = verify(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row, wrong.reason) == ("journal_batches", "4", "there is no such machine")


@pytest.mark.parametrize("killed", [False, True])
async def test_a_late_share_of_a_machine_that_was_removed_is_its_own_and_nobody_elses(
    site: Site, killed: bool
) -> None:
    """It was judged before the command, and is committed behind it, in one commit with a newcomer's first."""
    removed, name = site.worker("acme.c01.u1"), ("acme", "c01", "u1")
    await site.journal.commit(tally(removed, site.epoch))
    await site.journal.fold()
    with site.store.write() as connection:
        assert remove_worker(connection, *name, now_s=NOW_S) == removed
    site.registry.remove_workers([removed])
    newcomer = site.worker("borealis.c09.u1")
    await site.journal.commit(tally(removed, site.epoch, count=2) + tally(newcomer, site.epoch, count=5))
    if killed:
        site.restart()
    await site.journal.fold()
    assert site.shares() == {(removed, Verdict.ACCEPTED): 3, (newcomer, Verdict.ACCEPTED): 5}
    with site.store.read() as connection:
        booked = connection.execute(
            select(tenants.c.name, func.sum(rate_hours.c.shares))
            .join(rates, rates.c.id == rate_hours.c.rate_id)
            .join(tenants, tenants.c.id == rates.c.tenant_id)
            .group_by(tenants.c.name)
        )
        assert {name: int(shares) for name, shares in booked} == {"acme": 3, "borealis": 5}
        assert verify(connection).wrong is None
    site.restart()
    assert site.worker(".".join(name)) == removed, "it mines again under its number"


async def test_folding_moves_every_share_once_and_the_books_agree(site: Site) -> None:
    ours, theirs = site.worker("acme.c01.u1"), site.worker("borealis.c02.u1")
    for _ in range(5):
        await site.journal.commit(tally(ours, site.epoch) + tally(theirs, site.epoch, 14, count=2))
        site.clock.now_s += 20
    await site.journal.commit(
        tally(ours, site.epoch, verdict=Verdict.STALE) + tally(ours, 0, 0, Verdict.JOB_UNKNOWN)
    )
    before = site.shares()
    await site.journal.fold()
    assert site.shares() == before
    with site.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(journal_batches)) == 0
        rates = connection.execute(select(rate_hours.c.rate_id, rate_hours.c.shares)).all()
        assert sorted(shares for _, shares in rates) == [5, 10]
        assert len({rate for rate, _ in rates}) == 2  # each tenant has a rate of its own
        assert audit(connection).wrong is None
        minutes = connection.scalars(select(tally_minutes.c.minute).distinct()).all()
    assert sorted(minutes) == [NOW_S // 60, NOW_S // 60 + 1]
    await site.journal.fold()
    assert site.shares() == before


@pytest.mark.parametrize("rows_max", [1_000, 2])
async def test_a_crash_anywhere_in_a_fold_loses_and_doubles_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    """In one transaction, and where there is so much that it is cut first."""
    monkeypatch.setattr(journal, "ROWS_MAX", rows_max)
    monkeypatch.setattr(journal, "STEP_PAUSE_S", 0.0)
    expected: dict[tuple[int, int], int] = {}
    for step in range(30):  # more than the fold of what is committed below has
        for name in ("u1", f"u{step + 2}"):
            worker = site.worker(f"acme.c01.{name}")
            await site.journal.commit(tally(worker, site.epoch) + tally(worker, 0, 0, Verdict.STALE, 2))
            for verdict, count in ((Verdict.ACCEPTED, 1), (Verdict.STALE, 2)):
                expected[worker, verdict] = expected.get((worker, verdict), 0) + count
        with suppress(JournalFailed), crash_before(step):
            await site.journal.fold()
        site.restart()
        assert site.shares() == expected
    await site.journal.fold()
    assert site.shares() == expected
    with site.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(journal_batches)) == 0
        assert connection.scalar(select(func.count()).select_from(workers)) == 31
        assert audit(connection).wrong is None


async def test_the_last_difficulty_of_a_worker_is_where_it_starts_again(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    await site.journal.commit(
        tally(worker, site.epoch, 10, count=2) + tally(worker, site.epoch, 17, count=30)
    )
    await site.journal.fold()
    assert site.registry.admit("acme.c01.u1", "", site.miner) == Admitted(worker, 17, party=1)
    site.restart()
    assert site.registry.admit("acme.c01.u1", "", site.miner) == Admitted(worker, 17, party=1)


async def test_shares_of_an_older_epoch_are_booked_at_its_price(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    with site.store.write() as connection:
        later = open_epoch(connection, WorkPrice(nbits=0x17034000, subsidy_sat=156_250_000), 1_050_000, NOW_S)
    await site.journal.commit(tally(worker, site.epoch) + tally(worker, later, count=2))
    await site.journal.fold()
    with site.store.read() as connection:
        old = rate_epochs.rate_of(connection, site.epoch, 1).rate_id
        new = rate_epochs.rate_of(connection, later, 1).rate_id
        rows = connection.execute(select(rate_hours.c.rate_id, rate_hours.c.shares))
        shares = {row.rate_id: row.shares for row in rows}
    assert shares == {old: 1, new: 2}


async def test_shares_of_a_tenant_that_came_during_the_epoch_are_not_lost(site: Site) -> None:
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=100, payout_minimum_sat=0)
    with site.store.write() as connection:
        add_tenant(connection, "caucasus", terms, by="test", now_s=NOW_S)
    site.restart()
    await site.journal.commit(tally(site.worker("caucasus.c01.u1"), site.epoch))
    await site.journal.fold()
    with site.store.read() as connection:
        assert connection.scalar(select(func.sum(rate_hours.c.shares))) == 1
        assert audit(connection).wrong is None


async def test_a_clock_that_steps_back_a_day_changes_no_count(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    await site.journal.commit(tally(worker, site.epoch))
    site.clock.now_s -= 86_400
    await site.journal.commit(tally(worker, site.epoch))
    await site.journal.fold()
    assert site.shares() == {(worker, Verdict.ACCEPTED): 2}


@contextmanager
def disk_full() -> Iterator[None]:
    """Every commit fails, as SQLite says it on a full disk."""

    def fail(connection: Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    event.listen(Engine, "commit", fail)
    try:
        yield
    finally:
        event.remove(Engine, "commit", fail)


async def test_a_commit_that_fails_raises_and_leaves_nothing(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    with disk_full(), pytest.raises(JournalFailed, match="disk is full"):
        await site.journal.commit(tally(worker, site.epoch))
    assert site.shares() == {}


async def test_a_cancelled_commit_is_waited_for(site: Site) -> None:
    worker = site.worker("acme.c01.u1")
    with trio.move_on_after(0) as scope:
        await site.journal.commit(tally(worker, site.epoch))
    committed = site.shares()
    assert committed in ({}, {(worker, Verdict.ACCEPTED): 1})
    if not scope.cancelled_caught:
        assert committed


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(1, 5),
                st.integers(0, 3),
                st.integers(-32, 63),
                st.sampled_from(list(Verdict)),
                st.integers(1, 1000),
            )
        )
    )
)
def test_merging_adds_up_what_has_the_same_key(
    batches: list[list[tuple[int, int, int, Verdict, int]]],
) -> None:
    expected: dict[tuple[int, int, int, int], int] = {}
    for batch in batches:
        for worker, rate, log2, verdict, count in batch:
            mined = verdict in MINED  # what is rejected is counted by worker and verdict alone
            key = (worker, rate if mined else 0, log2 if mined else 0, int(verdict))
            expected[key] = expected.get(key, 0) + count
    merged = merge(b"".join(tally(*record) for record in batch) for batch in batches)
    assert {(w, r, d, v): n for w, r, d, v, _, n in merged.tolist()} == expected
    assert len(merged) == len(expected)
