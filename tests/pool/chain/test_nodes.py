"""Which node the pool mines on: what makes one fit, failing over and coming back, and what is logged."""

import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import structlog
import trio
import trio.testing
from rich.pretty import pretty_repr

from pool.chain.node_set import (
    BACKOFF_MAX_S,
    CHECK_TIMEOUT_S,
    CHECK_UP_S,
    DISAGREEMENT_S,
    FIRST_CHECK_TIMEOUT_S,
    NodeSet,
)
from pool.chain.nodes import ChainStatus, Node, NodeConfig, NodeState, NodeUnfit, check_chain
from pool.chain.rpc import NodeSpokeNonsense, NodeUnreachable
from tests.fakes.bitcoinds import (
    PASSWORD,
    SIGNET,
    USER,
    FakeBitcoind,
    Fault,
    answers_401,
    answers_403,
    answers_503,
    answers_html,
    closes_the_connection,
    never_answers,
    refuses_connections,
    says_not_connected,
    truncates_json,
    warms_up,
)

Clock = trio.testing.MockClock


def node_of(fake: FakeBitcoind) -> Node:
    return Node(fake.config, transport=fake)


@asynccontextmanager
async def running(*fakes: FakeBitcoind) -> AsyncIterator[NodeSet]:
    """A set of these nodes, being checked."""
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain="regtest", transport=lambda config: transports[config.name]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        yield nodes
        nursery.cancel_scope.cancel()


def events(logs: list[Any], *names: str) -> list[tuple[str, str | None]]:
    """(event, node) of the log lines with these names."""
    return [(entry["event"], entry.get("node")) for entry in logs if entry["event"] in names]


# What makes a node fit


async def test_a_fit_node_tells_its_status() -> None:
    fake = FakeBitcoind(height=7)
    status = await check_chain(node_of(fake), "regtest")
    assert status == ChainStatus("regtest", 7, fake.best, "/Fake:1/", 8)


@pytest.mark.parametrize(
    ("chain", "chain_changes", "network_changes", "reason"),
    [
        ("main", {"chain": "test"}, {}, "the node is on chain 'test', this pool mines 'main'"),
        (
            "main",
            {"chain": "main", "blocks": 5, "headers": 800_000, "initialblockdownload": True},
            {},
            "the node is in initial block download, at 5 of 800000 blocks",
        ),
        (
            "main",
            {"chain": "main", "blocks": 799_997, "headers": 800_000},
            {},
            "the node is catching up, at 799997 of 800000 blocks",
        ),
        (
            "regtest",
            {},
            {"localservicesnames": ["NETWORK"]},
            "the node does not serve segwit blocks (no WITNESS among its services)",
        ),
    ],
)
async def test_an_unfit_node_is_refused_with_the_reason(
    chain: str, chain_changes: dict[str, Any], network_changes: dict[str, Any], reason: str
) -> None:
    fake = FakeBitcoind()
    fake.chain_changes |= chain_changes
    fake.network_changes |= network_changes
    with pytest.raises(NodeUnfit) as refused:
        await check_chain(node_of(fake), chain)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("chain", "changes"),
    [
        ("main", {"chain": "main", "blocks": 799_998, "headers": 800_000}),  # blocks on their way
        ("regtest", {"initialblockdownload": True}),  # its genesis block is of 2011
        ("regtest", {"blocks": 0, "headers": 100}),
    ],
)
async def test_what_is_normal_is_no_obstacle(chain: str, changes: dict[str, Any]) -> None:
    fake = FakeBitcoind()
    fake.chain_changes |= changes
    assert (await check_chain(node_of(fake), chain)).chain == chain


async def test_chain_info_without_its_fields_is_nonsense() -> None:
    fake = FakeBitcoind()
    fake.chain_changes["blocks"] = "many"
    with pytest.raises(NodeSpokeNonsense, match="getblockchaininfo: Expected `int`, got `str`"):
        await check_chain(node_of(fake), "regtest")


