"""The `angara` command: a mistake of the user is answered in words and exit code 2, never by a traceback."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import trustme
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from pool.cli.main import app
from stratum import _engine
from tests.fixtures.databases import store_in
from tests.fixtures.held_ports import held_port

ANGARA = [sys.executable, "-c", "from pool.cli.main import main; main()"]
PATIENCE_S = 120  # a safety net
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
SECRET = "hunter2-of-the-operator"


class Outcome(NamedTuple):
    exit_code: int
    output: str  # both streams


def angara(*arguments: object) -> Outcome:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.output)


def mistake(*arguments: object) -> str:
    """What is said about a mistake; it must be words for a user."""
    exit_code, output = angara(*arguments)
    assert exit_code == 2, output
    assert "Traceback" not in output
    assert SECRET not in output
    return output


def all_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, TyperGroup):
        context = typer.Context(cast(Any, command))
        for name in command.list_commands(context):
            yield from all_commands(command.get_command(context, name), (*path, name))


@pytest.mark.parametrize("path", list(all_commands(get_command(app))), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    result = angara(*path, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert not re.search(r"\w\.\.\.$", result.output, re.MULTILINE)  # no sentence is cut


@pytest.mark.parametrize("text", ["nan", "inf"])
def test_no_option_of_any_command_takes_what_is_no_number(text: str) -> None:
    taken, tried = [], 0
    for path in all_commands(get_command(app)):
        command: Any = get_command(app)
        for name in path:
            command = command.get_command(typer.Context(command), name)
        context = typer.Context(command)
        for option in (it for it in command.params if it.type.name.startswith("float")):
            tried += 1
            with suppress(typer.BadParameter):
                taken.append((path, option.name, option.process_value(context, text)))
    assert tried > 9
    assert taken == []


def test_version_names_the_hash_backend() -> None:
    result = angara("version")
    assert (result.exit_code, result.output) == (
        0,
        f"angara {version('angara')}, hash backend {_engine.backend}\n",
    )


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("tenant", "x"), ("demo", "--nonsense"), ("run", "-c"), ("demo", "x")]
)
def test_wrong_usage_is_a_mistake(arguments: tuple[str, ...]) -> None:
    assert "Error" in mistake(*arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stratum", "nonsense"), "--stratum: 'nonsense' is not HOST:PORT"),
        (("--stratum", "127.0.0.1:99999"), "--stratum"),
        (("--stratum", ":3333"), "--stratum"),
        (("--difficulty", "3"), "--difficulty: 3 is not a power of two"),
        (("--difficulty", "x"), "--difficulty: 'x' is not a difficulty"),
        (("--difficulty", "2^99999"), "--difficulty"),
        (("--difficulty", "2^-33"), "--difficulty"),
        (("--network-bits", "xyz"), "--network-bits: 'xyz' cannot be offered"),
        (("--network-bits", ""), "--network-bits"),
        (("--network-bits", "00000000"), "--network-bits"),
        (("--network-bits", "1d80ffff"), "--network-bits"),
        (("--network-bits", "ff00ffff"), "--network-bits"),
        (("--network-bits", "-1"), "--network-bits"),
        (("--network-bits", "1" * 5_000), "--network-bits"),
        (("--template-txs", "-1"), "--template-txs"),
        (("--template-txs", "1000000"), "--template-txs"),
        (("--blocks", "-1"), "--blocks"),
        (("--sites", "9"), "--sites"),
        (("--sites", "3", "--blocks", "3"), "--blocks is of a demo of one pool: it does not go with --sites"),
        (("--break", "hub"), "--break is for what is between sites: give --sites 3 too"),
        (("--sites", "1", "--break", "edge"), "its machines have nowhere to go: give --sites 2"),
    ],
)
def test_mistake_in_an_option_of_demo(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    assert words in mistake("demo", "--data-dir", tmp_path, *arguments)
    assert list(tmp_path.iterdir()) == [], "nothing was begun"


@pytest.mark.parametrize("command", [("demo", "--stratum"), ("regtest", "--listen")])
def test_port_in_use_is_a_mistake(command: tuple[str, str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        said = mistake(*command, f"{host}:{port}", "--data-dir", tmp_path)
    assert f"cannot listen on {host}:{port}: Address already in use" in said


@pytest.mark.parametrize("sites", [(), ("--sites", "2")])
@pytest.mark.parametrize("of_a_pool", ["network", "angara.db"])
def test_a_demo_is_not_of_a_pool_that_somebody_runs(
    of_a_pool: str, sites: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / of_a_pool).write_text("")
    said = mistake("demo", "--stratum", "127.0.0.1:0", "--data-dir", tmp_path, *sites)
    assert f"{tmp_path} is of a pool that no demo made: give another --data-dir" in said
    assert [it.name for it in tmp_path.iterdir()] == [of_a_pool], "nothing was begun"


@pytest.mark.parametrize("command", ["demo", "regtest"])
def test_data_directory_that_cannot_be_one_is_a_mistake(command: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    option = "--stratum" if command == "demo" else "--listen"
    said = mistake(command, option, "127.0.0.1:0", "--data-dir", file)
    assert "file" in said
    assert "Errno" not in said


# Settings


def settings(directory: Path, node: str, *, listen: str = "127.0.0.1:0", more: str = "") -> Path:
    path = directory / "angara.toml"
    path.write_text(
        f"""
