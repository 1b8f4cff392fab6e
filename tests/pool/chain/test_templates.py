"""getblocktemplate's answers: what becomes work, and what must not be mined."""

from hashlib import sha256
from typing import Any

import pytest
from bitcoin.core import CTransaction
from hypothesis import given
from hypothesis import strategies as st

from pool.chain.templates import (
    NTIME_AHEAD_MAX_S,
    TRANSACTIONS_MAX,
    BadTemplate,
    Transactions,
    merkle_branch,
    merkle_root,
    parse_template,
    sha256d,
)
from stratum.difficulty import target_from_nbits
from tests.fakes.bitcoinds import COMMITMENT, REGTEST_TARGET, template_result
from tests.histories.solving import work_on

PAYOUT = bytes.fromhex("0014751e76e8199196d454941c45d1b3a323f1433bd6")
DATA = "ab" * 60


def transaction(number: int = 0, **changes: Any) -> dict[str, Any]:
    txid = sha256(str(number).encode()).hexdigest()
    entry = {"data": DATA, "txid": txid, "hash": txid, "depends": [], "fee": 1000, "sigops": 1, "weight": 240}
    return entry | changes


def test_a_template_is_read_with_its_hashes_turned_into_internal_order() -> None:
    txid, prevhash = "01" + "00" * 31, "02" + "00" * 31
    template = parse_template(
        template_result(previousblockhash=prevhash, transactions=[transaction(txid=txid)])
    )
    assert template.prevhash_internal == bytes(31) + b"\x02"
    assert template.prevhash_hex == prevhash
    assert template.transactions == Transactions(
        data=bytes.fromhex(DATA), data_hex=DATA.encode(), txids_internal=bytes(31) + b"\x01"
    )
    assert template.height == 101
    assert template.version == 0x20000000
    assert template.nbits == 0x207FFFFF
    assert template.target == target_from_nbits(0x207FFFFF)
    assert template.coinbase_value_sat == 50_0000_0000
    assert template.witness_commitment == bytes.fromhex(COMMITMENT)
    assert template.rules == ("csv", "segwit", "taproot")
    assert template.longpoll_id == "0f" * 32 + "7"


def test_a_template_without_transactions_becomes_work_without_a_branch() -> None:
    template = parse_template(template_result())
    work = work_on(template, payout_script=PAYOUT, tag="/t/")
    assert work.branch == ()
    assert work.origin is template
    coinbase = CTransaction.deserialize(work.coinbase1 + bytes(12) + work.coinbase2)
    assert [(out.nValue, bytes(out.scriptPubKey)) for out in coinbase.vout] == [
        (50_0000_0000, PAYOUT),
        (0, bytes.fromhex(COMMITMENT)),
    ]


def test_work_carries_the_header_fields_and_the_times_that_a_node_accepts() -> None:
    template = parse_template(template_result(transactions=[transaction(n) for n in range(5)]))
    work = work_on(template, payout_script=PAYOUT, tag="/t/")
    assert (work.height, work.version, work.nbits) == (101, 0x20000000, 0x207FFFFF)
    assert work.network_target == int(REGTEST_TARGET, 16)
    assert work.prevhash_internal == template.prevhash_internal
    assert (work.ntime_min, work.ntime, work.ntime_max) == (1_700_000_001, 1_700_000_600, 1_700_007_600)
    assert NTIME_AHEAD_MAX_S < 7200  # consensus' MAX_FUTURE_BLOCK_TIME
    assert len(work.branch) == 3


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        # One row a field: missing, of the wrong type, out of range, inconsistent.
        ({"version": None}, "missing required field `version`"),
        ({"version": "536870912"}, "Expected `int`, got `str` - at `$.version`"),
        ({"version": -1}, "Expected `int` >= 0 - at `$.version`"),
        ({"previousblockhash": None}, "missing required field `previousblockhash`"),
        ({"previousblockhash": "0f" * 31}, "at `$.previousblockhash`"),
        ({"previousblockhash": "zz" * 32}, "at `$.previousblockhash`"),
        ({"transactions": None}, "missing required field `transactions`"),
        ({"transactions": {}}, "Expected `array`, got `object` - at `$.transactions`"),
        ({"transactions": [transaction()] * (TRANSACTIONS_MAX + 1)}, "at `$.transactions`"),
        ({"transactions": [{"txid": "00" * 32}]}, "missing required field `data` - at `$.transactions[0]`"),
        ({"transactions": [transaction(), transaction(data="ab" * 59)]}, "at `$.transactions[1].data`"),
        ({"transactions": [transaction(data="zz" * 60)]}, "transactions[0]: data or txid is not hex"),
        ({"transactions": [transaction(data="a" * 121)] * 2}, "transactions[0]: data or txid is not hex"),
        ({"transactions": [transaction(), transaction(data="ab " * 60)]}, "transactions[1]: data or txid"),
        ({"transactions": [transaction(data='"' * 120)]}, "transactions[0]: data or txid is not hex"),
        ({"transactions": [transaction(data="\u0661" * 120)]}, "transactions[0]: data or txid is not hex"),
        ({"transactions": [transaction(txid="0 " * 32)]}, "transactions[0]: data or txid is not hex"),
        ({"transactions": [transaction(txid="00" * 31)]}, "transactions[0]: the txid has 31 bytes, not 32"),
        ({"transactions": [transaction(fee=-1)]}, "at `$.transactions[0].fee`"),
        ({"coinbasevalue": None}, "missing required field `coinbasevalue`"),
        ({"coinbasevalue": 50.5}, "Expected `int`, got `float` - at `$.coinbasevalue`"),
        ({"coinbasevalue": -1}, "at `$.coinbasevalue`"),
        ({"target": None}, "missing required field `target`"),
        ({"target": "00" * 32}, "is not what bits 207fffff mean"),
        ({"bits": None}, "missing required field `bits`"),
        ({"bits": 0x207FFFFF}, "Expected `str`, got `int` - at `$.bits`"),
        ({"bits": "207fffff\n"}, "at `$.bits`"),
        ({"bits": "1d00ffff"}, "is not what bits 1d00ffff mean"),
        ({"bits": "20ffffff"}, "bits: nBits 20ffffff has the sign bit set"),
        ({"mintime": None}, "missing required field `mintime`"),
        ({"mintime": 1_700_000_601}, "curtime 1700000600 is before mintime 1700000601"),
        ({"curtime": None}, "missing required field `curtime`"),
        ({"curtime": 1 << 32}, "at `$.curtime`"),
        ({"height": None}, "missing required field `height`"),
        ({"height": True}, "Expected `int`, got `bool` - at `$.height`"),
        ({"height": 0}, "Expected `int` >= 1 - at `$.height`"),
        ({"rules": "segwit"}, "Expected `array`, got `str` - at `$.rules`"),
        ({"rules": ["!segwit", "!quantum"]}, "the node demands !quantum, which this pool does not know"),
        ({"rules": ["!segwit", "!signet"]}, "the node demands !signet, which this pool does not know"),
        ({"longpollid": 7}, "Expected `str`, got `int` - at `$.longpollid`"),
        ({"default_witness_commitment": "xyz"}, "default_witness_commitment is not hex"),
        ({"default_witness_commitment": "6a24" + "00" * 36}, "is not a BIP-141 commitment"),
        ({"default_witness_commitment": COMMITMENT[:-2]}, "is not a BIP-141 commitment"),
        (
            {"default_witness_commitment": None, "transactions": [transaction(hash="11" * 32)]},
            "default_witness_commitment: missing, but there are transactions with witness",
        ),
    ],
)
def test_a_bad_template_is_refused_and_the_field_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadTemplate) as refused:
        parse_template(template_result(**changes))
    assert reason in str(refused.value)