async def test_a_template_is_asked_for_with_segwit_and_on_signet_with_signet() -> None:
    fake = FakeBitcoind()
    node = node_of(fake)
    await node.template(chain="regtest")
    fake.template_changes |= SIGNET
    await node.template(chain="signet", longpoll_id="elsewhere")
    assert [params for _, params in fake.calls] == [
        [{"rules": ["segwit"]}],
        [{"rules": ["segwit", "signet"], "longpollid": "elsewhere"}],
    ]


async def test_a_template_without_the_segwit_rule_makes_a_node_unfit() -> None:
    fake = FakeBitcoind()
    fake.template_changes["rules"] = ["csv"]
    with pytest.raises(NodeUnfit, match="do not follow the segwit rule"):
        await node_of(fake).template(chain="regtest")


async def test_a_bad_template_is_nonsense_that_names_the_field() -> None:
    fake = FakeBitcoind()
    fake.template_changes["bits"] = None
    with pytest.raises(NodeSpokeNonsense, match="missing required field `bits`"):
        await node_of(fake).template(chain="regtest")


async def test_a_verdict_on_a_block_is_a_word_or_nothing() -> None:
    fake = FakeBitcoind()
    fake.verdicts = ["high-hash", None, 5]  # type: ignore[list-item]
    node = node_of(fake)
    assert await node.submit_block([b"00"]) == "high-hash"
    assert await node.submit_block([b"00"]) is None
    with pytest.raises(NodeSpokeNonsense, match="no BIP-22 result"):
        await node.submit_block([b"00"])


# Failing over, and back


