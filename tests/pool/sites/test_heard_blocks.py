"""What a block takes at least is read off our own node, whatever that says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import structlog
import trio
import trio.testing

from pool.chain.node_set import NodeSet
from pool.sites.heard_blocks import EASIER_MAX, LOOK_S, HeardBlocks
from pool.sites.nats.connection import Connection
from stratum.difficulty import target_from_nbits
from tests.fakes.bitcoinds import LongChain

BITS = 0x17034219


class LineToNobody:
    """Nothing comes, and nothing is taken."""

    @asynccontextmanager
    async def subscribed(self, subject: str, **_: object) -> AsyncIterator["LineToNobody"]:
        yield self

    async def next(self) -> None:
        await trio.sleep_forever()


class NodeWithHeadersOfNoWork(LongChain):
    lies = True

    async def _getblockheader(self, block_hash: str, verbose: bool = True) -> Any:
        return bytes(80).hex() if self.lies else await super()._getblockheader(block_hash, verbose)


async def test_a_header_with_bits_that_no_block_has_says_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """And whoever asked is asked again: it ended the hub, or the site."""
    fake = NodeWithHeadersOfNoWork(height=840_300, tip_at_s=1_700_000_000, usual=BITS)
    nodes = NodeSet([fake.config], chain="main", transport=lambda config: fake)
    await nursery.start(nodes.run)
    heard = HeardBlocks(cast(Connection, LineToNobody()), "hub", nodes)
    with structlog.testing.capture_logs() as logs:
        await nursery.start(heard.run)
        await trio.sleep(LOOK_S / 2)
    assert "easiest_target_not_known" in [it["event"] for it in logs]
    assert heard.easiest_target is None
    fake.lies = False
    await trio.sleep(LOOK_S)
    assert heard.easiest_target == EASIER_MAX * target_from_nbits(BITS)