@pytest.mark.parametrize("answer", [None, 5, "template", [template_result()]])
def test_what_is_no_object_is_no_template(answer: object) -> None:
    with pytest.raises(BadTemplate, match="Expected `object`"):
        parse_template(answer)


def test_signet_may_demand_its_own_rule() -> None:
    template = parse_template(template_result(rules=["!segwit", "!signet"], signet_challenge="51"))
    assert template.rules == ("segwit", "signet")


def test_unknown_rules_that_are_not_mandatory_are_fine() -> None:
    assert parse_template(template_result(rules=["!segwit", "quantum"])).rules == ("segwit", "quantum")


@pytest.mark.parametrize("field", ["rules", "longpollid", "default_witness_commitment"])
def test_what_old_nodes_leave_out_may_be_missing(field: str) -> None:
    template = parse_template(template_result(**{field: None}))
    absent = {"rules": (), "longpollid": "", "default_witness_commitment": None}
    present = {
        "rules": template.rules,
        "longpollid": template.longpoll_id,
        "default_witness_commitment": template.witness_commitment,
    }
    assert present[field] == absent[field]


def naive_root(txids: list[bytes]) -> bytes:
    """The whole tree, as Bitcoin's original ComputeMerkleRoot has it."""
    while len(txids) > 1:
        if len(txids) % 2:
            txids = [*txids, txids[-1]]
        txids = [sha256d(txids[i] + txids[i + 1]) for i in range(0, len(txids), 2)]
    return txids[0]


@given(
    coinbase=st.binary(min_size=60, max_size=120),
    txids=st.lists(st.binary(min_size=32, max_size=32), max_size=20),
)
def test_branch_and_coinbase_give_the_root_of_the_whole_tree(coinbase: bytes, txids: list[bytes]) -> None:
    assert merkle_root(coinbase, merkle_branch(b"".join(txids))) == naive_root([sha256d(coinbase), *txids])


@pytest.mark.parametrize("count", range(21))
def test_the_branch_is_as_deep_as_the_tree(count: int) -> None:
    txids = [bytes([number]) * 32 for number in range(count)]
    branch = merkle_branch(b"".join(txids))
    assert len(branch) == count.bit_length()
    assert merkle_root(b"coinbase", branch) == naive_root([sha256d(b"coinbase"), *txids])


def test_the_root_of_a_real_block() -> None:
    # Block 170, the first with a payment: coinbase and Satoshi's 10 BTC to Hal Finney.
    coinbase = bytes.fromhex(
        "01000000010000000000000000000000000000000000000000000000000000000000000000ffffffff0704ffff001d0102"
        "ffffffff0100f2052a01000000434104d46c4968bde02899d2aa0963367c7a6ce34eec332b32e42e5f3407e052d64ac6"
        "25da6f0718e7b302140434bd725706957c092db53805b821a85b23a7ac61725bac00000000"
    )
    payment = bytes.fromhex("f4184fc596403b9d638783cf57adfe4c75c605f6356fbc91338530e9831e9e16")[::-1]
    root = bytes.fromhex("7dac2c5666815c17a3b36427de37bb9d2e2c5ccec3f8633eb91a4205cb4c10ff")[::-1]
    assert merkle_root(coinbase, merkle_branch(payment)) == root
