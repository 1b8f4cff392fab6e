"""A curtailment that is over: what it forwent, by the exact price of the work of before, and what the grid
paid."""

import random
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from math import isqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, text

from payouts.audit.verify import audit
from payouts.energy.events import Event, EventBooks, EventMachine, book_event, books_of, unbooked
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.forgone import Mined, Off, accrues, forgone
from payouts.energy.grid import Basis, NewPayment, add_payment, divided, parts_of, payments_of
from payouts.energy.tariffs import BadTariff
from payouts.energy.terms import HostingTerms, set_terms
from payouts.ledger import PoolAccount, balances_sat, open_accounts, payable
from payouts.ratebook import WorkSource, record_rate
from payouts.rates import BPS, Price, Scheme
from payouts.schemas.energy import booked_event_parts
from payouts.tallies import Tally, record, roll_up_minutes
from pool.books.store import Store
from tests.fixtures.databases import Crash, add_tenant, crash_at, disarm

START_S = 1_789_200_000  # an hour begins
END_S = START_S + 7_200
DAY_S = 86_400
PRICE = Price(nbits=0x17021A42, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.PPS)
DEARER = Price(nbits=0x17011A42, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.PPS)
SHARE = PRICE.credit_sat(Fraction(1 << 18), 1)
ACME, BOREALIS = 1, 2
EVENT = Event(
    event_id=7,
    site="north",
    source="cli",
    reference="call 12",
    asked_by="olga",
    from_s=START_S,
    ended_at_s=END_S,
    watts_asked=6_000,
)


def off(**fields: Any) -> Off:
    """240 shares in the hour before, off for an hour that ends with the event's."""
    usual: dict[str, Any] = {
        "before_s": 3_600,
        "before": {18: 240},
        "from_s": START_S,
        "until_s": START_S + 3_600,
    }
    return Off(**(usual | {"marked": 0} | fields))


# One machine


def test_an_hour_off_forgoes_the_price_of_the_hour_before() -> None:
    found = forgone(off(), [(START_S - 9, PRICE)])
    assert found.sat == SHARE * 240
    assert found.difficulty == 240 << 18
    assert found.off_s == 3_600


def test_each_second_has_its_own_price_and_the_first_one_holds_before_it_too() -> None:
    prices = [(START_S + 5, PRICE), (START_S + 900, DEARER), (START_S + 9_000, PRICE)]
    found = forgone(off(), prices)
    dear = DEARER.credit_sat(Fraction(1 << 18), 1)
    assert found.sat == SHARE * 60 + dear * 180


def test_the_first_share_after_marks_an_end_one_mean_interval_too_late() -> None:
    """Of a machine with a share in five minutes that is a twelfth of an hour."""
    assert forgone(off(marked=1), [(0, PRICE)]).sat == SHARE * 239
    assert forgone(off(before={18: 12}, marked=1), [(0, PRICE)]).sat == SHARE * 11
    assert forgone(off(before={18: 1}, marked=2), [(0, PRICE)]).sat == 0


def test_what_it_mined_all_the_same_is_subtracted_to_nothing_at_the_least() -> None:
    mined = [Mined(START_S + 60, 18, Fraction(40)), Mined(START_S + 120, 19, Fraction(1, 2))]
    found = forgone(off(), [(0, PRICE)], mined)
    assert found.sat == SHARE * (240 - 41)
    assert found.difficulty == 199 << 18
    assert found.off_s == 3_600 * Fraction(199, 240)
    assert forgone(off(), [(0, PRICE)], [Mined(START_S, 18, Fraction(999))]).sat == 0


@pytest.mark.parametrize("nothing", [{"before": {}}, {"until_s": START_S}])
def test_who_did_nothing_before_or_was_not_off_forgoes_nothing(nothing: dict[str, Any]) -> None:
    assert forgone(off(**nothing), [(0, PRICE)]).sat == 0
    assert forgone(off(), []).sat == 0


