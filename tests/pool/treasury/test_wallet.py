"""The watch-only wallet and its coins: which descriptors it takes, what it makes, which coins it chooses."""

import itertools

import msgspec
import pytest

from payouts.batches.psbt import PSBT_BYTES_MAX, Spend, decode_psbt
from payouts.batches.transaction import TX_WEIGHT_MAX, Tx, TxInput, TxOutput, decode_transaction
from pool.treasury.chain_node import Coin
from pool.treasury.coins import (
    CHANGE_SAT_MIN,
    COINBASE_CONFIRMATIONS_MIN,
    CONFIRMATIONS_MIN,
    INPUTS_MAX,
    Choice,
    TooFewCoins,
    choose,
    oldest,
    spendable,
)
from pool.treasury.settings import PayoutSettings
from pool.treasury.wallet import BadWallet, PayoutWallet, Shape, finalise
from tests.stages.payouts import ADDRESSES, Signer, private_descriptors

SIGNER = Signer(*private_descriptors("wpkh", 0))
RECEIVE, CHANGE = SIGNER.public()
KEY = RECEIVE.split("(")[1].split("/0/*")[0]
P2WPKH, P2TR = b"\x00\x14" + bytes(20), b"\x51\x20" + bytes(32)
SHAPE = Shape(107)


# Settings and descriptors


def wallet(descriptor: str = RECEIVE, change: str | None = CHANGE, network: str = "regtest") -> PayoutWallet:
    settings = PayoutSettings(descriptor=descriptor, change_descriptor=change, addresses=ADDRESSES)
    return PayoutWallet(settings, network)


@pytest.mark.parametrize(
    ("descriptor", "change", "network", "words"),
    [
        ("wpkh(", CHANGE, "regtest", "payouts.descriptor: cannot be read"),
        (RECEIVE, "nonsense", "regtest", "payouts.change_descriptor: cannot be read"),
        (RECEIVE, None, "regtest", "change_descriptor: missing"),
        (RECEIVE, RECEIVE, "regtest", "the same"),
        (RECEIVE, CHANGE, "main", "payouts.descriptor: cannot be read"),
        (f"wpkh({KEY}/0/1)", CHANGE, "regtest", "wildcard"),
        (f"sh(wpkh({KEY}/0/*))", CHANGE, "regtest", "native segwit only"),
        (f"pkh({KEY}/0/*)", CHANGE, "regtest", "native segwit only"),
        (RECEIVE, f"sh(wsh(pk({KEY}/1/*)))", "regtest", "change_descriptor: native segwit only"),
        (f"wpkh({KEY}/<0;1>/*)", CHANGE, "regtest", "give no change_descriptor"),
        (f"wpkh({KEY}/<0;1;2>/*)", None, "regtest", "two paths"),
    ],
)
def test_a_descriptor_that_cannot_be_used_says_why(
    descriptor: str, change: str | None, network: str, words: str
) -> None:
    with pytest.raises(BadWallet, match=words):
        wallet(descriptor, change, network)


def test_a_private_key_is_refused_and_not_shown() -> None:
    private, _ = private_descriptors("wpkh", 0)
    for descriptor, change in ((private, CHANGE), (RECEIVE, private), (private.replace(")", ""), CHANGE)):
        with pytest.raises(BadWallet) as refused:
            wallet(descriptor, change)
        assert "prv" not in str(refused.value)
    with pytest.raises(BadWallet, match="must never be on this host"):
        wallet(private, CHANGE)


def test_one_descriptor_with_two_paths_is_the_same_as_two() -> None:
    both = wallet(f"wpkh({KEY}/<0;1>/*)", None)
    assert both.scan_objects == wallet().scan_objects
    assert both.change_script(3) == wallet().change_script(3) == SIGNER.script(3, change=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"fee_rate_sat_vb": 0},
        {"fee_rate_sat_vb": 10_001},
        {"minimum_sat": -1},
        {"addresses": 0},
        {"descriptor": ""},
        {"change_descriptor": "x" * 5_000},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object]) -> None:
    table = {"descriptor": RECEIVE, "change_descriptor": CHANGE, **changes}
    with pytest.raises(msgspec.ValidationError, match=next(iter(changes))):
        msgspec.convert(table, PayoutSettings)


