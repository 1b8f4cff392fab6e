"""A token in a file: whose command it is, where several persons have one account of the host."""

import os
from contextlib import closing
from pathlib import Path

import pytest

from pool.cli.token_file import token_in
from pool.people.tokens import list_tokens
from pool.settings_file import BadConfig
from tests.fixtures.databases import store_in
from tests.stages.command_line import angara
from tests.stages.payouts import PAYEES, register
from tests.stages.people import add_user

SECRET = "angara_1_" + "s" * 43


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "token"
    made.touch(0o600)
    made.write_text(f"{SECRET}\n")
    return made


def test_a_file_of_ones_own_is_read(file: Path) -> None:
    assert token_in(file) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660])
def test_a_file_that_others_may_read_or_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(BadConfig, match="others may read") as refused:
        token_in(file)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"angara\x1b[2J", "a\u0430".encode()])
def test_what_is_no_token_is_refused_in_words(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(BadConfig, match="there is no token in"):
        token_in(file)


def test_a_file_of_another_account_or_none_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadConfig, match="cannot read"):
        token_in(file.parent / "none")
    me = os.geteuid()
    monkeypatch.setattr("os.geteuid", lambda: me + 1)
    with pytest.raises(BadConfig, match="another account's"):
        token_in(file)


def test_the_command_line_takes_who_it_is_from_the_file_and_from_nothing_else(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("USER", "LOGNAME", "SUDO_USER", "ANGARA_TOKEN"):
        monkeypatch.setenv(variable, "vera")
    with closing(store_in(tmp_path)) as store:
        register(store, PAYEES[:1])
        token, viewers = add_user(store, "vera"), add_user(store, "otto", "viewer")
    propose = ("ledger", "reverse", 1, "--why", "counted twice", "--json")
    shown = ("--token-file", file)
    for text, words in (
        (SECRET, "the token is wrong, or has ended"),
        (token[:-1] + "?", "the token is wrong, or has ended"),
        (viewers, "reversal.propose takes the role payer, and otto has viewer"),
    ):
        file.write_text(text)
        told = angara(tmp_path, *propose, *shown)
        assert (told.exit_code, words in told.output, text in told.output) == (2, True, False)
    file.write_text(token)
    assert '"proposed_by": "vera"' in angara(tmp_path, *propose, *shown).output
    assert '"proposed_by": "vera"' not in angara(tmp_path, *propose).output
    for gone in ("--as", "--token"):
        assert "No such option" in angara(tmp_path, *propose, gone, "vera").output


def test_a_new_token_is_written_to_a_file_and_not_shown(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        add_user(store, "bob")
    file = tmp_path / "bob.token"
    code, output = angara(tmp_path, "token", "create", "the page", "--user", "bob", "--out", file)
    token = token_in(file)
    assert (code, file.stat().st_mode & 0o777) == (0, 0o600)
    assert token.startswith("angara_")
    assert token not in output
    code, output = angara(tmp_path, "token", "create", "the page", "--user", "bob", "--out", file)
    assert (code, token_in(file)) == (2, token)
    assert f"there is {file} already" in output
    code, output = angara(
        tmp_path, "token", "create", "x", "--user", "bob", "--out", tmp_path / "none" / "file"
    )
    assert code == 2
    with closing(store_in(tmp_path)) as store, store.read() as connection:
        assert [it.label for it in list_tokens(connection, "bob")] == ["test", "the page"], "none for nobody"
