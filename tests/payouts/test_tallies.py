"""The journal's rows: recorded once, added up two ways that agree, and moved to coarser spans once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from sqlalchemy import Connection, Table, func, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError

import payouts.audit.sums
import payouts.tallies
from payouts.audit.verify import audit
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import (
    container_hours,
    journal_writers,
    rate_hours,
    tally_days,
    tally_hours,
    tally_minutes,
    worker_days,
)
from payouts.tallies import (
    HOURS_KEPT_D,
    MINUTES_KEPT_H,
    JournalGap,
    Tally,
    record,
    roll_up_hours,
    roll_up_minutes,
)
from pool.books.store import Store
from tests.fixtures.databases import Crash, add_tenant, crash_at, disarm

DAY = 19_800
HOUR = DAY * 24
MINUTE = HOUR * 60
NOW_S = MINUTE * 60
DAY_S = 86_400
ACME, BOREALIS = 1, 2
PRICE = Price(nbits=0x17034219, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=0, scheme=Scheme.PPS)
Key = tuple[int, int, int, int]  # worker, rate, difficulty, verdict


class RecordedTallies:
    """Two tenants with three workers each, on rate 1 and rate 2."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batch = 0
        with store.write() as connection:
            for tenant_id, name in ((ACME, "acme"), (BOREALIS, "borealis")):
                add_tenant(connection, tenant_id, name, workers_each=3)
                record_rate(connection, tenant_id, PRICE, 840_000, None, NOW_S)

    def record(self, *tallies: Tally) -> None:
        self.batch += 1
        with self.store.write() as connection:
            assert record(connection, "pool", self.batch, tallies)

    def roll_up(self, now_s: int) -> None:
        while True:
            with self.store.write() as connection:
                if not roll_up_minutes(connection, now_s):
                    break
        worker_id: int | None = 0
        while worker_id is not None:
            with self.store.write() as connection:
                worker_id = roll_up_hours(connection, now_s, worker_id)

    def rows(self, table: Table) -> list[tuple[Any, ...]]:
        with self.store.read() as connection:
            return [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]

    def shares(self) -> Counter[Key]:
        """All shares, whatever span they are in."""
        found: Counter[Key] = Counter()
        with self.store.read() as connection:
            for table in (tally_minutes, tally_hours, tally_days):
                for row in connection.execute(select(table)):
                    found[row.worker_id, row.rate_id, row.difficulty_log2, row.verdict] += row.shares
        return found


@pytest.fixture
def recorded(store: Store) -> Iterator[RecordedTallies]:
    made = RecordedTallies(store)
    yield made
    with store.read() as connection:
        assert audit(connection).wrong is None


def tally(shares: int, worker_id: int = 100, minute: int = MINUTE, log2: int = 16, verdict: int = 0) -> Tally:
    rate_id = worker_id // 100
    return Tally(
        worker_id=worker_id,
        rate_id=rate_id,
        minute=minute,
        difficulty_log2=log2,
        verdict=verdict,
        shares=shares,
    )


# Recording


def test_tallies_of_a_minute_are_added_up(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(4, 101), tally(1, verdict=8))
    recorded.record(tally(5), tally(2, log2=17), tally(9, minute=MINUTE + 1), tally(1, 200))
    assert recorded.rows(tally_minutes) == [
        (MINUTE, 100, 1, 16, 0, 8),
        (MINUTE, 100, 1, 16, 8, 1),
        (MINUTE, 100, 1, 17, 0, 2),
        (MINUTE, 101, 1, 16, 0, 4),
        (MINUTE, 200, 2, 16, 0, 1),
        (MINUTE + 1, 100, 1, 16, 0, 9),
    ]


@pytest.mark.sqlite_suffices
def test_accepted_shares_are_added_up_by_rate_and_hour_as_well(recorded: RecordedTallies) -> None:
    recorded.record(
        tally(3), tally(4, 101), tally(1, verdict=8), tally(2, log2=17), tally(5, minute=MINUTE + 60)
    )
    recorded.record(tally(1, 200), tally(10, 102))
    assert recorded.rows(rate_hours) == [
        (1, HOUR, 16, 17, 0, 0),
        (1, HOUR, 17, 2, 0, 0),
        (1, HOUR + 1, 16, 5, 0, 0),
        (2, HOUR, 16, 1, 0, 0),
    ]


