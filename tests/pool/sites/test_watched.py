"""What a hub tells of its edges over HTTP: whom it hears, whose machines mine where, how it is connected."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from pool.data_dir import database_url
from pool.routing.drain import DRAINING
from tests.faults.test_01_kill import acknowledged
from tests.faults.test_27_process_killed import Miner, received
from tests.fixtures.held_ports import held_port
from tests.stages.sites import Sites, on_this_host
from tests.stages.waiting import PATIENCE_S

OF_EACH = 3  # miners of an edge
Told = dict[tuple[str, ...], float]  # by name and labels


class Page:
    """As whoever scrapes the hub sees it."""

    def __init__(self, sites: Sites, held: socket.socket) -> None:
        self.port = int(held.getsockname()[1])
        settings = sites.hubs[0].directory / "angara.toml"
        settings.write_text(f'{settings.read_text()}[web]\nlisten = "127.0.0.1:{self.port}"\n')

    async def told(self) -> Told:
        async with httpx.AsyncClient(timeout=PATIENCE_S) as client:
            answered = await client.get(f"http://127.0.0.1:{self.port}/metrics")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answered.text)
            for sample in family.samples
        }

    async def until(self, *key: str, least: float, most: float) -> Told:
        with trio.fail_after(PATIENCE_S):
            while True:
                told = await self.told()
                if least <= told.get(key, -1.0) <= most:
                    return told
                await trio.sleep(0.5)


@pytest.fixture
def held() -> Iterator[socket.socket]:
    with held_port() as it:
        yield it


@pytest.mark.long
async def test_a_hub_tells_of_its_edges_and_of_the_way_to_them(tmp_path: Path, held: socket.socket) -> None:
    (tmp_path / "books").mkdir()
    async with on_this_host(tmp_path, database_url(tmp_path / "books"), edges=("north", "south")) as sites:
        page = Page(sites, held)
        await sites.begin()
        async with trio.open_nursery() as fleet:
            miners: list[Miner] = []
            for port in sites.ports:
                for _ in range(OF_EACH):
                    miners.append(miner := Miner(len(miners)))
                    fleet.start_soon(miner.mine_on, port)
            for of_edge in (miners[:OF_EACH], miners[OF_EACH:]):
                await acknowledged(of_edge, 30)
            await sites.all_is_booked()
            for edge in ("north", "south"):
                told = await page.until("angara_edge_machines", edge, "mining", least=1, most=1_000_000)
                assert told["angara_nats_connected",] == 1
                assert told["angara_edge_heard_age_seconds", edge] < 30
                assert told["angara_edge_missing_age_seconds", edge] < 60
                assert told["angara_edge_held", edge] == told["angara_edge_waits", edge] == 0
            fleet.cancel_scope.cancel()
        north, _ = sites.edges
        north.send(signal.SIGSTOP)
        told = await page.until("angara_edge_heard_age_seconds", "north", least=25, most=1_000)
        assert told["angara_edge_heard_age_seconds", "south"] < 25
        north.send(signal.SIGCONT)
        await page.until("angara_edge_heard_age_seconds", "north", least=0, most=15)
        await emptied_alone(sites)
        sites.servers[0].kill()
        await page.until("angara_nats_connected", least=0, most=0)


async def emptied_alone(sites: Sites) -> None:
    """An edge that is let go for a restart: the other one serves, and its next process does."""
    (hub,), (north, _) = sites.hubs, sites.edges
    said = await trio.to_thread.run_sync(hub.command, "drain", "--edge", "north", "--over", "1")
    assert "nobody is connected, and nobody is let in" in said
    refused, served = [await first_answer(port) for port in sites.ports]
    assert DRAINING in refused
    assert '"error":null' in served
    for edge, words in (("west", "there is no edge 'west'"), ("north", "does not answer")):
        if edge == "north":
            north.send(signal.SIGSTOP)
        with pytest.raises(AssertionError, match=words):
            await trio.to_thread.run_sync(hub.command, "drain", "--edge", edge)
    north.kill()
    north.start()
    await north.says("edge_serves")
    assert '"error":null' in await first_answer(sites.ports[0])


async def first_answer(port: int) -> str:
    """To a machine that asks for work."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b'{"id":1,"method":"mining.subscribe","params":[]}\n')
        return (await received(stream)).decode()
