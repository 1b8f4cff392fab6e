"""Work in a statement: every share once, in its day, whatever table it has grown old in."""

from datetime import timedelta
from fractions import Fraction

import pytest
from sqlalchemy import insert, update

from payouts.schemas.money import workers
from payouts.statements.period import hashrate_hps, work_text
from payouts.statements.work import VERDICTS, natural, verdict_name
from payouts.tallies import Tally, roll_up_hours, roll_up_minutes
from pool.books.store import Store
from stratum.tallies import Verdict
from tests.histories.statements import ACME, DAY, DAY_S, HOUR, SHARE, History

NEXT, AFTER = DAY + timedelta(1), DAY + timedelta(2)
HOUR_S, DAY_LENGTH_S = 3600, 86_400
BLOCK = "00" * 31 + "aa"


@pytest.fixture
def history(store: Store) -> History:
    return History(store)


@pytest.mark.sqlite_suffices
def test_shares_at_midnight_belong_to_the_day_that_begins(history: History) -> None:
    rate = history.rate()
    for minute, shares in ((-1, 1), (0, 2), (1439, 4), (1440, 8)):
        history.mine(rate, minute, shares)
    found = history.state(DAY, NEXT)
    assert found.work.total.accepted == 6
    assert [moment.accepted for moment in found.timeline if moment.accepted] == [2, 4]


@pytest.mark.sqlite_suffices
def test_the_hashrate_is_the_work_over_the_whole_period(history: History) -> None:
    rate = history.rate()
    history.mine(rate, 100, 1000)
    history.mine(rate, 100, 500, worker=ACME * 100 + 1)
    found = history.state(DAY, NEXT)
    # 2^48 / 65535 hashes for a difficulty of 1
    expected = 1500 * (1 << 18) * (1 << 48) // 65535 // DAY_LENGTH_S
    assert found.work.total.hashrate_hps == expected
    assert [(row.unit, row.accepted) for row in found.work.workers] == [("u0", 1000), ("u1", 500)]
    assert found.timeline[1].hashrate_hps == hashrate_hps(1500 * SHARE, HOUR_S)


@pytest.mark.sqlite_suffices
def test_rejected_shares_are_told_by_reason_and_are_no_uptime(history: History) -> None:
    rate = history.rate()
    for verdict in Verdict:
        history.mine(0 if verdict is Verdict.JOB_UNKNOWN else rate, 10 + verdict, 2, verdict=verdict)
    (worker,) = history.state(DAY, NEXT).work.workers
    assert worker.accepted == 2
    assert worker.rejected == {VERDICTS[verdict]: 2 for verdict in Verdict if verdict}
    assert worker.uptime_minutes == 1


def test_the_names_of_verdicts_are_the_engines() -> None:
    told = [name.replace(" ", "_").upper() for name in VERDICTS]
    assert told == [verdict.name for verdict in Verdict]
    assert verdict_name(77) == "verdict 77"


@pytest.mark.sqlite_suffices
def test_a_minute_with_two_prices_and_difficulties_is_one_minute_of_uptime(history: History) -> None:
    first = history.rate()
    second = history.rate(fee_bps=200)
    for rate, log2 in ((first, 17), (first, 18), (second, 18)):
        history.mine(rate, 600, log2=log2)
    history.mine(second, 603)
    found = history.state(DAY, NEXT)
    assert found.work.workers[0].uptime_minutes == 2
    assert found.work.workers[0].uptime_bps == 2 * 10_000 // 1440
    with history.store.write() as connection:
        roll_up_minutes(connection, DAY_S + 60 * DAY_LENGTH_S)
    history.mine(first, 600)  # it comes late, and is in another table than its minute
    again = history.state(DAY, NEXT)
    assert again.work.workers[0].uptime_minutes == 2


@pytest.mark.sqlite_suffices
def test_the_uptime_of_a_container_is_of_all_its_machines_that_ran(history: History) -> None:
    rate = history.rate()
    history.tally(
        [
            Tally(
                worker_id=ACME * 100,
                rate_id=rate,
                minute=HOUR * 60 + minute,
                difficulty_log2=18,
                verdict=0,
                shares=1,
            )
            for minute in range(720)
        ]
    )
    history.mine(rate, 0, worker=ACME * 100 + 1, verdict=Verdict.STALE)
    (box,) = history.state(DAY, NEXT).work.containers
    assert (box.machines, box.uptime_minutes, box.uptime_bps) == (2, 720, 2500)


