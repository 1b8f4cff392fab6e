"""What a buyer owes: every hour that was delivered once and exactly, invoices, payments, and who stops."""

import json
from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import msgspec
import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DatabaseError

from payouts.batches.plan import plan
from payouts.ledger import Kind, LedgerError, PoolAccount, balance_sat, payable, receivable, reverse
from payouts.proof.angara_verify import signed_by, tagged
from payouts.rates import PSAT_PER_SAT
from payouts.reports.orders import order_report
from payouts.reversals import reversible
from payouts.sales.billing import Billing
from payouts.sales.charges import ChargeKind, charge_line, owed_sat
from payouts.sales.deposits import Deposit, Seen, give_address, note_seen
from payouts.sales.doubles import ALIKE_S, Double, doubles
from payouts.sales.invoices import UnknownInvoice, invoice, proof_of
from payouts.sales.payments import say_payment, say_refund, say_write_off
from payouts.sales.standing import DUST_SAT, InvoiceState
from payouts.sales.terms import BillingTerms
from payouts.sales.ways import Way
from payouts.schemas.money import ledger_transactions
from payouts.schemas.sales import order_addresses, order_charges
from payouts.statements.period import Period
from payouts.statements.reserve import reserve_of
from pool.books.store import Store
from pool.chain.addresses import script_for
from pool.orders.rows import add_order, end_order
from pool.reports.invoice_document import invoice_document
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from tests.fixtures.databases import Databases, copy_of, fresh_store
from tests.histories.orders import BUYER, HOUR_S, PRICE, deliver, new_order
from tests.histories.proof import KEY
from tests.histories.sales import DAILY, LATER_S, Sale
from tests.histories.statements import ACME, BOREALIS, DAY, DAY_S, HOUR
from tests.judges.report_readers import pdf_text

HASHES = Fraction(2**68, 65535)  # of a share of difficulty 2^20


def worth_psat(shares: int, price: int = PRICE) -> int:
    """By another way than the books': hashes by the price of those of a PH/s in a day."""
    return int(shares * HASHES * price * PSAT_PER_SAT / (86_400 * 10**15))


@pytest.fixture
def sale(databases: Databases) -> Iterator[Sale]:
    """Four hours of it, settled and charged."""
    with copy_of(databases, "sale", _delivered) as found:
        yield found


def _delivered(store: Store) -> Sale:
    sale = Sale(store, billing=DAILY)
    deliver(sale)
    sale.settle(DAY_S + 14 * HOUR_S + 90)
    return sale


@pytest.fixture
def long_sale(databases: Databases) -> Iterator[Sale]:
    """A year of it, by the week, due within a week; stops three days after that."""
    terms = BillingTerms(billing=Billing.WEEKLY, due_days=7, stop_days=3)
    with fresh_store(databases) as store:
        yield Sale(store, billing=terms, from_s=DAY_S, until_s=DAY_S + 365 * 86_400)


def mine_days(sale: Sale, days: range, shares: int = 100_000) -> None:
    """Some work at noon of each, settled at its end."""
    for day in days:
        sale.mine(sale.borealis, day * 1440 + 720, shares, worker=BOREALIS * 100, log2=20)
        sale.settle(DAY_S + (day + 1) * 86_400 + 90)


def pass_weeks(sale: Sale, weeks: int) -> None:
    """So many, with an invoice after each, a day and a half after its Sunday."""
    for week in range(weeks):
        mine_days(sale, range(week * 7, week * 7 + 7))
        assert sale.issue(DAY_S + (week * 7 + 7) * 86_400 + 90) == week + 1


# Charges


