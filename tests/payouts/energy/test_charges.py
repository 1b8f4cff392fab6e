"""Energy becomes what tenants owe: exactly, once, at the price of its hour, and never below nothing."""

import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError

import payouts.audit.energy
from payouts.audit.verify import audit
from payouts.book_time import book_time
from payouts.energy.charges import FIRST, LOOKED_MAX, EnergyCharge, Unpriced, charge
from payouts.energy.dues import COLLECTED_MAX, collect, collected, due_sat, dues_sat
from payouts.energy.exchange import NewExchange, add_exchange
from payouts.energy.held import HeldForEnergy, held_for_energy
from payouts.energy.hours import (
    GRACE_S,
    ContainerEnergy,
    begin,
    differs,
    due_hour,
    first_hour,
    next_hour,
    take_again,
    take_next,
)
from payouts.energy.tariffs import J_PER_KWH, Kind, NewTariff, add_tariff
from payouts.energy.terms import Charge, HostingTerms, set_terms
from payouts.ledger import Kind as Booking
from payouts.ledger import PoolAccount, Transaction, Transfer, balances_sat, open_accounts, payable, post
from payouts.rates import PSAT_PER_SAT
from payouts.reversals import reversible
from payouts.schemas.energy import booked_energy, energy_charges, energy_dues, energy_to_charge
from payouts.schemas.money import containers, ledger_transactions, sites
from pool.books.store import Store
from tests.fixtures.databases import Crash, add_tenant, crash_at, disarm

HOUR = 497_000
HOUR_S = HOUR * 3600
ACME, BOREALIS = 1, 2
NORTH = 1
DUE, INCOME = PoolAccount.ENERGY_DUE.value, PoolAccount.ENERGY_INCOME.value
KWH = J_PER_KWH


class Site:
    """Two tenants with a container each at one site, and a bookkeeper's steps by hand."""

    def __init__(self, store: Store) -> None:
        self.store = store
        with store.write() as connection:
            connection.execute(insert(sites).values(id=NORTH, name="north", created_at_s=0))
            for number, name in ((ACME, "acme"), (BOREALIS, "borealis")):
                add_tenant(connection, number, name)
                open_accounts(connection, number)
            connection.execute(update(containers).values(site_id=NORTH))
            begin(connection, HOUR_S - 3600)

    def agree(self, tenant: int = ACME, now_s: int = HOUR_S - 1800, **fields: Any) -> None:
        with self.store.write() as connection:
            set_terms(connection, tenant, HostingTerms(**fields), by="olga", now_s=now_s, from_s=None)

    def fee(self, micro: int, currency: str = "USD", tenant: int = ACME) -> None:
        self.agree(tenant, charge=Charge.FEE, fee_micro=micro, currency=currency)

    def tariff(self, **fields: Any) -> int:
        usual: dict[str, Any] = {"name": "dam", "kind": Kind.FIXED, "currency": "USD", "source": "contract"}
        with self.store.write() as connection:
            return add_tariff(connection, NewTariff(**(usual | fields)), by="olga", now_s=HOUR_S - 1800)

    def worth(self, sat: Fraction | int, from_s: int = HOUR_S - 1800, currency: str = "USD") -> None:
        new = NewExchange(currency=currency, sat=Fraction(sat), from_s=from_s, source="desk")
        with self.store.write() as connection:
            add_exchange(connection, new, by="olga", now_s=max(from_s, HOUR_S - 1800))

    def draw(self, hour: int, *drawn: ContainerEnergy, now_s: int | None = None) -> int:
        """The next hour, or one of before anew."""
        at_s = (hour + 1) * 3600 + GRACE_S if now_s is None else now_s
        with self.store.write() as connection:
            take = take_next if hour == next_hour(connection) else take_again
            return take(connection, hour, drawn, at_s)

    def charge(self, now_s: int = HOUR_S + 7200) -> tuple[list[EnergyCharge], list[Unpriced]]:
        charged: list[EnergyCharge] = []
        unpriced: list[Unpriced] = []
        after = FIRST
        while True:
            with self.store.write() as connection:
                looked = charge(connection, now_s, after)
            assert len(looked.charged) + len(looked.unpriced) <= LOOKED_MAX
            charged += looked.charged
            unpriced += looked.unpriced
            if looked.after is None:
                return charged, unpriced
            after = looked.after

    def collect(self, now_s: int = HOUR_S + 7200) -> int:
        count, after = 0, 0
        while True:
            with self.store.write() as connection:
                some, more = collect(connection, now_s, after)
            count += some
            if more is None:
                return count
            after = more

    def credit(self, amount_sat: int, tenant: int = ACME, now_s: int = HOUR_S) -> None:
        """What work earns."""
        with self.store.write() as connection:
            key = f"credit:{len(connection.scalars(select(ledger_transactions.c.seq)).all())}"
            transfers = (Transfer(PoolAccount.PPS_EXPENSE.value, payable(tenant), amount_sat),)
            made = Transaction(key=key, kind=Booking.ADJUSTMENT, memo="work", transfers=transfers)
            post(connection, made, now_s)

    def balances(self) -> dict[str, int]:
        with self.store.read() as connection:
            checked = audit(connection)
            assert checked.wrong is None, checked.wrong
            found = balances_sat(connection)
            assert sum(found.values()) == 0
            assert sum(dues_sat(connection).values()) == -found[DUE]
        return {account: sat for account, sat in found.items() if sat}

    def due(self, tenant: int = ACME) -> int:
        with self.store.read() as connection:
            return due_sat(connection, tenant)


