"""An order whose machines are served by two processes, and one of these is killed: others make up for it.

The pool that plans is here, the processes that serve are real ones, and the buyer has his account at another
pool. What a machine can do is what is written on it.
"""

import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from pool.chain.nodes import NodeConfig
from pool.config import load_settings
from pool.main import Pool, RunningPool
from pool.orders.status import OrderStatus
from tests.faults.test_01_kill import SETTINGS
from tests.faults.test_27_process_killed import process_of
from tests.stages import two_pools_machines
from tests.stages.two_pools import Side, a_node, a_side, add_route, hurry, running
from tests.stages.two_pools_machines import Fleet
from tests.stages.waiting import until
from tests.stories.test_two_orders import BLUE, MACHINE_THS, NameplateSpeeds, sell

OF_EACH = 2  # machines of each process that the order has at least
HPS = MACHINE_THS * 1e12


class Sellers:
    """A pool of two processes; `machines` are fleets of one, none of which comes back."""

    def __init__(self, pool: Pool, port: int, nursery: trio.Nursery) -> None:
        self.pool, self._port, self._nursery = pool, port, nursery
        self.running: RunningPool
        self.machines: list[Fleet] = []
        self.gone: list[Fleet] = []

    def of_process(self, part: int) -> int:
        """How many machines it serves."""
        return sum(process_of(*it.extranonces.values()) == part for it in self.machines)

    async def more(self, enough: Callable[[], bool]) -> None:
        """One after the other comes, each to whichever process gets it; until all that came are known."""
        while not enough():
            name = f"acme.c01.u{len(self.machines)}"
            self.machines.append(one := Fleet(self._port, [name], interval_s=0.1))
            self._nursery.start_soon(one.run)
            await until(lambda: one.mining == 1)
        registry = self.pool.books.registry
        await until(
            lambda: all(
                registry.called(name) in registry.workers for it in self.machines for name in it.names
            )
        )

    def lose(self, part: int) -> None:
        """Machines of a process that was killed."""
        self.machines = [it for it in self.machines if process_of(*it.extranonces.values()) != part]

    async def on_the_order(self) -> list[int]:
        """Sessions on its channels, each of another process."""
        routes = await self.running.edges.routes()
        return [it.sessions for it in routes.upstreams if it.order_id == BLUE and it.serving]

    async def until_on_the_order(self, wanted: Callable[[list[int]], bool]) -> None:
        with trio.fail_after(120):
            while not wanted(await self.on_the_order()):  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def look(self) -> OrderStatus:
        """A look of the allocator: what it measured."""
        await self.pool.allocator.allocate()
        (status,) = (await self.running.edges.routes()).orders
        return status


@pytest.mark.long
async def test_what_a_killed_process_does_not_deliver_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    monkeypatch.setattr(two_pools_machines, "BACK_AFTER_S", math.inf)
    monkeypatch.setattr("pool.edges.edges.MINING_S", math.inf)  # however slow the processes are here
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind(("127.0.0.1", 0))
    port = reserved.getsockname()[1]
    buyers, side = a_side(tmp_path / "buyers", "blue"), a_side(tmp_path / "data", "acme", "bolt")
    async with (
        a_node(tmp_path) as node,
        running(buyers, node, extranonce2_bytes=8),
        trio.open_nursery() as here,
    ):
        add_route(side, "north", buyers.port, user="blue.c01.u1")
        pool = pool_of(side, tmp_path, node, port)
        sellers = Sellers(pool, port, here)
        sellers.running = await here.start(pool.run)
        await sellers.more(lambda: min(sellers.of_process(0), sellers.of_process(1)) >= OF_EACH)
        sold = len(sellers.machines)
        sell(side, "blue", "north", sold)
        await trio.to_thread.run_sync(sellers.running.live.routes_changed)
        await sellers.until_on_the_order(lambda sessions: len(sessions) == 2)
        await pool.allocator.look_up()
        await sellers.look()
        await sellers.until_on_the_order(lambda sessions: sum(sessions) == sold)
        assert min(await sellers.on_the_order()) >= OF_EACH, "both deliver"
        status = await sellers.look()
        assert (status.supply_hps, status.shortage_hps, status.moving) == (sold * HPS, 0.0, 0)

        await sellers.more(lambda: sellers.of_process(1) >= sold)
        assert pool.processes is not None
        os.kill(pool.processes.pids[1], signal.SIGKILL)
        lost = sum(pool.allocator.assignments[number] == BLUE for number in of(sellers, 0))
        sellers.lose(0)
        status = await sellers.look()
        assert status.supply_hps == (sold - lost) * HPS
        assert status.shortage_hps == lost * HPS
        await sellers.until_on_the_order(lambda sessions: sum(sessions) == sold)
        status = await sellers.look()
        assert (status.supply_hps, status.shortage_hps) == (sold * HPS, 0.0), "made up"

        await sellers.until_on_the_order(lambda sessions: sorted(sessions) == [0, sold])
        told = await sellers.running.edges.mining()
        assert [it.version for it in told] == [pool.allocator.assigned.version] * 2, "as it began again"
        here.cancel_scope.cancel()
    reserved.close()
    side.store.close()


def of(sellers: Sellers, part: int) -> list[int]:
    """Numbers of the order's machines at a process."""
    allocator, registry = sellers.pool.allocator, sellers.pool.books.registry
    here = (it for it in sellers.machines if process_of(*it.extranonces.values()) == part)
    numbers = (registry.called(name) for it in here for name in it.names)
    return [number for number in numbers if number in allocator.assignments]


def pool_of(side: Side, directory: Path, node: NodeConfig, port: int) -> Pool:
    """One that moves machines at once."""
    settings = SETTINGS.format(url=node.url, cookie=node.cookie_file).replace(":0", f":{port}")
    file = directory / "angara.toml"
    file.write_text(settings + "processes = 2\nmove_interval_s = 0\nextranonce2_bytes = 4\n")
    loaded = load_settings(file)
    return Pool(loaded.config, side.store, settings=loaded, speeds=NameplateSpeeds(0.0))
