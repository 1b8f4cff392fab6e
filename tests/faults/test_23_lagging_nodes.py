"""A whole pool on a node that lags, with matured blocks in its books: nothing exits, nothing is booked wrong,
and miners keep the last good work until there is a better one.
"""

import random
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

import pool.chain.node_set
from payouts import income
from payouts.income import Block, newest_events
from payouts.ledger import PoolAccount, balance_sat
from pool.books.block_watch import LOOK_S
from pool.books.store import Store
from pool.chain.node_set import CHECK_UP_S, LEAD_S
from stratum.job import swap_words
from tests.fakes.bitcoinds import FakeBitcoind, refuses_connections
from tests.fixtures.databases import store_in
from tests.stages.plant import Clock, Plant, pass_time, plant, steps
from tests.stages.sockets import Miner

__all__ = ["steps"]

SUBSIDY_SAT = 50 * 10**8
TIP, MATURED, YOUNG = 330, 200, 330
LOOKED_S = 2 * LOOK_S + 1
KNOWN_S = LEAD_S + 3 * CHECK_UP_S  # that a node is behind
REMEMBERED_S = 120.0  # of ten minutes
BACK_S = 40  # a node that is down is asked every half minute
OUTAGE_S = 3_600.0


def find(directory: Path, *found: tuple[str, int]) -> None:
    """Blocks of ours, of an earlier run."""
    with closing(store_in(directory)) as store, store.write() as connection:
        for block_hash, height in found:
            block = Block(
                hash=block_hash, height=height, income_sat=SUBSIDY_SAT, worker_id=None, found_at_s=0
            )
            income.record_block(connection, block, 0)


def books(store: Store) -> tuple[dict[str, str], int, int]:
    """Status by block, pending and matured income."""
    newest = newest_events()
    with store.read() as connection:
        rows = connection.execute(select(newest.c.block_hash, newest.c.status))
        statuses = {row.block_hash: row.status for row in rows}
        pending = balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value)
        return statuses, pending, balance_sat(connection, PoolAccount.BLOCK_INCOME_MATURED.value)


def mined_on(miner: Miner, chain: list[str]) -> int:
    """The height of the block that its last job is on."""
    return chain.index(swap_words(bytes.fromhex(miner.job[1]))[::-1].hex())


async def test_failover_to_a_node_that_lags_ends_nothing_and_books_nothing_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Clock
) -> None:
    monkeypatch.setattr(pool.chain.node_set, "LEAD_REMEMBERED_S", REMEMBERED_S)
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    first, second = FakeBitcoind("first", height=TIP), FakeBitcoind("second", height=TIP)
    old, young = first.chain[MATURED], first.chain[YOUNG]
    find(tmp_path, (old, MATURED), (young, YOUNG))
    with capture_logs() as logs:
        async with plant(tmp_path, nodes=[first, second], outage_s=OUTAGE_S) as site:
            miner = await site.mining()
            await pass_time(steps, LOOKED_S)
            before = books(site.store)
            assert before == ({old: "matured", young: "pending"}, SUBSIDY_SAT, SUBSIDY_SAT)
            for lag in (1, chance.randint(2, 199), 200):
                second.move_to(TIP - lag)
                await pass_time(steps, KNOWN_S)
                first.fault = refuses_connections
                await pass_time(steps, LOOK_S)
                await keeps_the_last_good_work(site, miner, first.chain)
                first.fault = None
                await pass_time(steps, BACK_S)
                await keeps_the_last_good_work(site, miner, first.chain)
                assert books(site.store) == before
            # It stays away: one that lags is better than none
            first.fault = refuses_connections
            await pass_time(steps, REMEMBERED_S + LOOK_S)
            await miner.hear()
            assert mined_on(miner, first.chain) == TIP - 200
            await site.mine(miner)
            await pass_time(steps, LOOK_S)
            assert books(site.store) == before
            second.move_to(TIP + 101)
            await pass_time(steps, LOOKED_S)
            await miner.hear()
            assert mined_on(miner, second.chain) == TIP + 101
            await site.mine(miner)
            assert books(site.store) == ({old: "matured", young: "matured"}, 0, 2 * SUBSIDY_SAT)
            assert not site.board.dropped
    told = [(entry["event"], entry["log_level"]) for entry in logs if "node_behind_books" in entry["event"]]
    assert told == [("node_behind_books", "error"), ("node_behind_books_over", "info")]


async def keeps_the_last_good_work(site: Plant, miner: Miner, chain: list[str]) -> None:
    await miner.hear()
    assert mined_on(miner, chain) == TIP
    await site.mine(miner)


@pytest.mark.parametrize("lag", [1, 100, 131])
async def test_a_pool_that_starts_on_a_node_that_lags_lives_and_mines_on_it(
    lag: int, tmp_path: Path, steps: Clock
) -> None:
    """A matured block with a hundred confirmations or fewer, or none, has ended every start."""
    node = FakeBitcoind("first", height=TIP)
    old, young = node.chain[MATURED], node.chain[YOUNG]
    find(tmp_path, (old, MATURED), (young, YOUNG))
    async with plant(tmp_path, nodes=[node]) as site:
        await pass_time(steps, LOOKED_S)
        before = books(site.store)
        assert before[0] == {old: "matured", young: "pending"}
    node.move_to(TIP - lag)
    async with plant(tmp_path, nodes=[node]) as site:
        miner = await site.mining()
        await pass_time(steps, LOOKED_S)
        await site.mine(miner)
        assert books(site.store) == before
        node.move_to(TIP + 101)
        await pass_time(steps, LOOKED_S)
        assert books(site.store)[0] == {old: "matured", young: "matured"}