def acme(kwh: int = 0, joules: int = 0, **more: int) -> ContainerEnergy:
    return ContainerEnergy(container_id=ACME, estimated_j=kwh * KWH + joules, **more)


@pytest.fixture
def site(store: Store) -> Iterator[Site]:
    made = Site(store)
    yield made
    made.balances()  # every test leaves books that an audit agrees with


# What is owed


@pytest.mark.sqlite_suffices
def test_an_hour_costs_its_joules_at_the_fee_floored_once(site: Site) -> None:
    site.fee(45_000)
    site.worth(Fraction(5_000, 3))
    site.draw(HOUR, acme(kwh=100, joules=1))
    (made,), unpriced = site.charge()
    exact = Fraction(100 * KWH + 1, KWH) * 45_000 * Fraction(5_000, 3) / 10**6
    assert unpriced == []
    assert made.amount_psat == exact * PSAT_PER_SAT // 1 == 7_500_000_020_833_333
    assert made.posted_sat == site.due() == 7_500
    assert site.balances() == {DUE: -7_500, INCOME: 7_500}


@pytest.mark.sqlite_suffices
def test_less_than_a_satoshi_is_carried_until_it_is_one(site: Site) -> None:
    site.fee(300_000, "SAT")  # 0.3 sat for a kWh
    due = []
    for hour in range(HOUR, HOUR + 8):
        site.draw(hour, acme(kwh=1))
        site.charge()
        due.append(site.due())
    assert due == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.sqlite_suffices
def test_a_tenant_without_terms_is_not_charged_and_one_with_new_terms_not_for_before(site: Site) -> None:
    site.draw(HOUR, acme(kwh=5), ContainerEnergy(container_id=BOREALIS, metered_j=7 * KWH))
    now_s = HOUR_S + 3600 + GRACE_S
    site.agree(charge=Charge.FEE, fee_micro=1_000_000, currency="SAT", now_s=now_s)
    for hour in (HOUR + 1, HOUR + 2):
        site.draw(hour, acme(kwh=5), ContainerEnergy(container_id=BOREALIS, metered_j=7 * KWH))
    charged, _ = site.charge()
    assert [(it.tenant_id, it.hour, it.posted_sat) for it in charged] == [(ACME, HOUR + 2, 5)]


