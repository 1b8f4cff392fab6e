"""Energy in the books while the pool runs: hours are taken once, charged and collected; events are booked."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction

import pytest
import trio
from sqlalchemy import Connection, func, select

from payouts.audit.verify import audit
from payouts.energy.charges import Due, Place, due
from payouts.energy.dues import due_sat
from payouts.energy.events import Event, EventMachine
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.hours import GRACE_S, ContainerEnergy
from payouts.energy.terms import Charge, HostingTerms, set_terms
from payouts.ledger import (
    Kind,
    PoolAccount,
    Transaction,
    Transfer,
    balances_sat,
    open_accounts,
    payable,
    post,
)
from payouts.ratebook import record_rate
from payouts.rates import Price, Scheme
from payouts.schemas.energy import booked_energy, booked_event_parts, energy_charges
from pool.books import energy_books
from pool.books.energy_books import KEEP_S, EnergyBooks
from pool.books.journal.positions import Position, write_position
from pool.books.store import Store
from tests.fixtures.databases import Crash, add_tenant, crash_before

HOUR = 497_000
HOUR_S = HOUR * 3600
ACME = 1
KWH = 3_600_000
PRICE = Price(nbits=0x17021A42, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.PPS)


class MeterReadLate:
    """Ten kWh an hour, and two more that are known an hour late; one curtailment."""

    def __init__(self) -> None:
        self.late: set[int] = set()
        self.over: list[int] = []

    def drawn(self, connection: Connection, hour: int) -> Sequence[ContainerEnergy]:
        kwh = 12 if hour in self.late else 10
        return [ContainerEnergy(container_id=ACME, metered_j=kwh * KWH, error_j=1)]

    def ended(self, connection: Connection, before_s: int) -> Sequence[int]:
        return self.over

    def event(self, connection: Connection, number: int) -> tuple[Event, Sequence[EventMachine]]:
        event = Event(
            event_id=number,
            site="north",
            source="cli",
            reference=f"call {number}",
            asked_by="olga",
            from_s=HOUR_S,
            ended_at_s=HOUR_S + 1800,
            watts_asked=3_000,
        )
        machine = EventMachine(
            worker_id=100,
            tenant_id=ACME,
            before_s=3600,
            before={18: 240},
            watts_before=3_500,
            watts_idle=100,
            off_from_s=HOUR_S,
        )
        return event, [machine]


class OverAtHalfPast(MeterReadLate):
    def ended(self, connection: Connection, before_s: int) -> Sequence[int]:
        return [3] if before_s >= HOUR_S + 1_800 else []


class Clock:
    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class Stage:
    def __init__(self, store: Store) -> None:
        self.store, self.power, self.clock = store, MeterReadLate(), Clock(HOUR_S - 1800)
        with store.write() as connection:
            add_tenant(connection, ACME, "acme")
            open_accounts(connection, ACME)
            record_rate(connection, ACME, PRICE, 900_000, None, HOUR_S - 86_400)
            fee = HostingTerms(charge=Charge.FEE, fee_micro=1_000_000, currency="USD")
            set_terms(connection, ACME, fee, by="olga", now_s=HOUR_S - 1800, from_s=None)
            transfers = (Transfer(PoolAccount.PPS_EXPENSE.value, payable(ACME), 25),)
            credit = Transaction(key="work", kind=Kind.ADJUSTMENT, memo="work", transfers=transfers)
            post(connection, credit, HOUR_S - 1800)
        self.keeper = self.started()

    def started(self) -> EnergyBooks:
        return EnergyBooks(self.store, self.power, wall_clock=self.clock)

    def worth(self, sat: int) -> None:
        with self.store.write() as connection:
            new = NewExchange(currency="USD", sat=Fraction(sat), from_s=HOUR_S - 1800, source="desk")
            add_exchange(connection, new, by="olga", now_s=int(self.clock()))

    def hours(self) -> list[tuple[int, int]]:
        with self.store.read() as connection:
            of = booked_energy.c
            rows = connection.execute(select(of.hour, of.part).order_by(of.hour, of.part))
            return [(row.hour - HOUR, row.part) for row in rows]

    def state(self) -> tuple[int, int, int, int]:
        """Charges, what is due, what is payable, and parts of events."""
        with self.store.read() as connection:
            checked = audit(connection)
            assert checked.wrong is None, checked.wrong
            charges = connection.scalar(select(func.count()).select_from(energy_charges)) or 0
            parts = connection.scalar(select(func.count()).select_from(booked_event_parts)) or 0
            return charges, due_sat(connection, ACME), balances_sat(connection)[payable(ACME)], parts


@pytest.mark.sqlite_suffices
async def test_an_hour_is_taken_a_quarter_after_its_end_charged_and_collected(store: Store) -> None:
    it = Stage(store)
    it.worth(1)
    await it.keeper.keep()
    assert it.hours() == []
    it.clock.now_s = HOUR_S + 3600 + GRACE_S
    await it.keeper.keep()
    await it.keeper.keep()
    assert (it.hours(), it.state()) == ([(0, 0)], (1, 0, 15, 0))
    it.power.late.add(HOUR)
    it.clock.now_s += 3600
    await it.keeper.keep()
    assert (it.hours(), it.state()) == ([(0, 0), (0, 1), (1, 0)], (3, 0, 3, 0))
    it.clock.now_s += 3600
    await it.keeper.keep()
    assert it.state() == (4, 7, 0, 0)


@pytest.mark.sqlite_suffices
async def test_a_pool_that_was_off_for_a_day_takes_every_hour_of_it(store: Store) -> None:
    it = Stage(store)
    it.worth(1)
    await it.keeper.keep()
    it.clock.now_s = HOUR_S + 24 * 3600 + GRACE_S
    await it.started().keep()
    assert it.hours() == [(hour, 0) for hour in range(24)]
    assert it.state() == (24, 240 - 25, 0, 0)


@pytest.mark.sqlite_suffices
async def test_what_has_no_price_is_told_once_and_charged_when_it_has(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    it = Stage(store)
    await it.keeper.keep()
    it.clock.now_s = HOUR_S + 3600 + GRACE_S
    for _ in range(3):
        await it.keeper.keep()
    assert capsys.readouterr().out.count("nobody has said what a USD was worth") == 1
    (told,) = it.keeper.unpriced or ()
    assert (told.tenant_id, told.hours, told.joules) == (ACME, 1, 10 * KWH)
    assert told.whys == ("nobody has said what a USD was worth",)
    it.worth(1)
    await it.keeper.keep()
    assert it.state() == (1, 0, 15, 0)
    assert it.keeper.unpriced == ()


@pytest.mark.sqlite_suffices
async def test_a_book_in_which_nothing_is_due_is_not_written(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was three write transactions every ten seconds, 18 a minute, each of which waits for the journal's
    fold: also where the energy of a year waits for a price, and a tenant owes what it cannot pay."""
    it = Stage(store)
    await it.keeper.keep()
    writes = 0
    write = Store.write

    def counted(store: Store) -> AbstractContextManager[Connection]:
        nonlocal writes
        writes += 1
        return write(store)

    monkeypatch.setattr(Store, "write", counted)

    async def writes_of_a_minute() -> int:
        nonlocal writes
        writes = 0
        for _ in range(round(60 / KEEP_S)):
            await it.keeper.keep()
        return writes

    assert await writes_of_a_minute() == 0
    it.clock.now_s = HOUR_S + 3600 + GRACE_S
    assert await writes_of_a_minute() == 1, "the hour is taken, and has no price"
    assert await writes_of_a_minute() == 0
    it.worth(1)
    assert await writes_of_a_minute() == 2, "it is charged, and collected"
    it.clock.now_s += 2 * 3600
    await writes_of_a_minute()
    assert it.state()[1] == 5, "more is due than there is"
    assert await writes_of_a_minute() == 0


