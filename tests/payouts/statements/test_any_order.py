"""What tenants are told, whatever happens in whatever order, and whichever way the clock steps: a day that is
over in the books is never told otherwise, days add up, the end is what the ledger has, and nobody is told of
another one."""

import random
from collections.abc import Callable
from datetime import date, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Connection, select

from payouts.accrual import settle
from payouts.audit.verify import audit
from payouts.book_time import book_time, latest_s
from payouts.energy.charges import FIRST, Place, charge
from payouts.energy.dues import collect, due_sat
from payouts.energy.events import BOOKED_AFTER_S, Event, EventBooks, EventPart, book_event
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.grid import Basis, NewPayment, add_payment
from payouts.energy.hours import (
    ContainerEnergy,
    begin,
    due_hour,
    first_hour,
    next_hour,
    take_again,
    take_next,
)
from payouts.energy.tariffs import BadTariff, Kind, NewTariff, add_tariff
from payouts.energy.terms import Charge, HostingTerms, set_terms
from payouts.income import Block, Status, mark, record_block
from payouts.ledger import LedgerError, balance_sat, in_payout, payable
from payouts.ratebook import record_rate
from payouts.rates import Scheme
from payouts.schemas.money import workers
from payouts.statements.period import EPOCH
from payouts.statements.statement import Statement, statement
from payouts.tallies import Tally, record, roll_up_hours, roll_up_minutes
from pool.books.journal.machine_rows import rows_of
from pool.books.store import Store
from pool.fleet.rows import TenantTerms, add_tenant, set_container
from pool.journal.records import Machine
from tests.histories.statements import DAY, DAY_S, price

NAMES: Final = ("acme", "borealis")
KWH: Final = 3_600_000
STEPS: Final = 90
SUMS: Final = ("credits_sat", "payouts_sat", "adjustments_sat", "energy_sat", "grid_sat", "divided_sat")