@pytest.mark.sqlite_suffices
def test_the_sites_tariff_by_the_hour_is_passed_on_and_a_negative_price_is_paid_to_the_tenant(
    site: Site,
) -> None:
    site.agree(charge=Charge.TARIFF)
    site.tariff(kind=Kind.HOURLY, hours={HOUR: 2_000_000, HOUR + 1: -1_000_000}, currency="SAT")
    for hour in (HOUR, HOUR + 1):
        site.draw(hour, acme(kwh=10))
    site.charge()
    assert site.due() == 10
    site.draw(HOUR + 1, acme(kwh=50))
    site.charge()
    assert site.due() == -30
    assert site.collect() == 1
    assert site.balances() == {INCOME: -30, payable(ACME): 30}


@pytest.mark.sqlite_suffices
def test_the_tiers_of_a_month_are_filled_by_each_tenant_at_a_site(site: Site) -> None:
    for tenant in (ACME, BOREALIS):
        site.agree(tenant, charge=Charge.TARIFF)
    site.tariff(kind=Kind.TIERED, tiers={0: 1_000_000, 10: 3_000_000}, currency="SAT")
    for hour in range(HOUR, HOUR + 3):
        site.draw(hour, acme(kwh=6), ContainerEnergy(container_id=BOREALIS, metered_j=2 * KWH))
    charged, _ = site.charge()
    assert [it.posted_sat for it in charged if it.tenant_id == ACME] == [6, 4 + 2 * 3, 18]
    assert [it.posted_sat for it in charged if it.tenant_id == BOREALIS] == [2, 2, 2]
    there = ContainerEnergy(container_id=BOREALIS, metered_j=2 * KWH)
    site.draw(HOUR, acme(kwh=1), there)  # five less: they leave the tier that was reached
    ((back,), _) = site.charge()
    assert back.posted_sat == -15


# Prices that are missing


@pytest.mark.sqlite_suffices
def test_without_a_price_nothing_is_charged_it_is_said_and_charged_once_there_is_one(site: Site) -> None:
    site.agree(charge=Charge.TARIFF)
    site.draw(HOUR, acme(kwh=10))
    assert [it.why for it in site.charge()[1]] == ["its site has no tariff"]
    site.tariff(price_micro=100_000)
    assert [it.why for it in site.charge()[1]] == ["nobody has said what a USD was worth"]
    assert site.balances() == {}
    site.worth(1_000)
    charged, unpriced = site.charge()
    assert ([it.posted_sat for it in charged], unpriced) == ([1_000], [])
    assert site.charge() == ([], [])


@pytest.mark.sqlite_suffices
def test_hours_without_a_price_are_in_nobodys_way(site: Site) -> None:
    site.fee(1, "XAU")
    site.fee(1_000_000, "SAT", BOREALIS)
    for hour in range(HOUR, HOUR + 2 * LOOKED_MAX):
        site.draw(hour, acme(kwh=1), ContainerEnergy(container_id=BOREALIS, metered_j=KWH))
    charged, unpriced = site.charge()
    assert (len(charged), len(unpriced)) == (2 * LOOKED_MAX, 2 * LOOKED_MAX)
    assert site.due(BOREALIS) == 2 * LOOKED_MAX


# What is known better later


def test_a_late_reading_changes_an_hour_both_ways_at_the_price_of_then(site: Site) -> None:
    site.agree(charge=Charge.TARIFF)
    site.tariff(price_micro=1_000_000)
    site.worth(3)
    site.draw(HOUR, acme(kwh=10))
    site.charge()
    site.tariff(price_micro=9_000_000)
    site.worth(50)  # said later, for the same hour: it has its price
    parts = []
    for kwh, metered in ((12, 0), (4, 3), (0, 0), (10, 0)):
        assert site.draw(HOUR, acme(kwh=kwh, metered_j=metered * KWH)) == 1
        ((made,), _) = site.charge()
        parts.append((made.part, made.posted_sat))
    assert parts == [(1, 6), (2, -15), (3, -21), (4, 30)]
    assert site.due() == 30
    assert site.draw(HOUR, acme(kwh=10)) == 0
    with site.store.read() as connection:
        assert not differs(connection, HOUR, [acme(kwh=10)])
        assert differs(connection, HOUR, [acme(kwh=10, error_j=1)])
        assert differs(connection, HOUR, [])
        assert differs(connection, HOUR, [acme(kwh=10), ContainerEnergy(container_id=BOREALIS, metered_j=1)])


