"""The embedded node over its HTTP interface: blocks, refusals, reorganisations, transactions, long polls."""

import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing
from bitcoin.core import CBlock, CTransaction

import pool.regtest.mempool
import pool.regtest.node
import pool.regtest.template
from pool.regtest.server import RegtestOptions, RegtestUnavailable, serve_regtest
from tests.stages.regtest import (
    MINER_ADDRESS,
    RULES,
    Key,
    RpcFailure,
    block_hash,
    build_block,
    respend,
    running,
    txid,
)
from tests.stages.waiting import PATIENCE_S

ONE_HOUR_S = 3600
EASIER = 0x207FFFFE  # nearly regtest's target, so a block is found, and consensus can refuse it


# Blocks


@pytest.mark.parametrize("template_txs", [0, 30])
async def test_block_built_from_a_template_becomes_the_tip(tmp_path: Path, template_txs: int) -> None:
    async with running(tmp_path, template_txs=template_txs) as rpc:
        for _ in range(2):  # the second one spends what the first one has confirmed
            template = await rpc.template()
            assert len(template["transactions"]) == template_txs
            block = build_block(template)
            assert await rpc("submitblock", block) is None
            assert await rpc("getbestblockhash") == block_hash(block)
            assert await rpc("getblock", block_hash(block), 0) == block
            assert await rpc("submitblock", block) == "duplicate"


async def test_template_of_4000_transactions_is_a_valid_block(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=4_000) as rpc:
        template = await rpc.template()
        assert len({tx["txid"] for tx in template["transactions"]}) == 4_000
        fees_sat = sum(tx["fee"] for tx in template["transactions"])
        assert fees_sat > 0
        assert template["coinbasevalue"] == 50_0000_0000 + fees_sat
        assert await rpc("submitblock", build_block(template)) is None
        assert len((await rpc.template())["transactions"]) == 4_000


WRONG: Final[list[tuple[dict[str, Any], str]]] = [
    ({"hits": False}, "high-hash"),
    ({"root_xor": 1}, "bad-txnmrklroot"),
    ({"prev": "11" * 32}, "prev-blk-not-found"),
    ({"block_time": 1}, "time-too-old"),
    ({"block_time": int(time.time()) + 3 * ONE_HOUR_S}, "time-too-new"),
    ({"height": 1}, "bad-cb-height"),
    ({"value_sat": 51_0000_0000}, "bad-cb-amount"),
    ({"commitment": "6a24aa21a9ed" + "00" * 32}, "bad-witness-merkle-match"),
    ({"commitment": ""}, "unexpected-witness"),
    ({"reserved": (bytes(31),)}, "bad-witness-nonce-size"),
]


