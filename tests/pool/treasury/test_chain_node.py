"""Which of our nodes payouts ask: one that has the best chain, however many others lag or boast."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing

from pool.chain.node_set import SILENT_S
from pool.chain.nodes import Node
from pool.chain.rpc import NodeSpokeNonsense, NodeUnreachable
from pool.treasury.chain_node import PayoutNodes
from tests.fakes.bitcoinds import FakeBitcoind, never_answers, refuses_connections


@asynccontextmanager
async def asking(*fakes: FakeBitcoind) -> AsyncIterator[PayoutNodes]:
    nodes = [Node(fake.config, transport=fake) for fake in fakes]
    try:
        yield PayoutNodes(nodes, "regtest")
    finally:
        for node in nodes:
            await node.aclose()


def three(first: int, second: int, third: int = 1) -> tuple[FakeBitcoind, FakeBitcoind, FakeBitcoind]:
    named = (("first", first), ("second", second), ("third", third))
    one, two, other = (FakeBitcoind(name, height=height) for name, height in named)
    return one, two, other


@pytest.mark.parametrize(
    ("heights", "asked"),
    [
        ((300, 300, 300), "first"),
        ((299, 300, 300), "second"),
        ((100, 300, 299), "second"),
        ((100, 200, 300), "third"),
        ((300, 299, 1), "first"),
    ],
)
async def test_a_node_that_lags_is_not_asked_what_was_spent(
    heights: tuple[int, int, int], asked: str
) -> None:
    async with asking(*three(*heights)) as nodes:
        node = await nodes.first()
        assert (node.name, node.height) == (asked, max(heights))


async def test_a_node_that_boasts_is_not_believed() -> None:
    one, two, _ = three(300, 300)
    two.chain_changes["blocks"] = 900
    async with asking(one, two) as nodes:
        assert (await nodes.first()).name == "first"


async def test_of_two_chains_that_are_equally_long_it_is_the_first_nodes() -> None:
    one, two, _ = three(300, 300)
    two.move_to(300, "other", since=290)
    async with asking(one, two) as nodes:
        assert (await nodes.first()).name == "first"


async def test_a_silent_node_holds_nobody_up_while_another_answers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    one, two, _ = three(300, 200)
    one.fault = never_answers
    async with asking(one, two) as nodes:
        began_s = trio.current_time()
        assert (await nodes.first()).name == "second"
        assert trio.current_time() - began_s <= SILENT_S


async def test_where_no_node_can_be_asked_each_says_why() -> None:
    one, two, _ = three(300, 300)
    one.fault = refuses_connections
    two.chain_changes["chain"] = "main"
    async with asking(one, two) as nodes:
        with pytest.raises(NodeUnreachable, match=r"first: cannot connect.*second: the node is on chain"):
            await nodes.first()


async def amount_read_from(written: str) -> int:
    """What an amount of a coin is taken for that a node writes so."""
    amount = msgspec.Raw(written.encode())
    coin = {"txid": "ab" * 32, "vout": 0, "scriptPubKey": "51", "height": 1, "amount": amount}
    node = FakeBitcoind()
    node.says["scantxoutset"] = {"success": True, "height": 1, "unspents": [coin]}
    async with asking(node) as nodes:
        (found,) = await (await nodes.first()).coins([])
        return found.amount_sat


@pytest.mark.parametrize(
    ("written", "sat"),
    [
        ("0.00000001", 1),
        ("1e-8", 1),
        ("0.1", 10_000_000),
        ("0.30000000", 30_000_000),
        ("20999999.99999999", 2_099_999_999_999_999),
        ("21000000", 2_100_000_000_000_000),
        ("1.000000000000000000000000000000000", 100_000_000),
    ],
)
async def test_an_amount_is_read_to_the_satoshi(written: str, sat: int) -> None:
    assert await amount_read_from(written) == sat


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("0.000000015", "part of a satoshi"),
        ("1.0000000000000000000000000000000000000001", "part of a satoshi"),  # as a float: 1
        ("20999999.999999999", "part of a satoshi"),  # as a float: 21,000,000 less one satoshi, rounded
        ("1e-400", "part of a satoshi"),  # as a float: 0
        ("21000000.00000001", "an amount that is none"),
        ("-0.00000001", "an amount that is none"),
        ("1e400", "an amount that is none"),
        ("1e" + "9" * 30, "a number beyond all bounds"),
        ("1." + "1" * 5_000, "part of a satoshi"),
    ],
)
async def test_nobody_rounds_an_amount(written: str, reason: str) -> None:
    with pytest.raises(NodeSpokeNonsense, match=reason):
        await amount_read_from(written)
