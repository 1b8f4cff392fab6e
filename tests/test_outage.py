"""A whole pool whose nodes die: miners keep the last work, are let go after a bound, and are taken back.

The nodes are fakes behind the real client, everything else is real; waits are shortened to fractions of a
second. No share that was acknowledged is ever lost, whatever the nodes do.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from sqlalchemy import select
from structlog.testing import capture_logs

import pool.main
import pool.node_set
from payouts.rates import Scheme
from payouts.schema import tally_minutes
from pool.block_queue import SUBMITTED_MAX
from pool.config import PoolConfig
from pool.data_dir import database_url
from pool.main import Pool, RunningPool
from pool.node import NodeConfig
from pool.node_set import NodeSet
from pool.registry_store import TenantTerms, add_tenant, list_tenants
from pool.store import Store, open_store
from stratum.difficulty import DIFFICULTY_LOG2_MIN, target_from_nbits
from stratum.server import Endpoint
from stratum.vardiff import VardiffPolicy
from stratum.verdict import Verdict
from tests.bitcoinds import (
    FakeBitcoind,
    Fault,
    answers_401,
    answers_503,
    answers_html,
    closes_the_connection,
    never_answers,
    refuses_connections,
    truncates_json,
    warms_up,
)
from tests.stratum_harness import PATIENCE_S, Miner, accepted, connect

NBITS = 0x1D00FFFF  # no test ever finds a block at this target
HARD = {"bits": f"{NBITS:08x}", "target": f"{target_from_nbits(NBITS):064x}"}
OUTAGE_S = 1.0
FEES_SAT = 3_000_000  # what every block pays
FAULTS = [closes_the_connection, answers_401, answers_503, warms_up, truncates_json, answers_html]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (
        ("CHECK_UP_S", 0.05),
        ("CHECK_TIMEOUT_S", 0.2),
        ("FIRST_CHECK_TIMEOUT_S", 0.2),
        ("BACKOFF_MIN_S", 0.02),
        ("BACKOFF_MAX_S", 0.1),
    ):
        monkeypatch.setattr(pool.node_set, name, seconds)
    monkeypatch.setattr(pool.main, "OUTAGE_CHECK_S", 0.05)


class Plant:
    """A running pool, its nodes, and how to mine on it."""

    def __init__(self, nodes: list[FakeBitcoind], store: Store) -> None:
        self.nodes = nodes
        self.store = store
        self.running: RunningPool
        self.miners: list[Miner] = []
        self.acknowledged = 0

    async def connect(self) -> Miner:
        miner = await connect(self.running.addresses[0][1], f"acme.c01.u{len(self.miners)}")
        self.miners.append(miner)
        return miner

    async def mining(self) -> Miner:
        return await (await self.connect()).start()

    async def mine(self, miner: Miner) -> None:
        """A share on the last job, which must be accepted."""
        worker, job, extranonce2, _, nonce = miner.share()
        share = (worker, job, extranonce2, miner.job[7], nonce)
        assert accepted(await miner.call("mining.submit", *share))
        self.acknowledged += 1

    async def until_refused(self) -> str:
        """Connect until the door is closed, which it soon must be; the words of the refusal."""
        with trio.fail_after(PATIENCE_S):
            while True:
                message = await self._first_word()
                if message:
                    return message
                await trio.sleep(0.02)

    async def until_served(self) -> Miner:
        with trio.fail_after(PATIENCE_S):
            while await self._first_word():  # noqa: ASYNC110 - from outside there is no event
                await trio.sleep(0.02)
        return await self.mining()

    async def _first_word(self) -> str | None:
        """Why a new connection is refused; None when it is not."""
        miner = await connect(self.running.addresses[0][1])
        try:
            number = await miner.ask("mining.ping")
            message = await miner.message()
        except (EOFError, trio.BrokenResourceError):
            return "closed"
        finally:
            await miner.close()
        return None if message.get("id") == number else str(message["params"][0])


@asynccontextmanager
async def plant(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    names: tuple[str, ...] = ("first", "second"),
    outage_s: float = 60.0,
    fault: Fault | None = None,
    blocks: bool = False,
    scheme: Scheme = Scheme.PPS,
    forgets_fees: bool = False,
) -> AsyncIterator[Plant]:
    """A pool on these nodes, with this fault at first; in the end its books hold every acknowledged share.

    `blocks`: every second share is one; else none is.
    """
    nodes = [FakeBitcoind(name) for name in names]
    for node in nodes:
        node.template_changes |= {} if blocks else HARD
        node.fault = fault
        node.fees_sat, node.forgets_fees = FEES_SAT, forgets_fees
    by_name = {node.name: node for node in nodes}

    def transport(config: NodeConfig) -> FakeBitcoind:
        return by_name[config.name]

    monkeypatch.setattr(pool.main, "NodeSet", partial(NodeSet, transport=transport))
    store = open_store(database_url(directory))
    with store.write() as connection:
        if not list_tenants(connection):
            terms = TenantTerms(scheme=scheme, fee_bps=200, payout_minimum_sat=1_000_000)
            add_tenant(connection, "acme", terms, by="test", now_s=int(time.time()))
    site = Plant(nodes, store)
    before = booked(store)
    try:
        async with trio.open_nursery() as nursery:
            site.running = await nursery.start(Pool(settings(directory, nodes, outage_s), store).run)
            yield site
            nursery.cancel_scope.cancel()
        assert booked(store) == before + site.acknowledged
    finally:
        for miner in site.miners:
            miner.socket.close()
        store.close()


def settings(directory: Path, nodes: list[FakeBitcoind], outage_s: float) -> PoolConfig:
    return PoolConfig(
        network="regtest",
        data_dir=directory,
        payout_script=bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        tag="/test/",
        outage_s=outage_s,
        nodes=tuple(node.config for node in nodes),
        endpoints=(Endpoint(host="127.0.0.1", port=0),),
        start_difficulty_log2=DIFFICULTY_LOG2_MIN,
        vardiff=VardiffPolicy(
            difficulty_log2_min=DIFFICULTY_LOG2_MIN, difficulty_log2_max=DIFFICULTY_LOG2_MIN
        ),
        extranonce2_bytes=8,
        line_bytes_max=8192,
        database_url=database_url(directory),
    )


def booked(store: Store) -> int:
    """Accepted shares in the books of a pool that has stopped."""
    table = tally_minutes.c
    with store.read() as connection:
        counts = connection.scalars(select(table.shares).where(table.verdict == int(Verdict.ACCEPTED)))
        return sum(counts)


def clean_jobs(miner: Miner) -> int:
    return sum(params[8] for params in miner.heard("mining.notify"))


@pytest.mark.parametrize("fault", [refuses_connections, never_answers], ids=lambda fault: fault.__name__)
async def test_miners_keep_the_last_work_are_let_go_and_are_taken_back(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch, outage_s=OUTAGE_S) as site:
        miner = await site.mining()
        await site.mine(miner)
        for node in site.nodes:
            node.fault = fault
        lost_s = trio.current_time()
        await site.mine(miner)  # on the last work
        while await miner.line():
            pass
        assert trio.current_time() - lost_s >= OUTAGE_S, "not a moment earlier"
        assert clean_jobs(miner) == 1, "nothing was invented meanwhile"
        assert await site.until_refused() == "Connection refused: no bitcoin node answers"
        site.nodes[1].fault = None
        back = await site.until_served()
        await site.mine(back)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_short_outage_is_none_to_miners(
    fault: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch) as site:
        miner = await site.mining()
        for node in site.nodes:
            node.fault = fault
        for _ in range(5):
            await site.mine(miner)
            await trio.sleep(0.05)
        for node in site.nodes:
            node.fault = None
            node.move_to(101)
        while clean_jobs(miner) < 2:
            await miner.notified("mining.notify")
        await site.mine(miner)
        assert len(site.running.board.connections) == 1
        assert not site.running.board.dropped


async def test_first_node_dies_and_the_second_takes_over_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch) as site:
        first, second = site.nodes
        miner = await site.mining()
        await site.mine(miner)
        first.fault = closes_the_connection
        second.move_to(101)
        while clean_jobs(miner) < 2:
            await miner.notified("mining.notify")
        await site.mine(miner)
        first.fault = None
        first.move_to(102)
        while clean_jobs(miner) < 3:
            await miner.notified("mining.notify")
        await site.mine(miner)
        assert not site.running.board.dropped


async def test_node_that_turns_out_to_be_on_another_chain_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch, names=("only",), outage_s=OUTAGE_S) as site:
        only = site.nodes[0]
        fit = dict(only.chain_changes)
        only.chain_changes |= {"chain": "main"}
        assert await site.until_refused() == "Connection refused: no bitcoin node answers"
        only.chain_changes = fit
        await site.mine(await site.until_served())


async def test_pool_that_starts_before_its_node_gives_work_as_soon_as_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch, fault=refuses_connections) as site:
        early = await site.connect()
        assert (await early.call("mining.subscribe", "x"))["error"] is None
        assert (await early.call("mining.authorize", early.worker, "x"))["error"] is None
        assert await early.hears_nothing()
        for node in site.nodes:
            node.fault = None
        assert await early.notified("mining.set_difficulty") == [2.0**DIFFICULTY_LOG2_MIN]
        assert (await early.notified("mining.notify"))[8] is True
        await site.mine(early)


async def test_node_that_comes_and_goes_costs_no_miner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with plant(tmp_path, monkeypatch, names=("only",)) as site:
        only = site.nodes[0]
        miner = await site.mining()
        for height in range(101, 106):
            only.fault = truncates_json
            await trio.sleep(0.1)
            only.fault = None
            only.move_to(height)
            while clean_jobs(miner) < height - 99:
                await miner.notified("mining.notify")
            await site.mine(miner)
        assert not site.running.board.dropped


async def test_blocks_found_while_no_node_answers_are_on_disk_when_the_pool_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few of them: they are all on one parent, and only one can follow it."""
    with capture_logs() as logs:
        async with plant(tmp_path, monkeypatch, blocks=True) as site:
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
