"""What buyers owe, as commands: who is a second person, and whose an address is after a restore."""

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from payouts.ledger import balance_sat, payable
from payouts.sales.billing import Billing
from payouts.sales.deposits import FORGOTTEN_MAX
from payouts.sales.terms import BillingTerms
from pool.admin.commands import execute
from pool.admin.desk import Desk
from pool.books.copies.restores import note_restore
from pool.books.store import Store
from pool.fleet.rows import RegistryError
from pool.orders.rows import add_order
from pool.people.roles import Caller, Role
from pool.requests.policy import Approval
from pool.upstreams.rows import add_upstream
from tests.fakes.treasuries import agreeing
from tests.fixtures.databases import store_in
from tests.histories.orders import new_order, new_upstream
from tests.stages.payouts import NOW_S, PAYEES, register
from tests.stages.people import add_user, give, user

ADA, BOB, PA = user("ada", 1, Role.ADMIN), user("bob", 2), user("pa", 3)
ORDERS: Final = ("blue", "green")
SAT: Final = 100_000_000


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Two orders of one buyer, and who may pay: ada and bob, and pa, whom ada made alone."""
    monkeypatch.setattr("time.time", lambda: NOW_S + 60.0)
    with closing(store_in(tmp_path)) as opened:
        register(opened, PAYEES[:1])
        with opened.write() as connection:
            add_upstream(connection, new_upstream(), by="ann", now_s=NOW_S)
            billed = BillingTerms(billing=Billing.DAILY)
            for name in ORDERS:
                sold = new_order(name, tenants=("acme",), from_s=NOW_S, until_s=NOW_S + 3_600, billing=billed)
                add_order(connection, sold, by="ann", now_s=NOW_S)
        for name, role in (("ada", "admin"), ("bob", "payer")):
            add_user(opened, name, role)
        give(opened, "user.add", {"name": "pa", "role": "payer"}, ADA)
        yield opened


def run(store: Store, command: str, caller: Caller, /, **params: Any) -> Any:
    desk = Desk(store, "regtest", None, agreeing(), Approval(people=2))
    return execute(desk, command, msgspec.json.encode(params), caller)


def test_an_admin_and_his_puppet_book_no_payment_and_give_nothing_back(store: Store) -> None:
    """A friend's order was paid by nobody, and what was paid too much is a tenant's of his: 1 BTC before, as
    often as they say so; now 0 sat."""
    pay = partial(run, store, "order.payment", name="blue", sat=SAT, reference="wire 7", why="received")
    back = partial(run, store, "order.refund", name="blue", sat=SAT, tenant="acme", why="paid twice")
    assert [pay(caller)["entry"] for caller in (ADA, PA, ADA)] == [None, None, None]
    with pytest.raises(RegistryError, match="was paid 0 satoshi more than is owed"):
        back(ADA)
    assert pay(BOB)["entry"] == 1, "bob is somebody else"
    assert [back(caller)["entry"] for caller in (PA, ADA)] == [None, None]
    with store.read() as connection:
        assert balance_sat(connection, payable(1)) == PAYEES[0][2]


def test_an_address_that_an_order_was_given_which_a_backup_forgot_is_no_other_orders(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A buyer who asks for an address first, behind a restore, had all that the forgotten buyer pays to his;
    now 0 sat."""
    forgotten = agreeing().deposit_address(0)[0]
    with store.write() as connection:
        note_restore(connection, "root", {}, NOW_S)
    monkeypatch.setattr("time.time", lambda: NOW_S + 120.0)
    given = [run(store, "order.address", BOB, name=name) for name in ORDERS]
    assert [it["position"] for it in given] == [FORGOTTEN_MAX, FORGOTTEN_MAX + 1]
    assert forgotten not in [it["address"] for it in given]
    assert run(store, "order.address", BOB, name="blue") == given[0]
