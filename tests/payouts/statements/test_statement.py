"""A statement adds up, belongs to its days, and never changes once they are over."""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from fractions import Fraction

import pytest
from sqlalchemy import update

from payouts.batches.steps import confirm, finish, reorganise
from payouts.ledger import (
    Kind,
    PoolAccount,
    Transaction,
    Transfer,
    balance_sat,
    in_payout,
    payable,
    post,
    reverse,
)
from payouts.rates import PSAT_PER_SAT, Scheme, floor_to_psat, subsidy_sat
from payouts.schemas.money import containers, tenants, workers
from payouts.statements.money import StatementWrong
from payouts.statements.period import BadPeriod, Period
from payouts.statements.statement import Statement, UnknownTenant
from payouts.tallies import Tally
from pool.books.store import Store
from stratum.tallies import Verdict
from tests.fixtures.databases import Databases, PostgresDatabases, SqliteDatabases, copy_of, fresh_store
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S, HOUR, P2TR, P2WPKH, SHARE, History, price

NEXT, AFTER = DAY + timedelta(1), DAY + timedelta(2)
HOUR_S, DAY_LENGTH_S = 3600, 86_400
BLOCK = "00" * 31 + "aa"


@pytest.fixture
def history(store: Store) -> History:
    return History(store)


def lived_through(store: Store) -> History:
    """Two days of everything that can be booked."""
    history = History(store)
    first, other = history.rate(), history.rate(tenant_id=BOREALIS)
    work(history, range(33), first, other)
    settle_at(history, 1, 20)
    history.adjust(5000, DAY_S + 20 * HOUR_S + 100)
    batch = history.draft(300_000, DAY_S + 22 * HOUR_S)
    history.broadcast(batch, 300_000, DAY_S + 22 * HOUR_S + 1000)
    settle_at(history, 23)
    with history.store.write() as connection:
        confirm(connection, batch, 1, BLOCK, 1_000_100, DAY_S + 30 * HOUR_S)
        finish(connection, batch, BLOCK, DAY_S + 30 * HOUR_S + 3000)
    second = history.rate(DAY_S + 32 * HOUR_S, height=1_000_110, fee_bps=200)
    history.set_terms(DAY_S + 32 * HOUR_S, fee_bps=200)
    history.set_address(P2TR, DAY_S + 32 * HOUR_S, hold_s=72 * HOUR_S)
    work(history, range(33, 48), second, other)
    settle_at(history, 40)
    wrong = history.adjust(-700, DAY_S + 40 * HOUR_S + 100, "typing mistake")
    with history.store.write() as connection:
        reverse(connection, wrong.seq, "was a typing mistake", DAY_S + 41 * HOUR_S)
    settle_at(history, 47)
    return history


@pytest.fixture
def lived(databases: Databases) -> Iterator[History]:
    with copy_of(databases, "two_days", lived_through) as history:
        yield history


def work(history: History, hours: range, acme: int, borealis: int) -> None:
    sent = [
        (worker, rate, (HOUR + hour) * 60 + minute, verdict, shares)
        for hour in hours
        for worker, rate, minute, verdict, shares in (
            (ACME * 100, acme, 7, Verdict.ACCEPTED, 40_000 + hour),
            (ACME * 100, acme, 8, Verdict.STALE, 3),
            (BOREALIS * 100, borealis, 9, Verdict.ACCEPTED, 1000),
        )
    ]
    history.tally(
        [
            Tally(
                worker_id=worker,
                rate_id=rate,
                minute=minute,
                difficulty_log2=18,
                verdict=verdict,
                shares=shares,
            )
            for worker, rate, minute, verdict, shares in sent
        ]
    )


def settle_at(history: History, *hours: int) -> None:
    for hour in hours:
        history.settle(DAY_S + hour * HOUR_S + 90)


# Money


@pytest.mark.sqlite_suffices
def test_the_closing_balance_is_the_ledgers(lived: History) -> None:
    found = lived.state(DAY, AFTER)
    with lived.store.read() as connection:
        assert found.money.closing_payable_sat == balance_sat(connection, payable(ACME))
        assert found.money.closing_in_payout_sat == balance_sat(connection, in_payout(ACME)) == 0
    money = found.money
    assert money.opening_sat == 0
    assert (
        money.opening_sat + money.credits_sat - money.payouts_sat + money.adjustments_sat == money.closing_sat
    )
    assert money.payouts_sat == 300_000
    assert money.adjustments_sat == 5000
    assert money.credits_sat > 1_000_000


