"""`angara sv2`: the pool's key, and what machines are told of it."""

import json
from pathlib import Path

from typer.testing import CliRunner

from pool.cli.main import app
from tests.stages.command_line import Outcome
from tests.stages.sv2_machine import authority_of


def angara(*arguments: object) -> Outcome:
    result = CliRunner().invoke(app, ["sv2", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.output)


def test_a_key_is_made_once_and_its_public_half_is_told_again(tmp_path: Path) -> None:
    file = tmp_path / "authority"
    made = angara("key", file)
    assert made.exit_code == 0
    assert len(authority_of(made.output.strip())) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert angara("public", file).output == made.output
    told = json.loads(angara("public", file, "--json").output)
    assert told == {"file": str(file), "public": made.output.strip()}
    assert file.read_text().strip() not in made.output


def test_a_key_is_never_written_over_another(tmp_path: Path) -> None:
    file = tmp_path / "authority"
    angara("key", file)
    before = file.read_text()
    again = angara("key", file)
    assert again.exit_code != 0
    assert "there is" in again.output
    assert file.read_text() == before


def test_a_file_that_is_no_key_is_refused_in_words(tmp_path: Path) -> None:
    assert "No such file" in angara("public", tmp_path / "none").output
    file = tmp_path / "open"
    file.write_text("11" * 32)
    file.chmod(0o644)
    refused = angara("public", file)
    assert refused.exit_code != 0
    assert "chmod 600" in refused.output
    assert "11" * 8 not in refused.output