@pytest.mark.sqlite_suffices
def test_shares_that_no_upstream_took_are_counted_apart_among_those_that_are_credited(
    recorded: RecordedTallies,
) -> None:
    lost = msgspec.structs.replace(tally(7), undelivered=True)
    recorded.record(tally(3), lost)
    recorded.record(lost)
    assert recorded.rows(rate_hours) == [(1, HOUR, 16, 17, 0, 14)]


@pytest.mark.sqlite_suffices
def test_the_same_key_twice_in_a_batch_counts_twice(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(3))
    assert recorded.shares() == {(100, 1, 16, 0): 6}


def test_a_batch_is_recorded_once_however_often_it_is_tried(recorded: RecordedTallies) -> None:
    with recorded.store.write() as connection:
        assert record(connection, "a", 1, [tally(3)])
        assert not record(connection, "a", 1, [tally(3)])
        assert record(connection, "a", 2, [tally(4)])
    with recorded.store.write() as connection:
        assert not record(connection, "a", 1, [tally(3)])
        assert not record(connection, "a", 2, [tally(4)])
        assert record(connection, "b", 1, [tally(5)])  # another start of the pool counts for itself
        assert record(connection, "a", 3, [])
    assert recorded.shares() == {(100, 1, 16, 0): 12}
    assert recorded.rows(journal_writers) == [("a", 3), ("b", 1)]


@pytest.mark.sqlite_suffices
def test_a_missing_batch_is_noticed(recorded: RecordedTallies) -> None:
    with pytest.raises(JournalGap, match="batch 2 of journal writer a came after batch None"):
        record_alone(recorded, 2)
    record_alone(recorded, 1)
    with pytest.raises(JournalGap, match="batch 3 of journal writer a came after batch 1"):
        record_alone(recorded, 3)
    assert recorded.shares() == {(100, 1, 16, 0): 1}


def record_alone(recorded: RecordedTallies, batch: int) -> None:
    with recorded.store.write() as connection:
        record(connection, "a", batch, [tally(1)])


@pytest.mark.sqlite_suffices
def test_a_batch_that_crashes_anywhere_is_there_entirely_or_not_at_all(recorded: RecordedTallies) -> None:
    recorded.record(tally(1))
    for statement in range(9):
        with pytest.raises(Crash), crash_at(statement):
            recorded.record(tally(2), tally(3, 101))
        recorded.batch -= 1
        assert recorded.shares() == {(100, 1, 16, 0): 1}
    recorded.record(tally(2), tally(3, 101))
    assert recorded.shares() == {(100, 1, 16, 0): 3, (101, 1, 16, 0): 3}


def test_what_cannot_be_counted_is_refused_whole(recorded: RecordedTallies) -> None:
    no_rate = Tally(worker_id=100, rate_id=0, minute=MINUTE, difficulty_log2=0, verdict=0, shares=1)
    unknown_rate = Tally(worker_id=100, rate_id=77, minute=MINUTE, difficulty_log2=0, verdict=0, shares=1)
    for bad in (
        tally(0),
        tally(-1),
        tally(1, 999),
        tally(1, log2=64),
        tally(1, log2=-33),
        no_rate,
        unknown_rate,
    ):
        with pytest.raises(IntegrityError):
            recorded.record(tally(5, 101), bad)
        recorded.batch -= 1
    assert recorded.shares() == {}
    assert recorded.rows(rate_hours) == []


@pytest.mark.sqlite_suffices
def test_a_rejected_share_without_a_job_has_no_rate(recorded: RecordedTallies) -> None:
    recorded.record(Tally(worker_id=100, rate_id=0, minute=MINUTE, difficulty_log2=0, verdict=4, shares=2))
    assert recorded.shares() == {(100, 0, 0, 4): 2}


def test_a_count_that_overflows_is_refused(recorded: RecordedTallies) -> None:
    recorded.record(tally(2**63 - 1))
    with pytest.raises(DatabaseError):
        recorded.record(tally(1))
    recorded.batch -= 1
    assert recorded.shares() == {(100, 1, 16, 0): 2**63 - 1}


# Growing old


