"""What a block takes at least is read off our own node, whatever that says."""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
import structlog
import trio
import trio.testing

from pool.chain.node_set import NodeSet
from pool.chain.templates import sha256d
from pool.sites.heard_blocks import EASIER_MAX, LOOK_S, HeardBlocks
from pool.sites.nats.blocks import REPEATED_S, SUBMIT_S
from pool.sites.nats.client import Message
from pool.sites.nats.connection import Connection
from stratum.difficulty import target_from_nbits
from tests.fakes.bitcoinds import FakeBitcoind, LongChain

BITS = 0x17034219


class LineToNobody:
    """Nothing comes, and nothing is taken."""

    @asynccontextmanager
    async def subscribed(self, subject: str, **_: object) -> AsyncIterator["LineToNobody"]:
        yield self

    async def next(self) -> Message:
        return await trio.sleep_forever()


class LineToOneEdge(LineToNobody):
    """It tells one block."""

    def __init__(self, block: bytes) -> None:
        self._block: bytes | None = block
        self.published: list[tuple[str, bytes]] = []

    async def next(self) -> Message:
        block, self._block = self._block, None
        if block is None:
            await trio.sleep_forever()
        assert block is not None
        return Message("angara.blocks.oslo", block)

    async def connected(self) -> int:
        return 1

    async def publish(self, subject: str, data: bytes) -> None:
        self.published.append((subject, data))


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


def easy_block() -> bytes:
    """Whose header meets the easiest bits of a regtest."""
    for nonce in range(1 << 20):
        header = bytes(72) + struct.pack("<II", 0x207FFFFF, nonce)
        if sha256d(header)[31] < 0x7F:
            return header + b"transactions"
    raise AssertionError


@pytest.mark.parametrize("other", ["is new", "is gone", "hangs"])
@pytest.mark.parametrize("both", [True, False])
async def test_a_hub_tells_what_is_new_to_a_node_whatever_its_other_node_does(
    both: bool, other: str, autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """One that was gone had all other sites hear of it 21 s later, and one that hung never. Where no node
    answers they are told in the end: nobody knows."""

    async def fault(request: httpx.Request) -> httpx.Response:
        if other == "hangs":
            await trio.sleep_forever()
        raise httpx.ConnectError("refused")

    fakes = [FakeBitcoind(), FakeBitcoind("second")]
    by_name = {it.config.name: it for it in fakes}
    nodes = NodeSet([it.config for it in fakes], chain="regtest", transport=lambda it: by_name[it.name])
    await nursery.start(nodes.run)
    block = easy_block()
    line = LineToOneEdge(block)
    heard = HeardBlocks(cast(Connection, line), "hub", nodes)
    await nursery.start(heard.run)
    for fake in fakes if both else fakes[1:]:
        fake.fault = None if other == "is new" else fault
    nursery.start_soon(heard.hear, "oslo")
    told = [("angara.blocks.hub", block)]
    await trio.sleep(1)
    assert line.published == ([] if both and other != "is new" else told)
    await trio.sleep(SUBMIT_S + sum(REPEATED_S))
    assert line.published == len(REPEATED_S) * told