class Books:
    """Of two tenants, whose containers and machines have the names of their tenants in theirs."""

    def __init__(self, store: Store, dice: random.Random) -> None:
        self.store, self.dice = store, dice
        self.true_s = DAY_S
        self.told: dict[tuple[str, date, date], Statement] = {}
        self.batches = self.blocks = self.events = 0
        with store.write() as connection:
            begin(connection, DAY_S)
            for name in NAMES:
                terms = TenantTerms(scheme=Scheme.PPS, fee_bps=250, payout_minimum_sat=0)
                add_tenant(connection, name, terms, by=f"{name}'s", now_s=DAY_S)
                number = NAMES.index(name) + 1
                set_container(connection, name, f"{name}-c", site="north", next_id=number, now_s=DAY_S)
                record_rate(connection, number, price(scheme=Scheme.PPS, block_fees_sat=0), 1, None, DAY_S)

    @property
    def now_s(self) -> int:
        """By a clock that is wrong now and then."""
        return self.true_s - self.dice.choice([0, 0, 0, 0, 600, 2 * 86_400])

    def time_goes_on(self, _: Connection) -> None:
        self.true_s += self.dice.choice([600, 3_600, 40_000])

    def somebody_mines(self, connection: Connection) -> None:
        tenant, minute = self.dice.choice((1, 2)), book_time(connection, self.now_s) // 60
        self.batches += 1
        tally = Tally(
            worker_id=self._machine(connection, tenant, minute * 60),
            rate_id=tenant,
            minute=minute,
            difficulty_log2=self.dice.choice((18, 24)),
            verdict=self.dice.choice((0, 0, 5)),
            shares=self.dice.randrange(1, 9_000),
        )
        assert record(connection, "pool", self.batches, [tally])

    def _machine(self, connection: Connection, tenant: int, now_s: int) -> int:
        """One that there is, or a new one."""
        name, known = NAMES[tenant - 1], connection.scalars(select(workers.c.id)).all()
        number = tenant + 2 * self.dice.randrange(5)
        machine = Machine(
            number=number,
            tenant_id=tenant,
            tenant=name,
            container_id=tenant,
            container=f"{name}-c",
            unit=f"{name}-{number}",
            agent=None,
            new=number not in known,
            new_container=False,
        )
        return rows_of(connection, [machine], now_s)[number]

    def hours_are_settled(self, connection: Connection) -> None:
        settle(connection, book_time(connection, self.now_s))

    def tallies_grow_old(self, connection: Connection) -> None:
        roll_up_minutes(connection, self.true_s)
        roll_up_hours(connection, self.true_s)

    def a_block_is_found(self, connection: Connection) -> None:
        now_s = self.now_s
        self.blocks += 1
        finder = self._machine(connection, self.dice.choice((1, 2)), now_s)
        block = Block(
            hash=f"{self.blocks:064x}", height=1, income_sat=10**8, worker_id=finder, found_at_s=now_s
        )
        record_block(connection, block, now_s)
        mark(connection, block.hash, self.dice.choice((Status.PENDING, Status.ORPHANED)), self.now_s)

    def energy_is_taken(self, connection: Connection) -> None:
        now_s = self.now_s
        while (hour := due_hour(connection, now_s)) is not None:
            take_next(connection, hour, self._drawn(), now_s)

    def energy_is_read_late(self, connection: Connection) -> None:
        hour = next_hour(connection) - self.dice.choice((1, 2, 25))
        if hour >= first_hour(connection):
            take_again(connection, hour, self._drawn(), self.now_s)

    def _drawn(self) -> list[ContainerEnergy]:
        return [
            ContainerEnergy(container_id=it, metered_j=self.dice.randrange(9 * KWH), estimated_j=KWH)
            for it in (1, 2)
            if self.dice.random() < 0.8
        ]

    def energy_has_a_price(self, connection: Connection) -> None:
        kind: dict[str, Any] = self.dice.choice(
            (
                {"kind": Kind.FIXED, "price_micro": 45_000},
                {"kind": Kind.TIERED, "tiers": {0: 30_000, 20: -60_000}},
            )
        )
        new = NewTariff(name="dam", currency="USD", source="contract", **kind)
        add_tariff(connection, new, by="olga", now_s=self.now_s)
        worth = NewExchange(currency="USD", sat=Fraction(10**4, 3), from_s=self.true_s, source="desk")
        add_exchange(connection, worth, by="olga", now_s=self.true_s)
        terms = HostingTerms(charge=self.dice.choice((Charge.TARIFF, Charge.NONE)), grid_operator_bps=2_500)
        set_terms(connection, self.dice.choice((1, 2)), terms, by="olga", now_s=self.now_s, from_s=None)

    def energy_is_charged(self, connection: Connection) -> None:
        after: Place | None = FIRST
        while after is not None:
            after = charge(connection, self.now_s, after).after
        collect(connection, self.now_s)

    def the_grid_pays(self, connection: Connection) -> None:
        self.events += 1
        event = Event(
            event_id=self.events,
            site="north",
            source="cli",
            reference=f"call {self.events}",
            asked_by="olga",
            from_s=self.true_s - 3_600,
            ended_at_s=self.true_s - BOOKED_AFTER_S,
            watts_asked=6_000,
        )
        parts = tuple(
            EventPart(
                tenant_id=it,
                machines=2,
                machines_off=2,
                off_s=3_600,
                watts_shed=3_000,
                joules_shed=3_000 * 3_600,
                difficulty=480 << 18,
                forgone_sat=self.dice.randrange(1, 9_999),
                forgone_psat=5,
                error_sat=9,
            )
            for it in (1, 2)
        )
        assert book_event(connection, EventBooks(event, parts), self.now_s)
        paid = NewPayment(
            event_id=self.events, reference="9", currency="SAT", amount_micro=10**10, basis=Basis.FORGONE
        )
        add_payment(connection, paid, by="olga", now_s=self.now_s)

    def happens(self) -> list[Callable[[Connection], None]]:
        often = [self.somebody_mines, self.time_goes_on, self.hours_are_settled, self.energy_is_charged]
        return [
            *often * 2,
            self.tallies_grow_old,
            self.a_block_is_found,
            self.energy_is_taken,
            self.energy_is_read_late,
            self.energy_has_a_price,
            self.the_grid_pays,
        ]

    # What is told

    def check(self) -> None:
        with self.store.read() as connection:
            over = latest_s(connection) // 86_400 - DAY_S // 86_400
            for (tenant, first, last), before in self.told.items():
                assert statement(connection, tenant, first, last) == before
            for tenant in NAMES if over else ():
                begins = self.dice.randrange(over)
                self._check_days(connection, tenant, begins, self.dice.randint(begins + 1, over))
            for number, tenant in enumerate(NAMES, 1):
                self._check_end(connection, tenant, number)

    def _check_days(self, connection: Connection, tenant: str, first: int, last: int) -> None:
        ends = [DAY + timedelta(days=it) for it in range(first, last + 1)]
        whole = statement(connection, tenant, ends[0], ends[-1])
        days = [statement(connection, tenant, a, b) for a, b in pairwise(ends)]
        self.told[tenant, ends[0], ends[-1]] = whole
        (other,) = set(NAMES) - {tenant}
        assert other.encode() not in msgspec.json.encode(whole)
        for name in SUMS:
            assert getattr(whole.money, name) == sum(getattr(it.money, name) for it in days), name
        for before, after in pairwise(days):
            assert before.money.closing_sat == after.money.opening_sat
        assert whole.work.total.accepted == sum(it.work.total.accepted for it in days)
        if (energy := whole.energy) is not None:
            parts = [it.energy for it in days if it.energy is not None]
            assert energy.charged_sat == sum(it.charged_sat for it in parts)
            assert energy.collected_sat == whole.money.energy_sat
            assert sum(it.tenant_sat for it in energy.payments) == whole.money.grid_sat

    def _check_end(self, connection: Connection, tenant: str, number: int) -> None:
        after = EPOCH + timedelta(days=latest_s(connection) // 86_400 + 1)
        it = statement(connection, tenant, DAY, after)
        owed = balance_sat(connection, payable(number)) + balance_sat(connection, in_payout(number))
        assert it.money.closing_sat == owed
        assert (0 if it.energy is None else it.energy.due_after_sat) == due_sat(connection, number)


@pytest.mark.sqlite_suffices
def test_what_tenants_are_told_in_any_order(store: Store) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    books = Books(store, random.Random(seed))
    for step in range(STEPS):
        try:
            with store.write() as connection:
                books.dice.choice(books.happens())(connection)
        except (LedgerError, BadTariff):
            pass  # refused, in words
        if step % 15 == 14:
            books.check()
    with store.read() as connection:
        assert audit(connection).wrong is None
