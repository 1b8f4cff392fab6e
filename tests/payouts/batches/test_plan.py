"""Who would be paid now, who is held back, and why."""

import pytest
from sqlalchemy import select

import payouts.batches.plan
from payouts.batches.plan import Held
from payouts.batches.steps import draft
from payouts.energy.charges import charge
from payouts.energy.hours import ContainerEnergy, begin, take_next
from payouts.energy.terms import Charge, HostingTerms, set_terms
from payouts.schemas.money import containers
from pool.books.store import Store
from tests.stages.batches import ANN, Treasury
from tests.stages.payouts import NOW_S, PAYEES, add_tenant, credit, register, script_of, set_address


@pytest.fixture
def treasury(books: Store) -> Treasury:
    register(books)
    return Treasury(books)


def test_everybody_with_enough_is_paid_all_of_it(treasury: Treasury) -> None:
    planned = treasury.plan()
    assert [(it.tenant, it.address, it.amount_sat) for it in planned.items] == list(PAYEES)
    assert [it.script for it in planned.items] == [script_of(address) for _, address, _ in PAYEES]
    assert planned.held_back == ()


@pytest.mark.sqlite_suffices
def test_who_is_held_back_and_why(store: Store) -> None:
    good, other = PAYEES[0][1], PAYEES[1][1]
    with store.write() as connection:
        for number, (name, sat, address, options) in enumerate(
            (
                ("broke", 0, good, {}),
                ("suspended", 9_000, good, {"status": "suspended"}),
                ("homeless", 9_000, None, {}),
                ("moved", 9_000, good, {}),
                ("foreign", 9_000, "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", {}),
                ("poor", 9_000, good, {"minimum_sat": 9_001}),
                ("small", 999, good, {"minimum_sat": 0}),
                ("exact", 9_001, good, {"minimum_sat": 9_001}),
                ("dusty", 329, other, {"minimum_sat": 0}),
            ),
            1,
        ):
            assert add_tenant(connection, name, **options) == number  # type: ignore[arg-type]
            if address is not None:
                set_address(connection, number, address)
            if sat:
                credit(connection, number, sat, name)
        set_address(connection, 4, other, effective_at_s=NOW_S + 1)
    treasury = Treasury(store)
    planned = treasury.plan()
    assert [it.tenant for it in planned.items] == ["exact"]
    assert {it.tenant: it.reason for it in planned.held_back} == {
        "suspended": Held.SUSPENDED,
        "homeless": Held.NO_ADDRESS,
        "moved": Held.NEW_ADDRESS,
        "foreign": Held.BAD_ADDRESS,
        "poor": Held.BELOW_MINIMUM,
        "small": Held.BELOW_MINIMUM,
        "dusty": Held.BELOW_MINIMUM,
    }
    assert {it.tenant: it.reason for it in treasury.plan(minimum_sat=0).held_back}["dusty"] is Held.DUST
    later = treasury.plan(now_s=NOW_S + 1)
    assert {it.tenant: it.address for it in later.items}["moved"] == other


def test_a_full_batch_leaves_nobody_out_twice(treasury: Treasury, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payouts.batches.plan, "PAYEES_MAX", 2)
    planned = treasury.plan()
    assert [it.tenant for it in planned.items] == ["acme", "borealis"]
    assert [(it.tenant, it.reason) for it in planned.held_back] == [("cinder", Held.FULL)]
    treasury.do(draft, planned, ANN)
    with treasury.write() as connection:
        credit(connection, 1, 5_000, "more of acme")
        credit(connection, 2, 5_000, "more of borealis")
    assert [it.tenant for it in treasury.plan().items] == ["cinder", "acme"]


# Energy that is not paid


def charged(store: Store, tenant: int, kwh: int, charge_it: bool = True) -> None:
    """So many kWh at a satoshi each, drawn in the hour after NOW_S."""
    hour = NOW_S // 3600 + 1
    with store.write() as connection:
        begin(connection, NOW_S)
        fee = HostingTerms(charge=Charge.FEE, fee_micro=1_000_000, currency="SAT")
        set_terms(connection, tenant, fee, by="olga", now_s=NOW_S, from_s=None)
        box = connection.scalar(select(containers.c.id).where(containers.c.tenant_id == tenant))
        assert box is not None
        drawn = ContainerEnergy(container_id=box, metered_j=kwh * 3_600_000)
        take_next(connection, hour, [drawn], NOW_S + 7_200)
        if charge_it:
            charge(connection, NOW_S + 7_200)


def test_who_withdraws_before_his_energy_is_collected_is_paid_what_is_left(treasury: Treasury) -> None:
    """An hour's credit is there a minute after its end, its energy a quarter of an hour: he gains nothing."""
    name, _, sat = PAYEES[0]
    charged(treasury.store, 1, 1_000)
    planned = {it.tenant: it.amount_sat for it in treasury.plan().items}
    assert planned[name] == sat - 1_000


@pytest.mark.sqlite_suffices
def test_who_owes_more_than_the_rest_of_his_balance_waits(treasury: Treasury) -> None:
    name, _, sat = PAYEES[0]
    charged(treasury.store, 1, sat - 10)
    (held,) = treasury.plan().held_back
    assert (held.tenant, held.reason) == (name, Held.BELOW_MINIMUM)
    assert held.detail == f"1000 sat, and {sat - 10} sat are held back for energy"


@pytest.mark.sqlite_suffices
def test_who_was_never_charged_waits_until_his_energy_has_a_price(treasury: Treasury) -> None:
    charged(treasury.store, 1, 1_000, charge_it=False)
    (held,) = treasury.plan().held_back
    assert (held.reason, held.detail) == (Held.ENERGY, "1 hours")