def test_work_that_accrues_nothing_is_worth_the_pools_own_price() -> None:
    solo = Price(
        nbits=PRICE.nbits, subsidy_sat=312_500_000, block_fees_sat=0, fee_bps=200, scheme=Scheme.SOLO
    )
    assert forgone(off(), [(0, accrues(solo))]).sat == SHARE * 240
    assert accrues(PRICE) is PRICE


def test_of_a_site_the_error_that_is_stated_holds_what_chance_does() -> None:
    """5,600 machines of 14 shares an hour each, off for exactly an hour: what is forgone is the exact price
    of what they would have done, and the stated error is under two percent."""
    seed = 20261127
    print("seed", seed)
    chance = random.Random(seed)
    prices = [(0, PRICE)]
    total = forgone(off(before={}), prices)
    for _ in range(5_600):
        a_second = 14 / 3_600
        before, at_s = 0, chance.expovariate(a_second)
        while at_s < 3_600:
            before, at_s = before + 1, at_s + chance.expovariate(a_second)
        back_s = START_S + 3_600 + chance.expovariate(a_second)  # the first share after it runs again
        total = total.plus(forgone(off(before={18: before}, until_s=int(back_s), marked=1), prices))
    exact = SHARE * 14 * 5_600
    assert abs(total.sat - exact) <= total.error_sat
    assert total.error_sat * 50 < exact


def test_machines_that_all_stop_some_seconds_late_are_within_the_error_however_many_they_are() -> None:
    """4,000 machines of a share in ten seconds, off for a quarter of an hour: each stops up to ten seconds
    after it was told, and counts as off from then, or from its last share."""
    seed = 20261127
    print("seed", seed)
    chance, prices, until_s = random.Random(seed), [(0, PRICE)], START_S + 900
    total = forgone(off(before={}), prices)
    exact = Fraction(0)
    for _ in range(4_000):
        stops_s = chance.uniform(1, 10)
        last_s = stops_s - chance.expovariate(0.1)
        before = {18: round(chance.gauss(360, 360**0.5))}
        total = total.plus(
            forgone(
                off(before=before, from_s=START_S + int(max(last_s, 0)), until_s=until_s, marked=0), prices
            )
        )
        exact += SHARE * Fraction(900 - stops_s) / 10
    chance_alone = isqrt(int(total.variance) * 9)
    assert chance_alone < total.sat - exact < total.error_sat
    assert total.error_sat * 50 < exact


# In the books


