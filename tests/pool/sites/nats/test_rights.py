"""What a key lets its owner say and hear, asked of a real server: everything that the settings do not give is
refused, whoever has been captured."""

import json
from collections.abc import Iterator, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from structlog.testing import capture_logs

from pool.sites.nats import subjects
from pool.sites.nats.connection import Connection
from pool.sites.nats.journal_stream import JournalStream
from pool.sites.nats.publisher import Published
from pool.sites.nats.replies import Replies
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.nats_line import connected
from tests.stages.waiting import until

STREAM = "ANGARA_JOURNAL"
TOKEN = "0" * 32
EDGE_MAY_SAY = (
    "angara.hub.oslo.plan",
    f"angara.hub.oslo.answer.{TOKEN}",
    "angara.journal.oslo",
    "angara.blocks.oslo",
)
EDGE_MAY_NOT_SAY = (
    # as another edge, or as the hub
    "angara.hub.bergen.plan",
    f"angara.hub.bergen.answer.{TOKEN}",
    "angara.hub.oslo",
    "angara.journal.bergen",
    "angara.journal.oslo.more",
    "angara.journal",
    "angara.blocks.bergen",
    "angara.blocks.hub",
    "angara.edge.bergen.tenant_changed",
    "angara.edge.oslo.tenant_changed",
    "angara.anything",
    # at others' inboxes, and its own
    f"_INBOX.hub.{TOKEN}",
    f"_INBOX.bergen.{TOKEN}",
    f"_INBOX.oslo.{TOKEN}",
    # to JetStream
    "$JS.API.INFO",
    f"$JS.API.STREAM.CREATE.{STREAM}",
    "$JS.API.STREAM.CREATE.MINE",
    f"$JS.API.STREAM.UPDATE.{STREAM}",
    f"$JS.API.STREAM.INFO.{STREAM}",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.NAMES",
    f"$JS.API.STREAM.DELETE.{STREAM}",
    f"$JS.API.STREAM.PURGE.{STREAM}",
    f"$JS.API.STREAM.MSG.GET.{STREAM}",
    f"$JS.API.STREAM.MSG.DELETE.{STREAM}",
    f"$JS.API.STREAM.SNAPSHOT.{STREAM}",
    f"$JS.API.STREAM.RESTORE.{STREAM}",
    f"$JS.API.STREAM.PEER.REMOVE.{STREAM}",
    f"$JS.API.STREAM.LEADER.STEPDOWN.{STREAM}",
    f"$JS.API.DIRECT.GET.{STREAM}",
    f"$JS.API.DIRECT.GET.{STREAM}.angara.journal.bergen",
    f"$JS.API.CONSUMER.CREATE.{STREAM}.mine",
    f"$JS.API.CONSUMER.CREATE.{STREAM}.mine.angara.journal.bergen",
    f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.mine",
    f"$JS.API.CONSUMER.INFO.{STREAM}.hub-bergen",
    f"$JS.API.CONSUMER.LIST.{STREAM}",
    f"$JS.API.CONSUMER.DELETE.{STREAM}.hub-bergen",
    f"$JS.API.CONSUMER.PAUSE.{STREAM}.hub-bergen",
    f"$JS.API.CONSUMER.UNPIN.{STREAM}.hub-bergen",
    f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.hub-bergen",
    "$JS.API.META.LEADER.STEPDOWN",
    "$JS.API.SERVER.REMOVE",
    "$JS.API.ACCOUNT.PURGE.$G",
    f"$JS.ACK.{STREAM}.hub-bergen.1.1.1.1.0",
    f"$JS.FC.{STREAM}.hub-bergen.x",
    "$JSC.R.x",
    "$KV.any.key",
    "$O.any.C.x",
    # to the servers themselves
    "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "$SYS.REQ.USER.INFO",
    "$SRV.PING",
    "_R_.x",
)
EDGE_MAY_HEAR = (
    "angara.edge.oslo.*",
    "angara.blocks.hub",
    "_INBOX.oslo.*",
)
EDGE_MAY_NOT_HEAR = (
    ">",
    "*",
    "*.>",
    "angara.>",
    "angara.*.*.*",
    "angara.hub.>",
    "angara.hub.oslo.*",
    "angara.hub.bergen.*",
    "angara.edge.>",
    "angara.edge.*.*",
    "angara.edge.bergen.*",
    "angara.blocks.*",
    "angara.blocks.>",
    "angara.blocks.bergen",
    "angara.journal.*",
    "angara.journal.oslo",
    "angara.journal.bergen",
    "_INBOX.>",
    "_INBOX.*.*",
    "_INBOX.hub.*",
    "_INBOX.hub.pull.*",
    "_INBOX.bergen.*",
    "$JS.>",
    "$JS.API.>",
    "$JS.ACK.>",
    f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{STREAM}.hub-bergen",
    "$SYS.>",
    "$SYS.ACCOUNT.*.CONNECT",
    "$SYS._INBOX.>",
    "_R_.>",
)


