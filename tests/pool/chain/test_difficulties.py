"""What our own nodes say to the difficulty of a height, and until when: one question for two weeks of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pool.chain.difficulties import FASTEST_S, FRESH_S, SETTLED_BLOCKS, WANTED_MAX, Offered
from pool.chain.node_set import NodeSet
from pool.chain.price_history import PriceHistory
from pool.chain.rpc import NodeError
from tests.fakes.bitcoinds import LongChain, refuses_connections

NOW_S = 1_700_000_000
FIRST, NEXT = 838_656, 840_672  # of periods
BITS, HARDER, FORKED = 0x17034219, 0x17031ABE, 0x17031A00
HALVING = 840_000


class Clock:
    now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


class Asked:
    """A history of nodes that a test asks by itself."""

    def __init__(self, nodes: NodeSet) -> None:
        self.clock = Clock()
        self.history = PriceHistory(nodes, wall_clock=self.clock, clock=self.clock)

    async def of(self, height: int, nbits: int) -> Offered | None:
        """As who wants to know does it: he comes again when it was asked for."""
        for _ in range(3):
            found = self.history.difficulties.of(height, nbits)
            if found is not None:
                return found
            await self.history.ask()
        return self.history.difficulties.of(height, nbits)

    async def takes(self, height: int, nbits: int) -> bool | None:
        found = await self.of(height, nbits)
        return None if found is None else found.nbits is None or nbits in found.nbits


@asynccontextmanager
async def asking(*fakes: LongChain, chain: str = "main") -> AsyncIterator[Asked]:
    transports = {fake.name: fake for fake in fakes}
    nodes = NodeSet(
        [fake.config for fake in fakes], chain=chain, transport=lambda config: transports[config.name]
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(nodes.run)
        await nodes.chosen()
        await trio.sleep(0.5)
        for fake in fakes:
            fake.calls.clear()
        yield Asked(nodes)
        nursery.cancel_scope.cancel()


def long_chain(height: int = 840_300, **changes: object) -> LongChain:
    return LongChain(height=height, tip_at_s=NOW_S, usual=BITS, **changes)  # type: ignore[arg-type]


async def test_all_heights_of_a_period_are_one_question(autojump_clock: trio.testing.MockClock) -> None:
    fake = long_chain()
    async with asking(fake) as asked:
        assert asked.history.difficulties.of(840_200, BITS) is None, "nobody waits for a node"
        assert await asked.takes(840_200, BITS)
        count = fake.methods().count("getblockheader")
        for height in range(FIRST, FIRST + 2016, 97):
            assert await asked.takes(height, BITS) in (True, None)
        for height in range(HALVING, NEXT, 97):
            assert await asked.takes(height, BITS)
        assert fake.methods().count("getblockheader") - count <= 1, "when the subsidy of before was over"


async def test_bits_of_another_difficulty_are_not_those_of_the_height(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with asking(long_chain(bits={FIRST - 2016: 0x1703FFFF})) as asked:
        assert not await asked.takes(840_200, 0x1D00FFFF)
        assert not await asked.takes(840_200, 0x1703FFFF), "those of two weeks before"
        assert await asked.takes(FIRST - 1, 0x1703FFFF)


async def test_work_is_offered_until_the_next_difficulty_or_the_next_halving(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = long_chain()
    async with asking(fake) as asked:
        before, now = await asked.of(HALVING - 1, BITS), await asked.of(HALVING, BITS)
        assert before is not None
        assert now is not None
        assert (before.over, before.until_s) == (True, fake.time_at(HALVING - 1))
        assert (now.over, now.until_s) == (False, NOW_S + (NEXT - 1 - 840_300) * FASTEST_S)
        fake.grow_to(NEXT - 1)
        asked.clock.now_s += FRESH_S
        assert await asked.of(HALVING, BITS) == now, "as it was known last"
        await asked.history.ask()
        over = await asked.of(HALVING, BITS)
        assert over is not None
        assert (over.over, over.until_s) == (True, fake.time_at(NEXT - 1))


async def test_the_next_period_is_known_by_the_template_before_it_has_a_block(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = long_chain(NEXT - 2, bits={NEXT: HARDER})
    async with asking(fake) as asked:
        assert await asked.takes(NEXT, HARDER) is None, "a node that is behind says nothing of it"
        fake.grow_to(NEXT - 1)
        assert await asked.takes(NEXT, HARDER)
        assert await asked.takes(NEXT, BITS) is None, "another one may come yet"
        fake.grow_to(NEXT + SETTLED_BLOCKS - 2)
        assert await asked.takes(NEXT, BITS) is None
        fake.grow_to(NEXT + SETTLED_BLOCKS - 1)
        assert await asked.takes(NEXT, BITS) is False


async def test_a_node_that_is_an_hour_behind_says_what_it_knows_of_the_period(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with asking(long_chain(840_294)) as asked:
        assert await asked.takes(840_301, BITS)


async def test_stale_blocks_that_a_node_has_are_as_good(autojump_clock: trio.testing.MockClock) -> None:
    """A site was on a fork of two blocks over the end of a period: its work had the bits of that one."""
    fake = long_chain(NEXT + 20, bits={NEXT: HARDER})
    async with asking(fake) as asked:
        assert await asked.takes(NEXT, HARDER)
        assert await asked.takes(NEXT, FORKED) is False
        fake.forks[NEXT] = FORKED  # `submitheader`
        assert await asked.takes(NEXT, FORKED), "asked once more"
        fake.tells_of_forks = False
        assert await asked.takes(FIRST, BITS)


async def test_a_fork_in_the_middle_of_a_period_is_nothing_to_ask_about(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with asking(long_chain()) as asked:
        assert await asked.takes(840_302, BITS)


async def test_each_of_our_nodes_has_a_word(autojump_clock: trio.testing.MockClock) -> None:
    """One is on the other side of a fork."""
    first = long_chain(NEXT + 1, bits={NEXT: HARDER})
    second = LongChain("second", height=NEXT + 1, tip_at_s=NOW_S, usual=BITS, bits={NEXT: FORKED})
    async with asking(first, second) as asked:
        assert await asked.takes(NEXT + 1, HARDER)
        assert await asked.takes(NEXT + 1, FORKED)


async def test_nodes_that_are_away_take_nothing_away(autojump_clock: trio.testing.MockClock) -> None:
    fake = long_chain()
    async with asking(fake) as asked:
        known = await asked.of(840_200, BITS)
        fake.fault = refuses_connections
        asked.clock.now_s += 86_400
        assert await asked.of(840_300, BITS) == known
        with pytest.raises(NodeError):
            await asked.of(FIRST - 1, BITS)


async def test_on_a_testnet_an_easy_block_may_have_come_late(autojump_clock: trio.testing.MockClock) -> None:
    async with asking(long_chain(chain="testnet4"), chain="testnet4") as asked:
        assert await asked.takes(840_200, 0x1D00FFFF)
        assert await asked.takes(840_200, BITS)
        assert not await asked.takes(840_200, 0x1700FFFF)


async def test_on_regtest_all_bits_are_as_good_and_a_halving_is_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = LongChain(chain="regtest", height=300, tip_at_s=NOW_S, usual=0x207FFFFF)
    async with asking(fake, chain="regtest") as asked:
        offered = await asked.of(149, 0x1703FFFF)
        assert offered == Offered(nbits=None, over=True, until_s=fake.time_at(149))


async def test_who_asks_about_ever_more_heights_has_a_bounded_number_asked_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    fake = long_chain()
    async with asking(fake) as asked:
        for number in range(2 * WANTED_MAX):
            asked.history.difficulties.of(number * 2016, number)
        await asked.history.ask()
        assert fake.methods().count("getblockhash") == WANTED_MAX
