"""What blocks paid, held against a list that somebody else's node gave."""

from typing import Any

import pytest

from payouts.rates import FEE_BASIS_BLOCKS, BlockFees
from pool.chain.fee_watch import recent_fees
from pool.chain.nodes import Node
from pool.chain.paid_fees import PaidFees, heights_of, misshapen
from pool.chain.rpc import NodeSpokeNonsense
from tests.fakes.bitcoinds import LongChain

NOW_S = 1_700_000_000
TIP = 840_300


def long_chain(height: int = TIP) -> LongChain:
    fake = LongChain(height=height, tip_at_s=NOW_S, usual=0x17034219)
    fake.fees_sat = 6_000_000
    return fake


def node_of(fake: LongChain) -> Node:
    return Node(fake.config, transport=fake)


def listed(top: int, fees_sat: int = 6_000_000) -> tuple[BlockFees, ...]:
    return tuple(BlockFees(height=it, hash=f"{it:064x}", fees_sat=fees_sat) for it in heights_of(top))


LISTS = {
    "as it is": (listed(TIP), ""),
    "blocks of one's own choice": (listed(TIP)[::2], "it is not of the last 144 blocks before one"),
    "fewer of them": (listed(TIP)[10:], "it is not of the last 144 blocks before one"),
    "none": ((), "it is not of the last 144 blocks before one"),
    "less than nothing": (listed(TIP, -1), "block fees of -1 satoshi are negative"),
}


@pytest.mark.parametrize("which", LISTS)
def test_a_list_is_of_recent_blocks_one_after_the_other(which: str) -> None:
    fees, words = LISTS[which]
    assert misshapen(fees).startswith(words) if words else misshapen(fees) == ""


@pytest.mark.parametrize(("fees_sat", "alike"), [(6_000_000, True), (6_200_000, False), (5_000_000, False)])
async def test_what_it_says_was_paid_is_held_against_what_our_node_has(fees_sat: int, alike: bool) -> None:
    paid = await PaidFees().list_of(node_of(long_chain()), TIP)
    assert paid is not None
    assert paid.is_like(fees_sat) is alike


async def test_a_block_that_our_node_has_not_yet_is_waited_for() -> None:
    assert await PaidFees().list_of(node_of(long_chain()), TIP + 1) is None


@pytest.mark.parametrize("height", [0, 1, 143, 144, 145, TIP])
async def test_it_is_of_the_blocks_that_a_pool_asks_its_own_node_for(height: int) -> None:
    fees = await recent_fees(node_of(long_chain(height)))
    assert sorted(it.height for it in fees) == list(heights_of(height))


async def test_lists_an_hour_apart_are_a_few_questions_more() -> None:
    fake, paid = long_chain(), PaidFees()
    for top in range(TIP - 60, TIP - 20, 6):
        assert paid.up_to(top) is None
        await paid.ask([node_of(fake)])
        known = paid.up_to(top)
        assert known is not None
        assert (known.fees_sat, known.at_s, known.settled) == (6_000_000, fake.time_at(top), True)
    assert fake.methods().count("getblockstats") == FEE_BASIS_BLOCKS + 36


class NodeWithOneBlockForAllHeights(LongChain):
    lies = True

    async def _getblockstats(self, height: int, stats: list[str]) -> dict[str, Any]:
        told = await super()._getblockstats(height, stats)
        return told | {"blockhash": f"{1:064x}"} if self.lies else told


async def test_a_list_that_has_a_block_twice_is_no_answer_and_nothing_of_it_is_kept() -> None:
    """Neither to who prices by it nor to who holds others against it: it is no basis, and ended both."""
    fake, paid = NodeWithOneBlockForAllHeights(height=TIP, tip_at_s=NOW_S, usual=0x17034219), PaidFees()
    with pytest.raises(NodeSpokeNonsense, match="the same block for two heights"):
        await recent_fees(node_of(fake))
    with pytest.raises(NodeSpokeNonsense, match="the same block for two heights"):
        await paid.list_of(node_of(fake), TIP)
    fake.lies = False
    assert await paid.list_of(node_of(fake), TIP) is not None


async def test_what_a_node_has_thrown_away_another_one_may_have() -> None:
    pruned, other, paid = long_chain(), long_chain(), PaidFees()
    pruned.forget_blocks_before = TIP - 100
    assert paid.up_to(TIP - 20) is None
    await paid.ask([node_of(pruned)])
    assert paid.up_to(TIP - 20) is None
    await paid.ask([node_of(pruned), node_of(other)])
    assert paid.up_to(TIP - 20) is not None
