"""`angara order receipts`, and `angara verify` of them: from the books to a buyer who believes them."""

import csv
import io
import json
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from payouts.proof.angara_verify import as_written
from pool.admin.routing import orders
from pool.cli.main import app
from tests.fixtures.databases import store_in
from tests.histories.proof import KEY
from tests.histories.receipts import closed_order, counted


def angara(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    with closing(store_in(tmp_path)) as store:
        told = closed_order(store).told()
    (tmp_path / "mine.csv").write_bytes(counted(told, rejects=True))
    return tmp_path


def test_from_the_books_to_a_buyer_who_counted_himself(data_dir: Path) -> None:
    file = data_dir / "receipts.json"
    told = angara("order", "receipts", "blue", "--json", "--data-dir", data_dir)
    file.write_text(told.stdout)
    options = ("--key", KEY.public.hex(), "--counted", data_dir / "mine.csv")
    done = angara("verify", file, *options)
    assert (done.exit_code, "WRONG" in done.stdout) == (0, False), done.stdout
    for words in (
        "4 receipts of order 'blue' are one chain, from 2026-09-01T10:00:00Z to 2026-09-01T13:00:00Z",
        "what is owed by then is 402.046226473616 sat",
        "1517 accepted shares are those that your pool counted",
        "within 8.6931 % of what the shares that were sent stand for",
    ):
        assert words in done.stdout
    (data_dir / "mine.csv").write_text((data_dir / "mine.csv").read_text().replace(",402,", ",400,"))
    done = angara("verify", file, *options)
    assert (done.exit_code, "2 accepted shares more than you counted" in done.stdout) == (1, True)
    (data_dir / "mine.csv").write_text("")
    assert angara("verify", file, *options).exit_code == 2


def test_receipts_are_shown_to_people_in_tables_and_by_their_hours(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orders, "RECEIPTS_MAX", 2)
    of = ("order", "receipts", "blue", "--data-dir", data_dir)
    shown = angara(*of).stdout.splitlines()
    assert len(shown) == 5
    assert "2026-09-01 11:00:00Z" in shown[2]
    assert shown[2].split()[4:9] == ["1.0000", "0.3878", "299", "9", "4"]
    rows = list(csv.DictReader(io.StringIO(angara(*of, "--csv").stdout)))
    assert [int(it["number"]) for it in rows] == [1, 2, 3, 4]
    some = angara(*of, "--from", "2026-09-01T10:30Z", "--to", "2026-09-01T13:00Z", "--json").stdout
    assert [it["hour_utc"][11:13] for it in json.loads(some)] == ["11", "12"]
    assert some.encode() == as_written(json.loads(some))
    assert angara("order", "receipts", "red", "--data-dir", data_dir).exit_code == 2
