"""Our blocks before Bitcoin Core's consensus code: what it accepts, and why it refuses the wrong ones.

The judge is the embedded node, asked over HTTP by the client that the pool uses.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bitcoin.core import CBlock

from pool.chain.addresses import script_for
from pool.chain.blocks import STALE_BLOCKS, BlockSubmitter, SubmitState, assemble_block
from pool.chain.nodes import Node, NodeConfig
from pool.chain.templates import Template, Transactions
from stratum.job import Solution, Work
from tests.fakes.bitcoinds import FakeBitcoind, refuses_connections
from tests.histories.solving import hash_hex, solve, template_of, work_on
from tests.stages.regtest import MINER_ADDRESS, running


class Regtest:
    """The embedded node over HTTP, as the pool sees it, and a submitter in front of it."""

    def __init__(self, node: Node, data_dir: Path) -> None:
        self.node = node
        self.submitter = BlockSubmitter([node], data_dir, tip_height=lambda: 0)

    async def template(self) -> Template:
        return await self.node.template(chain="regtest")

    async def mine(self, **work_changes: Any) -> Solution:
        solution = solve(work_on(await self.template(), **work_changes))
        result = await self.submitter.submit(solution)
        assert (result.state, result.nodes[0].reason) == (SubmitState.ACCEPTED, "")
        return solution


@asynccontextmanager
async def regtest(tmp_path: Path, **options: Any) -> AsyncIterator[Regtest]:
    pytest.importorskip("pbk")
    async with running(tmp_path / "node", **options) as rpc:
        node = Node(NodeConfig(name="regtest", url=rpc.node.url, cookie_file=rpc.node.cookie_file))
        yield Regtest(node, tmp_path / "pool")
        await node.aclose()


async def test_consensus_accepts_our_blocks_across_the_turns_of_the_height_push(tmp_path: Path) -> None:
    """OP_1 to OP_16, one byte, and two bytes from 128 on."""
    async with regtest(tmp_path) as chain:
        for height in (*range(1, 20), *range(126, 131)):
            if height == 126:
                await chain.node.rpc.call("generatetoaddress", 106, MINER_ADDRESS)
            solution = await chain.mine()
            assert solution.job.work.height == height
            assert await chain.node.rpc.call("getbestblockhash") == hash_hex(solution)


@pytest.mark.parametrize("count", [1, 2, 25])
async def test_consensus_accepts_our_blocks_with_transactions(count: int, tmp_path: Path) -> None:
    async with regtest(tmp_path, template_txs=count) as chain:
        for _ in range(2):
            template = await chain.template()
            assert len(template.transactions) == count
            solution = await chain.mine()
            assert len(solution.job.work.branch) == count.bit_length()
            block = await chain.node.rpc.call("getblock", hash_hex(solution), 1)
            txids = [bytes.fromhex(txid)[::-1] for txid in block["tx"][1:]]
            assert b"".join(txids) == template.transactions.txids_internal


@pytest.mark.parametrize(
    "address",
    [
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
        "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "bcrt1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvseswlauz7",
        "bcrt1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesyga46z",
    ],
)
async def test_consensus_accepts_coinbases_that_pay_every_address_kind(address: str, tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        solution = await chain.mine(payout_script=script_for(address, "regtest"))
        block = CBlock.deserialize(
            bytes.fromhex(await chain.node.rpc.call("getblock", hash_hex(solution), 0))
        )
        assert bytes(block.vtx[0].vout[0].scriptPubKey) == script_for(address, "regtest")
        assert block.vtx[0].vout[0].nValue == template_of(solution).coinbase_value_sat


async def test_consensus_accepts_rolled_versions_and_every_time_that_we_allow(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        for bound in ("ntime_min", "ntime_max"):
            work = work_on(await chain.template())
            solution = solve(work, ntime=getattr(work, bound), version=work.version ^ 0x1FFFE000)
            result = await chain.submitter.submit(solution)
            assert (result.state, result.nodes[0].reason) == (SubmitState.ACCEPTED, "")


async def test_consensus_accepts_the_largest_coinbase_script(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        await chain.mine(tag="t" * 40)


async def test_a_block_twice_is_a_duplicate(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        solution = await chain.mine()
        result = await chain.submitter.submit(solution)
        assert result.state is SubmitState.DUPLICATE


async def test_a_late_block_is_kept_by_the_node_beside_its_tip(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        late = work_on(await chain.template(), salt=b"late")
        solution = await chain.mine()
        result = await chain.submitter.submit(solve(late))
        assert result.state is SubmitState.INCONCLUSIVE
        assert await chain.node.rpc.call("getbestblockhash") == hash_hex(solution)


def overpaid(work: Work, template: Template) -> Work:
    richer = msgspec.structs.replace(template, coinbase_value_sat=template.coinbase_value_sat + 1)
    return msgspec.structs.replace(work_on(richer), origin=template)


def of_another_height(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(
        work_on(msgspec.structs.replace(template, height=template.height + 1)), origin=template
    )


def with_a_wrong_commitment(work: Work, template: Template) -> Work:
    assert template.witness_commitment is not None
    wrong = template.witness_commitment[:-1] + bytes([template.witness_commitment[-1] ^ 1])
    return work_on(msgspec.structs.replace(template, witness_commitment=wrong))


def with_a_wrong_branch(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(work, branch=(*work.branch[:-1], bytes(32)))


def on_an_unknown_block(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(work, prevhash_internal=bytes(31) + b"\x01")


def before_its_parents(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(work, ntime=template.mintime - 1)


def in_the_future(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(work, ntime=template.curtime + 7300)


def with_wrong_bits(work: Work, template: Template) -> Work:
    return msgspec.structs.replace(work, nbits=0x207FFFFE)


def with_its_transactions_missing(work: Work, template: Template) -> Work:
    fewer = msgspec.structs.replace(template, transactions=Transactions())
    return msgspec.structs.replace(work, origin=fewer)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (overpaid, "bad-cb-amount"),
        (of_another_height, "bad-cb-height"),
        (with_a_wrong_commitment, "bad-witness-merkle-match"),
        (with_a_wrong_branch, "bad-txnmrklroot"),
        (with_its_transactions_missing, "bad-txnmrklroot"),
        (on_an_unknown_block, "prev-blk-not-found"),
        (before_its_parents, "time-too-old"),
        (in_the_future, "time-too-new"),
        (with_wrong_bits, "bad-diffbits"),
    ],
)
async def test_consensus_refuses_a_wrong_block_and_says_why(
    spoil: Callable[[Work, Template], Work], reason: str, tmp_path: Path
) -> None:
    async with regtest(tmp_path, template_txs=2) as chain:
        before = await chain.node.rpc.call("getbestblockhash")
        template = await chain.template()
        result = await chain.submitter.submit(solve(spoil(work_on(template), template)))
        assert result.state is SubmitState.REFUSED
        assert result.nodes[0].reason == reason
        assert await chain.node.rpc.call("getbestblockhash") == before


async def test_consensus_refuses_a_hash_above_the_target(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        result = await chain.submitter.submit(solve(work_on(await chain.template()), hits=False))
        assert (result.state, result.nodes[0].reason) == (SubmitState.REFUSED, "high-hash")


async def test_a_block_file_cut_short_by_a_crash_is_refused_and_put_aside(tmp_path: Path) -> None:
    async with regtest(tmp_path, template_txs=2) as chain:
        template = await chain.template()
        solution = solve(work_on(template))
        directory = tmp_path / "pool" / "blocks"
        directory.mkdir(parents=True)
        path = directory / f"{template.height}-{hash_hex(solution)}.blk"
        path.write_bytes(assemble_block(solution, template).whole[:-10])
        (result,) = await chain.submitter.resubmit_pending(await chain.submitter.stored())
        assert result.state is SubmitState.REFUSED
        assert result.nodes[0].reason == "Block decode failed (-22)"
        assert [path.suffix for path in directory.iterdir()] == [".refused"]


async def test_a_block_found_while_the_node_is_away_is_submitted_at_the_next_start(tmp_path: Path) -> None:
    async with regtest(tmp_path) as chain:
        solution = solve(work_on(await chain.template()))
    away = FakeBitcoind()
    away.fault = refuses_connections
    stale = solution.job.work.height + STALE_BLOCKS  # so that it is given up at once
    submitter = BlockSubmitter(
        [Node(away.config, transport=away)], tmp_path / "pool", tip_height=lambda: stale
    )
    assert (await submitter.submit(solution)).state is SubmitState.UNREACHABLE
    async with regtest(tmp_path) as chain:
        (result,) = await chain.submitter.resubmit_pending(await chain.submitter.stored())
        assert result.state is SubmitState.ACCEPTED
        assert await chain.node.rpc.call("getbestblockhash") == hash_hex(solution)


async def test_of_two_on_one_parent_the_one_that_the_node_has_is_the_one_that_is_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken when the pool was killed, and nobody had heard so. The other one comes first by its name,
    and is no reason to turn the node off the block that the network has."""
    preferred = []

    async def notes(node: Node, hash_hex: str) -> None:
        preferred.append(hash_hex)

    monkeypatch.setattr(Node, "precious_block", notes)
    directory = tmp_path / "pool" / "blocks"
    directory.mkdir(parents=True)
    async with regtest(tmp_path) as chain:
        template = await chain.template()
        pair = (solve(work_on(template, salt=salt)) for salt in (b"bootjob1", b"bootjob2"))
        waits, taken = sorted(pair, key=hash_hex)
        for it in (waits, taken):
            path = directory / f"{template.height}-{hash_hex(it)}.blk"
            path.write_bytes(assemble_block(it, template).whole)
        await chain.node.rpc.call("submitblock", assemble_block(taken, template).whole.hex())
        await chain.submitter.resubmit_pending(await chain.submitter.stored())
        assert await chain.node.rpc.call("getbestblockhash") == hash_hex(taken)
    assert {it.suffix: it.stem.partition("-")[2] for it in directory.iterdir()} == {
        ".inconclusive": hash_hex(waits),
        ".accepted": hash_hex(taken),
    }
    assert hash_hex(waits) not in preferred
