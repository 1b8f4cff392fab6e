"""Forwarded shares in the journal: whenever the pool dies, each that was acknowledged is counted once.

The journal is told of shares as the channels and upstreams tell it, and killed before every statement of
every commit, of the start after it, and of the fold. What is in the books then follows from what was
committed.
"""

import random
from collections import Counter
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select
from structlog.testing import capture_logs

from payouts.audit.verify import audit
from payouts.rates import Scheme, UpstreamRisk
from payouts.reports.rejects import judged_of_worker, said_of_tenant, said_of_worker
from payouts.schemas.money import rate_hours, tally_minutes
from payouts.schemas.orders import upstream_days, upstream_hours
from pool.books.journal import rate_epochs
from pool.books.journal.credit_rows import CreditRows
from pool.books.journal.folding import Folding
from pool.books.journal.forwarded_shares import Forwarded, ForwardedShares
from pool.books.journal.journal import Journal, JournalFailed
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.journal.schema import upstream_submits
from pool.books.store import Store
from pool.fleet.registry import Registry
from pool.fleet.rows import TenantTerms, add_tenant, load
from stratum.miners.contracts import Admitted
from stratum.tallies import Verdict, merge
from stratum.upstream.shares import (
    NotSent,
    RejectReason,
    SubmitAnswer,
    SubmitVerdict,
    UpstreamJob,
    UpstreamShare,
)
from tests.fakes.disks import DiskThatLoses, disk_full
from tests.fakes.owners import ConnectionFrom
from tests.fixtures.databases import Crash, crash_at, crash_before
from tests.histories.sold_work import order_row, upstream_row
from tests.stages.journal import Clock, Home, tally, waiting
from tests.stages.prices import open_epoch, prices_of

HOUR = 472_222
NOW_S = HOUR * 3600
STATEMENTS_TRIED = 13  # more than any transaction here has; with fewer it crashes before the commit
STEPS_TRIED = 40  # more than a fold has, of all its transactions
TARGET = 0xFFFF << 188
JOB = UpstreamJob(upstream="north", connection=1, job_id="a", version=0, filler=b"", target=TARGET)
ACCEPTED, REJECTED, UNANSWERED = SubmitVerdict.ACCEPTED, SubmitVerdict.REJECTED, SubmitVerdict.UNANSWERED
ENGINE = "engine"  # tallied by the engine, as everything that is not forwarded


class Told(msgspec.Struct, frozen=True):
    """Of one share: `how` it is resolved; None: it is noted."""

    name: str
    how: SubmitVerdict | str | None = None
    counted: bool = False


# What is told before each commit.
COMMITS: tuple[tuple[Told, ...], ...] = (
    (Told("own", ENGINE), Told("a"), Told("block", counted=True), Told("c", "not sent")),
    (Told("a", ACCEPTED), Told("d"), Told("e"), Told("e", REJECTED), Told("f")),
    (Told("d", UNANSWERED), Told("block", REJECTED, counted=True)),  # f is never answered
)


