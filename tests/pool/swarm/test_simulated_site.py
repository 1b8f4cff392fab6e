"""Simulated machines that can be told to pause, over sockets: each at an address of its own."""

import json
import math
from typing import Any

import pytest
import trio

from pool.power.energy.tables import model_lines
from pool.swarm.load import LoadError
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
        self.heard: dict[str, str] = {}

    async def serve(self, stream: trio.SocketStream) -> None:
        address = stream.socket.getpeername()[0]
        self._note(address, here=True)
        try:
            while data := await stream.receive_some():
                self.heard[address] = self.heard.get(address, "") + bytes(data).decode()
                self._change()
        finally:
            self._note(address, here=False)

    def _note(self, address: str, here: bool) -> None:
        (self.here.add if here else self.here.discard)(address)
        self._change()

    def _change(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, *addresses: str) -> None:
        while self.here != set(addresses):
            await self.changed.wait()


def options(port: int, **changes: Any) -> SiteOptions:
    return SiteOptions(port=port, api_port=0, wakes_s=(0, 0), **changes)


async def begun(nursery: trio.Nursery) -> tuple[PoolThatOnlyListens, int]:
    pool = PoolThatOnlyListens()
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, pool.serve, [listener])
    return pool, listener.socket.getsockname()[1]


async def test_a_machine_that_pauses_goes_from_the_pool_and_one_that_wakes_comes_back(
    nursery: trio.Nursery,
) -> None:
    pool, at = await begun(nursery)
    site = SimulatedSite(options(at, machines=3, tempers={Temper.LIES: 1}))
    port = await nursery.start(site.run)
    await pool.until(*(it.address for it in site.machines))
    liar = next(it for it in site.machines if it.api.options.temper is Temper.LIES)
    honest = [it for it in site.machines if it is not liar]
    for it in (liar, honest[0]):
        assert '"PAUSE": [true]' in await told(it.address, port, "pause")
    await pool.until(liar.address, honest[1].address)
    assert site.paused == 1
    assert site.watts == 2 * 3_250 + 60
    ((_, end),) = honest[0].rests
    assert end == math.inf
    await told(honest[0].address, port, "resume")
    await pool.until(*(it.address for it in site.machines))
    assert site.watts == 3 * 3_250
    ((begin, end),) = honest[0].rests
    assert begin <= end < math.inf
    assert not liar.rests
    assert site.counts.lost == 0
    nursery.cancel_scope.cancel()


async def test_each_speaks_as_its_firmware_does_and_none_suggests_a_difficulty(nursery: trio.Nursery) -> None:
    pool, at = await begun(nursery)
    site = SimulatedSite(options(at, machines=2, firmware=("bitaxe", "luxos")))
    await nursery.start(site.run)
    await pool.until(*(it.address for it in site.machines))
    bitaxe, luxos = (it.address for it in site.machines)
    while "extranonce.subscribe" not in pool.heard.get(bitaxe, "") or luxos not in pool.heard:
        await pool.changed.wait()
    assert "bitaxe/BM1368" in pool.heard[bitaxe]
    assert "suggest_difficulty" not in pool.heard[bitaxe]
    assert "LUXminer" in pool.heard[luxos]
    nursery.cancel_scope.cancel()


async def test_an_address_without_a_machine_is_closed(nursery: trio.Nursery) -> None:
    site = SimulatedSite(options(1, machines=1, firmware=("luxos",)))
    port = await nursery.start(site.run)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        assert await stream.receive_some() == b""
    nursery.cancel_scope.cancel()


def test_what_they_draw_is_a_table_of_models_and_is_what_their_hashes_come_to() -> None:
    site = SimulatedSite(options(1, machines=1_201, hashrate_hps=100.0))
    head = "tenant,container,ths,watts,idle_watts,joules_per_th,error_percent"
    lines = model_lines("\n".join([head, *(",".join(map(str, row)) for row in site.models())]))
    assert [(it["container"], it["watts"]) for it in lines] == [
        ("acme.c01", 3_250), ("acme.c02", 3_217), ("acme.c03", 3_185), ("acme.c04", 3_152)
    ]  # fmt: skip
    for it in lines:  # 100 H/s are so many mW
        assert it["mj_per_th"] * 100 == it["watts"] * 10**15
        assert it["error_bps"] == 0
    names = {f"acme.{container}.{unit}" for _, container, unit, *_ in site.addresses()}
    assert len(names) == 1_201
    assert site.addresses()[-1][3] == "127.64.4.177"


def test_who_simulates_more_than_he_may_have_connections_is_told() -> None:
    with pytest.raises(LoadError, match="open files"):
        SimulatedSite(options(1, machines=10**7))
