"""Which books a command means: the same options with the same meaning for every command that has books."""

import inspect
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from pool.cli.books import Books
from pool.cli.command_groups import RUN_ON
from pool.cli.main import app
from pool.cli.options import ListForm, with_options
from pool.cli.output import Form
from tests.fixtures.databases import store_in

WITHOUT_BOOKS = {
    "run",
    "hub",
    "check",
    "demo",
    "regtest",
    "swarm",
    "version",
    "rate quote",
    "config show",
    "man",
    "nats key",
    "nats public",
    "completion",
    "power simulate",
    "power credential key",
    "proof key",
    "verify",
    "sv2 key",
    "sv2 public",
}
SETTINGS = """
[pool]
network = "regtest"
data_dir = "data"
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

[[node]]
name = "first"
url = "http://127.0.0.1:1"
user = "u"
password = "p"
"""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if isinstance(command, TyperGroup):
        context = typer.Context(cast(Any, command))
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    else:
        yield " ".join(path), command


ALL = dict(commands(get_command(app)))


def test_every_command_with_books_names_them_the_same_way() -> None:
    listed = {option: it.help for it in ALL["tenant list"].params for option in it.opts}
    for name, command in ALL.items():
        options = {option: it.help for it in command.params for option in it.opts}
        here = {option: options.get(option) for option in ("-c", "--config", "--data-dir", "--database")}
        if name not in WITHOUT_BOOKS:
            assert here == {option: listed[option] for option in here}, name


WITHOUT_ANSWER = {"man", "completion", "nats config", "power simulate", "power credential key"}
WITHOUT_ANSWER |= {"proof key", "proof shares", "proof reserve show", "verify"}
LISTS = {"config show", "reject show", "power signals", "power held", "power events", "proof roots"}
LISTS |= {"order receipts", "proof closings", "proof keys"}
LISTS |= {"order owed", "order invoices"}
LISTS |= {"power now", "power read", "power minutes"}


def test_what_shows_something_shows_it_to_programs_too() -> None:
    """But what has a log, and no answer."""
    for name, command in ALL.items():
        options = {option for it in command.params for option in it.opts}
        assert ("--json" in options) == (name not in RUN_ON | WITHOUT_ANSWER), name
        lists = name.endswith(" list") or name in LISTS
        assert ("--csv" in options) == lists or name.startswith("report "), name