async def test_wrong_block_is_refused_for_the_right_reason(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        template = await rpc.template()
        tip = await rpc("getbestblockhash")
        for fault, reason in WRONG:
            assert await rpc("submitblock", build_block(template, **fault)) == reason
            assert await rpc("getbestblockhash") == tip
        assert await rpc("submitblock", build_block(template)) is None


async def test_a_coinbase_that_knows_no_witness_gets_its_reserved_value(tmp_path: Path) -> None:
    """As bitcoind's submitblock does: pools that know no witnesses leave it out."""
    async with running(tmp_path, template_txs=2) as rpc:
        bare = build_block(await rpc.template(), reserved=())
        assert await rpc("submitblock", bare) is None
        mined = await rpc("getblock", await rpc("getbestblockhash"), 0)
        assert len(mined) == len(bare) + 2 * (2 + 1 + 1 + 32)  # marker and flag, two counts, the value
        wrong = build_block(await rpc.template(), reserved=(), commitment="6a24aa21a9ed" + "00" * 32)
        assert await rpc("submitblock", wrong) == "bad-witness-merkle-match"


async def test_block_with_transactions_that_spend_nothing_real_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        template = await rpc.template()
        one, other = template["transactions"]
        nowhere = respend(one, index=9_999)
        twice = [one["data"], respend(one)]
        unsigned = respend(other, stack=(b"\x00",))
        for txs, reason in (
            ([nowhere], "bad-txns-inputs-missingorspent"),
            (twice, "bad-txns-inputs-missingorspent"),
            ([one["data"], other["data"], other["data"]], "bad-txns-duplicate"),
            ([respend(one, fee_sat=-1)], "bad-txns-in-belowout"),
            ([respend(one, lock_time=10_000, sequence=0)], "bad-txns-nonfinal"),
        ):
            assert await rpc("submitblock", build_block(template, txs=txs)) == reason
        verdict = await rpc("submitblock", build_block(template, txs=[unsigned]))
        assert verdict.startswith("block-script-verify-flag-failed")


async def test_block_that_was_refused_once_is_known_as_invalid(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        block = build_block(await rpc.template(), value_sat=51_0000_0000)
        assert await rpc("submitblock", block) == "bad-cb-amount"
        assert await rpc("submitblock", block) == "duplicate-invalid"
        info = await rpc("getblockchaininfo")
        assert (info["blocks"], info["headers"]) == (0, 0)


async def test_block_whose_body_was_refused_is_known_by_its_header_only(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        block = build_block(await rpc.template(), height=7)
        assert await rpc("submitblock", block) == "bad-cb-height"
        header = await rpc("getblockheader", block_hash(block))
        assert (header["height"], header["confirmations"], header["nTx"]) == (1, -1, 0)
        with pytest.raises(RpcFailure, match="not available") as refused:
            await rpc("getblock", block_hash(block))
        assert refused.value.code == -1


async def test_network_bits_are_offered_and_then_refused_by_consensus(tmp_path: Path) -> None:
    async with running(tmp_path, network_bits=EASIER) as rpc:
        template = await rpc.template()
        assert template["bits"] == "207ffffe"
        assert template["target"] == "7ffffe" + "00" * 29
        assert await rpc("submitblock", build_block(template)) == "bad-diffbits"
        await rpc("generatetoaddress", 1, MINER_ADDRESS)  # its own blocks stay honest
        assert await rpc("getblockcount") == 1


async def test_longer_branch_takes_over_and_coins_follow_it_there_and_back(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=3) as rpc:
        fork = await rpc.template()
        mined = [tx["txid"] for tx in fork["transactions"]]
        first = build_block(fork)
        assert await rpc("submitblock", first) is None
        after_first = await rpc.template()
        parents = [CTransaction.deserialize(bytes.fromhex(tx["data"])) for tx in after_first["transactions"]]
        assert sorted(tx.vin[0].prevout.hash[::-1].hex() for tx in parents) == sorted(mined)

        rival = build_block(fork, txs=[], block_time=fork["curtime"] + 1)
        assert await rpc("submitblock", rival) == "inconclusive"
        assert await rpc("getbestblockhash") == block_hash(first)
        following = build_block(
            {**fork, "height": fork["height"] + 1, "curtime": fork["curtime"] + 2},
            txs=[],
            prev=block_hash(rival),
        )
        assert await rpc("submitblock", following) is None
        assert await rpc("getbestblockhash") == block_hash(following)
        assert (await rpc("getblockheader", block_hash(first)))["confirmations"] == -1

        again = await rpc.template()  # what the first block had spent can be spent once more
        assert sorted(tx["txid"] for tx in again["transactions"]) == sorted(mined)
        assert await rpc("getrawmempool") == []

        second = build_block(after_first)
        assert await rpc("submitblock", second) == "inconclusive"
        third = {**after_first, "height": after_first["height"] + 1, "curtime": after_first["curtime"] + 1}
        assert await rpc("submitblock", build_block(third, txs=[], prev=block_hash(second))) is None
        assert await rpc("submitblock", build_block(await rpc.template())) is None


async def test_branch_that_turns_out_invalid_leaves_the_chain_where_it_was(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        fork = await rpc.template()
        tip = build_block(fork)
        assert await rpc("submitblock", tip) is None
        greedy = build_block(fork, txs=[], value_sat=51_0000_0000)
        assert await rpc("submitblock", greedy) == "inconclusive"  # nobody counts a branch that is not best
        child = {**fork, "height": fork["height"] + 1, "curtime": fork["curtime"] + 1}
        assert await rpc("submitblock", build_block(child, txs=[], prev=block_hash(greedy))) == "inconclusive"
        assert await rpc("getbestblockhash") == block_hash(tip)
        assert await rpc("submitblock", build_block(await rpc.template())) is None


async def test_restart_continues_the_chain_and_its_coins(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=5) as rpc:
        assert await rpc("submitblock", build_block(await rpc.template())) is None
        tip = await rpc("getbestblockhash")
        cookie = rpc.node.cookie_file.read_text()
    assert not rpc.node.cookie_file.exists()
    async with running(tmp_path, template_txs=5) as rpc:
        assert await rpc("getbestblockhash") == tip  # nothing was mined to make coins again
        assert rpc.node.cookie_file.read_text() != cookie
        assert await rpc("submitblock", build_block(await rpc.template())) is None


async def test_two_nodes_in_one_process_do_not_take_each_others_verdicts(tmp_path: Path) -> None:
    async with running(tmp_path / "a", template_txs=2_000) as one, running(tmp_path / "b") as other:
        wrong = build_block(await other.template(), hits=False)
        big = build_block(await one.template(), value_sat=100_0000_0000)  # takes a while to be found out

        answered = trio.Event()

        async def keep_failing() -> None:
            while not answered.is_set():
                assert await other("submitblock", wrong) == "high-hash"

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(keep_failing)
            assert await one("submitblock", big) == "bad-cb-amount"
            answered.set()


# Long polls


async def test_longpoll_waits_for_the_next_block(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        template = await rpc.template()
        request = {**RULES, "longpollid": template["longpollid"]}
        with trio.move_on_after(0.1) as too_early:
            await rpc("getblocktemplate", request)
        assert too_early.cancelled_caught
        answers: list[Any] = []

        async def poll() -> None:
            answers.append(await rpc("getblocktemplate", request))

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(poll)
                block = build_block(template)
                assert await rpc("submitblock", block) is None
        assert [answer["previousblockhash"] for answer in answers] == 3 * [block_hash(block)]


async def test_longpoll_returns_a_while_after_a_new_transaction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.node, "LONGPOLL_TXS_FIRST_S", 0.05)
    async with running(tmp_path, template_txs=1) as rpc:
        template = await rpc.template()
        raw = respend(template["transactions"][0])
        await rpc("sendrawtransaction", raw)
        with trio.fail_after(PATIENCE_S):
            fresh = await rpc("getblocktemplate", {**RULES, "longpollid": template["longpollid"]})
        assert fresh["previousblockhash"] == template["previousblockhash"]
        assert raw in [tx["data"] for tx in fresh["transactions"]]


async def test_longpolls_beyond_the_limit_are_refused_until_somebody_hangs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool.regtest.node, "LONGPOLLS_MAX", 1)
    async with running(tmp_path) as rpc:
        longpollid = (await rpc.template())["longpollid"]
        body: dict[str, Any] = {"method": "getblocktemplate", "params": [{**RULES, "longpollid": longpollid}]}

        async def poll(answered: trio.Event) -> None:
            response = await rpc.http.post("/", json=body)
            assert response.status_code == 503
            answered.set()

        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                one_is_refused = trio.Event()
                nursery.start_soon(poll, one_is_refused)
                nursery.start_soon(poll, one_is_refused)
                await one_is_refused.wait()
                assert await rpc("getblockcount") == 0  # everything else is still answered
                nursery.cancel_scope.cancel()  # the other one hangs up
            body["params"] = [{**RULES, "longpollid": "00" * 32}]  # no tip: nothing to wait for
            while (await rpc.http.post("/", json=body)).status_code == 503:
                pass  # until the node has noticed


# Transactions


async def test_transaction_goes_through_the_memory_pool_into_a_block_and_back(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        fork = await rpc.template()
        raw = respend(fork["transactions"][0], fee_sat=777)
        assert await rpc("sendrawtransaction", raw) == txid(raw)
        assert await rpc("sendrawtransaction", raw) == txid(raw)
        assert await rpc("getrawmempool") == [txid(raw)]
        template = await rpc.template()
        offered = template["transactions"][0]
        parsed = CTransaction.deserialize(bytes.fromhex(raw))
        assert offered == {
            "data": raw,
            "txid": txid(raw),
            "hash": bytes(parsed.GetHash())[::-1].hex(),
            "depends": [],
            "fee": 777,
            "sigops": 0,
            "weight": parsed.calc_weight(),
        }
        block = build_block(template)
        assert await rpc("submitblock", block) is None
        assert await rpc("getrawmempool") == []
        assert txid(raw) in (await rpc("getblock", block_hash(block)))["tx"]
        with pytest.raises(RpcFailure) as known:
            await rpc("sendrawtransaction", raw)
        assert known.value.code == -27

        rival = build_block(fork, txs=[])
        child = {**fork, "height": fork["height"] + 1, "curtime": fork["curtime"] + 1}
        assert await rpc("submitblock", rival) == "inconclusive"
        assert await rpc("submitblock", build_block(child, txs=[], prev=block_hash(rival))) is None
        assert await rpc("getrawmempool") == [txid(raw)]
        assert await rpc("submitblock", build_block(await rpc.template())) is None


async def test_child_of_a_pending_transaction_depends_on_it(tmp_path: Path) -> None:
    """Signed with a key: a coinbase's output, its spend, and the spend of that in the same block."""
    key = Key()
    async with running(tmp_path) as rpc:
        await rpc("generatetoaddress", 1, MINER_ADDRESS)
        block = build_block(await rpc.template(), script=key.script)
        assert await rpc("submitblock", block) is None
        coinbase = CBlock.deserialize(bytes.fromhex(block)).vtx[0]
        parent = key.spend(coinbase, to=key.script, fee_sat=2_000)
        child = key.spend(CTransaction.deserialize(bytes.fromhex(parent)), to=b"\x6a", fee_sat=3_000)
        for raw, code, reason in (
            (child, -25, "bad-txns-inputs-missingorspent"),
            (parent, -26, "bad-txns-premature-spend-of-coinbase"),
        ):
            with pytest.raises(RpcFailure, match=reason) as refused:
                await rpc("sendrawtransaction", raw)
            assert refused.value.code == code
        await rpc("generatetoaddress", 99, MINER_ADDRESS)
        forged = key.spend(coinbase, to=b"\x6a", fee_sat=2_000, signed_sat=1)
        with pytest.raises(RpcFailure, match="script-verify-flag") as refused:
            await rpc("sendrawtransaction", forged)
        assert refused.value.code == -26
        assert await rpc("sendrawtransaction", parent) == txid(parent)
        assert await rpc("sendrawtransaction", child) == txid(child)
        template = await rpc.template()
        offered = [(tx["txid"], tx["depends"], tx["sigops"]) for tx in template["transactions"]]
        assert offered == [(txid(parent), [], 1), (txid(child), [1], 1)]
        [mined] = await rpc("generatetoaddress", 1, MINER_ADDRESS)
        assert (await rpc("getblock", mined))["nTx"] == 3


async def test_transaction_that_no_block_could_hold_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        one, other = (await rpc.template())["transactions"]
        await rpc("sendrawtransaction", respend(one))
        for raw, code, reason in (
            (respend(one, fee_sat=5_000), -26, "txn-mempool-conflict"),
            (respend(other, index=9_999), -25, "bad-txns-inputs-missingorspent"),
            (respend(other, fee_sat=-1), -26, "bad-txns-in-belowout"),
            (respend(other, fee_sat=1_000_000), -25, "Fee exceeds maximum"),
            (respend(other, stack=()), -26, "script-verify-flag"),
            (respend(other, stack=(b"\x52",)), -26, "script-verify-flag"),
            (respend(other, lock_time=10_000, sequence=0), -26, "non-final"),
            (respend(other, lock_time=2**32 - 1, sequence=0), -26, "non-final"),
            (respend(other, sequence=100), -26, "non-BIP68-final"),
            (respend(other, sequence=(1 << 22) + 60_000), -26, "non-BIP68-final"),
            (respend(other) + "00", -22, "TX decode failed"),
            (respend(other)[:-2], -22, "TX decode failed"),
            ("zz", -22, "TX decode failed"),
        ):
            with pytest.raises(RpcFailure, match=reason) as refused:
                await rpc("sendrawtransaction", raw)
            assert (refused.value.status, refused.value.code) == (500, code)
        assert len(await rpc("getrawmempool")) == 1
        await rpc("sendrawtransaction", respend(other, fee_sat=1_000_000, sequence=1), 0)


async def test_full_memory_pool_takes_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool.regtest.mempool, "POOL_TXS_MAX", 1)
    async with running(tmp_path, template_txs=2) as rpc:
        one, other = (await rpc.template())["transactions"]
        await rpc("sendrawtransaction", respend(one))
        with pytest.raises(RpcFailure, match="mempool full"):
            await rpc("sendrawtransaction", respend(other))


async def test_template_leaves_out_what_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        monkeypatch.setattr(pool.regtest.template, "BLOCK_WEIGHT_MAX", 8_000 + 381)
        template = await rpc.template()
        assert [tx["weight"] for tx in template["transactions"]] == [381]
        assert await rpc("submitblock", build_block(template)) is None


async def test_child_stays_out_of_a_template_without_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Key()
    async with running(tmp_path) as rpc:
        block = build_block(await rpc.template(), script=key.script)
        assert await rpc("submitblock", block) is None
        await rpc("generatetoaddress", 99, MINER_ADDRESS)
        coinbase = CBlock.deserialize(bytes.fromhex(block)).vtx[0]
        parent = key.spend(coinbase, to=key.script, fee_sat=2_000, memo=bytes(500))
        child = key.spend(CTransaction.deserialize(bytes.fromhex(parent)), to=key.script, fee_sat=2_000)
        monkeypatch.setattr(pool.regtest.template, "BLOCK_WEIGHT_MAX", 8_000 + 1_000)
        for raw in (parent, child):
            await rpc("sendrawtransaction", raw)
        assert (await rpc.template())["transactions"] == []
        await rpc("generatetoaddress", 1, MINER_ADDRESS)
        assert len(await rpc("getrawmempool")) == 2


async def test_fillers_that_somebody_spends_are_replaced_from_a_coinbase(tmp_path: Path) -> None:
    async with running(tmp_path, template_txs=2) as rpc:
        for filler in (await rpc.template())["transactions"]:
            await rpc("sendrawtransaction", respend(filler))
        await rpc("generatetoaddress", 1, MINER_ADDRESS)
        short = await rpc.template()
        [fan_out] = [CTransaction.deserialize(bytes.fromhex(tx["data"])) for tx in short["transactions"]]
        assert len(fan_out.vout) == 2
        assert await rpc("submitblock", build_block(short)) is None
        refilled = await rpc.template()
        assert len(refilled["transactions"]) == 2
        assert await rpc("submitblock", build_block(refilled)) is None


# Starting and stopping


async def test_stop_answers_and_ends_the_node(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        assert await rpc("stop") == "Bitcoin Core stopping"
        with trio.fail_after(PATIENCE_S):
            while rpc.node.cookie_file.exists():
                await trio.testing.wait_all_tasks_blocked()
    async with running(tmp_path) as rpc:
        assert await rpc("getblockcount") == 0


async def test_node_without_the_kernel_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pbk", None)
    with pytest.raises(RegtestUnavailable, match=r"pip install 'angara\[node\]'"):
        await serve_regtest(RegtestOptions(data_dir=tmp_path))


async def test_data_directory_in_use_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as rpc:
        with pytest.raises(RegtestUnavailable, match="another node"):
            await serve_regtest(RegtestOptions(data_dir=tmp_path))
        assert await rpc("getblockcount") == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"template_txs": -1}, "template_txs"),
        ({"template_txs": 10_001}, "template_txs"),
        ({"rpc_user": "pool"}, "together"),
        ({"rpc_user": "a:b", "rpc_password": "c"}, "colon"),
        ({"network_bits": 0x00000000}, "network_bits"),
        ({"network_bits": 0x1D80FFFF}, "network_bits"),
        ({"network_bits": 0xFF00FFFF}, "network_bits"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, options: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        await serve_regtest(RegtestOptions(data_dir=tmp_path, **options))
