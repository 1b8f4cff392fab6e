"""A whole pool on fake bitcoinds: everything is production code, but for the nodes and the passing of time.

Miners connect over sockets, the database works in threads, and both take the time they take. Where a test
has to wait for minutes, `pass_time` makes them pass, a second at a time: a clock that jumps by itself would
run on while a thread works.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing
from sqlalchemy import select

from payouts.audit.verify import audit
from payouts.rates import Scheme
from payouts.schemas.money import tally_days, tally_hours, tally_minutes
from pool.books.bookkeeper import BookTimes
from pool.books.store import Store
from pool.chain.nodes import NodeConfig
from pool.config import PoolConfig, load_settings
from pool.data_dir import database_url
from pool.fleet.rows import TenantTerms, add_tenant, list_tenants
from pool.main import Pool, RunningPool
from pool.requests.policy import Approval
from stratum.difficulty import DIFFICULTY_LOG2_MIN, target_from_nbits
from stratum.miners.listening.listeners import Endpoint
from stratum.miners.switchboard import Switchboard
from stratum.miners.vardiff import VardiffPolicy
from stratum.tallies import Verdict
from tests.fakes.bitcoinds import FakeBitcoind, Fault
from tests.fixtures.databases import store_in
from tests.stages.sockets import Miner, accepted, connect
from tests.stages.waiting import PATIENCE_S

Clock = trio.testing.MockClock
NBITS = 0x1D00FFFF  # no test ever finds a block at this target
HARD = {"bits": f"{NBITS:08x}", "target": f"{target_from_nbits(NBITS):064x}"}
BOOKS = BookTimes()  # those of production
ALONE = Approval()  # one person decides
FEES_SAT = 3_000_000  # what every block pays


@pytest.fixture
def steps() -> Clock:
    """Time passes as it does, and besides as the test says."""
    return Clock(rate=1.0)


async def pass_time(clock: Clock, seconds: float) -> None:
    """What is due in each second is done in it, but for what somebody outside was asked for."""
    threads = trio.to_thread.current_default_thread_limiter()
    for _ in range(int(seconds)):
        clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked()
        while threads.borrowed_tokens:
            await trio.sleep(0.001)
            await trio.testing.wait_all_tasks_blocked()


class Plant:
    """A running pool, its nodes, and how to mine on it."""

    def __init__(self, nodes: list[FakeBitcoind], store: Store) -> None:
        self.nodes = nodes
        self.store = store
        self.running: RunningPool
        self.pool: Pool
        self.miners: list[Miner] = []
        self.acknowledged = 0

    @property
    def board(self) -> Switchboard:
        return self.pool.edge.miners.board

    async def connect(self, worker: str | None = None) -> Miner:
        miner = await connect(self.running.addresses[0][1], worker or f"acme.c01.u{len(self.miners)}")
        self.miners.append(miner)
        return miner

    async def mining(self, worker: str | None = None) -> Miner:
        return await (await self.connect(worker)).start()

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
                message = await self.first_word()
                if message:
                    return message
                await trio.sleep(0.02)

    async def until_served(self) -> Miner:
        with trio.fail_after(PATIENCE_S):
            while await self.first_word():  # noqa: ASYNC110 - from outside there is no event
                await trio.sleep(0.02)
        return await self.mining()

    async def first_word(self) -> str | None:
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
    *,
    names: tuple[str, ...] = ("first", "second"),
    nodes: list[FakeBitcoind] | None = None,
    outage_s: float = 60.0,
    fault: Fault | None = None,
    blocks: bool = False,
    scheme: Scheme = Scheme.PPS,
    forgets_fees: bool = False,
    books: BookTimes = BOOKS,
    wall_clock: Callable[[], float] = time.time,
    settings_file: Path | None = None,
    approval: Approval = ALONE,
) -> AsyncIterator[Plant]:
    """A pool on these nodes, with this fault at first; in the end its books hold every acknowledged share.

    `blocks`: every second share is one; else none is. `settings_file` is what it takes up anew on request,
    and whom it tells.
    """
    nodes = nodes or [FakeBitcoind(name) for name in names]
    for node in nodes:
        node.template_changes |= {} if blocks else HARD
        node.fault = fault
        node.fees_sat, node.forgets_fees = FEES_SAT, forgets_fees
    by_name = {node.name: node for node in nodes}

    def transport(config: NodeConfig) -> FakeBitcoind:
        return by_name[config.name]

    store = store_in(directory)
    with store.write() as connection:
        if not list_tenants(connection):
            terms = TenantTerms(scheme=scheme, fee_bps=200, payout_minimum_sat=1_000_000)
            add_tenant(connection, "acme", terms, by="test", now_s=int(time.time()))
    site = Plant(nodes, store)
    before = booked(store)
    try:
        async with trio.open_nursery() as nursery:
            config = msgspec.structs.replace(settings(directory, nodes, outage_s, books), approval=approval)
            loaded = None if settings_file is None else load_settings(settings_file)
            if loaded is not None:
                config = msgspec.structs.replace(config, messages=loaded.config.messages)
            it = Pool(config, store, transport=transport, wall_clock=wall_clock, settings=loaded)
            site.pool = it
            site.running = await nursery.start(it.run)
            yield site
            nursery.cancel_scope.cancel()
        assert booked(store) == before + site.acknowledged
        with store.read() as connection:
            assert audit(connection).wrong is None
    finally:
        for miner in site.miners:
            miner.socket.close()
        store.close()


def settings(directory: Path, nodes: list[FakeBitcoind], outage_s: float, books: BookTimes) -> PoolConfig:
    return PoolConfig(
        network=nodes[0].chain_changes["chain"],
        data_dir=directory,
        payout_script=bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6"),
        tag="/test/",
        outage_s=outage_s,
        nodes=tuple(node.config for node in nodes),
        endpoints=(Endpoint(host="127.0.0.1", port=0),),
        web=Endpoint(host="127.0.0.1", port=0),
        start_difficulty_log2=DIFFICULTY_LOG2_MIN,
        vardiff=VardiffPolicy(
            difficulty_log2_min=DIFFICULTY_LOG2_MIN, difficulty_log2_max=DIFFICULTY_LOG2_MIN
        ),
        extranonce2_bytes=8,
        line_bytes_max=8192,
        database_url=database_url(directory),
        books=books,
    )


def booked(store: Store) -> int:
    """Accepted shares in the books of a pool that has stopped, however old they have grown meanwhile."""
    accepted = int(Verdict.ACCEPTED)
    with store.read() as connection:
        return sum(
            sum(connection.scalars(select(it.c.shares).where(it.c.verdict == accepted)))
            for it in (tally_minutes, tally_hours, tally_days)
        )
