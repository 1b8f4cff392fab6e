"""A pool that mines for another one: what is counted on both sides, and blocks found on the way.

The upstream is a second Angara on the same embedded node, whose consensus code is Bitcoin Core's.
"""

from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from sqlalchemy import func, select

from payouts.schemas.money import block_events, blocks, sibling_blocks
from pool.chain.blocks import SubmitState
from stratum.tallies import Verdict
from tests.fakes.proxy_upstreams import DIFF1
from tests.fakes.upstreams import USER
from tests.stages.two_pools import (
    MANY_BLOCKS,
    Side,
    a_fleet,
    a_node,
    a_proxy,
    a_side,
    add_route,
    always,
    at_rest,
    check_shares,
    hurry,
    mine_on,
    running,
)
from tests.stages.waiting import until

ACCEPTED = Verdict.ACCEPTED
ABOVE_LOG2 = -28  # sixteen times as hard as what the machines are given
UPSTREAM_TENANT = USER.partition(".")[0]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody dies here, however slow the machine is.
    hurry(monkeypatch, connect_s=60.0, handshake_s=60.0, silence_s=60.0)


@pytest.fixture
def upstream(tmp_path: Path) -> Side:
    """The other pool, where the operator of the proxy has an account."""
    return a_side(tmp_path / "upstream", UPSTREAM_TENANT)


async def test_400_sessions_through_one_connection_are_counted_alike_on_both_sides(
    tmp_path: Path, upstream: Side
) -> None:
    """And those of another tenant mine for the pool itself, in the same process, at the same time."""
    proxy = a_side(tmp_path / "proxy", "acme", "bolt")
    async with a_node(tmp_path) as node, running(upstream, node, extranonce2_bytes=8):
        add_route(proxy, "north", upstream.port)
        mine_on(proxy, "acme", "north")
        async with (
            running(proxy, node),
            a_fleet(proxy.port, {"acme": 400}, interval_s=1.0) as acme,
            a_fleet(proxy.port, {"bolt": 10}, interval_s=0.2) as bolt,
        ):
            await until(lambda: (acme.mining, bolt.mining) == (400, 10))
            assert len(upstream.board.connections) == 1
            assert [it.sessions for it in proxy.status.upstreams] == [400]
            await acme.mined(1_200)
            await bolt.mined(50)
            await at_rest(proxy, acme)
    assert check_shares(proxy, acme, "acme") == {ACCEPTED: acme.acknowledged.total()}
    assert proxy.good("bolt") == {ACCEPTED: bolt.acknowledged.total()}
    assert proxy.upstream_says() == {"accepted": acme.acknowledged.total()}
    assert upstream.good() == {ACCEPTED: acme.acknowledged.total()}
    assert (acme.lost, acme.refused.total(), bolt.refused.total()) == (0, 0, 0)
    assert acme.connections == 400  # nobody had to come twice


async def test_sessions_are_spread_over_the_connections_of_one_upstream(
    tmp_path: Path, upstream: Side
) -> None:
    proxy = a_side(tmp_path / "proxy", "acme")
    async with a_node(tmp_path) as node, running(upstream, node, extranonce2_bytes=8):
        add_route(proxy, "north", upstream.port, connections=3)
        mine_on(proxy, "acme", "north")
        async with running(proxy, node), a_fleet(proxy.port, {"acme": 30}, interval_s=0.2) as fleet:
            await until(lambda: fleet.mining == 30)
            await fleet.mined(150)
            # However many of them were up when the first machines came.
            await until(lambda: min(it.sessions for it in proxy.status.upstreams) >= 5)
            assert len(upstream.board.connections) == 3
            assert sum(it.sessions for it in proxy.status.upstreams) == 30
            await at_rest(proxy, fleet)
    assert check_shares(proxy, fleet, "acme") == {ACCEPTED: fleet.acknowledged.total()}
    assert upstream.good() == {ACCEPTED: fleet.acknowledged.total()}


