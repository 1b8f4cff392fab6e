"""`angara power tariff`, `price`, `hosting`, `carbon` and `grid-payment` on the data directory of a pool."""

import json
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.databases import store_in
from tests.histories.curtailment import booked_curtailment
from tests.stages.command_line import angara

SOURCE = ("--source", "contract 7")


def test_a_tariff_is_said_with_one_price_or_tiers_and_listed(data_dir: Path) -> None:
    dam = ("power", "tariff", "add", "dam", "--currency", "USD", *SOURCE)
    added = angara(data_dir, *dam, "--price", "0.045", "--until", "2090-01-01")
    assert added.exit_code == 0, added.output
    assert "0.045" in added.output
    tiers = angara(data_dir, *dam, "--tier", "0:0.03", "--tier", "100000:-0.01", "--json")
    assert json.loads(tiers.output)["tiers"] == [[0, 30_000], [100_000, -10_000]]
    listed = angara(data_dir, "power", "tariff", "list")
    assert "0.03 from 0 kWh, −0.01 from 100,000 kWh" in listed.output  # noqa: RUF001
    for wrong, words in (
        ((), "one price, prices by the hour, or tiers"),
        (("--price", "x"), "is not a number of"),
        (("--tier", "0"), "--tier"),
        (("--tier", "0:1", "--tier", "0:2"), "twice at the same kWh"),
        (("--price", "1", "--site", "nowhere"), "there is no site"),
    ):
        refused = angara(data_dir, *dam, *wrong)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output


def test_prices_by_the_hour_come_from_a_table_and_wrong_lines_are_told(data_dir: Path) -> None:
    file = data_dir.parent / "spot.csv"
    file.write_text("hour;price\n2026-09-12T08:00Z;0,045\n2026-09-12T09:00Z;-0,001\n")
    spot = ("power", "tariff", "import", file, "--name", "spot", "--currency", "EUR", *SOURCE)
    taken = angara(data_dir, *spot)
    assert (taken.exit_code, taken.output) == (0, "2 hours of spot\n")
    rows = json.loads(angara(data_dir, "power", "tariff", "list", "--json").output)
    assert [(it["hours"], it["from"], it["until"]) for it in rows] == [
        (2, "2026-09-12T08:00:00Z", "2026-09-12T10:00:00Z")
    ]
    for content, words in (
        ("hour,price\n2026-09-12T08:30Z,1\n", "line 2: '2026-09-12T08:30Z' is not when an hour begins"),
        ("hour,price\n2026-09-12T08:00Z,\n", "line 2: it has no price"),
        ("hour,price\n0,1\n0,2\n", "is there twice"),
        ("hour,price\n", "there are no prices in it"),
    ):
        file.write_text(content)
        refused = angara(data_dir, *spot)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output
    file.unlink()
    assert "No such file" in angara(data_dir, *spot).output


def test_what_a_currency_is_worth_is_said_exactly(data_dir: Path) -> None:
    usd = ("power", "price", "set", "USD", "--source", "desk")
    assert "5000/3" in angara(data_dir, *usd, "--sat", "5000/3").output
    found = json.loads(angara(data_dir, *usd, "--per-btc", "97000.50", "--json").output)
    assert found["sat"] == "200000000/194001"
    for wrong, words in (
        ((), "--sat or --per-btc"),
        (("--sat", "0"), "no number above nothing"),
        (("--sat", "1/0"), "no number above nothing"),
        (("--sat", "1", "--from", "2090-01-01"), "nobody knows yet"),
    ):
        refused = angara(data_dir, *usd, *wrong)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output
    file = data_dir.parent / "rates.csv"
    file.write_text("currency,from,sat,btc\nEUR,2026-09-12,1000,\nEUR,2026-09-13,,90000\n")
    taken = angara(data_dir, "power", "price", "import", file, "--source", "ECB")
    assert (taken.exit_code, taken.output) == (0, "2 rates\n")
    file.write_text("currency,from,sat,btc\nEUR,2026-09-12,1000,90000\n")
    refused = angara(data_dir, "power", "price", "import", file, "--source", "ECB")
    assert "line 2: it has either sat, or btc" in refused.output
    assert "there are no rates" in angara_of(
        data_dir, file, "currency,from\n", "price", "import", "--source", "x"
    )
    listed = json.loads(angara(data_dir, "power", "price", "list", "--json").output)
    assert [it["currency"] for it in listed] == ["USD", "USD", "EUR", "EUR"]


