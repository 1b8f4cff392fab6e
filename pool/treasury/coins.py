"""Which coins a payout spends, and what it costs: integers in, integers out.

The anchor comes first. Others follow, the largest first, until payees, fee and a change of at least
CHANGE_SAT_MIN are covered: the fewest inputs, so the lowest fee. There is always change: it is the anchor
of the next batch.

Invariants: the same coins give the same choice; what was chosen covers what is paid exactly.
Must not know: nodes, batches, how a transaction is written.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from payouts.batches.psbt import Spend
from payouts.batches.transaction import TxOutput
from pool.treasury.chain_node import Coin
from pool.treasury.wallet import Shape

# A coin that is worth spending when fees are high: 68 vB of input cost less at up to 147 sat/vB. No change of
# a payout is smaller, and nothing smaller is spent: it is dust, whoever sent it.
CHANGE_SAT_MIN: Final = 10_000
# A transaction that nodes relay holds no more: 272 weight units each, of 400,000.
INPUTS_MAX: Final = 1_400
# As deep as a payout is final: a coin that a reorganisation takes away would take the payout with it.
CONFIRMATIONS_MIN: Final = 6
COINBASE_CONFIRMATIONS_MIN: Final = 100  # consensus: before that nobody may spend it
# What a replacement has to pay for its own relay (Bitcoin Core, incrementalrelayfee, at its largest so far).
RELAY_SAT_KVB: Final = 1_000


class TooFewCoins(Exception):
    """The wallet does not hold enough that can be spent; the text says how much is missing."""


class Choice(msgspec.Struct, frozen=True):
    """Inputs, the anchor first, and what they leave for the network and for change."""

    inputs: tuple[Spend, ...]
    fee_sat: int
    change: TxOutput


def spendable(coins: Sequence[Coin]) -> tuple[Coin, ...]:
    """Those deep enough in the chain, and worth it."""
    return tuple(
        coin
        for coin in coins
        if coin.amount_sat >= CHANGE_SAT_MIN
        and coin.confirmations >= (COINBASE_CONFIRMATIONS_MIN if coin.coinbase else CONFIRMATIONS_MIN)
    )


def oldest(coins: Sequence[Coin]) -> Coin:
    """The anchor of a first batch: the same for everybody who sees the same coins. Raises TooFewCoins."""
    if not coins:
        raise TooFewCoins("the wallet has no coins that can be spent yet")
    return min(coins, key=lambda coin: (coin.height, coin.txid, coin.vout))


def choose(
    must: Sequence[Spend],
    may: Sequence[Coin],
    payees: Sequence[TxOutput],
    change_script: bytes,
    shape: Shape,
    rate_sat_kvb: int,
    replaced_fee_sat: int | None = None,
) -> Choice:
    """What to spend besides `must`, of which the first is the anchor. Raises TooFewCoins.

    A replacement pays for its own relay on top of the fee that it replaces (BIP-125, rules 3 and 4).
    """
    inputs = list(must)
    taken = {(it.txid, it.vout) for it in must}
    rest = sorted(
        (coin for coin in may if (coin.txid, coin.vout) not in taken),
        key=lambda coin: (coin.amount_sat, coin.txid, coin.vout),
    )
    outputs = [*payees, TxOutput(CHANGE_SAT_MIN, change_script)]
    paid_sat = sum(payee.amount_sat for payee in payees)
    spent_sat = sum(it.amount_sat for it in inputs)
    while True:
        fee_sat = shape.fee_sat(len(inputs), outputs, rate_sat_kvb)
        if replaced_fee_sat is not None:
            relay_sat = shape.fee_sat(len(inputs), outputs, RELAY_SAT_KVB)
            fee_sat = max(fee_sat, replaced_fee_sat + relay_sat)
        change_sat = spent_sat - paid_sat - fee_sat
        if change_sat >= CHANGE_SAT_MIN:
            return Choice(tuple(inputs), fee_sat, TxOutput(change_sat, change_script))
        if not rest or len(inputs) == INPUTS_MAX:
            missing_sat = CHANGE_SAT_MIN - change_sat
            which = (
                f"the {INPUTS_MAX} largest of its coins: gather them into fewer"
                if rest
                else ("coins that can be spent")
            )
            raise TooFewCoins(
                f"{paid_sat} sat to payees, {fee_sat} sat to the network and {CHANGE_SAT_MIN} sat of change "
                f"need {missing_sat} sat more than the wallet has in {which}"
            )
        coin = rest.pop()
        spent_sat += coin.amount_sat
        inputs.append(Spend(coin.txid, coin.vout, coin.amount_sat, coin.script))