def test_every_hour_is_charged_once_and_exactly_when_all_of_it_is_settled(databases: Databases) -> None:
    with fresh_store(databases) as store:
        sale = Sale(store, billing=DAILY)
        deliver(sale)  # settled up to 13:00; the hour of 13 is not
        with store.read() as connection:
            rows = connection.execute(select(order_charges).order_by(order_charges.c.seq)).all()
        assert [(it.hour - HOUR, it.kind, it.part) for it in rows] == [
            (hour, "work", 0) for hour in (10, 11, 12)
        ], "two tenants delivered each, and it is charged once"
        psat = [it.amount_sat * PSAT_PER_SAT + it.amount_psat for it in rows]
        assert psat == [worth_psat(shares) for shares in (400, 310, 805)]
        assert sum(psat) == sum(it.posted_sat for it in rows) * PSAT_PER_SAT + rows[-1].carry_out_psat
        assert (sale.balance(receivable(1)), sale.balance(PoolAccount.ORDER_INCOME.value)) == (-355, 355)
        sale.verified()
        # What comes later is a further part, and what no upstream took is in nobody's bill.
        sale.mine(sale.acme, 10 * 60 + 50, 7, log2=20)
        sale.settle(DAY_S + 14 * HOUR_S + 90)
        with store.read() as connection:
            late = connection.execute(select(order_charges).where(order_charges.c.seq > 3)).all()
            report = order_report(connection, "blue", None, LATER_S)
        assert sorted((it.hour - HOUR, it.part) for it in late) == [(10, 1), (13, 0)]
        amounts = {it.posted_sat * PSAT_PER_SAT + it.carry_out_psat - it.carry_in_psat for it in late}
        assert amounts == {worth_psat(7), worth_psat(199)}
        assert report.charged_sat is not None
        assert report.charged_psat is not None
        cost = report.cost_sat * PSAT_PER_SAT + report.cost_psat
        charged = report.charged_sat * PSAT_PER_SAT + report.charged_psat
        assert 0 <= cost - charged < 5, "less than a psat for each of five charges"
        sale.verified()


@pytest.mark.sqlite_suffices
def test_nothing_is_booked_of_an_order_that_is_not_billed(databases: Databases) -> None:
    with fresh_store(databases) as store:
        sale = Sale(store)
        deliver(sale)
        with store.write() as connection:
            assert charge_line(connection, 1, HOUR, ChargeKind.WORK, 5 * PSAT_PER_SAT, LATER_S) is None
            assert connection.scalar(select(order_charges.c.seq)) is None
            assert order_report(connection, "blue", None, LATER_S).charged_sat is None
        with pytest.raises(LedgerError, match="sold without --billing"):
            sale.pay(5, "r")
        sale.verified()