def angara(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.output


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with settings and a data directory, whose books are empty."""
    (tmp_path / "angara.toml").write_text(SETTINGS)
    (tmp_path / "data").mkdir()
    store_in(tmp_path / "data").close()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", [("tenant", "list"), ("ledger", "verify"), ("payout", "list")])
def test_books_are_named_by_settings_by_a_directory_or_by_a_database(
    home: Path, command: tuple[str, ...]
) -> None:
    url = f"sqlite:///{home}/data/angara.db"
    for way in (
        (),
        ("-c", home / "angara.toml"),
        ("--data-dir", home / "data"),
        ("--data-dir", home / "data", "--database", url),
        ("--database", url),
    ):
        assert angara(*command, *way)[0] == 0


@pytest.mark.parametrize("command", [("tenant", "list"), ("ledger", "verify"), ("report", "pool")])
@pytest.mark.parametrize(
    ("way", "words"),
    [
        (("-c", "angara.toml", "--data-dir", "data"), "give --config or --data-dir, not both"),
        (("-c", "angara.toml", "--database", "sqlite:///x"), "give --config or --database, not both"),
        (("-c", "none.toml"), "cannot read none.toml: No such file"),
        (("--data-dir", "none"), "there is no data directory none"),
        (("--database", "mysql://x"), "is not a database that is supported"),
    ],
)
def test_wrong_combinations_end_in_words(
    home: Path, command: tuple[str, ...], way: tuple[str, ...], words: str
) -> None:
    code, output = angara(*command, *way)
    assert (code, words in output) == (2, True), output


def test_where_nothing_is_said_and_no_settings_are_here_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = angara("tenant", "list")
    assert (code, "there is no angara.toml here: say which pool" in output) == (2, True)
    assert list(tmp_path.iterdir()) == []


# What may make a database: an operator's changes, which may come before the first start.
MAKERS = {
    *(f"tenant {change}" for change in ("add", "set-address", "set-terms", "suspend", "resume")),
    *(
        "container set",
        "container import",
        "container remove",
        "worker remove",
        "order add",
        "order end",
        *(f"edge {change}" for change in ("add", "set", "reset", "give-up", "release", "retire")),
        "db upgrade",
    ),
    *("db restore", "token create", "token revoke", "message silence"),
    *(f"user {change}" for change in ("add", "set-role", "suspend", "resume")),
    *(f"upstream {change}" for change in ("add", "switch", "remove")),
}
EXAMPLES = {
    "from_day": "2026-01-01",
    "to_day": "2026-01-02",
    "batch_id": "1",
    "seq": "1",
    "digest": "ab" * 32,
    "fee_cap_sat": "1",
    "file": "x",
    "kw": "1",
    "max_kw": "1",
    "watts": "1500",
    "source": "x",
    "currency": "SAT",
    "event": "1",
    "sat": "1",
    "invoice": "1",
    "paid": "1",
    "reference": "x",
    "method": "market",
    "error": "1",
    "number": "1",
    "height": "1",
    "hour": "2026-09-01T06",
    "to": "postgresql://angara@localhost/angara",
}


ONE_OF = {"power plan": ["--everything"], "power curtail": ["--everything"]}  # where one of several is needed


@pytest.mark.parametrize("name", sorted(ALL.keys() - MAKERS - WITHOUT_BOOKS))
def test_what_only_asks_makes_no_database(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    needed = [it for it in ALL[name].params if it.required]
    words = list(ONE_OF.get(name, ()))
    for it in needed:
        example = EXAMPLES.get(it.name, "acme")
        words += [it.opts[0], example] if it.opts[0].startswith("--") else [example]
    code, output = angara(*name.split(), *words, "--database", "sqlite:///typo")
    assert code == 2
    assert output.startswith("angara: ")
    if "--config" not in output and "x" not in words:  # settings and files are looked at first
        assert "there is no database typo" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("of_somebody_else", [False, True])
def test_what_only_asks_makes_no_book_of_a_file_that_is_none(tmp_path: Path, of_somebody_else: bool) -> None:
    file = tmp_path / "angara.db"
    file.write_bytes(b"")
    if of_somebody_else:
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE songs (name TEXT)")
    for command in (("tenant", "list"), ("ledger", "verify")):
        code, output = angara(*command, "--database", f"sqlite:///{file}")
        assert (code, "there is no book of a pool" in output) == (2, True), output
    with closing(sqlite3.connect(file)) as other:
        tables = other.execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == ([("songs",)] if of_somebody_else else [])


@pytest.mark.parametrize("typed", [b"\xff", b"acm\xe9", b"\xed\xa0\x80"])
@pytest.mark.parametrize("command", [("tenant", "show"), ("change", "list"), ("order", "show")])
def test_bytes_that_are_no_text_are_answered_in_words(
    home: Path, command: tuple[str, ...], typed: bytes
) -> None:
    code, output = angara(*command, os.fsdecode(typed))
    assert (code, output.startswith("angara: "), "is no text" in output) == (2, True, True), output
    assert output.isascii()


def test_settings_that_are_wrong_elsewhere_change_nothing_where_no_pool_runs(home: Path) -> None:
    (home / "angara.toml").write_text(SETTINGS.replace("[pool]", '[databse]\nurl = "postgresql://x"\n[pool]'))
    code, output = angara("tenant", "add", "acme")
    assert (code, "databse" in output) == (2, True)
    assert "acme" not in angara("tenant", "list", "--data-dir", "data")[1]


def test_json_and_csv_at_once_are_a_mistake(home: Path) -> None:
    code, output = angara("tenant", "list", "--json", "--csv")
    assert (code, "give --json or --csv, not both" in output) == (2, True)
    code, output = angara("report", "pool", "--json", "--format", "html")
    assert (code, "not both" in output) == (2, True)


def test_a_command_has_options_in_place_of_what_it_takes(tmp_path: Path) -> None:
    taken: list[object] = []

    def command(books: Books, form: ListForm, name: str) -> None:
        """Words."""
        taken.extend((books.data_dir, form, name))

    wrapped = with_options(command)
    assert (wrapped.__name__, wrapped.__doc__) == ("command", "Words.")
    names = ["name", "config", "data_dir", "database", "as_json", "as_csv"]
    assert list(inspect.signature(wrapped).parameters) == names
    wrapped(name="x", config=None, data_dir=tmp_path, database=None, as_json=True, as_csv=False)
    assert taken == [tmp_path, Form.JSON, "x"]