class Grid:
    """Two tenants with two machines each, that mined 240 shares an hour."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write() as connection:
            for number, name in ((ACME, "acme"), (BOREALIS, "borealis")):
                add_tenant(connection, number, name)
                open_accounts(connection, number)
        self.batches = 0

    def rate(self, tenant: int, price: Price, at_s: int = START_S - DAY_S, **source: Any) -> int:
        with self.store.write() as connection:
            return record_rate(
                connection, tenant, price, 900_000, None, at_s, WorkSource(**source), noted=True
            )

    def mine(self, rate: int, worker: int, at_s: int, shares: int, *, difficulty_log2: int = 18) -> None:
        tally = Tally(
            worker_id=worker,
            rate_id=rate,
            minute=at_s // 60,
            difficulty_log2=difficulty_log2,
            verdict=0,
            shares=shares,
        )
        self.batches += 1
        with self.store.write() as connection:
            assert record(connection, "pool", self.batches, [tally])

    def books(self, *machines: EventMachine, event: Event = EVENT) -> EventBooks:
        with self.store.read() as connection:
            return books_of(connection, event, machines)

    def book(self, *machines: EventMachine, event: Event = EVENT) -> EventBooks:
        books = self.books(*machines, event=event)
        with self.store.write() as connection:
            assert book_event(connection, books, END_S + 900)
            assert not book_event(connection, books, END_S + 901)
        return books

    def pay(self, sat: int, reference: str = "invoice 9", **fields: Any) -> Any:
        usual: dict[str, Any] = {"event_id": 7, "currency": "SAT", "amount_micro": sat * 10**6}
        new = NewPayment(reference=reference, **(usual | fields))
        with self.store.write() as connection:
            return add_payment(connection, new, by="olga", now_s=END_S + DAY_S)

    def balances(self) -> dict[str, int]:
        with self.store.read() as connection:
            checked = audit(connection)
            assert checked.wrong is None, checked.wrong
            return {account: sat for account, sat in balances_sat(connection).items() if sat}


def machine(worker: int, **fields: Any) -> EventMachine:
    usual: dict[str, Any] = {
        "tenant_id": worker // 100,
        "before_s": 3_600,
        "before": {18: 240},
        "watts_before": 3_500,
        "watts_idle": 100,
        "off_from_s": START_S,
        "off_until_s": START_S + 3_600,
        "came_back": False,
    }
    return EventMachine(worker_id=worker, **(usual | fields))


@pytest.fixture
def grid(store: Store) -> Iterator[Grid]:
    made = Grid(store)
    yield made
    made.balances()


@pytest.mark.sqlite_suffices
def test_a_tenants_machines_are_one_sum_by_its_own_prices(grid: Grid) -> None:
    grid.rate(ACME, PRICE)
    grid.rate(ACME, DEARER, START_S + 1_800)
    grid.rate(BOREALIS, PRICE)
    acme, borealis = grid.book(machine(100), machine(101, off_from_s=None), machine(200)).parts
    dear = DEARER.credit_sat(Fraction(1 << 18), 1)
    assert acme.forgone_sat == int(SHARE * 120 + dear * 120)
    assert borealis.forgone_sat == int(SHARE * 240)
    assert (acme.machines, acme.machines_off, acme.off_s) == (2, 1, 3_600)
    assert (acme.watts_shed, acme.joules_shed) == (3_400, 3_400 * 3_600)
    assert acme.difficulty == 240 << 18
    with grid.store.read() as connection:
        assert unbooked(connection, [6, 7, 8]) == [6, 8]


@pytest.mark.sqlite_suffices
def test_a_tenant_that_the_pool_never_priced_is_paid_as_others_are(grid: Grid) -> None:
    grid.rate(ACME, PRICE)
    (part,) = grid.books(machine(200)).parts
    assert part.forgone_sat == int(SHARE * 240)
    assert grid.books(machine(200), event=EVENT).parts == (part,)


@pytest.mark.sqlite_suffices
def test_without_any_price_it_is_booked_that_nothing_is_known(grid: Grid) -> None:
    (part,) = grid.books(machine(100)).parts
    assert (part.forgone_sat, part.machines_off) == (0, 0)
    assert grid.books().parts == ()


@pytest.mark.sqlite_suffices
def test_a_liar_forgoes_nothing_while_it_mines_whatever_it_answered(grid: Grid) -> None:
    """It said yes, paused for a moment and went on: 239 of 240 shares are mined all the same, and old hours
    tell it as well as young minutes."""
    rate = grid.rate(ACME, PRICE)
    for minute in range(1, 59):
        grid.mine(rate, 100, START_S + minute * 60, 4)
    grid.mine(rate, 101, START_S, 99)  # of the minute that it was off from: not within
    liar, honest = machine(100), machine(101)
    young = grid.books(liar, honest)
    assert young.parts[0].forgone_sat == int(SHARE * (240 - 58 * 4) + SHARE * 240)
    with grid.store.write() as connection:
        while roll_up_minutes(connection, END_S + DAY_S):
            pass
    assert grid.books(liar, honest).parts == young.parts


@pytest.mark.sqlite_suffices
def test_an_event_is_over_for_who_never_came_back_and_for_who_stays_away(grid: Grid) -> None:
    """Who keeps his machines off after the restore is counted to the event's end, and no further."""
    grid.rate(ACME, PRICE)
    lost, late = machine(100, off_until_s=None), machine(101, off_until_s=END_S + DAY_S, came_back=True)
    (part,) = grid.books(lost, late).parts
    assert part.off_s == 2 * 7_200
    early = machine(100, off_from_s=START_S - 500)
    assert grid.books(early).parts[0].off_s == 3_600
    assert grid.books(machine(100, off_from_s=END_S, off_until_s=None)).parts[0].machines_off == 0