async def test_the_first_node_in_order_is_mined_on(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    async with running(first, second) as nodes:
        assert (await nodes.chosen()).name == "first"
        assert nodes.outage_since_s is None


async def test_the_better_node_is_waited_for_at_the_start_but_not_for_long(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.fault = never_answers
    async with running(first, second) as nodes:
        started_s = trio.current_time()
        assert (await nodes.chosen()).name == "second"
        assert trio.current_time() - started_s == pytest.approx(FIRST_CHECK_TIMEOUT_S)


FAULTS: list[tuple[Fault, str]] = [
    (refuses_connections, "cannot connect"),
    (never_answers, "no answer within"),
    (closes_the_connection, "the connection broke"),
    (answers_401, "HTTP 401"),
    (answers_403, "HTTP 403"),
    (answers_503, "HTTP 503: Work queue depth exceeded"),
    (warms_up, "the node is starting: Loading block index..."),
    (says_not_connected, "Bitcoin Core is not connected! (-9)"),
    (truncates_json, "that are no answer"),
    (answers_html, "that are no answer"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
async def test_every_fault_moves_us_to_the_next_node_and_its_end_back_logged_once_each(
    fault: Fault, reason: str, autojump_clock: Clock
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    async with running(first, second) as nodes:
        node = await nodes.chosen()
        await trio.sleep(1)  # both are up
        with structlog.testing.capture_logs() as logs:
            first.fault = fault
            await nodes.until_left(node)
            assert nodes.current is nodes.nodes[1]
            assert nodes.outage_since_s is None
            await trio.sleep(100)
            assert reason in nodes.nodes[0].reason
            assert nodes.current is nodes.nodes[1]
            first.fault = None
            await nodes.until_left(nodes.nodes[1])
            assert nodes.current is nodes.nodes[0]
            assert nodes.nodes[0].reason == ""
    assert events(logs, "node_down", "node_up", "node_chosen", "no_node_up") == [
        ("node_down", "first"),
        ("node_chosen", "second"),
        ("node_up", "first"),
        ("node_chosen", "first"),
    ]
    assert logs[-2]["after_s"] > 100
    assert PASSWORD not in str(logs)


async def test_a_node_that_was_down_must_offer_a_template_before_it_is_mined_on(
    autojump_clock: Clock,
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.template_changes["bits"] = "00000000"  # all else is well
    async with running(first, second) as nodes:
        assert (await nodes.chosen()).name == "second"
        await trio.sleep(300)
        assert nodes.nodes[0].state is NodeState.DOWN
        assert "zero" in nodes.nodes[0].reason
        first.template_changes.clear()
        await nodes.until_left(nodes.nodes[1])
        assert nodes.current is nodes.nodes[0]


async def test_a_node_on_the_wrong_chain_is_never_mined_on(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first", chain="main"), FakeBitcoind("second")
    async with running(first, second) as nodes:
        assert (await nodes.chosen()).name == "second"
        await trio.sleep(300)
        assert nodes.current is nodes.nodes[1]
        assert nodes.nodes[0].reason == "the node is on chain 'main', this pool mines 'regtest'"


async def test_an_outage_of_all_nodes_is_known_since_when_and_ends_by_itself(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    with structlog.testing.capture_logs() as logs:
        async with running(first, second) as nodes:
            await nodes.chosen()
            await trio.sleep(100)
            first.fault = second.fault = refuses_connections
            await trio.sleep(CHECK_UP_S)
            assert nodes.current is None
            began_s = nodes.outage_since_s
            assert began_s is not None
            assert 0 <= trio.current_time() - began_s <= CHECK_UP_S
            await trio.sleep(1000)
            assert nodes.outage_since_s == began_s
            second.fault = None
            assert (await nodes.chosen()).name == "second"
            assert nodes.outage_since_s is None
    assert len(events(logs, "no_node_up")) == 1
    assert len(events(logs, "node_down")) == 2


async def test_the_outage_begins_with_the_set_when_no_node_ever_answered(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    first.fault = second.fault = refuses_connections
    began_s = trio.current_time()
    with structlog.testing.capture_logs() as logs:
        async with running(first, second) as nodes:
            await trio.sleep(50)
            assert nodes.outage_since_s == began_s
    assert len(events(logs, "no_node_up")) == 1


async def test_a_node_that_is_down_is_asked_ever_less_often_within_bounds(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    fake.fault = refuses_connections
    asked_s: list[float] = []

    async def refuses_and_notes(request: Any) -> Any:
        asked_s.append(trio.current_time())
        return await refuses_connections(request)

    fake.fault = refuses_and_notes
    async with running(fake):
        await trio.sleep(200)
    waits_s = [round(after - before) for before, after in pairwise(asked_s)]
    assert waits_s[:7] == [1, 2, 4, 8, 16, BACKOFF_MAX_S, BACKOFF_MAX_S]


async def test_a_node_that_comes_and_goes_is_not_followed_every_second(autojump_clock: Clock) -> None:
    """Somebody who uses it keeps finding it down, though each check says that it is well."""
    fake = FakeBitcoind()
    with structlog.testing.capture_logs() as logs:
        async with running(fake) as nodes:
            with trio.move_on_after(300):
                while True:
                    node = await nodes.chosen()
                    await trio.sleep(0.1)
                    nodes.mark_down(node, NodeUnreachable("the connection broke"))
    assert 5 < len(events(logs, "node_down")) < 20


async def test_a_node_found_down_while_it_is_checked_is_not_up_by_that_check(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with running(fake) as nodes:
        node = await nodes.chosen()
        answered = trio.Event()

        async def answers_late(request: Any) -> Any:
            await answered.wait()
            fake.fault = None
            return await fake.handle_async_request(request)

        fake.fault = answers_late
        await trio.sleep(CHECK_UP_S + 1)  # the routine check is waiting now
        nodes.mark_down(node, NodeUnreachable("the connection broke"))
        answered.set()
        await trio.testing.wait_all_tasks_blocked()
        assert node.state is NodeState.DOWN
        assert await nodes.chosen() is node  # by a check of its own


async def test_nodes_that_disagree_on_the_tip_are_an_alarm_and_the_first_is_mined_on(
    autojump_clock: Clock,
) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    second.move_to(100, "other")
    with structlog.testing.capture_logs() as logs:
        async with running(first, second) as nodes:
            assert (await nodes.chosen()).name == "first"
            await trio.sleep(DISAGREEMENT_S - 1)
            assert events(logs, "nodes_disagree") == []
            await trio.sleep(300)
            assert nodes.current is nodes.nodes[0]
            first.move_to(100, "other")
            await trio.sleep(300)
    disagree, agree = [entry for entry in logs if entry["event"] in ("nodes_disagree", "nodes_agree")]
    assert disagree["log_level"] == "error"
    assert disagree["mining_on"] == "first"
    assert set(disagree["tips"]) == {"first", "second"}
    assert disagree["tips"]["second"] == f"100 {second.best}"
    assert agree["event"] == "nodes_agree"


async def test_a_tip_on_its_way_between_nodes_is_no_alarm(autojump_clock: Clock) -> None:
    first, second = FakeBitcoind("first"), FakeBitcoind("second")
    with structlog.testing.capture_logs() as logs:
        async with running(first, second):
            for height in range(101, 106):
                second.move_to(height)
                await trio.sleep(CHECK_UP_S + 1)
                first.move_to(height)
                await trio.sleep(CHECK_UP_S + 1)
    assert events(logs, "nodes_disagree") == []


# Configuration and secrets


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("127.0.0.1:8332", "the url is not http://host:port"),
        ("ftp://127.0.0.1:8332", "the url is not http://host:port"),
        ("http://", "the url is not http://host:port"),
        ("http://host:port", "the url is not http://host:port"),
        ("http://host:65536", "the url is not http://host:port"),
        (f"http://pool:{PASSWORD}@host:8332", "user and password have settings of their own"),
        (f"pool:{PASSWORD}@host:8332", "the url is not http://host:port"),
    ],
)
def test_a_bad_url_is_refused_without_repeating_it(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        NodeConfig(name="first", url=url, user=USER, password=PASSWORD)
    assert PASSWORD not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "credentials",
    [{}, {"user": USER}, {"password": PASSWORD}, {"user": USER, "password": "", "cookie_file": "/c"}],
)
def test_credentials_are_a_cookie_file_or_user_and_password(credentials: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="give a cookie_file, or user and password"):
        NodeConfig(name="first", url="http://host:8332", **credentials)


async def test_the_password_is_in_no_representation() -> None:
    fake = FakeBitcoind()
    node = node_of(fake)
    for told in (
        repr(fake.config),
        str(fake.config),
        pretty_repr(fake.config),
        repr(node),
        repr(node.__dict__),
    ):
        assert PASSWORD not in told


@pytest.mark.parametrize(
    ("count", "names"), [(0, []), (2, ["same", "same"]), (17, [str(n) for n in range(17)])]
)
async def test_one_to_sixteen_nodes_with_different_names(count: int, names: list[str]) -> None:
    with pytest.raises(ValueError, match="1 to 16 nodes with different names"):
        NodeSet([FakeBitcoind(name).config for name in names], chain="regtest")


async def test_an_unknown_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="chain 'mainnet' is unknown, there are: main, test"):
        NodeSet([FakeBitcoind().config], chain="mainnet")


async def test_a_silent_node_is_left_within_one_check(autojump_clock: Clock) -> None:
    fake = FakeBitcoind()
    async with running(fake) as nodes:
        node = await nodes.chosen()
        fake.fault = never_answers
        began_s = trio.current_time()
        await nodes.until_left(node)
        assert trio.current_time() - began_s <= CHECK_UP_S + CHECK_TIMEOUT_S


async def test_a_node_that_is_slow_within_bounds_is_kept(autojump_clock: Clock) -> None:
    class NodeThatAnswersSlowly(FakeBitcoind):
        async def _getblockchaininfo(self) -> dict[str, Any]:
            await trio.sleep(self.delay_s)
            return await super()._getblockchaininfo()

        delay_s = 0

    fake = NodeThatAnswersSlowly()
    async with running(fake) as nodes:
        node = await nodes.chosen()
        fake.delay_s = 20
        with trio.move_on_after(300) as patience:
            await nodes.until_left(node)
        assert patience.cancelled_caught
        fake.delay_s = 31
        await nodes.until_left(node)
        assert "within 30 s" in node.reason
