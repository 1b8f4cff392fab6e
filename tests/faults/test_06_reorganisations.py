"""A reorganisation under a whole pool: block income follows the chain, and nobody's credit does.

The node runs Bitcoin Core's consensus code; our blocks come from a miner, those of a branch from nobody.
"""

import struct
from pathlib import Path

import pytest
from sqlalchemy import func, select

from payouts.audit.verify import audit
from payouts.income import newest_events
from payouts.ledger import PoolAccount, balance_sat, payable
from payouts.schemas.money import block_events, settled_shares
from pool.books import block_watch
from pool.books.bookkeeper import BookTimes
from pool.chain.blocks import SubmitState
from pool.chain.nodes import Node
from stratum.job import swap_words
from tests.judges.oracle import merkle_root, sha256d
from tests.stages.plant import Clock, pass_time, plant, steps
from tests.stages.regtest import RULES, block_hash, build_block
from tests.stages.sockets import Miner, accepted, connect
from tests.stages.two_pools import MANY_BLOCKS, Side, a_node, a_side, running
from tests.stages.waiting import until

__all__ = ["steps"]

SUBSIDY_SAT = 50 * 10**8
TARGET = 0x7FFFFF << 8 * (0x20 - 3)
DEPTHS = range(1, 7)
BOOKS = BookTimes(fold_s=0.1, settle_s=0.1, settle_early_s=3_660)  # the hour is over before it begins

pytest.importorskip("pbk")


class Branches:
    """The chain of a node with blocks of ours, and branches without."""

    def __init__(self, side: Side, node: Node, miner: Miner) -> None:
        self.side, self.node, self.miner = side, node, miner
        self.ours: list[str] = []
        self.acknowledged = 0

    async def mine(self) -> str:
        """A block of ours on the tip."""
        tip = await self.node.hash_at(await self.node.tip_height())
        while swap_words(bytes.fromhex(self.miner.job[1]))[::-1].hex() != tip:
            await self.miner.notified("mining.notify")
        share = self._solution()
        assert accepted(await self.miner.call("mining.submit", *share))
        self.acknowledged += 1
        await until(lambda: len(self.side.blocks) > len(self.ours))
        result = self.side.blocks[-1]
        assert result.state is SubmitState.ACCEPTED
        self.ours.append(result.hash_hex)
        return result.hash_hex

    def _solution(self) -> tuple[str, ...]:
        """A share on the miner's job that is a block; every second one is."""
        job = self.miner.job
        while True:
            worker, _, extranonce2, _, nonce = self.miner.share()
            coinbase = bytes.fromhex(job[2] + self.miner.extranonce1.hex() + extranonce2 + job[3])
            root = merkle_root(sha256d(coinbase), tuple(bytes.fromhex(node) for node in job[4]))
            header = b"".join(
                (
                    struct.pack("<I", int(job[5], 16)) + swap_words(bytes.fromhex(job[1])) + root,
                    struct.pack("<III", int(job[7], 16), int(job[6], 16), int(nonce, 16)),
                )
            )
            if int.from_bytes(sha256d(header), "little") <= TARGET:
                return worker, job[0], extranonce2, job[7], nonce

    async def somebody_mines(self, parent: str, height: int, blocks: int) -> None:
        """So many blocks on one of the node's, by which it is the last."""
        for at in range(height + 1, height + 1 + blocks):
            template = await self.node.rpc.call("getblocktemplate", RULES)
            later_s = template["curtime"] + at  # than the blocks before it
            raw = build_block(template, prev=parent, height=at, block_time=later_s, txs=[])
            parent = block_hash(raw)
            assert await self.node.submit_block([raw.encode()]) in (None, "inconclusive")
        assert await self.node.hash_at(await self.node.tip_height()) == parent

    def statuses(self, blocks: list[str]) -> set[str]:
        newest = newest_events()
        with self.side.store.read() as connection:
            found = select(newest.c.status).where(newest.c.block_hash.in_(blocks))
            return set(connection.scalars(found))

    def income_sat(self) -> int:
        with self.side.store.read() as connection:
            return balance_sat(connection, PoolAccount.BLOCK_INCOME_PENDING.value)

    def credit_sat(self) -> int:
        (tenant,) = self.side.running.registry.tenants.values()
        with self.side.store.read() as connection:
            return balance_sat(connection, payable(tenant.id))

    def credited(self) -> bool:
        """Whether every acknowledged share is."""
        with self.side.store.read() as connection:
            shares = connection.scalar(select(func.coalesce(func.sum(settled_shares.c.shares), 0)))
            return bool(shares == self.acknowledged)


async def test_a_reorganisation_of_any_depth_moves_the_income_of_our_blocks_and_nobodys_credit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Away once, and back once when their branch is the longer one again."""
    monkeypatch.setattr(block_watch, "LOOK_S", 0.1)
    async with a_node(tmp_path, MANY_BLOCKS) as config:
        side, node = a_side(tmp_path / "pool", "acme"), Node(config)
        async with running(side, config, books=BOOKS):
            miner = await (await connect(side.port)).start()
            it = Branches(side, node, miner)
            for depth in DEPTHS:
                height, before_sat = await node.tip_height(), it.income_sat()
                fork = await node.hash_at(height) or ""
                branch = [await it.mine() for _ in range(depth)]
                await until(lambda: it.statuses(branch) == {"pending"} and it.credited())  # noqa: B023
                credit_sat = it.credit_sat()
                assert it.income_sat() == before_sat + depth * SUBSIDY_SAT

                await it.somebody_mines(fork, height, depth + 1)
                await until(lambda: it.statuses(branch) == {"orphaned"})  # noqa: B023
                assert it.income_sat() == before_sat
                assert it.credit_sat() == credit_sat

                await it.somebody_mines(branch[-1], height + depth, 2)
                await until(lambda: it.statuses(branch) == {"pending"})  # noqa: B023
                assert it.income_sat() == before_sat + depth * SUBSIDY_SAT
                assert it.credit_sat() == credit_sat
            assert credit_sat > 0
            assert not side.board.dropped
            await miner.close()
        await node.aclose()
    with side.books() as connection:
        assert audit(connection).wrong is None
        ordered = select(block_events.c.status).order_by(block_events.c.position)
        for block in it.ours:
            steps = connection.scalars(ordered.where(block_events.c.block_hash == block)).all()
            assert steps == ["found", "pending", "orphaned", "pending"]
    assert len(it.ours) == sum(DEPTHS)


@pytest.mark.parametrize("others", [1, 2, 5])
async def test_no_share_is_credited_again_when_a_tip_comes_back(
    others: int, tmp_path: Path, steps: Clock
) -> None:
    """Of two tips away the engine knows nothing any more; but no job of then is worth anything on it."""
    async with plant(tmp_path, names=("only",)) as site:
        (node,) = site.nodes
        miner = await site.mining()
        first, sent = miner.job, []
        for _ in range(5):
            worker, job, extranonce2, _, nonce = miner.share()
            sent.append((worker, job, extranonce2, first[7], nonce))
            assert accepted(await miner.call("mining.submit", *sent[-1]))
        site.acknowledged += len(sent)
        for fork in (*(f"fork {number}" for number in range(others)), "best"):
            before = miner.job
            node.move_to(100, fork)
            while miner.job[1] == before[1]:
                await pass_time(steps, 1)
                await miner.hear()
        assert miner.job[1] == first[1], "the same previous block"
        assert miner.job[2] != first[2], "in work that has another salt"
        for share in sent:
            assert (await miner.call("mining.submit", *share))["error"][0] in (21, 22)
