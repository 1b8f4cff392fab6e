"""A hub and its edges on a NATS server: connections, and lines with both their ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from pool.sites.nats import subjects
from pool.sites.nats.connection import Connection
from pool.sites.nats.contents import Shelf
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
