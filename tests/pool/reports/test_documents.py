"""Reports: what they say is the books', whatever the format; nothing hostile gets through a renderer."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from pypdf import PdfReader
from sqlalchemy import insert, update

from payouts.ledger import canonical_hash
from payouts.schemas.money import tenants, workers
from payouts.statements.period import Period
from payouts.statements.statement import Statement
from payouts.tallies import Tally
from pool.reports.document import Document, Series, Table, text
from pool.reports.figures import btc, hashrate, percent, visible
from pool.reports.formulas import no_formula
from pool.reports.plots import plot
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from pool.reports.work_section import SILENT_SHOWN_MAX
from tests.fixtures.databases import store_in
from tests.histories.statements import ACME, DAY, HOUR, History, mine_with_hostile_names
from tests.judges.report_readers import Page, pdf_text

NEXT, AFTER = DAY + timedelta(1), DAY + timedelta(2)
PERIOD = Period(DAY, AFTER)
HOUR_S, DAY_LENGTH_S = 3600, 86_400


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Statement:
    """A renderer gets values, whatever database they are from."""
    store = store_in(tmp_path_factory.mktemp("told"))
    history = History(store)
    mine_with_hostile_names(history)
    found = history.state(DAY, AFTER)
    store.close()
    return found


@pytest.fixture(scope="module")
def document(told: Statement) -> Document:
    return statement_document(told)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    store = store_in(tmp_path)
    yield History(store)
    store.close()


# JSON


def test_json_is_the_statement_and_its_hash_can_be_checked(told: Statement, document: Document) -> None:
    found = json.loads(render_json(document))
    assert canonical_hash(found["statement"]) == found["content_sha256"] == told.content_hash
    assert msgspec.convert(found["statement"], Statement) == told


# CSV


def sections_of(content: bytes) -> dict[str, list[list[str]]]:
    sections: dict[str, list[list[str]]] = {}
    for row in csv.reader(io.StringIO(content.decode(), newline="")):
        if row:
            sections.setdefault(row[0], []).append(row[1:])
    return sections


def test_csv_has_every_figure_exactly(told: Statement, document: Document) -> None:
    sections = sections_of(render_csv(document))
    balance = dict(row for row in sections["balance_sat"][1:])
    assert int(balance["opening"]) == told.money.opening_sat
    assert int(balance["credits"]) == told.money.credits_sat
    assert int(balance["closing"]) == told.money.closing_sat
    header, *rates, total = sections["rates"]
    rows = [dict(zip(header, row, strict=True)) for row in rates]
    assert [row["work"] for row in rows] == [rate.work for rate in told.rates]
    assert [row["credit"] for row in rows] == [f"{it.credit_sat}.{it.credit_psat:012d}" for it in told.rates]
    assert total[0] == "total"
    header, *machines = sections["machines"]
    accepted = header.index("accepted")
    assert sum(int(row[accepted]) for row in machines) == told.work.total.accepted
    assert [int(row[1]) for row in sections["timeline_credit_sat"][1:]] == [
        it.credit_sat for it in told.timeline
    ]


def test_no_cell_of_csv_is_a_formula_or_holds_a_control_character(document: Document) -> None:
    content = render_csv(document).decode()
    cells = [cell for row in csv.reader(io.StringIO(content, newline="")) for cell in row]
    formulas = [cell for cell in cells if re.match(r"[=+@\t\r]|-(?![0-9.]+$)", cell)]
    assert formulas == []
    for separator in ";\t":  # as a spreadsheet splits the same file in half of the world
        lines = csv.reader(io.StringIO(content, newline=""), delimiter=separator)
        parts = [part.strip('" ') for line in lines for part in line]
        assert [part for part in parts if re.match(r"[=+@]|-(?![0-9.,]+$)", part)] == []
    assert not re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f\u202e]", content)
    names = {row[1] for row in sections_of(content.encode())["machines"]}
    assert no_formula('a;=cmd|"x";-1;b, @c') == "a;'=cmd|\"x\";'-1;b, '@c"
    assert no_formula("-1.25") == "-1.25"
    assert {'\'=HYPERLINK("http://x","y")', "'+1", "'-2+3", "'@SUM(A1)", "''quoted"} <= names
    assert {r"a\x09b\x0d\x0ac\x07", r"\u202egnp.exe", "张伟"} <= names


# HTML


def test_html_shows_hostile_names_as_text_and_needs_nothing_else(document: Document) -> None:
    page = Page(render_html(document))
    assert not page.tags & {"script", "link", "img", "iframe", "object", "b", "a"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    for shown in ("<script>alert(1)</script>", "[red]{{ 7 * 7 }}", "=1+1, <b>agreed</b>", r"\u202egnp.exe"):
        assert shown in page.texts
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    assert {"polyline", "rect"} <= page.tags  # a chart of each kind


# PDF


def test_the_figures_of_the_pdf_are_those_of_the_json(document: Document) -> None:
    data = json.loads(render_json(document))["statement"]
    found = pdf_text(render_pdf(document))
    for name in ("opening_sat", "credits_sat", "closing_sat", "closing_payable_sat", "closing_in_payout_sat"):
        assert btc(data["money"][name]) in found
    for rate in data["rates"]:
        assert f"{rate['credit_sat']:,}.{rate['credit_psat']:012d}" in found
        assert rate["nbits"] in found
    for machine in data["work"]["workers"]:
        assert f"{machine['accepted']:,}" in found
        assert hashrate(machine["hashrate_hps"]) in found
        assert percent(machine["uptime_bps"]) in found
    (payout,) = data["payouts"]
    unbroken = found.replace("\n", "")
    assert f"{payout['txid']}:{payout['output']}" in unbroken
    assert payout["address"] in unbroken
    assert document.content_hash is not None
    assert document.content_hash in found


def test_the_pdf_shows_every_name_and_escapes_what_its_font_lacks(document: Document) -> None:
    unbroken = pdf_text(render_pdf(document)).replace("\n", "")
    for shown in ("<script>alert(1)</script>", "Шахта-7", r"\u5f20\u4f1f", r"\u202egnp.exe", "n" * 127):
        assert shown in unbroken


def test_the_pdf_has_the_same_bytes_in_another_process_at_another_time(document: Document) -> None:
    content = render_pdf(document)
    assert render_pdf(document) == content
    again = """
