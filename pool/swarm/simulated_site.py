"""A site of simulated machines that can be told to pause: each mines from its own loopback address, and
answers there as its vendor's firmware does.

One listener for all of them: at which address somebody connected says which machine he means. A machine that
pauses lets its connection to the pool go, and one that wakes comes again, after a while. Everything random
comes from the seed.

Invariant: nobody is answered who did not come by the loopback. Must not know: the pool's insides.
"""

import random
import socket
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address
from typing import Final

import msgspec
import trio

from pool.swarm.api_streams import answer_stream
from pool.swarm.fleet import SwarmOptions, run_machine, worker_name
from pool.swarm.machine import SwarmStats
from pool.swarm.machine_api import ApiOptions, MachineApi, Temper

FIRST: Final = IPv4Address("127.64.0.1")
MACHINES_MAX: Final = 1_000  # that hash in one process, by Python
WAKES_S: Final = (20.0, 60.0)  # boots, and tunes
BACKLOG: Final = 1_024


class SiteOptions(msgspec.Struct, frozen=True, kw_only=True):
    """`firmware` is dealt out in turn; of all machines so many have each temper, the others are honest."""

    swarm: SwarmOptions
    api_port: int
    firmware: tuple[str, ...]
    tempers: dict[Temper, int] = {}
    wakes_s: tuple[float, float] = WAKES_S


class SimulatedMachine:
    """One. It mines while its API has not been told to stop."""

    def __init__(self, index: int, options: SiteOptions, temper: Temper, stats: SwarmStats) -> None:
        self.name = worker_name(options.swarm, index)
        self.address = str(FIRST + index)
        self._options, self._stats = options, stats
        self._random = random.Random(f"{options.swarm.seed}/{self.name}/api")  # noqa: S311 - to be repeated
        firmware = options.firmware[index % len(options.firmware)]
        self.api = MachineApi(ApiOptions(firmware=firmware, temper=temper), self._random, self._told)
        self._mines = trio.Event()
        self._mines.set()
        self._mining = trio.CancelScope()
        self._woken = False

    async def run(self) -> None:
        """Mine, or sleep, until cancelled."""
        while True:
            await self._mines.wait()
            if self._woken:
                await trio.sleep(self._random.uniform(*self._options.wakes_s))
            with trio.CancelScope() as self._mining:
                if not self._mines.is_set():
                    continue
                await run_machine(self.name, self._options.swarm, self._stats, self._connect)

    async def answer(self, stream: trio.abc.Stream) -> None:
        await answer_stream(self.api, stream, self._random)

    def _told(self, mines: bool) -> None:
        if mines:
            self._woken = True
            self._mines.set()
        else:
            self._mines = trio.Event()
            self._mining.cancel()

    async def _connect(self, host: str, port: int) -> trio.abc.Stream:
        """From its own address."""
        sock = trio.socket.socket()
        try:
            await sock.bind((self.address, 0))
            await sock.connect((host, port))
        except BaseException:
            sock.close()
            raise
        return trio.SocketStream(sock)


class SimulatedSite:
    """All of them."""

    def __init__(self, options: SiteOptions) -> None:
        self._options = options
        self.stats = SwarmStats()
        tempers = [temper for temper, count in options.tempers.items() for _ in range(count)]
        tempers += [Temper.HONEST] * (options.swarm.miners - len(tempers))
        random.Random(options.swarm.seed).shuffle(tempers)  # noqa: S311 - to be repeated
        self.machines = [
            SimulatedMachine(index, options, tempers[index], self.stats)
            for index in range(options.swarm.miners)
        ]
        self._at = {it.address: it for it in self.machines}

    @property
    def paused(self) -> int:
        """How many do not mine, whatever they say."""
        return sum(not it.api.mines for it in self.machines)

    def table(self) -> Sequence[tuple[str, str, str, str, int, str]]:
        """Of each: tenant, container, unit, address, port, firmware."""
        return [
            (*_place(it.name), it.address, self._options.api_port, it.api.options.firmware)
            for it in self.machines
        ]

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; it has started when its APIs listen, at this port. Raises OSError."""
        listener = _listener(self._options.api_port)
        async with trio.open_nursery() as nursery:
            for it in self.machines:
                nursery.start_soon(it.run)
            task_status.started(listener.getsockname()[1])
            await trio.serve_listeners(self._serve, [trio.SocketListener(listener)])

    async def _serve(self, stream: trio.SocketStream) -> None:
        address = ip_address(stream.socket.getsockname()[0])
        machine = self._at.get(str(address))
        if not address.is_loopback or machine is None:
            await trio.aclose_forcefully(stream)
            return
        await machine.answer(stream)


def _listener(port: int) -> trio.socket.SocketType:
    """At every loopback address, and at no other where the system can say so."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
        sock.bind(("", port))
        sock.listen(BACKLOG)
        return trio.socket.from_stdlib_socket(sock)
    except BaseException:
        sock.close()
        raise


def _place(name: str) -> tuple[str, str, str]:
    tenant, container, unit = name.split(".")
    return tenant, container, unit