@pytest.mark.sqlite_suffices
def test_minutes_become_hours_when_their_hour_is_over_for_an_hour(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(4, minute=MINUTE + 59), tally(5, minute=MINUTE + 60), tally(1, verdict=8))
    recorded.roll_up(NOW_S + MINUTES_KEPT_H * 3600 + 3599)
    assert len(recorded.rows(tally_minutes)) == 4
    recorded.roll_up(NOW_S + MINUTES_KEPT_H * 3600 + 3600)
    assert recorded.rows(tally_minutes) == [(MINUTE + 60, 100, 1, 16, 0, 5)]
    first_and_last = 1 << 0 | 1 << 59
    assert recorded.rows(tally_hours) == [
        (100, HOUR, 1, 16, 0, 7, first_and_last),
        (100, HOUR, 1, 16, 8, 1, 1),
    ]


def test_hours_become_days_after_400_days(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(4, minute=MINUTE + 1), tally(5, minute=MINUTE + 60), tally(7, 200))
    recorded.roll_up(NOW_S + HOURS_KEPT_D * DAY_S + DAY_S - 1)
    assert len(recorded.rows(tally_hours)) == 3
    recorded.roll_up(NOW_S + HOURS_KEPT_D * DAY_S + DAY_S)
    assert recorded.rows(tally_hours) == []
    assert recorded.rows(tally_days) == [(100, DAY, 1, 16, 0, 12, 3), (200, DAY, 2, 16, 0, 7, 1)]


@pytest.mark.sqlite_suffices
def test_shares_that_come_late_are_moved_late(recorded: RecordedTallies) -> None:
    now_s = NOW_S + 3 * DAY_S
    recorded.record(tally(3), tally(1, minute=MINUTE + 5))
    recorded.roll_up(now_s)
    recorded.record(tally(4), tally(2, minute=MINUTE + 7))
    assert recorded.shares() == {(100, 1, 16, 0): 10}
    recorded.roll_up(now_s)
    assert recorded.rows(tally_hours) == [(100, HOUR, 1, 16, 0, 10, 1 << 0 | 1 << 5 | 1 << 7)]


@pytest.mark.sqlite_suffices
def test_a_clock_that_steps_moves_early_or_late_but_once(recorded: RecordedTallies) -> None:
    for day in range(4):
        recorded.record(tally(10**day, minute=MINUTE + day * 1440))
    for now_s in (NOW_S + 500 * DAY_S, NOW_S - DAY_S, NOW_S + 3 * DAY_S, NOW_S, NOW_S + 900 * DAY_S):
        recorded.roll_up(now_s)
        assert recorded.shares() == {(100, 1, 16, 0): 1111}
    recorded.record(tally(5))
    recorded.roll_up(NOW_S + 900 * DAY_S)
    assert [row[5] for row in recorded.rows(tally_days)] == [6, 10, 100, 1000]


def test_rows_are_moved_in_bounded_steps(recorded: RecordedTallies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payouts.tallies, "ROWS_MOVED_MAX", 4)
    monkeypatch.setattr(payouts.tallies, "WORKERS_MOVED_MAX", 2)
    recorded.record(
        *(
            tally(1, worker_id, minute=MINUTE + 60 * i)
            for worker_id in (100, 101, 102, 200, 201)
            for i in range(7)
        )
    )
    with recorded.store.write() as connection:
        assert roll_up_minutes(connection, NOW_S + 3 * DAY_S) == 4
        assert left(connection, tally_minutes) == 31
    recorded.roll_up(NOW_S + 3 * DAY_S)
    with recorded.store.write() as connection:
        assert roll_up_hours(connection, NOW_S + 900 * DAY_S) == 100  # the same workers again
        assert left(connection, tally_hours) == 32  # the last of the four may not be the whole of its hour
    recorded.roll_up(NOW_S + 900 * DAY_S)
    assert [row[-2:] for row in recorded.rows(tally_days)] == [(7, 7)] * 5


@pytest.mark.sqlite_suffices
def test_a_minute_of_two_difficulties_is_one_minute_of_uptime(recorded: RecordedTallies) -> None:
    recorded.record(tally(1), tally(1, log2=17), tally(1, minute=MINUTE + 1, log2=17))
    recorded.roll_up(NOW_S + 3 * DAY_S)
    recorded.roll_up(NOW_S + 900 * DAY_S)
    assert sum(row[-1] for row in recorded.rows(tally_days)) == 2
    assert recorded.shares() == {(100, 1, 16, 0): 1, (100, 1, 17, 0): 2}


def left(connection: Connection, table: Table) -> int | None:
    return connection.scalar(select(func.count()).select_from(table))


