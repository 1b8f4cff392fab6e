"""Simulated machines that can be told to pause, over sockets: each at an address of its own."""

import json

import trio

from pool.swarm.fleet import SwarmOptions
from pool.swarm.machine_api import Temper
from pool.swarm.simulated_site import SimulatedSite, SiteOptions


async def told(address: str, port: int, command: str) -> str:
    stream = await trio.open_tcp_stream(address, port)
    async with stream:
        await stream.send_all(json.dumps({"command": command}).encode())
        return bytes(await stream.receive_some()).decode()


class PoolThatOnlyListens:
    """Nobody gets work; who is there is counted by where he came from."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.changed = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        address = stream.socket.getpeername()[0]
        self._note(address, here=True)
        try:
            while await stream.receive_some():
                pass
        finally:
            self._note(address, here=False)

    def _note(self, address: str, here: bool) -> None:
        (self.here.add if here else self.here.discard)(address)
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, *addresses: str) -> None:
        while self.here != set(addresses):
            await self.changed.wait()


async def test_a_machine_that_pauses_goes_from_the_pool_and_one_that_wakes_comes_back(
    nursery: trio.Nursery,
) -> None:
    pool = PoolThatOnlyListens()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, pool.serve, [listener])
    swarm = SwarmOptions(
        host="127.0.0.1",
        port=listener.socket.getsockname()[1],
        miners=3,
        tenants=("acme",),
        shares_per_minute=1,
        containers=1,
    )
    site = SimulatedSite(
        SiteOptions(swarm=swarm, api_port=0, firmware=("braiins",), tempers={Temper.LIES: 1}, wakes_s=(0, 0))
    )
    port = await nursery.start(site.run)
    await pool.until(*(it.address for it in site.machines))
    liar = next(it for it in site.machines if it.api.options.temper is Temper.LIES)
    honest = [it for it in site.machines if it is not liar]
    for it in (liar, honest[0]):
        assert '"PAUSE": [true]' in await told(it.address, port, "pause")
    await pool.until(liar.address, honest[1].address)
    assert site.paused == 1
    await told(honest[0].address, port, "resume")
    await pool.until(*(it.address for it in site.machines))
    nursery.cancel_scope.cancel()


async def test_an_address_without_a_machine_is_closed(nursery: trio.Nursery) -> None:
    swarm = SwarmOptions(host="127.0.0.1", port=1, miners=1, tenants=("acme",), shares_per_minute=1)
    site = SimulatedSite(SiteOptions(swarm=swarm, api_port=0, firmware=("luxos",)))
    port = await nursery.start(site.run)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        assert await stream.receive_some() == b""
    nursery.cancel_scope.cancel()