@pytest.mark.sqlite_suffices
def test_a_statement_goes_on_where_the_one_before_it_ended(lived: History) -> None:
    whole, first, second = (lived.state(*days) for days in ((DAY, AFTER), (DAY, NEXT), (NEXT, AFTER)))
    assert second.money.opening_sat == first.money.closing_sat > 0
    assert second.money.carry_in_psat == first.money.carry_out_psat > 0
    assert second.money.closing_sat == whole.money.closing_sat
    assert second.money.carry_out_psat == whole.money.carry_out_psat
    for name in ("credits_sat", "payouts_sat", "adjustments_sat"):
        assert getattr(first.money, name) + getattr(second.money, name) == getattr(whole.money, name)
    assert first.work.total.accepted + second.work.total.accepted == whole.work.total.accepted
    assert first.money.closing_in_payout_sat == 300_000  # on its way over midnight
    assert (first.money.payouts_sat, second.money.payouts_sat) == (0, 300_000)


@pytest.mark.sqlite_suffices
def test_the_credit_of_a_rate_is_exact_and_the_rest_is_carried(history: History) -> None:
    rate = history.rate()
    history.mine(rate, 5, 700)
    history.mine(rate, 6, 300, log2=-3)
    history.settle(DAY_S + HOUR_S + 60)
    (row,) = history.state(DAY, NEXT).rates
    exact = price().credit_sat(SHARE, 700) + price().credit_sat(Fraction(1, 8), 300)
    credit = floor_to_psat(exact)
    assert (row.credit_sat, row.credit_psat) == (credit.sat, credit.carry_psat)
    assert (row.shares, row.work) == (1000, "183500837.5")
    money = history.state(DAY, NEXT).money
    assert (money.credits_sat, money.carry_in_psat, money.carry_out_psat) == (
        credit.sat,
        0,
        credit.carry_psat,
    )


@pytest.mark.sqlite_suffices
def test_all_rates_and_the_carry_are_the_credits(lived: History) -> None:
    found = lived.state(NEXT, AFTER)
    assert len(found.rates) == 2
    credited = sum(row.credit_sat * PSAT_PER_SAT + row.credit_psat for row in found.rates)
    money = found.money
    assert credited + money.carry_in_psat == money.credits_sat * PSAT_PER_SAT + money.carry_out_psat


@pytest.mark.sqlite_suffices
def test_a_row_for_each_rate_tells_its_price_and_heights(lived: History) -> None:
    first, second = lived.state(DAY, AFTER).rates
    assert (first.nbits, first.scheme, first.fee_bps) == ("17021a42", "fpps", 250)
    assert (first.subsidy_sat, first.block_fees_sat) == (subsidy_sat(1_000_000), 4_000_009)
    assert (first.height_from, first.height_to) == (1_000_000, 1_000_109)
    assert (second.height_from, second.height_to, second.fee_bps) == (1_000_110, None, 200)
    (alone,) = lived.state(DAY, NEXT).rates
    assert alone.height_to is None  # the next one came after that period
    assert (first.first_hour_utc, first.last_hour_utc) == ("2026-09-01T00:00:00Z", "2026-09-02T08:00:00Z")


@pytest.mark.sqlite_suffices
def test_corrections_are_listed_one_by_one(lived: History) -> None:
    given, mistake, undone = lived.state(DAY, AFTER).adjustments
    assert (given.kind, given.memo, given.amount_sat) == ("adjustment", "goodwill", 5000)
    assert (mistake.memo, mistake.amount_sat) == ("typing mistake", -700)
    assert (undone.kind, undone.amount_sat, undone.reverses) == ("reversal", 700, mistake.transaction)


@pytest.mark.sqlite_suffices
def test_bookings_at_midnight_belong_to_the_day_that_begins(history: History) -> None:
    history.adjust(10, DAY_S - 1, "the second before")
    history.adjust(20, DAY_S, "the first second")
    history.adjust(40, DAY_S + DAY_LENGTH_S - 1, "the last second")
    history.adjust(80, DAY_S + DAY_LENGTH_S, "the second after")
    found = history.state(DAY, NEXT)
    assert (found.money.opening_sat, found.money.adjustments_sat, found.money.closing_sat) == (10, 60, 70)
    assert [it.memo for it in found.adjustments] == ["the first second", "the last second"]


@pytest.mark.sqlite_suffices
def test_books_that_contradict_each_other_are_not_stated(lived: History) -> None:
    forged = Transaction(
        key="settlement:99:99:0",
        kind=Kind.SETTLEMENT,
        memo="no shares behind it",
        transfers=(Transfer(PoolAccount.PPS_EXPENSE, payable(ACME), 1),),
    )
    with lived.store.write() as connection:
        post(connection, forged, DAY_S + 100)
    with pytest.raises(StatementWrong, match="psat, the ledger has"):
        lived.state(DAY, AFTER)


