"""A buyer with an invoice, the one before it and his receipts finds what was changed, and is charged once."""

import json
import random
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from payouts.audit.sales import check_sales
from payouts.proof import angara_verify
from payouts.sales.invoices import Invoice
from pool.reports.document import Document
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from tests.fixtures.databases import SqliteDatabases, fresh_store
from tests.histories.invoices import ADDRESS, Invoiced
from tests.histories.proof import KEY, Auditor, altered, kinds_of_fields
from tests.histories.receipts import changed, counted, signed_again, written
from tests.judges.report_readers import pdf_text


@pytest.fixture(scope="module")
def order(sqlite_databases: SqliteDatabases) -> Iterator[Invoiced]:
    """Nobody changes it."""
    with fresh_store(sqlite_databases) as store:
        yield Invoiced(store)


@pytest.fixture
def auditor(tmp_path: Path) -> Auditor:
    return Auditor(tmp_path)


def of(document: Document) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render_json(document))
    return found


def again(value: dict[str, Any]) -> bytes:
    """As a seller writes it who has the key: sums, hash and signature are right, whatever he changed."""
    made, rest = value["invoice"], None
    for line in made["lines"]:
        line["carry_in_psat"] = line["carry_in_psat"] if rest is None else rest
        total = line["amount_psat"] + line["carry_in_psat"]
        line["posted_sat"], rest = divmod(total, 10**12)
    made["amount_sat"] = sum(it["posted_sat"] for it in made["lines"])
    value["content_sha256"] = sha256(angara_verify.canonical(made)).hexdigest()
    digest = angara_verify.tagged("angara/invoice", bytes.fromhex(value["content_sha256"]))
    value["proof"] |= {"signature": KEY.sign(digest).hex()}
    return angara_verify.as_written(value)


def test_invoices_prove_themselves_and_agree_with_the_receipts(order: Invoiced, auditor: Auditor) -> None:
    first, second = render_json(order.first), render_json(order.second)
    told = written(order.told())
    assert [it["kind"] for it in of(order.first)["invoice"]["lines"]].count("make_good") == 2
    for data in (first, second, again(of(order.first)), again(of(order.second))):
        assert auditor.found(data) == (0, [])
    assert auditor.found(first, against=told) == (0, [])
    assert auditor.found(second, previous=first, against=told) == (0, [])
    assert auditor.found(first, against=written(order.told()[:1])) == (0, []), "of some of its hours"
    unsigned = angara_verify.as_written({k: v for k, v in of(order.first).items() if k != "proof"})
    assert auditor.found(unsigned) == (0, [])
    for key, words in (("00" * 32, "does not follow from"), ("zz", "not of its form")):
        code, wrong = auditor.found(first, key=key)
        assert code == (1 if key[0] == "0" else 2)
        assert words in wrong[0]
    assert auditor.found(first, counted=counted(order.told()))[0] == 2
    assert auditor.found(told, against=first)[0] == 2


def test_a_single_bit_that_changed_is_found(order: Invoiced, auditor: Auditor) -> None:
    data, seed = render_json(order.second), random.randrange(1 << 32)
    print(f"seed {seed}")
    for bit in random.Random(seed).sample(range(8 * len(data)), 150):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        code, wrong = auditor.found(bytes(flipped))
        assert code in (1, 2), (seed, bit)
        assert wrong


