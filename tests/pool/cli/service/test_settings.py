"""`angara config show`: what is in force, where it is from, and no secret."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from pool.cli.main import app

SECRET = "hunter2-of-the-operator"
SETTINGS = f"""
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
outage_s = 30
[[node]]
name = "first"
url = "http://127.0.0.1:18443"
user = "u"
password = "{SECRET}"
[[node]]
name = "second"
url = "http://127.0.0.1:18444"
user = "u"
password_file = "secret"
[stratum.limits]
idle_s = 600
[database]
url = "postgresql://angara:{SECRET}@db.example/angara"
"""


def shown(directory: Path, *arguments: str, settings: str = SETTINGS) -> str:
    path = directory / "angara.toml"
    path.write_text(settings)
    (directory / "secret").write_text(SECRET)
    ran = CliRunner().invoke(app, ["config", "show", "-c", str(path), *arguments])
    assert SECRET not in ran.output
    assert ran.exit_code == 0, ran.output
    return ran.stdout


def by_name(directory: Path, settings: str = SETTINGS) -> dict[str, dict[str, Any]]:
    return {it["setting"]: it for it in json.loads(shown(directory, "--json", settings=settings))}


def test_every_setting_has_its_value_its_unit_and_where_it_is_from(tmp_path: Path) -> None:
    rows = by_name(tmp_path)
    for name, value, unit, origin in (
        ("pool.outage_s", 30.0, "s", "file"),
        ("pool.tag", "/Angara/", None, "default"),
        ("stratum.listen", ["127.0.0.1:3333"], None, "default"),
        ("stratum.limits.idle_s", 600.0, "s", "file"),  # what the default is, but the file says it
        ("stratum.limits.out_bytes", 65_536, "bytes", "default"),
        ("node[0].name", "first", None, "file"),
        ("node[1].url", "http://127.0.0.1:18444", None, "file"),
        ("web.listen", None, None, "default"),
        ("payouts.fee_rate_sat_vb", None, "sat/vB", "default"),
    ):
        assert rows[name] == {"setting": name, "value": value, "unit": unit, "from": origin}


def test_a_secret_is_set_or_not_set(tmp_path: Path) -> None:
    rows = by_name(tmp_path)
    assert rows["node[0].password"] == {
        "setting": "node[0].password",
        "value": "set",
        "unit": None,
        "from": "file",
    }
    assert (rows["node[1].password"]["value"], rows["node[1].password"]["from"]) == ("not set", "default")
    assert rows["database.url"]["value"] == "postgresql://angara:***@db.example/angara"


def test_a_person_and_a_spreadsheet_read_the_same(tmp_path: Path) -> None:
    lines = shown(tmp_path).splitlines()
    assert lines[0].split() == ["setting", "value", "unit", "from"]
    assert any(it.split() == ["pool.outage_s", "30.0", "s", "file"] for it in lines)
    rows = list(csv.DictReader(io.StringIO(shown(tmp_path, "--csv"))))
    assert len(rows) == len(lines) - 1


def test_what_is_on_or_off_is_shown_as_the_file_has_it(tmp_path: Path) -> None:
    power = "[power]\nnetworks = ['127.0.0.0/8']\ndry_run = false\n[power.signals]\nprices = true\n"
    lines = [it.split() for it in shown(tmp_path, settings=SETTINGS + power).splitlines()]
    assert ["power.dry_run", "false", "-", "file"] in lines
    assert ["power.signals.prices", "true", "-", "file"] in lines


def test_settings_that_cannot_be_taken_are_not_shown_as_if_they_were(tmp_path: Path) -> None:
    path = tmp_path / "angara.toml"
    path.write_text(SETTINGS.replace("outage_s = 30", "outage_s = 0"))
    ran = CliRunner().invoke(app, ["config", "show", "-c", str(path)])
    assert (ran.exit_code, "pool.outage_s: 0 is not within 1 to 86400" in ran.output) == (2, True)
