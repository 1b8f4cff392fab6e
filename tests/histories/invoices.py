"""An order with two invoices, signed with the first key."""

from payouts.receipts.making_good import MakeGood, Tolerance
from payouts.sales.billing import Billing
from payouts.sales.deposits import give_address
from payouts.sales.invoices import Invoice, invoice, issue, proof_of
from payouts.sales.terms import BillingTerms
from pool.books.store import Store
from pool.reports.document import Document
from pool.reports.invoice_document import invoice_document
from tests.histories.orders import HOUR_S
from tests.histories.proof import KEY
from tests.histories.receipts import ClosedOrder
from tests.histories.statements import DAY_S

ADDRESS = "bcrt1q6rz28mcfaxtmd6v789l9rrlrusdprr9pz3cppk"


class Invoiced(ClosedOrder):
    """Five hours from 22:00 on that make good what is missing: two in an invoice, and the others, with what
    came late of the first, in a second one with an address of the order's."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            store,
            make_good=MakeGood.CREDIT,
            tolerances=(Tolerance(500, 1),),
            billing=BillingTerms(billing=Billing.DAILY, due_days=1),
            from_s=DAY_S + 22 * HOUR_S,
            until_s=DAY_S + 27 * HOUR_S,
        )
        self.first = self.delivered(24, (22, 800), (23, 480))
        with self.store.write() as connection:
            derived = (ADDRESS, b"\x00\x14" + bytes(20))
            give_address(connection, self.blue.id, lambda _: derived, by="ann", now_s=DAY_S + 24 * HOUR_S)
        self.mine(self.acme, 60 * 23 + 5, 100, log2=20)
        self.second = self.delivered(28, (24, 900), (25, 700), (26, 390))

    def delivered(self, until: int, *hours: tuple[int, int]) -> Document:
        for hour, shares in hours:
            self.mine(self.acme, 60 * hour + 1, shares, log2=20)
            self.judged(hour, "accepted", shares)
        until_s = DAY_S + until * HOUR_S
        self.settle(until_s + 90)
        self.close(until)
        with self.store.write() as connection:
            number = issue(connection, self.blue.id, until_s, until_s)
            assert number is not None
            found: Invoice = invoice(connection, number)
        return invoice_document(found, proof_of(found, KEY))