@pytest.mark.sqlite_suffices
def test_shares_without_a_price_are_not_stated(lived: History) -> None:
    with lived.store.write() as connection:
        connection.exec_driver_sql("UPDATE tally_minutes SET shares = shares + 1 WHERE verdict = 0")
    with pytest.raises(StatementWrong, match="shares are tallied"):
        lived.state(DAY, AFTER)


@pytest.mark.sqlite_suffices
def test_a_solo_tenant_has_work_and_no_credit(history: History) -> None:
    rate = history.rate(scheme=Scheme.SOLO, block_fees_sat=0)
    history.mine(rate, 5, 1000)
    history.settle(DAY_S + 2 * HOUR_S)
    found = history.state(DAY, NEXT)
    assert (found.money.credits_sat, found.money.closing_sat, found.work.total.accepted) == (0, 0, 1000)
    assert [(row.scheme, row.credit_sat, row.shares) for row in found.rates] == [("solo", 0, 1000)]


@pytest.mark.sqlite_suffices
def test_a_tenant_who_did_nothing_gets_a_statement_of_nothing(history: History) -> None:
    found = history.state(DAY, AFTER, "borealis")
    assert (found.money.opening_sat, found.money.closing_sat) == (0, 0)
    assert (found.rates, found.payouts, found.adjustments, found.work.workers) == ((), (), (), ())
    assert [box.silent for box in found.work.containers] == [("u0", "u1")]


# Payouts and decisions


@pytest.mark.sqlite_suffices
def test_a_payout_is_told_as_it_stood_at_the_periods_end(history: History) -> None:
    history.adjust(900_000, DAY_S)
    drafted = history.draft(300_000, DAY_S + 10 * HOUR_S)
    (told,) = history.state(DAY, NEXT).payouts
    assert (told.state, told.txid, told.output, told.confirmations) == ("approved", None, None, 0)
    txid = history.broadcast(drafted, 300_000, DAY_S + 20 * HOUR_S)
    before = history.state(DAY, NEXT)
    (told,) = before.payouts
    assert (told.state, told.txid, told.output, told.confirmations) == ("broadcast", txid, 0, 0)
    assert (told.amount_sat, told.booked_sat, told.address) == (300_000, 0, P2WPKH)
    assert (before.money.closing_payable_sat, before.money.closing_in_payout_sat) == (600_000, 300_000)
    with history.store.write() as connection:
        confirm(connection, drafted, 1, BLOCK, 1_000_100, DAY_S + DAY_LENGTH_S)
        finish(connection, drafted, BLOCK, DAY_S + DAY_LENGTH_S + HOUR_S)
    assert history.state(DAY, NEXT) == before
    (paid,) = history.state(NEXT, AFTER).payouts
    assert (paid.state, paid.txid, paid.confirmations, paid.booked_sat) == ("final", txid, 6, 300_000)
    assert history.state(AFTER, AFTER + timedelta(1)).payouts == ()


@pytest.mark.sqlite_suffices
def test_a_payout_that_is_reorganised_out_comes_back_to_the_balance(history: History) -> None:
    history.adjust(300_000, DAY_S)
    batch = history.draft(300_000, DAY_S + HOUR_S)
    history.broadcast(batch, 300_000, DAY_S + 2 * HOUR_S)
    with history.store.write() as connection:
        confirm(connection, batch, 1, BLOCK, 1_000_100, DAY_S + 3 * HOUR_S)
        finish(connection, batch, BLOCK, DAY_S + 4 * HOUR_S)
        reorganise(connection, batch, BLOCK, DAY_S + DAY_LENGTH_S + HOUR_S)
    first, second = history.state(DAY, NEXT), history.state(NEXT, AFTER)
    assert (first.money.payouts_sat, second.money.payouts_sat) == (300_000, -300_000)
    assert [(it.state, it.booked_sat) for it in second.payouts] == [("broadcast", -300_000)]
    assert second.money.closing_in_payout_sat == 300_000


@pytest.mark.sqlite_suffices
def test_decisions_are_told_with_who_and_when(lived: History) -> None:
    first, second = lived.state(DAY, NEXT), lived.state(NEXT, AFTER)
    assert [it.address for it in first.addresses] == [P2WPKH]
    assert [(it.address, it.changed_at_utc, it.effective_at_utc) for it in second.addresses] == [
        (P2WPKH, "2026-08-31T00:00:00Z", "2026-08-31T00:00:00Z"),
        (P2TR, "2026-09-02T08:00:00Z", "2026-09-05T08:00:00Z"),
    ]
    assert [(it.fee_bps, it.changed_by) for it in second.terms] == [(250, "olga"), (200, "olga")]
    assert [(it.approved_by, it.approved_at_utc) for it in first.approvals] == [
        ("dmitri", "2026-09-01T22:01:00Z")
    ]
    assert second.approvals == ()