def angara_of(data_dir: Path, file: Path, content: str, noun: str, verb: str, *options: str) -> str:
    file.write_text(content)
    return angara(data_dir, "power", noun, verb, file, *options).output


def test_who_pays_for_energy_is_said_for_hours_to_come(data_dir: Path) -> None:
    hosting = ("power", "hosting", "set", "acme")
    fee = angara(data_dir, *hosting, "--fee", "0.05", "--currency", "USD", "--grid-operator", "25")
    assert fee.exit_code == 0, fee.output
    assert "0.05 USD a kWh" in fee.output
    kept = json.loads(angara(data_dir, *hosting, "--tariff", "--json").output)
    assert (kept["charge"], kept["grid_operator_bps"]) == ("tariff", 2_500)
    for wrong, words in (
        ((), "say what it pays"),
        (("--fee", "1"), "a fee has a price and a currency"),
        (("--fee", "1", "--none"), "give one of"),
        (("--none", "--from", "2020-01-01"), "has not begun"),
    ):
        refused = angara(data_dir, *hosting, *wrong)
        assert (refused.exit_code, words in refused.output) == (2, True), refused.output
    listed = json.loads(angara(data_dir, "power", "hosting", "list", "--json").output)
    assert {it["charge"] for it in listed} == {"none"}  # none of them holds yet


def test_carbon_comes_from_a_table_with_its_source(data_dir: Path) -> None:
    file = data_dir.parent / "carbon.csv"
    command = ("carbon", "import", "--method", "location", "--source", "grid 2025")
    content = "from,until,g_per_kwh\n2026-01-01,2027-01-01,24.5\n2026-09-12T08:00Z,,31\n"
    assert angara_of(data_dir, file, content, *command) == "2 rows of carbon\n"
    assert "it has no g_per_kwh" in angara_of(data_dir, file, "from,g_per_kwh\n2026-01-01,\n", *command)
    assert "no carbon in it" in angara_of(data_dir, file, "from,g_per_kwh\n", *command)
    listed = angara(data_dir, "power", "carbon", "list").output
    assert ("24.500 g" in listed, "31.000 g" in listed, "grid 2025" in listed) == (True, True, True)


def test_what_the_grid_paid_is_divided_once(data_dir: Path) -> None:
    pay = ("power", "grid-payment", "add", 3, "5000", "--reference", "invoice 9")
    assert "not in the books" in angara(data_dir, *pay).output
    with closing(store_in(data_dir)) as store, store.write() as connection:
        booked_curtailment(connection, 3, int(time.time()))
    for _ in range(2):
        paid = angara(data_dir, *pay)
        assert (paid.exit_code, "5,000 sat" in paid.output) == (0, True), paid.output
    assert json.loads(angara(data_dir, *pay, "--json").output)["amount_sat"] == 5_000
    listed = json.loads(angara(data_dir, "power", "grid-payment", "list", "--json").output)
    assert [(it["event"], it["forgone_sat"], it["paid_sat"]) for it in listed] == [(3, 20_000, 5_000)]


@pytest.mark.parametrize("noun", ["tariff", "price", "hosting", "carbon", "grid-payment"])
def test_lists_are_for_eyes_too(data_dir: Path, noun: str) -> None:
    assert angara(data_dir, "power", noun, "list").exit_code == 0
