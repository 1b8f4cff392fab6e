"""Accrual: hours of shares become satoshi owed, exactly, once, whatever the clock does."""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError

from payouts.accrual import GRACE_S, SETTLEMENTS_MAX, Carry, Settlement, carry_of, settle
from payouts.audit.verify import audit
from payouts.ledger import PoolAccount, balances_sat, payable
from payouts.ratebook import blocks_of_basis, record_fee_basis, record_rate
from payouts.rates import PSAT_PER_SAT, Amount, BadRate, BlockFees, Price, Scheme
from payouts.schemas.money import rate_hours, rates, settled_shares, settlements
from payouts.tallies import Tally, record
from pool.books.store import Store
from tests.fixtures.databases import add_tenant, disarm

HOUR = 476_000  # April 2024
HOUR_S = HOUR * 3600
DAY_S = 86_400
DUE_S = HOUR_S + 3600 + GRACE_S  # when HOUR is settled
ACME, BOREALIS = 1, 2
EXPENSE, FEE_INCOME = PoolAccount.PPS_EXPENSE.value, PoolAccount.FEE_INCOME.value
HALVED = Price(nbits=0x17034219, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.PPS)
# A share of difficulty 65,536 at that price, from the published vectors: 232,327,061,010.2... psat.
SHARE_SAT = Fraction(817415703125, 3518383521792)