def test_whose_an_output_is() -> None:
    it = wallet()
    last = ADDRESSES - 1
    assert it.is_own(SIGNER.script(0))
    assert it.is_own(SIGNER.script(last))
    assert it.is_own(SIGNER.script(last, change=True))
    assert not it.is_own(SIGNER.script(ADDRESSES))  # the scan would not find it either
    assert not it.is_own(P2WPKH)
    assert it.is_change(SIGNER.script(2, change=True))
    assert not it.is_change(SIGNER.script(2))


def test_a_batch_has_a_change_address_of_its_own() -> None:
    it = wallet()
    scripts = [it.change_script(batch) for batch in range(1, ADDRESSES + 1)]
    assert len(set(scripts)) == ADDRESSES
    assert all(it.is_change(script) for script in scripts)


# Building


def source(sat: int, index: int = 0) -> Tx:
    return Tx(2, (TxInput("11" * 32, sat % 2**32, b"", 0),), (TxOutput(sat, SIGNER.script(index)),), 0)


def spend(tx: Tx) -> Spend:
    return Spend(tx.txid, 0, tx.outputs[0].amount_sat, tx.outputs[0].script)


def test_the_largest_batch_fits_into_what_nodes_relay() -> None:
    """2,000 taproot payees and 190 coins; a few more are refused, in words."""
    it = wallet()
    payees = [TxOutput(1_000, P2TR)] * 2_000
    coins = [source(100_000 + number) for number in range(210)]
    for many, fits in ((190, True), (210, False)):
        some = coins[:many]
        left = sum(tx.outputs[0].amount_sat for tx in some) - 2_000_000 - 500_000
        outputs = [*payees, TxOutput(left, it.change_script(1))]
        spends, sources = [spend(tx) for tx in some], {tx.txid: tx for tx in some}
        if not fits:
            with pytest.raises(BadWallet, match="gather the wallet's coins"):
                it.build(spends, sources, outputs)
            continue
        psbt = it.build(spends, sources, outputs)
        assert len(psbt) < PSBT_BYTES_MAX
        assert decode_psbt(psbt).tx.outputs == tuple(outputs)
        tx = decode_transaction(finalise(psbt, SIGNER.sign(psbt)))
        assert tx.weight <= it.shape.weight(many, outputs) <= TX_WEIGHT_MAX


@pytest.mark.parametrize("kind", ["wpkh", "tr"])
def test_a_transaction_weighs_no_more_than_was_said_and_pays_the_rate(kind: str) -> None:
    signer = Signer(*private_descriptors(kind, 0))
    receive, change = signer.public()
    it = wallet(receive, change)
    some = [
        Tx(2, (TxInput("22" * 32, n, b"", 0),), (TxOutput(90_000, signer.script(n)),), 0) for n in range(5)
    ]
    payees = [TxOutput(50_000, P2WPKH), TxOutput(60_000, P2TR)]
    change_output = TxOutput(1, it.change_script(1))
    fee_sat = it.shape.fee_sat(5, [*payees, change_output], 7_000)
    left = TxOutput(450_000 - 110_000 - fee_sat, it.change_script(1))
    psbt = it.build([spend(tx) for tx in some], {tx.txid: tx for tx in some}, [*payees, left])
    weight = decode_transaction(finalise(psbt, signer.sign(psbt))).weight
    assert weight <= it.shape.weight(5, [*payees, left])
    assert 7 <= fee_sat * 4 / weight < 7.2


# Choosing


def coin(number: int, sat: int, confirmations: int = 1_000, *, coinbase: bool = False) -> Coin:
    return Coin(
        txid=f"{number:064x}",
        vout=0,
        amount_sat=sat,
        script=SIGNER.script(0),
        height=2_000 - confirmations,
        confirmations=confirmations,
        coinbase=coinbase,
    )


