"""A hub and its edges on a NATS server: connections, lines with both their ends, and who says it by bytes."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nkeys
import trio

from pool.sites.nats import subjects
from pool.sites.nats.connection import Connection
from pool.sites.nats.contents import Shelf
from pool.sites.nats.key import seed_in
from pool.sites.nats.line import HubEpoch, Line
from pool.sites.nats.replies import Replies
from tests.fixtures.nats_servers import NatsServer


class Away(Exception):
    """As the caller calls it."""


class NoSuchPlace(Exception):
    """One that crosses a line as what it is."""


class HubEnd:
    """What a hub has of one edge."""

    def __init__(self, connection: Connection, edge: str, epoch: int = 1, shelf: Shelf | None = None) -> None:
        self.connection, self.epoch, self.shelf = connection, HubEpoch(epoch), shelf or Shelf()
        self.replies = Replies(connection, subjects.answers_of(edge))
        self.line = Line(
            connection,
            edge,
            self.replies,
            at_hub=True,
            epoch=self.epoch,
            shelf=self.shelf,
            errors=(NoSuchPlace,),
            away=Away,
        )


class EdgeEnd:
    """What an edge has."""

    def __init__(self, connection: Connection, edge: str) -> None:
        self.connection, self.epoch, self.shelf = connection, HubEpoch(), Shelf()
        self.replies = Replies(connection, subjects.inbox_of(edge))
        self.line = Line(
            connection,
            edge,
            self.replies,
            at_hub=False,
            epoch=self.epoch,
            shelf=self.shelf,
            errors=(NoSuchPlace,),
            away=Away,
        )


End = HubEnd | EdgeEnd


@asynccontextmanager
async def connected(server: NatsServer, *names: str) -> AsyncIterator[list[Connection]]:
    """Each with its own key."""
    connections = [Connection(server.keys.access(name, server)) for name in names]
    async with trio.open_nursery() as nursery:
        for it in connections:
            await nursery.start(it.run)
        for it in connections:
            await it.connected()
        yield connections
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def running(*ends: End) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for it in ends:
            await nursery.start(it.replies.run)
            await nursery.start(it.line.run)
        yield
        nursery.cancel_scope.cancel()


async def say(server: NatsServer, name: str, lines: bytes) -> None:
    """As whoever has that key, in bytes that no client says; until the server has read them."""
    key = nkeys.from_seed(seed_in(server.keys.home / f"{name}.nk").encode())
    async with await trio.open_tcp_stream("127.0.0.1", server.port) as stream:
        hello = json.loads((await _line(stream)).removeprefix(b"INFO "))
        signed = base64.urlsafe_b64encode(key.sign(hello["nonce"].encode())).rstrip(b"=").decode()
        shown = {"nkey": key.public_key.decode(), "sig": signed, "headers": True, "verbose": False}
        await stream.send_all(b"CONNECT " + json.dumps(shown).encode() + b"\r\n" + lines + b"PING\r\n")
        while (line := await _line(stream)) != b"PONG\r\n":
            assert line.startswith(b"INFO "), line


async def _line(stream: trio.SocketStream) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        read = await stream.receive_some(1)
        assert read, "the server has hung up"
        line += read
    return line