[pool]
network = "regtest"
data_dir = "data"
payout_address = "{ADDRESS}"

[[node]]
name = "first"
{node}

[stratum]
listen = ["{listen}"]
{more}
"""
    )
    return path


# The words that everybody knows ("abandon", eleven times, and "about"), by its public keys.
WALLET = (
    "wpkh([73c5da0a/84h/1h/0h]tpubDC8msFGeGuwnKG9Upg7DM2b4DaRqg3CUZa5g8v2SRQ6K4NSkxUgd7HsL2XVWbVm39yBA4LAxysQ"
    "Am397zwQSQoQgewGiYZqrA9DsP4zbQ1M/<0;1>/*)"
)
NOBODY = f'url = "http://127.0.0.1:1"\nuser = "u"\npassword = "{SECRET}"'


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"regtest"', '"mainnet"', "pool.network: 'mainnet' is unknown"),
        (ADDRESS, "nonsense", "pool.payout_address"),
        ("[pool]", "[pool", "is not TOML"),
        ("data_dir", "date_dir", "date_dir"),
        ("http://127.0.0.1:1", "127.0.0.1", "node first: the url"),
    ],
)
def test_mistake_in_the_settings(command: str, old: str, new: str, words: str, tmp_path: Path) -> None:
    path = settings(tmp_path, NOBODY)
    path.write_text(path.read_text().replace(old, new))
    assert words in mistake(command, "-c", path)


@pytest.mark.parametrize("command", ["run", "check"])
def test_settings_that_are_not_there(command: str, tmp_path: Path) -> None:
    assert "No such file" in mistake(command, "-c", tmp_path / "angara.toml")
    assert "Is a directory" in mistake(command, "-c", tmp_path)


def test_pool_does_not_run_on_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = settings(tmp_path, NOBODY, listen=f"127.0.0.1:{taken.getsockname()[1]}")
        assert "cannot listen on 127.0.0.1" in mistake("run", "-c", path)


def test_pool_does_not_run_with_a_certificate_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "pool.pem").write_text("nonsense")
    path = settings(tmp_path, NOBODY, more='listen_tls = ["127.0.0.1:0"]\ncertificate = "pool.pem"')
    assert "pool.pem" in mistake("run", "-c", path)


# angara check


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and cookie file of an embedded node in a process of its own."""
    directory = tmp_path_factory.mktemp("node")
    arguments = [*ANGARA, "regtest", "--listen", "127.0.0.1:0", "--data-dir", str(directory)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if found := re.search(r"url=(\S+)", line):
                yield found[1], directory / ".cookie"
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_check_of_good_settings_says_so(node: tuple[str, Path], tmp_path: Path) -> None:
    url, cookie = node
    authority = trustme.CA()
    authority.issue_cert("pool.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pool.pem"))
    path = settings(
        tmp_path,
        f'url = "{url}"\ncookie_file = "{cookie}"',
        more=f'listen_tls = ["127.0.0.1:0"]\ncertificate = "pool.pem"\n[payouts]\ndescriptor = "{WALLET}"',
    )
    result = angara("check", "-c", path)
    assert result.exit_code == 0, result.output
    assert "ok   payouts: from a wallet whose first address is bcrt1q6rz28mcf" in result.output
    assert "BAD" not in result.output
    assert "ok   node first" in result.output
    assert "on regtest, height 0" in result.output
    assert "TLS with a certificate until" in result.output
    assert not (tmp_path / "data").exists(), "it looks, and changes nothing"


