"""The node client against the embedded node: real HTTP, real longpolls, a real restart.

Real time, too: what is waited for is an event each time, never a delay.
"""

from pathlib import Path

import pytest
import structlog
import trio

from pool.chain.node_set import NodeSet
from pool.chain.nodes import Node, NodeConfig, NodeUnfit, check_chain
from pool.chain.rpc import NodeRefused, RpcError
from pool.chain.template_watch import TemplateWatch
from pool.chain.templates import Template
from tests.stages.regtest import MINER_ADDRESS, running

TIMEOUT_S = 20

pytest.importorskip("pbk")


async def test_the_embedded_node_is_fit_for_regtest_and_for_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        node = Node(NodeConfig(name="regtest", url=rpc.node.url, cookie_file=rpc.node.cookie_file))
        status = await check_chain(node, "regtest")
        assert (status.chain, status.height) == ("regtest", 0)
        with pytest.raises(NodeUnfit, match="the node is on chain 'regtest', this pool mines 'main'"):
            await check_chain(node, "main")
        with pytest.raises(RpcError, match="-32601"):
            await node.rpc.call("nosuchmethod")
        stranger = Node(NodeConfig(name="stranger", url=rpc.node.url, user="me", password="wrong"))
        with pytest.raises(NodeRefused, match="HTTP 401"):
            await check_chain(stranger, "regtest")
        await node.aclose()
        await stranger.aclose()


async def test_a_pool_follows_the_tip_by_longpoll_and_survives_a_restart_with_a_new_cookie(
    tmp_path: Path,
) -> None:
    send, receive = trio.open_memory_channel[Template](0)
    async with trio.open_nursery() as nursery:
        with structlog.testing.capture_logs() as logs, trio.fail_after(TIMEOUT_S):
            async with running(tmp_path) as rpc:
                config = NodeConfig(name="regtest", url=rpc.node.url, cookie_file=rpc.node.cookie_file)
                nodes = NodeSet([config], chain="regtest")
                await nursery.start(nodes.run)
                nursery.start_soon(TemplateWatch(nodes).run, send)
                assert (await receive.receive()).height == 1
                for height in (2, 3):
                    (mined,) = await rpc("generatetoaddress", 1, MINER_ADDRESS)
                    template = await receive.receive()
                    assert (template.height, template.prevhash_hex) == (height, mined)
                cookie = rpc.node.cookie_file.read_text()
                port = int(rpc.node.url.rpartition(":")[2])
            while nodes.current is not None:  # the longpoll broke
                await nodes.until_left(nodes.nodes[0])
            async with running(tmp_path, port=port) as rpc:
                assert rpc.node.cookie_file.read_text() != cookie
                assert (await receive.receive()).height == 3
                assert nodes.outage_since_s is None
                nursery.cancel_scope.cancel()
    assert [entry["event"] for entry in logs if entry["event"].startswith("node_")] == [
        "node_up",
        "node_chosen",
        "node_down",
        "node_up",
        "node_chosen",
    ]