def chosen(must: list[Coin], may: list[Coin], pay_sat: int, rate: int = 5_000, **more: int) -> Choice:
    anchors = [Spend(it.txid, it.vout, it.amount_sat, it.script) for it in must]
    payees = [TxOutput(pay_sat, P2WPKH)]
    return choose(anchors, may, payees, P2WPKH, SHAPE, rate, **more)


def test_deep_coins_are_spendable_and_mature_ones() -> None:
    least = CHANGE_SAT_MIN
    coins = [
        coin(1, least, CONFIRMATIONS_MIN),
        coin(2, least, CONFIRMATIONS_MIN - 1),
        coin(3, least, COINBASE_CONFIRMATIONS_MIN, coinbase=True),
        coin(4, least, COINBASE_CONFIRMATIONS_MIN - 1, coinbase=True),
        coin(5, least - 1),  # dust
    ]
    assert [int(it.txid, 16) for it in spendable(coins)] == [1, 3]


def test_the_first_anchor_is_the_oldest_coin_whatever_else_arrives() -> None:
    coins = [coin(3, 5, 50), coin(2, 9, 70), coin(1, 7, 70)]
    for order in itertools.permutations(coins):
        assert oldest(order) == coins[2]
    with pytest.raises(TooFewCoins, match="no coins"):
        oldest([])


def test_the_anchor_comes_first_and_the_largest_follow() -> None:
    anchor, coins = coin(1, 20_000), [coin(2, 50_000), coin(3, 900_000), coin(4, 70_000)]
    choice = chosen([anchor], [*coins, anchor], 940_000)
    assert [it.amount_sat for it in choice.inputs] == [20_000, 900_000, 70_000]
    paid = 940_000 + choice.fee_sat + choice.change.amount_sat
    assert paid == sum(it.amount_sat for it in choice.inputs)
    assert choice.change.amount_sat >= CHANGE_SAT_MIN


def test_the_anchor_alone_where_it_is_enough() -> None:
    assert len(chosen([coin(1, 100_000)], [coin(2, 10**9)], 50_000).inputs) == 1


def test_no_more_coins_are_chosen_than_fit_into_a_transaction() -> None:
    """However many coins somebody sent us: what was chosen is a list of bounded length, in bounded time."""
    one = coin(1, CHANGE_SAT_MIN)
    many = [msgspec.structs.replace(one, vout=number) for number in range(1, 3_000)]
    with pytest.raises(TooFewCoins, match=f"the {INPUTS_MAX} largest of its coins: gather them"):
        chosen([one], many, 10**9, 1_000)
    enough = chosen([one], many, 9_000_000, 1_000)
    assert len(enough.inputs) < INPUTS_MAX


def test_there_is_always_change() -> None:
    fee_sat = chosen([coin(1, 100_000)], [], 50_000).fee_sat
    exact = 100_000 - fee_sat - CHANGE_SAT_MIN
    assert chosen([coin(1, 100_000)], [], exact).change.amount_sat == CHANGE_SAT_MIN
    with pytest.raises(TooFewCoins, match="need 1 sat more"):
        chosen([coin(1, 100_000)], [], exact + 1)


def test_a_replacement_pays_for_itself_and_for_what_it_replaces() -> None:
    first = chosen([coin(1, 10**6)], [], 50_000, 5_000)
    for rate in (1_000, 5_000, 5_100):
        again = chosen([coin(1, 10**6)], [], 50_000, rate, replaced_fee_sat=first.fee_sat)
        assert again.fee_sat == first.fee_sat + chosen([coin(1, 10**6)], [], 50_000, 1_000).fee_sat
    ten_times = chosen([coin(1, 10**6)], [], 50_000, 50_000, replaced_fee_sat=first.fee_sat)
    assert ten_times.fee_sat == chosen([coin(1, 10**6)], [], 50_000, 50_000).fee_sat
