"""A journal over a real JetStream is whole and in order at the hub, whatever is lost on the way."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import msgspec
import pytest
import trio

from pool.sites.nats import subjects
from pool.sites.nats.client import Message
from pool.sites.nats.connection import Connection
from pool.sites.nats.journal_stream import JournalStream, Take, TakenLater
from pool.sites.nats.publisher import Published
from pool.sites.nats.replies import Replies
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.nats_line import connected
from tests.stages.sent_journal import Sent, Want, api, quickly, sent
from tests.stages.waiting import until

STREAM = "ANGARA_JOURNAL"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    quickly(monkeypatch)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[NatsServer]]:
    """Three, of one cluster, not started; for who kills them."""
    keys = Keys(tmp_path, ("oslo", "bergen"))
    found = [NatsServer(tmp_path, keys, name) for name in ("n1", "n2", "n3")]
    yield found
    for it in found:
        it.remove()


@asynccontextmanager
async def sending(home: Path, *servers: NatsServer) -> AsyncIterator[Sent]:
    keys = servers[0].keys
    hub, edge = (Connection(keys.access(name, *servers)) for name in ("hub", "oslo"))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await nursery.start(edge.run)
        async with sent(home, hub, edge, servers=len(servers)) as it:
            yield it
        nursery.cancel_scope.cancel()


async def test_what_is_written_arrives(tmp_path: Path, servers: list[NatsServer]) -> None:
    server = servers[0]
    server.start()
    async with sending(tmp_path, server) as it:
        it.append(100)
        await it.until_all()
        it.append(1, 900_000)
        it.append(5, 300_000)
        await it.until_all()
        info = json.loads(await api(it.replies, f"STREAM.INFO.{STREAM}"))
        assert info["config"]["num_replicas"] == 1
        assert info["state"]["messages"] < 20, "several in a message"


async def test_a_server_that_is_killed_and_loses_all_that_it_has(
    tmp_path: Path, servers: list[NatsServer]
) -> None:
    server = servers[0]
    server.start()
    async with sending(tmp_path, server) as it:
        it.append(50)
        await it.copy.until(10)
        for lost in (False, True, True):
            it.append(50)
            server.kill()
            it.append(50)
            if lost:
                server.lose_store()
            server.start()
            it.append(50)
            await it.until_all()


async def test_a_stream_that_somebody_deletes_is_made_again(
    tmp_path: Path, servers: list[NatsServer]
) -> None:
    server = servers[0]
    server.start()
    async with sending(tmp_path, server) as it:
        it.append(50)
        await it.until_all()
        for what in (f"STREAM.DELETE.{STREAM}", f"CONSUMER.DELETE.{STREAM}.hub-oslo"):
            assert json.loads(await api(it.replies, what))["success"]
            it.append(50)
            await it.until_all()


async def test_a_hub_that_is_away_is_waited_for_and_one_that_lost_its_copy_gets_all_again(
    tmp_path: Path, servers: list[NatsServer]
) -> None:
    server = servers[0]
    server.start()
    async with sending(tmp_path, server) as it:
        it.append(50)
        await it.until_all()
        it.copy.away = True
        server.kill()
        server.start()
        asked = it.asked
        it.append(50)
        await it.until_asked(asked + 3)
        assert it.publisher.state.error == "the hub is away"
        it.copy.have, it.copy.bodies, it.copy.away = 0, [], False
        await it.until_all()


async def test_messages_that_come_twice_and_late_are_told_from_each_other_by_their_numbers(
    tmp_path: Path, servers: list[NatsServer]
) -> None:
    server = servers[0]
    server.start()
    async with sending(tmp_path, server) as it:
        it.append(8, 300_000)
        await it.until_all()
        for behind in (6, 3, 7, 0):
            it.publisher.send_again(Want(behind))
            it.append(1)
            await it.until_all()
        assert it.copy.twice >= 4
        it.publisher.send_again(Want(it.copy.have + 2))
        it.append(5)
        await it.until_all()
        assert it.copy.early >= 1


async def test_a_message_says_when_it_was_stored_unless_nobody_listened_then(nats_server: NatsServer) -> None:
    """By JetStream itself. The hub stops, and listens again."""
    stored_at_s: dict[bytes, float | None] = {}
    taken = {it: trio.Event() for it in (b"heard", b"alone", b"heard again")}

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        stored_at_s.setdefault(frames, at_s)
        taken[frames].set()

    async def publish(frames: bytes) -> None:
        await edge.publish(subjects.journal_of("oslo"), msgspec.msgpack.encode(Published(1, frames)))
        await edge.flushed()

    @asynccontextmanager
    async def listening() -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            stream = JournalStream(hub, replies, take, servers=1)
            nursery.start_soon(stream.follow, "oslo")
            await stream.there.wait()
            yield
            nursery.cancel_scope.cancel()
        await hub.flushed()

    async with connected(nats_server, "hub", "oslo") as (hub, edge), trio.open_nursery() as nursery:
        replies = Replies(hub, subjects.inbox_of(subjects.HUB))
        await nursery.start(replies.run)
        began_s = time.time()
        async with listening():
            await publish(b"heard")
            await taken[b"heard"].wait()
        left_s = time.time()
        await publish(b"alone")
        async with listening():
            await taken[b"alone"].wait()
            back_s = time.time()
            await publish(b"heard again")
            await taken[b"heard again"].wait()
        nursery.cancel_scope.cancel()
    heard_s, alone_s, again_s = stored_at_s.values()
    assert alone_s is None
    assert heard_s is not None
    assert again_s is not None
    assert began_s <= heard_s <= left_s
    assert back_s <= again_s <= time.time()


@asynccontextmanager
async def followed(hub: Connection, take: Take, *edges: str) -> AsyncIterator[None]:
    """By a hub that has begun to listen."""
    async with trio.open_nursery() as nursery:
        replies = Replies(hub, subjects.inbox_of(subjects.HUB))
        await nursery.start(replies.run)
        stream = JournalStream(hub, replies, take, servers=1)
        for edge in edges:
            nursery.start_soon(stream.follow, edge)
        await stream.there.wait()
        yield
        nursery.cancel_scope.cancel()


async def say(edge: Connection, name: str, frames: bytes) -> None:
    await edge.publish(subjects.journal_of(name), msgspec.msgpack.encode(Published(1, frames)))


async def test_what_gathered_while_the_hub_was_away_is_taken_in_its_order(nats_server: NatsServer) -> None:
    """Nothing is asked of the edge, whose disk may be lost by then. Of 3,000 messages that came too fast for
    a hub's disk 12 were booked, and the others done with: those behind them came first."""
    taken, all_taken = list[bytes](), trio.Event()

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        await trio.to_thread.run_sync(taken.append, frames)
        if len(taken) == 40:
            all_taken.set()

    async with connected(nats_server, "hub", "oslo") as (hub, oslo):
        async with followed(hub, take, "oslo"):
            pass
        await hub.flushed()
        said = [b"%d" % number for number in range(40)]
        for frames in said:
            await say(oslo, "oslo", frames)
        await oslo.flushed()
        async with followed(hub, take, "oslo"):
            await all_taken.wait()
    assert taken == said


