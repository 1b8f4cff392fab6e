"""An order that is billed: delivered, invoiced and paid by the functions that a pool uses."""

from typing import Any

from payouts.audit.verify import audit
from payouts.batches.rows import Act
from payouts.ledger import balance_sat
from payouts.sales.billing import Billing
from payouts.sales.invoices import issue
from payouts.sales.payments import Said, say_payment
from payouts.sales.standing import OrderStanding, standing, stopped_orders
from payouts.sales.terms import BillingTerms
from pool.orders.rows import load_orders
from tests.histories.orders import OrderHistory
from tests.histories.statements import DAY_S

LATER_S = DAY_S + 30 * 86_400
DAILY = BillingTerms(billing=Billing.DAILY, due_days=14)


class Sale(OrderHistory):
    """The order blue, billed; olga and dmitri are persons."""

    def say(self, by: str, at_s: int, what: Any, *args: Any) -> Said:
        with self.store.write() as connection:
            said: Said = what(connection, *args, Act(by, at_s))
            return said

    def pay(self, sat: int, reference: str, at_s: int = LATER_S) -> Said:
        """As both say."""
        for by in ("olga", "dmitri"):
            said = self.say(by, at_s, say_payment, self.blue.id, sat, reference, "received")
        return said

    def issue(self, until_s: int) -> int | None:
        with self.store.write() as connection:
            return issue(connection, self.blue.id, until_s, until_s)

    def standing(self, now_s: int) -> OrderStanding:
        with self.store.read() as connection:
            found = standing(connection, self.blue.id, now_s)
        assert found is not None
        return found

    def states(self, now_s: int) -> list[str]:
        return [it.state.value for it in self.standing(now_s).invoices]

    def stopped(self, now_s: int) -> bool:
        """As the allocator sees it."""
        with self.store.read() as connection:
            stopped = self.blue.id in stopped_orders(connection, now_s)
            assert stopped is (self.blue.id not in {it.id for it in load_orders(connection, now_s)})
        return stopped

    def balance(self, account: str) -> int:
        with self.store.read() as connection:
            return balance_sat(connection, account)

    def verified(self) -> None:
        with self.store.read() as connection:
            assert audit(connection).wrong is None
