"""The journal: what was acknowledged is on disk, folded into minutes once, and nothing else is."""

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from structlog.testing import capture_logs

from payouts.audit.verify import audit
from payouts.rates import Scheme
from payouts.schemas.money import containers, rate_hours, rates, tally_minutes, tenants, workers
from pool.books.audit.verify import verify
from pool.books.journal import folding, rate_epochs, taker
from pool.books.journal.journal import JournalFailed
from pool.books.journal.machine_rows import rows_of
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant, remove_worker, set_container
from pool.journal.frames import Place
from pool.journal.records import Machine
from stratum.miners.contracts import Admitted
from stratum.tallies import MINED, Verdict, merge
from tests.fakes.disks import DiskThatLoses, disk_full
from tests.fakes.owners import ConnectionFrom
from tests.fakes.threads import all_taken
from tests.fixtures.databases import Crash, crash_before
from tests.stages.journal import NOW_S, JournalOnStore, tally
from tests.stages.waiting import PATIENCE_S


@pytest.fixture
def booked(store: Store) -> JournalOnStore:
    return JournalOnStore(store)


@pytest.mark.sqlite_suffices
async def test_a_commit_is_on_disk_when_it_returns(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch, count=3))
    (batch,) = booked.waiting()
    assert (batch.tallies, batch.accepted) == (tally(worker, booked.epoch, count=3), 3)
    booked.restart()
    assert booked.waiting() == []
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 3}


async def test_a_commit_is_durable_before_it_hears_of_it_and_no_longer(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, seen, run_sync = booked.journal, list[bool](), trio.to_thread.run_sync

    async def watched(call: Callable[..., object], *args: object, **how: Any) -> None:
        seen.append(journal.durable)
        await run_sync(call, *args, **how)
        seen.append(journal.durable)

    monkeypatch.setattr(trio.to_thread, "run_sync", watched)
    for _ in range(2):
        await journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
    assert seen == [False, True] * 2
    assert not journal.durable


async def test_a_commit_waits_for_no_thread_that_others_have(booked: JournalOnStore) -> None:
    """Who shows a token, or whose database does not answer, has one until it does: forty of them, and no
    share of anybody was acknowledged."""
    all_taken()
    with trio.fail_after(PATIENCE_S):
        await booked.journal.commit(tally(booked.worker("acme.c01.u1"), booked.epoch))
    assert len(booked.waiting()) == 1


@pytest.mark.parametrize("killed", [False, True])
async def test_a_new_worker_is_committed_with_its_first_share_and_has_a_row_after_the_fold(
    booked: JournalOnStore, killed: bool
) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    assert list(booked.registry.rowless) == [worker]
    if killed:
        booked.restart()
        assert booked.worker("acme.c01.u1") == worker
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}
    assert booked.registry.rowless == {}
    with booked.store.read() as connection:
        row = connection.execute(select(workers, containers.c.name.label("container")).join(containers)).one()
    assert (row.id, row.container, row.unit, row.agent) == (worker, "c01", "u1", "cgminer")
    booked.restart()
    assert booked.worker("acme.c01.u1") == worker


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize("connected", ["and mines", "and has sent nothing", "later"])
async def test_a_machine_that_only_the_file_of_a_block_names_is_the_one_that_came_back(
    booked: JournalOnStore, number: int, connected: str
) -> None:
    """Its pool was killed with its first share, and its block is booked by the file, whatever number it had.
    Two machines of one name are two rows that the books do not take, nor anybody's shares from then on."""
    booked.taker.serve()
    registry, name = booked.registry, "acme.c01.u1"
    here = None if connected == "later" else booked.worker(name)
    if here is not None and connected == "and mines":
        registry.prove(here)
    of_before = Machine(
        number=number, tenant_id=1, tenant="acme", container_id=1, container="c01", unit="u1", agent=None
    )
    finder = registry.renumbered(of_before)
    with booked.store.write() as connection:
        assert rows_of(connection, [finder], NOW_S) == {finder.number: finder.number}
    here = booked.worker(name) if here is None else here
    registry.prove(here)
    await booked.journal.commit(tally(here, booked.epoch))
    await booked.folding.fold()
    assert (finder.number, booked.shares()) == (here, {(here, Verdict.ACCEPTED): 1})
    assert booked.waiting() == []