@pytest.mark.sqlite_suffices
def test_what_is_given_back_is_a_charge_below_zero_and_carries_as_others_do(sale: Sale) -> None:
    with sale.store.write() as connection:
        before = owed_sat(connection, 1)
        for psat in (-(PSAT_PER_SAT // 2), -(PSAT_PER_SAT // 2), -3 * PSAT_PER_SAT):
            assert charge_line(connection, 1, HOUR + 10, ChargeKind.MAKE_GOOD, psat, LATER_S)
        assert owed_sat(connection, 1) == before - 4
    sale.verified()


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("table", ["order_charges", "order_billing", "order_charge_shares"])
def test_what_was_charged_and_by_which_terms_never_changes(sale: Sale, table: str) -> None:
    with pytest.raises(DatabaseError, match="append-only"), sale.store.write() as connection:
        connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608


# Invoices


def test_an_invoice_is_made_when_its_day_is_over_and_all_of_it_is_charged(sale: Sale) -> None:
    assert sale.issue(DAY_S + 13 * HOUR_S) is None, "the order is not over, nor is the day"
    sale.mine(sale.acme, 12 * 60, 3, log2=20)
    assert sale.issue(DAY_S + 86_400) is None, "some of it is in the books, and not charged"
    sale.settle(DAY_S + 86_400)
    assert [sale.issue(DAY_S + 86_400), sale.issue(DAY_S + 86_400)] == [1, None]
    with sale.store.read() as connection:
        made, again = invoice(connection, 1), invoice(connection, 1)
        with pytest.raises(UnknownInvoice):
            invoice(connection, 2)
    assert (made, made.content_hash) == (again, again.content_hash)
    assert (made.order, made.buyer, made.billing, made.sat_per_ph_day) == ("blue", BUYER, "daily", PRICE)
    assert (made.from_utc, made.to_utc) == ("2026-09-01T10:00:00Z", "2026-09-01T14:00:00Z")
    assert (made.issued_utc, made.due_utc) == ("2026-09-02T00:00:00Z", "2026-09-16T00:00:00Z")
    assert [(it.hour_utc[11:13], it.part) for it in made.lines] == [
        ("10", 0),
        ("11", 0),
        ("12", 0),
        ("13", 0),
        ("12", 1),
    ]
    assert (
        made.amount_sat
        == sum(it.posted_sat for it in made.lines)
        == sum(it.amount_psat for it in made.lines) // PSAT_PER_SAT
    )
    # What comes even later is in the next one, where it comes to a satoshi.
    sale.mine(sale.acme, 12 * 60 + 2, 50, log2=20)
    sale.settle(LATER_S)
    assert sale.issue(LATER_S) == 2
    with sale.store.read() as connection:
        assert [(it.hour_utc[11:13], it.part) for it in invoice(connection, 2).lines] == [("12", 2)]
    sale.verified()


@pytest.mark.sqlite_suffices
def test_an_order_that_is_ended_to_escape_its_bill_has_it_all_the_same(long_sale: Sale) -> None:
    mine_days(long_sale, range(2))
    with long_sale.store.write() as connection:
        end_order(connection, "blue", by="mallory", now_s=DAY_S + 2 * 86_400 - HOUR_S)
    assert long_sale.issue(DAY_S + 2 * 86_400 - 2 * HOUR_S) is None
    assert long_sale.issue(DAY_S + 2 * 86_400) == 1, "at once, and not at the end of the week"
    found = long_sale.standing(LATER_S)
    assert found.invoiced_sat == found.charged_sat == found.owed_sat > 0
    assert long_sale.states(LATER_S) == ["overdue"]
    assert not long_sale.standing(LATER_S).stopped, "there is nothing to stop"


@pytest.mark.sqlite_suffices
def test_an_invoice_in_every_format_and_signed_where_there_is_a_key(sale: Sale) -> None:
    assert sale.issue(DAY_S + 86_400) == 1
    with sale.store.read() as connection:
        made = invoice(connection, 1)
    proof = proof_of(made, KEY)
    assert proof == proof_of(made, KEY)
    digest = tagged("angara/invoice", bytes.fromhex(made.content_hash))
    assert signed_by(bytes.fromhex(proof.key), digest, bytes.fromhex(proof.signature))
    document = invoice_document(made, proof)
    told = json.loads(render_json(document))
    assert told["invoice"] == json.loads(msgspec.json.encode(made))
    assert (told["content_sha256"], told["proof"]["signature"]) == (made.content_hash, proof.signature)
    html = render_html(document).decode()
    assert "Blue Ocean &lt;b&gt;&amp; Sons&lt;/b&gt;" in html
    for shown in (html, render_text(document, 110).decode(), pdf_text(render_pdf(document))):
        assert "Invoice 1" in shown
        assert proof.signature[:16] in shown
    rows = render_csv(document).decode().splitlines()
    assert any(row.startswith("lines,2026-09-01T10:00:00Z,work,0,") for row in rows)
    unsigned = invoice_document(made, None)
    assert (unsigned.content_hash, unsigned.proof) == (made.content_hash, None)


# Payments


def test_a_payment_is_booked_when_two_persons_say_the_same_and_goes_to_the_oldest_invoice(
    long_sale: Sale,
) -> None:
    pass_weeks(long_sale, 3)
    first, second, _ = (it.amount_sat for it in long_sale.standing(LATER_S).invoices)
    paying = (say_payment, 1, first + 5, "wire 7", "received")
    said = long_sale.say("olga", LATER_S, *paying)
    assert (said.entry, long_sale.standing(LATER_S).paid_sat) == (None, 0)
    assert long_sale.say("OLGA", LATER_S, *paying).entry is None, "whoever types it otherwise is herself"
    assert long_sale.say("dmitri", LATER_S, say_payment, 1, first + 6, "wire 7", "received").entry is None
    assert long_sale.say("dmitri", LATER_S, *paying).entry == 1
    found = long_sale.standing(long_sale.standing(LATER_S).invoices[1].due_at_s)
    assert [it.state for it in found.invoices] == ["paid", "due", "open"]
    assert [it.paid_sat for it in found.invoices] == [first, 5, 0]
    assert long_sale.balance(PoolAccount.ORDER_RECEIVED.value) == -(first + 5)
    # A reference is booked once, whatever is said of it, and for whom.
    for sat in (first + 5, first + 6, second):
        with pytest.raises(LedgerError, match="booked already, as entry 1 of order 1"):
            long_sale.say("boris", LATER_S, say_payment, 1, sat, "wire 7", "again")
    long_sale.verified()


@pytest.mark.sqlite_suffices
def test_a_payment_that_the_chain_has_is_not_said_as_well(long_sale: Sale) -> None:
    """A buyer who tells two persons of a transaction that is there, truly, was credited for it twice."""
    pass_weeks(long_sale, 1)
    txid = "Ab" * 32
    paying = (say_payment, 1, 100_000_000, f"paid with {txid}", "it is on the chain")
    with long_sale.store.write() as connection:
        given = {"order_id": 1, "position": 0, "address": "bcrt1q", "script": "0014", "given_at_s": 1}
        connection.execute(insert(order_addresses).values(**given, given_by="ann"))
    with pytest.raises(LedgerError, match="booked from the chain by itself"):
        long_sale.say("olga", LATER_S, *paying)


def give_an_address(sale: Sale) -> None:
    with sale.store.write() as connection:
        give_address(connection, 1, lambda it: (f"bcrt1q{it}", b"\x00\x14"), by="ann", now_s=DAY_S)


def deposit(sale: Sale, sat: int, txid: str, at_s: int = LATER_S) -> None:
    paid = Deposit(order_id=1, txid=txid, vout=0, amount_sat=sat, block_hash="cd" * 32, height=5)
    with sale.store.write() as connection:
        assert note_seen(connection, Seen(5, "cd" * 32), (paid,), at_s) == 1


TXID = "c0ffee11" * 8


@pytest.mark.sqlite_suffices
def test_what_the_chain_has_is_not_said_by_persons_too_by_a_reference_that_names_no_transaction(
    long_sale: Sale,
) -> None:
    """A clerk types in what a buyer says that he paid; the chain had it. All of a week's invoice was credited
    to him twice, and given back. Nothing of it is now, without a word that is not so."""
    pass_weeks(long_sale, 1)
    give_an_address(long_sale)
    owed = long_sale.standing(LATER_S).owed_sat
    deposit(long_sale, owed, TXID)
    bank = partial(say_payment, way=Way.BANK)
    for what, words in (
        ((say_payment, 1, owed, "INV-1", "received"), "say by what other way this came"),
        ((bank, 1, owed, "INV-1", "received"), f"from transaction {TXID}. If this"),
        ((bank, 1, owed - DUST_SAT, "INV-1", "received"), f"a payment of {owed} satoshi for order 1"),
    ):
        with pytest.raises(LedgerError, match=words):
            long_sale.say("olga", LATER_S, *what)
    assert owed > 1_000
    assert long_sale.standing(LATER_S).owed_sat == 0
    # Another one that is as large: who has looked says so, and both persons have.
    why = "a second one by the bank, not C0FFEE11"
    assert long_sale.say("olga", LATER_S, bank, 1, owed, "INV-1", why).entry is None
    with pytest.raises(LedgerError, match="name c0ffee11 in the reason"):
        long_sale.say("dmitri", LATER_S, bank, 1, owed, "INV-1", "received")
    assert long_sale.say("dmitri", LATER_S, bank, 1, owed, "INV-1", why).entry == 1
    with pytest.raises(LedgerError, match="booked already, as entry 1"):
        long_sale.say("olga", LATER_S, partial(say_payment, way=Way.OTHER), 1, owed, "INV-1", why)
    assert long_sale.say("olga", LATER_S, say_refund, 1, owed, ACME, "he paid twice").entry is None
    long_sale.verified()


@pytest.mark.sqlite_suffices
def test_nor_is_it_said_for_another_order_of_the_buyer_nor_with_the_fee_that_is_missing(
    long_sale: Sale,
) -> None:
    """One payment was booked for two orders; and a bill of 1,000,000 sat, of which 998,000 came, twice."""
    give_an_address(long_sale)
    with long_sale.store.write() as connection:
        sold = new_order("green", billing=DAILY, from_s=DAY_S, until_s=LATER_S)
        green = add_order(connection, sold, by="olga", now_s=DAY_S).id
    deposit(long_sale, 998_000, TXID)
    for reference, words in (
        (f"paid with {TXID.upper()}", "is booked from the chain, for order 1"),
        ("INV-2", "a payment of 998000 satoshi for order 1"),
    ):
        with pytest.raises(LedgerError, match=words):
            long_sale.say("olga", LATER_S, say_payment, green, 1_000_000, reference, "received")
    assert long_sale.say("olga", LATER_S, say_payment, green, 2_000_000, "INV-3", "received").entry is None


@pytest.mark.sqlite_suffices
def test_what_persons_said_before_the_chain_had_it_is_not_given_back(long_sale: Sale) -> None:
    """They took the chain's for the bank's, and said so; it is told when the chain's is booked."""
    pass_weeks(long_sale, 1)
    give_an_address(long_sale)
    owed = long_sale.standing(LATER_S).owed_sat
    for by in ("olga", "dmitri"):
        said = long_sale.say(by, LATER_S, partial(say_payment, way=Way.BANK), 1, owed, "INV-1", "received")
    deposit(long_sale, owed, TXID, LATER_S + ALIKE_S)
    with long_sale.store.read() as connection:
        assert doubles(connection, 1) == (Double(entry=1, txid=TXID),)
    with pytest.raises(LedgerError, match="entry 1, which persons said, and transaction c0ffee11"):
        long_sale.say("olga", LATER_S, say_refund, 1, owed, ACME, "he paid twice")
    assert said.transaction is not None
    with long_sale.store.write() as connection:
        reverse(connection, said.transaction, "it was the chain's", LATER_S + ALIKE_S)
        assert doubles(connection, 1) == ()
        assert owed_sat(connection, 1) == 0
    long_sale.verified()


@pytest.mark.sqlite_suffices
def test_a_payment_that_was_none_is_taken_back_and_the_order_stops_again(long_sale: Sale) -> None:
    pass_weeks(long_sale, 1)
    stops_s = long_sale.standing(LATER_S).invoices[0].due_at_s + 3 * 86_400
    assert [long_sale.stopped(at_s) for at_s in (stops_s - 1, stops_s)] == [False, True]
    assert long_sale.states(stops_s) == ["stopped"]
    posted = long_sale.pay(long_sale.standing(stops_s).invoiced_sat, "wire 7", stops_s)
    assert (long_sale.states(stops_s), long_sale.stopped(stops_s)) == (["paid"], False)
    assert posted.transaction is not None
    with long_sale.store.write() as connection:
        assert reversible(connection, posted.transaction).refused is None
        reverse(connection, posted.transaction, "the bank took it back", stops_s)
    assert long_sale.stopped(stops_s)
    with pytest.raises(LedgerError, match="no reference is used again"):
        long_sale.pay(5, "wire 7", stops_s)
    with long_sale.store.read() as connection:
        seq = connection.scalar(
            select(ledger_transactions.c.seq).where(ledger_transactions.c.kind == Kind.SALE.value)
        )
        assert seq is not None
        assert "follows from the work" in (reversible(connection, seq).refused or "")


@pytest.mark.sqlite_suffices
def test_nobody_alone_frees_a_friend_of_his_debt(long_sale: Sale) -> None:
    pass_weeks(long_sale, 2)
    before = long_sale.standing(LATER_S)
    for by in ("mallory", "Mallory", "mal1ory", "m.allory"):
        for what in ((say_write_off, 2, "a friend"), (say_payment, 1, before.owed_sat, "cash", "a friend")):
            assert long_sale.say(by, LATER_S, *what).entry is None
    assert long_sale.standing(LATER_S).owed_sat == before.owed_sat
    said = long_sale.say("dmitri", LATER_S, say_write_off, 2, "he is bankrupt")
    assert said.amount_sat == before.invoices[1].amount_sat
    assert long_sale.states(LATER_S) == ["stopped", "written off"], "its own, and not the oldest"
    with pytest.raises(LedgerError, match="nothing of invoice 2"):
        long_sale.say("dmitri", LATER_S, say_write_off, 2, "again")
    assert long_sale.balance(PoolAccount.ORDER_WRITTEN_OFF.value) == -said.amount_sat
    long_sale.verified()


@pytest.mark.sqlite_suffices
def test_nobody_is_dunned_for_what_was_made_good_to_him_nor_can_that_be_written_off(long_sale: Sale) -> None:
    """All but a little of two weeks' work is given back at their end, and is in no invoice. Of a week at 1.2
    million a day six invoices were overdue, with 84 thousand owed: written off, 7.1 million were his."""
    pass_weeks(long_sale, 2)
    before = long_sale.standing(LATER_S)
    assert long_sale.states(LATER_S) == ["stopped", "stopped"]
    back_sat = before.owed_sat - 10_000
    with long_sale.store.write() as connection:
        hour = (DAY_S + 14 * 86_400) // HOUR_S
        charge_line(connection, 1, hour, ChargeKind.MAKE_GOOD, -back_sat * PSAT_PER_SAT, LATER_S)
    after = long_sale.standing(LATER_S)
    assert (after.owed_sat, sum(it.unpaid_sat for it in after.invoices)) == (10_000, 10_000)
    assert long_sale.states(LATER_S) == ["paid", "stopped"]
    with pytest.raises(LedgerError, match="nothing of invoice 1"):
        long_sale.say("olga", LATER_S, say_write_off, 1, "he is bankrupt")
    for by in ("olga", "dmitri"):
        said = long_sale.say(by, LATER_S, say_write_off, 2, "he is bankrupt")
    assert said.amount_sat == 10_000
    assert long_sale.standing(LATER_S).owed_sat == 0
    long_sale.verified()


def test_what_was_paid_too_much_pays_later_invoices_or_goes_back_by_a_payout_batch(long_sale: Sale) -> None:
    mine_days(long_sale, range(7))
    with long_sale.store.read() as connection:
        before = reserve_of(connection, Period(DAY, DAY.replace(month=12)))
    long_sale.pay(long_sale.standing(LATER_S).owed_sat + 50_000, "wire 7")
    long_sale.pay(50_000, "wire 8")  # the same once more, by another reference
    with long_sale.store.read() as connection:
        assert owed_sat(connection, 1) == -100_000
        after = reserve_of(connection, Period(DAY, DAY.replace(month=12)))
    assert (after.matured_sat, after.free_sat) == (before.matured_sat, before.free_sat), (
        "no coin of the pool's"
    )
    with pytest.raises(LedgerError, match="100001 cannot be given back"):
        long_sale.say("olga", LATER_S, say_refund, 1, 100_001, ACME, "too much")
    for by in ("olga", "dmitri"):
        said = long_sale.say(by, LATER_S, say_refund, 1, 60_000, ACME, "too much")
    assert said.entry == 3
    with long_sale.store.read() as connection:
        assert owed_sat(connection, 1) == -40_000
        (item,) = plan(connection, LATER_S, lambda it: script_for(it, "main"), 1_000).items
        assert (item.tenant, item.amount_sat) == ("acme", balance_sat(connection, payable(ACME)))
        assert item.amount_sat >= 60_000
    with pytest.raises(LedgerError, match="40000 satoshi more"):
        long_sale.say("olga", LATER_S, say_refund, 1, 60_000, ACME, "too much")
    assert long_sale.issue(DAY_S + 6 * 86_400) == 1
    assert long_sale.states(LATER_S) == ["paid"]
    long_sale.verified()


# The best that a buyer can do


@pytest.mark.sqlite_suffices
def test_who_never_pays_gets_a_period_and_the_days_of_his_terms(long_sale: Sale) -> None:
    """Sold on a Tuesday, by the week, due in 7 days, stops 3 after: 16 days."""
    delivered = 0
    for day in range(60):
        now_s = DAY_S + day * 86_400 + 90
        if not long_sale.stopped(now_s):
            mine_days(long_sale, range(day, day + 1))
            delivered += 1
        long_sale.issue(DAY_S + (day + 1) * 86_400)
    assert delivered == 6 + 7 + 3


@pytest.mark.sqlite_suffices
def test_who_pays_a_satoshi_too_little_for_ever_gains_less_than_an_output_is_worth(long_sale: Sale) -> None:
    """Nobody is dunned for dust; but it adds up, and is dust no more."""
    left, last_s = 0, DAY_S
    for week in range(30):
        mine_days(long_sale, range(week * 7, week * 7 + 7))
        last_s = DAY_S + (week * 7 + 7) * 86_400 + 90
        number = long_sale.issue(last_s)
        assert number == week + 1
        amount = long_sale.standing(last_s).invoices[-1].amount_sat
        long_sale.pay(amount - 40, f"wire {week}", last_s)
        left = sum(it.unpaid_sat for it in long_sale.standing(last_s).invoices)
        # FIFO: what is left is the newest invoice's.
        overdue = long_sale.standing(last_s + 8 * 86_400).overdue
        assert bool(overdue) is (left > DUST_SAT)
        if overdue:
            break
    assert DUST_SAT < left <= DUST_SAT + 40
    assert long_sale.stopped(last_s + 10 * 86_400)
    long_sale.pay(left - DUST_SAT, "the rest", last_s)
    assert long_sale.states(last_s + 10 * 86_400)[-1] == InvoiceState.DUE
