"""What buyers owe together, by how long it is due: all of it once, and to the satoshi what the ledger has."""

import random

import msgspec

from payouts.sales.billing import Billing
from payouts.sales.receivables import Age, Receivables, receivables
from payouts.sales.standing import InvoiceStanding, InvoiceState, OrderStanding
from payouts.sales.terms import DAY_S, BillingTerms

NOW_S = 1_000 * DAY_S
INVOICE = InvoiceStanding(
    number=1,
    order_id=1,
    from_s=0,
    to_s=1,
    amount_sat=100,
    issued_at_s=2,
    due_at_s=NOW_S,
    paid_sat=0,
    written_off_sat=0,
    state=InvoiceState.OPEN,
)


def invoice(
    state: InvoiceState, late_s: int = 0, amount_sat: int = 100, paid_sat: int = 0
) -> InvoiceStanding:
    return msgspec.structs.replace(
        INVOICE, state=state, due_at_s=NOW_S - late_s, amount_sat=amount_sat, paid_sat=paid_sat
    )


def order(*invoices: InvoiceStanding, charged_sat: int, paid_sat: int = 0) -> OrderStanding:
    return OrderStanding(
        order_id=1,
        terms=BillingTerms(billing=Billing.DAILY),
        charged_sat=charged_sat,
        carry_psat=0,
        charged_until_s=None,
        paid_sat=paid_sat,
        written_off_sat=0,
        refunded_sat=0,
        invoices=invoices,
    )


def ages(it: Receivables) -> dict[str, int]:
    return {age.value: sat for age, sat in it.sat.items() if sat}


def test_each_invoice_is_of_one_age_and_what_is_in_none_is_told_apart() -> None:
    late = InvoiceState.OVERDUE
    found = receivables(
        [
            order(invoice(InvoiceState.OPEN), invoice(InvoiceState.DUE, 3_600), charged_sat=230),
            order(
                invoice(late, 2 * DAY_S, 1),
                invoice(late, 7 * DAY_S, 2),
                invoice(late, 7 * DAY_S + 1, 4),
                invoice(late, 30 * DAY_S, 8),
                invoice(InvoiceState.STOPPED, 31 * DAY_S, 16),
                charged_sat=31,
            ),
            order(invoice(InvoiceState.PAID, 9 * DAY_S, 50, 50), charged_sat=60, paid_sat=1_000),
        ],
        NOW_S,
    )
    assert ages(found) == {
        "not-invoiced": 30,
        "open": 100,
        "due": 100,
        "overdue-week": 3,
        "overdue-month": 12,
        "overdue-longer": 16,
        "advance": 940,
    }
    assert (found.overdue_orders, found.stopped_orders) == (1, 1)
    assert set(found.sat) == set(Age), "what is nothing is told as well"


def test_all_ages_less_what_was_paid_in_advance_are_what_is_owed() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    states = [it for it in InvoiceState if it is not InvoiceState.WRITTEN_OFF]
    for _ in range(200):
        orders = []
        for _ in range(chance.randrange(5)):
            invoices = [
                invoice(
                    chance.choice(states),
                    chance.randrange(50 * DAY_S),
                    1 + (sat := chance.randrange(99)),
                    sat,
                )
                for _ in range(chance.randrange(6))
            ]
            charged = sum(it.amount_sat for it in invoices) + chance.randrange(50)
            orders.append(order(*invoices, charged_sat=charged, paid_sat=chance.randrange(600)))
        found = receivables(orders, NOW_S)
        advance_sat = found.sat.pop(Age.ADVANCE)
        assert sum(found.sat.values()) - advance_sat == sum(it.owed_sat for it in orders)
