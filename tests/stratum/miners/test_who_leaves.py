"""Who has left is freed by that, and not when Python next looks for cycles: it does so once in hours, and
stops everybody for as long as it takes to look through all that there is."""

import gc
from collections import Counter
from collections.abc import Iterator

import pytest
import trio

from stratum.miners.connection import Connection
from stratum.miners.mining_session import MiningSession
from stratum.miners.turns.connection_limits import Place
from stratum.sv2.connection import Sv2Connection
from tests.stages.sockets import Miner, make_work
from tests.stages.sv2_machine import Sv2Machine
from tests.stages.sv2_pool import Pool, playing
from tests.stages.waiting import until

MACHINES = 20
# Tasks hold those whom they served in their last round until the next one: some, and never all.
KEPT_MAX = 12
OF_A_CONNECTION = (Connection, MiningSession, Place, Sv2Connection)


def kept() -> Counter[str]:
    """What there is of connections, by its kind; what nobody holds any more is among it until it is freed."""
    return Counter(type(it).__name__ for it in gc.get_objects() if issubclass(type(it), OF_A_CONNECTION))


@pytest.fixture(autouse=True)
def nobody_looks_for_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def all_have_left(pool: Pool) -> Counter[str]:
    """What is kept of them, behind the commit that has their last shares."""
    board = pool.server.board
    await until(lambda: not board.connections and not pool.sv2.connections)
    await trio.sleep(0.1)
    board.judge()
    return kept()


@pytest.mark.parametrize("how", ["half-open", "authorised", "mines", "has moved", "is cut", "is dropped"])
async def test_machines_of_v1(how: str) -> None:
    async with playing() as pool:
        server, miners = pool.server, list[Miner]()
        for number in range(MACHINES):
            miner = await server.connect(f"acme.c01.u{number}")
            miners.append(miner)
            if how == "half-open":
                await miner.call("mining.subscribe", "test/1")
            elif how == "authorised":
                await miner.call("mining.authorize", miner.worker, "x")
            else:
                await miner.start()
                await miner.mine()
        if how == "has moved":
            other = server.add_channel(2)
            server.publish(make_work(2), other)
            for connection in list(server.board.connections):
                server.board.distribution.move(connection.session.assignment, other)
            del connection
        assert kept()["SocketConnection"] == MACHINES
        if how == "is dropped":
            server.board.drop_workers(range(1, MACHINES + 1), "a test")
        for miner in miners:
            if how == "is cut":
                await miner.submit()
                miner.reset()
            else:
                await miner.close()
        left = await all_have_left(pool)
        assert max(left.values(), default=0) <= KEPT_MAX, left


@pytest.mark.parametrize("how", ["shakes", "opens nothing", "leaves", "breaks the protocol", "is dropped"])
async def test_machines_of_v2(how: str) -> None:
    async with playing() as pool:
        machines = list[Sv2Machine]()
        for number in range(MACHINES):
            machine = await pool.machine(setup=how != "shakes")
            machines.append(machine)
            if how not in ("shakes", "opens nothing"):
                for least in (None, 4):
                    await machine.mine(await machine.open(f"acme.c01.u{number}", least=least))
        assert kept()["Sv2Connection"] == MACHINES
        if how == "is dropped":
            pool.server.board.drop_workers(range(1, MACHINES + 1), "a test")
        for machine in machines:
            if how == "breaks the protocol":
                await machine.raw(bytes(64))
            else:
                await machine.close()
        left = await all_have_left(pool)
        assert max(left.values(), default=0) <= KEPT_MAX, left
