"""A found block is told to all by the hub, and reaches nobody's nodes but with proof of work."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from pool.chain.templates import sha256d
from pool.sites.nats import blocks
from pool.sites.nats.blocks import BLOCK_BYTES_MAX, BURST, WAITING_MAX, Blocks
from pool.sites.nats.connection import Connection
from stratum.difficulty import target_from_nbits
from tests.fixtures.nats_servers import NatsServer
from tests.stages.nats_line import connected

BITS = 0x207FFFFF  # half of all hashes
EASIEST = target_from_nbits(BITS)


def block(number: int, *, bits: int = BITS, body: bytes = b"transactions", good: bool = True) -> bytes:
    """Of that number, the first whose header meets its bits, or does not."""
    for nonce in range(1 << 20):
        header = number.to_bytes(72, "little") + bits.to_bytes(4, "little") + nonce.to_bytes(4, "little")
        if (int.from_bytes(sha256d(header), "little") <= EASIEST) == good:
            return header + body
    raise AssertionError


class Nodes:
    """What they were given."""

    def __init__(self) -> None:
        self.given: list[bytes] = []
        self.silent = False
        self.takes = True  # as one that it had not
        self._news = trio.Event()

    async def submit(self, raw: bytes, answered: Callable[[bool], None]) -> None:
        self.given.append(raw)
        self._news.set()
        self._news = trio.Event()
        if self.silent:
            await trio.sleep_forever()
        answered(self.takes)

    async def until(self, raw: bytes) -> None:
        while raw not in self.given:
            await self._news.wait()


@pytest.fixture(autouse=True)
def _said_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "REPEATED_S", (0.0, 0.0, 0.0))


@asynccontextmanager
async def telling(
    *names: tuple[Connection, str], easiest: int | None = EASIEST
) -> AsyncIterator[list[tuple[Blocks, Nodes]]]:
    async with trio.open_nursery() as nursery:
        found = []
        for connection, name in names:
            nodes = Nodes()
            it = Blocks(connection, name, submit=nodes.submit, easiest_target=lambda: easiest)
            await nursery.start(it.run)
            if name == "hub":
                for edge in ("oslo", "bergen"):
                    await nursery.start(it.hear, edge)
            found.append((it, nodes))
        yield found
        nursery.cancel_scope.cancel()


async def test_everybody_gives_it_to_his_nodes_once(nats_server: NatsServer) -> None:
    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        telling((hub, "hub"), (oslo, "oslo"), (bergen, "bergen")) as (of_hub, of_oslo, of_bergen),
    ):
        large = block(1, body=bytes(BLOCK_BYTES_MAX - 80))
        of_oslo[0].tell(large)
        for _, nodes in (of_hub, of_bergen):
            await nodes.until(large)
        of_bergen[0].tell(block(3))
        for _, nodes in (of_hub, of_oslo):
            await nodes.until(block(3))
        await hub.flushed()
        assert of_hub[1].given.count(large) == 1
        assert large not in of_oslo[1].given


async def test_what_is_not_new_to_the_hubs_nodes_no_other_site_hears(nats_server: NatsServer) -> None:
    """A block of the chain has a header that is paid for, whatever is behind it: megabytes of it, from who
    has taken over a site, would take the lines of all others."""
    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        telling((hub, "hub"), (bergen, "bergen")) as ((_, of_hub), (_, of_bergen)),
    ):
        of_hub.takes = False
        await oslo.publish("angara.blocks.oslo", block(1))
        await of_hub.until(block(1))
        of_hub.takes = True
        await oslo.publish("angara.blocks.oslo", block(2))
        await of_bergen.until(block(2))
        assert of_bergen.given == [block(2)]


async def test_what_is_no_proof_of_work_reaches_no_node(nats_server: NatsServer) -> None:
    worthless = [
        b"",
        bytes(80),
        bytes(200),
        block(1, good=False),
        block(1, body=bytes(BLOCK_BYTES_MAX)),
        block(1, bits=0x20FFFFFF),  # no number
        block(1, bits=0xFF7FFFFF),  # more than 256 bits
        block(1, bits=0x1D00FFFF),  # it claims more work than it has
    ]
    async with connected(nats_server, "hub", "oslo") as (hub, edge), telling((hub, "hub")) as ((_, nodes),):
        for it in worthless:
            await edge.publish("angara.blocks.oslo", it)
        await edge.publish("angara.blocks.oslo", block(2))
        await nodes.until(block(2))
        assert nodes.given == [block(2)]


async def test_bits_that_are_easier_than_the_chains_prove_nothing(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge):
        for easiest in (EASIEST >> 20, None):
            async with telling((hub, "hub"), easiest=easiest) as ((_, nodes),):
                await edge.publish("angara.blocks.oslo", block(1))
                await edge.flushed()
                await hub.flushed()
                assert nodes.given == []


async def test_who_says_a_heard_block_again_with_other_transactions_keeps_nobody_out(
    nats_server: NatsServer,
) -> None:
    """A captured edge hears a header that is paid for with another's work, and may be sooner with it."""
    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        telling((hub, "hub")) as ((_, nodes),),
    ):
        forged = [block(1, body=b"forged %d" % it) for it in range(10)]
        for it in forged:
            await bergen.publish("angara.blocks.bergen", it)
        await nodes.until(forged[0])
        await oslo.publish("angara.blocks.oslo", block(1))
        await nodes.until(block(1))
        assert nodes.given == [forged[0], block(1)], "one try of each"


async def test_a_sender_that_says_many_is_not_heard_and_others_are(nats_server: NatsServer) -> None:
    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        telling((hub, "hub")) as ((_, nodes),),
    ):
        for number in range(int(BURST) + 5):
            await bergen.publish("angara.blocks.bergen", block(number))
        await bergen.flushed()
        await oslo.publish("angara.blocks.oslo", block(1_000))
        await nodes.until(block(1_000))
        assert len(nodes.given) <= BURST + 2


async def test_nodes_that_are_silent_have_a_few_blocks_to_look_at(nats_server: NatsServer) -> None:
    async with connected(nats_server, "hub", "oslo") as (hub, edge), telling((hub, "hub")) as ((_, nodes),):
        nodes.silent = True
        for number in range(WAITING_MAX + 5):
            await edge.publish("angara.blocks.oslo", block(number))
        await nodes.until(block(WAITING_MAX - 1))
        await edge.flushed()
        assert len(nodes.given) == WAITING_MAX
