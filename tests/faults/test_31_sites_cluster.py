"""Three edges, three NATS servers, two hubs and a PostgreSQL: each can be killed, stopped, cut off or
emptied, and shares counted at the miners are the journals' and the books', each once.

Edges, hubs and servers are processes; every share has a name of its own, as in test_27_process_killed. One of
them is in every run; each takes half a minute, and the others are `make soak`'s.
"""

import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.faults.test_01_kill import authorized
from tests.faults.test_27_process_killed import Miner, received
from tests.faults.test_30_sites import more, new_miners
from tests.fixtures.databases import PostgresDatabases
from tests.stages.sites import Sites, on_this_host, once
from tests.stages.waiting import until

EDGES = ("north", "south", "west")


@pytest.fixture
async def sites(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_databases: PostgresDatabases
) -> AsyncIterator[Sites]:
    """With all edges, where a test says no others."""
    edges: tuple[str, ...] = getattr(request, "param", EDGES)
    with postgres_databases.fresh_url() as database:
        async with on_this_host(tmp_path, database, edges=edges, hubs=2, servers=3) as made:
            await made.begin()
            yield made


class Fleet:
    """Miners, until they are stopped."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery, self._scopes = nursery, list[trio.CancelScope]()

    def start_soon(self, mine: Callable[..., Awaitable[None]], *given: object) -> None:
        async def until_stopped(scope: trio.CancelScope) -> None:
            with scope:
                await mine(*given)

        self._scopes.append(scope := trio.CancelScope())
        self._nursery.start_soon(until_stopped, scope)

    def stop(self) -> None:
        for it in self._scopes:
            it.cancel()


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with trio.open_nursery() as nursery:
        it = Fleet(nursery)
        yield it
        it.stop()


async def proven(sites: Sites, fleet: Fleet, miners: list[Miner]) -> None:
    """Counted at the miners = journals = books."""
    fleet.stop()
    await sites.all_is_booked()
    once(miners, sites.shares())


def connections(miners: list[Miner]) -> int:
    """That the pool ended."""
    return sum(len(it.lost) for it in miners)


@pytest.mark.long
@pytest.mark.parametrize("sites", [EDGES[:1]], ids=["one edge"], indirect=True)
async def test_a_hub_that_is_killed_is_followed_by_the_other_and_no_site_notices(
    sites: Sites, fleet: Fleet
) -> None:
    miners = new_miners(sites, fleet)
    await more(miners)
    first, second = sites.hubs
    first.kill()
    await second.says("hub_serves")
    await more(miners)
    first.start()
    await first.says("standby")
    second.kill()
    await first.says("hub_serves")
    await more(miners)
    assert connections(miners) == 0
    await proven(sites, fleet, miners)


@pytest.mark.soak
async def test_a_hub_that_stands_still_is_followed_by_the_other_and_writes_nothing_when_it_goes_on(
    sites: Sites, fleet: Fleet
) -> None:
    miners = new_miners(sites, fleet)
    await more(miners)
    first, second = sites.hubs
    first.send(signal.SIGSTOP)
    await second.says("hub_serves")
    await more(miners)
    first.send(signal.SIGCONT)
    assert await first.ended() != 0
    await more(miners)
    assert connections(miners) == 0
    await proven(sites, fleet, miners)


@pytest.mark.soak
async def test_servers_that_are_killed_one_by_one_and_emptied_all_at_once_cost_nothing(
    sites: Sites, fleet: Fleet
) -> None:
    miners = new_miners(sites, fleet)
    routes = tuple(it.route for it in sites.servers)
    for server in sites.servers:
        await more(miners)
        server.kill()
        await more(miners)
        server.lose_store()
        server.start(routes)
    for server in sites.servers:
        server.kill()
    await more(miners)
    for server in sites.servers:
        server.lose_store()
        server.begin(routes)
    for server in sites.servers:
        server.wait()
    await more(miners)
    await proven(sites, fleet, miners)


@pytest.mark.soak
async def test_a_site_that_is_cut_off_goes_on_and_so_do_the_others(sites: Sites, fleet: Fleet) -> None:
    miners = new_miners(sites, fleet)
    await more(miners)
    for line in sites.lines["north"]:
        line.cut()
    for line in sites.lines["south"]:
        line.silent()
    before = connections(miners)
    await more(miners, 400)
    west, hub = sites.edges[2], sites.hubs[0]
    await until(lambda: "edge_granted" in west.log)
    for name in ("north", "south"):
        for line in sites.lines[name]:
            line.heal()
    await more(miners)
    assert connections(miners) == before, hub.log[-2000:]
    await proven(sites, fleet, miners)


@pytest.mark.soak
async def test_an_edge_that_was_put_back_from_a_copy_is_refused_until_somebody_says_what_it_is(
    sites: Sites, fleet: Fleet, tmp_path: Path
) -> None:
    miners = new_miners(sites, fleet)
    await more(miners)
    north, hub = sites.edges[0], sites.hubs[0]
    north.kill()
    shutil.copytree(north.data, tmp_path / "copy")
    north.start()
    await north.says("edge_serves")
    await more(miners)
    norths = miners[: len(miners) // len(EDGES)]
    for it in norths:
        it.goes_on = trio.Event()
    await until(lambda: all(it.submitted[-1] in it.acknowledged | it.refused for it in norths))
    await sites.all_is_booked()
    north.kill()
    shutil.move(north.data, tmp_path / "lost")
    shutil.copytree(tmp_path / "copy", north.data)
    north.start()
    assert await north.ended() == 2
    assert "was put back from a copy" in north.log
    await sites.reset(hub, "north")
    shutil.move(north.data / "journal", tmp_path / "journal-of-before")
    north.start()
    await north.says("edge_serves")
    for it in norths:
        it.goes_on.set()
    await more(norths)
    await proven(sites, fleet, miners)


class Connected:
    """A machine that has said its name, and mines nothing."""

    def __init__(self) -> None:
        self.admitted = self.ended = False

    async def mine(self, port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(
                b'{"id":1,"method":"mining.subscribe","params":[]}\n' + authorized("acme.c01.first")
            )
            while data := await received(stream):
                self.admitted = self.admitted or b'"id":2,"result":true' in data.replace(b" ", b"")
        self.ended = True


@pytest.mark.soak
async def test_what_a_command_changes_is_known_at_the_sites_also_where_it_was_not_heard(
    sites: Sites, fleet: Fleet
) -> None:
    north, *others = [Connected() for _ in EDGES]
    for it, port in zip((north, *others), sites.ports, strict=True):
        fleet.start_soon(it.mine, port)
    await until(lambda: all(it.admitted for it in (north, *others)))
    hub = sites.hubs[0]
    for line in sites.lines["north"]:
        line.cut()
    hub.command("tenant", "suspend", "acme", "--data-dir", str(hub.data))
    await until(lambda: all(it.ended for it in others))
    assert not north.ended
    for line in sites.lines["north"]:
        line.heal()
    await until(lambda: north.ended)
