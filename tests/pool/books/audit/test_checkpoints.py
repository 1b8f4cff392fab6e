"""An audit that begins at a checkpoint: what it spares, what it finds, and what a full one alone finds."""

# ruff: noqa: S608 - these statements are a forger's

from contextlib import suppress

import pytest
from sqlalchemy import Connection, insert, text

from payouts.accrual import settle
from payouts.audit.checkpoint import Checkpoint, checkpoint
from payouts.audit.verify import Head
from payouts.book_time import book_time
from payouts.rates import Scheme
from payouts.schemas.money import containers, workers
from payouts.tallies import Tally, record, roll_up_minutes
from pool.books.audit.checkpoints import DAYS_MAX, newest_checkpoint, note_checkpoint
from pool.books.audit.verify import BookAudit, verify
from pool.books.book import bind
from pool.books.journal.rate_epochs import WorkPrice, rate_of
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant
from tests.fixtures.databases import Crash, disarm
from tests.stages.prices import open_epoch

DAY = 20_000
DAY_S = 86_400
PRICE = WorkPrice(nbits=0x207FFFFF, subsidy_sat=50 * 10**8)
TERMS = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)


class WorkedBook:
    """A tenant's machine works an hour a day."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batch = 0
        bind(store, "regtest")
        with store.write() as connection:
            add_tenant(connection, "acme", TERMS, by="ann", now_s=DAY * DAY_S)
            connection.execute(insert(containers).values(id=1, tenant_id=1, name="c01", created_at_s=0))
            machine = {"id": 1, "tenant_id": 1, "container_id": 1, "unit": "u1"}
            connection.execute(insert(workers).values(machine | {"first_seen_at_s": 0, "last_seen_at_s": 0}))
            self.rate = rate_of(connection, open_epoch(connection, PRICE, 1, DAY * DAY_S), 1).rate_id

    def work(self, day: int) -> None:
        self.batch += 1
        minute, rate = day * 1440 + 3, self.rate
        tally = Tally(worker_id=1, rate_id=rate, minute=minute, difficulty_log2=-32, verdict=0, shares=5)
        with self.store.write() as connection:
            now_s = book_time(connection, day * DAY_S + 7_200)
            record(connection, "pool", self.batch, [tally])
            while settle(connection, now_s):
                pass
            while roll_up_minutes(connection, now_s):
                pass

    def checkpoint(self) -> Checkpoint:
        with self.store.write() as connection:
            it = checkpoint(connection)
            note_checkpoint(connection, "ann", it, DAY * DAY_S)
        return it


@pytest.fixture
def book(store: Store) -> WorkedBook:
    """Five days, a checkpoint, and two days more."""
    made = WorkedBook(store)
    for day in range(DAY, DAY + 5):
        made.work(day)
    made.checkpoint()
    for day in range(DAY + 5, DAY + 7):
        made.work(day)
    return made


def audited(connection: Connection, *, full: bool = False, walked: list[int] | None = None) -> BookAudit:
    noted = newest_checkpoint(connection)
    assert noted is not None
    told = (lambda _: None) if walked is None else walked.append
    return verify(connection, told=told, since=None if full else noted.checkpoint)


def forged(book: WorkedBook, statement: str) -> tuple[str | None, str | None]:
    """The tables that an audit from the checkpoint on, and a full one, find wrong; nothing of it is kept."""
    found: list[BookAudit] = []
    with suppress(Crash), book.store.write() as connection:
        disarm(connection)
        connection.execute(text(statement))
        found += audited(connection), audited(connection, full=True)
        raise Crash
    since, full = (None if it.wrong is None else it.wrong.table for it in found)
    return since, full


def test_it_walks_what_came_since_and_says_the_same(book: WorkedBook) -> None:
    walked: tuple[list[int], list[int]] = ([], [])
    with book.store.read() as connection:
        since = audited(connection, walked=walked[0])
        full = audited(connection, full=True, walked=walked[1])
    assert since.wrong is None
    assert since == full
    assert since.head.seq == 7
    assert walked[0][-1] * 3 < walked[1][-1]


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE ledger_transactions SET memo = 'x' WHERE seq = 6", "ledger_transactions"),
        ("UPDATE settlements SET credit_psat = 1 WHERE seq = 6", "settlements"),
        (f"UPDATE tally_hours SET shares = 6 WHERE hour >= {(DAY + 5) * 24}", "rate_hours"),
        (f"UPDATE worker_days SET shares = 6 WHERE day = {DAY + 5}", "worker_days"),
        (f"UPDATE container_hours SET shares = 6 WHERE hour >= {(DAY + 5) * 24}", "container_hours"),
        # What is before it and moves money is not what it had, in hash or sum.
        ("UPDATE ledger_transfers SET amount_sat = 1 WHERE transaction_seq = 2", "ledger_transfers"),
        ("UPDATE settlements SET carry_out_psat = 1 WHERE seq = 5", "ledger_transfers"),
        ("UPDATE ledger_transactions SET hash = 'ab' WHERE seq = 5", "ledger_transactions"),
    ],
)
@pytest.mark.sqlite_suffices
def test_it_finds_what_was_forged_since_and_what_moves_money_before(
    book: WorkedBook, statement: str, table: str
) -> None:
    assert forged(book, statement)[0] == table


@pytest.mark.parametrize(
    ("statement", "table"),
    [
        ("UPDATE ledger_transactions SET memo = 'x' WHERE seq = 2", "ledger_transactions"),
        ("UPDATE settlements SET settled_at_s = settled_at_s, credit_psat = 1 WHERE seq = 2", "settlements"),
        (f"UPDATE worker_days SET shares = 6 WHERE day = {DAY}", "worker_days"),
        (f"UPDATE tally_hours SET shares = 6 WHERE hour = {DAY * 24}", "rate_hours"),
    ],
)
@pytest.mark.sqlite_suffices
def test_what_moves_no_money_before_it_is_found_by_a_full_audit_alone(
    book: WorkedBook, statement: str, table: str
) -> None:
    assert forged(book, statement) == (None, table)


@pytest.mark.sqlite_suffices
def test_a_checkpoint_that_was_altered_breaks_the_chain_of_changes(book: WorkedBook) -> None:
    assert forged(book, "UPDATE changes SET changed_by = 'eve'") == ("changes", "changes")


@pytest.mark.sqlite_suffices
def test_heads_noted_before_it_are_still_looked_for(book: WorkedBook) -> None:
    with book.store.read() as connection:
        noted = newest_checkpoint(connection)
        assert noted is not None
        wrong = verify(connection, [Head(2, "ab" * 32)], since=noted.checkpoint).wrong
        heads = connection.execute(text("SELECT seq, hash FROM ledger_transactions WHERE seq IN (2, 6)"))
        right = verify(connection, [Head(*row) for row in heads], since=noted.checkpoint).wrong
    assert wrong is not None
    assert (wrong.row, right) == ("2", None)


@pytest.mark.sqlite_suffices
def test_a_checkpoint_that_is_too_old_or_cannot_be_read_is_none(book: WorkedBook) -> None:
    with suppress(Crash), book.store.write() as connection:
        disarm(connection)
        connection.execute(text("UPDATE changes SET became = '{}'"))
        assert newest_checkpoint(connection) is None
        raise Crash
    with book.store.write() as connection:
        book_time(connection, (DAY + 5 + DAYS_MAX) * DAY_S)
        assert newest_checkpoint(connection) is None


@pytest.mark.sqlite_suffices
def test_one_of_a_book_that_rested_for_longer_than_that_is_one(book: WorkedBook) -> None:
    """The last work is of then; who verifies it now need not do so again tomorrow."""
    with book.store.write() as connection:
        made = checkpoint(connection)
        note_checkpoint(connection, "ann", made, (DAY + 10 + 2 * DAYS_MAX) * DAY_S)
        noted = newest_checkpoint(connection)
        assert noted is not None
        assert noted.checkpoint == made
        assert audited(connection).wrong is None
