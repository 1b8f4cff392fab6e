"""Random histories with crashes: whatever happens and is tried again, the books are what they should be.

The oracle keeps its own books in plain Python, with its own arithmetic, and is told each operation once. The
store is told it, crashes before one of its statements or its commit, or loses the answer after the commit,
and is told it again, as a pool that restarts would.
"""

from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import Kind, PoolAccount, Transaction, Transfer, in_payout, open_accounts, payable, post
from payouts.ratebook import OWN_WORK, WorkSource, record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.money import metadata, rates, settlements, tally_days, tally_hours, tally_minutes
from payouts.tallies import Tally, record, roll_up_hours, roll_up_minutes
from pool.books.store import Store
from tests.fixtures.databases import (
    Crash,
    Databases,
    PostgresDatabases,
    SqliteDatabases,
    add_tenant,
    crash_at,
    fresh_store,
)
from tests.histories.sold_work import order_row, upstream_row

HOUR = 476_000
TENANTS = (1, 2)
PSAT = 10**12
STATEMENTS_TRIED = 45  # more than any operation here has; with fewer it crashes before the commit
# nBits with their targets, by hand: regtest's easiest, a main net one, difficulty 1.
ORDERS = {1: 7, 2: 61}  # sat per PH-day
PH_DAY = 10**15 * 86_400
TARGETS = {0x207FFFFF: 0x7FFFFF << 232, 0x17034219: 0x034219 << 160, 0x1D00FFFF: 0xFFFF << 208}


class Record(msgspec.Struct, frozen=True):
    """A batch: (tenant, which of its rates from the newest back, minute, difficulty, verdict, shares)."""

    tallies: tuple[tuple[int, int, int, int, int, int], ...]


class ChangeRate(msgspec.Struct, frozen=True):
    tenant_id: int
    nbits: int
    fee_bps: int
    scheme: Scheme
    order_id: int | None = None  # at its price


class Settle(msgspec.Struct, frozen=True):
    now_s: int


class RollUp(msgspec.Struct, frozen=True):
    now_s: int


class Hold(msgspec.Struct, frozen=True):
    """Part of what a tenant is owed goes into a payout, and is paid or comes back."""

    tenant_id: int
    percent: int
    paid: bool


class FindBlock(msgspec.Struct, frozen=True):
    number: int
    statuses: tuple[Status, ...]


Operation = Record | ChangeRate | Settle | RollUp | Hold | FindBlock
MINUTES = st.integers(HOUR * 60, HOUR * 60 + 299)
# The clock is anywhere from a day before to two days after, or far ahead, in any order.
CLOCKS = st.integers((HOUR - 24) * 3600, (HOUR + 54) * 3600) | st.just((HOUR + 20_000) * 3600)
OPERATIONS = st.one_of(
    st.builds(
        Record,
        st.lists(
            st.tuples(
                st.sampled_from(TENANTS),
                st.integers(0, 2),
                MINUTES,
                st.integers(-32, 63),
                st.sampled_from((0, 0, 0, 5, 8)),
                st.integers(1, 10**6),
            ),
            min_size=1,
            max_size=6,
        ).map(tuple),
    ),
    st.builds(
        ChangeRate,
        st.sampled_from(TENANTS),
        st.sampled_from(sorted(TARGETS)),
        st.sampled_from((0, 200, 333, 10_000)),
        st.sampled_from((Scheme.PPS, Scheme.PPS, Scheme.PPS, Scheme.SOLO)),
        st.sampled_from((None, None, *ORDERS)),
    ),
    st.builds(Settle, CLOCKS),
    st.builds(RollUp, CLOCKS),
    st.builds(Hold, st.sampled_from(TENANTS), st.integers(1, 100), st.booleans()),
    st.builds(
        FindBlock,
        st.integers(0, 3),
        st.sampled_from(
            (
                (Status.PENDING, Status.MATURED),
                (Status.PENDING, Status.ORPHANED),
                (Status.ORPHANED, Status.PENDING, Status.MATURED),
                (Status.PENDING,),
            )
        ),
    ),
)
# None: no crash. 99: before the commit. -1: the commit happened and its answer was lost.
CRASHES = st.none() | st.integers(0, STATEMENTS_TRIED) | st.sampled_from((99, -1))
HISTORIES = st.lists(st.tuples(OPERATIONS, CRASHES), min_size=1, max_size=14)


