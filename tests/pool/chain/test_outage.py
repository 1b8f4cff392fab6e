"""Who mines our own work is let go after so long without a node, once, and taken back when one answers."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from pool.chain.node_set import NodeSet
from pool.chain.nodes import NodeConfig
from pool.chain.outage import CHECK_S, NO_NODE, Outage

OUTAGE_S = 30.0


class Told:
    """What was said, at what second; the nodes are gone from the beginning until the test says otherwise."""

    def __init__(self) -> None:
        node = NodeConfig(name="only", url="http://127.0.0.1:1", cookie_file=Path("none"))
        self.nodes = NodeSet([node], chain="regtest")
        self.outage = Outage(self.nodes, OUTAGE_S)
        self.said: list[tuple[str, float]] = []
        self._began_s = trio.current_time()

    def _say(self, what: str) -> None:
        self.said.append((what, trio.current_time() - self._began_s))

    async def run(self) -> None:
        await self.outage.run(let_go=self._say, readmit=lambda: self._say("back"))


@pytest.fixture
async def told(autojump_clock: MockClock, nursery: trio.Nursery) -> Told:
    told = Told()
    nursery.start_soon(told.run)
    return told


async def test_an_outage_below_the_bound_lets_nobody_go(autojump_clock: MockClock, told: Told) -> None:
    await trio.sleep(OUTAGE_S - CHECK_S / 2)
    told.nodes.outage_since_s = None
    await trio.sleep(10 * OUTAGE_S)
    assert (told.said, told.outage.since_s) == ([], None)


async def test_they_are_let_go_once_an_outage_and_taken_back_once(
    autojump_clock: MockClock, told: Told
) -> None:
    await trio.sleep(4 * OUTAGE_S + CHECK_S / 2)  # between two checks
    assert told.said == [(NO_NODE, OUTAGE_S)]
    assert told.outage.since_s is not None
    told.nodes.outage_since_s = None
    await trio.sleep(4 * OUTAGE_S)
    assert told.said[1:] == [("back", 4 * OUTAGE_S + CHECK_S)]
    assert told.outage.since_s is None
    told.nodes.outage_since_s = trio.current_time()
    await trio.sleep(4 * OUTAGE_S)
    assert [what for what, _ in told.said] == [NO_NODE, "back", NO_NODE]
