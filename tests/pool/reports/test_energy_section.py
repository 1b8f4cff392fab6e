"""Energy in a statement and the report of power, in every format."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from payouts.ledger import canonical_hash
from payouts.reports.choices import Place
from payouts.reports.power import power_report
from payouts.statements.period import Period
from pool.reports.document import Document
from pool.reports.energy_section import power_document
from pool.reports.figures import kilowatts, kwh, micro, milligrams
from pool.reports.render_csv import render_csv
from pool.reports.render_html import render_html
from pool.reports.render_json import render_json
from pool.reports.render_pdf import render_pdf
from pool.reports.render_text import render_text
from pool.reports.statement_document import statement_document
from tests.fixtures.databases import store_in
from tests.histories.energy import KWH, day_of, draw_a_day
from tests.histories.statements import DAY_S, History
from tests.judges.report_readers import pdf_text

DAY, NEXT, AFTER = day_of(0), day_of(1), day_of(2)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    store = store_in(tmp_path_factory.mktemp("energy"))
    history = History(store)
    history.adjust(100_000, DAY_S + 60)
    draw_a_day(store)
    yield history
    store.close()


@pytest.fixture(scope="module")
def statement(history: History) -> Document:
    return statement_document(history.state(DAY, NEXT))


def power(history: History, place: Place) -> Document:
    with history.store.read() as connection:
        return power_document(power_report(connection, Period(DAY, NEXT), place), "All tenants")


def test_a_statement_tells_energy_in_text_with_its_sources(statement: Document) -> None:
    shown = render_text(statement, None).decode()
    for words in (
        "Energy",
        "216.000 kWh",
        "260.000 kWh",
        "CO2e, location-based",
        "6.240 kg",
        "grid 2025",
        "CO2e, market-based",
        "certificates of the dam",
        "132.000 kWh",
        "contract 7",
        "19,500.000000000000",
        "2 of 2",
        "6.1 kW",
        "invoice 9",
    ):
        assert words in shown, words


def test_its_balance_has_what_energy_took_and_the_grid_gave(statement: Document) -> None:
    facts = [fact for block in statement.sections[0].blocks for fact in getattr(block, "facts", ())]
    values = {fact.key: fact.cell.value for fact in facts}
    assert (values["energy"], values["grid"], values["closing"]) == (-19_500, 2_250, 82_750)


def test_a_day_without_energy_says_nothing_of_it(history: History) -> None:
    told = statement_document(history.state(day_of(-1), DAY))
    assert b"nergy" not in render_text(told, None)
    assert "energy" not in json.loads(render_json(told))["statement"]


def test_its_data_has_a_hash_that_can_be_checked(history: History, statement: Document) -> None:
    found = json.loads(render_json(statement))
    assert canonical_hash(found["statement"]) == found["content_sha256"]
    assert found["statement"]["energy"]["due_after_sat"] == 0


@pytest.mark.parametrize("place", Place)
def test_the_report_of_power_is_told_in_every_format(history: History, place: Place) -> None:
    document = power(history, place)
    assert "216.000 kWh" in render_text(document, None).decode()
    rows = list(csv.reader(io.StringIO(render_csv(document).decode())))
    assert any(str(216 * KWH) in row for row in rows)
    assert json.loads(render_json(document))["power"]["total"]["metered_j"] == 216 * KWH
    assert "Not drawn" in render_html(document).decode()
    assert "CO2e" in pdf_text(render_pdf(document))


def test_a_statement_is_a_pdf_with_its_energy(statement: Document, tmp_path: Path) -> None:
    found = pdf_text(render_pdf(statement))
    assert "Curtailments" in found
    assert "grid 2025" in found


def test_figures_of_energy_are_never_rounded_up() -> None:
    assert [kwh(it) for it in (0, 3_599_999, -3_600_000, 4_444_800_000)] == [
        "0.000 kWh",
        "0.999 kWh",
        "−1.000 kWh",  # noqa: RUF001
        "1,234.666 kWh",
    ]
    assert [micro(it) for it in (45_000, -5, 2_000_000)] == ["0.045", "−0.000005", "2"]  # noqa: RUF001
    assert [milligrams(it) for it in (24_500, 1_999_999, 5_000_000_001)] == [
        "24.500 g",
        "1.999 kg",
        "5.000 t",
    ]
    assert [kilowatts(it) for it in (6_199, -100)] == ["6.1 kW", "−0.1 kW"]  # noqa: RUF001