@pytest.mark.sqlite_suffices
async def test_a_curtailment_that_is_over_is_booked_once(store: Store) -> None:
    it = Stage(store)
    it.power.over.append(3)
    for _ in range(2):
        await it.keeper.keep()
    assert it.state()[3] == 1
    with store.read() as connection:
        part = connection.execute(select(booked_event_parts)).one()
    assert part.forgone_sat == int(PRICE.credit_sat(Fraction(1 << 18), 120))


@pytest.mark.sqlite_suffices
async def test_a_curtailment_is_booked_once_when_the_books_have_every_minute_of_it(store: Store) -> None:
    """An edge that is minutes behind has shares of it: until those are in nobody knows what was forgone."""
    it = Stage(store)
    it.power = OverAtHalfPast()
    it.keeper, ended_s = it.started(), HOUR_S + 1_800
    booked = []
    for now_s, taken_s in (
        (ended_s + 960, ended_s - 60),
        (ended_s + 840, ended_s + 60),
        (ended_s + 960, ended_s + 60),
        (ended_s + 1_020, ended_s + 120),
    ):
        it.clock.now_s = now_s
        with store.write() as connection:
            write_position(connection, Position(writer="ab" * 16, moment_s=taken_s))
        await it.keeper.keep()
        with store.read() as connection:
            booked.append(connection.scalar(select(func.count()).select_from(booked_event_parts)))
    assert booked == [0, 0, 1, 1]


async def test_killed_between_any_two_steps_it_ends_as_if_nothing_had_been(store: Store) -> None:
    it = Stage(store)
    it.worth(1)
    await it.keeper.keep()
    it.power.over.append(3)
    it.power.late.add(HOUR)
    it.clock.now_s = HOUR_S + 3 * 3600 + GRACE_S
    killed = step = 0
    while True:
        try:
            with crash_before(step):
                await it.started().keep()
        except Crash:
            killed, step = killed + 1, step + 3
        else:
            break
    assert killed > 10
    assert it.hours() == [(0, 0), (1, 0), (2, 0)]
    assert it.state() == (3, 12 + 20 - 25, 0, 1)


@pytest.mark.sqlite_suffices
async def test_what_waits_for_a_price_is_gone_through_when_there_is_another_or_more_of_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.abc.Clock
) -> None:
    """It was every ten seconds: of a year of hours half a second each time."""
    walks = 0

    def counted(connection: Connection, after: Place) -> Due:
        nonlocal walks
        walks += 1
        return due(connection, after)

    monkeypatch.setattr(energy_books, "due", counted)
    it = Stage(store)

    async def walks_of(seconds: int) -> int:
        nonlocal walks
        walks = 0
        for _ in range(round(seconds / KEEP_S)):
            await it.keeper.keep()
            await trio.sleep(KEEP_S)
        return walks

    assert await walks_of(60) == 1, "nobody knows yet what waits"
    it.clock.now_s = HOUR_S + 3600 + GRACE_S
    assert await walks_of(600) == 1
    assert await walks_of(3_600) == 1
    it.clock.now_s += 3600
    assert await walks_of(600) == 1, "there is more of it"
    it.worth(1)
    assert await walks_of(60) == 1, "there is a price"
    assert it.state()[0] == 2


@pytest.mark.sqlite_suffices
async def test_it_goes_on_until_it_is_cancelled(store: Store, autojump_clock: trio.abc.Clock) -> None:
    it = Stage(store)
    it.worth(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.keeper.run)
        await trio.sleep(1)
        it.clock.now_s = HOUR_S + 3600 + GRACE_S
        while not it.hours():  # noqa: ASYNC110 - what is waited for is in a database
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