@pytest.mark.sqlite_suffices
def test_machines_that_sent_nothing_are_named(history: History) -> None:
    rate = history.rate()
    history.mine(rate, 5)
    with history.store.write() as connection:
        fields = {"tenant_id": ACME, "container_id": ACME, "last_seen_at_s": DAY_S}
        for number, unit, first_seen_at_s in ((7, "u10", DAY_S), (8, "later", DAY_S + DAY_LENGTH_S)):
            connection.execute(
                insert(workers).values(id=number, unit=unit, first_seen_at_s=first_seen_at_s, **fields)
            )
    (box,) = history.state(DAY, NEXT).work.containers
    assert box.silent == ("u1", "u10")


def test_a_machine_that_was_written_down_after_midnight_is_in_the_day_of_its_first_share(
    history: History,
) -> None:
    rate = history.rate()
    with history.store.write() as connection:
        connection.execute(
            update(workers).where(workers.c.id == ACME * 100).values(first_seen_at_s=DAY_S + DAY_LENGTH_S + 1)
        )
    history.mine(rate, 1439)
    found = history.state(DAY, NEXT)
    assert [row.unit for row in found.work.workers] == ["u0"]


@pytest.mark.sqlite_suffices
def test_growing_old_changes_nothing(history: History) -> None:
    """Minutes become hours, hours become days; what was stated stays the same, byte for byte."""
    rate = history.rate()
    tallies = [
        Tally(
            worker_id=worker, rate_id=rate, minute=HOUR * 60 + minute, difficulty_log2=18, verdict=0, shares=9
        )
        for worker in (ACME * 100, ACME * 100 + 1)
        for minute in range(0, 2880, 3)
    ]
    stale = [
        Tally(
            worker_id=ACME * 100, rate_id=rate, minute=HOUR * 60 + 5, difficulty_log2=18, verdict=5, shares=2
        )
    ]
    history.tally(tallies + stale)
    history.settle(DAY_S + 48 * HOUR_S + 90)
    young = [history.state(*days) for days in ((DAY, AFTER), (DAY, NEXT), (NEXT, AFTER))]
    assert young[0].work.workers[0].uptime_minutes == 960
    with history.store.write() as connection:
        assert roll_up_minutes(connection, DAY_S + 3 * DAY_LENGTH_S) > 0  # the first day
    assert [history.state(*days) for days in ((DAY, AFTER), (DAY, NEXT), (NEXT, AFTER))] == young
    with history.store.write() as connection:
        assert roll_up_minutes(connection, DAY_S + 60 * DAY_LENGTH_S) > 0  # all
        roll_up_hours(connection, DAY_S + 401 * DAY_LENGTH_S)  # the first day
    assert [history.state(*days) for days in ((DAY, AFTER), (DAY, NEXT), (NEXT, AFTER))] == young
    with history.store.write() as connection:
        roll_up_hours(connection, DAY_S + 900 * DAY_LENGTH_S)  # all
    old = [history.state(*days) for days in ((DAY, AFTER), (DAY, NEXT), (NEXT, AFTER))]
    assert [it.content_hash for it in old] == [it.content_hash for it in young]


def test_units_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["r10", "r2", "a", "r2s10", "r2s9", "10", "9", ""], key=natural) == [
        "",
        "9",
        "10",
        "a",
        "r2",
        "r2s9",
        "r2s10",
        "r10",
    ]


def test_a_sum_of_difficulties_is_told_exactly() -> None:
    assert work_text(Fraction(0)) == "0"
    assert work_text(Fraction(12345)) == "12345"
    assert work_text(Fraction(5, 4)) == "1.25"
    assert work_text(Fraction(1, 1 << 32)) == "0.00000000023283064365386962890625"
    with pytest.raises(ValueError, match="not a sum of difficulties"):
        work_text(Fraction(1, 3))