class ForwardingJournal:
    """Two tenants, one of which bears no risk of upstreams; a pool on their database, that can be killed."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = Clock()
        self.clock.now_s = float(NOW_S)
        self.home, self.disk = Home(), DiskThatLoses()
        terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
        with store.write() as connection:
            self.north = upstream_row(connection)
            self.blue = order_row(connection, self.north)
            add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
            safe = msgspec.structs.replace(terms, upstream_risk=UpstreamRisk.POOL)
            add_tenant(connection, "borealis", safe, by="test", now_s=NOW_S)
            own = WorkPrice(nbits=0x17034219, subsidy_sat=312_500_000)
            sold = msgspec.structs.replace(own, upstream_id=self.north, order_id=self.blue)
            proxied = msgspec.structs.replace(own, upstream_id=self.north)
            self.own = open_epoch(connection, own, 840_000, NOW_S)
            self.sold = open_epoch(connection, sold, 840_000, NOW_S)
            self.proxied = open_epoch(connection, proxied, 840_000, NOW_S)
        self.start()

    def start(self) -> None:
        opened = self.home.start(self.store, self.disk)
        with self.store.read() as connection:
            self.registry, credits = Registry(load(connection)), CreditRows(connection)
            prices = prices_of(connection, self.registry, self.clock)
        self.submits = ForwardedShares()
        self.live: list[bytes] = []
        self.journal = Journal(
            self.registry,
            opened.log,
            opened.beginning,
            prices,
            submits=self.submits,
            on_commit=self.live.append,
        )
        self.folding = Folding(self.store, self.registry, credits, wall_clock=self.clock)
        self.folding.take(self.journal, opened.taker)

    def worker(self, name: str = "acme.c01.u1") -> int:
        admission = self.registry.admit(name, "cgminer", ConnectionFrom())
        assert isinstance(admission, Admitted)
        return admission.worker

    def share(self, name: str, *, worker: int = 0, epoch: int = 0, counted: bool = False) -> Forwarded:
        return Forwarded(
            key=name.encode(),
            worker=worker or self.worker(),
            epoch=epoch or self.proxied,
            difficulty_log2=16,
            counted=counted,
            target=TARGET,
        )

    def note(self, share: Forwarded) -> Forwarded:
        self.submits.note(share)
        return share

    def resolve(
        self, share: Forwarded, verdict: SubmitVerdict = ACCEPTED, reason: RejectReason | None = None
    ) -> None:
        sent = UpstreamShare(key=share.key, job=JOB, extranonce2=b"", ntime=0, nonce=0, version=0)
        self.submits.resolve(share.key, SubmitAnswer(share=sent, verdict=verdict, reason=reason))

    def tell(self, told: tuple[Told, ...]) -> bytes:
        """What the engine tallied of it."""
        tallies = b""
        for it in told:
            share = self.share(it.name, counted=it.counted)
            if it.how == ENGINE:
                tallies += tally(share.worker, self.own)
            elif it.how == "not sent":
                self.submits.note(share)
                self.submits.resolve(share.key, NotSent.NOT_CONNECTED)
            elif isinstance(it.how, SubmitVerdict):
                self.resolve(share, it.how, RejectReason.STALE if it.how is REJECTED else None)
            else:
                self.note(share)
                if it.counted:
                    tallies += tally(share.worker, self.proxied, verdict=Verdict.STALE)
        return tallies

    def rows(self) -> set[bytes]:
        """Shares that wait for their answers: by the books, and by the journal that goes on from there."""
        with self.store.read() as connection:
            found = {bytes.fromhex(key) for key in connection.scalars(select(upstream_submits.c.key))}
            for batch in waiting(self.home.path, connection):
                found = (found - set(batch.resolved)) | {it.key for it in batch.noted}
        return found

    def tallied(self) -> Counter[int]:
        """Shares by verdict: those in the journal and those in minutes, which must not overlap."""
        found: Counter[int] = Counter()
        with self.store.read() as connection:
            batches = [it.tallies for it in waiting(self.home.path, connection)]
            for _, _, _, verdict, _, count in merge(batches).tolist():
                found[verdict] += count
            for row in connection.execute(select(tally_minutes)):
                found[row.verdict] += row.shares
        return found

    def said(self) -> Counter[str]:
        """Shares by what the upstream said, when all is folded: by hours and by days the same."""
        with self.store.read() as connection:
            by_hour, by_day = (
                Counter(
                    {
                        verdict: int(shares)
                        for verdict, shares in connection.execute(
                            select(table.c.verdict, func.sum(table.c.shares)).group_by(table.c.verdict)
                        )
                    }
                )
                for table in (upstream_hours, upstream_days)
            )
            assert audit(connection).wrong is None
        assert by_hour == by_day
        return by_hour


@pytest.fixture
def booked(store: Store) -> ForwardingJournal:
    return ForwardingJournal(store)


def expected(committed: tuple[tuple[Told, ...], ...]) -> tuple[Counter[int], Counter[str]]:
    """Tallies and verdicts of what was committed, when what was left has been resolved at the next start."""
    tallies: Counter[int] = Counter()
    said: Counter[str] = Counter()
    unresolved: dict[str, Told] = {}
    verdicts = {ACCEPTED: Verdict.ACCEPTED, REJECTED: Verdict.UPSTREAM_REJECTED}
    for it in (it for told in committed for it in told):
        if it.how == ENGINE:
            tallies[Verdict.ACCEPTED] += 1
        elif it.how == "not sent":
            tallies[Verdict.UNDELIVERED] += 1
        elif isinstance(it.how, SubmitVerdict):
            del unresolved[it.name]
            said[it.how.value] += 1
            if not it.counted:
                tallies[verdicts.get(it.how, Verdict.UNDELIVERED)] += 1
        else:
            unresolved[it.name] = it
            if it.counted:
                tallies[Verdict.STALE] += 1
    for it in unresolved.values():
        said["unanswered"] += 1
        if not it.counted:
            tallies[Verdict.UNDELIVERED] += 1
    return tallies, said


# Commits


@pytest.mark.sqlite_suffices
async def test_a_commit_with_only_a_note_is_written_and_one_with_nothing_is_not(
    booked: ForwardingJournal,
) -> None:
    booked.worker()
    await booked.journal.commit(b"")  # that it is new is written too
    share = booked.note(booked.share("a"))
    await booked.journal.commit(b"")
    assert booked.rows() == {share.key}
    assert booked.tallied() == {}
    calls = booked.disk.calls
    await booked.journal.commit(b"")
    assert booked.disk.calls == calls


async def test_a_share_that_is_resolved_is_a_tally_and_no_row(booked: ForwardingJournal) -> None:
    share, quick = booked.note(booked.share("a")), booked.note(booked.share("b"))
    booked.resolve(quick)
    await booked.journal.commit(tally(booked.worker(), booked.own))
    assert booked.rows() == {share.key}
    assert booked.tallied() == {Verdict.ACCEPTED: 2}
    booked.resolve(share, REJECTED, RejectReason.LOW_DIFFICULTY)
    await booked.journal.commit(b"")
    assert booked.rows() == set()
    assert booked.tallied() == {Verdict.ACCEPTED: 2, Verdict.UPSTREAM_REJECTED: 1}


@pytest.mark.sqlite_suffices
async def test_live_figures_get_what_was_resolved_with_what_was_judged(booked: ForwardingJournal) -> None:
    booked.resolve(booked.note(booked.share("a")))
    await booked.journal.commit(tally(booked.worker(), booked.own))
    (committed,) = booked.live
    assert sorted(merge([committed])["rate"].tolist()) == [booked.own, booked.proxied]


@pytest.mark.sqlite_suffices
async def test_a_worker_seen_for_the_first_time_is_committed_with_its_first_forwarded_share(
    booked: ForwardingJournal,
) -> None:
    share = booked.note(booked.share("a", worker=booked.worker("acme.c09.u9")))
    await booked.journal.commit(b"")
    booked.start()
    assert booked.registry.workers[share.worker].unit == "u9"


# Kills


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("number", range(len(COMMITS)))
async def test_a_kill_anywhere_in_a_commit_loses_and_doubles_no_share(
    booked: ForwardingJournal, number: int
) -> None:
    """Of the commit itself nothing is there, and nothing of it was acknowledged."""
    rng = random.Random(number)
    for written in (0, 1, 47, 48, 100):
        await booked.folding.fold()
        before = booked.tallied(), booked.said()
        for told in COMMITS[:number]:
            await booked.journal.commit(booked.tell(told))
        tallies = booked.tell(COMMITS[number])
        booked.disk.writes = [written, disk_full()] if written else [disk_full()]
        with pytest.raises(JournalFailed):
            await booked.journal.commit(tallies)
        booked.disk.power_cut(rng)
        booked.start()
        await booked.folding.fold()
        now_tallies, now_said = expected(COMMITS[:number])
        assert booked.rows() == set()
        assert booked.tallied() - before[0] == now_tallies
        assert booked.said() - before[1] == now_said


@pytest.mark.sqlite_suffices
async def test_a_kill_after_the_last_commit_leaves_what_was_committed(booked: ForwardingJournal) -> None:
    for told in COMMITS:
        await booked.journal.commit(booked.tell(told))
    assert booked.rows() == {b"f"}
    with capture_logs() as logs:
        booked.start()
    assert next(it for it in logs if it["event"] == "forwarded_shares_unanswered")["shares"] == 1
    await booked.folding.fold()
    tallies, said = expected(COMMITS)
    assert (booked.tallied(), booked.said()) == (tallies, said)
    with capture_logs() as logs:  # nothing is left to resolve a second time
        booked.start()
    assert "forwarded_shares_unanswered" not in [it["event"] for it in logs]
    await booked.folding.fold()
    assert (booked.tallied(), booked.said()) == (tallies, said)


@pytest.mark.sqlite_suffices
async def test_a_kill_anywhere_in_a_start_settles_what_was_left_once(booked: ForwardingJournal) -> None:
    for told in COMMITS:
        await booked.journal.commit(booked.tell(told))
    for statement in range(STATEMENTS_TRIED):
        with pytest.raises(Crash), crash_at(statement):
            booked.start()
        assert booked.rows() == {b"f"}, statement
    booked.start()
    await booked.folding.fold()
    assert (booked.tallied(), booked.said()) == expected(COMMITS)


@pytest.mark.sqlite_suffices
async def test_a_kill_anywhere_in_a_fold_loses_and_doubles_no_verdict(booked: ForwardingJournal) -> None:
    for told in COMMITS:
        await booked.journal.commit(booked.tell(told))
    booked.start()
    for step in range(STEPS_TRIED):
        before = booked.tallied(), booked.said()
        with suppress(Crash), crash_before(step):
            await booked.folding.fold()
        booked.start()
        assert (booked.tallied(), booked.said()) in (before, expected(COMMITS))
    await booked.folding.fold()
    assert (booked.tallied(), booked.said()) == expected(COMMITS)


# What the fold makes of it


async def test_the_risk_of_upstreams_is_the_tenants_unless_its_terms_say_the_pools(
    booked: ForwardingJournal,
) -> None:
    ours, safe = booked.worker("acme.c01.u1"), booked.worker("borealis.c01.u1")
    for worker in (ours, safe):
        for name, verdict in (("x", ACCEPTED), ("y", REJECTED), ("z", UNANSWERED)):
            booked.resolve(booked.note(booked.share(f"{name}{worker}", worker=worker)), verdict)
        # Good shares that no upstream was there for, as the engine tallies them; and one that was not good.
        await booked.journal.commit(
            tally(worker, booked.proxied, verdict=Verdict.UNDELIVERED)
            + tally(worker, booked.proxied, verdict=Verdict.LOW_DIFFICULTY)
        )
    await booked.folding.fold()
    with booked.store.read() as connection:
        rows = connection.execute(select(tally_minutes)).all()
        counted = {(row.worker_id, row.verdict): row.shares for row in rows}
        columns = (rate_hours.c.rate_id, rate_hours.c.shares, rate_hours.c.undelivered)
        priced = connection.execute(select(*columns)).all()
        rate = {worker: rate_epochs.rate_of(connection, booked.proxied, worker) for worker in (1, 2)}
    assert counted == {
        (ours, Verdict.ACCEPTED): 1,
        (ours, Verdict.UPSTREAM_REJECTED): 1,
        (ours, Verdict.UNDELIVERED): 2,
        (ours, Verdict.LOW_DIFFICULTY): 1,
        (safe, Verdict.ACCEPTED): 4,
        (safe, Verdict.LOW_DIFFICULTY): 1,
    }
    assert {row.rate_id: row.shares for row in priced} == {rate[1].rate_id: 1, rate[2].rate_id: 4}
    # Credited at the pool's risk, and still not delivered: no buyer is to pay for them.
    assert {row.rate_id: row.undelivered for row in priced} == {rate[1].rate_id: 0, rate[2].rate_id: 3}
    # What the upstream said is what it said, whoever bears it.
    assert booked.said() == {"accepted": 2, "rejected": 2, "unanswered": 2}


async def test_verdicts_are_kept_by_hour_and_order_and_by_day_and_machine(booked: ForwardingJournal) -> None:
    one, two = booked.worker("acme.c01.u1"), booked.worker("acme.c01.u2")

    def say(name: str, worker: int, epoch: int, verdict: SubmitVerdict, reason: Any = None) -> None:
        booked.resolve(booked.note(booked.share(name, worker=worker, epoch=epoch)), verdict, reason)

    say("1", one, booked.sold, ACCEPTED)
    say("2", two, booked.sold, ACCEPTED)
    say("3", one, booked.sold, REJECTED, RejectReason.STALE)
    say("4", one, booked.proxied, UNANSWERED)
    await booked.journal.commit(b"")
    booked.clock.now_s += 3600
    say("5", one, booked.sold, ACCEPTED)
    await booked.journal.commit(b"")
    await booked.folding.fold()
    say("6", one, booked.sold, ACCEPTED)  # the same hour, another fold
    await booked.journal.commit(b"")
    await booked.folding.fold()
    target = f"{TARGET:064x}"
    with booked.store.read() as connection:
        hours = {tuple(row) for row in connection.execute(select(upstream_hours))}
        days = {tuple(row) for row in connection.execute(select(upstream_days))}
        judged = judged_of_worker(connection, one, HOUR // 24)
        legs = said_of_worker(connection, one, HOUR // 24), said_of_tenant(connection, 1, HOUR // 24)
        tomorrow = judged_of_worker(connection, one, HOUR // 24 + 1)
    assert hours == {
        (HOUR, 1, booked.north, booked.blue, target, "accepted", "", 2),
        (HOUR, 1, booked.north, booked.blue, target, "rejected", "stale", 1),
        (HOUR, 1, booked.north, 0, target, "unanswered", "", 1),
        (HOUR + 1, 1, booked.north, booked.blue, target, "accepted", "", 2),
    }
    day = HOUR // 24
    assert days == {
        (day, one, booked.north, "accepted", 3),
        (day, one, booked.north, "rejected", 1),
        (day, one, booked.north, "unanswered", 1),
        (day, two, booked.north, "accepted", 1),
    }
    # An account of shares has both legs: what we made of them, and what was said of the same shares.
    assert judged == {Verdict.ACCEPTED: 3, Verdict.UPSTREAM_REJECTED: 1, Verdict.UNDELIVERED: 1}
    assert [[(it.verdict, it.reason, it.shares) for it in leg] for leg in legs] == [
        [("accepted", "", 3), ("rejected", "", 1), ("unanswered", "", 1)],
        [("accepted", "", 4), ("rejected", "stale", 1), ("unanswered", "", 1)],
    ]
    assert tomorrow == {}


@pytest.mark.sqlite_suffices
async def test_a_machine_whose_shares_no_upstream_takes_is_seen_mining(booked: ForwardingJournal) -> None:
    worker = booked.worker()
    await booked.journal.commit(tally(worker, booked.proxied, 17, Verdict.UNDELIVERED, 30))
    await booked.folding.fold()
    booked.start()
    assert booked.registry.admit("acme.c01.u1", "", ConnectionFrom()) == Admitted(worker, 17, party=1)


@pytest.mark.sqlite_suffices
async def test_a_verdict_on_work_of_our_own_is_told_and_is_in_nobodys_way(booked: ForwardingJournal) -> None:
    booked.resolve(booked.note(booked.share("a", epoch=booked.own)))
    await booked.journal.commit(b"")
    with capture_logs() as logs:
        await booked.folding.fold()
    assert [it["event"] for it in logs] == ["upstream_verdict_of_own_work"]
    assert booked.tallied() == {Verdict.ACCEPTED: 1}
    assert booked.said() == {}


@pytest.mark.sqlite_suffices
async def test_a_share_on_its_way_has_its_worker_even_where_nothing_else_is_committed(
    booked: ForwardingJournal,
) -> None:
    """A worker whose name is in a batch that is not folded yet, and a commit without a batch."""
    worker = booked.worker()
    await booked.journal.commit(tally(worker, booked.own))
    booked.note(booked.share("alone", worker=worker))
    await booked.journal.commit(b"")
    assert booked.rows() == {b"alone"}
    assert not booked.journal.failed