async def test_what_a_version_of_before_had_not_done_with_is_taken(nats_server: NatsServer) -> None:
    """It had one consumer for all edges, `hub`, which was given three of these ten and stopped."""
    said = [b"before %d" % number for number in range(10)]
    taken, all_taken = list[bytes](), trio.Event()

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        if frames in said:
            taken.append(frames)
        if len(taken) == 10:
            all_taken.set()

    async with connected(nats_server, "hub", "oslo") as (hub, oslo), trio.open_nursery() as nursery:
        replies = Replies(hub, subjects.inbox_of(subjects.HUB))
        await nursery.start(replies.run)

        async def asked(method: str, **config: str) -> bytes:
            said = json.dumps({"stream_name": STREAM, "config": config}).encode() if config else b""
            return (await replies.request(f"$JS.API.CONSUMER.{method}", said, within_s=5)).data

        async with followed(hub, take, "oslo"):  # for the stream
            pass
        await asked(f"DELETE.{STREAM}.hub-oslo")
        before = {"name": "hub", "durable_name": "hub", "deliver_policy": "new", "ack_policy": "explicit"}
        await asked(f"CREATE.{STREAM}.hub", **before)
        for frames in said:
            await say(oslo, "oslo", frames)
        await oslo.flushed()
        place = f"{subjects.inbox_of(subjects.HUB)}.pull.before"
        async with hub.subscribed(place) as given:
            await hub.publish(f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.hub", b'{"batch": 3}', reply=place)
            for _ in range(3):
                await given.next()
        async with followed(hub, take, "oslo"):
            await all_taken.wait()
        assert b"consumer not found" in await asked(f"INFO.{STREAM}.hub")
        nursery.cancel_scope.cancel()
    assert taken == said


async def test_what_has_no_place_at_the_hub_yet_is_waited_with_and_all_behind_it(
    nats_server: NatsServer,
) -> None:
    """As long as its disk is full. It was done with, and lost where the edge's disk was lost meanwhile."""
    said = [b"when there is room %d" % number for number in range(10)]
    taken, tries, all_taken = list[bytes](), 0, trio.Event()

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        nonlocal tries
        tries += 1
        if tries in (1, 2, 7, 8):
            raise TakenLater
        taken.append(frames)
        if frames == said[-1]:
            all_taken.set()

    async with connected(nats_server, "hub", "oslo") as (hub, oslo), followed(hub, take, "oslo"):
        for frames in said:
            await say(oslo, "oslo", frames)
        await all_taken.wait()
    assert [it for it in taken if it in said] == said


async def test_a_journal_that_is_not_taken_holds_up_no_other(nats_server: NatsServer) -> None:
    """Nor one that is published without end. A thousand messages that waited for their turn kept those of all
    others in the stream for a minute, and again."""
    heard = trio.Event()

    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        if edge == "oslo":
            await trio.sleep_forever()
        heard.set()

    async with (
        connected(nats_server, "hub", "oslo", "bergen") as (hub, oslo, bergen),
        followed(hub, take, "oslo", "bergen"),
    ):
        for _ in range(1_100):
            await say(oslo, "oslo", b"")
        await oslo.flushed()
        await say(bergen, "bergen", b"")
        await heard.wait()


class JetStreamThatSays:
    """Something else than an answer."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def request(self, subject: str, data: bytes, *, within_s: float) -> Message:
        return Message(subject, self._data)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b'{"error": 7}',
        b'{"error": {"err_code": "x"}}',
        b'{"x": ' + b"[" * 100_000,
        b'{"error": "\xff',
    ],
)
async def test_what_jetstream_says_that_is_no_answer_ends_nothing(
    nats_server: NatsServer, said: bytes
) -> None:
    async def take(edge: str, epoch: int, frames: bytes, at_s: float | None) -> None:
        raise AssertionError("nothing was published")

    async with connected(nats_server, "hub") as (hub,), trio.open_nursery() as nursery:
        stream = JournalStream(hub, cast(Replies, JetStreamThatSays(said)), take, servers=1)
        nursery.start_soon(stream.follow, "oslo")
        await until(lambda: stream.error != "")
        assert stream.error == "what JetStream says is no answer"
        nursery.cancel_scope.cancel()


async def test_a_cluster_whose_leader_is_killed(tmp_path: Path, servers: list[NatsServer]) -> None:
    routes = tuple(it.route for it in servers)
    for it in servers:
        it.begin(routes)
    for it in servers:
        it.wait()
    async with sending(tmp_path, *servers) as sends:
        sends.append(50)
        await sends.until_all()
        info = json.loads(await api(sends.replies, f"STREAM.INFO.{STREAM}"))
        assert info["config"]["num_replicas"] == 3
        leader = next(it for it in servers if it.name == info["cluster"]["leader"])
        leader.kill()
        sends.append(50)
        await sends.until_all()
        leader.lose_store()
        leader.start(routes)
        sends.append(50)
        await sends.until_all()
