"""A whole pool whose nodes fail: miners keep the last good work, are let go after a bound, and come back.

Whatever fails, and however: no invalid job goes out, no share that was acknowledged is lost, and recovery
needs nobody.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from structlog.testing import capture_logs

from pool.chain.block_queue import SUBMITTED_MAX
from pool.chain.rpc import ANSWER_TIMEOUT_S
from stratum.difficulty import DIFFICULTY_LOG2_MIN
from stratum.job import swap_words
from tests.fakes.bitcoinds import (
    FakeBitcoind,
    Fault,
    SaysNo,
    answers_503,
    closes_the_connection,
    never_answers,
    refuses_connections,
    truncates_json,
)
from tests.stages.plant import HARD, Clock, Plant, pass_time, plant, steps
from tests.stages.sockets import Miner

__all__ = ["steps"]

CHAIN = "test"  # on regtest a node that is synchronising is fit
OUTAGE_S = 90.0  # longer than a node may take for an answer
# A node is asked in turn, and may take its time; then nothing happens between two looks at the clock.
NOTICED_S = 2 * ANSWER_TIMEOUT_S
BACK_S = 120  # a node that is down is asked every half minute


def thirty_seconds_late(node: FakeBitcoind) -> Fault:
    """It answers well, and takes longer than a question is worth."""

    async def late(request: httpx.Request) -> httpx.Response:
        await trio.sleep(ANSWER_TIMEOUT_S + 1)
        fault, node.fault = node.fault, None
        try:
            return await node.handle_async_request(request)
        finally:
            node.fault = fault

    return late


def now_it_is(other: FakeBitcoind) -> Fault:
    """It was started again as another one, whose templates would do."""
    other.template_changes |= HARD
    return other.handle_async_request


def on_another_chain(node: FakeBitcoind) -> Fault:
    """With the settings of another network."""
    return now_it_is(FakeBitcoind("other", chain="main", height=node.height + 50))


class NodeThatSynchronises(FakeBitcoind):
    async def _getblockchaininfo(self) -> dict[str, Any]:
        behind = {"headers": self.height + 900_000, "initialblockdownload": True}
        return await super()._getblockchaininfo() | behind

    async def _getblocktemplate(self, request: dict[str, Any]) -> dict[str, Any]:
        raise SaysNo(-10, "Bitcoin Core is in initial sync and waiting for blocks...")


class NodeThatCatchesUp(FakeBitcoind):
    """Past its initial download, with blocks to come; it offers templates."""

    async def _getblockchaininfo(self) -> dict[str, Any]:
        return await super()._getblockchaininfo() | {"headers": self.height + 3}


def synchronising(node: FakeBitcoind) -> Fault:
    """It builds its chain anew, from the first block on."""
    return now_it_is(NodeThatSynchronises("other", chain=CHAIN, height=7))


def catching_up(node: FakeBitcoind) -> Fault:
    """It was off for a while, and has an old chain for now."""
    return now_it_is(NodeThatCatchesUp("other", chain=CHAIN, height=node.height - 9))


# One answer that is none stands for all of them here: tests/pool/chain/test_nodes.py has each.
FAULTS: dict[str, tuple[Callable[[FakeBitcoind], Fault], str]] = {
    "down": (lambda _: refuses_connections, "the connection broke"),
    "silent": (lambda _: never_answers, "no answer within"),
    "30 s slow": (thirty_seconds_late, "no answer within"),
    "503": (lambda _: answers_503, "HTTP 503"),
    "wrong chain": (on_another_chain, "is on chain 'main', this pool mines 'test'"),
    "still syncing": (synchronising, "in initial block download, at 7 of 900007 blocks"),
    "catching up": (catching_up, "catching up, at 91 of 94 blocks"),
}


class Outage:
    """All nodes of a plant fail, and are good again."""

    def __init__(self, site: Plant, clock: Clock) -> None:
        self.site, self.clock = site, clock

    async def begins(self, fault: str) -> None:
        """Connections break, and then it is as it is."""
        for node in self.site.nodes:
            node.fault = closes_the_connection
            node.move_to(node.height)  # longpolls end
        await trio.testing.wait_all_tasks_blocked()
        for node in self.site.nodes:
            node.fault = FAULTS[fault][0](node)

    def ends(self, height: int) -> None:
        for node in self.site.nodes:
            node.fault = None
            node.move_to(height)

    async def passes_until(self, done: Callable[[], Awaitable[bool]], at_most_s: float) -> None:
        while not await done():
            assert at_most_s > 0, "it never happens"
            at_most_s -= 1
            await pass_time(self.clock, 1)

    async def jobs_are_good(self, miner: Miner) -> None:
        """Every job that a miner was sent is on a block of the best chain, later ones on later blocks."""
        await miner.hear()
        chain, jobs = self.site.nodes[0].chain, miner.heard("mining.notify")
        heights = [chain.index(swap_words(bytes.fromhex(job[1]))[::-1].hex()) for job in jobs]
        assert heights == sorted(heights)
        assert {job[6] for job in jobs} == {HARD["bits"]}


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_fails_miners_keep_the_last_good_work_until_a_bound_and_come_back_by_themselves(
    fault: str, tmp_path: Path, steps: Clock
) -> None:
    nodes = [FakeBitcoind(name, chain=CHAIN) for name in ("first", "second")]
    with capture_logs() as logs:
        async with plant(tmp_path, nodes=nodes, outage_s=OUTAGE_S) as site:
            outage = Outage(site, steps)
            miner = await site.mining()

            async def has_job_at_101() -> bool:
                await miner.hear()
                return clean_jobs(miner) == 2

            async def let_go() -> bool:
                return not site.board.connections

            async def served() -> bool:
                return await site.first_word() is None

            await outage.begins(fault)
            for _ in range(4):
                await pass_time(steps, OUTAGE_S / 6)
                await site.mine(miner)
            outage.ends(101)
            await outage.passes_until(has_job_at_101, BACK_S)
            await site.mine(miner)
            await outage.jobs_are_good(miner)
            assert not site.board.dropped, "an outage below the bound is none to miners"

            await outage.begins(fault)
            began_s = trio.current_time()
            while trio.current_time() < began_s + OUTAGE_S / 2:
                await pass_time(steps, OUTAGE_S / 6)
                await site.mine(miner)
            await outage.passes_until(let_go, OUTAGE_S + NOTICED_S)
            assert trio.current_time() - began_s >= OUTAGE_S, "not a moment earlier"
            await outage.jobs_are_good(miner)
            assert await site.first_word() == "Connection refused: no bitcoin node answers"

            outage.ends(103)
            await outage.passes_until(served, BACK_S)
            back = await site.mining()
            await site.mine(back)
            await outage.jobs_are_good(back)
    said = [entry["reason"] for entry in logs if entry["event"] in ("node_down", "node_still_down")]
    assert any(FAULTS[fault][1] in reason for reason in said), said
    assert len(logs) < 100


async def test_first_node_dies_and_the_second_takes_over_until_it_is_back(
    tmp_path: Path, steps: Clock
) -> None:
    async with plant(tmp_path) as site:
        first, second = site.nodes
        miner = await site.mining()

        async def told_of(jobs: int) -> None:
            while clean_jobs(miner) < jobs:
                await pass_time(steps, 1)
                await miner.hear()

        await site.mine(miner)
        first.fault = closes_the_connection
        second.move_to(101)
        await told_of(2)
        await site.mine(miner)
        first.fault = None
        first.move_to(102)
        await told_of(3)
        await site.mine(miner)
        assert not site.board.dropped


async def test_pool_that_starts_before_its_node_gives_work_as_soon_as_there_is_some(
    tmp_path: Path, steps: Clock
) -> None:
    async with plant(tmp_path, fault=refuses_connections) as site:
        early = await site.connect()
        assert (await early.call("mining.subscribe", "x"))["error"] is None
        assert (await early.call("mining.authorize", early.worker, "x"))["error"] is None
        assert await early.hears_nothing()
        for node in site.nodes:
            node.fault = None
        await pass_time(steps, BACK_S)
        assert await early.notified("mining.set_difficulty") == [2.0**DIFFICULTY_LOG2_MIN]
        assert (await early.notified("mining.notify"))[8] is True
        await site.mine(early)


async def test_node_that_comes_and_goes_costs_no_miner(tmp_path: Path, steps: Clock) -> None:
    async with plant(tmp_path, names=("only",)) as site:
        only = site.nodes[0]
        miner = await site.mining()
        met = 0

        async def truncates_and_counts(request: httpx.Request) -> httpx.Response:
            nonlocal met
            met += 1
            return await truncates_json(request)

        for height in range(101, 106):
            before, only.fault = met, truncates_and_counts
            while met == before:  # until the pool has asked it something
                await pass_time(steps, 5)
            only.fault = None
            only.move_to(height)
            while clean_jobs(miner) < height - 99:
                await pass_time(steps, 1)
                await miner.hear()
            await site.mine(miner)
        assert not site.board.dropped


async def test_blocks_found_while_no_node_answers_are_on_disk_when_the_pool_stops(tmp_path: Path) -> None:
    """A few of them: they are all on one parent, and only one can follow it."""
    with capture_logs() as logs:
        async with plant(tmp_path, blocks=True) as site:
            miner = await site.mining()
            for node in site.nodes:
                node.fault = refuses_connections
            for _ in range(50):
                await site.mine(miner)
    found = {entry["hash"] for entry in logs if entry["event"] == "block_found"}
    assert len(found) == SUBMITTED_MAX
    assert {path.stem.partition("-")[2] for path in (tmp_path / "blocks").glob("*.blk")} == found
    (others,) = [entry["blocks"] for entry in logs if entry["event"] == "siblings_not_submitted"]
    assert others > 5


def clean_jobs(miner: Miner) -> int:
    return sum(params[8] for params in miner.heard("mining.notify"))
