"""A journal on its way: written at an edge, published, and put in order at a hub, which asks for what is
missing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from pool.journal.frames import Place, frame_at
from pool.journal.log import JournalLog, writer_directories
from pool.journal.records import Batch, packed
from pool.sites.journal_reader import JournalReader
from pool.sites.nats import journal_stream, publisher, subjects
from pool.sites.nats.client import NatsAway
from pool.sites.nats.connection import Connection
from pool.sites.nats.journal_stream import JournalStream
from pool.sites.nats.publisher import Publisher
from pool.sites.nats.replies import Replies


class Want(msgspec.Struct, frozen=True):
    behind: int
    whole_file: bool = False


class Copy:
    """A hub's, of one journal: `have` in order, and what came twice or early counted."""

    def __init__(self, writer: str) -> None:
        self.writer, self.have = writer, 0
        self.bodies: list[bytes] = []
        self.twice = self.early = 0
        self.gap = self.away = False
        self._news = trio.Event()

    async def take(self, edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        assert (edge, epoch) == ("oslo", 7)
        offset = 0
        while (frame := frame_at(self.writer, frames, offset)) is not None:
            offset = frame.end
            number = frame.at.number
            self.twice += number <= self.have
            if number > self.have + 1:
                self.early += 1
                self.gap = True
            elif number == self.have + 1:
                self.have = number
                self.bodies.append(frame.body)
        self._news.set()
        self._news = trio.Event()

    async def until(self, number: int) -> None:
        while self.have < number:
            await self._news.wait()


class Sent:
    """An edge `oslo`, and a hub."""

    def __init__(self, home: Path, hub: Connection, edge: Connection, servers: int) -> None:
        self.log = JournalLog(writer_directories(home, 1)[0], "ab" * 16)
        self.log.begin(Place(), 5, 0)
        self.bodies: list[bytes] = []
        self.copy = Copy(self.log.writer)
        self.hub, self.edge = hub, edge
        self.replies = Replies(hub, subjects.inbox_of(subjects.HUB))
        self.stream = JournalStream(hub, self.replies, self.copy.take, servers=servers)
        self.asked = 0
        self._asked = trio.Event()
        self.publisher = Publisher(
            edge,
            "oslo",
            JournalReader(self.log.directory, lambda: self.log.at.number),
            epoch=lambda: 7,
            wanted=self._wanted,
            send=self._send,
            away=(ConnectionError,),
        )

    async def _send(self, frames: bytes) -> None:
        await self.copy.take("oslo", 7, frames, None)

    def append(self, count: int, size: int = 200) -> None:
        for _ in range(count):
            body = packed(Batch(moment_s=5, accepted=len(self.bodies), tallies=bytes(size)))
            self.bodies.append(body)
            self.log.append(body, 5, 0)

    async def until_all(self) -> None:
        """And each once, in order."""
        await self.copy.until(self.log.at.number)
        assert self.copy.bodies[1:] == self.bodies  # an opening is before them

    async def until_asked(self, times: int) -> None:
        while self.asked < times:
            await self._asked.wait()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.replies.run)
            nursery.start_soon(self.stream.follow, "oslo")
            nursery.start_soon(self.publisher.run)
            nursery.start_soon(self._ask_again)

    async def _wanted(self) -> Want:
        self.asked += 1
        self._asked.set()
        self._asked = trio.Event()
        if self.copy.away:
            raise ConnectionError("the hub is away")
        return Want(self.copy.have)

    async def _ask_again(self) -> None:
        """As a hub does that is told how far the journal is."""
        while True:
            await trio.sleep(0.1)
            if self.copy.gap or self.copy.have < self.publisher.state.number:
                self.copy.gap = False
                have = self.copy.have
                await trio.sleep(0.1)
                if have == self.copy.have:
                    self.publisher.send_again(Want(have))


@asynccontextmanager
async def sent(home: Path, hub: Connection, edge: Connection, *, servers: int = 1) -> AsyncIterator[Sent]:
    it = Sent(home, hub, edge, servers)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(it.run)
        yield it
        nursery.cancel_scope.cancel()
    it.log.close()


def quickly(patch: pytest.MonkeyPatch) -> None:
    """What waits for seconds in a pool."""
    for module, name, seconds in (
        (publisher, "POLL_S", 0.02),
        (publisher, "AGAIN_S", 0.05),
        (journal_stream, "AGAIN_S", 0.05),
        (journal_stream, "PULL_S", 0.5),
        (journal_stream, "PULL_LATE_S", 0.5),
        (journal_stream, "API_S", 1.0),
    ):
        patch.setattr(module, name, seconds)


async def api(replies: Replies, method: str) -> bytes:
    """JetStream's answer, when there is one."""
    while True:
        try:
            return (await replies.request(f"$JS.API.{method}", b"", within_s=5)).data
        except NatsAway:
            await trio.sleep(0.05)
