"""`angara edge -c`: who serves miners at a site, and what is refused before anything is touched."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pool.cli.main import app
from pool.data_dir import held

SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[[node]]
name = "first"
url = "http://127.0.0.1:18443"
user = "u"
password = "p"
[edge]
name = "north"
nats = ["nats://127.0.0.1:1"]
key_file = "key"
second_journal = "{second}"
"""


def refused(directory: Path, second: str) -> str:
    path = directory / "angara.toml"
    path.write_text(SETTINGS.format(second=second))
    ran = CliRunner().invoke(app, ["edge", "-c", str(path)])
    assert ran.exit_code != 0
    assert isinstance(ran.exception, SystemExit), ran.exception
    return " ".join(ran.output.split())


def test_two_edges_have_no_second_journal_in_common(tmp_path: Path) -> None:
    """Each would take the other one's journal for its own, and write it as it was a moment ago."""
    with held(tmp_path / "second"):
        assert f"another process is using {tmp_path / 'second'}" in refused(tmp_path, "second")
    assert not (tmp_path / "data" / "journal").exists()


@pytest.mark.parametrize("second", ["data", "./data", "data/../data"])
def test_a_second_journal_in_the_same_directory_is_none(tmp_path: Path, second: str) -> None:
    assert "edge: second_journal: is data_dir" in refused(tmp_path, second)
