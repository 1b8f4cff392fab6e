"""Leaving a node that lags or is silent, by what another proves; and what no node can make us do."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from pool.chain.chain_lead import FORK_DEPTH_MAX, ClaimIsFalse, leads
from pool.chain.node_set import (
    CHECK_UP_S,
    LEAD_REMEMBERED_S,
    LEAD_S,
    SILENCE_CHECK_S,
    SILENT_S,
    NodeSet,
)
from pool.chain.nodes import Node, NodeState
from pool.chain.rpc import NodeError, NodeSpokeNonsense
from pool.chain.template_watch import TemplateWatch
from pool.chain.templates import Template
from tests.fakes.bitcoinds import FakeBitcoind, SaysNo, never_answers, refuses_connections

Clock = trio.testing.MockClock
TWO_CHECKS_S = 2 * CHECK_UP_S + 0.1


@asynccontextmanager
async def running(*fakes: FakeBitcoind) -> AsyncIterator[NodeSet]:
    """A set of these nodes, each of which has been checked."""
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain="regtest", transport=lambda config: transports[config.name]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        await nodes.chosen()
        await trio.sleep(1)
        yield nodes
        nursery.cancel_scope.cancel()


def two(first: int = 300, second: int = 300) -> tuple[FakeBitcoind, FakeBitcoind]:
    return FakeBitcoind("first", height=first), FakeBitcoind("second", height=second)


def mined_on(nodes: NodeSet) -> str | None:
    return None if nodes.current is None else nodes.current.name


def told(logs: list[Any]) -> list[tuple[str, str | None]]:
    names = ("node_behind", "node_caught_up", "node_chosen", "node_down", "node_up", "no_node_up")
    return [(entry["event"], entry.get("node")) for entry in logs if entry["event"] in names]


# Lagging


@pytest.mark.parametrize("ahead", [2, 200])
async def test_a_node_two_blocks_behind_another_is_left_and_taken_back_when_it_has_caught_up(
    ahead: int, autojump_clock: Clock
) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        assert mined_on(nodes) == "first"
        with structlog.testing.capture_logs() as logs:
            second.move_to(300 + ahead)
            await trio.sleep(TWO_CHECKS_S)
            assert mined_on(nodes) == "second"
            assert nodes.nodes[0].state is NodeState.BEHIND
            await trio.sleep(100)
            assert mined_on(nodes) == "second"
            first.move_to(300 + ahead)
            await trio.sleep(TWO_CHECKS_S)
            assert mined_on(nodes) == "first"
    assert told(logs) == [
        ("node_behind", "first"),
        ("node_chosen", "second"),
        ("node_caught_up", "first"),
        ("node_chosen", "first"),
    ]


async def test_one_block_behind_is_on_its_way_and_only_what_lasts_is_a_lag(autojump_clock: Clock) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        for height in range(301, 306):
            second.move_to(height)
            await trio.sleep(LEAD_S - CHECK_UP_S - 1)
            assert mined_on(nodes) == "first"
            first.move_to(height)
            await trio.sleep(TWO_CHECKS_S)
        second.move_to(306)
        await trio.sleep(LEAD_S + TWO_CHECKS_S)
        assert mined_on(nodes) == "second"


async def test_a_node_on_a_fork_with_less_work_is_left_for_the_longer_one(autojump_clock: Clock) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        first.move_to(303, "cut off", since=299)
        second.move_to(305)
        await trio.sleep(TWO_CHECKS_S)
        assert mined_on(nodes) == "second"


async def test_of_two_equally_long_chains_the_first_nodes_is_mined_on_for_ever(autojump_clock: Clock) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        second.move_to(300, "other", since=290)
        await trio.sleep(200)
        assert mined_on(nodes) == "first"


# Who may say what


async def test_a_height_without_the_work_for_it_moves_nobody(autojump_clock: Clock) -> None:
    """A node that lies could otherwise have the whole pool mine on nothing."""

    class NodeThatClaimsAHeight(FakeBitcoind):
        async def _getblockchaininfo(self) -> dict[str, Any]:
            return await super()._getblockchaininfo() | {"blocks": 1_000_000, "headers": 1_000_000}

    class NodeThatInventsBlocks(NodeThatClaimsAHeight):
        async def _getblockhash(self, height: int) -> str:
            return self.chain[height] if height <= self.height else f"{height:064x}"

        async def _getblockheader(self, block_hash: str, verbose: bool = True) -> Any:
            return "00" * 80 if block_hash not in self.headers else self.headers[block_hash].hex()

    class NodeThatShowsOldBlocksAsNew(NodeThatClaimsAHeight):
        async def _getblockhash(self, height: int) -> str:
            return self.chain[height if height <= self.height else 100 + height % 100]

    first, second = two()
    async with running(
        first, NodeThatInventsBlocks("inventor"), NodeThatClaimsAHeight("boaster"), second
    ) as nodes:
        await trio.sleep(30)
        assert mined_on(nodes) == "first"
        second.move_to(302)
        await trio.sleep(TWO_CHECKS_S)
        assert mined_on(nodes) == "second", "and they hide nobody who tells the truth"
    async with running(first, NodeThatShowsOldBlocksAsNew("second", height=300)) as nodes:
        await trio.sleep(30)
        assert mined_on(nodes) == "first"


async def test_blocks_that_are_much_easier_than_those_before_are_no_lead(autojump_clock: Clock) -> None:
    first, second = two(300, 302)
    one, other = (Node(fake.config, transport=fake) for fake in (first, second))
    assert await leads(other, one, 2, claimed=300)
    assert not await leads(other, one, 3, claimed=300)
    assert not await leads(one, other, 1, claimed=300)
    with pytest.raises(ClaimIsFalse, match="says height 400 and has no block there"):
        await leads(other, one, 2, claimed=400)
    hard = bytes.fromhex("1d00ffff")[::-1]
    common = first.headers[first.best]
    first.headers[first.best] = common[:72] + hard + common[76:]
    with pytest.raises(NodeSpokeNonsense, match="without its work"):
        await leads(other, one, 2, claimed=300)


async def test_chains_that_parted_long_ago_are_for_a_person_to_judge(autojump_clock: Clock) -> None:
    first, second = two()
    second.move_to(310, "other", since=299 - FORK_DEPTH_MAX)
    one, other = (Node(fake.config, transport=fake) for fake in (first, second))
    assert not await leads(other, one, 2, claimed=300)
    second.move_to(310, "other", since=302 - FORK_DEPTH_MAX)
    assert await leads(other, one, 2, claimed=300)


async def test_a_node_that_keeps_the_question_for_its_proof_holds_nothing_up(autojump_clock: Clock) -> None:
    class NodeThatNeverProves(FakeBitcoind):
        async def _getblockhash(self, height: int) -> str:
            if height:
                await trio.sleep_forever()
            return await super()._getblockhash(height)

    first, second = FakeBitcoind("first", height=300), NodeThatNeverProves("second", height=310)
    async with running(first, second) as nodes:
        await trio.sleep(100)
        assert mined_on(nodes) == "first"
        first.fault = refuses_connections
        await trio.sleep(60)
        assert mined_on(nodes) == "second"


# Silence


async def test_a_node_that_is_silent_while_another_answers_is_left_after_five_seconds(
    autojump_clock: Clock,
) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        with structlog.testing.capture_logs() as logs:
            silent_since_s = trio.current_time()
            first.fault = never_answers
            await nodes.until_left(nodes.nodes[0])
            after_s = trio.current_time() - silent_since_s
            assert SILENT_S <= after_s <= SILENT_S + CHECK_UP_S + SILENCE_CHECK_S
            assert mined_on(nodes) == "second"
            await trio.sleep(100)
            first.fault = None
            await trio.sleep(100)
            assert mined_on(nodes) == "first"
    assert "while second answers" in next(entry["reason"] for entry in logs if entry["event"] == "node_down")
    assert [name for name, _ in told(logs)] == ["node_down", "node_chosen", "node_up", "node_chosen"]


async def test_nodes_that_are_all_silent_are_not_left_for_each_other(autojump_clock: Clock) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        first.fault = second.fault = never_answers
        await trio.sleep(SILENT_S + CHECK_UP_S + 10)
        assert mined_on(nodes) == "first"


async def test_a_node_that_comes_back_from_silence_behind_the_others_is_not_mined_on(
    autojump_clock: Clock,
) -> None:
    """As one that was stopped by a signal, and goes on at the tip of then."""
    first, second = two()
    async with running(first, second) as nodes:
        first.fault = never_answers
        await trio.sleep(20)
        second.move_to(305)
        chosen = []
        with structlog.testing.capture_logs() as logs:
            first.fault = None
            for _ in range(50):
                await trio.sleep(1)
                chosen.append(mined_on(nodes))
        assert set(chosen) == {"second"}
        assert ("node_behind", "first") in told(logs)
        first.move_to(305)
        await trio.sleep(60)
        assert mined_on(nodes) == "first"


# When the better one goes


@pytest.mark.parametrize("behind", [1, 200])
async def test_failover_to_a_node_that_lags_waits_for_it_a_while_on_the_last_good_work(
    behind: int, autojump_clock: Clock
) -> None:
    first, second = two(300, 300 - behind)
    async with running(first, second) as nodes:
        await trio.sleep(LEAD_S + TWO_CHECKS_S)
        assert nodes.nodes[1].state is NodeState.BEHIND
        first.fault = refuses_connections
        await trio.sleep(60)
        assert nodes.current is None
        assert nodes.outage_since_s is not None
        second.move_to(300)
        await trio.sleep(60)
        assert mined_on(nodes) == "second"


async def test_a_lead_that_was_proven_holds_while_who_has_it_cannot_be_asked(autojump_clock: Clock) -> None:
    """When it goes it is up until its own check; the one behind was taken for caught up, and mined on."""

    class NodeThatAnswersChecksOnly(FakeBitcoind):
        alone = False

        async def _getblockhash(self, height: int) -> str:
            if height and self.alone:
                raise SaysNo(-1, "out of memory")
            return await super()._getblockhash(height)

    first, second = NodeThatAnswersChecksOnly("first", height=300), FakeBitcoind("second", height=200)
    async with running(first, second) as nodes:
        await trio.sleep(TWO_CHECKS_S)
        first.alone = True
        states = []
        for _ in range(int(LEAD_REMEMBERED_S) // 3 - 10):
            states.append(nodes.nodes[1].state)
            await trio.sleep(3)
        assert set(states) == {NodeState.BEHIND}
        await trio.sleep(60)
        assert nodes.nodes[1].state is NodeState.UP, "and not for ever"


async def test_a_node_that_lags_for_good_is_better_than_none(autojump_clock: Clock) -> None:
    first, second = two(300, 250)
    async with running(first, second) as nodes:
        await trio.sleep(LEAD_S + TWO_CHECKS_S)
        assert nodes.nodes[1].state is NodeState.BEHIND
        first.fault = refuses_connections
        with structlog.testing.capture_logs() as logs:
            await trio.sleep(LEAD_REMEMBERED_S - 60)
            assert nodes.current is None
            await trio.sleep(120)
            assert mined_on(nodes) == "second"
            first.fault = None
            await trio.sleep(60)
            assert mined_on(nodes) == "first"
    assert [name for name, _ in told(logs)].count("no_node_up") == 1


async def test_templates_come_from_the_better_node_within_seconds(autojump_clock: Clock) -> None:
    first, second = two()
    async with running(first, second) as nodes:
        send, receive = trio.open_memory_channel[Template](10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(TemplateWatch(nodes).run, send)
            assert (await receive.receive()).height == 301
            second.move_to(320)
            began_s = trio.current_time()
            while (await receive.receive()).height != 321:
                pass
            assert trio.current_time() - began_s <= TWO_CHECKS_S
            nursery.cancel_scope.cancel()


async def test_an_error_while_a_lead_is_proven_is_no_lead(autojump_clock: Clock) -> None:
    first, second = two(300, 310)
    node = Node(first.config, transport=first)
    other = Node(second.config, transport=second)
    second.fault = refuses_connections
    with pytest.raises(NodeError, match="cannot connect"):
        await leads(other, node, 2, claimed=300)
