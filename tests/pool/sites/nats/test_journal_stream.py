"""A journal over a real JetStream is whole and in order at the hub, whatever is lost on the way."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from pool.sites.nats.connection import Connection
from tests.fixtures.nats_servers import Keys, NatsServer
from tests.stages.sent_journal import Sent, Want, api, quickly, sent

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
        for what in (f"STREAM.DELETE.{STREAM}", f"CONSUMER.DELETE.{STREAM}.hub"):
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
