"""Machines for tests of the proxy: they know every share that they found, and which were acknowledged.

Real hashes over loopback sockets, by pool.swarm.machine, which builds headers from what it is told and
nothing else. A fleet can be told to rest: then it reads on until every share that it sent is answered, so
that what it counted is what the books must have. Must not know: the books.
"""

import hashlib
import json
import random
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import trio

from pool.swarm.machine import MinerJob, MinerMachine, State, SwarmStats
from stratum.miners.channel import Channel
from tests.stages.waiting import until

HASHES_MAX = 1_000  # at once; by then a share of the difficulties of these tests is found
BACK_AFTER_S = 0.05


class Machine(MinerMachine):
    """One connection of a machine of `fleet`."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        super().__init__(name, fleet.rng, SwarmStats())
        self.waiting: dict[int, bytes] = {}  # hashes of shares without an answer
        self._fleet = fleet

    def receive_line(self, line: bytes) -> list[bytes]:
        message = json.loads(line)
        if "method" in message:
            self._fleet.heard[message["method"]] += 1
        elif message["id"] in self.waiting:
            found = self.waiting.pop(message["id"])
            if message["result"] is True:
                self._fleet.acknowledged[found] += 1
            else:
                self._fleet.refused[message["error"][1]] += 1
        return super().receive_line(line)

    def _authorised(self, message: Any) -> list[bytes]:
        asked = super()._authorised(message)
        return asked if self._fleet.takes_extranonces else []

    def _submit(self, job: MinerJob, search: Any, nonce: int) -> bytes:
        first = search.midstate.copy()
        first.update(struct.pack("<I", nonce))
        found = hashlib.sha256(first.digest()).digest()
        self.waiting[self._submit_id] = found
        self._fleet.found.add(found)
        return super()._submit(job, search, nonce)


class Fleet:
    """Hashes are as in a header. `lost` is how many shares were without an answer when a connection ended."""

    def __init__(
        self, port: int, names: Iterable[str], *, interval_s: float, takes_extranonces: bool = True
    ) -> None:
        self.names = tuple(names)
        self.rng = random.Random(4)
        self.takes_extranonces = takes_extranonces
        self.found: set[bytes] = set()
        self.acknowledged: Counter[bytes] = Counter()
        self.refused: Counter[str] = Counter()  # by the pool's words
        self.heard: Counter[str] = Counter()  # by method
        self.lost = 0
        self.connections = 0
        self.machines: dict[str, Machine] = {}  # the present connection of each
        self._port = port
        self._interval_s = interval_s
        self._resting = False

    async def run(self) -> None:
        """Until cancelled. Who loses its connection comes back."""
        async with trio.open_nursery() as nursery:
            for name in self.names:
                nursery.start_soon(self._keep, name)

    @property
    def mining(self) -> int:
        """How many machines do."""
        return sum(it.state is State.MINING for it in self.machines.values())

    @property
    def targets(self) -> set[int]:
        """What is a share to the machines."""
        return {it.job.target for it in self.machines.values() if it.job is not None}

    @property
    def prefix_sizes(self) -> set[int]:
        """Bytes of the extranonce1 that they mine with."""
        return {len(it.job.extranonce1) for it in self.machines.values() if it.job is not None}

    @property
    def masks(self) -> set[int]:
        """The version bits that they may roll."""
        return {it.mask or 0 for it in self.machines.values()}

    async def rest(self) -> None:
        """Find nothing more, and return when everything is answered."""
        self._resting = True
        await until(lambda: not any(it.waiting for it in self.machines.values()))

    def go_on(self) -> None:
        """After a rest."""
        self._resting = False

    async def mined(self, shares: int) -> None:
        """Return when so many more are acknowledged."""
        wanted = self.acknowledged.total() + shares
        await until(lambda: self.acknowledged.total() >= wanted)

    @property
    def extranonces(self) -> dict[str, bytes]:
        """With which the machines mine."""
        return {name: it.extranonce1 for name, it in self.machines.items()}

    def mine_on(self, *channels: Channel) -> bool:
        """Whether all of them do: the newest job of every machine is one of the channels'."""
        jobs = {job.job_id for channel in channels for job in channel.jobs.values()}
        return {it.job and it.job.job_id for it in self.machines.values()} <= jobs

    async def _keep(self, name: str) -> None:
        while True:
            machine = self.machines[name] = Machine(self, name)
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self._port)
                self.connections += 1
                async with stream:
                    await self._mine(stream, machine)
            except (OSError, trio.BrokenResourceError):
                pass
            self.lost += len(machine.waiting)
            machine.waiting.clear()
            await trio.sleep(BACK_AFTER_S)

    async def _mine(self, stream: trio.SocketStream, machine: Machine) -> None:
        await stream.send_all(b"".join(machine.open()))
        received, due_s = b"", trio.current_time() + self.rng.uniform(0, self._interval_s)
        while machine.reconnect is None:
            data: bytes | None = None
            with trio.move_on_at(due_s):
                data = bytes(await stream.receive_some(65_536))
            if data == b"":
                return
            *lines, received = (received + (data or b"")).split(b"\n")
            said = [answer for line in lines for answer in machine.receive_line(line)]
            if said:
                await stream.send_all(b"".join(said))
            if trio.current_time() >= due_s:
                due_s = trio.current_time() + self._interval_s
                share = None if self._resting else machine.next_share(HASHES_MAX)
                if share is not None:
                    await stream.send_all(share)


@asynccontextmanager
async def a_fleet(
    port: int, tenants: dict[str, int], *, interval_s: float = 0.1, takes_extranonces: bool = True
) -> AsyncIterator[Fleet]:
    """So many machines of each tenant, in a container c01 each; at the end they rest, then go."""
    names = [f"{tenant}.c01.u{unit}" for tenant, units in tenants.items() for unit in range(units)]
    fleet = Fleet(port, names, interval_s=interval_s, takes_extranonces=takes_extranonces)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.run)
        yield fleet
        await fleet.rest()
        nursery.cancel_scope.cancel()