class Refusals:
    """What a server has refused to one connection, by the words of it that are in the log."""

    def __init__(self, connection: Connection, told: list[MutableMapping[str, Any]]) -> None:
        self._connection, self._told = connection, told

    async def of_saying(self, said: Sequence[str]) -> set[str]:
        for subject in said:
            await self._connection.publish(subject, b"{}", reply=f"_INBOX.oslo.{TOKEN}")
        await self._connection.flushed()
        return self._found("publish", said)

    async def of_hearing(self, heard: Sequence[str]) -> set[str]:
        for subject in heard:
            async with self._connection.subscribed(subject):
                pass
        await self._connection.flushed()
        return self._found("subscription", heard)

    def _found(self, what: str, subjects: Sequence[str]) -> set[str]:
        reasons = [str(it.get("reason")) for it in self._told]
        refused = {it for it in reasons if f"violation for {what} to " in it}
        self._told.clear()
        found = {it for it in subjects if any(f'"{it.lower()}"' in words for words in refused)}
        assert len(refused) == len(found), "nothing else was refused"
        return found


async def test_an_edge_says_and_hears_what_is_its_own(nats_server: NatsServer) -> None:
    with capture_logs() as told:
        async with connected(nats_server, "oslo") as (edge,):
            refusals = Refusals(edge, told)
            assert await refusals.of_saying(EDGE_MAY_SAY) == set()
            assert await refusals.of_saying(EDGE_MAY_NOT_SAY) == set(EDGE_MAY_NOT_SAY)
            assert await refusals.of_hearing(EDGE_MAY_HEAR) == set()
            assert await refusals.of_hearing(EDGE_MAY_NOT_HEAR) == set(EDGE_MAY_NOT_HEAR)
            assert edge.state.connected, "it is told, and goes on"
            assert edge.state.connections == 1


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[NatsServer]:
    """Whose stream has nothing of other tests: what their hub did not acknowledge comes again in a minute."""
    server = NatsServer(tmp_path, Keys(tmp_path, ("oslo", "bergen")))
    try:
        server.start()
        yield server
    finally:
        server.remove()


async def test_a_reply_does_not_carry_an_edge_to_where_it_may_not_publish(new_server: NatsServer) -> None:
    """What answers (JetStream, the hub, a server) would say it there with rights of its own."""
    targets = (
        "angara.journal.bergen",
        f"angara.hub.bergen.answer.{TOKEN}",
        "angara.hub.bergen.plan",
        "angara.edge.bergen.tenant_changed",
        "angara.blocks.bergen",
        f"_INBOX.hub.{TOKEN}",
        f"_INBOX.bergen.{TOKEN}",
        f"$JS.API.STREAM.PURGE.{STREAM}",
        f"$JS.API.STREAM.DELETE.{STREAM}",
        f"$JS.API.CONSUMER.DELETE.{STREAM}.hub-bergen",
    )
    taken: list[tuple[str, bytes]] = []
    all_taken = trio.Event()

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        taken.append((edge, frames))
        if frames == b"last":
            all_taken.set()

    async with (
        connected(new_server, "hub", "hub", "oslo") as (hub, listens, edge),
        trio.open_nursery() as nursery,
    ):
        replies = Replies(hub, subjects.inbox_of(subjects.HUB))
        await nursery.start(replies.run)
        stream = JournalStream(hub, replies, take, servers=1)
        nursery.start_soon(stream.follow, "oslo")
        info = f"$JS.API.STREAM.INFO.{STREAM}"
        await stream.there.wait()
        before = json.loads((await replies.request(info, b"", within_s=30)).data)
        async with listens.subscribed("angara.>") as heard, listens.subscribed("_INBOX.hub.*") as inbox:
            for count, target in enumerate(targets, 1):
                for subject in ("angara.journal.oslo", "angara.blocks.oslo", "angara.hub.oslo.nothing"):
                    data = msgspec.msgpack.encode(Published(1, target.encode()))
                    await edge.publish(subject, data, reply=target)
                # A few of an edge may wait; one more would come again after a minute.
                await until(partial(lambda so_many: len(taken) == so_many, count))
            await edge.publish("angara.journal.oslo", msgspec.msgpack.encode(Published(1, b"last")))
            await edge.flushed()
            await all_taken.wait()
            after = json.loads((await replies.request(info, b"", within_s=30)).data)
            assert after["created"] == before["created"]
            assert after["state"]["messages"] - before["state"]["messages"] == len(targets) + 1
            said = set()
            while (message := heard.inflow.take()) is not None:
                said.add(message.subject)
            assert said == {"angara.journal.oslo", "angara.blocks.oslo", "angara.hub.oslo.nothing"}
            while (message := inbox.inflow.take()) is not None:
                assert not message.subject.endswith(TOKEN)
        assert [edge for edge, _ in taken] == ["oslo"] * (len(targets) + 1)
        nursery.cancel_scope.cancel()
