"""Which of our nodes payouts ask: one that has the best chain, however many others lag or boast."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pool.chain.node_set import SILENT_S
from pool.chain.nodes import Node
from pool.chain.rpc import NodeUnreachable
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
