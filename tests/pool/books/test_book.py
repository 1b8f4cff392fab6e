"""A book knows its chain: what it was bound to when it was made is what it is of, ever after."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, update
from sqlalchemy.exc import DatabaseError
from typer.testing import CliRunner

import pool.main
from payouts.schemas.book import book
from payouts.schemas.money import tenant_addresses
from pool.books.book import WrongBook, bind, bind_signet, network_of
from pool.books.journal.rate_epochs import WorkPrice
from pool.books.store import Store
from pool.chain.networks import NETWORKS
from pool.chain.nodes import Node, NodeConfig, NodeUnfit, check_chain
from pool.cli.main import app
from pool.data_dir import DataDirError, bind_directory
from tests.fakes.bitcoinds import SIGNET, FakeBitcoind
from tests.fixtures.databases import add_tenant, store_in
from tests.stages.prices import open_epoch
from tests.stages.two_pools import settings

MAIN, REGTEST = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
TESTNET = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx"
NODE = NodeConfig(name="nowhere", url="http://127.0.0.1:1", user="u", password="p")
OP_TRUE, OTHER = "51", "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be43051ae"


# The database


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize("other", sorted(set(NETWORKS) - {"regtest"}))
def test_a_book_is_of_the_network_that_it_was_made_for_and_of_no_other(store: Store, other: str) -> None:
    bind(store, "regtest")
    bind(store, "regtest")
    with pytest.raises(WrongBook, match=f"is a book of regtest, the settings say {other}"):
        bind(store, other)
    with store.read() as connection:
        assert network_of(connection) == "regtest"


def test_the_binding_cannot_be_changed_behind_our_back(store: Store) -> None:
    bind(store, "regtest")
    nothing = dict.fromkeys(("network", "genesis"))
    for change in ({"network": "main"}, nothing, {"genesis": "ab"}):
        with pytest.raises(DatabaseError, match="never changes"), store.write() as connection:
            connection.execute(update(book).values(**change))


def pays(address: str) -> Callable[[Connection], object]:
    def add(connection: Connection) -> None:
        add_tenant(connection, 1, "acme")
        row = {"tenant_id": 1, "changed_at_s": 0, "changed_by": "ann", "effective_at_s": 0}
        connection.execute(insert(tenant_addresses).values(address=address, **row))

    return add


def priced(nbits: int, height: int, subsidy_sat: int) -> Callable[[Connection], object]:
    return lambda connection: open_epoch(
        connection, WorkPrice(nbits=nbits, subsidy_sat=subsidy_sat), height, 0
    )


@pytest.mark.sqlite_suffices
@pytest.mark.parametrize(
    ("content", "network", "words"),
    [
        (pays(REGTEST), "main", "is a regtest address, the node is on mainnet"),
        (pays(MAIN), "regtest", "is a mainnet address"),
        (pays(TESTNET), "regtest", "is a testnet address"),
        (priced(0x207FFFFF, 1, 50 * 10**8), "main", "easier than main allows"),
        (
            priced(0x1D00FFFF, 150, 25 * 10**8),
            "main",
            "height 150 was priced with a subsidy of 2500",
        ),
        (priced(0x17034219, 900_000, 312_500_000), "regtest", "height 900000 was priced"),
    ],
)
def test_a_book_of_before_is_bound_at_its_next_start_unless_what_is_in_it_contradicts(
    store: Store, content: Callable[[Connection], object], network: str, words: str
) -> None:
    with store.write() as connection:
        content(connection)
    with pytest.raises(WrongBook, match=words):
        bind(store, network)
    with store.read() as connection:
        assert network_of(connection) is None
    bind(store, "test" if "testnet" in words else {"main": "regtest", "regtest": "main"}[network])


async def test_a_pool_of_another_network_does_not_start_on_the_book(tmp_path: Path) -> None:
    with closing(store_in(tmp_path)) as store:
        bind(store, "main")
        with pytest.raises(WrongBook, match="is a book of main, the settings say regtest"):
            pool.main.Pool(settings(tmp_path / "new", NODE), store)


# The data directory


async def test_a_pool_of_another_network_does_not_start_on_the_data_directory(tmp_path: Path) -> None:
    """It has found blocks, which the pool submits."""
    bind_directory(tmp_path, "main", NETWORKS["main"].genesis)
    (tmp_path / "new").mkdir()
    with (
        closing(store_in(tmp_path / "new")) as store,
        pytest.raises(DataDirError, match=r"is of 'main 0000.*', the settings say regtest"),
    ):
        pool.main.Pool(settings(tmp_path, NODE), store)


def test_a_data_directory_is_bound_by_its_first_start(tmp_path: Path) -> None:
    for _ in range(2):
        bind_directory(tmp_path / "new", "signet", NETWORKS["signet"].genesis)
    (tmp_path / "new" / "network").write_bytes(b"\xff" * 10_000)
    with pytest.raises(DataDirError, match="the settings say signet"):
        bind_directory(tmp_path / "new", "signet", NETWORKS["signet"].genesis)


# The command line


def angara(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.output


@pytest.mark.parametrize(("network", "address"), [("main", MAIN), ("regtest", REGTEST)])
def test_without_settings_the_network_is_the_books(tmp_path: Path, network: str, address: str) -> None:
    with closing(store_in(tmp_path)) as store:
        bind(store, network)
    added = angara("tenant", "add", "acme", "--address", address, "--data-dir", tmp_path)
    assert added[0] == 0
    assert address in added[1]
    other = MAIN if address == REGTEST else REGTEST
    refused = angara("tenant", "set-address", "acme", other, "--data-dir", tmp_path)
    words = f"the node is on {'mainnet' if network == 'main' else 'regtest'}"
    assert (refused[0], words in refused[1]) == (2, True)


def test_an_address_needs_a_network(tmp_path: Path) -> None:
    assert angara("tenant", "add", "acme", "--data-dir", tmp_path)[0] == 0
    refused = angara("tenant", "set-address", "acme", MAIN, "--data-dir", tmp_path)
    assert (refused[0], "the database is of no network yet" in refused[1]) == (2, True)


# The node


async def test_a_node_whose_chain_begins_with_another_block_is_none_of_ours() -> None:
    """Some coins call themselves main."""

    class NodeOfAnotherCoin(FakeBitcoind):
        async def _getblockhash(self, height: int) -> str:
            return "12a765e31ffd4059bada1e25190f6e98c99d9714d334efa41a195a7e7e04bfe2"

    bitcoind = NodeOfAnotherCoin(chain="main")
    node = Node(bitcoind.config, transport=bitcoind)
    with pytest.raises(NodeUnfit, match="begins with block '12a765"):
        await check_chain(node, "main")


@pytest.mark.parametrize(
    ("chain", "changes", "words"),
    [
        ("regtest", {"signet_challenge": OP_TRUE}, "a signet's challenge, this pool mines 'regtest'"),
        ("signet", SIGNET | {"signet_challenge": None}, "no challenge, this pool mines 'signet'"),
        ("signet", {"signet_challenge": OP_TRUE, "rules": ["!segwit", "!signet"]}, "easier than 'signet'"),
        ("main", {}, "bits 207fffff: easier than 'main' allows"),
    ],
)
async def test_a_template_by_the_rules_of_another_network_is_refused(
    chain: str, changes: dict[str, Any], words: str
) -> None:
    bitcoind = FakeBitcoind(chain=chain)
    bitcoind.template_changes |= changes
    node = Node(bitcoind.config, transport=bitcoind)
    with pytest.raises(NodeUnfit, match=words):
        await node.template(chain=chain)


def test_a_book_of_one_signet_is_of_no_other(store: Store) -> None:
    bind(store, "signet")
    for _ in range(2):
        with store.write() as connection:
            bind_signet(connection, OP_TRUE)
    with (
        pytest.raises(WrongBook, match="of the signet with challenge 51, the node's is 5121"),
        store.write() as connection,
    ):
        bind_signet(connection, OTHER)
