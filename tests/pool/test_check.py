"""`angara check` says what a start with these settings would end by, beside a running pool and without."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from pool.books import book
from pool.books.store import upgrade
from pool.chain.networks import NETWORKS
from pool.check import Finding, check_pool
from pool.config import load_config
from pool.data_dir import bind_directory, held
from pool.proof_key import make_proof_key
from tests.fixtures.databases import PostgresDatabases, store_in
from tests.fixtures.held_ports import held_port
from tests.pool.chain.test_zmq_watch import Publisher

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


async def findings(directory: Path, more: str = "", listen: str = "127.0.0.1:0") -> dict[str, list[Finding]]:
    path = directory / "angara.toml"
    path.write_text(f'{SETTINGS}[stratum]\nlisten = ["{listen}"]\n{more}')
    found: dict[str, list[Finding]] = {}
    for it in await check_pool(load_config(path)):
        found.setdefault(it.subject.partition(" ")[0], []).append(it)
    return found


async def test_where_a_node_does_not_tell_of_blocks_is_said(tmp_path: Path) -> None:
    with Publisher() as publisher, held_port() as nobody:
        wrong = "tcp://{}:{}".format(*nobody.getsockname())
        nodes = [
            f'[[node]]\nname = "{url}"\nurl = "http://127.0.0.1:1"\nuser = "u"\npassword = "p"\n'
            f'zmq_hashblock = "{url}"\n'
            for url in (publisher.url, wrong)
        ]
        found = await findings(tmp_path, "".join(nodes))
    assert [it for it in found["node"] if "zmq" in it.subject] == [
        Finding(True, f"node {publisher.url} zmq_hashblock", f"{publisher.url} publishes"),
        Finding(False, f"node {wrong} zmq_hashblock", f"{wrong}: nothing answers"),
    ]


async def test_a_book_that_is_not_there_yet_is_made_by_the_start_and_not_here(tmp_path: Path) -> None:
    (it,) = (await findings(tmp_path))["database"]
    assert it == Finding(True, "database", "a new book, made at the start")
    assert not (tmp_path / "data").exists()


async def test_a_book_is_looked_at_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(store_in(tmp_path / "data")) as store:
        book.bind(store, "regtest")
    file = tmp_path / "data" / "angara.db"
    before = file.read_bytes()
    (it,) = (await findings(tmp_path))["database"]
    assert it.good
    assert it.text.startswith("a book of regtest, schema ")
    assert file.read_bytes() == before


async def test_what_is_of_another_network_begins_no_pool(tmp_path: Path) -> None:
    with closing(store_in(tmp_path / "data")) as store:
        book.bind(store, "signet")
    bind_directory(tmp_path / "data", "signet", NETWORKS["signet"].genesis)
    found = await findings(tmp_path)
    for subject in ("database", "data_dir"):
        (it,) = found[subject]
        assert not it.good
        assert "the settings say regtest: every network has its own" in it.text


async def test_a_book_of_a_version_to_come_begins_no_pool(tmp_path: Path) -> None:
    with closing(store_in(tmp_path / "data")) as store, store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    (it,) = (await findings(tmp_path))["database"]
    assert not it.good
    assert "newer than this Angara" in it.text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/angara", "mysql is not a database that is supported"),
        ("postgresql://angara:hunter2@127.0.0.1:1/angara", "the database cannot be used: "),
    ],
)
async def test_a_database_that_cannot_be_used_begins_no_pool(url: str, words: str, tmp_path: Path) -> None:
    (it,) = (await findings(tmp_path, f'[database]\nurl = "{url}"'))["database"]
    assert not it.good
    assert words in it.text
    assert "hunter2" not in it.text
    assert "\n" not in it.text


async def test_a_postgresql_that_was_not_upgraded_begins_no_pool(
    postgres_databases: PostgresDatabases, tmp_path: Path
) -> None:
    with postgres_databases.fresh_url(upgraded=False) as url:
        settings = f'[database]\nurl = "{url}"'
        (it,) = (await findings(tmp_path, settings))["database"]
        assert not it.good
        assert "the database is empty" in it.text
        assert "run `angara db upgrade`" in it.text
        upgrade(url)
        (it,) = (await findings(tmp_path, settings))["database"]
        assert it.good


async def test_a_key_of_proof_that_is_not_there_begins_no_pool(tmp_path: Path) -> None:
    settings = '[proof]\nkey_file = "proof.key"'
    (it,) = (await findings(tmp_path, settings))["proof"]
    assert not it.good
    assert "proof.key: No such file" in it.text
    key = make_proof_key(tmp_path / "proof.key")
    (it,) = (await findings(tmp_path, settings))["proof"]
    assert it == Finding(True, "proof", f"signed by the key {key.public.hex()}")


async def test_one_address_for_two_listeners_is_free_for_one(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    web = f'[web]\nlisten = "127.0.0.1:{port}"'
    twice = "these settings name it twice, and one can listen there"
    first, second = (await findings(tmp_path, web, f"127.0.0.1:{port}"))["listen"]
    assert (first.good, second) == (True, Finding(False, f"listen 127.0.0.1:{port}", twice))
    with held(tmp_path / "data"), socket.create_server(("127.0.0.1", port)):
        first, second = (await findings(tmp_path, web, f"127.0.0.1:{port}"))["listen"]
    assert (first.good, second.text) == (True, twice), "a pool that runs is not what is in the way"


async def test_what_a_running_pool_listens_on_is_no_mistake_in_its_settings(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        (it,) = (await findings(tmp_path, listen=listen))["listen"]
        assert not it.good, "nobody has the data directory: it is another program"
        with held(tmp_path / "data"):
            (it,) = (await findings(tmp_path, listen=listen))["listen"]
        assert it == Finding(True, f"listen {listen}", f"in use, while a pool runs on {tmp_path / 'data'}")
        with held(tmp_path / "data", reading=True):
            (it,) = (await findings(tmp_path, listen=listen))["listen"]
        assert not it.good, "who only reads is no pool"