async def test_only_what_is_a_share_to_the_upstream_is_forwarded(tmp_path: Path, upstream: Side) -> None:
    """The others count at the proxy alone, at the difficulty that the miner has there."""
    async with (
        a_node(tmp_path) as node,
        running(upstream, node, start_difficulty_log2=ABOVE_LOG2, vardiff=always(ABOVE_LOG2)),
        a_proxy(tmp_path, node, upstream.port, machines=20) as (proxy, fleet),
    ):
        await fleet.mined(400)
    target = DIFF1 << -ABOVE_LOG2
    good_enough = sum(int.from_bytes(found, "little") <= target for found in fleet.acknowledged)
    assert 0 < good_enough < fleet.acknowledged.total() / 8
    assert proxy.good("acme") == {ACCEPTED: fleet.acknowledged.total()}
    assert proxy.upstream_says() == {"accepted": good_enough}
    assert upstream.good() == {ACCEPTED: good_enough}
    assert upstream.shares(Verdict.LOW_DIFFICULTY) == 0


async def test_blocks_found_for_the_upstream_are_submitted_once_and_accepted(
    tmp_path: Path, upstream: Side
) -> None:
    """By the upstream, to which they belong; the proxy says in its log that it forwarded them."""

    def taken() -> list[str]:
        return [it.hash_hex for it in upstream.blocks if it.state is SubmitState.ACCEPTED]

    def statuses(block: str) -> list[str]:
        newest = select(block_events.c.status).join(blocks, blocks.c.hash == block_events.c.block_hash)
        with upstream.store.read() as connection:
            of_it = newest.where(blocks.c.hash == block).order_by(block_events.c.position)
            return list(connection.scalars(of_it))

    with structlog.testing.capture_logs() as logs:
        async with (
            a_node(tmp_path, MANY_BLOCKS) as node,
            running(upstream, node),
            a_proxy(tmp_path, node, upstream.port, machines=2) as (proxy, fleet),
        ):
            await until(lambda: len(taken()) >= 5)
            await at_rest(proxy, fleet)
            sent = logged(logs, "upstream_block_sent", "block")
            await until(lambda: all(statuses(block) == ["found", "pending"] for block in taken()))
    assert proxy.blocks == []
    submitted = [it.hash_hex for it in upstream.blocks]
    with upstream.books() as connection:
        siblings = connection.scalar(select(func.sum(sibling_blocks.c.blocks))) or 0
    assert len(set(submitted)) == len(submitted)
    assert set(submitted) <= set(sent)
    assert len(set(sent)) == len(sent) == len(submitted) + siblings, "two on one parent are not submitted"
    assert {bytes.fromhex(it)[::-1] for it in sent} <= fleet.found
    found = [entry for entry in logs if entry["event"] == "block_found" and entry["forwarded"]]
    assert [entry["hash"] for entry in found] == sent
    assert {entry["worker"] for entry in found} <= set(fleet.names)
    assert logged(logs, "upstream_block_resolved", "verdict").count("accepted") >= 5
    with proxy.books() as connection:
        assert connection.execute(select(blocks)).all() == []
    check_shares(proxy, fleet, blocks=True)


async def test_a_block_leaves_before_anything_else(
    tmp_path: Path, upstream: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the share is on disk, and before its miner hears of it."""
    async with (
        a_node(tmp_path, MANY_BLOCKS) as node,
        running(upstream, node),
        a_proxy(tmp_path, node, upstream.port, machines=1) as (proxy, fleet),
    ):
        commit, disk_turns = proxy.pool.edge.shares.journal.commit, trio.Event()

        async def wait_for_the_disk(tallies: bytes) -> None:
            await disk_turns.wait()
            await commit(tallies)

        monkeypatch.setattr(proxy.pool.edge.shares.journal, "commit", wait_for_the_disk)
        try:
            await until(lambda: bool(upstream.blocks))
            assert not fleet.acknowledged
        finally:
            disk_turns.set()
    assert upstream.blocks[0].state is SubmitState.ACCEPTED
    assert bytes.fromhex(upstream.blocks[0].hash_hex)[::-1] in fleet.acknowledged


def logged(logs: list[Any], event: str, key: str) -> list[Any]:
    """What was said of every such event."""
    return [entry[key] for entry in logs if entry["event"] == event]