@pytest.mark.sqlite_suffices
def test_who_chooses_few_and_hard_shares_is_not_off_for_longer(grid: Grid) -> None:
    """A share in five minutes, not in 15 s: its first one after is later by as much, and it gains nothing."""
    grid.rate(ACME, PRICE)
    grid.rate(BOREALIS, PRICE)
    hard = machine(100, before={22: 12}, off_until_s=START_S + 3_600 + 300, came_back=True)
    usual = machine(200, before={18: 192}, off_until_s=START_S + 3_600 + 19, came_back=True)
    acme, borealis = grid.books(hard, usual).parts
    assert abs(acme.forgone_sat - borealis.forgone_sat) * 500 < borealis.forgone_sat
    assert acme.error_sat > 3 * borealis.error_sat


def test_silence_that_is_chance_forgoes_nothing() -> None:
    """By six shares of the hour before a machine that mines on is silent for an hour once in 64 times."""
    assert forgone(off(before={23: 6}), [(0, PRICE)]) == forgone(off(before={}), [(0, PRICE)])
    assert forgone(off(before={23: 6}, until_s=START_S + 4_200), [(0, PRICE)]).off_s == 4_200
    easy = {0: 10**9}
    assert forgone(off(before=easy, until_s=START_S + 60), [(0, PRICE)]).off_s == 60


# What the grid paid


@pytest.mark.sqlite_suffices
def test_a_payment_is_divided_by_what_was_forgone_and_the_operator_keeps_its_part(grid: Grid) -> None:
    with grid.store.write() as connection:
        set_terms(
            connection,
            ACME,
            HostingTerms(grid_operator_bps=2_500),
            by="olga",
            now_s=START_S - DAY_S,
            from_s=None,
        )
    grid.rate(ACME, PRICE)
    grid.rate(BOREALIS, PRICE)
    grid.book(machine(100), machine(101), machine(200))
    paid = grid.pay(10_001)
    assert [(it.tenant_sat, it.operator_sat) for it in paid.parts] == [(5_001, 1_666), (3_334, 0)]
    assert grid.balances() == {
        PoolAccount.GRID_RECEIVED.value: -10_001,
        PoolAccount.GRID_INCOME.value: 1_666,
        payable(ACME): 5_001,
        payable(BOREALIS): 3_334,
    }
    assert grid.pay(10_001) == paid  # the same once more
    assert grid.balances()[payable(ACME)] == 5_001
    with pytest.raises(BadTariff, match="booked already"):
        grid.pay(10_002)
    again = grid.pay(5, "invoice 10", basis=Basis.SHED)
    with grid.store.read() as connection:
        assert payments_of(connection, 7) == (paid, again)


@pytest.mark.sqlite_suffices
def test_a_payment_in_money_is_worth_what_it_is_when_it_is_booked(grid: Grid) -> None:
    grid.rate(ACME, PRICE)
    grid.book(machine(100))
    with pytest.raises(BadTariff, match="nobody has said what a EUR is worth"):
        grid.pay(0, currency="EUR", amount_micro=125_500_000)
    with grid.store.write() as connection:
        new = NewExchange(currency="EUR", sat=Fraction(1_000, 3), from_s=END_S, source="desk")
        add_exchange(connection, new, by="olga", now_s=END_S + DAY_S)
    assert grid.pay(0, currency="EUR", amount_micro=125_500_000).amount_sat == 41_833
    with pytest.raises(BadTariff, match="cannot be booked"):
        grid.pay(0, "dust", currency="EUR", amount_micro=1)