async def test_a_book_is_proven_while_shares_of_a_new_machine_wait_in_several_batches(
    booked: JournalOnStore,
) -> None:
    """Its name is in the first of them alone."""
    worker = booked.worker("acme.c01.u1")
    for _ in range(3):
        await booked.journal.commit(tally(worker, booked.epoch))
    assert [len(it.machines) for it in booked.waiting()] == [1, 0, 0]
    for _ in range(2):
        with booked.store.read() as connection:
            assert verify(connection).wrong is None
        await booked.folding.fold()


@pytest.mark.parametrize("known_again", [False, True])
@pytest.mark.sqlite_suffices
async def test_when_machines_were_seen_is_written_by_few_in_each_minute_and_by_all_in_ten(
    booked: JournalOnStore, known_again: bool, autojump_clock: trio.testing.MockClock
) -> None:
    """Whether they all came at once, or mined on while the pool was started again."""
    machines = []
    for number in range(folding.SEEN_S):
        booked.miner = ConnectionFrom()  # one names no more than 64
        machines.append(booked.worker(f"acme.c01.u{number}"))

    async def minute() -> dict[int, int]:
        """Of one in which all mine, when the books say that each was seen."""
        booked.clock.now_s += 60.0
        await booked.journal.commit(b"".join(tally(it, booked.epoch) for it in machines))
        await booked.folding.fold()
        with booked.store.read() as connection:
            return {it.id: it.last_seen_at_s for it in connection.execute(select(workers))}

    first = await minute()
    assert set(first) == set(machines)
    if known_again:
        booked.restart()
    before = first
    for _ in range(folding.SEEN_S // 60):
        now = await minute()
        written = [it for it in machines if now[it] != before[it]]
        assert all(now[it] == booked.clock.now_s for it in written)
        assert len(written) <= len(machines) / 5
        before = now
    assert all(before[it] > first[it] for it in machines)


@pytest.mark.parametrize("killed", [False, True])
async def test_a_late_share_of_a_machine_that_was_removed_is_its_own_and_nobody_elses(
    booked: JournalOnStore, killed: bool
) -> None:
    """It was judged before the command, and is committed behind it, in one commit with a newcomer's first."""
    removed, name = booked.worker("acme.c01.u1"), ("acme", "c01", "u1")
    await booked.journal.commit(tally(removed, booked.epoch))
    await booked.folding.fold()
    with booked.store.write() as connection:
        assert remove_worker(connection, *name, now_s=NOW_S) == removed
    booked.registry.remove_workers([removed])
    newcomer = booked.worker("borealis.c09.u1")
    await booked.journal.commit(
        tally(removed, booked.epoch, count=2) + tally(newcomer, booked.epoch, count=5)
    )
    if killed:
        booked.restart()
    await booked.folding.fold()
    assert booked.shares() == {(removed, Verdict.ACCEPTED): 3, (newcomer, Verdict.ACCEPTED): 5}
    with booked.store.read() as connection:
        in_the_book = connection.execute(
            select(tenants.c.name, func.sum(rate_hours.c.shares))
            .join(rates, rates.c.id == rate_hours.c.rate_id)
            .join(tenants, tenants.c.id == rates.c.tenant_id)
            .group_by(tenants.c.name)
        )
        assert {name: int(shares) for name, shares in in_the_book} == {"acme": 3, "borealis": 5}
        assert verify(connection).wrong is None
    booked.restart()
    assert booked.worker(".".join(name)) == removed, "it mines again under its number"


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("named_by", ["its first share", "another process"])
async def test_a_container_whose_first_machine_comes_while_it_is_set_is_one(
    booked: JournalOnStore, named_by: str
) -> None:
    """Nameplates of a site are set at once, while its machines come: two numbers for one name, and the books
    took nothing more of the journal until the pool began anew."""
    booked.taker.serve()
    number = booked.registry.reserve_container("acme", "c09")
    if named_by == "another process":
        its = Machine(
            number=7, tenant_id=1, tenant="acme", container_id=99, container="c09", unit="u1", agent=None
        )
        booked.registry.adopt(msgspec.structs.replace(its, new=True, new_container=True))
    worker = booked.worker("acme.c09.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    with booked.store.write() as connection:
        container = set_container(connection, "acme", "c09", units=400, next_id=number, now_s=NOW_S)
    booked.registry.put_container(container)
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}
    assert booked.registry.container_of("acme", "c09") == booked.registry.containers[number] == container
    assert booked.registry.containers_of("acme") == 1


@pytest.mark.sqlite_suffices
async def test_a_file_that_cannot_be_removed_stops_nobody(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in it is in the books: it is in nobody's way."""

    def stays(taken: Place) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    monkeypatch.setattr(booked.journal._log, "trim", stays)
    with capture_logs() as logs:
        await booked.folding.fold()
    assert [(it["event"], it["reason"]) for it in logs] == [("journal_not_trimmed", "Permission denied")]
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 1}


@pytest.mark.sqlite_suffices
async def test_a_machine_that_is_removed_while_its_shares_are_folded_stops_no_pool(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two machines that are looked at, a command has its turn."""
    monkeypatch.setattr(folding, "MACHINES_AT_ONCE", 1)
    gone, *others = (booked.worker(f"acme.c01.u{number}") for number in range(3))
    for worker in (gone, *others):
        await booked.journal.commit(tally(worker, booked.epoch, 17))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(booked.folding.fold)
        while booked.registry.workers[gone].difficulty_log2 is None:
            await trio.lowlevel.checkpoint()
        booked.registry.remove_workers([gone])
    with booked.store.read() as connection:
        noted = connection.execute(select(workers.c.id, workers.c.difficulty_log2)).all()
    assert {row.id: row.difficulty_log2 for row in noted} == dict.fromkeys((gone, *others), 17)


async def test_an_accepted_share_is_booked_whatever_its_number_is_taken_for(booked: JournalOnStore) -> None:
    """Of newcomers only rejected shares are left out: a mistake about who is one costs no more than those."""
    worker, other = booked.worker("acme.c01.u1"), booked.worker("acme.c01.u2")
    await booked.journal.commit(tally(worker, booked.epoch))
    booked.registry.newcomers._mask[worker] = True
    await booked.journal.commit(
        tally(worker, booked.epoch, count=2) + tally(other, booked.epoch, verdict=Verdict.LOW_DIFFICULTY)
    )
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 3}


async def test_what_is_not_folded_yet_is_known_with_its_age(
    booked: JournalOnStore, autojump_clock: trio.testing.MockClock
) -> None:
    worker, journal = booked.worker("acme.c01.u1"), booked.journal
    assert (journal.unfolded, journal.unfolded_since_s) == (0, None)
    for _ in range(2):
        await journal.commit(tally(worker, booked.epoch))
        await trio.sleep(10)
    await journal.commit(b"")
    since_s = journal.unfolded_since_s
    assert journal.unfolded == 2
    assert since_s is not None
    assert trio.current_time() - since_s >= 20
    await booked.folding.fold()
    assert (journal.unfolded, journal.unfolded_since_s) == (0, None)
    assert sum(booked.folding.durations.counts) == 1
    await journal.commit(tally(worker, booked.epoch))
    booked.restart()
    assert booked.journal.unfolded == 0, "the start took it"


async def test_folding_moves_every_share_once_and_the_books_agree(booked: JournalOnStore) -> None:
    ours, theirs = booked.worker("acme.c01.u1"), booked.worker("borealis.c02.u1")
    for _ in range(5):
        await booked.journal.commit(tally(ours, booked.epoch) + tally(theirs, booked.epoch, 14, count=2))
        booked.clock.now_s += 20
    await booked.journal.commit(
        tally(ours, booked.epoch, verdict=Verdict.STALE) + tally(ours, 0, 0, Verdict.JOB_UNKNOWN)
    )
    before = booked.shares()
    await booked.folding.fold()
    assert booked.waiting() == []
    assert booked.shares() == before
    with booked.store.read() as connection:
        rates = connection.execute(select(rate_hours.c.rate_id, rate_hours.c.shares)).all()
        assert sorted(shares for _, shares in rates) == [5, 10]
        assert len({rate for rate, _ in rates}) == 2  # each tenant has a rate of its own
        assert audit(connection).wrong is None
        minutes = connection.scalars(select(tally_minutes.c.minute).distinct()).all()
    assert sorted(minutes) == [NOW_S // 60, NOW_S // 60 + 1]
    await booked.folding.fold()
    assert booked.shares() == before


@pytest.mark.parametrize("rows_max", [1_000, 2])
async def test_a_crash_anywhere_in_a_fold_loses_and_doubles_nothing(
    booked: JournalOnStore, monkeypatch: pytest.MonkeyPatch, rows_max: int
) -> None:
    """In one transaction, and where there is so much that it is cut first."""
    monkeypatch.setattr(taker, "ROWS_MAX", rows_max)
    monkeypatch.setattr(folding, "STEP_PAUSE_S", 0.0)
    expected: dict[tuple[int, int], int] = {}
    for step in range(30):  # more than the fold of what is committed below has
        for name in ("u1", f"u{step + 2}"):
            worker = booked.worker(f"acme.c01.{name}")
            await booked.journal.commit(tally(worker, booked.epoch) + tally(worker, 0, 0, Verdict.STALE, 2))
            for verdict, count in ((Verdict.ACCEPTED, 1), (Verdict.STALE, 2)):
                expected[worker, verdict] = expected.get((worker, verdict), 0) + count
        with suppress(Crash), crash_before(step):
            await booked.folding.fold()
        booked.restart()
        assert booked.shares() == expected
    await booked.folding.fold()
    assert booked.shares() == expected
    with booked.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(workers)) == 31
        assert verify(connection).wrong is None
        assert audit(connection).wrong is None


@pytest.mark.sqlite_suffices
async def test_the_last_difficulty_of_a_worker_is_where_it_starts_again(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(
        tally(worker, booked.epoch, 10, count=2) + tally(worker, booked.epoch, 17, count=30)
    )
    await booked.folding.fold()
    assert booked.registry.admit("acme.c01.u1", "", booked.miner) == Admitted(worker, 17, party=1)
    booked.restart()
    assert booked.registry.admit("acme.c01.u1", "", booked.miner) == Admitted(worker, 17, party=1)


@pytest.mark.sqlite_suffices
async def test_shares_of_an_older_epoch_are_booked_at_its_price(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    later = booked.prices.epoch(WorkPrice(nbits=0x17034000, subsidy_sat=156_250_000), 1_050_000)
    await booked.journal.commit(tally(worker, booked.epoch) + tally(worker, later, count=2))
    await booked.folding.fold()
    with booked.store.read() as connection:
        old = rate_epochs.rate_of(connection, booked.epoch, 1).rate_id
        new = rate_epochs.rate_of(connection, later, 1).rate_id
        rows = connection.execute(select(rate_hours.c.rate_id, rate_hours.c.shares))
        shares = {row.rate_id: row.shares for row in rows}
    assert shares == {old: 1, new: 2}


@pytest.mark.sqlite_suffices
async def test_shares_of_a_tenant_that_came_during_the_epoch_are_not_lost(booked: JournalOnStore) -> None:
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=100, payout_minimum_sat=0)
    with booked.store.write() as connection:
        add_tenant(connection, "caucasus", terms, by="test", now_s=NOW_S)
    booked.restart()
    await booked.journal.commit(tally(booked.worker("caucasus.c01.u1"), booked.epoch))
    await booked.folding.fold()
    with booked.store.read() as connection:
        assert connection.scalar(select(func.sum(rate_hours.c.shares))) == 1
        assert audit(connection).wrong is None


@pytest.mark.sqlite_suffices
async def test_a_clock_that_steps_back_a_day_changes_no_count(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    await booked.journal.commit(tally(worker, booked.epoch))
    booked.clock.now_s -= 86_400
    await booked.journal.commit(tally(worker, booked.epoch))
    await booked.folding.fold()
    assert booked.shares() == {(worker, Verdict.ACCEPTED): 2}


@pytest.mark.sqlite_suffices
async def test_a_commit_that_fails_raises_leaves_nothing_and_is_the_last(booked: JournalOnStore) -> None:
    worker, disk = booked.worker("acme.c01.u1"), DiskThatLoses()
    booked.restart(disk)
    worker = booked.worker("acme.c01.u1")
    disk.writes = [40, disk_full()]
    with pytest.raises(JournalFailed, match=r"No space left.*none that is not.*start the pool again"):
        await booked.journal.commit(tally(worker, booked.epoch))
    assert booked.journal.failed
    with pytest.raises(JournalFailed):
        await booked.journal.commit(tally(worker, booked.epoch))
    assert booked.shares() == {}
    booked.restart()
    assert booked.shares() == {}


@pytest.mark.sqlite_suffices
async def test_a_cancelled_commit_is_waited_for(booked: JournalOnStore) -> None:
    worker = booked.worker("acme.c01.u1")
    with trio.move_on_after(0) as scope:
        await booked.journal.commit(tally(worker, booked.epoch))
    committed = booked.shares()
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
@settings(deadline=None)  # what a machine is busy with is no fault
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
