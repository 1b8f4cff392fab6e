"""Who would be paid now, who is held back, and why."""

import pytest

import payouts.batches.plan
from payouts.batches.plan import Held
from payouts.batches.steps import draft
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