@pytest.mark.sqlite_suffices
def test_there_is_nothing_to_divide_without_an_event_or_a_machine_that_was_off(grid: Grid) -> None:
    with pytest.raises(BadTariff, match="not in the books"):
        grid.pay(5)
    grid.book(machine(100, off_from_s=None))
    with pytest.raises(BadTariff, match="nobody to divide"):
        grid.pay(5)
    for wrong in ({"amount_micro": 0}, {"currency": "x"}, {"reference": ""}):
        with pytest.raises(BadTariff):
            NewPayment(**({"event_id": 7, "reference": "x", "currency": "SAT", "amount_micro": 1} | wrong))  # type: ignore[arg-type]


def test_a_payment_that_is_killed_anywhere_is_booked_once(grid: Grid) -> None:
    grid.rate(ACME, PRICE)
    grid.book(machine(100), machine(200))
    for statement in range(30):
        try:
            with crash_at(statement):
                grid.pay(1_000)
        except Crash:
            pass
    grid.pay(1_000)
    balances = grid.balances()
    assert balances[payable(ACME)] + balances[payable(BOREALIS)] == 1_000


@given(
    st.integers(0, 10**12),
    st.dictionaries(st.integers(1, 50), st.integers(0, 10**20), min_size=1).filter(
        lambda it: sum(it.values())
    ),
    st.integers(0, BPS),
)
def test_the_parts_are_the_payment_to_the_satoshi(sat: int, weights: dict[int, int], bps: int) -> None:
    parts = parts_of(sat, weights, dict.fromkeys(weights, bps))
    assert sum(it.tenant_sat + it.operator_sat for it in parts) == sat
    for it in parts:
        exact = Fraction(sat * weights[it.tenant_id], sum(weights.values()))
        assert abs(it.tenant_sat + it.operator_sat - exact) < 1
        assert it.operator_sat == (it.tenant_sat + it.operator_sat) * bps // BPS
    zero = [it for it, weight in weights.items() if weight == 0]
    assert Counter(it.tenant_id for it in parts if it.tenant_id in zero) == Counter(zero)
    assert divided(sat, weights) == {it.tenant_id: it.tenant_sat + it.operator_sat for it in parts}


FORGERIES = {
    "the amount": "UPDATE grid_payments SET amount_sat = 9, amount_micro = 9000000",
    "the worth": "UPDATE grid_payments SET amount_micro = 9000000",
    "a part": "UPDATE grid_payment_parts SET tenant_sat = tenant_sat + 1",
    "the operator's part": "UPDATE grid_payment_parts SET operator_bps = 100",
    "the weights": "UPDATE booked_event_parts SET forgone_sat = forgone_sat * 2 WHERE tenant_id = 1",
    "no weights": "UPDATE booked_event_parts SET forgone_sat = 0, forgone_psat = 0",
    "the event's day": "UPDATE booked_events SET from_s = from_s - 86400",
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("what", FORGERIES)
def test_an_audit_names_a_payment_that_was_forged(store: Store, what: str) -> None:
    grid = Grid(store)
    grid.rate(ACME, PRICE)
    grid.book(machine(100), machine(200))
    grid.pay(1_000)
    grid.balances()
    with store.write() as connection:
        disarm(connection)
        connection.execute(text(FORGERIES[what]))
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.table == "grid_payments"


@pytest.mark.sqlite_suffices
def test_an_audit_finds_a_payment_in_the_ledger_without_an_event(store: Store) -> None:
    grid = Grid(store)
    grid.rate(ACME, PRICE)
    grid.book(machine(100))
    grid.pay(1_000)
    with store.write() as connection:
        disarm(connection)
        for table in ("grid_payment_parts", "grid_payments"):
            connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - names of ours
        wrong = audit(connection).wrong
        assert connection.scalars(select(booked_event_parts.c.tenant_id)).all() == [ACME]
    assert wrong is not None
    assert wrong.table == "ledger_transactions"
