"""The embedded node's coins and transactions: found, looked at, tested, replaced."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from bitcoin.core import CMutableTransaction, COutPoint, CTransaction, CTxIn, CTxInWitness, CTxOut, CTxWitness
from bitcoin.core.script import CScript, CScriptWitness

from payouts.batches.transaction import TxOutput, outpoint
from pool.books.store import Store
from pool.regtest.wallet import FILLER_SCRIPT
from tests.stages.payouts import COIN_SAT, COINS, PAYEES, SEND, Regtest, World, script_of, world_of
from tests.stages.regtest import OP_TRUE

REPLACEABLE, FINAL = 0xFFFFFFFD, 0xFFFFFFFF
SEED = 20_090_109


class BtcRpc:
    """Calls as bitcoin-cli does, amounts kept as they are written."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, method: str, *params: object) -> Any:
        body = json.dumps({"id": 1, "method": method, "params": params}).encode()
        reply = await self._world.rpc_server.answer(body)
        answer = json.loads(reply.body, parse_float=Decimal)
        if answer["error"] is not None:
            raise RuntimeError(f"{answer['error']['code']}: {answer['error']['message']}")
        return answer["result"]


def spending(txid: str, vout: int, sat: int, *, sequence: int = REPLACEABLE) -> str:
    """A transaction that spends a coin of the filler's program to the same program."""
    tx = CMutableTransaction(
        [CTxIn(COutPoint(bytes.fromhex(txid)[::-1], vout), nSequence=sequence)],
        [CTxOut(sat, CScript(FILLER_SCRIPT))],
        nVersion=2,
        witness=CTxWitness([CTxInWitness(CScriptWitness([OP_TRUE]))]),
    )
    raw: str = tx.serialize().hex()
    return raw


def txid_of(raw: str) -> str:
    return bytes(CTransaction.deserialize(bytes.fromhex(raw)).GetTxid())[::-1].hex()


async def test_the_coins_of_descriptors_are_found(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(TxOutput(123_456_789, world.signer.script(19, change=True)), deep=2)
        await world.node.generate(world.signer.script(3))
        found = await rpc("scantxoutset", "start", world.wallet.scan_objects)
        assert (found["success"], found["height"]) == (True, world.chain.tip.height)
        assert len(found["unspents"]) == COINS + 2
        [change] = [it for it in found["unspents"] if it["txid"] == funding.txid]
        assert change["amount"] == Decimal("1.23456789")
        assert (change["vout"], change["coinbase"], change["confirmations"]) == (0, False, 3)
        assert change["scriptPubKey"] == world.signer.script(19, change=True).hex()
        assert change["desc"] == world.wallet.scan_objects[1]["desc"]
        assert change["blockhash"] == await rpc("getblockhash", change["height"])
        assert [it["confirmations"] for it in found["unspents"] if it["coinbase"]] == [1]
        assert found["total_amount"] == sum(it["amount"] for it in found["unspents"])
        fewer = [{"desc": world.wallet.scan_objects[1]["desc"], "range": 18}]
        assert (await rpc("scantxoutset", "start", fewer))["unspents"] == []
        one = [{"desc": world.wallet.scan_objects[1]["desc"], "range": [19, 19]}]
        assert len((await rpc("scantxoutset", "start", one))["unspents"]) == 1
        assert await rpc("scantxoutset", "status") is None
        assert await rpc("scantxoutset", "abort") is False


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (["start"], "scanobjects argument is required"),
        (["begin", []], "Invalid action 'begin'"),
        (["start", ["nonsense"]], "Invalid descriptor"),
        (["start", [{"desc": "x", "range": [5, 4]}]], "Range"),
        (["start", [{"desc": "x", "range": 1_000_000}]], "Range"),
    ],
)
async def test_a_scan_that_makes_no_sense_is_refused(
    regtest: Regtest, books: Store, params: list[object], words: str
) -> None:
    async with world_of(regtest, books) as world:
        with pytest.raises(RuntimeError, match=words):
            await BtcRpc(world)("scantxoutset", *params)


