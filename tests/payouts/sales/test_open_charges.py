"""What is open is found without all that was ever charged: the same answers as from sums over everything."""

from functools import partial
from random import Random

import pytest
from sqlalchemy import Connection, func, select

from payouts.sales.billing import Billing
from payouts.sales.charges import ChargeKind, charge_line
from payouts.sales.deposits import Deposit, Seen, give_address, note_seen, take_back
from payouts.sales.invoices import Due, _due, due_invoices, issue
from payouts.sales.open_charges import orders_with_open_charges
from payouts.sales.payments import say_payment, say_refund, say_write_off
from payouts.sales.standing import overdue_standings, standing, standings
from payouts.sales.terms import BillingTerms, billing_of
from payouts.sales.ways import Way
from payouts.schemas.sales import order_charges, order_invoice_lines
from pool.books.store import Store
from pool.orders.rows import add_order
from tests.histories.orders import new_order
from tests.histories.sales import Sale
from tests.histories.statements import ACME, BOREALIS, DAY_S, HOUR

PSAT = 10**12
TERMS = BillingTerms(billing=Billing.DAILY, due_days=1, stop_days=1)


def txid_of(number: int) -> str:
    return f"{number:08x}" * 8


def all_of_them(deposits: int) -> str:
    """A reason that tells a payment from each of the chain's."""
    return " ".join(["other than those", *(txid_of(it)[:8] for it in range(1, deposits + 1))])


def open_by_looking_at_all(connection: Connection) -> list[int]:
    lined = select(order_invoice_lines.c.charge_seq)
    query = select(order_charges.c.order_id).where(order_charges.c.seq.not_in(lined)).distinct()
    return sorted(connection.scalars(query))


def due_by_looking_at_all(connection: Connection, until_s: int) -> tuple[Due, ...]:
    found = (_due(connection, it, terms, until_s) for it, terms in billing_of(connection).items())
    return tuple(it for it in found if it is not None)


def compare(connection: Connection, now_s: int) -> None:
    assert orders_with_open_charges(connection) == open_by_looking_at_all(connection)
    assert due_invoices(connection, now_s) == due_by_looking_at_all(connection, now_s)
    every = standings(connection, now_s)
    assert overdue_standings(connection, now_s) == tuple(it for it in every if it.overdue)
    of = order_charges.c
    for it in every:
        total, last = connection.execute(
            select(func.coalesce(func.sum(of.posted_sat), 0), func.max(of.hour)).where(
                of.order_id == it.order_id
            )
        ).one()
        until_s = None if last is None else (last + 1) * 3600
        assert (it.charged_sat, it.charged_until_s) == (int(total), until_s)


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("seed", [20_261_127])
def test_what_is_open_due_and_overdue_is_that_of_all_charges_and_payments(store: Store, seed: int) -> None:
    """Twelve days of two orders: work that comes late, is given back, is invoiced or not for a while, paid by
    hand and by the chain, too much and too little, written off, given back and taken back."""
    chance = Random(seed)
    terms = {"from_s": DAY_S, "until_s": DAY_S + 9 * 86_400, "billing": TERMS}
    sale = Sale(store, **terms)
    with store.write() as connection:
        red = add_order(connection, new_order("red", **terms), by="olga", now_s=DAY_S - 86_400)
        give_address(connection, red.id, lambda it: (f"a{it}", bytes([it])), by="ann", now_s=DAY_S)
    rates = {sale.blue.id: sale.borealis, red.id: sale.sold_rate(BOREALIS, red.id)}
    deposits = overdue = 0
    for hour in range(0, 12 * 24, 4):
        now_s = DAY_S + (hour + 4) * 3600 + chance.choice((90, 3599))
        for rate in rates.values():
            late = chance.choice((0, 0, 0, 1, 30)) if hour > 30 else 0
            if chance.random() < 0.7:
                shares = chance.choice((1, 900, 100_000))
                sale.mine(rate, (hour - late) * 60, shares, worker=BOREALIS * 100, log2=20)
        sale.settle(now_s)
        order_id = chance.choice(list(rates))
        with store.read() as connection:
            found = standing(connection, order_id, now_s)
        assert found is not None
        match chance.randrange(10):
            case 0 | 1 | 2 | 3:
                with store.write() as connection:
                    issue(connection, order_id, now_s, now_s)
            case 4 if found.owed_sat > 0:
                sat = chance.choice((1, found.owed_sat, found.owed_sat + 5_000))
                for by in ("olga", "dmitri"):
                    paying = partial(say_payment, way=Way.BANK)
                    sale.say(by, now_s, paying, order_id, sat, f"wire {hour}", all_of_them(deposits))
            case 5 if found.owed_sat > 600:
                deposits += 1
                paid = Deposit(
                    order_id=red.id,
                    txid=txid_of(deposits),
                    vout=0,
                    amount_sat=found.owed_sat,
                    block_hash="ab" * 32,
                    height=deposits,
                )
                with store.write() as connection:
                    note_seen(connection, Seen(deposits, "ab" * 32), (paid,), now_s)
            case 6 if deposits:
                with store.write() as connection:
                    take_back(connection, chance.randint(1, deposits), now_s)
            case 7 if found.owed_sat < 0:
                for by in ("olga", "dmitri"):
                    sale.say(by, now_s, say_refund, order_id, -found.owed_sat, ACME, all_of_them(deposits))
            case 8 if found.overdue:
                for by in ("olga", "dmitri"):
                    sale.say(by, now_s, say_write_off, found.overdue[0].number, "bankrupt")
            case 9:
                with store.write() as connection:
                    back = -chance.randint(1, 200) * PSAT // 3
                    charge_line(connection, order_id, HOUR + hour, ChargeKind.MAKE_GOOD, back, now_s)
        with store.read() as connection:
            compare(connection, now_s)
            overdue += bool(overdue_standings(connection, now_s))
    assert overdue > 5, seed
    sale.verified()