# The same period, the same bytes


def test_what_happens_later_does_not_change_a_statement(lived: History) -> None:
    before = lived.state(DAY, NEXT)
    later_s = DAY_S + 5 * DAY_LENGTH_S
    rate = lived.rate(later_s, height=1_000_500, fee_bps=100)
    lived.mine(rate, 5 * 1440, 10)
    lived.mine(rate, 6, 0 + 1, verdict=Verdict.STALE, worker=BOREALIS * 100)
    lived.settle(later_s + DAY_LENGTH_S)
    lived.adjust(1, later_s)
    lived.set_address(P2WPKH, later_s)
    lived.set_terms(later_s, fee_bps=100)
    with lived.store.write() as connection:
        connection.execute(update(tenants).values(status="suspended"))
        connection.execute(update(containers).values(nameplate_ths=1000, nameplate_units=9, nameplate_kw=3))
        connection.execute(
            update(workers).values(last_seen_at_s=later_s, agent="cgminer", difficulty_log2=20)
        )
    after = lived.state(DAY, NEXT)
    assert after == before
    assert after.content_hash == before.content_hash


@pytest.mark.sqlite_suffices
def test_the_hash_is_of_everything_in_it(lived: History) -> None:
    hashes = {lived.state(DAY, NEXT).content_hash, lived.state(DAY, AFTER).content_hash}
    lived.adjust(1, DAY_S + 47 * HOUR_S + 600)
    hashes |= {lived.state(DAY, AFTER).content_hash}
    assert len(hashes) == 3


def test_sqlite_and_postgresql_state_the_same(
    sqlite_databases: SqliteDatabases, postgres_databases: PostgresDatabases
) -> None:
    found: list[Statement] = []
    with ExitStack() as stack:
        for databases in (sqlite_databases, postgres_databases):
            history = lived_through(stack.enter_context(fresh_store(databases)))
            found.append(history.state(DAY, AFTER))
    assert found[0] == found[1]
    assert found[0].content_hash == found[1].content_hash


@pytest.mark.sqlite_suffices
def test_a_short_period_is_told_by_the_hour_and_a_long_one_by_the_day(lived: History) -> None:
    by_hour, by_day = lived.state(DAY, AFTER), lived.state(DAY, DAY + timedelta(4))
    assert (by_hour.step, len(by_hour.timeline)) == ("hour", 48)
    assert (by_day.step, len(by_day.timeline)) == ("day", 4)
    for found in (by_hour, by_day):
        assert sum(it.credit_sat for it in found.timeline) == found.money.credits_sat
        assert sum(it.accepted for it in found.timeline) == found.work.total.accepted


@pytest.mark.sqlite_suffices
def test_the_ledgers_head_is_the_one_at_the_periods_end(history: History) -> None:
    assert history.state(DAY, NEXT).ledger_seq == 0
    first = history.adjust(1, DAY_S)
    history.adjust(1, DAY_S + DAY_LENGTH_S)
    assert history.state(DAY, NEXT).ledger_seq == first.seq


# What is refused


@pytest.mark.sqlite_suffices
def test_an_unknown_tenant_is_refused(history: History) -> None:
    with pytest.raises(UnknownTenant, match="there is no tenant 'nobody'"):
        history.state(DAY, NEXT, "nobody")


@pytest.mark.parametrize(
    ("from_day", "to_day", "reason"),
    [
        (DAY, DAY, "is empty"),
        (NEXT, DAY, "is empty"),
        (date(1969, 12, 31), DAY, "before 1970-01-01"),
        (date(2000, 1, 1), date(2026, 1, 1), "longer than"),
        (date.max, date.max, "is empty"),
    ],
)
def test_a_period_that_cannot_be_is_refused(from_day: date, to_day: date, reason: str) -> None:
    with pytest.raises(BadPeriod, match=reason):
        Period(from_day, to_day)


@pytest.mark.sqlite_suffices
def test_a_statement_holds_no_float(lived: History) -> None:
    assert "float" not in {type(value).__name__ for value in leaves(lived.state(DAY, AFTER))}


def leaves(value: object) -> Iterator[object]:
    if isinstance(value, tuple):
        for item in value:
            yield from leaves(item)
    elif hasattr(value, "__struct_fields__"):
        for name in value.__struct_fields__:
            yield from leaves(getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (key, item)
    else:
        yield value