async def test_an_output_is_there_until_it_is_spent(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(deep=2)
        rest = len(funding.outputs) - 1
        rest_sat = funding.outputs[rest].amount_sat
        out = await rpc("gettxout", funding.txid, 0)
        assert (out["value"], out["confirmations"], out["coinbase"]) == (Decimal("0.03"), 2, False)
        assert out["bestblock"] == await rpc("getbestblockhash")
        assert out["scriptPubKey"]["hex"] == world.signer.script(0).hex()
        raw = spending(funding.txid, rest, rest_sat - 1_000)
        await rpc(SEND, raw)
        assert await rpc("gettxout", funding.txid, rest) is None
        assert (await rpc("gettxout", funding.txid, rest, False))["confirmations"] == 2
        assert (await rpc("gettxout", txid_of(raw), 0))["confirmations"] == 0
        assert await rpc("gettxout", txid_of(raw), 0, False) is None
        await world.mine()
        assert await rpc("gettxout", funding.txid, rest, False) is None
        assert (await rpc("gettxout", txid_of(raw), 0, False))["confirmations"] == 1
        assert await rpc("gettxout", "00" * 32, 0) is None


async def test_a_transaction_is_told_with_what_it_spends(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(deep=0)
        assert await rpc("getrawtransaction", funding.txid) == funding.raw.hex()
        assert (await rpc("getrawtransaction", funding.txid, True))["txid"] == funding.txid
        entry = await rpc("getmempoolentry", funding.txid)
        assert (entry["fees"]["base"], entry["depends"]) == (Decimal("0.0001"), [])
        assert (entry["weight"], entry["bip125-replaceable"]) == (funding.weight, False)
        made_at = world.chain.coins[outpoint(funding.inputs[0].txid, funding.inputs[0].vout)].height
        await world.mine()
        with pytest.raises(RuntimeError, match="-5: No such mempool transaction"):
            await rpc("getrawtransaction", funding.txid)
        with pytest.raises(RuntimeError, match="-5: Transaction not in mempool"):
            await rpc("getmempoolentry", funding.txid)
        block = await rpc("getbestblockhash")
        assert await rpc("getrawtransaction", funding.txid, 0, block) == funding.raw.hex()
        told = await rpc("getrawtransaction", funding.txid, 2, block)
        assert (told["fee"], told["blockhash"], told["confirmations"]) == (Decimal("0.0001"), block, 1)
        [spent] = told["vin"]
        assert (spent["txid"], spent["prevout"]["height"]) == (funding.inputs[0].txid, made_at)
        paid = sum(it["value"] for it in told["vout"]) + told["fee"]
        assert spent["prevout"]["value"] == paid
        plain = await rpc("decoderawtransaction", funding.raw.hex())
        assert (plain["txid"], plain["weight"], plain["hash"]) == (funding.txid, funding.weight, told["hash"])
        assert [it["value"] for it in plain["vout"]][:COINS] == [Decimal(COIN_SAT) / 10**8] * COINS
        coinbase = (await rpc("getblock", block))["tx"][0]
        assert "coinbase" in (await rpc("getrawtransaction", coinbase, 2, block))["vin"][0]
        other = await rpc("getblockhash", 1)
        for params, words in (
            ((funding.txid, 0, other), "No such transaction found in the provided block"),
            ((funding.txid, 0, "11" * 32), "Block hash not found"),
            (("xy",), "must be of length 64"),
        ):
            with pytest.raises(RuntimeError, match=words):
                await rpc("getrawtransaction", *params)
        with pytest.raises(RuntimeError, match="-22: TX decode failed"):
            await rpc("decoderawtransaction", "00")


async def test_addresses_are_told_where_there_are_some(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        outputs = [TxOutput(10_000, script_of(address)) for _, address, _ in PAYEES]
        funding = await world.fund(*outputs, TxOutput(10_000, b"\x51"))
        world.paid_before_sat = world.received_sat()
        told = await BtcRpc(world)("decoderawtransaction", funding.raw.hex())
        scripts = [it["scriptPubKey"] for it in told["vout"]]
        assert [it.get("address") for it in scripts[:4]] == [address for _, address, _ in PAYEES] + [None]


async def test_what_would_be_taken_is_tested_without_taking_it(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(deep=1)
        rest = len(funding.outputs) - 1
        good = spending(funding.txid, rest, funding.outputs[rest].amount_sat - 700)
        [verdict] = await rpc("testmempoolaccept", [good])
        assert (verdict["allowed"], verdict["fees"]["base"]) == (True, Decimal("0.000007"))
        assert world.pending() == []
        forged = good.replace("0151", "0152")
        [verdict] = await rpc("testmempoolaccept", [forged])
        assert (verdict["allowed"], verdict["reject-reason"]) == (
            False,
            "mandatory-script-verify-flag-failed",
        )
        await rpc(SEND, good)
        [verdict] = await rpc("testmempoolaccept", [good])
        assert verdict["reject-reason"] == "txn-already-in-mempool"
        await world.mine()
        [verdict] = await rpc("testmempoolaccept", [good])
        assert verdict["reject-reason"] == "txn-already-known"
        with pytest.raises(RuntimeError, match="-27: Transaction outputs already in utxo set"):
            await rpc(SEND, good)
        for rawtxs, words in (([], "between 1 and 25"), (["zz"], "TX decode failed"), (["00"], "TX decode")):
            with pytest.raises(RuntimeError, match=words):
                await rpc("testmempoolaccept", rawtxs)


async def test_a_replacement_pays_more_and_takes_the_children_along(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(deep=1)
        rest = len(funding.outputs) - 1
        sat = funding.outputs[rest].amount_sat
        parent = spending(funding.txid, rest, sat - 1_000)
        child = spending(txid_of(parent), 0, sat - 3_000)
        await rpc(SEND, parent)
        await rpc(SEND, child)
        assert (await rpc("getmempoolentry", txid_of(child)))["depends"] == [txid_of(parent)]
        for fee_sat in (500, 1_001, 3_000, 3_050):  # parent and child paid 3,000, and relay costs 96
            with pytest.raises(RuntimeError, match="-26: insufficient fee"):
                await rpc(SEND, spending(funding.txid, rest, sat - fee_sat))
        assert world.pending() == [txid_of(parent), txid_of(child)]
        better = spending(funding.txid, rest, sat - 3_200, sequence=FINAL)
        await rpc(SEND, better)
        assert world.pending() == [txid_of(better)]
        assert await rpc("gettxout", txid_of(child), 0) is None
        with pytest.raises(RuntimeError, match="-26: txn-mempool-conflict"):  # that one is final
            await rpc(SEND, spending(funding.txid, rest, sat - 50_000))
        await world.mine()
        assert await rpc("gettxout", txid_of(better), 0, False) is not None


async def test_a_replacement_cannot_spend_what_it_replaces(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        funding = await world.fund(deep=1)
        rest = len(funding.outputs) - 1
        sat = funding.outputs[rest].amount_sat
        parent = spending(funding.txid, rest, sat - 1_000)
        await rpc(SEND, parent)
        both = CMutableTransaction(
            [
                CTxIn(COutPoint(bytes.fromhex(funding.txid)[::-1], rest), nSequence=REPLACEABLE),
                CTxIn(COutPoint(bytes.fromhex(txid_of(parent))[::-1], 0), nSequence=REPLACEABLE),
            ],
            [CTxOut(sat, CScript(FILLER_SCRIPT))],
            nVersion=2,
            witness=CTxWitness([CTxInWitness(CScriptWitness([OP_TRUE]))] * 2),
        )
        with pytest.raises(RuntimeError, match="bad-txns-spends-conflicting-tx"):
            await rpc(SEND, both.serialize().hex(), 0)


async def test_fees_are_not_estimated(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        answer = await BtcRpc(world)("estimatesmartfee", 6)
        assert answer == {"errors": ["Insufficient data or no feerate found"], "blocks": 0}
        for params, words in (((0,), "conf_target"), ((6, "cheap"), "estimate_mode")):
            with pytest.raises(RuntimeError, match=words):
                await BtcRpc(world)("estimatesmartfee", *params)


# An address; its script; whether it is of more than a key; its witness version.
ADDRESSES: tuple[tuple[str, str, bool, int | None], ...] = (
    (
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
        "76a914" + "243f1394f44554f4ce3fd68649c19adc483ce924" + "88ac",
        False,
        None,
    ),
    (
        "2MzQwSSnBHWHqSAqtTVQ6v47XtaisrJa1Vc",
        "a914" + "4e9f39ca4688ff102128ea4ccda34105324305b0" + "87",
        True,
        None,
    ),
    (
        "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "0014" + "751e76e8199196d454941c45d1b3a323f1433bd6",
        False,
        0,
    ),
    (
        "bcrt1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qzf4jry",
        "0020" + "1863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262",
        True,
        0,
    ),
    (
        "bcrt1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqc8gma6",
        "5120" + "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798",
        True,
        1,
    ),
)
NO_ADDRESSES = ("", "nobody", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "x" * 1_000)


async def test_an_address_is_known_for_what_it_is(regtest: Regtest, books: Store) -> None:
    async with world_of(regtest, books) as world:
        for address, script, isscript, witness in ADDRESSES:
            expected = {
                "isvalid": True,
                "address": address,
                "scriptPubKey": script,
                "isscript": isscript,
                "iswitness": witness is not None,
            }
            if witness is not None:
                expected |= {"witness_version": witness, "witness_program": script[4:]}
            assert await BtcRpc(world)("validateaddress", address) == expected
        for address in NO_ADDRESSES:
            answer = await BtcRpc(world)("validateaddress", address)
            assert (answer["isvalid"], set(answer)) == (False, {"isvalid", "error", "error_locations"})


async def test_what_is_no_transaction_is_not_decoded(regtest: Regtest, books: Store) -> None:
    rng = random.Random(SEED)
    async with world_of(regtest, books) as world:
        rpc = BtcRpc(world)
        coinbase = bytes.fromhex(await rpc("getblock", await rpc("getblockhash", 1), 0))[81:]
        noise = [rng.randbytes(60).hex() for _ in range(50)]
        for text in ("", "zz", "0", coinbase[: len(coinbase) // 2].hex(), *noise):
            with pytest.raises(RuntimeError, match="-22: TX decode failed"):
                await rpc("decoderawtransaction", text)
        assert (await rpc("decoderawtransaction", coinbase.hex()))["vin"][0]["coinbase"]