def test_sums_of_machines_by_day_and_of_containers_by_hour_are_kept(recorded: RecordedTallies) -> None:
    """Whatever the price; uptime is minutes, each once, also where shares of a minute come late."""
    now_s = NOW_S + 3 * DAY_S
    recorded.record(tally(3), tally(4, minute=MINUTE + 1, log2=17), tally(1, 101, minute=MINUTE + 61))
    recorded.record(tally(7, 101, verdict=8))
    recorded.roll_up(now_s)
    recorded.record(tally(2, log2=17), tally(5, minute=MINUTE + 2), tally(9, minute=MINUTE + 1440))
    recorded.roll_up(now_s)
    assert recorded.rows(worker_days) == [
        (100, DAY, 16, 0, 8, 2),
        (100, DAY, 17, 0, 6, 1),
        (100, DAY + 1, 16, 0, 9, 1),
        (101, DAY, 16, 0, 1, 1),
        (101, DAY, 16, 8, 7, 0),
    ]
    assert recorded.rows(container_hours) == [
        (1, HOUR, 16, 0, 8),
        (1, HOUR, 16, 8, 7),
        (1, HOUR, 17, 0, 6),
        (1, HOUR + 1, 16, 0, 1),
        (1, HOUR + 24, 16, 0, 9),
    ]
    days = recorded.rows(worker_days)
    recorded.roll_up(NOW_S + 401 * DAY_S)  # the first day's hours are gone
    assert recorded.rows(container_hours) == [(1, HOUR + 24, 16, 0, 9)]
    assert recorded.rows(worker_days) == days


@pytest.mark.sqlite_suffices
def test_sums_that_are_not_what_they_sum_are_found(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(4, 101, minute=MINUTE + 61))
    recorded.roll_up(NOW_S + 3 * DAY_S)
    for statement, found in (
        ("UPDATE worker_days SET shares = 4 WHERE worker_id = 100", f"worker_days 100, {DAY}, 16, 0"),
        ("UPDATE worker_days SET minutes = 9 WHERE worker_id = 101", f"worker_days 101, {DAY}"),
        ("UPDATE container_hours SET shares = 2", f"container_hours {HOUR}, 16, 0"),
        ("DELETE FROM container_hours", f"container_hours {HOUR}, 16, 0"),
    ):
        assert forged(recorded.store, statement) == found


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("at_once", [1, 2, 3, 10_000])
def test_each_minute_of_uptime_is_compared_once_however_many_rows_are_read_at_a_time(
    recorded: RecordedTallies, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(payouts.audit.sums, "ROWS_AT_ONCE", at_once)
    recorded.record(tally(3), tally(1, log2=17), tally(1, minute=MINUTE + 1, log2=17), tally(2, 101))
    recorded.record(tally(1, minute=MINUTE + 61), tally(1, minute=MINUTE + 1441), tally(1, 200))
    recorded.roll_up(NOW_S + 4 * DAY_S)
    with recorded.store.read() as connection:
        assert audit(connection).wrong is None
    another = "UPDATE tally_hours SET minutes = minutes | 1099511627776 WHERE minutes > 0 AND"
    for statement, found in (
        (f"{another} worker_id = 100 AND difficulty_log2 = 16", f"worker_days 100, {DAY}"),
        (f"{another} worker_id = 101", f"worker_days 101, {DAY}"),
        ("UPDATE worker_days SET minutes = minutes + 1 WHERE worker_id = 200", f"worker_days 200, {DAY}"),
    ):
        assert forged(recorded.store, statement) == found


def forged(store: Store, statement: str) -> str:
    """The first wrong row after it; nothing of it is kept."""
    found = []
    with suppress(Crash), store.write() as connection:
        disarm(connection)
        connection.execute(text(statement))
        found.append(audit(connection).wrong)
        raise Crash
    assert found[0] is not None
    return f"{found[0].table} {found[0].row}"


@pytest.mark.sqlite_suffices
def test_a_roll_up_that_crashes_anywhere_loses_and_doubles_nothing(recorded: RecordedTallies) -> None:
    recorded.record(tally(3), tally(4, 101), tally(5, minute=MINUTE + 60), tally(1, 200, verdict=8))
    before = recorded.shares()
    for now_s in (NOW_S + 3 * DAY_S, NOW_S + 900 * DAY_S):
        for statement in range(12):
            with pytest.raises(Crash), crash_at(statement):
                recorded.roll_up(now_s)
            assert recorded.shares() == before
        recorded.roll_up(now_s)
        assert recorded.shares() == before
    assert len(recorded.rows(tally_days)) == 3