import sys, msgspec
from payouts.statements.statement import Statement
from pool.reports.render_pdf import render_pdf
from pool.reports.statement_document import statement_document
told = msgspec.json.decode(sys.stdin.buffer.read(), type=Statement)
sys.stdout.buffer.write(render_pdf(statement_document(told)))
"""
    other = subprocess.run(
        [sys.executable, "-c", again],
        input=msgspec.json.encode(document.data),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "77", "TZ": "Asia/Irkutsk"},
    )
    assert other.stdout == content
    created = PdfReader(io.BytesIO(content)).metadata
    assert created is not None
    assert created.creation_date_raw == "D:20260903000000Z"


def test_a_long_table_repeats_its_head_and_every_page_has_its_number(history: History) -> None:
    rate = history.rate()
    with history.store.write() as connection:
        connection.execute(
            insert(workers),
            [
                {
                    "id": 2000 + i,
                    "tenant_id": ACME,
                    "container_id": ACME,
                    "unit": f"r{i:03d}",
                    "first_seen_at_s": 0,
                    "last_seen_at_s": 0,
                }
                for i in range(400)
            ],
        )
    history.tally(
        [
            Tally(worker_id=2000 + i, rate_id=rate, minute=HOUR * 60, difficulty_log2=18, verdict=0, shares=5)
            for i in range(400)
        ]
    )
    pages = PdfReader(io.BytesIO(render_pdf(statement_document(history.state(DAY, NEXT))))).pages
    texts = [page.extract_text() for page in pages]
    assert len(texts) > 8
    for number, page in enumerate(texts, 1):
        assert f"Page {number} of {len(texts)}" in page
    units = [re.findall(r"\br\d{3}\b", page) for page in texts]
    assert [unit for page in units for unit in page] == [f"r{i:03d}" for i in range(400)]
    assert all("Machine" in page for page, found in zip(texts, units, strict=True) if found)


def test_a_row_that_is_taller_than_a_page_goes_on_on_the_next(document: Document) -> None:
    (machines,) = document.sections[-1].blocks
    assert isinstance(machines, Table)
    tall = msgspec.structs.replace(machines, rows=((text("tall " * 3000), *machines.rows[0][1:]),))
    section = msgspec.structs.replace(document.sections[-1], blocks=(tall,))
    content = render_pdf(msgspec.structs.replace(document, sections=(section,)))
    assert pdf_text(content).count("tall") == 3000


# Text


def test_text_is_for_a_terminal_and_moves_no_cursor(document: Document) -> None:
    shown = render_text(document, 200).decode()
    assert btc(document.data.money.closing_sat) in shown
    assert "[red]{{ 7 * 7 }}" in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", shown)


# Charts and figures


def series(*values: int, quantity: str = "sat", step: str = "day") -> Series:
    starts = tuple(f"{DAY + timedelta(i)}T00:00:00Z" for i in range(len(values)))
    return Series(
        key="k", title="t", kind="bars", quantity=quantity, step=step, starts_utc=starts, values=values
    )


@pytest.mark.parametrize(
    ("largest", "unit", "labels"),
    [
        (0, "sat", ["0", "1"]),
        (1, "sat", ["0.00", "0.25", "0.50", "0.75", "1.00"]),
        (43_870, "sat", ["0", "20,000", "40,000", "60,000"]),
        (400_000, "BTC", ["0.000", "0.001", "0.002", "0.003", "0.004"]),
        (250_000_000, "BTC", ["0", "1", "2", "3"]),
    ],
)
def test_an_axis_has_round_labels_up_to_the_largest_value(largest: int, unit: str, labels: list[str]) -> None:
    drawn = plot(series(largest, 0))
    assert (drawn.unit, [tick.label for tick in drawn.ticks_y]) == (unit, labels)
    assert all(0 <= height <= 1 for height in drawn.heights)
    assert [tick.at for tick in drawn.ticks_y][-1] == 1


@pytest.mark.parametrize("count", [1, 2, 30, 61, 366, 1000, 3653])
def test_the_days_of_an_axis_have_room(count: int) -> None:
    drawn = plot(series(*range(count)))
    assert 1 <= len(drawn.ticks_x) <= 9
    assert drawn.ticks_x[0].label.startswith("1 Sep")


def test_an_empty_chart_can_be_drawn() -> None:
    assert plot(series()).heights == ()


@pytest.mark.parametrize(
    ("hps", "shown"),
    [
        (0, "0 H/s"),
        (999, "999 H/s"),
        (1234, "1.234 kH/s"),
        (43_879 * 10**12, "43.87 PH/s"),
        (10**27, "1,000,000 ZH/s"),
    ],
)
def test_a_hashrate_has_four_digits_and_a_unit(hps: int, shown: str) -> None:
    assert hashrate(hps) == shown


def test_amounts_are_told_to_the_satoshi() -> None:
    assert [btc(sat) for sat in (0, 1, -1, 123_456_789_012)] == [
        "0.00000000",
        "0.00000001",
        "−0.00000001",  # noqa: RUF001
        "1,234.56789012",
    ]


def test_what_has_no_shape_is_escaped() -> None:
    assert visible("a\x00\u200b\u202e\ue000\u2028é") == r"a\x00\u200b\u202e\ue000\u2028é"


def test_of_many_silent_machines_some_are_named_on_paper_and_all_in_the_data(history: History) -> None:
    with history.store.write() as connection:
        connection.execute(
            insert(workers),
            [
                {
                    "id": 3000 + i,
                    "tenant_id": ACME,
                    "container_id": ACME,
                    "unit": f"s{i}",
                    "first_seen_at_s": 0,
                    "last_seen_at_s": 0,
                }
                for i in range(100)
            ],
        )
    document = statement_document(history.state(DAY, NEXT))
    shown = pdf_text(render_pdf(document))
    assert f"and {102 - SILENT_SHOWN_MAX} more" in shown
    assert "s99" not in shown
    assert "s99" in render_csv(document).decode()


def test_a_tenants_name_is_shown_and_cannot_break_out(history: History) -> None:
    with history.store.write() as connection:
        connection.execute(update(tenants).where(tenants.c.id == ACME).values(name="<i>=x\u202e"))
    document = statement_document(history.state(DAY, NEXT, "<i>=x\u202e"))
    assert document.subject == r"<i>=x\u202e"
    assert "i" not in Page(render_html(document)).tags
    assert r"<i>=x\u202e" in pdf_text(render_pdf(document))