class Pool:
    """Two tenants who mine: counts what they send, settles when told."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.batches = 0
        with store.write() as connection:
            add_tenant(connection, ACME, "acme")
            add_tenant(connection, BOREALIS, "borealis")

    def rate(self, tenant_id: int = ACME, basis: int | None = None, **change: Any) -> int:
        price = Price(**({name: getattr(HALVED, name) for name in HALVED.__struct_fields__} | change))
        with self.store.write() as connection:
            return record_rate(connection, tenant_id, price, 840_000, basis, HOUR_S)

    def mine(
        self,
        rate: int,
        shares: int,
        tenant_id: int = ACME,
        hour: int = HOUR,
        log2: int = 16,
        verdict: int = 0,
    ) -> None:
        self.batches += 1
        tally = Tally(
            worker_id=tenant_id * 100,
            rate_id=rate,
            minute=hour * 60 + 59,
            difficulty_log2=log2,
            verdict=verdict,
            shares=shares,
        )
        with self.store.write() as connection:
            assert record(connection, "pool", self.batches, [tally])

    def settle(self, now_s: int = DUE_S) -> list[Settlement]:
        done: list[Settlement] = []
        while True:
            with self.store.write() as connection:
                some = settle(connection, now_s)
            if not some:
                return done
            assert len(some) <= SETTLEMENTS_MAX
            done += some

    def balances(self) -> dict[str, int]:
        with self.store.read() as connection:
            checked = audit(connection)
            assert checked.wrong is None
            assert checked.balances_sat == balances_sat(connection)
        return {account: sat for account, sat in checked.balances_sat.items() if sat}

    def carry(self, tenant_id: int = ACME) -> Carry:
        with self.store.read() as connection:
            return carry_of(connection, tenant_id)


@pytest.fixture
def pool(store: Store) -> Iterator[Pool]:
    made = Pool(store)
    yield made
    made.balances()  # every test leaves books that an audit agrees with


# What is owed


@pytest.mark.sqlite_suffices
def test_an_hour_is_one_exact_fraction_floored_once(pool: Pool) -> None:
    pool.mine(pool.rate(), 1000)
    (settlement,) = pool.settle()
    assert settlement.credit == Amount(
        232, 327_061_010_298
    )  # a thousand shares floored apart would lose 298 psat
    assert 0 <= SHARE_SAT * 1000 * PSAT_PER_SAT - settlement.credit.psat < 1
    assert pool.balances() == {EXPENSE: -236, payable(ACME): 232, FEE_INCOME: 4}
    assert pool.carry().credit_psat == 327_061_010_298


@pytest.mark.sqlite_suffices
def test_less_than_a_satoshi_is_carried_until_it_is_one(pool: Pool) -> None:
    rate = pool.rate()
    owed = []
    for hour in range(HOUR, HOUR + 6):
        pool.mine(rate, 1, hour=hour)
        pool.settle(DUE_S + (hour - HOUR) * 3600)
        owed.append(pool.balances().get(payable(ACME), 0))
    assert owed == [0, 0, 0, 0, 1, 1]
    assert pool.carry().credit_psat == 6 * 232_327_061_010 - PSAT_PER_SAT


@pytest.mark.sqlite_suffices
def test_the_expense_is_the_full_price_and_the_fee_the_pools_income(pool: Pool) -> None:
    pool.mine(pool.rate(fee_bps=2500), 1_000_000)
    pool.settle()
    found = pool.balances()
    full_sat = SHARE_SAT * 1_000_000 / Fraction(98, 100)
    assert found[payable(ACME)] == full_sat * 3 // 4
    assert found[FEE_INCOME] == full_sat // 4
    assert found[EXPENSE] == -found[payable(ACME)] - found[FEE_INCOME]


@pytest.mark.sqlite_suffices
def test_shares_of_several_difficulties_are_one_fraction(pool: Pool) -> None:
    rate = pool.rate()
    for log2, shares in ((16, 3), (18, 2), (-32, 7)):
        pool.mine(rate, shares, log2=log2)
    (settlement,) = pool.settle()
    exact_psat = SHARE_SAT * (3 + 2 * 4 + Fraction(7, 2**48)) * PSAT_PER_SAT
    assert 0 <= exact_psat - settlement.credit.psat < 1


@pytest.mark.sqlite_suffices
def test_a_share_harder_than_a_block_is_worth_a_block(pool: Pool) -> None:
    pool.mine(pool.rate(nbits=0x207FFFFF, fee_bps=0), 2, log2=5)
    pool.settle()
    assert pool.balances() == {EXPENSE: -625_000_000, payable(ACME): 625_000_000}


@pytest.mark.sqlite_suffices
def test_only_accepted_shares_count(pool: Pool) -> None:
    rate = pool.rate()
    for verdict in range(1, 11):
        pool.mine(rate, 1_000_000, verdict=verdict)
    assert pool.settle() == []
    assert pool.balances() == {}


@pytest.mark.sqlite_suffices
def test_fpps_pays_the_fees_of_its_blocks(pool: Pool) -> None:
    fees = [BlockFees(height=840_000 + i, hash=f"{i:064x}", fees_sat=25_000_000 + i) for i in range(3)]
    with pool.store.write() as connection:
        basis = record_fee_basis(connection, fees, HOUR_S)
        assert blocks_of_basis(connection, basis) == tuple(fees)
    pool.mine(pool.rate(scheme=Scheme.FPPS, basis=basis, block_fees_sat=25_000_001), 1_000_000)
    pool.settle()
    assert pool.balances()[payable(ACME)] == SHARE_SAT * 1_000_000 * 337_500_001 // 312_500_000


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("scheme", [Scheme.SOLO, Scheme.PROXY])
def test_solo_and_proxy_tenants_accrue_nothing(pool: Pool, scheme: Scheme) -> None:
    pool.mine(pool.rate(scheme=scheme), 10**9)
    (settlement,) = pool.settle()
    assert (settlement.credit, settlement.transaction) == (Amount(0, 0), None)
    assert pool.balances() == {}
    assert pool.settle() == []


@pytest.mark.sqlite_suffices
def test_tenants_and_rates_are_settled_apart_and_the_carry_is_the_tenants(pool: Pool) -> None:
    first, other = pool.rate(), pool.rate(BOREALIS)
    pool.mine(first, 3)
    second = pool.rate(nbits=0x17034218)
    pool.mine(second, 3)
    pool.mine(other, 3, BOREALIS)
    done = pool.settle()
    assert [(it.tenant_id, it.rate_id) for it in done] == [(ACME, first), (ACME, second), (BOREALIS, other)]
    assert done[1].carry_in == done[0].carry_out
    assert done[2].carry_in == Carry()
    assert [it.posted_sat for it in done] == [0, 1, 0]


# Once


@pytest.mark.sqlite_suffices
def test_nothing_is_due_before_the_hour_is_over_and_its_last_shares_are_in(pool: Pool) -> None:
    pool.mine(pool.rate(), 1000)
    assert pool.settle(DUE_S - 1) == []
    assert len(pool.settle(DUE_S)) == 1


@pytest.mark.sqlite_suffices
def test_what_is_settled_is_settled(pool: Pool) -> None:
    pool.mine(pool.rate(), 1000)
    pool.settle()
    before = pool.balances()
    for now_s in (DUE_S, DUE_S + 1, DUE_S + 400 * DAY_S, DUE_S - DAY_S):
        assert pool.settle(now_s) == []
    assert pool.balances() == before


@pytest.mark.sqlite_suffices
def test_late_shares_of_a_settled_hour_are_its_next_part(pool: Pool) -> None:
    rate = pool.rate()
    pool.mine(rate, 1000)
    pool.settle()
    pool.mine(rate, 500)
    pool.mine(rate, 5, log2=20)
    (late,) = pool.settle()
    assert (late.hour, late.part) == (HOUR, 1)
    exact_psat = SHARE_SAT * (500 + 5 * 16) * PSAT_PER_SAT
    assert 0 <= exact_psat - late.credit.psat < 1
    pool.mine(rate, 1)
    assert [it.part for it in pool.settle()] == [2]
    assert pool.balances()[payable(ACME)] == SHARE_SAT * 1581 // 1


@pytest.mark.sqlite_suffices
def test_a_clock_a_day_ahead_settles_early_and_the_rest_late(pool: Pool) -> None:
    rate = pool.rate()
    pool.mine(rate, 1000)
    assert len(pool.settle(HOUR_S + DAY_S)) == 1  # in the middle of the hour, by a wrong clock
    pool.mine(rate, 1000, hour=HOUR + 24)
    assert pool.settle(HOUR_S + 1800) == []  # the clock is right again
    pool.mine(rate, 1000)
    assert [(it.hour, it.part) for it in pool.settle(DUE_S)] == [(HOUR, 1)]
    pool.mine(rate, 500, hour=HOUR + 24)
    assert [(it.hour, it.part) for it in pool.settle(DUE_S + DAY_S)] == [(HOUR + 24, 0)]
    assert pool.balances()[payable(ACME)] == SHARE_SAT * 3500 // 1


@pytest.mark.sqlite_suffices
def test_a_clock_a_day_behind_settles_later_and_skips_nothing(pool: Pool) -> None:
    rate = pool.rate()
    for hour in range(HOUR, HOUR + 3):
        pool.mine(rate, 1000, hour=hour)
    assert len(pool.settle(DUE_S)) == 1
    pool.mine(rate, 1000, hour=HOUR - 23)  # by the wrong clock
    assert pool.settle(DUE_S - DAY_S) == []
    assert [it.hour for it in pool.settle(DUE_S - DAY_S + 2 * 3600)] == [HOUR - 23]
    assert [it.hour for it in pool.settle(DUE_S + 5 * 3600)] == [HOUR + 1, HOUR + 2]
    assert pool.balances()[payable(ACME)] == SHARE_SAT * 4000 // 1


@pytest.mark.sqlite_suffices
def test_a_long_arrear_is_settled_in_bounded_steps(pool: Pool) -> None:
    rate = pool.rate()
    for hour in range(HOUR, HOUR + SETTLEMENTS_MAX * 2 + 1):
        pool.mine(rate, 100, hour=hour)
    done = pool.settle(DUE_S + 100 * 3600)
    assert [it.hour for it in done] == list(range(HOUR, HOUR + SETTLEMENTS_MAX * 2 + 1))


def test_the_database_refuses_a_second_settlement_of_an_hour(pool: Pool) -> None:
    rate = pool.rate()
    pool.mine(rate, 1)
    pool.settle()
    with pytest.raises(IntegrityError), pool.store.write() as connection:
        connection.execute(
            insert(settlements).from_select(
                settlements.columns.keys(),
                select(*(column + 1 if column.name == "seq" else column for column in settlements.columns)),
            )
        )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE rate_hours SET shares = shares - 1",
        "UPDATE rate_hours SET settled = 0",
        "UPDATE rate_hours SET hour = hour + 1",
        "DELETE FROM rate_hours",
        "UPDATE settlements SET posted_sat = 0",
        "DELETE FROM settled_shares",
        "UPDATE rates SET fee_bps = 0",
    ],
)
def test_the_database_refuses_to_forget_shares_settlements_and_rates(pool: Pool, change: str) -> None:
    pool.mine(pool.rate(), 1000)
    pool.settle()
    with pytest.raises(DatabaseError, match=r"only grows|append-only"), pool.store.write() as connection:
        connection.exec_driver_sql(change)


# Rates


def test_a_rate_is_a_new_row_only_when_the_price_changes(pool: Pool) -> None:
    assert [pool.rate(), pool.rate(), pool.rate(fee_bps=100), pool.rate(), pool.rate(BOREALIS)] == [
        1,
        1,
        2,
        3,
        4,
    ]
    assert pool.rate(nbits=0x17034218) == 5
    assert pool.rate(subsidy_sat=156_250_000) == 6
    assert pool.rate(scheme=Scheme.SOLO) == 7
    with pool.store.read() as connection:
        assert connection.scalar(select(func.count()).select_from(rates)) == 7


@pytest.mark.sqlite_suffices
def test_another_list_of_blocks_is_another_rate_even_with_the_same_mean(pool: Pool) -> None:
    with pool.store.write() as connection:
        for hash_ in ("aa", "bb"):
            record_fee_basis(connection, [BlockFees(height=1, hash=hash_, fees_sat=7)], HOUR_S)
    assert [pool.rate(basis=basis, block_fees_sat=7) for basis in (1, 2, 2)] == [1, 2, 2]


@pytest.mark.sqlite_suffices
def test_the_block_fees_of_a_rate_are_those_of_its_basis(pool: Pool) -> None:
    with pool.store.write() as connection:
        basis = record_fee_basis(connection, [BlockFees(height=1, hash="aa", fees_sat=7)], HOUR_S)
    with pytest.raises(BadRate, match="not those of fee basis 1"):
        pool.rate(basis=basis, block_fees_sat=8)
    with pytest.raises(BadRate, match="not those of fee basis None"):
        pool.rate(block_fees_sat=8)


# The audit


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("tampering", "table", "reason"),
    [
        (update(settlements).values(credit_sat=233), "settlements", "does not follow from its shares"),
        (update(settlements).values(carry_out_psat=0), "settlements", "does not follow from its shares"),
        (update(settlements).values(fee_posted_sat=9), "settlements", "does not follow from its shares"),
        (update(settled_shares).values(shares=1001), "settlements", "does not follow from its shares"),
        (update(rates).values(fee_bps=100), "settlements", "does not follow from its shares"),
        (update(rates).values(nbits=0x17834219), "rates", "sign bit"),
        (update(settlements).values(transaction_seq=2), "settlements", "the ledger has something else"),
        (update(settlements).values(part=1), "settlements", "the ledger has something else"),
        (update(rate_hours).values(settled=999), "rate_hours", "of another number of shares"),
        (update(rate_hours).values(shares=1001), "rate_hours", "the tallies of this rate"),
        (text("UPDATE tally_minutes SET shares = 999"), "rate_hours", "the tallies of this rate"),
        (text("DELETE FROM tally_minutes"), "rate_hours", "the tallies of this rate"),
        (text("UPDATE tally_minutes SET worker_id = 200"), "tally_minutes", "different tenants"),
        (text("DELETE FROM settled_shares"), "settlements", "it names no shares"),
        (text("UPDATE settlements SET seq = 5"), "settlements", "it is missing"),
        (text("UPDATE fee_bases SET block_fees_sat = 8"), "fee_bases", "trimmed mean"),
        (text("DELETE FROM fee_basis_blocks"), "fee_bases", "not between 1 and"),
    ],
    ids=str,
)
def test_the_audit_derives_every_settlement_again(
    store: Store, tampering: Any, table: str, reason: str
) -> None:
    pool = Pool(store)
    pool.mine(pool.rate(), 1000)
    with store.write() as connection:
        record_fee_basis(connection, [BlockFees(height=1, hash="aa", fees_sat=7)], HOUR_S)
    pool.settle()
    pool.balances()
    with store.write() as connection:
        disarm(connection)
        connection.execute(tampering)
        wrong = audit(connection).wrong
        connection.rollback()
    assert wrong is not None
    assert wrong.table == table
    assert reason in wrong.reason


@pytest.mark.sqlite_suffices
def test_the_audit_misses_the_first_part_of_an_hour(store: Store) -> None:
    pool = Pool(store)
    pool.mine(pool.rate(), 1)  # less than a satoshi: nothing in the ledger to compare it with
    pool.settle()
    with store.write() as connection:
        disarm(connection)
        connection.execute(update(settlements).values(part=1))
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row) == ("settlements", f"1, {HOUR}")
    assert "a part of this rate and hour is missing" in wrong.reason


def test_the_audit_finds_a_settlement_that_the_books_do_not_have(store: Store) -> None:
    pool = Pool(store)
    pool.mine(pool.rate(), 1000)
    pool.settle()
    with store.write() as connection:
        disarm(connection)
        connection.execute(text("DELETE FROM settled_shares"))
        connection.execute(text("DELETE FROM settlements"))
        connection.execute(text("UPDATE rate_hours SET settled = 0"))
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.row) == ("ledger_transactions", "1")
    assert wrong.reason == "there is no settlement behind it"
