"""Wherever a connection is on its way in or out when it ends, or when the pool does: no descriptor of it is
left open. A plain miner's is a number, which nobody closes with the object that had it.
"""

import gc
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from stratum.miners.listening.listeners import Endpoint
from stratum.miners.turns.connection_limits import ConnectionBounds
from stratum.sv2.authority import Credentials
from stratum.sv2.dialect import Sv2
from stratum.sv2.secp256k1 import key_pair
from tests.stages.sockets import LoopbackServer, connect, connect_tls, make_work
from tests.stages.sv2_machine import connect_sv2
from tests.stages.waiting import until
from tests.stratum.miners.listening.test_listeners_tls import Shop

PROXY = b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n"
JUNK = b"nonsense\r\n" * 30
LOST = (trio.BrokenResourceError, EOFError, OSError)  # what a miner sees of a pool that ends


class House:
    """A pool with room for one miner, whose port speaks what the test is about."""

    def __init__(self, shop: Shop, credentials: Credentials, *, tls: bool, sv2: bool, proxied: bool) -> None:
        self._shop, self._credentials = shop, credentials
        endpoint = Endpoint(
            host="127.0.0.1",
            port=0,
            certificate=str(shop.path) if tls else None,
            dialect="sv2" if sv2 else None,
            proxies=(ip_network("127.0.0.0/8"),) if proxied else (),
        )
        self.server = LoopbackServer(
            endpoints=(endpoint,),
            dialects={"sv2": Sv2(credentials)},
            connection_bounds=ConnectionBounds(sessions_max=1),
        )

    async def mines(self) -> None:
        await self._mine()

    async def mines_behind_a_balancer(self) -> None:
        await self._mine(PROXY)

    async def _mine(self, head: bytes = b"") -> None:
        miner = await connect(self.server.port, head=head)
        try:
            await miner.start()
            await miner.mine()
        finally:
            await miner.close()

    async def finds_no_room(self) -> None:
        miner = await connect(self.server.port)
        try:
            await miner.start()
            await self.says_nonsense()
        finally:
            await miner.close()

    async def says_nonsense(self) -> None:
        miner = await connect(self.server.port, head=JUNK)
        try:
            while await miner.line():
                pass
        finally:
            await miner.close()

    async def mines_over_tls(self, head: bytes = b"") -> None:
        miner = await connect_tls(self.server.port, self._shop.trust, head=head)
        try:
            await miner.start()
            await miner.mine()
        finally:
            await miner.close()

    async def mines_over_tls_behind_a_balancer(self) -> None:
        await self.mines_over_tls(PROXY)

    async def mines_on_v2(self) -> None:
        machine = await connect_sv2(self.server.port, self._credentials.public, int(time.time()))
        try:
            await machine.mine(await machine.open())
        finally:
            await machine.close()


Play = Callable[[House], Awaitable[None]]
WAYS: dict[str, tuple[Play, str]] = {
    "a miner": (House.mines, ""),
    "there is no room": (House.finds_no_room, ""),
    "no line comes": (House.says_nonsense, ""),
    "behind a balancer": (House.mines_behind_a_balancer, "proxied"),
    "a bad PROXY header": (House.says_nonsense, "proxied"),
    "TLS": (House.mines_over_tls, "tls"),
    "TLS behind a balancer": (House.mines_over_tls_behind_a_balancer, "tls proxied"),
    "no TLS where it should be": (House.says_nonsense, "tls"),
    "V2": (House.mines_on_v2, "sv2"),
    "no V2 where it should be": (House.says_nonsense, "sv2"),
}


class CutAt(trio.abc.Instrument):
    """The pool is stopped behind so many steps of tasks."""

    def __init__(self, steps: int, pool: trio.CancelScope) -> None:
        self.steps, self._cut_at, self._pool = 0, steps, pool

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self._cut_at:
            self._pool.cancel()


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


async def played(house: House, play: Play, cut_at: int = 0) -> int:
    """How many steps it took until all had left; or was cut before."""
    server = house.server
    async with trio.open_nursery() as machines:
        async with trio.open_nursery() as pool:

            async def then_stop() -> None:
                with suppress(*LOST):
                    await play(house)
                await until(lambda: descriptors() == before)
                pool.cancel_scope.cancel()

            await pool.start(server.board.run)
            await pool.start(server.listeners.run)
            server.publish(make_work())
            before = descriptors()
            cut = CutAt(cut_at, pool.cancel_scope)
            trio.lowlevel.add_instrument(cut)
            machines.start_soon(then_stop)
        machines.cancel_scope.cancel()
    return cut.steps


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_left_open_wherever_it_is_cut(way: str, tmp_path: Path) -> None:
    play, spoken = WAYS[way]
    shop, credentials = Shop(tmp_path / "pool.pem"), Credentials(key_pair(), validity_s=86_400)

    def at(step: int) -> int:
        kinds = {kind: kind in spoken for kind in ("tls", "sv2", "proxied")}
        house = House(shop, credentials, **kinds)
        steps: int = trio.run(played, house, play, step)
        assert not house.server.board.connections
        return steps

    gc.collect()  # what other tests have left open is closed here, and not in the middle
    at(0)  # what is imported and loaded once
    before = descriptors()
    steps = at(0)
    for step in range(1, steps + 1):
        at(step)
        assert descriptors() == before, f"cut at step {step} of {steps}"
