"""Answers of the wrong shape: whatever a node says to whatever the pool asks is used, or an error in words.

Each question of production is asked of a node whose good answer was changed in one place, into each of the
shapes below. The questions are those of the source, all of them.
"""

import random
import re
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import pool
from payouts.rates import Scheme
from pool.chain.chain_lead import leads
from pool.chain.coinbase import BadCoinbase
from pool.chain.difficulties import bits_of_forks
from pool.chain.fee_watch import recent_fees
from pool.chain.nodes import Node, check_chain
from pool.chain.rpc import REASON_CHARS_MAX, NodeError
from pool.treasury.chain_node import ChainNode, PayoutNodes
from stratum._engine import Engine
from stratum.job import swap_words
from stratum.miners.channel import Channel, JobIds
from stratum.miners.extranonce import ExtranonceSpace
from tests.fakes.bitcoinds import COMMITMENT, SIGNET, FakeBitcoind, template_result
from tests.fakes.work_sources import SourceThatKeeps
from tests.histories.solving import work_on
from tests.stages.plant import HARD, Clock, pass_time, plant, steps

__all__ = ["steps"]

CHAIN: Final = FakeBitcoind(height=20)  # what is true
BEST: Final = CHAIN.best
# Version 1, an input that spends the first output of 11..11 with an empty script, an output of a satoshi.
TX: Final = "0100000001" + "11" * 32 + "0000000000ffffffff0101000000000000000000000000"
TXID: Final = sha256(sha256(bytes.fromhex(TX)).digest()).digest()[::-1].hex()
BLOCK: Final = CHAIN.headers[BEST].hex() + "01" + TX
TEMPLATE: Final = template_result(transactions=[{"data": TX, "txid": TXID}])
WORDS_MAX: Final = REASON_CHARS_MAX + 200  # of a node, and of ours around them

DEEP: Final = msgspec.Raw(b"[" * 10_000 + b"]" * 10_000)
SHAPES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**30, -(10**30)),
    *(0.5, -0.5, 1e300, -1e300, msgspec.Raw(b"NaN"), msgspec.Raw(b"1e999"), msgspec.Raw(b"9" * 5_000)),
    *("", " ", "x", "0", "NaN", "Infinity", "-Infinity", "1e999999999", "sNaN", "\x00", "\n[31m"),
    *("00", "0", "zz" * 32, "00" * 31, "00" * 32, "00" * 33, "FF" * 32, "00" * 80, "ff" * 80, "00" * 1000),
    *(
        COMMITMENT + "00" * 1_000,
        COMMITMENT + "00" * 70_000,
        "x" * 100_000,
        "\U0001f4a5",
        msgspec.Raw(b'"\\ud800"'),
    ),
    *([], [[]], [None], [0], ["x"], {}, {"": None}, {"hash": 1}, DEEP),
)
SHAPES_WITHIN: Final = 16  # of these in each place; the name of a question is the seed


def node_of(fake: FakeBitcoind) -> Node:
    return Node(fake.config, transport=fake)


def payer(node: Node) -> ChainNode:
    return ChainNode(node, 20)


async def be_led(node: Node) -> object:
    return await leads(node_of(FakeBitcoind("ahead", height=22)), node, 2, claimed=22)


async def lead(node: Node) -> object:
    return await leads(node, node_of(FakeBitcoind("behind", height=18)), 2, claimed=20)


async def job(node: Node) -> object:
    """The way from a template to miners."""
    template = await node.template(chain="regtest")
    engine = Engine()
    channel = Channel(
        1,
        SourceThatKeeps(),
        engine=engine,
        job_ids=JobIds(),
        extranonces=ExtranonceSpace(4, first=0),
        extranonce2_size=8,
    )
    try:
        channel.publish(work_on(template), rate=1)
    except BadCoinbase:
        return None  # which main says, and goes on
    return channel.notify_line(clean=True).decode().strip()


