"""`angara nats`: keys, and settings by which a real server lets an edge in and throws it out."""

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
import trio
import trustme
from typer.testing import CliRunner

from payouts.rates import Scheme
from pool.books.edges.rows import EdgePlace, add_edge, retire_edge
from pool.cli.main import app
from pool.fleet.rows import TenantTerms, add_tenant
from pool.sites.nats.connection import Connection
from pool.sites.nats.key import checked_public, public_of, seed_in
from tests.fixtures.databases import store_in
from tests.fixtures.nats_servers import BINARY, Keys, NatsServer
from tests.stages.command_line import Outcome
from tests.stages.journal import NOW_S
from tests.stages.site_journal import new_nkey


def angara(*arguments: object) -> Outcome:
    result = CliRunner().invoke(app, ["nats", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Outcome(result.exit_code, result.output)


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


# Keys


def test_a_key_is_made_once_and_its_secret_is_in_the_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "oslo.nk"
    code, printed = angara("key", file)
    seed = seed_in(file)
    assert (code, mode(file), printed) == (0, 0o600, f"{public_of(seed)}\n")
    assert checked_public(printed.strip())
    assert seed not in printed
    code, told = angara("key", file)
    assert (code, "a key is never written over another" in told, seed_in(file)) == (2, True, seed)


def test_the_public_half_of_a_key_is_told_again(tmp_path: Path) -> None:
    file = tmp_path / "hub.nk"
    made = json.loads(angara("key", file, "--json").output)
    assert made == {"file": str(file), "public": public_of(seed_in(file))}
    assert json.loads(angara("public", file, "--json").output) == made
    assert angara("public", file) == (0, f"{made['public']}\n")


@pytest.mark.parametrize(
    ("content", "file_mode", "words"),
    [
        (None, 0o600, "cannot read"),
        ("no seed", 0o600, "there is no key of NATS in"),
        ("", 0o600, "there is no key of NATS in"),
        ("U" * 56, 0o600, "there is no key of NATS in"),
        ("no seed", 0o640, "others may read"),
    ],
)
def test_a_file_without_a_key_is_a_mistake(
    tmp_path: Path, content: str | None, file_mode: int, words: str
) -> None:
    file = tmp_path / "hub.nk"
    if content is not None:
        file.write_text(content)
        file.chmod(file_mode)
    code, told = angara("public", file)
    assert (code, words in told) == (2, True), told


def test_a_key_that_cannot_be_written_is_a_mistake(tmp_path: Path) -> None:
    code, told = angara("key", tmp_path / "none" / "hub.nk")
    assert (code, "cannot write" in told, "No such file" in told) == (2, True, True)


# Settings


@pytest.fixture
def books(tmp_path: Path) -> Path:
    """A data directory whose books know acme, and no edge."""
    terms = TenantTerms(scheme=Scheme.PPS, fee_bps=200, payout_minimum_sat=0)
    with closing(store_in(tmp_path / "data")) as store, store.write() as connection:
        add_tenant(connection, "acme", terms, by="test", now_s=NOW_S)
    return tmp_path / "data"


def add(books: Path, name: str, nkey: str) -> None:
    with closing(store_in(books)) as store, store.write() as connection:
        add_edge(connection, name, nkey, [EdgePlace("acme")], ths=None, by="ann", now_s=NOW_S)


def retire(books: Path, name: str) -> None:
    with closing(store_in(books)) as store, store.write() as connection:
        retire_edge(connection, name, NOW_S)


def given(home: Path, hub: str) -> tuple[object, ...]:
    return "config", "--name", "n1", "--store", home / "store", "--hub", hub


def is_taken(file: Path) -> bool:
    """By the server that reads it."""
    ran = subprocess.run([BINARY, "-t", "-c", file], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return "is valid" in ran.stdout + ran.stderr


def test_all_edges_of_the_books_are_let_in_that_are_not_retired(books: Path, tmp_path: Path) -> None:
    hub, keys = new_nkey(), {name: new_nkey() for name in ("oslo", "bergen")}
    for name, nkey in keys.items():
        add(books, name, nkey)
    code, written = angara(*given(tmp_path, hub), "--data-dir", books)
    assert (code, all(f"nkey: {it}\n" in written for it in (hub, *keys.values()))) == (0, True), written
    file = tmp_path / "nats.conf"
    file.write_text(written)
    assert is_taken(file)
    retire(books, "bergen")
    written = angara(*given(tmp_path, hub), "--data-dir", books).output
    assert (keys["oslo"] in written, keys["bergen"] in written) == (True, False)


def test_the_settings_say_which_books(books: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(books, "oslo", new_nkey())
    database = f"sqlite:///{books / 'angara.db'}"
    assert "# edge oslo\n" in angara(*given(tmp_path, new_nkey()), "--database", database).output
    monkeypatch.chdir(tmp_path)
    code, told = angara(*given(tmp_path, new_nkey()))
    assert (code, "there is no angara.toml here" in told, "or name edges with --edge" in told) == (
        2,
        True,
        True,
    )


def test_a_file_is_written_whole_for_its_group_and_keeps_it(tmp_path: Path) -> None:
    out = tmp_path / "nats.conf"
    edge = ("--edge", f"oslo={new_nkey()}")
    code, told = angara(*given(tmp_path, new_nkey()), *edge, "--out", out)
    assert (code, told, mode(out)) == (0, f"{out}: server n1, with 1 edge\n", 0o640)
    before, group = out.read_text(), out.stat().st_gid
    assert angara(*given(tmp_path, "U"), *edge, "--out", out).exit_code == 2
    assert out.read_text() == before
    assert angara(*given(tmp_path, new_nkey()), *edge, "--out", out).exit_code == 0
    assert (out.read_text() == before, out.stat().st_gid, mode(out)) == (False, group, 0o640)


def test_a_cluster_of_three_with_certificates(tmp_path: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "n1.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "n1.key"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    code, told = angara(
        *given(tmp_path, new_nkey()),
        *("--edge", f"oslo={new_nkey()}", "--edge", f"bergen={new_nkey()}", "--listen", "0.0.0.0:4222"),
        *("--certificate", tmp_path / "n1.pem", "--key", tmp_path / "n1.key"),
        *("--authorities", tmp_path / "ca.pem", "--cluster-listen", "[::]:6222"),
        *("--route", "n1.example:6222", "--route", "n2.example:6222", "--route", "n3.example:6222"),
        *("--out", tmp_path / "nats.conf"),
    )
    assert code == 0, told
    assert is_taken(tmp_path / "nats.conf")
    written = (tmp_path / "nats.conf").read_text()
    assert "handshake_first: true" in written
    assert 'routes: ["nats-route://n1.example:6222", "nats-route://n2.example:6222",' in written


SECRET = "SUAIBDPBAUTWCWBKIO6XHQNINK5FWJW4OHLXC3HQ2KFE4PEJUA44CNHTC4"
MISTAKES = {
    "the books too": (("--database", "sqlite:////none"), "give --edge, or the books that have the edges"),
    "an edge without a key": (("--edge", "bergen"), "--edge: give NAME=PUBLIC"),
    "a secret in place of an edge": (("--edge", SECRET), "--edge: give NAME=PUBLIC"),
    "a secret as an edge's key": (("--edge", f"bergen={SECRET}"), "the secret half of a key"),
    "an edge as a hub": (("--hub", f"bergen={SECRET}"), "one begins with U and has 56 characters"),
    "an edge twice": (("--edge", f"oslo={new_nkey()}"), "one name is given with two keys"),
    "a certificate without its key": (("--certificate", "/n1.pem"), "--certificate, --key and --authorities"),
    "a cluster without others": (("--cluster-listen", "127.0.0.1:6222"), "--cluster-listen and --route"),
    "others without a cluster": (("--route", "127.0.0.1:6222"), "--cluster-listen and --route together"),
    "no address": (("--listen", "4222"), "'4222' is no host:port"),
    "others, without TLS": (("--listen", "10.0.0.1:4222"), "is for other hosts too: give a certificate"),
    "a directory that is none": (("--store", "store"), "'store' is no absolute path"),
    "a file in no directory": (("--out", "/none/nats.conf"), "No such file or directory"),
}


@pytest.mark.parametrize("fault", MISTAKES)
def test_a_mistake_is_told_in_words_and_no_secret_is(fault: str, tmp_path: Path) -> None:
    arguments, words = MISTAKES[fault]
    code, told = angara(*given(tmp_path, new_nkey()), "--edge", f"oslo={new_nkey()}", *arguments)
    assert (code, words in told, SECRET[:12] in told) == (2, True, False), told


# A server that runs


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    it = NatsServer(tmp_path, Keys(tmp_path, ("oslo", "bergen")))
    yield it
    it.remove()


@asynccontextmanager
async def trying(server: NatsServer, name: str) -> AsyncIterator[Connection]:
    """Whoever has that key, whether it is let in or not."""
    connection = Connection(server.keys.access(name, server))
    async with trio.open_nursery() as nursery:
        await nursery.start(connection.run)
        yield connection
        nursery.cancel_scope.cancel()


async def refused(connection: Connection) -> None:
    while connection.state.connected or "does not know this key" not in connection.state.error:
        await connection.changed()


async def test_with_the_file_written_again_a_new_edge_is_let_in_and_a_retired_one_thrown_out(
    server: NatsServer, books: Path
) -> None:
    """Nobody else notices."""
    server.settings.parent.mkdir(parents=True)

    async def written() -> None:
        listen = ("--listen", f"127.0.0.1:{server.port}", "--store", server.store)
        where = ("--hub", server.keys.hub, "--data-dir", books, "--out", server.settings)
        work = partial(angara, "config", "--name", "n1", *listen, *where)
        told = await trio.to_thread.run_sync(work)
        assert told.exit_code == 0, told

    await trio.to_thread.run_sync(add, books, "oslo", server.keys.edges["oslo"])
    await written()
    server.run()
    await trio.to_thread.run_sync(server.wait)
    async with (
        trying(server, "hub") as hub,
        trying(server, "oslo") as oslo,
        trying(server, "bergen") as bergen,
    ):
        await hub.connected()
        await oslo.connected()
        await refused(bergen)

        await trio.to_thread.run_sync(add, books, "bergen", server.keys.edges["bergen"])
        await written()
        server.reload()
        await bergen.connected()

        await trio.to_thread.run_sync(retire, books, "oslo")
        await written()
        server.reload()
        await refused(oslo)
        assert (hub.state.connections, bergen.state.connections) == (1, 1)