def test_check_of_where_buyers_pay(tmp_path: Path) -> None:
    """Said before the first buyer asks for an address."""

    def said(descriptor: str) -> str:
        payouts = f'[payouts]\ndescriptor = "{WALLET}"\ndeposit_descriptor = "{descriptor}"'
        result = angara("check", "-c", settings(tmp_path, NOBODY, more=payouts))
        return next(it for it in result.output.splitlines() if "payouts.deposit_descriptor" in it)

    assert "ok   payouts.deposit_descriptor: buyers pay from bcrt1q" in said(WALLET.replace("<0;1>", "7"))
    for descriptor, words in (
        (WALLET.replace("<0;1>", "1"), "it is of the payout wallet"),
        (WALLET.replace("<0;1>/*", "7/3"), "wildcard"),
        (WALLET.replace("<0;1>", "7").replace("tpubDC8msFG", "tpubDC8msFH"), "cannot be read"),
    ):
        found = said(descriptor)
        assert found.startswith("BAD  payouts.deposit_descriptor: ")
        assert words in found


def test_check_of_a_data_directory_that_is_too_deep_for_a_socket(tmp_path: Path) -> None:
    path = settings(tmp_path, NOBODY)
    path.write_text(path.read_text().replace('data_dir = "data"', f'data_dir = "{"d" * 100}"'))
    result = angara("check", "-c", path)
    assert result.exit_code == 1
    assert "BAD  data_dir" in result.output
    assert "too long for a Unix socket" in result.output


def test_check_looks_at_the_files_of_power_as_the_pool_does_that_is_started(tmp_path: Path) -> None:
    more = '[power]\nkey_file = "machines.key"\n[power.signals]\nfile = "calls.toml"\n'
    path = settings(tmp_path, NOBODY, more=more)
    tmp_path.chmod(0o755)
    result = angara("check", "-c", path)
    assert re.search(r"BAD  power\.key_file: \S+/machines\.key: No such file", result.output), result.output
    assert re.search(r"BAD  power\.signals\.file: cannot read \S+/calls\.toml", result.output)
    assert angara("power", "credential", "key", tmp_path / "machines.key").exit_code == 0
    (tmp_path / "calls.toml").write_text("version = 1\ncount = 0\n")
    result = angara("check", "-c", path)
    assert re.search(r"ok   power\.key_file: \S+ has a key", result.output), result.output
    assert re.search(r"ok   power\.signals\.file: \S+ asks for 0 events", result.output)
    (tmp_path / "machines.key").chmod(0o644)
    assert "chmod 600 it" in angara("check", "-c", path).output


