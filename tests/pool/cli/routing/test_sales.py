"""`angara order` about money, as operators type it: owed, invoices, payments, write-offs, refunds."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update
from typer.testing import CliRunner

from payouts.audit.verify import audit
from payouts.sales.billing import Billing
from payouts.sales.deposits import give_address
from payouts.sales.terms import BillingTerms
from payouts.schemas.sales import order_addresses, order_invoices
from pool.books.book import bind
from pool.cli.main import app
from pool.treasury.deposits import DepositAddresses
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import PayoutWallet
from tests.fixtures.databases import disarm, store_in
from tests.histories.sales import Sale
from tests.histories.statements import BOREALIS, DAY_S
from tests.stages.payouts import Signer, private_descriptors
from tests.stages.people import log_in

DEPOSITS = Signer(*private_descriptors("wpkh", 7)).public()[0]
SETTINGS = """
[pool]
network = "regtest"
data_dir = "."
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

[[node]]
name = "first"
url = "http://127.0.0.1:1"
user = "u"
password = "p"

[payouts]
descriptor = "{receive}"
change_descriptor = "{change}"
deposit_descriptor = "{deposits}"
"""
TERMS = BillingTerms(billing=Billing.DAILY, due_days=3, stop_days=2)


@pytest.fixture
def pool(tmp_path: Path) -> tuple[Path, dict[str, tuple[str, str]]]:
    """Two days of an order, with an invoice for each; and two payers."""
    with closing(store_in(tmp_path)) as store:
        sale = Sale(store, billing=TERMS, from_s=DAY_S, until_s=DAY_S + 400 * 86_400)
        for day in range(2):
            sale.mine(sale.borealis, day * 1440 + 600, 9_000, worker=BOREALIS * 100, log2=20)
            sale.settle(DAY_S + (day + 1) * 86_400 + 90)
            assert sale.issue(DAY_S + (day + 1) * 86_400) == day + 1
        return tmp_path, {name: log_in(store, tmp_path, name) for name in ("ann", "bob")}


def test_from_the_bill_to_the_payment_and_back(pool: tuple[Path, dict[str, tuple[str, str]]]) -> None:
    home, payers = pool

    def ran(*args: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*args, "--data-dir", str(home)])
        assert "Traceback" not in result.output
        return result.exit_code, result.output

    def order(*args: str, by: str = "") -> tuple[int, str]:
        return ran("order", *args, *payers.get(by, ()))

    def rows(what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(order(what, "--json")[1])
        return found

    assert json.loads(ran("order", "show", "blue", "--json")[1])["state"] == "stopped"
    assert "daily, due in 3 days, stops 2 days after that" in ran("order", "show", "blue")[1]
    (owed,) = rows("owed")
    first, second = rows("invoices")
    assert (owed["owed_sat"], owed["overdue_sat"]) == (first["amount_sat"] + second["amount_sat"],) * 2
    assert (first["state"], first["due_at"], owed["stopped"]) == ("stopped", "2026-09-05T00:01:30Z", True)
    code, output = ran("report", "invoice", "1")
    assert (code, "Invoice 1" in output, "To be paid (sat)" in output) == (0, True, True)
    assert ran("report", "invoice", "3") == (2, "angara: there is no invoice 3\n")
    # The first invoice is paid, and 1,000 sat too much; the second is written off, after which there is more
    # than is owed, and that goes back.
    paying = ("payment", "blue", "--sat", str(first["amount_sat"] + 1_000), "--reference", "wire 7")
    code, output = order(*paying, by="ann")
    assert (code, "proposal 1: ann says that" in output, "Next: somebody else" in output) == (0, True, True)
    assert order(*paying, by="ann")[1] == output
    assert [it["paid_sat"] for it in rows("owed")] == [0]
    assert order(*paying, by="bob") == (0, "booked as transaction 5: ann said the same before\n")
    code, output = order(*paying, by="bob")
    assert (code, "is booked already" in output) == (2, True)
    writing = ("write-off", "2", "--why", "a gift")
    assert order(*writing, by="bob")[0] == 0
    assert order(*writing, by="ann")[1].startswith("booked as transaction 6")
    assert [it["state"] for it in rows("invoices")] == ["paid", "written off"]
    giving = ("refund", "blue", "--sat", "1000", "--tenant", "acme", "--why", "too much")
    code, output = order(*giving, by="ann")
    assert (code, "was paid 0 satoshi more than is owed" in output) == (2, True), "1,000 paid the second"
    assert json.loads(ran("order", "show", "blue", "--json")[1])["state"] != "stopped"
    assert order("payment", "green", *paying[2:], by="ann")[1] == "angara: there is no order 'green'\n"
    waiting = json.loads(ran("payout", "proposals", "--json")[1])
    assert waiting == []
    over = ("payment", "blue", "--sat", "1000", "--reference", "wire 8")
    assert [order(*over, by=it)[0] for it in payers] == [0, 0]
    assert [order(*giving, by=it)[0] for it in payers] == [0, 0]
    (owed,) = rows("owed")
    assert (owed["owed_sat"], owed["refunded_sat"]) == (0, 1_000)
    with closing(store_in(home)) as store, store.read() as connection:
        assert audit(connection).wrong is None


def test_no_invoice_says_to_pay_to_an_address_that_is_not_of_the_settings(tmp_path: Path) -> None:
    """The thief may write to the database alone. His address was on the next invoice, which the pool signed,
    and what its buyer paid there was booked as paid: all of it; now 0 sat."""
    receive, change = Signer(*private_descriptors("wpkh", 0)).public()
    (tmp_path / "angara.toml").write_text(SETTINGS.format(receive=receive, change=change, deposits=DEPOSITS))
    wallet = PayoutWallet(PayoutSettings(descriptor=receive, change_descriptor=change), "regtest")
    with closing(store_in(tmp_path)) as store:
        bind(store, "regtest")
        sale = Sale(store, billing=TERMS, from_s=DAY_S, until_s=DAY_S + 400 * 86_400)
        derive = DepositAddresses(DEPOSITS, "regtest", wallet).derive
        with store.write() as connection:
            given = give_address(connection, sale.blue.id, derive, by="ann", now_s=DAY_S).address
        sale.mine(sale.borealis, 600, 9_000, worker=BOREALIS * 100, log2=20)
        sale.settle(DAY_S + 86_400 + 90)
        assert sale.issue(DAY_S + 86_400) == 1

    def written(*where: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["report", "invoice", "1", *where])
        return result.exit_code, result.output

    settings = ("--config", str(tmp_path / "angara.toml"))
    code, output = written(*settings)
    assert (code, given in output) == (0, True), output
    thief = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        disarm(connection)
        connection.execute(update(order_addresses).values(address=thief, script="0014" + "11" * 20))
        connection.execute(update(order_invoices).values(address=thief))
    code, output = written(*settings)
    assert (code, "is not of the deposit_descriptor that the settings have" in output) == (2, True), output
    assert written("--data-dir", str(tmp_path))[0] == 0, "nobody signs it, and no settings are there"
    with closing(store_in(tmp_path)) as store, store.write() as connection:
        disarm(connection)
        connection.execute(delete(order_addresses))
    code, output = written(*settings)
    assert (code, "its order was given no address" in output) == (2, True), output


def test_terms_that_cannot_be_are_refused_in_words(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        Sale(store)
    sold = ["blue2", "--buyer", "b", "--upstream", "north", "--ph", "1", "--until", "2035-01-01T00:00Z"]
    sold += ["--price-sat-per-ph-day", "5", "--from-tenant", "acme", "--data-dir", str(tmp_path)]

    def add(*terms: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["order", "add", *sold, *terms])
        return result.exit_code, result.output

    code, output = add("--due-days", "5")
    assert (code, "give --billing" in output) == (2, True)
    code, output = add("--billing", "weekly", "--stop-overdue-days", "400")
    assert (code, "within 0 to 365 days" in output) == (2, True)
    code, output = add("--billing", "weekly")
    assert (code, "weekly, due in 14 days" in output, "stops" in output) == (0, True, False), output
    for terms in (("--prepaid",), ("--billing", "daily", "--prepaid", "--due-days", "3")):
        code, output = add(*terms)
        assert (code, "prepaid has invoices" in output) == (2, True), output
    code, output = add("--billing", "daily", "--prepaid", "--make-good", "credit")
    assert (code, "makes nothing good" in output) == (2, True), output
    sold[0] = "blue3"
    code, output = add("--billing", "daily", "--prepaid")
    assert (code, "daily, prepaid" in output, "stopped" in output) == (0, True, True), output
    assert "left of its deposit" in output
