"""NATS servers, and an edge behind a line that takes its time: no sockets, on the clock of the test.

Must not know: what is said.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase

import trio

from pool.sites.nats.client import ConnectionState, Message

MEGABIT_BYTES_S = 125_000
MESSAGES_MAX = 1_000


class Servers:
    """Whatever is published is heard by who listens to its subject."""

    def __init__(self) -> None:
        self._listen: list[tuple[str, trio.MemorySendChannel[Message]]] = []

    @asynccontextmanager
    async def listening(self, subject: str) -> AsyncIterator[trio.MemoryReceiveChannel[Message]]:
        out, messages = trio.open_memory_channel[Message](MESSAGES_MAX)
        self._listen.append((subject, out))
        yield messages
        self._listen.remove((subject, out))

    def publish(self, message: Message) -> None:
        for subject, out in self._listen:
            if fnmatchcase(message.subject, subject) and message.subject.count(".") == subject.count("."):
                out.send_nowait(message)


class Subscribed:
    def __init__(self, messages: trio.MemoryReceiveChannel[Message]) -> None:
        self._messages = messages

    async def next(self) -> Message:
        return await self._messages.receive()


class SlowConnection:
    """As pool.sites.nats.connection.Connection has it: what is published is on its way for as long as a line
    of `bytes_s` takes, one after the other; None: for no time. What comes is there at once."""

    def __init__(self, servers: Servers, bytes_s: int | None = None) -> None:
        self.state = ConnectionState(connected=True, connections=1)
        self.sent_bytes = 0
        self._servers, self._bytes_s, self._turn = servers, bytes_s, trio.StrictFIFOLock()

    async def changed(self) -> ConnectionState:
        await trio.sleep_forever()
        raise AssertionError

    async def publish(self, subject: str, data: bytes, *, reply: str = "") -> None:
        self.sent_bytes += len(data)
        async with self._turn:
            await trio.sleep(0 if self._bytes_s is None else len(data) / self._bytes_s)
        self._servers.publish(Message(subject, data, reply))

    @asynccontextmanager
    async def subscribed(self, subject: str, **_: object) -> AsyncIterator[Subscribed]:
        async with self._servers.listening(subject) as messages:
            yield Subscribed(messages)