def test_check_finds_everything_that_is_wrong_at_once(node: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = node
    (tmp_path / "data").write_text("in the way")
    authority = trustme.CA()
    expired = authority.issue_cert("pool.test", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    expired.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pool.pem"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = settings(
            tmp_path,
            f'url = "{url}"\nuser = "pool"\npassword = "{SECRET}"',
            listen=f"127.0.0.1:{taken.getsockname()[1]}",
            more='listen_tls = ["127.0.0.1:0"]\ncertificate = "pool.pem"\n[payouts]\ndescriptor = "wpkh()"',
        )
        second = f'[[node]]\nname = "second"\n{NOBODY}\n[[node]]\nname = "third"\nurl = "{url}"\n'
        text = path.read_text().replace("[stratum]", second + 'cookie_file = "missing"\n[stratum]')
        path.write_text(text)
        result = angara("check", "-c", path)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert SECRET not in result.output
    for words in (
        "BAD  data_dir: cannot write to",
        "BAD  listen 127.0.0.1",
        "in use",
        "certificate has expired",
        "BAD  payouts: payouts.descriptor: cannot be read",
        "BAD  node first: HTTP 401",
        "BAD  node second: cannot connect",
        "BAD  node third: there is no cookie file",
    ):
        assert words in result.output


def test_check_of_nats_servers_that_are_away_says_so_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And not in the lines of a log, of each attempt."""
    monkeypatch.setattr("pool.check.CHECK_TIMEOUT_S", 2.0)
    assert angara("nats", "key", tmp_path / "edge.nk").exit_code == 0
    with held_port() as nobody:
        port = nobody.getsockname()[1]
        edge = f'[edge]\nname = "north"\nnats = ["nats://127.0.0.1:{port}"]\nkey_file = "edge.nk"'
        result = angara("check", "-c", settings(tmp_path, NOBODY, more=edge))
    assert re.search(r"BAD  nats: (Connect call failed|no answer within)", result.output), result.output
    assert "event=" not in result.output


def test_check_of_a_node_on_another_chain(node: tuple[str, Path], tmp_path: Path) -> None:
    url, cookie = node
    path = settings(tmp_path, f'url = "{url}"\ncookie_file = "{cookie}"')
    text = path.read_text().replace('"regtest"', '"main"')
    path.write_text(text.replace(ADDRESS, "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"))
    result = angara("check", "-c", path)
    assert result.exit_code == 1
    assert "the node is on chain 'regtest', this pool mines 'main'" in result.output


# Signals


def test_signal_stops_a_pool_that_has_no_node(tmp_path: Path) -> None:
    path = settings(tmp_path, NOBODY)
    with subprocess.Popen([*ANGARA, "run", "-c", str(path)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        while "node_down" not in said:
            said = process.stderr.readline()
            assert said, "it must not have ended by itself"
            assert SECRET not in said
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert "Traceback" not in process.stderr.read()


# The shell


WRITES = [("--help",), ("version",), ("report", "pool", "--format", "csv")]  # each in another way


@pytest.mark.parametrize("arguments", WRITES, ids=" ".join)
def test_whoever_has_read_enough_ends_the_command_without_a_word(
    arguments: tuple[str, ...], home: Path
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*ANGARA, *arguments], stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=home
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full disk to write to")
@pytest.mark.parametrize("arguments", WRITES[:2], ids=" ".join)
def test_a_full_disk_is_said(arguments: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*ANGARA, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == "angara: cannot write to standard output: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("arguments", WRITES[:2], ids=" ".join)
def test_so_is_an_output_that_is_closed(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", *ANGARA, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.stderr == "angara: cannot write to standard output: Bad file descriptor\n"
    assert done.returncode == 1


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A working directory with settings and books in which is nothing."""
    settings(tmp_path, NOBODY)
    (tmp_path / "data").mkdir()
    store_in(tmp_path / "data").close()
    return tmp_path


def test_a_shell_completes_groups_commands_and_options() -> None:
    for words, expected in (
        (("angara", "ten"), ["tenant"]),
        (("angara", "tenant", "su"), ["suspend"]),
        (("angara", "tenant", "list", "--da"), ["--data-dir", "--database"]),
    ):
        typed = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        run = [sys.executable, "-c", "import sys; sys.argv = ['angara']; " + ANGARA[2]]
        environment = os.environ | typed | {"_ANGARA_COMPLETE": "complete_bash"}
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == expected