# What is asked, by whom, and a good answer where the honest node above has none.
Ask = Callable[[Node], Awaitable[object]]
QUESTIONS: Final[dict[str, tuple[str, Ask, Any]]] = {
    "chain info": ("getblockchaininfo", lambda it: check_chain(it, "regtest"), None),
    "genesis": ("getblockhash", lambda it: check_chain(it, "regtest"), None),
    "network info": ("getnetworkinfo", lambda it: check_chain(it, "regtest"), None),
    "template": (
        "getblocktemplate",
        lambda it: it.template(chain="regtest"),
        TEMPLATE,
    ),
    "job": ("getblocktemplate", job, TEMPLATE | {"default_witness_commitment": COMMITMENT}),
    "signet": ("getblocktemplate", lambda it: it.template(chain="signet"), TEMPLATE | SIGNET),
    "block": ("submitblock", lambda it: it.submit_block([b"00"]), "high-hash"),
    "preference": ("preciousblock", lambda it: it.precious_block(BEST), None),
    "tip": ("getblockcount", lambda it: it.tip_height(), None),
    "hash": ("getblockhash", lambda it: it.hash_at(5), None),
    "header": ("getblockheader", lambda it: it.header(BEST), CHAIN.headers[BEST].hex()),
    "lead: hash": ("getblockhash", lead, BEST),
    "lead: header": ("getblockheader", lead, CHAIN.headers[BEST].hex()),
    "led: tip": ("getblockcount", be_led, None),
    "led: hash": ("getblockhash", be_led, BEST),
    "led: header": ("getblockheader", be_led, CHAIN.headers[BEST].hex()),
    "forks": (
        "getchaintips",
        lambda it: bits_of_forks(it, 5),
        [{"height": 20, "hash": BEST, "branchlen": 0, "status": "active"}],
    ),
    "fees": ("getblockstats", lambda it: recent_fees(it), None),
    "fees: tip": ("getblockcount", lambda it: recent_fees(it), None),
    "payouts: a node": ("getblockchaininfo", lambda it: PayoutNodes([it], "regtest").first(), None),
    "payouts: depth": (
        "getblockheader",
        lambda it: PayoutNodes([it], "regtest").confirmations(BEST),
        {"confirmations": 5, "time": 5},
    ),
    "coins": (
        "scantxoutset",
        lambda it: payer(it).coins(["addr(x)"]),
        {
            "success": True,
            "height": 20,
            "unspents": [{"txid": TXID, "vout": 0, "scriptPubKey": "51", "amount": 0.1, "height": 5}],
        },
    ),
    "unspent": ("gettxout", lambda it: payer(it).unspent(TXID, 0), {"value": 1.0}),
    "depth": ("getblockheader", lambda it: payer(it).confirmations(BEST), {"confirmations": 5, "time": 5}),
    "time": ("getblockheader", lambda it: payer(it).block_time_s(5), {"confirmations": 5, "time": 5}),
    "spender": ("getblock", lambda it: payer(it).spender("11" * 32, 0, 19), BLOCK),
    "spender: hash": ("getblockhash", lambda it: payer(it).spender("11" * 32, 0, 19), BEST),
    "transaction": ("getrawtransaction", lambda it: payer(it).transaction(TXID, 5), TX),
    "ancestry": (
        "getrawtransaction",
        lambda it: payer(it).ancestry(TXID, 5),
        {"hex": TX, "vin": [{"prevout": {"height": 5, "value": 1.0, "scriptPubKey": {"hex": "51"}}}]},
    ),
    "fee rate": ("estimatesmartfee", lambda it: payer(it).fee_rate_sat_kvb(), {"feerate": 0.0001}),
    "refusal": (
        "testmempoolaccept",
        lambda it: payer(it).refusal(bytes.fromhex(TX)),
        [{"allowed": False, "reject-reason": "dust"}],
    ),
    "sending": (
        "sendrawtransaction",
        lambda it: PayoutNodes([it], "regtest").send(bytes.fromhex(TX)),
        TXID,
    ),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where an answer can be changed."""
    yield path
    inside: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in inside:
        yield from places(item, (*path, key))


def changed(value: Any, path: tuple[Any, ...], shape: Any) -> Any:
    if not path:
        return shape
    copy = value.copy()
    copy[path[0]] = changed(value[path[0]], path[1:], shape)
    return copy


def without(value: Any, path: tuple[Any, ...]) -> Any:
    copy = value.copy()
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = without(value[path[0]], path[1:])
    return copy


def wrong_answers(good: Any, chance: random.Random) -> Iterator[Any]:
    """Every shape in place of it all; some of them, and nothing at all, in each place within."""
    yield from SHAPES
    for path in places(good):
        if path:
            yield without(good, path)
            yield from (changed(good, path, shape) for shape in chance.sample(SHAPES, SHAPES_WITHIN))


async def good_answer(name: str) -> Any:
    method, _, good = QUESTIONS[name]
    if good is not None:
        return good
    params: dict[str, list[Any]] = {"getblockhash": [0], "getblockstats": [20, []], "preciousblock": [BEST]}
    return await getattr(CHAIN, "_" + method)(*params.get(method, []))


@pytest.mark.parametrize("name", QUESTIONS)
async def test_an_answer_of_the_wrong_shape_is_an_error_in_words(name: str) -> None:
    method, ask, _ = QUESTIONS[name]
    good, answers = await good_answer(name), 0
    fake = FakeBitcoind(height=20)
    node = node_of(fake)
    for answer in wrong_answers(good, random.Random(name)):
        fake.says = {method: answer}
        fake.calls.clear()
        try:
            used = await ask(node)
        except NodeError as error:
            words = str(error)
            assert words == " ".join(words.split()), "one line"
            assert 0 < len(words) <= WORDS_MAX
        else:
            assert_bounded(used)
        answers += method in fake.methods()
    assert answers >= len(SHAPES), "it was asked"


def assert_bounded(value: object) -> None:
    """Nothing that is used is a number that no database takes, a float, or text without end."""
    for item in plain(value):
        assert not isinstance(item, float)
        if isinstance(item, int):
            assert -(2**31) <= item < 2**63 or (item.bit_length() <= 256 and item > 0), item
        if isinstance(item, str):
            assert len(item) <= 2_000
            assert item.isprintable(), "it may end up in a log"


def plain(value: object) -> Iterator[object]:
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.astuple(value)
    if isinstance(value, ChainNode):
        value = value.height
    if isinstance(value, tuple | list):
        for item in value:
            yield from plain(item)
    else:
        yield value


@pytest.mark.parametrize("seed", range(3))
async def test_a_pool_whose_nodes_say_anything_goes_on_and_recovers(
    seed: int, tmp_path: Path, steps: Clock
) -> None:
    chance = random.Random(seed)
    templates = list(wrong_answers(TEMPLATE | HARD, chance))
    asked = ("getblockchaininfo", "getnetworkinfo", "getblockhash", "getblockcount", "getblockheader")
    async with plant(tmp_path, scheme=Scheme.FPPS, outage_s=1e6) as site:
        miner = await site.mining()
        for height in range(101, 151):
            node = chance.choice(site.nodes)
            if chance.random() < 0.5:
                node.says = {"getblocktemplate": chance.choice(templates)}
            else:
                node.says = {chance.choice((*asked, "getblockstats")): chance.choice(SHAPES)}
            for it in site.nodes:
                it.move_to(height)
            await pass_time(steps, chance.randint(1, 9))
            if chance.random() < 0.5:
                node.says = {}
        for node in site.nodes:
            node.says = {}
            node.move_to(200)
        for _ in range(120):
            await pass_time(steps, 1)
        await miner.hear()
        assert swap_words(bytes.fromhex(miner.job[1]))[::-1].hex() == site.nodes[0].best
        await site.mine(miner)
        assert not site.board.dropped


def test_every_question_that_the_pool_asks_is_in_the_table() -> None:
    asked = set()
    for source in Path(str(pool.__file__)).parent.rglob("*.py"):
        if not source.name.startswith("regtest"):
            asked |= set(re.findall(r"""rpc\.call(?:_with_hex)?\(\s*"(\w+)\"""", source.read_text()))
    assert len(asked) > 12
    assert asked == {method for method, _, _ in QUESTIONS.values()}