@pytest.mark.sqlite_suffices
def test_energy_that_moves_to_another_site_later_stays_where_it_was_drawn(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.draw(HOUR, acme(kwh=10))
    with site.store.write() as connection:
        connection.execute(update(containers).values(site_id=None))
    site.draw(HOUR, acme(kwh=12))
    site.draw(HOUR + 1, acme(kwh=1))
    charged, _ = site.charge()
    assert [(it.site_id, it.hour, it.posted_sat) for it in charged] == [(NORTH, HOUR, 12), (0, HOUR + 1, 1)]


@pytest.mark.sqlite_suffices
def test_an_hour_is_taken_when_it_is_over_for_a_quarter_and_once(site: Site) -> None:
    due_s = HOUR_S + 3600 + GRACE_S
    with site.store.read() as connection:
        assert [due_hour(connection, it) for it in (due_s - 1, due_s)] == [None, HOUR]
    assert site.draw(HOUR, acme(kwh=1)) == 1
    with site.store.write() as connection:
        begin(connection, due_s)
        assert (first_hour(connection), next_hour(connection)) == (HOUR, HOUR + 1)
        assert take_next(connection, HOUR, [acme(kwh=99)], due_s) == 0
    with pytest.raises(ValueError, match="less than nothing"):
        acme(kwh=-1)


@pytest.mark.sqlite_suffices
def test_nothing_of_before_the_books_began_is_taken(store: Store) -> None:
    with store.write() as connection:
        begin(connection, HOUR_S + 5)
        assert (next_hour(connection), due_hour(connection, HOUR_S + 3600)) == (HOUR + 1, None)


@pytest.mark.sqlite_suffices
def test_books_that_never_took_energy_begin_with_the_hour_that_comes(store: Store) -> None:
    with store.write() as connection:
        book_time(connection, HOUR_S + 5)
        assert first_hour(connection) == next_hour(connection) == HOUR + 1


# What cannot be paid


def test_what_cannot_be_paid_stays_due_and_later_credit_pays_it_first(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.draw(HOUR, acme(kwh=1_000))
    site.credit(300)
    site.charge()
    assert site.collect() == 1
    assert site.balances() == {PoolAccount.PPS_EXPENSE.value: -300, INCOME: 1_000, DUE: -700}
    assert site.collect() == 0
    site.credit(500)
    site.collect()
    assert site.due() == 200
    site.credit(500)
    site.collect()
    assert site.balances()[payable(ACME)] == 300
    assert site.due() == 0


@pytest.mark.sqlite_suffices
def test_a_tenant_whose_machines_draw_and_do_not_mine_owes_all_of_it(site: Site) -> None:
    """A day at 100 kW without a share: 2,400 kWh at 80 sat are due, not lost, and the pool's loss is told."""
    site.fee(80_000_000, "SAT")
    for hour in range(HOUR, HOUR + 24):
        site.draw(hour, ContainerEnergy(container_id=ACME, metered_j=100 * KWH))
    site.charge(HOUR_S + 30 * 3600)
    assert site.collect(HOUR_S + 30 * 3600) == 0
    assert (site.due(), site.balances()) == (192_000, {DUE: -192_000, INCOME: 192_000})


@pytest.mark.sqlite_suffices
def test_energy_that_was_paid_and_is_taken_back_is_given_back(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.credit(50)
    site.draw(HOUR, acme(kwh=40))
    site.charge()
    site.collect()
    site.draw(HOUR, acme(kwh=10))
    site.charge()
    assert site.due() == -30
    site.collect()
    assert (site.due(), site.balances()[payable(ACME)]) == (0, 40)


@pytest.mark.sqlite_suffices
def test_many_who_owe_are_collected_from_in_bounded_steps(store: Store) -> None:
    site = Site(store)
    tenants = range(3, 4 + COLLECTED_MAX)
    with store.write() as connection:
        for tenant in tenants:
            add_tenant(connection, tenant, f"t{tenant}")
            open_accounts(connection, tenant)
    for tenant in tenants:
        site.fee(1_000_000, "SAT", tenant)
        site.credit(5, tenant)
    site.draw(HOUR, *(ContainerEnergy(container_id=it, metered_j=2 * KWH) for it in tenants))
    site.charge()
    assert site.collect() == COLLECTED_MAX + 1
    assert {site.balances()[payable(it)] for it in tenants} == {3}


@pytest.mark.sqlite_suffices
def test_a_charge_is_not_reversed_by_hand(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.draw(HOUR, acme(kwh=1))
    site.charge()
    with site.store.read() as connection:
        assert "put the meter or the nameplate right" in str(reversible(connection, 1).refused)


# Faults


def test_killed_anywhere_every_joule_is_charged_once(store: Store) -> None:
    site = Site(store)
    site.fee(1_000_000, "SAT")
    site.credit(7)
    for statement in range(40):
        for step in (lambda: site.draw(HOUR, acme(kwh=10)), site.charge, site.collect):
            try:
                with crash_at(statement):
                    step()
            except Crash:
                pass
    site.draw(HOUR, acme(kwh=10))
    site.charge()
    site.collect()
    assert site.balances() == {PoolAccount.PPS_EXPENSE.value: -7, INCOME: 10, DUE: -3}


def test_what_is_booked_never_changes(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.draw(HOUR, acme(kwh=10))
    site.charge()
    for table in (booked_energy, energy_charges, energy_dues):
        with pytest.raises(DatabaseError, match="append-only"), site.store.write() as connection:
            connection.execute(delete(table))
    with pytest.raises(DatabaseError, match="only grows"), site.store.write() as connection:
        connection.execute(update(energy_to_charge).values(hour=HOUR + 1))


FORGERIES: dict[str, tuple[str, str]] = {
    "joules of a charge": ("UPDATE energy_charges SET joules = joules + 1", "energy_to_charge"),
    "joules that were drawn": (
        "UPDATE booked_energy SET estimated_j = 1 WHERE hour = 497000",
        "energy_to_charge",
    ),
    "a lost part": ("UPDATE booked_energy SET part = 9 WHERE part = 1", "booked_energy"),
    "drawn by nobody": ("DELETE FROM booked_energy WHERE hour = 497000", "energy_to_charge"),
    "not there to charge": ("DELETE FROM energy_to_charge WHERE hour = 497001", "energy_to_charge"),
    "charged of nobody": ("DELETE FROM energy_to_charge WHERE hour = 497000", "energy_to_charge"),
    "less is due": ("UPDATE energy_dues SET due_sat = 1 WHERE seq = 2", "energy_dues"),
    "a lost due": ("DELETE FROM energy_dues WHERE charge_seq IS NULL", "energy_dues"),
    "another price": ("UPDATE energy_charges SET tariff_id = 1 WHERE seq = 1", "energy_charges"),
    "another rate": ("UPDATE energy_charges SET exchange_id = 1", "energy_charges"),
    "the rate": ("UPDATE power_exchange SET sat_numerator = 1 WHERE id = 2", "energy_charges"),
    "a tariff that came first": ("UPDATE power_tariffs SET added_at_s = 0 WHERE id = 3", "energy_charges"),
    "the fee": ("UPDATE power_tariffs SET price_micro = 1", "energy_charges"),
    "terms of then": ("UPDATE hosting_terms SET from_s = from_s + 7200", "energy_to_charge"),
    "the amount": ("UPDATE energy_charges SET amount_psat = 5 WHERE seq = 1", "energy_charges"),
    "a lost charge": ("UPDATE energy_charges SET seq = 9 WHERE posted_sat = 0", "energy_charges"),
    "a first part at another price": (
        "UPDATE energy_charges SET tariff_id = 3 WHERE part = 1",
        "energy_charges",
    ),
    "a part of an hour": ("UPDATE energy_charges SET part = 2 WHERE part = 1", "energy_charges"),
    "another tenant's terms": ("UPDATE energy_charges SET terms_id = 2 WHERE seq = 1", "energy_charges"),
    "no rate": ("UPDATE energy_charges SET exchange_id = NULL WHERE seq = 1", "energy_charges"),
    "no tariff": ("UPDATE energy_charges SET tariff_id = NULL WHERE seq = 1", "energy_charges"),
    "a rate of another time": (
        "UPDATE power_exchange SET from_s = from_s - 864000 WHERE id = 2",
        "energy_charges",
    ),
    "a tariff without the hour": (
        "UPDATE power_tariffs SET kind = 'hourly', price_micro = NULL",
        "energy_charges",
    ),
    "a tariff of another time": ("UPDATE power_tariffs SET from_s = 4320000000", "energy_charges"),
    "what was collected": (
        "UPDATE energy_dues SET transaction_seq = 1 WHERE charge_seq IS NULL",
        "energy_dues",
    ),
    "a lost number": (
        "UPDATE energy_dues SET seq = 99 WHERE charge_seq = (SELECT MAX(charge_seq) FROM energy_dues)",
        "energy_dues",
    ),
    "a due without a charge": ("UPDATE energy_dues SET charge_seq = NULL WHERE seq = 1", "energy_charges"),
}


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("what", FORGERIES)
def test_an_audit_names_what_was_forged(store: Store, what: str) -> None:
    site = Site(store)
    site.agree(charge=Charge.TARIFF)
    site.agree(BOREALIS, charge=Charge.TARIFF)
    site.tariff(price_micro=1_000_000)
    site.tariff(price_micro=2_000_000)
    site.worth(2, HOUR_S - 3600)
    site.worth(3, HOUR_S - 1800)
    site.credit(10)
    site.draw(HOUR, acme(kwh=10))
    site.charge()
    site.tariff(price_micro=5_000_000)
    site.collect()
    site.draw(HOUR + 1, acme(kwh=1))
    site.draw(HOUR + 2, acme(joules=1))
    site.draw(HOUR, acme(kwh=11))
    with store.write() as connection:
        charge(connection, HOUR_S + 9_000)
    site.balances()
    sql, table = FORGERIES[what]
    with store.write() as connection:
        disarm(connection)
        connection.execute(text(sql))
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.table == table


@pytest.mark.sqlite_suffices
def test_an_audit_finds_that_more_was_collected_than_was_due(store: Store) -> None:
    site = Site(store)
    site.credit(10)
    with store.write() as connection:
        posted = post(connection, collected(ACME, 1, 5), HOUR_S)
        row = {"tenant_id": ACME, "charge_seq": None, "change_sat": -5, "due_sat": -5, "booked_at_s": HOUR_S}
        connection.execute(insert(energy_dues).values(transaction_seq=posted.seq, **row))
        wrong = audit(connection).wrong
    assert wrong is not None
    assert (wrong.table, wrong.reason) == ("energy_dues", "more was collected than was due")


@pytest.mark.sqlite_suffices
def test_an_audit_finds_what_is_due_in_the_ledger_alone(store: Store) -> None:
    Site(store)
    with store.write() as connection:
        transfers = (Transfer(DUE, INCOME, 5),)
        post(connection, Transaction(key="x", kind=Booking.ADJUSTMENT, memo="x", transfers=transfers), HOUR_S)
        wrong = audit(connection).wrong
    assert wrong is not None
    assert wrong.reason == "they are not what the ledger has as due"


@pytest.mark.sqlite_suffices
def test_an_audit_of_many_hours_forgets_their_prices(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payouts.audit.energy, "KEPT_MAX", 2)
    site.agree(charge=Charge.TARIFF)
    site.tariff(price_micro=1_000_000)
    site.worth(2)
    for hour in range(HOUR, HOUR + 4):
        site.draw(hour, acme(kwh=1))
    site.charge()
    assert site.balances()[INCOME] == 8


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("seed", range(12))
def test_whatever_comes_in_whatever_order_no_satoshi_is_invented(store: Store, seed: int) -> None:
    print("seed", seed)
    chance = random.Random(seed)
    site = Site(store)
    tiers = {0: 700_000, 5: -300_000, 9: 2_000_000}
    site.agree(charge=Charge.TARIFF)
    site.fee(1_234_567, "EUR", BOREALIS)
    site.tariff(kind=Kind.TIERED, tiers=tiers)
    site.worth(Fraction(chance.randrange(1, 10**6), chance.randrange(1, 10**3)))
    site.worth(Fraction(1, 3), currency="EUR")
    drawn: dict[tuple[int, int], int] = {}
    charged: list[EnergyCharge] = []
    given = 0
    for step in range(40):
        match chance.randrange(4):
            case 0 | 1:
                hour = HOUR + chance.randrange(5)
                with store.read() as connection:
                    hour = min(hour, next_hour(connection))
                for tenant in (ACME, BOREALIS):
                    drawn[hour, tenant] = chance.randrange(3 * KWH)
                rows = [
                    ContainerEnergy(container_id=it, metered_j=drawn[hour, it]) for it in (ACME, BOREALIS)
                ]
                site.draw(hour, *rows)
            case 2:
                charged += site.charge(HOUR_S + 7200 + step)[0]
            case 3:
                amount = chance.randrange(1, 2_000)
                given += amount
                site.credit(amount)
                site.collect(HOUR_S + 7200 + step)
    charged += site.charge()[0]
    site.collect()
    exact = sum((it.cost.sat for it in charged), Fraction(0))
    floored = sum(it.amount_psat for it in charged)
    assert 0 <= exact * PSAT_PER_SAT - floored < max(len(charged), 1)
    posted = sum(it.posted_sat for it in charged)
    balances = site.balances()
    assert balances.get(INCOME, 0) == posted
    owned = balances.get(payable(ACME), 0) + balances.get(payable(BOREALIS), 0)
    assert owned + balances.get(DUE, 0) == given - posted
    for tenant in (ACME, BOREALIS):
        total = sum(it.joules for it in charged if it.tenant_id == tenant)
        assert total == sum(joules for (_, who), joules in drawn.items() if who == tenant)


# What a payout holds back


@pytest.mark.sqlite_suffices
def test_a_payout_holds_back_what_is_due_and_what_is_drawn_and_not_charged(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.credit(100)
    site.draw(HOUR, acme(kwh=30))
    with site.store.read() as connection:
        assert held_for_energy(connection) == {ACME: HeldForEnergy(sat=0, unknown_hours=1)}
    site.charge()
    site.draw(HOUR + 1, acme(kwh=25, joules=1))
    with site.store.read() as connection:
        assert held_for_energy(connection) == {ACME: HeldForEnergy(sat=30 + 26)}
    site.charge()
    site.collect()
    with site.store.read() as connection:
        assert held_for_energy(connection) == {}


@pytest.mark.sqlite_suffices
def test_who_withdraws_behind_an_hour_that_cost_nothing_is_held_to_what_a_day_costs(site: Site) -> None:
    """A day at 80 sat a kWh but for its last hour, which is below nothing, and then a day of 100 kW of which
    nobody has said the price yet: at the last price he withdraws all, and owes it when it is said."""
    hours = {HOUR + at: 80_000_000 for at in range(23)} | {HOUR + 23: -5_000_000}
    site.tariff(kind=Kind.HOURLY, hours=hours, currency="SAT")
    site.agree(charge=Charge.TARIFF)
    for at in range(48):
        site.draw(HOUR + at, acme(kwh=100))
    _, unpriced = site.charge(HOUR_S + 48 * 3_600 + GRACE_S)
    assert len(unpriced) == 24
    site.credit(400_000)
    site.collect()
    with site.store.read() as connection:
        held = held_for_energy(connection)[ACME].sat
    assert held == 23 * 8_000 - 500  # as much as a day cost; nothing before


@pytest.mark.sqlite_suffices
def test_energy_that_is_to_be_taken_back_holds_nothing_back(site: Site) -> None:
    site.fee(1_000_000, "SAT")
    site.draw(HOUR, acme(kwh=30))
    site.charge()
    site.draw(HOUR, acme(kwh=10))
    with site.store.read() as connection:
        assert held_for_energy(connection) == {ACME: HeldForEnergy(sat=30)}
