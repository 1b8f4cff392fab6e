"""The manual page and the shells' completions are those of the commands that there are."""

import subprocess
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from pool.cli.main import app
from pool.cli.manual import EXIT_CODES, Shell, completion_file, manual


def angara(*arguments: str) -> str:
    ran = CliRunner().invoke(app, [*arguments])
    assert ran.exit_code == 0, ran.output
    return ran.output


def test_the_page_has_every_command_with_what_it_is_for_and_its_options() -> None:
    page = angara("man")
    assert page == manual(typer.main.get_command(app), page.split('"angara ')[1].split('"')[0])
    for command in ("tenant set\\-address", "db backup", "config show", "payout reconcile", "drain"):
        assert f'.SS "angara {command} ' in page
    assert ".B \\-\\-replace" in page
    assert "Copy the book into one file while the pool goes on, and verify the copy." in page
    for code, _ in EXIT_CODES:
        assert f".B {code}\n" in page


def test_no_line_of_words_is_taken_for_a_request() -> None:
    requests = {".TH", ".SH", ".SS", ".B", ".TP", ".PP"}
    for line in angara("man").splitlines():
        assert not line.startswith("'")
        assert not line.startswith(".") or line.split()[0] in requests, line


@pytest.mark.parametrize("shell", Shell)
def test_a_completion_is_shown_or_put_where_the_shell_looks(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    script = angara("completion", shell.value)
    assert "_ANGARA_COMPLETE=complete_" in script
    assert not list(tmp_path.iterdir())
    said = angara("completion", shell.value, "--install")
    file = completion_file(shell)
    assert file.is_relative_to(tmp_path)
    assert str(file) in said
    assert file.read_text() == script
    angara("completion", shell.value, "--install")  # again: the newest


def test_bash_takes_it(tmp_path: Path) -> None:
    (tmp_path / "angara").write_text(angara("completion", "bash"))
    subprocess.run(["bash", "-n", str(tmp_path / "angara")], check=True)
