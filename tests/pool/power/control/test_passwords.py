"""Passwords of machines, from a file of the operator's to the books: who has the books has none of them."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pool.books.store import open_store
from pool.cli.main import app
from pool.power.control.contract import Firmware
from pool.power.control.firmware import Credential
from pool.power.control.passwords import BadKey, make_key, read_keys
from pool.settings_file import BadConfig

SECRET = "hunter2-of-the-operator"
SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[[node]]
name = "first"
url = "http://127.0.0.1:18443"
cookie_file = ".cookie"
[power]
networks = ["10.0.0.0/8"]
key_file = "machines.key"
"""


def test_a_password_is_in_no_file_and_on_no_screen(tmp_path: Path) -> None:
    settings, key, password = (tmp_path / it for it in ("angara.toml", "machines.key", "password"))
    settings.write_text(SETTINGS)
    (tmp_path / "data").mkdir()
    open_store(f"sqlite:///{tmp_path}/data/angara.db").close()
    password.write_text(SECRET + "\n")
    said = ""

    def run(*words: str) -> None:
        nonlocal said
        done = CliRunner().invoke(app, ["power", "credential", *words])
        assert done.exit_code == 0, done.output
        said += done.output

    run("key", str(key))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    config = ("-c", str(settings))
    run("set", *config, "--firmware", "antminer", "--password-file", str(password))
    run("set", *config, "--firmware", "vnish", "--site", "Bratsk", "--password-file", str(password))
    run("list", *config)
    run("remove", *config, "--firmware", "vnish", "--site", "Bratsk")
    assert "antminer" in said
    assert SECRET not in said
    files = [it for it in tmp_path.rglob("*") if it.is_file() and it != password]
    assert any(it.name == "angara.db" for it in files)
    for it in files:
        assert SECRET.encode() not in it.read_bytes(), it


def test_a_password_is_never_given_on_the_command_line() -> None:
    done = CliRunner().invoke(app, ["power", "credential", "set", "--help"])
    assert "--password-file" in done.output
    assert "--password " not in done.output


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(BadConfig, match="others may read"):
        read_keys(tmp_path / "key")
    with pytest.raises(BadConfig, match="already"):
        make_key(tmp_path / "key")


def test_what_is_sealed_for_one_place_opens_in_no_other(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    keys = read_keys(tmp_path / "key")
    sealed = keys.seal(Firmware.ANTMINER, "site:Bratsk", Credential("root", SECRET))
    assert keys.open(sealed) == Credential("root", SECRET)
    for other in (
        type(sealed)(Firmware.VNISH, sealed.scope, sealed.text),
        type(sealed)(sealed.firmware, "", sealed.text),
        type(sealed)(sealed.firmware, sealed.scope, sealed.text[:-8]),
    ):
        with pytest.raises(BadKey):
            keys.open(other)