def test_any_field_that_changed_is_found_and_no_file_makes_it_fail(
    order: Invoiced, auditor: Auditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance, whole, told = random.Random(seed), of(order.second), written(order.told())
    others: tuple[object, ...] = (None, True, -1, 10**25, "", "0", [], [[]], {}, {"a": 1})
    for path in kinds_of_fields(whole):
        found: Any = whole
        for name in path:
            found = found[name]
        new = found + 1 if isinstance(found, int) else f"{found}0"
        assert auditor.found(written(altered(whole, path, new)))[0] in (1, 2), path
        with monkeypatch.context() as patch:
            patch.setattr(angara_verify, "signed_by", lambda *_: True)
            data = written(altered(whole, path, chance.choice(others)))
            for asked in ({}, {"previous": render_json(order.first), "against": told}, {"previous": data}):
                code, wrong = auditor.found(data, key=None, **asked)
                assert (code == 0) == (not wrong), (seed, path)


def line(value: dict[str, Any], hour: int, kind: str = "work") -> dict[str, Any]:
    lines: list[dict[str, Any]] = value["invoice"]["lines"]
    return next(it for it in lines if (it["hour_utc"][11:13], it["kind"]) == (str(hour), kind))


def test_a_seller_who_has_the_key_charges_no_hour_twice(order: Invoiced, auditor: Auditor) -> None:
    """In a second part of it, in the next invoice, or as work that nobody did: each is in no receipt."""
    told, first = written(order.told()), of(order.first)
    first["invoice"]["lines"].append(line(first, 22) | {"part": 1})
    assert auditor.found(again(first)) == (0, []), "by itself it is one as others"
    code, wrong = auditor.found(again(first), against=told)
    assert (code, len(wrong)) == (1, 1)
    assert "more work of 2026-09-01T22:00Z is charged than its receipts have" in wrong[0]
    second = of(order.second)
    second["invoice"]["lines"].append(line(of(order.first), 22))
    code, wrong = auditor.found(again(second), previous=render_json(order.first))
    assert (code, wrong) == (1, ["work of 2026-09-01T22:00Z, part 0, of invoice 2, is in one before too"])
    second = of(order.second)
    second["invoice"]["lines"].append(line(of(order.first), 22) | {"part": 1})
    assert auditor.found(again(second), previous=render_json(order.first))[0] == 0
    assert auditor.found(again(second), previous=render_json(order.first), against=told)[0] == 1


def test_a_seller_who_has_the_key_makes_good_no_less_and_at_no_other_price(
    order: Invoiced, auditor: Auditor
) -> None:
    told = written(order.told())
    less = of(order.first)
    line(less, 23, "make_good")["amount_psat"] += 10**12
    assert auditor.found(again(less))[0] == 0
    code, wrong = auditor.found(again(less), against=told)
    assert code == 1
    assert "what is made good of 2026-09-01T23:00Z, part 0, in psat" in wrong[0]
    dearer = of(order.first)
    line(dearer, 23)["amount_psat"] += 1
    assert auditor.found(again(dearer))[0] == 1
    other = of(order.first)
    other["invoice"]["sat_per_ph_day"] += 1
    for it in other["invoice"]["lines"]:
        if it["kind"] == "work":
            done = angara_verify.line_work(it)
            it["amount_psat"] = angara_verify.price_psat(done, other["invoice"])
    assert auditor.found(again(other))[0] == 0
    assert auditor.found(again(other), against=told)[0] == 1
    forged = signed_again(changed(order.told(), 0, delivered={"20": 801}))
    assert auditor.found(render_json(order.first), against=written(forged))[0] == 1


def test_the_orders_address_is_on_what_was_made_since_it_has_one(order: Invoiced) -> None:
    assert "address" not in of(order.first)["invoice"], "an invoice never changes"
    assert of(order.second)["invoice"]["address"] == ADDRESS
    for shown in (
        render_html(order.second).decode(),
        render_text(order.second, 110).decode(),
        render_csv(order.second).decode(),
        pdf_text(render_pdf(order.second)),
    ):
        assert ADDRESS in shown
    assert isinstance(order.second.data, Invoice)
    assert ADDRESS in msgspec.json.encode(order.second.data).decode()
    with order.store.read() as connection:
        check_sales(connection)


def test_what_the_receipts_make_good_is_not_left_out(order: Invoiced, auditor: Auditor) -> None:
    """A seller who has the key, and charges the work alone."""
    told, first = written(order.told()), of(order.first)
    first["invoice"]["lines"] = [it for it in first["invoice"]["lines"] if it["kind"] == "work"]
    granted = -sum(angara_verify.receipt_change(it) for it in order.told()[:1])
    assert auditor.found(again(first)) == (0, [])
    code, wrong = auditor.found(again(first), against=told)
    assert granted > 0
    assert code == 1
    assert any("what the receipts of 2026-09-01T22:00Z make good is not in the invoice" in it for it in wrong)


def test_an_hour_is_charged_once_though_other_invoices_lie_between(order: Invoiced, auditor: Auditor) -> None:
    """In the third what is in the first: with all of them it is found, without them told with its amount."""
    third, first, second = of(order.second), render_json(order.first), render_json(order.second)
    third["invoice"] |= {
        "number": 3,
        "lines": [line(of(order.first), 22)],
        "from_utc": third["invoice"]["to_utc"],
    }
    data = again(third)
    code, wrong = auditor.found(data, previous=[second, first])
    assert (code, wrong) == (1, ["work of 2026-09-01T22:00Z, part 0, of invoice 3, is in one before too"])
    path = auditor._kept(data)
    parsed = angara_verify.parser().parse_args([path, "--previous", auditor._kept(second)])
    report = angara_verify.checked(parsed)
    assert any(
        "sat of hours before 2026-09-02T00:00Z: whether they were charged before" in it for it in report.open
    )
    report = angara_verify.Report()
    angara_verify.check_invoice_chain([of(order.first)["invoice"], third["invoice"]], report)
    between = "what was charged from 2026-09-02T00:00Z to 2026-09-02T03:00Z: no invoice here is of that"
    assert between in report.open, "where one is left out"
    third["invoice"]["from_utc"] = of(order.second)["invoice"]["from_utc"]
    wrong = auditor.found(again(third), previous=[second, first])[1]
    assert "invoice 3 begins before the one before it ends" in wrong
    late = of(order.first)
    late["invoice"]["lines"].append(line(late, 22) | {"part": 2})
    assert auditor.found(again(late))[1] == [
        "work of 2026-09-01T22:00Z, part 2, of invoice 1, comes before part 1"
    ]