class Oracle:
    """What the books should be, in plain Python."""

    def __init__(self) -> None:
        self.rates: list[ChangeRate] = []
        self.tallied: Counter[tuple[int, int, int, int]] = Counter()  # tenant, rate, difficulty, verdict
        self.unsettled: Counter[tuple[int, int, int]] = Counter()  # rate, hour, difficulty
        self.carry_psat: Counter[str] = Counter()
        self.balances_sat: Counter[str] = Counter()
        self.statuses: dict[int, Status] = {}
        self.settlements = 0

    def rate_of(self, tenant_id: int, back: int) -> int:
        """The number of the tenant's rate, `back` before its newest."""
        own = [i + 1 for i, rate in enumerate(self.rates) if rate.tenant_id == tenant_id]
        return own[max(0, len(own) - 1 - back)]

    def change_rate(self, it: ChangeRate) -> None:
        source = (it.tenant_id, it.order_id)
        of_source = [rate for rate in self.rates if (rate.tenant_id, rate.order_id) == source]
        if not of_source or of_source[-1] != it:
            self.rates.append(it)

    def record(self, it: Record) -> None:
        for tenant_id, back, minute, log2, verdict, shares in it.tallies:
            rate = self.rate_of(tenant_id, back)
            self.tallied[tenant_id, rate, log2, verdict] += shares
            if verdict == 0:
                self.unsettled[rate, minute // 60, log2] += shares

    def settle(self, it: Settle) -> None:
        due = {
            (hour, self.rates[rate - 1].tenant_id, rate)
            for rate, hour, _ in self.unsettled
            if it.now_s >= (hour + 1) * 3600 + 60
        }
        for hour, tenant_id, rate in sorted(due):
            price = self.rates[rate - 1]
            worth_sat = Fraction(0)
            for key in [key for key in self.unsettled if key[:2] == (rate, hour)]:
                shares = self.unsettled.pop(key)
                if price.scheme is Scheme.PPS:
                    worth_sat += worth_of_shares_sat(price.nbits, price.order_id, key[2]) * shares
            fee_bps = price.fee_bps
            self.settlements += 1
            for carried, account, bps in (
                (f"tenant {tenant_id}", payable(tenant_id), 10_000 - fee_bps),
                (f"pool {tenant_id}", PoolAccount.FEE_INCOME.value, fee_bps),
            ):
                total_psat = self.carry_psat[carried] + worth_sat * bps * PSAT // 10_000
                self.carry_psat[carried] = total_psat % PSAT
                self.move(PoolAccount.PPS_EXPENSE.value, account, total_psat // PSAT)

    def move(self, from_account: str, to_account: str, sat: int) -> None:
        self.balances_sat[from_account] -= sat
        self.balances_sat[to_account] += sat

    def hold_sat(self, it: Hold) -> int:
        return self.balances_sat[payable(it.tenant_id)] * it.percent // 100

    def hold(self, it: Hold) -> None:
        if it.paid:
            self.move(payable(it.tenant_id), PoolAccount.COINS.value, self.hold_sat(it))

    def find_block(self, it: FindBlock) -> None:
        if it.number in self.statuses:
            return
        self.statuses[it.number] = it.statuses[-1]
        pending, matured = PoolAccount.BLOCK_INCOME_PENDING.value, PoolAccount.BLOCK_INCOME_MATURED.value
        account = {Status.PENDING: pending, Status.MATURED: matured}.get(it.statuses[-1])
        if account:
            self.move(PoolAccount.COINS.value, account, it.number * 1000)


def worth_of_shares_sat(nbits: int, order_id: int | None, log2: int) -> Fraction:
    """Of one share before the fee."""
    if order_id is None:
        return min(Fraction(1), Fraction(2) ** log2 * TARGETS[nbits] / (0xFFFF << 208)) * 312_500_000
    return Fraction(2) ** log2 * (1 << 48) / 65_535 / PH_DAY * ORDERS[order_id]


class Books:
    """The store under test: each operation as the pool would do it, and do it again after a crash."""

    def __init__(self, store: Store, oracle: Oracle) -> None:
        self.store = store
        self.oracle = oracle
        self.batches = 0
        with store.write() as connection:
            for tenant_id in TENANTS:
                add_tenant(connection, tenant_id, f"t{tenant_id}")
                open_accounts(connection, tenant_id)
            self.upstream_id = upstream_row(connection)
            for order_id, sat_per_ph_day in ORDERS.items():
                name = f"o{order_id}"
                assert order_row(connection, self.upstream_id, name, sat_per_ph_day) == order_id

    def steps(self, it: Operation, number: int) -> list[Callable[[Connection], object]]:
        """Transactions of the operation; the last one is repeated until it returns nothing."""
        oracle = self.oracle
        if isinstance(it, Record):
            tallies = [
                Tally(
                    worker_id=tenant * 100,
                    rate_id=oracle.rate_of(tenant, back),
                    minute=minute,
                    difficulty_log2=log2,
                    verdict=verdict,
                    shares=shares,
                )
                for tenant, back, minute, log2, verdict, shares in it.tallies
            ]
            batch = self.batches + 1
            return [lambda connection: record(connection, "pool", batch, tallies) and None]
        if isinstance(it, ChangeRate):
            price = Price(
                nbits=it.nbits,
                subsidy_sat=312_500_000,
                block_fees_sat=0,
                fee_bps=it.fee_bps,
                scheme=it.scheme,
                sat_per_ph_day=None if it.order_id is None else ORDERS[it.order_id],
            )
            source = OWN_WORK if it.order_id is None else WorkSource(self.upstream_id, it.order_id)
            return [
                lambda connection: (
                    record_rate(connection, it.tenant_id, price, 840_000, None, 0, source) and None
                )
            ]
        if isinstance(it, Settle):
            return [lambda connection: settle(connection, it.now_s)]
        if isinstance(it, RollUp):
            return [
                lambda connection: roll_up_hours(connection, it.now_s),
                lambda connection: roll_up_minutes(connection, it.now_s),
            ]
        if isinstance(it, Hold):
            return self.hold_steps(it, oracle.hold_sat(it), number)
        return self.block_steps(it)

    def hold_steps(self, it: Hold, sat: int, number: int) -> list[Callable[[Connection], object]]:
        if not sat:
            return [lambda connection: None]
        own, held = payable(it.tenant_id), in_payout(it.tenant_id)
        moves = [
            ("hold", Transfer(own, held, sat)),
            ("end", Transfer(held, PoolAccount.COINS.value if it.paid else own, sat)),
        ]

        def booking(name: str, transfer: Transfer) -> Callable[[Connection], object]:
            transaction = Transaction(
                key=f"{name}:{number}", kind=Kind.PAYOUT, memo=name, transfers=(transfer,)
            )
            return lambda connection: post(connection, transaction, number) and None

        return [booking(name, transfer) for name, transfer in moves]

    def block_steps(self, it: FindBlock) -> list[Callable[[Connection], object]]:
        if it.number in self.oracle.statuses:
            return [lambda connection: None]
        block = Block(
            hash=f"{it.number:064x}",
            height=it.number,
            income_sat=it.number * 1000,
            worker_id=None,
            found_at_s=0,
        )

        def marking(status: Status) -> Callable[[Connection], object]:
            return lambda connection: mark(connection, block.hash, status, 0) and None

        return [
            lambda connection: record_block(connection, block, 0) and None,
            *(marking(status) for status in it.statuses),
        ]

    def apply(self, it: Operation, crash: int | None, number: int) -> None:
        steps = self.steps(it, number)
        for step in steps:
            if crash == -1:
                do(self.store, step)
            elif crash is not None:
                with pytest.raises(Crash), crash_at(crash):
                    do(self.store, step)
            while do(self.store, step):
                pass
        if isinstance(it, Record):
            self.batches += 1


def do(store: Store, step: Callable[[Connection], object]) -> object:
    with store.write() as connection:
        return step(connection)


def play(store: Store, history: list[tuple[Operation, int | None]]) -> Oracle:
    oracle = Oracle()
    books = Books(store, oracle)
    start: list[tuple[Operation, int | None]] = [
        (ChangeRate(tenant_id, 0x17034219, 200, Scheme.PPS), None) for tenant_id in TENANTS
    ]
    for number, (operation, crash) in enumerate(start + history):
        books.apply(operation, crash, number)
        match operation:
            case Record():
                oracle.record(operation)
            case ChangeRate():
                oracle.change_rate(operation)
            case Settle():
                oracle.settle(operation)
            case Hold():
                oracle.hold(operation)
            case FindBlock():
                oracle.find_block(operation)
            case RollUp():
                pass
    return oracle


def check(store: Store, oracle: Oracle) -> None:
    """The books are the oracle's; and they follow from the journal alone."""
    with store.read() as connection:
        checked = audit(connection)
        assert checked.wrong is None
        assert {k: v for k, v in checked.balances_sat.items() if v} == {
            k: v for k, v in oracle.balances_sat.items() if v
        }
        assert checked.settlements == oracle.settlements
        tallied = journal(connection)
        assert tallied == oracle.tallied
        check_against_journal(connection, tallied, checked.balances_sat)


def journal(connection: Connection) -> Counter[tuple[int, int, int, int]]:
    found: Counter[tuple[int, int, int, int]] = Counter()
    for table in (tally_minutes, tally_hours, tally_days):
        for row in connection.execute(select(table)):
            found[row.worker_id // 100, row.rate_id, row.difficulty_log2, row.verdict] += row.shares
    return found


def check_against_journal(
    connection: Connection, tallied: Counter[tuple[int, int, int, int]], balances_sat: dict[str, int]
) -> None:
    """When all is settled, each tenant was credited the exact worth of its shares, to a satoshi."""
    price = {row.id: row for row in connection.execute(select(rates))}
    paid = connection.execute(
        select(settlements.c.tenant_id, func.sum(settlements.c.posted_sat)).group_by(settlements.c.tenant_id)
    )
    posted_sat = {tenant_id: int(sat) for tenant_id, sat in paid}
    for tenant_id in TENANTS:
        worth_sat = Fraction(0)
        for (owner, rate, log2, verdict), shares in tallied.items():
            if owner == tenant_id and verdict == 0 and price[rate].scheme == "pps":
                each_sat = worth_of_shares_sat(price[rate].nbits, price[rate].order_id, log2)
                worth_sat += each_sat * shares * (10_000 - price[rate].fee_bps) / 10_000
        assert -1 < posted_sat.get(tenant_id, 0) - worth_sat <= 0
        assert balances_sat[payable(tenant_id)] + balances_sat[in_payout(tenant_id)] <= worth_sat


END: list[tuple[Operation, int | None]] = [(Settle((HOUR + 10_000) * 3600), None)]


def histories(number: int) -> settings:
    slow = [HealthCheck.too_slow]
    return settings(deadline=None, derandomize=True, max_examples=number, suppress_health_check=slow)


@pytest.mark.parametrize("number", [20, pytest.param(600, marks=pytest.mark.soak)])
def test_sqlite_after_any_history(sqlite_databases: SqliteDatabases, number: int) -> None:
    @histories(number)
    @given(history=HISTORIES)
    def run(history: list[tuple[Operation, int | None]]) -> None:
        with fresh_store(sqlite_databases) as store:
            check(store, play(store, history + END))

    run()


@pytest.mark.parametrize("number", [8, pytest.param(200, marks=pytest.mark.soak)])
def test_postgresql_after_any_history_and_identical_with_sqlite(
    sqlite_databases: SqliteDatabases, postgres_databases: PostgresDatabases, number: int
) -> None:
    @histories(number)
    @given(history=HISTORIES)
    def run(history: list[tuple[Operation, int | None]]) -> None:
        with fresh_store(sqlite_databases) as sqlite, fresh_store(postgres_databases) as postgresql:
            play(sqlite, history + END)
            check(postgresql, play(postgresql, history + END))
            assert dump(sqlite) == dump(postgresql)

    run()


def dump(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, but for what each book has as a name of its own."""
    with store.read() as connection:
        return {
            table.name: sorted(
                (
                    tuple(row)
                    for row in connection.execute(select(*(it for it in table.c if it.name != "uid")))
                ),
                key=str,
            )
            for table in metadata.sorted_tables
        }


def test_a_crash_before_each_statement_of_a_settlement(databases: Databases) -> None:
    """Every one of them, not only those that chance picks."""
    tallies = tuple((tenant, 0, HOUR * 60 + i, 20 + i, 0, 10**6) for tenant in TENANTS for i in range(3))
    due_s = (HOUR + 1) * 3600 + 60
    with fresh_store(databases) as store:
        plain = play(store, [(Record(tallies), None), (Settle(due_s), None)])
        expected = dump(store)
    with fresh_store(databases) as store:
        oracle = play(store, [(Record(tallies), None)])
        for statement in range(STATEMENTS_TRIED):
            with pytest.raises(Crash), crash_at(statement):
                do(store, lambda connection: settle(connection, due_s))
            with store.read() as connection:
                assert connection.scalar(select(func.count()).select_from(settlements)) == 0
        while do(store, lambda connection: settle(connection, due_s)):
            pass
        oracle.settle(Settle(due_s))
        check(store, oracle)
        assert oracle.balances_sat == plain.balances_sat
        assert dump(store) == expected
